//! Runs the unfinished cells, each in a separate process, so that a failure does not affect others.

use super::board::{Board, Line};
use super::cell::SuiteCell;
use super::choice::{Decided, decide};
use super::content::Contents;
use super::machine::Machine;
use super::plan::SuitePlan;
use super::settle::Settled;
use super::store::{self, Step, Store, backbone_sha256};
use crate::screen::{CHILD, STOP, clock};
use anyhow::{Context, Result, bail};
use camtrast_common::Error;
use camtrast_common::distributed::in_batch_script;
use camtrast_common::run::{SCHEMA, is_locked};
use camtrast_report::record::{self, CELL, PRETRAIN, State};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// How a cell ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// It was already done.
    Kept,
    Done,
    Failed(String),
    /// Interrupted; can be resumed.
    Interrupted,
}

/// The state of a cell.
#[derive(Clone, Copy, PartialEq)]
enum Turn {
    Waiting,
    Running,
    Ended,
}

/// The state that all workers share.
struct Job<'a> {
    plan: &'a SuitePlan,
    settled: &'a [Option<Settled>],
    out: &'a Path,
    machine: &'a Machine,
    store: Store,
    board: Board,
    shared: Mutex<Shared>,
}

struct Shared {
    contents: Contents,
    turns: Vec<Turn>,
    ends: Vec<Option<End>>,
}

const POLL: Duration = Duration::from_millis(50);

/// Runs the settled cells of a plan. If a cell fails, only cells that need its backbone fail with it.
pub fn work(
    plan: &SuitePlan,
    settled: &[Option<Settled>],
    contents: Contents,
    out: &Path,
    machine: &Machine,
) -> Result<Vec<Option<End>>> {
    let cells = &plan.cells;
    let turn = |settled: &Option<Settled>| {
        if settled.is_some() {
            Turn::Waiting
        } else {
            Turn::Ended
        }
    };
    let turns = settled.iter().map(turn).collect();
    let job = Job {
        plan,
        settled,
        out,
        machine,
        store: Store::new(out, &machine.reuse),
        board: Board::new(machine.quiet, settled.iter().flatten().count()),
        shared: Mutex::new(Shared {
            contents,
            turns,
            ends: vec![None; cells.len()],
        }),
    };
    check_cores(machine, cells, &job.board);
    let changed = Condvar::new();
    std::thread::scope(|scope| {
        for _ in 0..machine.jobs {
            scope.spawn(|| {
                while let Some(i) = next(plan, &job.shared, &changed) {
                    let end = one(i, &job);
                    let mut state = job.shared.lock().expect("no worker panics");
                    state.turns[i] = Turn::Ended;
                    state.ends[i] = Some(end.unwrap_or_else(|error| End::Failed(format!("{error:#}"))));
                    state.contents.keep();
                    changed.notify_all();
                }
            });
        }
    });
    job.board.close();
    Ok(job.shared.into_inner().expect("no worker panics").ends)
}

/// Warns of more threads than there are cores.
fn check_cores(machine: &Machine, cells: &[SuiteCell], board: &Board) {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let threads = cells
        .iter()
        .map(|cell| machine.threads(cell.threads))
        .max()
        .unwrap_or(1);
    if machine.jobs > 1 && machine.jobs * threads > cores {
        let jobs = machine.jobs;
        board.note(&format!(
            "warning: {jobs} commands at a time with {threads} threads each on {cores} cores slow each \
             other down; \
             lower --jobs or --threads (another number of threads changes the last digits of results)"
        ));
    }
}

/// The first cell whose backbone exists; waits while running cells may still make one.
fn next(plan: &SuitePlan, shared: &Mutex<Shared>, changed: &Condvar) -> Option<usize> {
    let cells = &plan.cells;
    let mut state = shared.lock().expect("no worker panics");
    loop {
        let waits = |i: &usize| state.turns[*i] == Turn::Waiting;
        if STOP.load(Ordering::Relaxed) || !(0..cells.len()).any(|i| waits(&i)) {
            return None;
        }
        let ready = |i: &usize| {
            waits(i)
                && plan
                    .waits(&cells[*i])
                    .all(|parent| state.turns[parent] == Turn::Ended)
        };
        if let Some(i) = (0..cells.len()).find(ready) {
            state.turns[i] = Turn::Running;
            return Some(i);
        }
        state = changed.wait_timeout(state, POLL).expect("no worker panics").0;
    }
}

