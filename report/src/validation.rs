//! Scores on validation images over training: panels for the chart, and which networks were tested.

use crate::chart::Panel;
use crate::curves::over_steps;
use crate::rows::{Gathered, Row, TaskResult};

/// The score of each task that has one, as in `finetune`.
const SCORES: [(&str, &str); 3] = [
    ("detection/AP", "detection: AP on validation images (%)"),
    ("segmentation/mIoU", "segmentation: mIoU on validation images (%)"),
    (
        "probe/finetune/top1",
        "fine-tuning: top-1 on validation images (%)",
    ),
];

/// A panel for each score, one line per row; for several seeds, the first with scores.
pub fn panels(all: &Gathered) -> Vec<Panel> {
    let panel = |(name, title): (&str, &str)| {
        over_steps(all, title, |row| {
            let scores = cells(row).find_map(|found| found.course.validation.get(name));
            let percent = |&(step, score): &(f64, f64)| (step, 100.0 * score);
            scores.into_iter().flatten().map(percent).collect()
        })
    };
    SCORES.into_iter().filter_map(panel).collect()
}

/// Which networks the test numbers of validated trainings are of.
pub fn tested(all: &Gathered) -> String {
    let best = |row: &&Row| cells(row).any(tests_best);
    let names: Vec<&str> = all
        .rows
        .iter()
        .filter(best)
        .map(|row| &row.run.name[..])
        .collect();
    let of_last = "Test numbers are of the last networks";
    match &names[..] {
        [] => format!("{of_last}, whatever these curves say."),
        names => format!(
            "{of_last}, but for those of the networks that were the best on validation images \
             (--test-best): {}.",
            names.join(", ")
        ),
    }
}

fn cells(row: &Row) -> impl Iterator<Item = &TaskResult> {
    row.seeds.iter().flat_map(|seed| &seed.cells)
}

fn tests_best(found: &TaskResult) -> bool {
    let config = found.config.as_deref().unwrap_or_default();
    config.lines().any(|line| line == "test-best = true")
}
