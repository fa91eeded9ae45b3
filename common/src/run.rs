//! The run directory: resolved configuration, logs, metrics, backbone and training state.

use crate::arithmetic;
use crate::checkpoint::{STATE_FORMAT, VERSION, is_kept_file};
use crate::classifier::CLASSIFIER_FILE;
use crate::device::device_name;
use crate::distributed::Group;
use crate::error::{Error, Result};
use crate::files::{remove, write_atomically};
use crate::tensor_file::{self, Metadata, TensorFile};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tch::{Device, Tensor};

/// Version of the shape of metrics.json and log.jsonl.
pub const SCHEMA: u64 = 1;

/// File of the rows of the pack that a run trains on: `classes`, `rows` and `labels` as JSON.
pub const SUBSET: &str = "subset.json";

/// Settings that say where files are.
pub const PLACES: [&str; 17] = [
    "coco-val",
    "coco-val-images",
    "dev-images",
    "dev-labels",
    "data",
    "init",
    "voc",
    "coco",
    "coco-images",
    "coco-test",
    "coco-test-images",
    "cityscapes",
    "images",
    "labels",
    "val-images",
    "val-labels",
    "class-names",
];

/// The program that started a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// Its version.
    pub version: String,
    /// Its commit.
    pub commit: String,
}

/// Settings of a training that do not change its weights.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The run's folder.
    pub out: PathBuf,
    /// Whether an existing run is removed first.
    pub overwrite: bool,
    /// Where tensors live.
    pub device: Device,
    /// The processes that train together; rank 0 writes the folder.
    pub group: Group,
    /// Steps between log lines.
    pub log_every: u64,
    /// Steps between saved states, in addition to those saved every two minutes and at the end.
    pub save_every: Option<u64>,
    /// The step, from 0, whose trace is written.
    pub profile_step: Option<u64>,
    /// The program.
    pub build: Build,
}

impl RunOptions {
    /// Opens the folder to train in; with `overwrite`, an earlier run in it is removed first (and the files
    /// that `also` names, see [`RunFolder::clear`]). It is not opened for a process that does not write it.
    ///
    /// # Errors
    /// As [`RunFolder::begin`].
    pub fn begin(&self, also: &[&str]) -> Result<RunFolder> {
        if !self.group.leads() {
            return Ok(RunFolder::unopened(&self.out));
        }
        let run = RunFolder::begin(&self.out)?;
        if self.overwrite {
            run.clear(also)?;
        }
        Ok(run)
    }
}

/// A folder that holds one run.
#[derive(Debug, Clone)]
pub struct RunFolder {
    path: PathBuf,
    /// Locked while the run is written.
    _lock: Option<Arc<File>>,
}

/// The position that a training state was saved at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Position {
    /// Optimizer steps done.
    pub step: u64,
    /// Seconds of training so far, over all resumptions.
    pub seconds: f64,
}

/// A training state as read from its file.
pub struct SavedState {
    /// Its position.
    pub position: Position,
    /// All tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Why an older state was used, if it was.
    pub warning: Option<String>,
}

