//! The state of a suite: one row per run and seed, one column per task.

use super::cell::SuiteCell;
use super::choice::{Decided, decide};
use super::content::Contents;
use super::estimate::Rates;
use super::plan::SuitePlan;
use super::settle::Settled;
use super::store::{Step, Store, backbone_sha256, damage, recorded as record_of};
use crate::screen::clock;
use camtrast_common::run::is_locked;
use camtrast_pretrain::Method;
use camtrast_report::record::{self, PRETRAIN, State};
use camtrast_report::table::Table;
use std::fs;
use std::path::Path;

/// The state of a cell.
fn state(cell: &SuiteCell, contents: &mut Contents) -> String {
    let running = if is_locked(&cell.folder) { ", running" } else { "" };
    match recorded(cell) {
        Some(record) if record.state == State::Done => match damage(&cell.folder, &record, contents) {
            None => "done".into(),
            Some(_) => "damaged".into(),
        },
        Some(record) if record.state == State::Failed => "failed".into(),
        Some(_) => match progress(cell) {
            Some(share) => format!("{:.0} %{running}", 100.0 * share),
            None => format!("begun{running}"),
        },
        None => "to do".into(),
    }
}

fn recorded(cell: &SuiteCell) -> Option<record::CellRecord> {
    record_of(&cell.folder)
}

/// Share of its training that a cell has logged.
fn progress(cell: &SuiteCell) -> Option<f64> {
    let log = fs::read_to_string(cell.folder.join("log.jsonl")).ok()?;
    let mut lines = log
        .lines()
        .rev()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let line = lines.find(|line| line["steps"].is_number())?;
    Some(line["step"].as_f64()? / line["steps"].as_f64()?.max(1.0))
}

/// The whole grid, and the errors of failed cells. `queued` knows the state of a folder's job in a queue.
pub fn grid(plan: &SuitePlan, mut contents: Contents, queued: impl Fn(&Path) -> Option<String>) -> String {
    let mut of = |cell: &SuiteCell| {
        let state = state(cell, &mut contents);
        match queued(&cell.folder) {
            Some(job) if state == "to do" => job,
            Some(job) if state != "done" => format!("{state} ({job})"),
            _ => state,
        }
    };
    let states: Vec<String> = plan.cells.iter().map(&mut of).collect();
    contents.keep();
    let tasks = plan.tasks();
    let mut table = Table::new(
        ["run".to_owned(), "seed".into()]
            .into_iter()
            .chain(tasks.iter().map(|t| t.to_string())),
    );
    for run in &plan.suite.runs {
        for &seed in &plan.suite.seeds {
            let of_task = |task: &&str| {
                let mut cells = plan.cells.iter();
                let cell = cells.position(|c| c.run == run.name && c.seed == seed && c.task == **task);
                cell.map_or("–".into(), |i| states[i].clone())
            };
            table.row(
                [run.name.clone(), seed.to_string()]
                    .into_iter()
                    .chain(tasks.iter().map(of_task)),
            );
        }
    }
    let chosen: String = plan.cells.iter().filter_map(chosen).collect();
    let done = states.iter().filter(|state| *state == "done").count();
    let failures = plan.cells.iter().filter_map(|cell| {
        let error = recorded(cell)
            .filter(|record| record.state == State::Failed)?
            .error?;
        Some(format!("\nfailed: {}: {error}", cell.name()))
    });
    format!(
        "{}\n\n{done} of {} done{chosen}{}",
        table.to_text(),
        plan.cells.len(),
        failures.collect::<String>()
    )
}

/// The choice that a finished cell follows, as a line.
fn chosen(cell: &SuiteCell) -> Option<String> {
    let record = recorded(cell).filter(|record| record.state == State::Done)?;
    let choice = record.choice?;
    let scores = choice.scores.iter().map(|(value, score)| match score {
        Some(score) => format!("{value}: {:.2} %", 100.0 * score),
        None => format!("{value}: diverged"),
    });
    let scores = scores.collect::<Vec<_>>().join(", ");
    let end = match choice.is_at_end() {
        true => ", the end of its grid: a better one may lie outside",
        false => "",
    };
    let (name, flag, value) = (cell.name(), &choice.flag, &choice.value);
    Some(format!("\nchosen: {name}: {flag} {value} ({scores}){end}"))
}

