//! The protocol of an evaluation, stored with its results: all settings, the data, the network. The report
//! compares only results of one protocol.

use anyhow::Result;
use camtrast_common::leakage::{LEAKAGE, Prints};
use camtrast_common::progress::Progress;
use camtrast_common::run::{Build, Metrics, RunFolder, Texts, write_metrics};
use std::path::{Path, PathBuf};
use std::time::Instant;
use toml::{Table, Value};

/// The record of an evaluation, as written to its config.toml, and its start time.
pub struct Protocol {
    command: &'static str,
    config: Table,
    begun: Instant,
}

impl Protocol {
    /// Begins the record of `command`, such as `fewshot eval`, whose results go to `out`, if given.
    ///
    /// # Errors
    /// [`camtrast_common::Error::File`] when `out` holds a training run, before any work is done.
    pub fn begin(command: &'static str, out: Option<&Path>) -> Result<Self> {
        out.map_or(Ok(()), RunFolder::refuse_training)?;
        Ok(Protocol {
            command,
            config: Table::new(),
            begun: Instant::now(),
        })
    }

    /// Adds a setting by the name of its flag.
    pub fn set(&mut self, flag: &str, value: impl Into<Value>) {
        self.config.insert(flag.into(), value.into());
    }

    /// Adds a setting if it is given.
    pub fn set_if(&mut self, flag: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(flag, value);
        }
    }

    /// Adds all settings of a struct of flags.
    pub fn set_all(&mut self, flags: &impl serde::Serialize) {
        let table: Table = Table::try_from(flags).expect("flags serialise as a table");
        self.config.extend(table);
    }

    /// Adds to a table of the record: `dataset` holds checksums of what was measured on, `network` how a
    /// fine-tuned network was trained, `episodes` checksums of episodes.
    pub fn note(&mut self, table: &str, key: &str, value: impl Into<Value>) {
        let entry = self.config.entry(table).or_insert_with(|| Table::new().into());
        entry
            .as_table_mut()
            .expect("no flag has the name of a table")
            .insert(key.into(), value.into());
    }

    /// Adds how a fine-tuned network was trained, from the JSON in its file, and on which images, if the file
    /// says so.
    pub fn trained(&mut self, config: &str, images: &Prints) {
        let settings: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(config).unwrap_or_default();
        for (key, value) in settings {
            if let Ok(value) = Value::try_from(value) {
                self.note("network", &key, value);
            }
        }
        if !images.is_empty() {
            self.note("network", "training_files", images.sum());
        }
    }

    /// The command's name.
    pub fn command(&self) -> &'static str {
        self.command
    }

    /// Writes config.toml where `out` is a folder, and metrics.json.
    ///
    /// # Errors
    /// [`camtrast_common::Error::Io`].
    pub fn write(self, out: &Path, metrics: &Metrics, texts: Texts, device: &str) -> Result<()> {
        let (path, begun) = (metrics_path(out)?, self.begun);
        if path != out {
            self.write_config(out, device)?;
        }
        let seconds = begun.elapsed().as_secs_f64();
        Ok(write_metrics(&path, metrics, texts, seconds, device)?)
    }

    /// Writes config.toml into the folder `out`.
    ///
    /// # Errors
    /// [`camtrast_common::Error::Io`].
    pub fn write_config(self, out: &Path, device: &str) -> Result<()> {
        let build = Build {
            version: env!("CARGO_PKG_VERSION").into(),
            commit: env!("CAMTRAST_COMMIT").into(),
        };
        // Tables last: TOML requires it.
        let (tables, settings): (Table, Table) =
            self.config.into_iter().partition(|(_, value)| value.is_table());
        let config = settings.into_iter().chain(tables).collect::<Table>().to_string();
        Ok(RunFolder::create(out)?.record(self.command, &config, &build, device)?)
    }
}

/// Whether `--out` names the file of the metrics and not a folder for it.
pub fn is_json(out: &Path) -> bool {
    out.extension().is_some_and(|e| e == "json")
}

/// metrics.json in a folder, or the .json file itself.
pub fn metrics_path(out: &Path) -> Result<PathBuf> {
    if is_json(out) {
        return Ok(out.to_owned());
    }
    Ok(RunFolder::create(out)?.file("metrics.json"))
}

/// Warns, also with `--quiet`, that a network was trained on data it is tested on, and stores the warning
/// with the results.
pub fn tell_leakage(leakage: Option<String>, texts: &mut Texts, screen: &dyn Progress) {
    if let Some(leakage) = leakage {
        screen.note(&format!("warning: {leakage}; these numbers are marked with it"));
        texts.insert(LEAKAGE.to_owned(), leakage);
    }
}
