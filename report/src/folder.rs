//! Run folders without a suite's records: `pretrain`, `detection train`, `segmentation train`, `probe
//! finetune`, and `fewshot eval` and `probe eval` with `--out`.
//!
//! A run folder is a row, and so is every run folder in a folder of them. The folders below a pretraining
//! that hold metrics are its tasks.

use crate::log::Course;
use crate::measured::{Measured, episodes_sha256, metrics};
use crate::protocol::protocol;
use crate::record::{self, CellRecord, Column, EPISODES, PRETRAIN, RunRecord, State, Suite};
use crate::rows::{Gap, Row, Seed, TaskResult};
use camtrast_common::checkpoint::IMPORTED;
use camtrast_common::error::{Error, Result};
use camtrast_common::tensor_file::{TensorFile, hex};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use toml::Table;

/// Known numbers: name in metrics.json, title, whether in percent, whether in the headline tables.
const KNOWN: [(&str, &str, bool, bool); 18] = [
    ("probe/linear/top1", "linear", true, true),
    ("probe/knn/top1", "kNN", true, true),
    ("probe/knn_weighted/top1", "weighted kNN", true, false),
    ("probe/finetune/top1", "fine-tuned", true, true),
    ("detection/AP50", "AP50", true, true),
    ("detection/AP", "AP", true, true),
    ("detection/AP75", "AP75", true, true),
    ("detection/voc07_mAP", "VOC07 mAP", true, false),
    ("segmentation/mIoU", "mIoU", true, true),
    ("segmentation/category_mIoU", "category mIoU", true, false),
    ("segmentation/pixel_accuracy", "pixels right", true, false),
    ("representation/entropy", "H_R", false, false),
    ("representation/uniformity", "U", false, false),
    ("representation/rankme", "RankMe", false, false),
    ("representation/alpha_req", "a-ReQ", false, false),
    ("representation/lidar", "LiDAR", false, false),
    ("representation/logme", "LogME", false, false),
    ("pretrain/loss", "pretraining loss", false, false),
];

/// The rows of a folder, and the columns of their metrics.
///
/// # Errors
/// [`Error::File`] naming the file that is damaged, [`Error::Io`].
pub(crate) fn rows(root: &Path) -> Result<(Suite, Vec<Row>)> {
    let folders = if is_run(root) {
        vec![root.to_owned()]
    } else {
        below(root)?
    };
    let mut rows = Vec::new();
    for folder in folders.into_iter().filter(|folder| is_run(folder)) {
        rows.push(row(&folder)?);
    }
    let mut columns: Vec<Column> = Vec::new();
    for found in rows.iter().flat_map(|row| &row.seeds[0].cells) {
        for column in found
            .metrics
            .iter()
            .flat_map(|metrics| metrics.keys())
            .filter_map(|name| column(name, &found.task))
        {
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
    }
    columns.sort_by_key(|column| (!column.headline, place(column), column.metric.clone()));
    Ok((
        Suite {
            runs: rows.iter().map(|row| row.run.clone()).collect(),
            columns,
            ..Suite::default()
        },
        rows,
    ))
}

fn is_run(folder: &Path) -> bool {
    folder.join("metrics.json").exists() || folder.join("config.toml").exists()
}

fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(Error::io(folder, "list"))?;
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    paths.sort();
    Ok(paths)
}

fn row(folder: &Path) -> Result<Row> {
    let first = found(folder)?;
    let mut cells = vec![first];
    if cells[0].task == PRETRAIN {
        for task in below(folder)?.iter().filter(|path| is_run(path)) {
            cells.push(found(task)?);
        }
    }
    let absolute = folder.canonicalize().map_err(Error::io(folder, "read"))?;
    let name = absolute
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let (table, origin) = (config(&cells[0]), &cells[0].origin);
    let text = |key: &str| table.get(key).and_then(toml::Value::as_str).map(str::to_owned);
    let made = Some(origin.method.clone()).filter(|method| !method.is_empty());
    let imported = origin.method == IMPORTED;
    let method = text("method").or(made).filter(|_| !imported);
    // Older evaluations left no config.toml to name it.
    let imported = imported.then(|| text("checkpoint").unwrap_or_default().into());
    let seed = cells[0].cell.seed;
    for found in &mut cells {
        found.cell.run = name.clone();
    }
    let run = RunRecord {
        slug: name.clone(),
        name,
        method,
        imported,
        ..RunRecord::default()
    };
    Ok(Row {
        run,
        suite: 0,
        seeds: vec![Seed {
            seed,
            folder: folder.to_owned(),
            cells,
        }],
    })
}

fn config(found: &TaskResult) -> Table {
    found
        .config
        .as_deref()
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}

