//! Reads result folders: suites by their records, other run folders by their files.

use crate::folder;
use crate::log::Course;
use crate::record::{
    self, CellRecord, Column, EPISODES, PRETRAIN, RunRecord, SUITE, State, Suite, cell_folder, run_folder,
};
use camtrast_common::checkpoint::Origin;
use camtrast_common::error::{Error, Result};
use camtrast_common::leakage::LEAKAGE;
use camtrast_common::tensor_file::hex;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// All results found in the given folders.
pub struct Gathered {
    /// The folders, in the order given; a folder of plain runs is a suite without a title.
    pub suites: Vec<Suite>,
    /// Columns of all of them.
    pub columns: Vec<Column>,
    /// Rows of all of them.
    pub rows: Vec<Row>,
}

/// A run with those of its seeds that were pretrained with the same settings.
pub struct Row {
    /// The suite's record of it; the name is unique among all rows.
    pub run: RunRecord,
    /// Index into [`Gathered::suites`].
    pub suite: usize,
    /// Its seeds.
    pub seeds: Vec<Seed>,
}

/// A run with one seed.
pub struct Seed {
    /// The seed.
    pub seed: u64,
    /// Its folder.
    pub folder: PathBuf,
    /// Its cells by task, [`PRETRAIN`] first.
    pub cells: Vec<TaskResult>,
}

/// A cell and its files.
pub struct TaskResult {
    /// [`PRETRAIN`] or the task.
    pub task: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Its record, empty if there is none.
    pub cell: CellRecord,
    /// Numbers of metrics.json, or why there are none.
    pub metrics: Result<BTreeMap<String, f64>, Gap>,
    /// The backbone that they come from, as recorded in metrics.json.
    pub origin: Origin,
    /// config.toml.
    pub config: Option<String>,
    /// log.jsonl.
    pub course: Course,
    /// Accuracies of single episodes, by metric prefix.
    pub episodes: BTreeMap<String, Vec<f64>>,
    /// Checksums of the episodes, by metric prefix.
    pub episodes_sha256: BTreeMap<String, String>,
    /// Which test data the network was trained on, if any.
    pub leakage: Option<String>,
}

/// Why there is no number.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Gap {
    /// In one or two words.
    pub what: &'static str,
    /// As a sentence.
    pub why: String,
}

impl Gap {
    fn new(what: &'static str, why: impl Into<String>) -> Self {
        Gap {
            what,
            why: why.into(),
        }
    }

    /// The gap of an interrupted command.
    pub(crate) fn interrupted(course: &Course) -> Self {
        match course.last_step {
            Some(step) => Gap::new("interrupted", format!("interrupted after step {step}")),
            None => Gap::new("interrupted", "interrupted before its first log line"),
        }
    }
}

impl Gathered {
    /// Tasks of the columns in their order, [`PRETRAIN`] first.
    pub fn tasks(&self) -> Vec<&str> {
        tasks(&self.columns)
    }
}

impl Row {
    /// Whether another tool made its backbone.
    pub fn is_imported(&self) -> bool {
        self.run.imported.is_some() && self.run.method.is_none()
    }

    /// Its cells of one task, one per seed.
    pub fn cells<'a>(&'a self, task: &'a str) -> impl Iterator<Item = (u64, &'a TaskResult)> {
        self.seeds
            .iter()
            .filter_map(move |seed| Some((seed.seed, seed.cells.iter().find(|c| c.task == task)?)))
    }
}

fn tasks(columns: &[Column]) -> Vec<&str> {
    let mut tasks = vec![PRETRAIN];
    for column in columns {
        if !tasks.contains(&&column.task[..]) {
            tasks.push(&column.task);
        }
    }
    tasks
}

