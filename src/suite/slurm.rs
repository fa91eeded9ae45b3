//! A suite as job arrays of Slurm: one array for each task, each element one cell, run by `camtrast suite
//! cell`. Elements of a task's array wait for the pretraining with the same number, and an array of cells
//! with a choice to make waits for the end of all arrays that measure what it chooses from.
//!
//! ```text
//! DIR/slurm/N-TASK.sh      a job script, and beside it N-TASK.cells, the folder of each of its elements
//! DIR/slurm/N-TASK-J_E.log what element E of job J printed
//! DIR/slurm/jobs.json      the jobs that were submitted
//! ```

pub mod arrays;
mod queue;
mod script;

use super::board::Board;
use super::cell::{SuiteCell, quoted};
use super::choice::decide;
use super::content::Contents;
use super::machine::Machine;
use super::plan::SuitePlan;
use super::settle::Settled;
use super::store::{Step, Store, backbone_sha256, recorded};
use super::work::{End, record_failure};
use crate::screen::STOP;
use anyhow::{Result, bail};
use arrays::{Need, Place, Source};
use camtrast_report::record::State;
pub use queue::{Jobs, Queue, cancel};
pub use script::Submission;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Shortest and longest time between two looks at the queue.
const POLL: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(15)];

/// Submits what is neither done nor in the queue, waits for it, and says how every cell ended.
///
/// # Errors
/// [`Error::File`] and [`Error::Io`]; Slurm's own messages.
pub fn work(
    plan: &SuitePlan,
    settled: &[Option<Settled>],
    mut contents: Contents,
    out: &Path,
    machine: &Machine,
    submission: &Submission,
) -> Result<Vec<Option<End>>> {
    let board = Board::new(machine.quiet, settled.iter().flatten().count());
    let store = Store::new(out, &machine.reuse);
    let mut jobs = Jobs::read(out)?;
    let queue = Queue::look()?;
    let needs = needs(plan, settled, &store, &mut contents, |folder| {
        jobs.waiting(folder, &queue)
    });
    let mut submitted: Vec<String> = Vec::new();
    for array in arrays::plan(plan, &needs) {
        let job = |source: &Source| match source {
            Source::New(number) => submitted[*number].clone(),
            Source::Job(job) => job.clone(),
        };
        let dependency = array.dependency(job);
        let name = format!("{}-{}", jobs.len(), array.task);
        let script = script::write(plan, out, &name, &array, submission)?;
        let job = queue::submit(&script, dependency.as_deref())?;
        board.note(&format!("job {job}: {} of {}", array.cells.len(), array.task));
        let folder = |&cell: &usize| plan.cells[cell].folder.clone();
        jobs.add(
            &job,
            array
                .cells
                .iter()
                .map(|(index, cell)| (*index, folder(cell)))
                .collect(),
        )?;
        submitted.push(job);
    }
    wait(plan, &jobs, &board)?;
    board.close();
    if STOP.load(Ordering::Relaxed) {
        return Ok(vec![None; plan.cells.len()]);
    }
    ends(plan, settled, &store, &mut contents, &jobs, machine)
}

/// Writes the scripts of all cells that are not done, and `submit.sh`, which submits them; returns its path.
///
/// # Errors
/// [`Error::Io`].
pub fn write_scripts(
    plan: &SuitePlan,
    settled: &[Option<Settled>],
    mut contents: Contents,
    out: &Path,
    machine: &Machine,
    submission: &Submission,
) -> Result<PathBuf> {
    let store = Store::new(out, &machine.reuse);
    let needs = needs(plan, settled, &store, &mut contents, |_| None);
    let mut lines = String::from("#!/bin/sh\nset -e\n");
    for (number, array) in arrays::plan(plan, &needs).iter().enumerate() {
        let name = format!("print-{number}-{}", array.task);
        let script = script::write(plan, out, &name, array, submission)?;
        let job = |source: &Source| match source {
            Source::New(earlier) => format!("$array{earlier}"),
            Source::Job(job) => job.clone(),
        };
        let after = array.dependency(job).map(|dependency| format!(" {dependency}"));
        let after = after.unwrap_or_default();
        let script = quoted(&script.display().to_string());
        lines += &format!("array{number}=$(sbatch --parsable{after} {script} | cut -d ';' -f 1)\n");
    }
    let path = out.join("slurm").join("submit.sh");
    script::write_program(&path, &lines)?;
    Ok(path)
}

