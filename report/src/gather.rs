//! Reads result folders: suites by their records, other run folders by their files.

use crate::folder;
use crate::log::Course;
use crate::measured::{Measured, episodes_sha256, metrics};
use crate::record::{
    self, CellRecord, EPISODES, PRETRAIN, RunRecord, SUITE, State, Suite, cell_folder, run_folder,
};
use crate::rows::{Gap, Gathered, Row, Seed, TaskResult, tasks};
use camtrast_common::checkpoint::{Origin, kept_file};
use camtrast_common::error::{Error, Result};
use camtrast_common::tensor_file::hex;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

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
            let is_given = task == PRETRAIN && (run.imported.is_some() || run.kept.is_some());
            if is_given || !suite.plans(task, seed) {
                continue;
            }
            let folder = cell_folder(root, &run.slug, seed, task);
            let made = match &run.kept {
                None => None,
                Some(kept) => {
                    let path = run_folder(root, &kept.run, seed).join(kept_file(kept.epoch));
                    Origin::read(&path).ok().map(|origin| origin.backbone_sha256)
                }
            };
            let pretraining = cells.first().filter(|c| c.task == PRETRAIN);
            let mut found = found(task, folder, pretraining, made)?;
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

// `made` is the checksum of the backbone that the task has to start from, if that is not the pretraining's
// last.
fn found(
    task: &str,
    folder: PathBuf,
    pretraining: Option<&TaskResult>,
    made: Option<String>,
) -> Result<TaskResult> {
    let cell: Option<CellRecord> = record::read(&folder.join(record::CELL))?;
    let course = Course::read(&folder)?;
    let (measured, gap) = match outcome(&folder, cell.as_ref(), &course, pretraining, made)? {
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
    made: Option<String>,
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
    let last = pretraining
        .filter(|p| p.metrics.is_ok())
        .map(|p| p.cell.checkpoint_sha256.clone());
    if made.or(last).is_some_and(|made| made != cell.checkpoint_sha256) {
        return Ok(Err(Gap::new(
            "outdated",
            "measured with an older backbone than the one in the folder now",
        )));
    }
    metrics(&path).map(Ok)
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