/// Reads folders of results.
///
/// # Errors
/// [`Error::File`] naming the record, metrics or log that is damaged, or the folder without finished runs;
/// [`Error::Io`].
pub fn gather(folders: &[PathBuf]) -> Result<Gathered> {
    let mut all = Gathered {
        suites: Vec::new(),
        columns: Vec::new(),
        rows: Vec::new(),
    };
    for path in folders {
        if !path.is_dir() {
            return Err(Error::file(
                path,
                "is not a folder",
                "give a folder that `camtrast suite run` or a training command wrote to",
            ));
        }
        let (suite, rows) = match record::read::<Suite>(&path.join(SUITE))? {
            Some(suite) => {
                let rows = suite_rows(path, &suite)?;
                (suite, rows)
            }
            None => folder::rows(path)?,
        };
        if !rows.iter().any(is_finished) {
            let (problem, remedy) = match suite.runs.is_empty() {
                true => (
                    "holds no runs",
                    "give a folder that `camtrast suite run` or a training command wrote to",
                ),
                false => (
                    "holds no finished run",
                    "let `camtrast suite run` finish at least one cell",
                ),
            };
            return Err(Error::file(path, problem, remedy));
        }
        for column in &suite.columns {
            if !all.columns.contains(column) {
                all.columns.push(column.clone());
            }
        }
        let suite_index = all.suites.len();
        all.rows
            .extend(rows.into_iter().flat_map(pretrained_alike).map(|row| Row {
                suite: suite_index,
                ..row
            }));
        all.suites.push(suite);
    }
    name_apart(&mut all.rows, folders);
    Ok(all)
}

fn is_finished(row: &Row) -> bool {
    row.seeds
        .iter()
        .flat_map(|seed| &seed.cells)
        .any(|found| found.metrics.is_ok())
}

fn suite_rows(root: &Path, suite: &Suite) -> Result<Vec<Row>> {
    let read = |run: &RunRecord, &seed: &u64| -> Result<Seed> {
        let mut cells: Vec<TaskResult> = Vec::new();
        for task in tasks(&suite.columns) {
            if task == PRETRAIN && run.imported.is_some() {
                continue;
            }
            let folder = cell_folder(root, &run.slug, seed, task);
            let mut found = found(task, folder, cells.first().filter(|c| c.task == PRETRAIN))?;
            // A cell that was never started has no record.
            (found.cell.run, found.cell.seed, found.cell.task) = (run.name.clone(), seed, task.to_owned());
            cells.push(found);
        }
        Ok(Seed {
            seed,
            folder: run_folder(root, &run.slug, seed),
            cells,
        })
    };
    let row = |run: &RunRecord| {
        let seeds = suite
            .seeds
            .iter()
            .map(|seed| read(run, seed))
            .collect::<Result<_>>()?;
        Ok(Row {
            run: run.clone(),
            suite: 0,
            seeds,
        })
    };
    suite.runs.iter().map(row).collect()
}

fn found(task: &str, folder: PathBuf, pretraining: Option<&TaskResult>) -> Result<TaskResult> {
    let cell: Option<CellRecord> = record::read(&folder.join(record::CELL))?;
    let course = Course::read(&folder)?;
    let (measured, gap) = match outcome(&folder, cell.as_ref(), &course, pretraining)? {
        Ok(measured) => (measured, None),
        Err(gap) => (Measured::default(), Some(gap)),
    };
    let episodes = record::read(&folder.join(EPISODES))?.unwrap_or_default();
    let config = fs::read_to_string(folder.join("config.toml")).ok();
    let cell = cell.unwrap_or_default();
    Ok(TaskResult {
        task: task.to_owned(),
        cell,
        metrics: gap.map_or(Ok(measured.numbers), Err),
        origin: measured.origin,
        course,
        episodes,
        episodes_sha256: episodes_sha256(config.as_deref().unwrap_or_default()),
        config,
        leakage: measured.leakage,
        folder,
    })
}