/// What `suite run` would do, and how long it may take.
pub fn plan(
    plan: &SuitePlan,
    settled: &[Option<Settled>],
    store: &Store,
    contents: &mut Contents,
    rates: &mut Rates,
) -> String {
    let (mut lines, mut rest, mut unknown) = (Vec::new(), 0.0, 0);
    // The checksums of backbones; `None` for those that do not exist yet.
    let mut backbones: Vec<Option<String>> = Vec::new();
    for (cell, settled) in plan.cells.iter().zip(settled) {
        backbones.push(None);
        let Some(settled) = settled else { continue };
        let checkpoint = match cell.after {
            Some(parent) => match &backbones[parent] {
                Some(_) if cell.of_kept_epoch() => cell
                    .checkpoint
                    .as_deref()
                    .and_then(|path| backbone_sha256(path).ok()),
                last => last.clone(),
            },
            None => Some(
                cell.checkpoint
                    .as_deref()
                    .and_then(|path| backbone_sha256(path).ok())
                    .unwrap_or_default(),
            ),
        };
        let decided = checkpoint.and_then(|checkpoint| decide(plan, cell, settled, &checkpoint).ok());
        let (step, old) = match decided {
            Some(Decided { cell, key, .. }) => {
                let (step, old) = store.step(&cell, &key, contents);
                (step, old.map(|old| (old.key == key, old)))
            }
            None => (Step::Go, recorded(cell).map(|old| (false, old))),
        };
        let taken = if let Step::Take(from) = &step {
            record_of(from)
        } else {
            None
        };
        let (name, seconds) = match (&step, &old) {
            (Step::Keep, Some((_, old))) => ("done".into(), Some(old.seconds)),
            (Step::Take(_), _) if taken.as_ref().is_some_and(|record| record.state == State::Done) => {
                ("reuse".into(), taken.as_ref().map(|record| record.seconds))
            }
            (_, Some((true, old))) if old.state != State::Done => (state(cell, contents), None),
            (_, Some((true, _))) => ("damaged".into(), None),
            (_, Some((false, old))) if !old.key.is_empty() => ("outdated".into(), None),
            _ => (state(cell, contents), None),
        };
        if cell.task == PRETRAIN && seconds.is_some() {
            let record = taken.or(old.map(|(_, old)| old));
            backbones.pop();
            backbones.push(record.map(|record| record.checkpoint_sha256));
        }
        let estimate = match seconds {
            Some(seconds) => Some(format!("took {}", clock(seconds))),
            None => estimate(plan, cell)
                .or_else(|| rates.seconds(cell))
                .map(|seconds| {
                    let left = seconds
                        * (1.0
                            - if name.ends_with('%') {
                                progress(cell).unwrap_or(0.0)
                            } else {
                                0.0
                            });
                    rest += left;
                    format!("about {}", clock(left))
                }),
        };
        unknown += usize::from(estimate.is_none());
        lines.push((name, cell.name(), estimate.unwrap_or_default()));
    }
    let widest = |least: usize, texts: &mut dyn Iterator<Item = &String>| {
        texts.map(|text| text.chars().count()).fold(least, usize::max)
    };
    let states = widest("outdated".len() + 1, &mut lines.iter().map(|(state, ..)| state));
    let names = widest(0, &mut lines.iter().map(|(_, name, _)| name));
    let lines: Vec<String> = lines
        .iter()
        .map(|(state, name, time)| format!("{state:states$} {name:names$} {time}"))
        .map(|line| line.trim_end().to_owned())
        .collect();
    let rest = match (rest > 0.0, unknown) {
        (true, 0) => format!("about {} left if run one after the other", clock(rest)),
        (true, n) => format!(
            "about {} left if run one after the other, and {n} commands of kinds \
             that have no finished one to estimate from",
            clock(rest)
        ),
        (false, 0) => "nothing left to do".into(),
        (false, n) => format!("{n} commands left, of kinds that have no finished one to estimate from"),
    };
    format!("{}\n\n{rest}", lines.join("\n"))
}

/// Seconds that the same cell took with another seed, otherwise those of the same task of another run.
fn estimate(plan: &SuitePlan, cell: &SuiteCell) -> Option<f64> {
    let of = |like: &dyn Fn(&SuiteCell) -> bool| {
        let alike = plan
            .cells
            .iter()
            .filter(|other| other.task == cell.task && like(other))
            .filter_map(recorded);
        let seconds: Vec<f64> = alike
            .filter(|r| r.state == State::Done)
            .map(|r| r.seconds)
            .collect();
        (!seconds.is_empty()).then(|| seconds.iter().sum::<f64>() / seconds.len() as f64)
    };
    of(&|other| other.run == cell.run)
        .or_else(|| of(&|other| !Method::is_untrained(&other.method) || cell.task != PRETRAIN))
}
