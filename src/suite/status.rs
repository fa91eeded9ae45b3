//! Where a suite stands: one row a run and seed, one column a task.

use super::content::{Contents, backbone_sha256};
use super::estimate::Rates;
use super::plan::{Cell, Plan};
use super::work::recorded;
use crate::screen::clock;
use common::run::is_locked;
use report::record::State;
use report::table::Table;
use std::fs;

/// Where a cell stands.
pub fn state(cell: &Cell) -> String {
    let running = if is_locked(&cell.folder) { ", running" } else { "" };
    match recorded(cell) {
        Some(record) if record.state == State::Done => "done".into(),
        Some(record) if record.state == State::Failed => "failed".into(),
        Some(_) => match progress(cell) {
            Some(share) => format!("{:.0} %{running}", 100.0 * share),
            None => format!("begun{running}"),
        },
        None => "to do".into(),
    }
}

/// Share of its training that a cell has logged.
fn progress(cell: &Cell) -> Option<f64> {
    let log = fs::read_to_string(cell.folder.join("log.jsonl")).ok()?;
    let mut lines = log.lines().rev().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let line = lines.find(|line| line["steps"].is_number())?;
    Some(line["step"].as_f64()? / line["steps"].as_f64()?.max(1.0))
}

/// The whole grid, and what failed, why.
pub fn grid(plan: &Plan) -> String {
    let mut tasks: Vec<&str> = Vec::new();
    plan.cells.iter().for_each(|cell| {
        if !tasks.contains(&&cell.task[..]) {
            tasks.push(&cell.task);
        }
    });
    let mut table =
        Table::new(["run".to_owned(), "seed".into()].into_iter().chain(tasks.iter().map(|t| t.to_string())));
    for run in &plan.suite.runs {
        for &seed in &plan.suite.seeds {
            let of_task = |task: &&str| {
                let mut cells = plan.cells.iter();
                cells.find(|c| c.run == run.name && c.seed == seed && c.task == **task).map_or("–".into(), state)
            };
            table.row([run.name.clone(), seed.to_string()].into_iter().chain(tasks.iter().map(of_task)));
        }
    }
    let done = plan.cells.iter().filter(|cell| state(cell) == "done").count();
    let failures = plan.cells.iter().filter_map(|cell| {
        let error = recorded(cell).filter(|record| record.state == State::Failed)?.error?;
        Some(format!("\nfailed: {}: {error}", cell.name()))
    });
    format!("{}\n\n{done} of {} done{}", table.to_text(), plan.cells.len(), failures.collect::<String>())
}

/// What there is to do, with how long it may take.
pub fn plan(plan: &Plan, wanted: &[bool], rates: &mut Rates) -> String {
    let mut contents = Contents::default();
    let (mut lines, mut rest, mut unknown) = (Vec::new(), 0.0, 0);
    for (cell, _) in plan.cells.iter().zip(wanted).filter(|(_, wanted)| **wanted) {
        let mut state = state(cell);
        if state == "done" && is_outdated(cell, &mut contents) {
            state = "outdated".into();
        }
        let estimate = match &state[..] {
            "done" => recorded(cell).map(|record| format!("took {}", clock(record.seconds))),
            _ => estimate(plan, cell).or_else(|| rates.seconds(cell)).map(|seconds| {
                let left = seconds * (1.0 - if state.ends_with('%') { progress(cell).unwrap_or(0.0) } else { 0.0 });
                rest += left;
                format!("about {}", clock(left))
            }),
        };
        unknown += usize::from(estimate.is_none());
        lines.push(format!("{state:9} {:40} {}", cell.name(), estimate.unwrap_or_default()).trim_end().to_owned());
    }
    let rest = match (rest > 0.0, unknown) {
        (true, 0) => format!("about {} left, one after the other", clock(rest)),
        (true, n) => format!(
            "about {} left, one after the other, and {n} commands of a kind that none is done of yet",
            clock(rest)
        ),
        (false, 0) => "nothing left to do".into(),
        (false, n) => format!("{n} commands left, of kinds that none is done of yet"),
    };
    format!("{}\n\n{rest}", lines.join("\n"))
}

fn is_outdated(cell: &Cell, contents: &mut Contents) -> bool {
    let checkpoint = cell.checkpoint.as_deref().map(backbone_sha256).transpose();
    let key = checkpoint.and_then(|sha| contents.key(cell, &sha.unwrap_or_default()));
    key.ok() != recorded(cell).map(|record| record.key)
}

/// Seconds that the same took with another seed, otherwise the same task of another run.
fn estimate(plan: &Plan, cell: &Cell) -> Option<f64> {
    let of = |like: &dyn Fn(&Cell) -> bool| {
        let alike = plan.cells.iter().filter(|other| other.task == cell.task && like(other)).filter_map(recorded);
        let seconds: Vec<f64> = alike.filter(|r| r.state == State::Done).map(|r| r.seconds).collect();
        (!seconds.is_empty()).then(|| seconds.iter().sum::<f64>() / seconds.len() as f64)
    };
    of(&|other| other.run == cell.run).or_else(|| of(&|other| other.method != "scratch" || cell.task != "pretrain"))
}