/// The metrics of a cell, or why they cannot be shown in a table.
fn outcome(
    folder: &Path,
    cell: Option<&CellRecord>,
    course: &Course,
    pretraining: Option<&TaskResult>,
) -> Result<Result<Measured, Gap>> {
    let Some(cell) = cell else {
        let begun = course.last_step.is_some() || folder.join("config.toml").exists();
        return Ok(Err(match pretraining.map(|p| &p.metrics) {
            _ if begun => Gap::interrupted(course),
            Some(Err(gap)) if gap.what == "not started" => Gap::new(
                "not started",
                "not started, and its pretraining is not started either",
            ),
            Some(Err(gap)) => Gap::new("no backbone", format!("not started; pretraining: {}", gap.why)),
            _ => Gap::new("not started", "not started"),
        }));
    };
    match cell.state {
        State::Begun => return Ok(Err(Gap::interrupted(course))),
        State::Failed => {
            let error = cell.error.as_deref().unwrap_or("for an unknown reason");
            return Ok(Err(Gap::new("failed", format!("failed: {error}"))));
        }
        State::Done => {}
    }
    let path = folder.join("metrics.json");
    let bytes = match fs::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Err(Gap::new("removed", "metrics.json was removed after the run")));
        }
        bytes => bytes.map_err(Error::io(&path, "read"))?,
    };
    if hex(&Sha256::digest(&bytes)) != cell.metrics_sha256 {
        return Ok(Err(Gap::new("edited", "metrics.json was edited after the run")));
    }
    let made = pretraining
        .filter(|p| p.metrics.is_ok())
        .map(|p| &p.cell.checkpoint_sha256);
    if made.is_some_and(|made| *made != cell.checkpoint_sha256) {
        return Ok(Err(Gap::new(
            "outdated",
            "measured with an older backbone than the one in the folder now",
        )));
    }
    metrics(&path).map(Ok)
}

/// The content of a metrics.json.
#[derive(Default)]
pub(crate) struct Measured {
    /// Numbers by name.
    pub numbers: BTreeMap<String, f64>,
    /// The backbone that they come from.
    pub origin: Origin,
    /// See [`TaskResult::leakage`].
    pub leakage: Option<String>,
}

/// Checksums of the episodes by metric prefix, from config.toml of a few-shot evaluation.
pub(crate) fn episodes_sha256(config: &str) -> BTreeMap<String, String> {
    let config: toml::Table = config.parse().unwrap_or_default();
    let sums = config
        .get("episodes")
        .and_then(toml::Value::as_table)
        .into_iter()
        .flatten();
    sums.filter_map(|(task, sum)| Some((format!("fewshot/{task}"), sum.as_str()?.to_owned())))
        .collect()
}

pub(crate) fn metrics(path: &Path) -> Result<Measured> {
    let object: Map<String, Value> = record::read(path)?.unwrap_or_default();
    let origin = Origin::deserialize(&Value::Object(object.clone())).unwrap_or_default();
    Ok(Measured {
        leakage: object.get(LEAKAGE).and_then(Value::as_str).map(str::to_owned),
        origin,
        numbers: object
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_f64()?)))
            .collect(),
    })
}

/// Seeds that were pretrained with different settings are different runs: the first one keeps the name.
fn pretrained_alike(row: Row) -> Vec<Row> {
    let mut ways: Vec<(Option<String>, Row)> = Vec::new();
    for seed in row.seeds {
        let pretraining = seed
            .cells
            .iter()
            .find(|c| c.task == PRETRAIN && c.metrics.is_ok());
        let way = pretraining.map(|found| found.cell.protocol.clone());
        let same = ways
            .iter_mut()
            .find(|(known, _)| way.is_none() || known.is_none() || *known == way);
        match same {
            Some((known, row)) => {
                *known = known.take().or(way);
                row.seeds.push(seed);
            }
            None => {
                let mut run = row.run.clone();
                if !ways.is_empty() {
                    run.name += &format!(", other pretraining settings (seed {})", seed.seed);
                }
                ways.push((
                    way,
                    Row {
                        run,
                        suite: row.suite,
                        seeds: vec![seed],
                    },
                ));
            }
        }
    }
    ways.into_iter().map(|(_, row)| row).collect()
}

/// Adds the folder to names that occur in several folders.
fn name_apart(rows: &mut [Row], folders: &[PathBuf]) {
    let names: Vec<(String, usize)> = rows.iter().map(|row| (row.run.name.clone(), row.suite)).collect();
    for row in rows {
        if names
            .iter()
            .any(|(name, suite)| *name == row.run.name && *suite != row.suite)
        {
            row.run.name += &format!(" ({})", folders[row.suite].display());
        }
    }
}
