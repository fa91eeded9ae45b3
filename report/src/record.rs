//! The records of a suite for the report: `suite.json` for the suite, `cell.json` in the folder of each cell.
//!
//! A *cell* is one command with one output folder: the pretraining of a run with a seed, or one task that its
//! backbone was transferred to.
//!
//! ```text
//! DIR/suite.json
//! DIR/runs/<slug>-s<seed>/           pretraining: cell.json, config.toml, log.jsonl, metrics.json and
//!                                    backbone.safetensors
//! DIR/runs/<slug>-s<seed>/<task>/    a task: cell.json, metrics.json, and what the task's own command writes
//! ```

use camtrast_common::error::{Error, Result};
use camtrast_common::files::write_atomically;
pub use camtrast_common::run::PLACES;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// File of [`Suite`].
pub const SUITE: &str = "suite.json";
/// File of [`CellRecord`].
pub const CELL: &str = "cell.json";
/// Task of the cell that makes a backbone.
pub const PRETRAIN: &str = "pretrain";
/// File of per-episode accuracies in the folder of a few-shot cell: metric prefix (`fewshot/5way1shot`) to
/// accuracies in 0..1, in the order of episodes, which `[episodes]` of config.toml identifies.
pub const EPISODES: &str = "episodes.json";
/// Settings that do not change the result of a command.
pub const COURSE: [&str; 4] = ["threads", "log-every", "save-every", "pictures"];

/// suite.json: the runs of a suite, and the columns of its tables.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(default)]
pub struct Suite {
    /// Version of this format.
    pub schema: u64,
    /// Heading.
    pub title: String,
    /// What the suite reproduces, and where it differs.
    pub about: String,
    /// How the published numbers were measured, and how this suite differs.
    pub published_protocol: String,
    /// The command that runs the suite.
    pub command: String,
    /// Seeds of every run.
    pub seeds: Vec<u64>,
    /// Rows, in order.
    pub runs: Vec<RunRecord>,
    /// Columns, in order.
    pub columns: Vec<Column>,
    /// Label of the figure's x axis, for [`RunRecord::x`].
    pub x_axis: String,
    /// Settings that are chosen for every backbone on validation images.
    pub sweeps: Vec<Sweep>,
    /// The seeds with which their values are measured; none: all of [`Suite::seeds`].
    pub sweep_seeds: Vec<u64>,
}

impl Suite {
    /// Whether there is a cell of this task with this seed.
    pub fn plans(&self, task: &str, seed: u64) -> bool {
        let measures = |sweep: &Sweep| sweep.tasks.iter().any(|of| of == task);
        self.sweep_seeds.is_empty() || self.sweep_seeds.contains(&seed) || !self.sweeps.iter().any(measures)
    }
}

/// A setting of a task that is chosen on validation images, which are no test images, before the task is
/// trained on all training images and tested.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(default)]
pub struct Sweep {
    /// The task, whose cells have the best value of each backbone.
    pub task: String,
    /// The task whose cells have the value that is best on average over all backbones.
    pub shared_task: String,
    /// The flag, such as `lr`.
    pub flag: String,
    /// Its values, ascending.
    pub values: Vec<String>,
    /// The tasks that measure them on validation images, in the order of the values.
    pub tasks: Vec<String>,
    /// The number by which values are chosen, as in metrics.json; the largest is the best.
    pub metric: String,
    /// Its column's title.
    pub title: String,
    /// What is trained on and what is validated on.
    pub validation: String,
}

/// The choice of a value.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(default)]
pub struct Choice {
    /// The flag.
    pub flag: String,
    /// The chosen value.
    pub value: String,
    /// Whether it is best on average over all backbones, and not the best of this one.
    pub shared: bool,
    /// Validation scores by value, in the order of the grid; for a shared value means over all backbones.
    /// `None` where training diverged.
    pub scores: Vec<(String, Option<f64>)>,
}

impl Choice {
    /// Whether the chosen value is the first or the last of its grid, so that a better one may lie outside.
    pub fn is_at_end(&self) -> bool {
        let ends = [self.scores.first(), self.scores.last()];
        ends.into_iter().flatten().any(|(value, _)| *value == self.value)
    }
}