fn found(folder: &Path) -> Result<TaskResult> {
    let path = folder.join("config.toml");
    let text = fs::read_to_string(&path).ok();
    let table: Table = match &text {
        Some(text) => text.parse().map_err(|e| {
            Error::file(
                &path,
                format!("is damaged: {}", toml::de::Error::message(&e)),
                "restore it, or remove it and --overwrite the run",
            )
        })?,
        None => Table::new(),
    };
    let Measured {
        numbers: metrics,
        origin,
        leakage,
    } = metrics(&folder.join("metrics.json"))?;
    let task = task(&metrics, &table);
    let sub = |name: &str, key: &str| {
        table
            .get(name)
            .and_then(|t| t.get(key))
            .and_then(toml::Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    // Pretrainings have no protocol: their differences are what is compared.
    let protocol_settings = if task == PRETRAIN {
        Some(Vec::new())
    } else {
        protocol(&table)
    };
    // An evaluation names its command; the others are trainings.
    let command = match (&sub("build", "command")[..], task) {
        ("", PRETRAIN) => "pretrain".to_owned(),
        ("", "detection" | "segmentation") => format!("{task} train"),
        ("", "probe") => "probe finetune".to_owned(),
        (command, _) => command.to_owned(),
    };
    let command = match &text {
        Some(_) if !command.is_empty() => {
            format!("camtrast {command} --config {} --out AGAIN", path.display())
        }
        _ => String::new(),
    };
    let checkpoint_sha256 = match task == PRETRAIN {
        true => TensorFile::open(&folder.join("backbone.safetensors"))
            .ok()
            .and_then(|f| f.checksum().map(str::to_owned).ok()),
        // Older evaluations have it in metrics.json only.
        false => Some(sub("dataset", "backbone_sha256"))
            .filter(|sum| !sum.is_empty())
            .or(Some(origin.backbone_sha256.clone())),
    };
    let cell = CellRecord {
        seed: table
            .get("seed")
            .and_then(toml::Value::as_integer)
            .unwrap_or_default() as u64,
        task: task.to_owned(),
        protocol: protocol_settings
            .as_ref()
            .map(|lines| hex(&Sha256::digest(lines.join("\n"))))
            .unwrap_or_default(),
        protocol_settings: protocol_settings.unwrap_or_default(),
        command,
        checkpoint_sha256: checkpoint_sha256.unwrap_or_default(),
        version: sub("build", "version"),
        commit: sub("build", "commit"),
        seconds: metrics.get("seconds").copied().unwrap_or_default(),
        state: if metrics.is_empty() {
            State::Begun
        } else {
            State::Done
        },
        ..CellRecord::default()
    };
    let course = Course::read(folder)?;
    Ok(TaskResult {
        task: task.to_owned(),
        cell,
        metrics: if metrics.is_empty() {
            Err(Gap::interrupted(&course))
        } else {
            Ok(metrics)
        },
        origin,
        episodes_sha256: episodes_sha256(text.as_deref().unwrap_or_default()),
        config: text,
        course,
        leakage,
        episodes: record::read(&folder.join(EPISODES))?.unwrap_or_default(),
        folder: folder.to_owned(),
    })
}

/// The task of its numbers; if there are none yet, the task of its settings.
fn task(metrics: &BTreeMap<String, f64>, config: &Table) -> &'static str {
    let measured = metrics.keys().find_map(|name| Some(name.split_once('/')?.0));
    let tasks = [
        ("fewshot", "shots"),
        ("detection", "anchor-sizes"),
        ("segmentation", "output-stride"),
        ("probe", "label-share"),
        ("probe", "normalize"),
        ("representation", ""),
    ];
    let is_it = |(task, key): &(&str, &str)| measured.map_or(config.contains_key(*key), |name| name == *task);
    tasks.into_iter().find(is_it).map_or(PRETRAIN, |(task, _)| task)
}

fn column(metric: &str, task: &str) -> Option<Column> {
    let column = |title: &str, ci95, percent, headline| {
        Some(Column {
            title: title.to_owned(),
            task: task.to_owned(),
            metric: metric.to_owned(),
            ci95,
            percent,
            headline,
            validation: false,
        })
    };
    if let Some(probe) = metric
        .strip_prefix("fewshot/")
        .and_then(|m| m.strip_suffix("/mean"))
    {
        let shots = probe
            .split_once("way")
            .map_or(probe, |(_, shots)| shots)
            .trim_end_matches("shot");
        return column(
            &format!("{shots}-shot"),
            Some(format!("fewshot/{probe}/ci95")),
            true,
            true,
        );
    }
    let (_, title, percent, headline) = KNOWN.into_iter().find(|known| known.0 == metric)?;
    // A probe's interval is one over test images.
    let ci95 = metric
        .strip_prefix("probe/")
        .and_then(|m| m.strip_suffix("/top1"));
    let ci95 = ci95.map(|probe| format!("probe/{probe}/ci95"));
    column(title, ci95, percent, headline)
}

/// Few-shot first, then as in [`KNOWN`].
fn place(column: &Column) -> usize {
    KNOWN
        .iter()
        .position(|known| known.0 == column.metric)
        .map_or(0, |i| i + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_have_their_usual_titles() {
        let one = column("fewshot/5way1shot/mean", "fewshot").unwrap();
        assert_eq!(
            (&one.title[..], one.ci95.as_deref()),
            ("1-shot", Some("fewshot/5way1shot/ci95"))
        );
        let probe = column("probe/linear/top1", "probe").unwrap();
        assert_eq!(
            (&probe.title[..], probe.ci95.as_deref()),
            ("linear", Some("probe/linear/ci95"))
        );
        assert_eq!(column("detection/AP50", "detection").unwrap().title, "AP50");
        assert_eq!(column("detection/AP50/chair", "detection"), None);
    }
}
