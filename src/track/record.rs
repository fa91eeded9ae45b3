//! A run as its folder shows it: settings, numbers over steps, final numbers, pictures.

use anyhow::Result;
use camtrast_common::Error;
use camtrast_common::tensor_file::hex;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// One run.
pub struct Record {
    /// 32 hexadecimal digits, from the folder's path: the same run whenever it is tracked.
    pub id: String,
    /// Name of the folder.
    pub name: String,
    pub folder: PathBuf,
    /// Settings by name, as `dataset.sha256`, in the order of config.toml.
    pub settings: Vec<(String, String)>,
    /// Numbers in the order of the log.
    pub numbers: Vec<Number>,
    /// Whether it has ended.
    pub ended: bool,
    /// Milliseconds since 1970: when its settings and its last numbers were written.
    pub begun: u64,
    pub changed: u64,
    /// PNG and JPEG files.
    pub pictures: Vec<PathBuf>,
}

/// A number of a step; those of metrics.json belong to the last one.
#[derive(Debug, Clone, PartialEq)]
pub struct Number {
    pub name: String,
    pub step: u64,
    pub value: f64,
}

impl Record {
    /// # Errors
    /// When the folder has no config.toml, or its files are damaged.
    pub fn read(folder: &Path) -> Result<Record> {
        let path = folder.join("config.toml");
        if !path.is_file() {
            let remedy = "give a folder that a training or an evaluation has written";
            return Err(Error::file(folder, "has no config.toml", remedy).into());
        }
        let damaged = |path: &Path, error: String| Error::file(path, error, "run the command again");
        let read = |path: &Path| fs::read_to_string(path).map_err(Error::io(path, "read"));
        let table: toml::Table = read(&path)?
            .parse()
            .map_err(|e: toml::de::Error| damaged(&path, format!("is not TOML ({})", e.message())))?;
        let mut settings = Vec::new();
        flatten("", &toml::Value::Table(table), &mut settings);

        let (log, mut numbers) = (folder.join("log.jsonl"), Vec::new());
        for line in read(&log).unwrap_or_default().lines() {
            // A last line may be half written by a run in progress.
            let Ok(object) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            let step = object["step"].as_u64().unwrap_or_default();
            let kind = object["kind"].as_str().unwrap_or("step").to_owned();
            let named = object.as_object().into_iter().flatten();
            numbers.extend(
                named
                    .filter(|(name, _)| *name != "step")
                    .filter_map(|(name, value)| {
                        let name = format!("{kind}/{name}");
                        Some(Number {
                            name,
                            step,
                            value: value.as_f64()?,
                        })
                    }),
            );
        }
        let last = numbers.last().map_or(0, |number| number.step);
        let metrics = folder.join("metrics.json");
        let ended = metrics.is_file();
        if ended {
            let object: serde_json::Map<String, Value> = serde_json::from_str(&read(&metrics)?)
                .map_err(|e| damaged(&metrics, format!("is not an object of JSON ({e})")))?;
            numbers.extend(object.into_iter().filter_map(|(name, value)| {
                let shown = name.contains('/') || name == "seconds";
                Some(Number {
                    name,
                    step: last,
                    value: value.as_f64()?,
                })
                .filter(|_| shown)
            }));
        }

        let whole = fs::canonicalize(folder).map_err(Error::io(folder, "find"))?;
        let digest = Sha256::digest(whole.as_os_str().as_encoded_bytes());
        let changed = [&metrics, &log, &path]
            .into_iter()
            .filter_map(|file| milliseconds(file))
            .max();
        Ok(Record {
            id: hex(&digest[..16]),
            name: whole
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            settings,
            numbers,
            ended,
            begun: milliseconds(&path).unwrap_or_default(),
            changed: changed.unwrap_or_default(),
            pictures: pictures(folder),
            folder: whole,
        })
    }
}

fn milliseconds(path: &Path) -> Option<u64> {
    let time = fs::metadata(path).ok()?.modified().ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_millis() as u64)
}

fn flatten(name: &str, value: &toml::Value, out: &mut Vec<(String, String)>) {
    match value {
        toml::Value::Table(table) => table.iter().for_each(|(key, value)| {
            let name = if name.is_empty() {
                key.clone()
            } else {
                format!("{name}.{key}")
            };
            flatten(&name, value, out);
        }),
        toml::Value::String(text) => out.push((name.to_owned(), text.clone())),
        other => out.push((name.to_owned(), other.to_string())),
    }
}

/// The pictures that the commands leave: below `pictures/`, and those in the folder itself.
pub fn pictures(folder: &Path) -> Vec<PathBuf> {
    let inside = |folder: PathBuf| {
        fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
    };
    let found = inside(folder.join("pictures")).chain(inside(folder.to_owned()));
    let is_picture = |path: &PathBuf| path.extension().is_some_and(|e| e == "png" || e == "jpg");
    let mut found: Vec<PathBuf> = found.filter(is_picture).collect();
    found.sort();
    found
}
