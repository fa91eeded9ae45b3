//! Doing what is left to do: every cell in a process of its own, so that one that fails takes nothing with it.

use super::board::{Board, Line};
use super::content::{Contents, backbone_sha256};
use super::plan::{Cell, Plan};
use crate::screen::{CHILD, STOP, clock};
use anyhow::{Context, Result, bail};
use common::Error;
use common::data::fetch::file_sha256;
use common::run::{SCHEMA, is_locked};
use report::record::{self, CELL, PRETRAIN, State};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// How commands are run on this machine.
pub struct Machine {
    /// Commands at a time.
    pub jobs: usize,
    pub device: String,
    /// Threads of each command, in place of the recipe's.
    pub threads: Option<usize>,
    pub quiet: bool,
}

/// What came of a cell.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// It had been done before.
    Kept,
    Done,
    Failed(String),
    /// Cut off by an interrupt, to go on from.
    Interrupted,
}

/// Where a cell stands.
#[derive(Clone, Copy, PartialEq)]
enum Turn {
    Waiting,
    Running,
    Ended,
}

struct Shared {
    contents: Contents,
    turns: Vec<Turn>,
    ends: Vec<Option<End>>,
}

const POLL: Duration = Duration::from_millis(50);

/// Does the wanted cells of a plan. A cell that fails takes only those with it that need its backbone.
pub fn work(plan: &Plan, wanted: &[bool], out: &Path, machine: &Machine) -> Result<Vec<Option<End>>> {
    let cells = &plan.cells;
    let mut contents = Contents::default();
    // Missing data shows before hours of training.
    for (cell, _) in cells.iter().zip(wanted).filter(|(_, wanted)| **wanted) {
        for path in &cell.data {
            contents.of(path)?;
        }
        if let (Some(path), None) = (&cell.checkpoint, cell.after) {
            backbone_sha256(path)?;
        }
    }
    let turns = wanted.iter().map(|wanted| if *wanted { Turn::Waiting } else { Turn::Ended }).collect();
    let shared = Mutex::new(Shared { contents, turns, ends: vec![None; cells.len()] });
    let (changed, board) = (Condvar::new(), Board::new(machine.quiet, wanted.iter().filter(|w| **w).count()));
    std::thread::scope(|scope| {
        for _ in 0..machine.jobs {
            scope.spawn(|| {
                while let Some(i) = next(cells, &shared, &changed) {
                    let end = one(&cells[i], &shared, out, machine, &board);
                    let mut state = shared.lock().expect("no worker panics");
                    state.turns[i] = Turn::Ended;
                    state.ends[i] = Some(end.unwrap_or_else(|error| End::Failed(format!("{error:#}"))));
                    changed.notify_all();
                }
            });
        }
    });
    board.close();
    Ok(shared.into_inner().expect("no worker panics").ends)
}

/// The first cell whose backbone is there, when there is one; waits while others may make one.
fn next(cells: &[Cell], shared: &Mutex<Shared>, changed: &Condvar) -> Option<usize> {
    let mut state = shared.lock().expect("no worker panics");
    loop {
        let waits = |i: &usize| state.turns[*i] == Turn::Waiting;
        if STOP.load(Ordering::Relaxed) || !(0..cells.len()).any(|i| waits(&i)) {
            return None;
        }
        let ready = |i: &usize| waits(i) && cells[*i].after.is_none_or(|parent| state.turns[parent] == Turn::Ended);
        if let Some(i) = (0..cells.len()).find(ready) {
            state.turns[i] = Turn::Running;
            return Some(i);
        }
        state = changed.wait_timeout(state, POLL).expect("no worker panics").0;
    }
}

