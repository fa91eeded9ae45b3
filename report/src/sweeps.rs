//! Settings that were chosen on validation images: the grid, the scores and the choices.

use crate::record::{Choice, Sweep};
use crate::rows::{Gap, Gathered, Row};
use crate::stats::summary;
use crate::words;
use camtrast_common::error::says_diverged;

/// A sweep of a suite, in words and numbers.
#[derive(serde::Serialize)]
pub struct Swept {
    /// The task and its setting.
    pub title: String,
    /// What it was chosen by, and on which images.
    pub about: String,
    /// Titles: the values, and then the choice.
    pub columns: Vec<String>,
    /// Name, scores and choice of each run, and at last those of the shared value.
    pub rows: Vec<(String, Vec<String>, String)>,
    /// What a reader should know about the choices.
    pub notes: Vec<String>,
}

/// The sweeps of all suites.
pub fn sweeps(all: &Gathered) -> Vec<Swept> {
    let suites = all.suites.iter().enumerate();
    suites
        .flat_map(|(number, suite)| suite.sweeps.iter().map(move |sweep| swept(all, number, sweep)))
        .collect()
}

/// The choices of a row's seeds in a task.
pub fn choices<'a>(row: &'a Row, task: &'a str) -> impl Iterator<Item = (u64, &'a Choice)> {
    row.cells(task)
        .filter_map(|(seed, found)| Some((seed, found.cell.choice.as_ref()?)))
}

fn swept(all: &Gathered, suite: usize, sweep: &Sweep) -> Swept {
    let Sweep {
        task,
        flag,
        title,
        validation,
        ..
    } = sweep;
    let own: Vec<&Row> = all.rows.iter().filter(|row| row.suite == suite).collect();
    let mut rows: Vec<(String, Vec<String>, String)> = Vec::new();
    let mut ends: Vec<String> = Vec::new();
    for row in &own {
        let scores = sweep
            .tasks
            .iter()
            .map(|of| score(row, of, &sweep.metric))
            .collect();
        let chosen: Vec<(u64, &Choice)> = choices(row, task).collect();
        ends.extend(at_ends(&row.run.name, &chosen));
        rows.push((row.run.name.clone(), scores, by_seed(&chosen)));
    }
    let shared = own
        .iter()
        .flat_map(|row| choices(row, &sweep.shared_task))
        .map(|(_, choice)| choice);
    let mut notes = vec![format!(
        "The {title} of the results is read in two ways: with each backbone's own best {flag}, and with \
         the one that is best on average over all backbones (\"shared {flag}\"). Each was trained once, on \
         all training images."
    )];
    if let Some(choice) = shared.last() {
        let means = choice.scores.iter().map(|(_, score)| percent(*score)).collect();
        rows.push(("all backbones".into(), means, choice.value.clone()));
        if choice.is_at_end() {
            ends.push(format!("all backbones ({})", choice.value));
        }
    }
    if !ends.is_empty() {
        notes.push(format!(
            "The best value is at the end of the grid, so that a better one may lie outside: {}.",
            ends.join(", ")
        ));
    }
    let mut all_scores = own
        .iter()
        .flat_map(|row| choices(row, task))
        .flat_map(|(_, choice)| &choice.scores);
    if all_scores.any(|(_, score)| score.is_none()) {
        notes.push("A training that diverged is never chosen, and counts as 0 in a mean.".into());
    }
    Swept {
        title: format!("{task}: {flag}"),
        about: format!("Chosen by {title} in percent on validation images: {validation}."),
        columns: sweep
            .values
            .iter()
            .map(|value| format!("{flag} {value}"))
            .chain(["chosen".into()])
            .collect(),
        rows,
        notes,
    }
}

fn percent(score: Option<f64>) -> String {
    score.map_or("diverged".into(), |score| words::fixed(100.0 * score))
}

/// The mean of a row's validation scores over its seeds, or why there is none.
fn score(row: &Row, task: &str, metric: &str) -> String {
    let values = row
        .cells(task)
        .filter_map(|(_, found)| found.metrics.as_ref().ok()?.get(metric));
    let values: Vec<f64> = values.map(|value| 100.0 * value).collect();
    let gaps = row
        .cells(task)
        .filter_map(|(_, found)| found.metrics.as_ref().err());
    let what = |gap: &Gap| {
        if says_diverged(&gap.why) {
            "diverged"
        } else {
            gap.what
        }
    };
    let mut gaps: Vec<&str> = gaps.map(what).collect();
    gaps.dedup();
    match (summary(&values, None), gaps.is_empty()) {
        (Some(summary), true) => words::number(&summary),
        (Some(summary), false) => format!("{} ({})", words::number(&summary), gaps.join(", ")),
        (None, _) if gaps.is_empty() => "–".into(),
        (None, _) => gaps.join(", "),
    }
}

/// `moco (seed 1, 0.05)` for each choice at the end of its grid; `moco (0.05)` if that is the one of all
/// seeds.
fn at_ends(run: &str, chosen: &[(u64, &Choice)]) -> Vec<String> {
    let ends = |choice: &&Choice| choice.is_at_end() && choice.value == chosen[0].1.value;
    if chosen.len() > 1 && chosen.iter().all(|(_, choice)| ends(choice)) {
        return vec![format!("{run} ({})", chosen[0].1.value)];
    }
    let at_end = chosen.iter().filter(|(_, choice)| choice.is_at_end());
    at_end
        .map(|(seed, choice)| format!("{run} (seed {seed}, {})", choice.value))
        .collect()
}

/// `0.02`, or `0.02 (seed 0), 0.05 (seed 1)` where seeds differ.
fn by_seed(chosen: &[(u64, &Choice)]) -> String {
    match chosen {
        [] => "–".into(),
        [(_, first), rest @ ..] if rest.iter().all(|(_, choice)| choice.value == first.value) => {
            first.value.clone()
        }
        all => {
            let each = all
                .iter()
                .map(|(seed, choice)| format!("{} (seed {seed})", choice.value));
            each.collect::<Vec<_>>().join(", ")
        }
    }
}