fn one(i: usize, job: &Job) -> Result<End> {
    let Job {
        out, machine, board, ..
    } = job;
    let (cell, settled) = (
        &job.plan.cells[i],
        job.settled[i].as_ref().expect("only settled cells wait"),
    );
    let path = cell.folder.join(CELL);
    let (Decided { cell, key, choice }, checkpoint, seconds) = {
        // Locked until folders are in place: one worker may take over what another moves to `outdated/`.
        let mut state = job.shared.lock().expect("no worker panics");
        if let Some(parent) = cell.after {
            match &state.ends[parent] {
                Some(End::Failed(_)) => {
                    record_failure(cell, machine, "its pretraining failed")?;
                    return Ok(End::Failed("its pretraining failed".into()));
                }
                Some(End::Interrupted) => return Ok(End::Interrupted),
                _ => {}
            }
        }
        let checkpoint = cell
            .checkpoint
            .as_deref()
            .map(backbone_sha256)
            .transpose()?
            .unwrap_or_default();
        let among = cell.pick.iter().flat_map(|pick| &pick.among);
        if among.clone().any(|&i| state.ends[i] == Some(End::Interrupted)) {
            return Ok(End::Interrupted);
        }
        let decided = match decide(job.plan, cell, settled, &checkpoint) {
            Ok(decided) => decided,
            Err(problem) => {
                if let Some(old) = store::recorded(&cell.folder).filter(|old| old.state == State::Done) {
                    put_aside(cell, &old, "its sweep", out, board)?;
                }
                record_failure(cell, machine, &problem)?;
                board.note(&format!("warning: {}: {problem}", cell.name()));
                return Ok(End::Failed(problem));
            }
        };
        let (cell, key) = (&decided.cell, &decided.key);
        let (step, old) = job.store.step(cell, key, &mut state.contents);
        let said = |old: record::CellRecord| record::CellRecord {
            protocol: settled.protocol.clone(),
            protocol_settings: settled.protocol_settings.clone(),
            choice: decided.choice.clone(),
            ..old
        };
        if step == Step::Keep {
            // The same value may have been chosen from others.
            if let Some(old) = old.filter(|old| old.choice != decided.choice) {
                record::write(&path, &said(old))?;
            }
            return Ok(End::Kept);
        }
        let mut seconds = 0.0;
        match old {
            Some(old) if old.key == *key && old.state != State::Done || old.key.is_empty() => {
                seconds = old.seconds
            }
            Some(old) => {
                let damage =
                    store::damage(&cell.folder, &old, &mut state.contents).filter(|_| old.key == *key);
                if let Some(file) = &damage {
                    let folder = cell.folder.display();
                    board.note(&format!(
                        "warning: {folder}: {file} was changed since it was written; it is run again"
                    ));
                }
                let why = if damage.is_some() {
                    "its files"
                } else {
                    "settings, data or program"
                };
                put_aside(cell, &old, why, out, board)?;
            }
            // A record that cannot be read is treated as missing.
            None => {}
        }
        if let Step::Take(from) = &step {
            let taken = said(job.store.take(cell, from)?);
            record::write(&path, &taken)?;
            board.note(&format!("{}: taken from {}", cell.name(), from.display()));
            if taken.state == State::Done {
                return Ok(End::Kept);
            }
            seconds = taken.seconds;
        }
        (decided, checkpoint, seconds)
    };
    let cell = &cell;
    let mut record = record::CellRecord {
        schema: SCHEMA,
        run: cell.run.clone(),
        seed: cell.seed,
        task: cell.task.clone(),
        state: State::Begun,
        error: None,
        key,
        protocol: settled.protocol.clone(),
        protocol_settings: settled.protocol_settings.clone(),
        command: cell.typed(machine),
        checkpoint_sha256: checkpoint,
        version: env!("CARGO_PKG_VERSION").into(),
        commit: env!("CAMTRAST_COMMIT").into(),
        seconds,
        metrics_sha256: String::new(),
        files: BTreeMap::new(),
        choice,
    };
    let line = board.begin(cell.name());
    wait_for_lock(cell, &line);
    fs::create_dir_all(&cell.folder).map_err(Error::io(&cell.folder, "create"))?;
    record::write(&path, &record)?;
    let begun = Instant::now();
    let outcome = run(cell, machine, &line)?;
    record.seconds += begun.elapsed().as_secs_f64();
    let end = match outcome {
        Ok(()) => {
            record.files = store::files(&cell.folder)?;
            record.metrics_sha256 = record
                .files
                .get("metrics.json")
                .cloned()
                .context("it wrote no metrics.json")?;
            if cell.task == PRETRAIN {
                record.checkpoint_sha256 = backbone_sha256(&cell.folder.join("backbone.safetensors"))?;
            }
            record.state = State::Done;
            line.end(&format!("done in {}", clock(record.seconds)));
            End::Done
        }
        Err(_) if STOP.load(Ordering::Relaxed) => {
            line.end("interrupted");
            End::Interrupted
        }
        Err(error) => {
            record.state = State::Failed;
            record.error = Some(error.clone());
            line.end("failed");
            board.note(&format!("warning: {} failed: {error}", cell.name()));
            End::Failed(error)
        }
    };
    record::write(&path, &record)?;
    Ok(end)
}