impl RunFolder {
    /// Opens a folder, and makes it if it does not exist.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).map_err(Error::io(path, "create"))?;
        Ok(RunFolder {
            path: path.to_owned(),
            _lock: None,
        })
    }

    /// A folder that this process does not write.
    pub fn unopened(path: &Path) -> Self {
        RunFolder {
            path: path.to_owned(),
            _lock: None,
        }
    }

    /// Opens a folder to train in, which no other process may do until this value is dropped.
    ///
    /// # Errors
    /// [`Error::File`] when another process is writing it, [`Error::Io`].
    pub fn begin(path: &Path) -> Result<Self> {
        let folder = Self::create(path)?;
        let lock = lock(path)?.ok_or_else(|| {
            Error::file(
                path,
                "another camtrast is writing this run",
                "wait until it ends, or give another --out",
            )
        })?;
        Ok(RunFolder {
            _lock: Some(Arc::new(lock)),
            ..folder
        })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Checks that all processes of `group` have the same configuration. Then rank 0 writes config.toml, or
    /// checks that the existing one is the same up to its `[build]` table (device and program of the first
    /// start). Paths of files ([`PLACES`] and the backbone) are not compared: their
    /// checksums are in the `[dataset]` table.
    ///
    /// # Errors
    /// [`Error::Settings`] naming the first setting that differs.
    pub fn claim(&self, config: &str, build: &Build, device: Device, group: Group) -> Result<()> {
        let whole = format!(
            "version = {:?}\ncommit = {:?}\n{config}",
            build.version, build.commit
        );
        group.agree("settings", &whole, difference)?;
        if !group.leads() {
            return Ok(());
        }
        let path = self.file("config.toml");
        let old = match fs::read_to_string(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let [version, commit, name] =
                    [&build.version, &build.commit, &device_name(device)].map(|s| json!(s));
                let threads = tch::get_num_threads();
                let arithmetic = arithmetic::record(device)?;
                let rows = format!(
                    "version = {version}\ncommit = {commit}\ndevice = {name}\nthreads = {threads}\n\
                     {arithmetic}"
                );
                return write_atomically(&path, |out| write!(out, "{config}\n[build]\n{rows}"));
            }
            old => old.map_err(Error::io(&path, "read"))?,
        };
        let Some((held, wanted)) = difference(&old, config) else {
            return Ok(());
        };
        let problem = format!(
            "{} holds a run with {held}, but this command has {wanted}",
            self.path.display()
        );
        Err(Error::settings(
            problem,
            "give another --out, or --overwrite to start again",
        ))
    }

    /// Refuses a folder that holds a training run: an evaluation there would overwrite files that the run
    /// needs to resume.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn refuse_training(path: &Path) -> Result<()> {
        let config = path.join("config.toml");
        match fs::read_to_string(&config) {
            Ok(text) if !text.lines().any(|line| line.starts_with(COMMAND)) => Err(Error::file(
                path,
                "holds a training run",
                "give the evaluation a separate folder with --out",
            )),
            _ => Ok(()),
        }
    }

    /// Removes metrics.json, if it is there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove_metrics(&self) -> Result<()> {
        let metrics = self.file("metrics.json");
        match fs::remove_file(&metrics) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(&metrics, "remove")(e)),
            _ => Ok(()),
        }
    }

    /// Writes config.toml of an evaluation: `config`, and in its `[build]` table the program, the `device`
    /// and the `command`, by which the report knows that it is not a training. The metrics of an earlier
    /// evaluation are removed first, so that results are never stored with another protocol.
    ///
    /// # Errors
    /// As [`RunFolder::refuse_training`], [`Error::Io`].
    pub fn record(&self, command: &str, config: &str, build: &Build, device: &str) -> Result<()> {
        Self::refuse_training(&self.path)?;
        self.remove_metrics()?;
        let [version, commit, device, command] =
            [&build.version[..], &build.commit, device, command].map(|s| json!(s));
        let rows = format!("{COMMAND}{command}\nversion = {version}\ncommit = {commit}\ndevice = {device}");
        write_atomically(&self.file("config.toml"), |out| {
            writeln!(out, "{config}\n[build]\n{rows}")
        })
    }

    /// Removes all files that a run writes, and the files and folders that `also` names, and nothing else.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn clear(&self, also: &[&str]) -> Result<()> {
        let entries = fs::read_dir(&self.path).map_err(Error::io(&self.path, "list"))?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let known = [
                "config.toml",
                "log.jsonl",
                "metrics.json",
                "backbone.safetensors",
                "profile.json",
                CLASSIFIER_FILE,
                SUBSET,
                STATE,
                PREVIOUS,
            ];
            let ours = known.contains(&&name[..])
                || also.contains(&&name[..])
                || is_kept_file(&name)
                || name.starts_with("events.out.tfevents.")
                || name.ends_with(".part");
            if ours {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Saves a training state; the previous one becomes the fallback.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::NotFinite`] for NaN or infinite values; the existing states stay usable.
    pub fn save_state(&self, tensors: &BTreeMap<String, Tensor>, position: Position) -> Result<()> {
        let metadata: Metadata = [
            ("format", STATE_FORMAT.to_owned()),
            ("version", VERSION.to_string()),
            ("step", position.step.to_string()),
            ("seconds", position.seconds.to_string()),
        ]
        .map(|(k, v)| (k.to_owned(), v))
        .into();
        // The new state is complete on the disk before the old one is renamed.
        let (state, previous, fresh) = (
            self.file(STATE),
            self.file(PREVIOUS),
            self.file(".state.safetensors.new.part"),
        );
        tensor_file::save(&fresh, tensors, &metadata).map_err(|error| match error {
            // The error names the state, not the temporary file.
            Error::Io { action, source, .. } => Error::io(&state, action)(source),
            Error::NotFinite { tensor, .. } => Error::NotFinite {
                path: state.clone(),
                tensor,
            },
            other => other,
        })?;
        if state.exists() {
            fs::rename(&state, &previous).map_err(Error::io(&previous, "write"))?;
        }
        fs::rename(&fresh, &state).map_err(Error::io(&state, "write"))
    }

    /// Reads the newest undamaged training state; `None` when there is no state. A damaged state is replaced
    /// by the one before it, so that the next save does not replace the good one by the damaged one.
    ///
    /// # Errors
    /// [`Error::File`] when states exist but all are damaged.
    pub fn load_state(&self) -> Result<Option<SavedState>> {
        let (state, previous) = (self.file(STATE), self.file(PREVIOUS));
        match (state.exists(), previous.exists()) {
            (false, false) => Ok(None),
            (false, true) => read_state(&previous).map(Some),
            (true, fallback) => match read_state(&state) {
                Ok(saved) => Ok(Some(saved)),
                Err(error) if fallback => {
                    let mut saved = read_state(&previous)?;
                    if matches!(error, Error::File { .. }) {
                        fs::rename(&previous, &state).map_err(Error::io(&state, "write"))?;
                    }
                    saved.warning = Some(format!(
                        "{error}; the state before it (step {}) is used",
                        saved.position.step
                    ));
                    Ok(Some(saved))
                }
                Err(error) => Err(error),
            },
        }
    }

    /// Writes metrics.json; see [`write_metrics`].
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_metrics(&self, metrics: &Metrics, texts: Texts, seconds: f64, device: &str) -> Result<()> {
        write_metrics(&self.file("metrics.json"), metrics, texts, seconds, device)
    }
}

/// The first setting in which two configurations differ, as written in each. If only checksums of files
/// differ, the path of a file is returned, if that differs too.
fn difference(old: &str, new: &str) -> Option<(String, String)> {
    let key = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
    let old: Vec<&str> = old.lines().take_while(|line| *line != "[build]").collect();
    let new: Vec<&str> = new.lines().collect();
    // `labels` next to `images` is a folder; without it, the setting of `pretrain`.
    let has_images = new.iter().any(|line| key(line) == "images");
    let is_place = |line: &str| match &key(line)[..] {
        "labels" => has_images,
        key => PLACES.contains(&key) || key == "checkpoint",
    };
    let differs = |of_place: bool| {
        let only = |these: &[&str], others: &[&str]| {
            these
                .iter()
                .find(|line| is_place(line) == of_place && !others.contains(line))
                .map(|line| key(line))
        };
        only(&new, &old).or_else(|| only(&old, &new))
    };
    let mut differing = differs(false)?;
    let of_data = |lines: &[&str]| {
        lines
            .iter()
            .skip_while(|line| **line != "[dataset]")
            .any(|line| key(line) == differing)
    };
    if of_data(&old) || of_data(&new) {
        differing = differs(true).unwrap_or(differing);
    }
    let setting = |lines: &[&str]| {
        let line = lines.iter().find(|line| key(line) == differing);
        line.map_or(format!("no {differing}"), |line| line.trim().to_owned())
    };
    Some((setting(&old), setting(&new)))
}

/// Numbers by flat names.
pub type Metrics = BTreeMap<String, f64>;
/// Texts stored with results: the backbone they come from ([`crate::checkpoint::Origin::texts`]), episodes,
/// leakage.
pub type Texts = BTreeMap<String, String>;

/// Writes metrics to any path: flat names to numbers, with `schema`, `seconds` and `device`, and the texts
/// given.
///
/// # Errors
/// [`Error::Io`].
pub fn write_metrics(path: &Path, metrics: &Metrics, texts: Texts, seconds: f64, device: &str) -> Result<()> {
    let texts = texts.into_iter().map(|(key, text)| (key, json!(text)));
    let mut object: Map<String, Value> = metrics
        .iter()
        .map(|(k, v)| (k.clone(), json!(v)))
        .chain(texts)
        .collect();
    object.insert("schema".into(), json!(SCHEMA));
    object.insert("seconds".into(), json!(seconds));
    object.insert("device".into(), json!(device));
    write_atomically(path, |out| writeln!(out, "{:#}", Value::Object(object)))
}

/// Locks a folder for this process until the file is dropped; `None` when another process holds it. The
/// system releases the lock however the process ends.
///
/// # Errors
/// [`Error::Io`].
pub fn lock(folder: &Path) -> Result<Option<File>> {
    let path = folder.join(LOCK);
    let file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(Error::io(&path, "write"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        // A file system without locks: training without a lock is better than refusing.
        Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => Ok(Some(file)),
        Err(TryLockError::Error(e)) => Err(Error::io(&path, "lock")(e)),
    }
}

/// Whether a process is writing the run in a folder.
pub fn is_locked(folder: &Path) -> bool {
    folder.join(LOCK).exists() && lock(folder).is_ok_and(|held| held.is_none())
}

/// Start of the line in an evaluation's config.toml that names its command.
const COMMAND: &str = "command = ";
const LOCK: &str = ".lock";
const STATE: &str = "state.safetensors";
const PREVIOUS: &str = "state.previous.safetensors";

fn read_state(path: &Path) -> Result<SavedState> {
    let file = TensorFile::open(path)?;
    if file.metadata().get("format").map(String::as_str) != Some(STATE_FORMAT) {
        return Err(Error::file(
            path,
            "is not a training state",
            "give another --out, or --overwrite to start again",
        ));
    }
    file.check_version(VERSION)?;
    file.verify()?;
    let position = Position {
        step: file.number("step")?,
        seconds: file.number("seconds")?,
    };
    Ok(SavedState {
        position,
        tensors: file.tensors()?,
        warning: None,
    })
}

#[cfg(test)]
mod tests {
    use super::difference;

    const CONFIG: &str =
        "lr = 0.1\ndata = \"a.pack\"\nlabels = \"classes\"\n\n[dataset]\nsha256 = \"1\"\n[build]\nx = 1\n";

    fn differs(from: &str, to: &str) -> Option<(String, String)> {
        assert!(CONFIG.contains(from));
        difference(CONFIG, CONFIG.replace(from, to).split("[build]").next().unwrap())
    }

    #[test]
    fn settings_and_content_are_compared_and_spellings_are_not() {
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(differs("a.pack", "/elsewhere/a.pack"), None);
        assert_eq!(differs("0.1", "0.2"), pair("lr = 0.1", "lr = 0.2"));
        assert_eq!(differs("lr = 0.1\n", ""), pair("lr = 0.1", "no lr"));
        // `labels` of pretraining is not a folder.
        assert_eq!(
            differs("classes", "categories"),
            pair("labels = \"classes\"", "labels = \"categories\"")
        );
        assert_eq!(
            differs("sha256 = \"1\"", "sha256 = \"2\""),
            pair("sha256 = \"1\"", "sha256 = \"2\"")
        );
        let other = CONFIG
            .replace("a.pack", "b.pack")
            .replace("sha256 = \"1\"", "sha256 = \"2\"");
        assert_eq!(
            difference(CONFIG, &other),
            pair("data = \"a.pack\"", "data = \"b.pack\"")
        );
    }
}
