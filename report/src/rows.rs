//! What was found in result folders: a row for each run, with its cells by seed and task.

use crate::log::Course;
use crate::record::{CellRecord, Column, PRETRAIN, RunRecord, Suite};
use camtrast_common::checkpoint::Origin;
use camtrast_common::error::Result;
use std::collections::BTreeMap;
use std::path::PathBuf;

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
    pub(crate) fn new(what: &'static str, why: impl Into<String>) -> Self {
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

/// Tasks of columns in their order, [`PRETRAIN`] first.
pub(crate) fn tasks(columns: &[Column]) -> Vec<&str> {
    let mut tasks = vec![PRETRAIN];
    for column in columns {
        if !tasks.contains(&&column.task[..]) {
            tasks.push(&column.task);
        }
    }
    tasks
}