/// Moves results of other settings, data or code to `outdated/`. Nothing is deleted.
fn put_aside(cell: &SuiteCell, old: &record::CellRecord, why: &str, out: &Path, board: &Board) -> Result<()> {
    let name = cell
        .folder
        .strip_prefix(out.join("runs"))
        .unwrap_or(&cell.folder)
        .display()
        .to_string()
        .replace('/', "-");
    let folder = out.join("outdated");
    fs::create_dir_all(&folder).map_err(Error::io(&folder, "create"))?;
    let stem = format!("{name}-{}", &old.key.get(..8).unwrap_or("unknown"));
    let free = (1..).map(|n| {
        if n == 1 {
            stem.clone()
        } else {
            format!("{stem}-{n}")
        }
    });
    let place = free
        .map(|name| folder.join(name))
        .find(|place| !place.exists())
        .expect("numbers do not end");
    fs::rename(&cell.folder, &place).map_err(Error::io(&place, "write"))?;
    board.note(&format!(
        "{}: {why} changed; the old results are now in {}",
        cell.name(),
        place.display()
    ));
    Ok(())
}

/// Records that a cell cannot be run.
pub fn record_failure(cell: &SuiteCell, machine: &Machine, error: &str) -> Result<()> {
    let (run, task) = (cell.run.clone(), cell.task.clone());
    let record = record::CellRecord {
        schema: SCHEMA,
        run,
        task,
        seed: cell.seed,
        state: State::Failed,
        error: Some(error.into()),
        command: cell.typed(machine),
        ..record::CellRecord::default()
    };
    Ok(record::write(&cell.folder.join(CELL), &record)?)
}

/// Waits for a process of an earlier, killed suite that may still be saving its state.
fn wait_for_lock(cell: &SuiteCell, line: &Line) {
    let mut shown = false;
    while is_locked(&cell.folder) && !STOP.load(Ordering::Relaxed) {
        if !shown {
            line.show("waiting for another process that writes this run");
            shown = true;
        }
        std::thread::sleep(POLL);
    }
}

/// Runs the command to its end. It stops by itself, saving its state, when its standard input ends: that is
/// how an interrupt reaches it, and the death of this process.
fn run(cell: &SuiteCell, machine: &Machine, line: &Line) -> Result<Result<(), String>> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = launcher(&program, cell);
    command.args(cell.arguments(machine));
    // Ctrl-C goes to the suite only, which stops its commands.
    command
        .process_group(0)
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot start a process")?;
    let (mut input, output) = (child.stdin.take(), child.stderr.take().expect("it is piped"));
    let log = cell.folder.join("output.log");
    let log = File::options()
        .create(true)
        .append(true)
        .open(&log)
        .map_err(Error::io(&log, "write"))?;
    let (status, error) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| follow(BufReader::new(output), log, line));
        let status = loop {
            if STOP.load(Ordering::Relaxed) {
                drop(input.take());
            }
            match child.try_wait() {
                Ok(None) => std::thread::sleep(POLL),
                ended => break ended,
            }
        };
        (status, reader.join().expect("reading lines does not panic"))
    });
    let status = status.context("cannot wait for a process")?;
    match status {
        Some(status) if status.success() => Ok(Ok(())),
        Some(status) => {
            let silent = || {
                format!(
                    "ended without an error message ({status}); see {}",
                    cell.folder.join("output.log").display()
                )
            };
            Ok(Err(error.unwrap_or_else(silent)))
        }
        None => bail!("a command ended, but its exit status is unknown"),
    }
}

/// This program; in a batch script of Slurm with several tasks, started by srun in each of them, if the
/// command of the cell can share its work.
fn launcher(program: &Path, cell: &SuiteCell) -> Command {
    let variable = |name: &str| std::env::var(name).ok();
    let tasks = variable("SLURM_NTASKS").and_then(|tasks| tasks.parse::<u64>().ok());
    if !cell.shares_work || !in_batch_script(variable) || tasks.is_none_or(|tasks| tasks == 1) {
        return Command::new(program);
    }
    let mut command = Command::new("srun");
    command.arg("--kill-on-bad-exit").arg(program);
    command
}

/// Shows and stores the output of a command; returns its error line.
fn follow(lines: impl BufRead, mut log: File, line: &Line) -> Option<String> {
    let mut error = None;
    for text in lines.lines().map_while(Result::ok) {
        // If the disk is full, the command itself reports it.
        let _ = writeln!(log, "{text}");
        match text.strip_prefix("camtrast: ").or(text.strip_prefix("error: ")) {
            Some(message) => error = Some(message.to_owned()),
            None => line.show(&text),
        }
    }
    error
}

/// The chosen cells and those that they need.
pub fn with_parents(plan: &SuitePlan, chosen: impl Fn(&SuiteCell) -> bool) -> Vec<bool> {
    let mut wanted: Vec<bool> = plan.cells.iter().map(&chosen).collect();
    // What a cell needs comes before it.
    for (i, cell) in plan.cells.iter().enumerate().rev() {
        if wanted[i] {
            let among = cell.pick.iter().flat_map(|pick| &pick.among);
            cell.after
                .iter()
                .chain(among)
                .for_each(|&need| wanted[need] = true);
        }
    }
    wanted
}

/// Path of the recipe stored in a suite's folder.
pub fn kept_recipe(out: &Path) -> PathBuf {
    out.join("recipe.toml")
}
