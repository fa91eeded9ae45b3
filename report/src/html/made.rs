//! How each number was made, as the template shows it.

use crate::record::PRETRAIN;
use crate::rows::{Gathered, Row, TaskResult};
use crate::words;
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct Made {
    id: String,
    name: String,
    method: Option<String>,
    imported: bool,
    /// File of a given backbone.
    brought: Option<String>,
    own: Vec<(String, Vec<String>)>,
    tasks: Vec<MadeTask>,
}

#[derive(Serialize)]
struct MadeTask {
    id: String,
    task: String,
    seeds: Vec<MadeSeed>,
}

#[derive(Serialize)]
struct MadeSeed {
    seed: u64,
    gap: Option<String>,
    checkpoint: String,
    command: String,
    program: String,
    seconds: Option<String>,
    folder: String,
    config: Option<String>,
    protocol: Vec<String>,
}

/// Address of how the cells of a row and task were made.
pub(super) fn anchor(all: &Gathered, row: usize, task: &str) -> String {
    let task = all.tasks().iter().position(|known| *known == task).unwrap_or(0);
    format!("made-{row}-{task}")
}

pub(super) fn made(all: &Gathered, index: usize, row: &Row) -> Made {
    let task = |task: &&str| {
        let cells: Vec<(u64, &TaskResult)> = row.cells(task).collect();
        (!cells.is_empty()).then(|| MadeTask {
            id: anchor(all, index, task),
            task: (*task).to_owned(),
            seeds: cells
                .iter()
                .map(|(seed, found)| made_seed(*seed, found))
                .collect(),
        })
    };
    let own = row
        .run
        .own_settings
        .iter()
        .filter(|(_, settings)| !settings.is_empty());
    let mut own: Vec<(String, Vec<String>)> = own
        .map(|(task, settings)| (task.clone(), settings.clone()))
        .collect();
    own.sort_by_key(|(task, _)| task != PRETRAIN);
    Made {
        id: format!("made-{index}"),
        name: row.run.name.clone(),
        method: row.run.method.clone(),
        imported: row.is_imported(),
        brought: row.run.imported.as_ref().map(|path| path.display().to_string()),
        own,
        tasks: all.tasks().iter().filter_map(task).collect(),
    }
}

fn made_seed(seed: u64, found: &TaskResult) -> MadeSeed {
    let cell = &found.cell;
    MadeSeed {
        seed,
        gap: found.metrics.as_ref().err().map(|gap| gap.why.clone()),
        checkpoint: cell.checkpoint_sha256.clone(),
        command: cell.command.clone(),
        program: match (&cell.version[..], &cell.commit[..]) {
            ("", "") => String::new(),
            (version, commit) => format!("camtrast {version} ({commit})"),
        },
        seconds: (cell.seconds > 0.0).then(|| words::clock(cell.seconds)),
        folder: found.folder.display().to_string(),
        config: found.config.clone(),
        protocol: cell.protocol_settings.clone(),
    }
}
