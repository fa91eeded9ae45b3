//! What a suite leaves for the report: `suite.json` of the whole, `cell.json` in the folder of each cell.
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
/// accuracies in 0..1, in the order of episodes; which those are, `[episodes]` of config.toml tells.
pub const EPISODES: &str = "episodes.json";
/// Settings that decide nothing but the course of a command.
pub const COURSE: [&str; 4] = ["threads", "log-every", "save-every", "pictures"];

/// suite.json: what was to be done, and how its numbers are called.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(default)]
pub struct Suite {
    /// Version of this shape.
    pub schema: u64,
    /// Heading.
    pub title: String,
    /// What it follows and where it differs.
    pub about: String,
    /// How the published numbers were come by, and what is different here.
    pub published_protocol: String,
    /// The command that makes all of it.
    pub command: String,
    /// Seeds of every run.
    pub seeds: Vec<u64>,
    /// Rows, in order.
    pub runs: Vec<RunRecord>,
    /// Columns, in order.
    pub columns: Vec<Column>,
    /// What [`RunRecord::x`] counts, for the figure.
    pub x_axis: String,
}

/// A row.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(default)]
pub struct RunRecord {
    /// Its name.
    pub name: String,
    /// Its name as a folder.
    pub slug: String,
    /// Pretraining method; none for a backbone that another tool made.
    pub method: Option<String>,
    /// The backbone's file, if it was brought along; empty where it is not known.
    pub imported: Option<PathBuf>,
    /// The line of the figure it belongs to.
    pub series: Option<String>,
    /// Its place on that line.
    pub x: Option<f64>,
    /// Settings that only this run has, by task (`pretrain` included), as `key = value`.
    pub own_settings: BTreeMap<String, Vec<String>>,
    /// Published numbers by [`Column::title`], in the column's unit as shown (percent for accuracies).
    pub published: BTreeMap<String, f64>,
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
    /// Name in metrics.json of half the 95 % confidence interval over episodes, if it has one.
    pub ci95: Option<String>,
    /// Shown in percent.
    pub percent: bool,
    /// In the headline table, where the largest is the best; other columns are measures without better or
    /// worse.
    pub headline: bool,
}

/// cell.json: what was done, written when it ended.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(default)]
pub struct CellRecord {
    /// Version of this shape.
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
    /// Checksum of all that the result follows from: settings, data, backbone, version of the program.
    pub key: String,
    /// Checksum of how it was measured: the task's settings without those of [`RunRecord::own_settings`], and
    /// its data. Numbers of different protocols do not belong in one table. Empty where nobody recorded it:
    /// what cannot be told apart is not compared.
    pub protocol: String,
    /// The same in words: `key = value` lines.
    pub protocol_settings: Vec<String>,
    /// The command that does it again to the same bytes, its device and threads included.
    pub command: String,
    /// Checksum of the backbone: made by pretraining, used by a task.
    pub checkpoint_sha256: String,
    /// Program version.
    pub version: String,
    /// Program commit.
    pub commit: String,
    /// Seconds from start to end, over all resumptions.
    pub seconds: f64,
    /// Checksum of metrics.json as the command left it.
    pub metrics_sha256: String,
    /// Checksums of the files that others read (metrics, episodes, backbone, classifier), by name, as the
    /// command left them.
    pub files: BTreeMap<String, String>,
}

/// How a cell ended.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Not ended: begun and cut off.
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
/// [`Error::File`] when it is no such record, [`Error::Io`].
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
            "remove it; the suite does that part again",
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