fn one(cell: &Cell, shared: &Mutex<Shared>, out: &Path, machine: &Machine, board: &Board) -> Result<End> {
    let (key, protocol, checkpoint) = {
        let mut state = shared.lock().expect("no worker panics");
        if let Some(parent) = cell.after {
            match &state.ends[parent] {
                Some(End::Failed(_)) => {
                    record_failure(cell, "its pretraining failed")?;
                    return Ok(End::Failed("its pretraining failed".into()));
                }
                Some(End::Interrupted) => return Ok(End::Interrupted),
                _ => {}
            }
        }
        let checkpoint = cell.checkpoint.as_deref().map(backbone_sha256).transpose()?.unwrap_or_default();
        let key = state.contents.key(cell, &checkpoint)?;
        (key, state.contents.protocol(cell)?, checkpoint)
    };
    let path = cell.folder.join(CELL);
    let mut seconds = 0.0;
    // A record that cannot be read is as good as none.
    match record::read::<record::Cell>(&path).ok().flatten() {
        Some(old) if !old.key.is_empty() && (old.key != key || is_edited(cell, &old)) => {
            if old.key == key {
                board.note(&format!(
                    "warning: {}: metrics.json was changed since it was written; done again",
                    cell.folder.display()
                ));
            }
            put_aside(cell, &old, out, board)?;
        }
        Some(old) if old.state == State::Done => return Ok(End::Kept),
        Some(old) => seconds = old.seconds,
        None => {}
    }
    let mut record = record::Cell {
        schema: SCHEMA,
        run: cell.run.clone(),
        seed: cell.seed,
        task: cell.task.clone(),
        state: State::Begun,
        error: None,
        key,
        protocol,
        protocol_settings: cell.protocol.clone(),
        command: cell.typed(),
        checkpoint_sha256: checkpoint,
        version: env!("CARGO_PKG_VERSION").into(),
        commit: env!("CAMTRAST_COMMIT").into(),
        seconds,
        metrics_sha256: String::new(),
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
            record.metrics_sha256 = file_sha256(&cell.folder.join("metrics.json"))?;
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

/// Whether somebody changed the numbers, or took them or the backbone away.
fn is_edited(cell: &Cell, old: &record::Cell) -> bool {
    let backbone = cell.folder.join("backbone.safetensors");
    old.state == State::Done
        && (file_sha256(&cell.folder.join("metrics.json")).ok().as_ref() != Some(&old.metrics_sha256)
            || cell.task == PRETRAIN && backbone_sha256(&backbone).ok().as_ref() != Some(&old.checkpoint_sha256))
}

/// Moves what followed from other settings, data or code out of the way. Nothing is thrown away.
fn put_aside(cell: &Cell, old: &record::Cell, out: &Path, board: &Board) -> Result<()> {
    let name =
        cell.folder.strip_prefix(out.join("runs")).unwrap_or(&cell.folder).display().to_string().replace('/', "-");
    let folder = out.join("outdated");
    fs::create_dir_all(&folder).map_err(Error::io(&folder, "create"))?;
    let stem = format!("{name}-{}", &old.key.get(..8).unwrap_or("unknown"));
    let free = (1..).map(|n| if n == 1 { stem.clone() } else { format!("{stem}-{n}") });
    let place = free.map(|name| folder.join(name)).find(|place| !place.exists()).expect("numbers do not end");
    fs::rename(&cell.folder, &place).map_err(Error::io(&place, "write"))?;
    board.note(&format!(
        "{}: settings, data or program changed; what was there is now {}",
        cell.name(),
        place.display()
    ));
    Ok(())
}

fn record_failure(cell: &Cell, error: &str) -> Result<()> {
    let (run, task) = (cell.run.clone(), cell.task.clone());
    let record = record::Cell {
        schema: SCHEMA,
        run,
        task,
        seed: cell.seed,
        state: State::Failed,
        error: Some(error.into()),
        command: cell.typed(),
        ..record::Cell::default()
    };
    Ok(record::write(&cell.folder.join(CELL), &record)?)
}

/// A process of an earlier suite that was killed may still be saving its state.
fn wait_for_lock(cell: &Cell, line: &Line) {
    let mut told = false;
    while is_locked(&cell.folder) && !STOP.load(Ordering::Relaxed) {
        if !told {
            line.show("waiting for another process that writes this run");
            told = true;
        }
        std::thread::sleep(POLL);
    }
}

/// Runs the command to its end. It stops by itself, saving its state, when its standard input ends: that is how an interrupt
/// reaches it, and the death of this process.
fn run(cell: &Cell, machine: &Machine, line: &Line) -> Result<Result<(), String>> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = Command::new(program);
    command.args(cell.arguments()).arg(format!("--device={}", machine.device));
    if let Some(threads) = machine.threads.map(|n| n.to_string()).or(cell.threads.clone()) {
        command.arg(format!("--threads={threads}"));
    }
    // A Ctrl-C is for the suite, which tells the others.
    command.process_group(0).env(CHILD, "1").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot start a process")?;
    let (mut input, output) = (child.stdin.take(), child.stderr.take().expect("it is piped"));
    let log = cell.folder.join("output.log");
    let log = File::options().create(true).append(true).open(&log).map_err(Error::io(&log, "write"))?;
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
            let silent =
                || format!("ended without a word ({status}); see {}", cell.folder.join("output.log").display());
            Ok(Err(error.unwrap_or_else(silent)))
        }
        None => bail!("a process vanished"),
    }
}

/// Shows and keeps what a command says; returns its error.
fn follow(lines: impl BufRead, mut log: File, line: &Line) -> Option<String> {
    let mut error = None;
    for text in lines.lines().map_while(Result::ok) {
        // A full disk shows in the command itself.
        let _ = writeln!(log, "{text}");
        match text.strip_prefix("camtrast: ").or(text.strip_prefix("error: ")) {
            Some(told) => error = Some(told.to_owned()),
            None => line.show(&text),
        }
    }
    error
}

/// Cells that others need come along.
pub fn with_parents(plan: &Plan, chosen: impl Fn(&Cell) -> bool) -> Vec<bool> {
    let mut wanted: Vec<bool> = plan.cells.iter().map(&chosen).collect();
    for (i, cell) in plan.cells.iter().enumerate() {
        if let (true, Some(parent)) = (wanted[i], cell.after) {
            wanted[parent] = true;
        }
    }
    wanted
}

/// The record of a cell, if it has a readable one.
pub fn recorded(cell: &Cell) -> Option<record::Cell> {
    record::read(&cell.folder.join(CELL)).ok().flatten()
}

/// Path of the recipe kept in a suite's folder.
pub fn kept_recipe(out: &Path) -> PathBuf {
    out.join("recipe.toml")
}
