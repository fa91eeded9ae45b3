//! Finished results: in a cell's own folder, in `outdated/`, or in another suite. They are found by their
//! key.

use super::cell::SuiteCell;
use super::content::Contents;
use anyhow::Result;
use camtrast_common::Error;
use camtrast_common::checkpoint::{Origin, is_kept_file};
use camtrast_common::files::names;
use camtrast_common::run::is_locked;
use camtrast_datasets::fetch::file_sha256;
use camtrast_report::record::{self, CELL, EPISODES, State};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Files of a cell that the report, tasks and other suites read.
const FILES: [&str; 4] = [
    "metrics.json",
    EPISODES,
    "backbone.safetensors",
    "classifier.safetensors",
];

/// What has to be done for a cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Nothing: it is done, and its files are unchanged.
    Keep,
    /// Take over the result with the same key from another folder.
    Take(PathBuf),
    /// Run its command; after an interrupt or a failure, resume it.
    Go,
}

/// Folders of suites to look in.
pub struct Store {
    own: PathBuf,
    others: Vec<PathBuf>,
}

impl Store {
    /// For a suite and other suites to reuse.
    pub fn new(own: &Path, others: &[PathBuf]) -> Self {
        Store {
            own: own.to_owned(),
            others: others.to_vec(),
        }
    }

    /// What has to be done for a cell, and its record if it has a readable one.
    pub fn step(
        &self,
        cell: &SuiteCell,
        key: &str,
        contents: &mut Contents,
    ) -> (Step, Option<record::CellRecord>) {
        let old = recorded(&cell.folder);
        let step = match &old {
            Some(old)
                if old.key == key
                    && old.state == State::Done
                    && damage(&cell.folder, old, contents).is_none() =>
            {
                Step::Keep
            }
            Some(old) if old.key == key && old.state != State::Done => Step::Go,
            _ => self.find(cell, key, contents).map_or(Step::Go, Step::Take),
        };
        (step, old)
    }

    fn find(&self, cell: &SuiteCell, key: &str, contents: &mut Contents) -> Option<PathBuf> {
        let aside = self.own.join("outdated");
        let places = [aside.clone(), self.own.join("runs")].into_iter();
        let others = self
            .others
            .iter()
            .flat_map(|suite| [suite.join("runs"), suite.join("outdated")]);
        let tops = places.chain(others).flat_map(|place| folders(&place));
        let mut candidates = tops.flat_map(|top| [vec![top.clone()], folders(&top)].concat());
        candidates.find(|folder| {
            let Some(old) = recorded(folder).filter(|old| old.key == key && *folder != cell.folder) else {
                return false;
            };
            match old.state {
                State::Done => damage(folder, &old, contents).is_none(),
                // An interrupted command here resumes from its state; one in another suite may still be
                // running.
                State::Begun => folder.starts_with(&aside) && !is_locked(folder),
                State::Failed => false,
            }
        })
    }

    /// Puts the result that [`Step::Take`] names into a cell's folder: moves it from `outdated/`, copies it
    /// from elsewhere.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn take(&self, cell: &SuiteCell, from: &Path) -> Result<record::CellRecord> {
        if from.starts_with(self.own.join("outdated")) && !cell.folder.exists() {
            if let Some(parent) = cell.folder.parent() {
                fs::create_dir_all(parent).map_err(Error::io(parent, "create"))?;
            }
            fs::rename(from, &cell.folder).map_err(Error::io(&cell.folder, "write"))?;
        } else {
            copy(from, &cell.folder)?;
        }
        let record = recorded(from)
            .or_else(|| recorded(&cell.folder))
            .unwrap_or_default();
        Ok(record::CellRecord {
            run: cell.run.clone(),
            task: cell.task.clone(),
            ..record
        })
    }
}

/// The record of a cell, if it has a readable one.
pub fn recorded(folder: &Path) -> Option<record::CellRecord> {
    record::read(&folder.join(CELL)).ok().flatten()
}

/// The checksum stored in a backbone's file.
pub fn backbone_sha256(path: &Path) -> Result<String> {
    Ok(Origin::read(path)?.backbone_sha256)
}

/// The first file that has changed since the cell's command wrote it.
pub fn damage(folder: &Path, record: &record::CellRecord, contents: &mut Contents) -> Option<String> {
    let mut files = record.files.iter();
    let changed = files.find(|(name, sum)| contents.file(&folder.join(name)).ok().as_ref() != Some(*sum));
    changed
        .map(|(name, _)| name.clone())
        .or(record.files.is_empty().then(|| "cell.json".into()))
}

/// Checksums of the files of a cell that others read.
///
/// # Errors
/// [`Error::Io`].
pub fn files(folder: &Path) -> Result<BTreeMap<String, String>> {
    let all = names(folder)?.into_iter();
    let read = all.filter(|name| FILES.contains(&&name[..]) || is_kept_file(name));
    Ok(read
        .map(|name| {
            let sum = file_sha256(&folder.join(&name))?;
            Ok((name, sum))
        })
        .collect::<camtrast_common::Result<_>>()?)
}

fn folders(place: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders
}

/// Copies the files of a cell, but not its tasks, which are separate cells, and not files that only its
/// process needed.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).map_err(Error::io(to, "create"))?;
    for entry in fs::read_dir(from).map_err(Error::io(from, "list"))? {
        let entry = entry.map_err(Error::io(from, "list"))?;
        let (path, name) = (entry.path(), entry.file_name());
        let text = name.to_string_lossy();
        if path.is_dir() {
            if !path.join(CELL).exists() {
                copy(&path, &to.join(&name))?;
            }
        } else if text != CELL && text != ".lock" && !text.starts_with("state.") && !text.ends_with(".part") {
            let place = to.join(&name);
            fs::copy(&path, &place).map_err(Error::io(&place, "write"))?;
        }
    }
    Ok(())
}
