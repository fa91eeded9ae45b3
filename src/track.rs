//! Runs for the tools in which people follow experiments: MLflow, and tables that others import. Everything
//! is read from the files of a run, and nothing is sent anywhere unless a target is named.

mod files;
mod record;
mod server;
mod table;

use crate::screen::Screen;
use anyhow::Result;
use camtrast_common::Error;
use camtrast_common::log::{Log, Picture};
use camtrast_common::progress::Progress;
use camtrast_images::size::size;
use record::Record;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Where runs are written to.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// A folder in the layout of MLflow's file store.
    MlflowFolder(PathBuf),
    /// The address of an MLflow server.
    MlflowServer(String),
    /// A folder of CSV files.
    Tables(PathBuf),
}

impl FromStr for Target {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("mlflow", url)) if url.starts_with("http://") || url.starts_with("https://") => {
                Ok(Target::MlflowServer(url.trim_end_matches('/').to_owned()))
            }
            Some(("mlflow", folder)) if !folder.is_empty() => Ok(Target::MlflowFolder(folder.into())),
            Some(("csv", folder)) if !folder.is_empty() => Ok(Target::Tables(folder.into())),
            _ => Err("is not mlflow:DIR, mlflow:http://HOST:PORT or csv:DIR".into()),
        }
    }
}

/// Writes what a run folder has so far; done again, only what is new is added.
///
/// # Errors
/// A folder that is not a run's, a target that cannot be written or reached.
pub fn track(run: &Path, target: &Target) -> Result<()> {
    let record = Record::read(run)?;
    match target {
        Target::MlflowFolder(folder) => files::write(&record, folder),
        Target::MlflowServer(url) => server::send(&record, url),
        Target::Tables(folder) => table::write(&record, folder),
    }
}

/// Seconds between two looks at the log of a run in progress.
const INTERVAL: Duration = Duration::from_secs(10);

/// Does `work`, which writes the run folder, and tracks the run meanwhile and when it ends. A target that
/// fails stops nothing: it is said once, and `camtrast track` makes up for it.
pub fn tracking<T>(
    target: Option<&Target>,
    run: &Path,
    screen: &Screen,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let Some(target) = target else {
        return work();
    };
    std::thread::scope(|scope| {
        let (end, ended) = channel::<()>();
        let follow = scope.spawn(move || {
            while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                // The folder may not be there yet, and the end reports what lasts.
                let _ = track(run, target);
            }
        });
        let outcome = work();
        drop(end);
        let _ = follow.join();
        if let Err(error) = track(run, target) {
            screen.note(&format!("warning: the run is not tracked: {error}"));
        }
        outcome
    })
}

/// Shows the pictures of a run in TensorBoard, next to the numbers that the training has logged.
///
/// # Errors
/// A picture that cannot be read, a folder that cannot be written.
pub fn pictures_for_tensorboard(run: &Path, step: u64) -> Result<()> {
    let read = |path: PathBuf| -> Result<Picture> {
        let (width, height) = size(&path, false)?.stored;
        let name = path.strip_prefix(run).unwrap_or(&path).with_extension("");
        Ok(Picture {
            name: name.display().to_string(),
            size: (width as u64, height as u64),
            bytes: fs::read(&path).map_err(Error::io(&path, "read"))?,
        })
    };
    let pictures: Vec<Picture> = record::pictures(run)
        .into_iter()
        .map(read)
        .collect::<Result<_>>()?;
    if !pictures.is_empty() {
        Log::write_pictures(run, step, &pictures)?;
    }
    Ok(())
}

/// An error of the settings of tracking.
fn refused(what: String, remedy: &str) -> Error {
    Error::settings(what, remedy)
}