/// A row.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(default)]
pub struct RunRecord {
    /// Its name.
    pub name: String,
    /// Its name as a folder.
    pub slug: String,
    /// Pretraining method; empty for a backbone of another tool.
    pub method: Option<String>,
    /// The file of a given backbone; empty if it is not known.
    pub imported: Option<PathBuf>,
    /// Of a row that is an epoch on the way of another run's pretraining: which.
    pub kept: Option<KeptEpoch>,
    /// The line of the figure that this run belongs to.
    pub series: Option<String>,
    /// Its x value on that line.
    pub x: Option<f64>,
    /// Settings that only this run has, by task (`pretrain` included), as `key = value`.
    pub own_settings: BTreeMap<String, Vec<String>>,
    /// Published numbers by [`Column::title`], in the column's unit as shown (percent for accuracies).
    pub published: BTreeMap<String, f64>,
}

/// An epoch of a run whose backbone was kept.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
pub struct KeptEpoch {
    /// [`RunRecord::slug`] of the run.
    pub run: String,
    /// The epoch, counted from 1.
    pub epoch: u64,
}

/// A column.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(default)]
pub struct Column {
    /// Its title, such as `1-shot`, `AP50`, `mIoU`.
    pub title: String,
    /// The task: name of the folder below the run's.
    pub task: String,
    /// Name in metrics.json.
    pub metric: String,
    /// Name in metrics.json of half the 95 % confidence interval over episodes or test images, if it has one.
    pub ci95: Option<String>,
    /// Shown in percent.
    pub percent: bool,
    /// Whether it is in the headline table, where the largest is the best; other columns are measures without
    /// a best value.
    pub headline: bool,
    /// Whether it is measured on validation images, for a [`Sweep`].
    pub validation: bool,
}

/// cell.json: the record of a cell, written when it ends.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(default)]
pub struct CellRecord {
    /// Version of this format.
    pub schema: u64,
    /// [`RunRecord::name`].
    pub run: String,
    /// The seed.
    pub seed: u64,
    /// The task: [`PRETRAIN`] or a [`Column::task`].
    pub task: String,
    /// How it ended.
    pub state: State,
    /// Why it failed.
    pub error: Option<String>,
    /// Checksum of everything that the result depends on: settings, data, backbone, version of the program.
    pub key: String,
    /// Checksum of the protocol: the task's settings without those of [`RunRecord::own_settings`], and its
    /// data. Numbers of different protocols are not put into one table. Empty if it was not recorded; then
    /// the numbers are not compared.
    pub protocol: String,
    /// The protocol as `key = value` lines.
    pub protocol_settings: Vec<String>,
    /// The command that reproduces the same bytes, with device and threads.
    pub command: String,
    /// Checksum of the backbone that a pretraining made or a task used.
    pub checkpoint_sha256: String,
    /// Program version.
    pub version: String,
    /// Program commit.
    pub commit: String,
    /// Seconds from start to end, over all resumptions.
    pub seconds: f64,
    /// Checksum of metrics.json as the command wrote it.
    pub metrics_sha256: String,
    /// Checksums of the files that others read (metrics, episodes, backbone, classifier), by name, as the
    /// command wrote them.
    pub files: BTreeMap<String, String>,
    /// The choice that its command follows, if a setting of its task is swept.
    pub choice: Option<Choice>,
}

/// How a cell ended.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Not ended: started and interrupted.
    #[default]
    Begun,
    /// With metrics.
    Done,
    /// With an error.
    Failed,
}

/// Folder of a run with a seed, below the suite's.
pub fn run_folder(suite: &Path, slug: &str, seed: u64) -> PathBuf {
    suite.join("runs").join(format!("{slug}-s{seed}"))
}

/// Folder of one of its cells.
pub fn cell_folder(suite: &Path, slug: &str, seed: u64, task: &str) -> PathBuf {
    let run = run_folder(suite, slug, seed);
    if task == PRETRAIN { run } else { run.join(task) }
}

/// Reads a record, `None` when there is none.
///
/// # Errors
/// [`Error::File`] when it is not such a record, [`Error::Io`].
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(Error::io(path, "read"))?,
    };
    let record = serde_json::from_slice(&bytes);
    record.map(Some).map_err(|e| {
        Error::file(
            path,
            format!("is damaged: {e}"),
            "remove it; the suite then runs that part again",
        )
    })
}

/// Writes a record, whole or not at all.
///
/// # Errors
/// [`Error::Io`].
pub fn write<T: Serialize>(path: &Path, record: &T) -> Result<()> {
    write_atomically(path, |file| writeln!(file, "{:#}", serde_json::json!(record)))
}