/// What each cell needs; `waiting` knows the element of an array that a folder waits for.
fn needs(
    plan: &SuitePlan,
    settled: &[Option<Settled>],
    store: &Store,
    contents: &mut Contents,
    waiting: impl Fn(&Path) -> Option<Place>,
) -> Vec<Need> {
    let mut needs: Vec<Need> = Vec::new();
    for (cell, settled) in plan.cells.iter().zip(settled) {
        let parents_are_done = plan.waits(cell).all(|parent| needs[parent] == Need::Nothing);
        let need = match (settled, waiting(&cell.folder)) {
            (None, _) => Need::Nothing,
            (Some(_), Some(place)) => Need::Waits(place),
            (Some(settled), None) if parents_are_done && is_done(plan, cell, settled, store, contents) => {
                Need::Nothing
            }
            (Some(_), None) => Need::Job,
        };
        needs.push(need);
    }
    needs
}

/// Whether a cell whose backbone exists has its result.
fn is_done(
    plan: &SuitePlan,
    cell: &SuiteCell,
    settled: &Settled,
    store: &Store,
    contents: &mut Contents,
) -> bool {
    let checkpoint = match &cell.checkpoint {
        Some(path) => backbone_sha256(path).ok(),
        None => Some(String::new()),
    };
    let decided = checkpoint.and_then(|sum| decide(plan, cell, settled, &sum).ok());
    decided.is_some_and(|decided| store.step(&decided.cell, &decided.key, contents).0 == Step::Keep)
}

/// Waits until none of the suite's jobs is in the queue.
fn wait(plan: &SuitePlan, jobs: &Jobs, board: &Board) -> Result<()> {
    let (mut pause, mut absent, mut shown) = (POLL[0], 0, String::new());
    // A job that was just submitted may not be listed yet.
    while absent < 2 && !jobs.is_empty() {
        let queue = match Queue::look() {
            Ok(queue) => queue,
            // The controller may be restarting.
            Err(error) => {
                board.note(&format!("warning: {error:#}; trying again"));
                std::thread::sleep(POLL[1]);
                continue;
            }
        };
        let (running, queued) = jobs.count(&queue);
        absent = if running + queued == 0 { absent + 1 } else { 0 };
        let done = plan
            .cells
            .iter()
            .filter(|cell| recorded(&cell.folder).is_some_and(|r| r.state == State::Done));
        let text = format!(
            "{} of {} done, {running} running, {queued} queued",
            done.count(),
            plan.cells.len()
        );
        if text != shown {
            board.note(&text);
            shown = text;
            pause = POLL[0];
        }
        let until = std::time::Instant::now() + pause;
        while std::time::Instant::now() < until {
            if STOP.load(Ordering::Relaxed) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        pause = pause.mul_f64(1.3).min(POLL[1]);
    }
    Ok(())
}

/// How the wanted cells ended. A job that ended without a result is recorded as a failure of its cell.
fn ends(
    plan: &SuitePlan,
    settled: &[Option<Settled>],
    store: &Store,
    contents: &mut Contents,
    jobs: &Jobs,
    machine: &Machine,
) -> Result<Vec<Option<End>>> {
    let mut ends: Vec<Option<End>> = Vec::new();
    for (cell, settled) in plan.cells.iter().zip(settled) {
        let Some(settled) = settled else {
            ends.push(None);
            continue;
        };
        let parent_failed = cell
            .after
            .is_some_and(|parent| matches!(ends[parent], Some(End::Failed(_))));
        let record = recorded(&cell.folder).filter(|record| record.state == State::Failed);
        let end = if parent_failed {
            let error = "its pretraining failed";
            record_failure(cell, machine, error)?;
            End::Failed(error.into())
        } else if is_done(plan, cell, settled, store, contents) {
            End::Done
        } else if let Some(error) = record.and_then(|record| record.error) {
            End::Failed(error)
        } else {
            let job = jobs.last_of(&cell.folder).unwrap_or_else(|| "none".into());
            let error = format!("its Slurm job ({job}) ended without a result; see the logs in slurm/");
            record_failure(cell, machine, &error)?;
            End::Failed(error)
        };
        ends.push(Some(end));
    }
    contents.keep();
    Ok(ends)
}

/// What a user who stops waiting needs to know.
pub fn left(out: &Path) -> Result<()> {
    let out = out.display();
    bail!(
        "interrupted; the jobs go on: `camtrast suite status {out}` shows them, \
         `camtrast suite cancel {out}` cancels them, and the same command waits for them again"
    )
}
