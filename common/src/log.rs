//! The logs of a run: log.jsonl and TensorBoard event files.

use crate::error::{Error, Result};
use crate::run::RunFolder;
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A picture for TensorBoard.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Its name.
    pub name: String,
    /// Width and height in pixels.
    pub size: (u64, u64),
    /// The content of a PNG or JPEG file.
    pub bytes: Vec<u8>,
}

impl Picture {
    // `Summary.value`, with `Value`: tag = 1, image = 4, and `Image`: height = 1, width = 2, colorspace = 3,
    // encoded_image_string = 4.
    fn value(&self, prefix: &str) -> Vec<u8> {
        const RGB: u64 = 3;
        let mut image = Vec::new();
        for (number, value) in [(1, self.size.1), (2, self.size.0), (3, RGB)] {
            image.push(number << 3);
            varint(value, &mut image);
        }
        image.extend(field(4, &self.bytes));
        let tag = field(1, format!("{prefix}{}", self.name).as_bytes());
        field(1, &[tag, field(4, &image)].concat())
    }
}

/// Appends to both logs.
pub struct Log {
    json: File,
    json_path: PathBuf,
    events: File,
    events_path: PathBuf,
}

impl Log {
    /// Opens the logs of a run that resumes at `step`: later lines, written by an interrupted attempt, are
    /// removed.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(run: &RunFolder, step: u64) -> Result<Self> {
        let json_path = run.file("log.jsonl");
        if let Ok(old) = fs::read_to_string(&json_path) {
            let kept = |line: &&str| {
                serde_json::from_str::<Value>(line)
                    .is_ok_and(|v| v["step"].as_u64().is_some_and(|s| s <= step))
            };
            let lines: Vec<&str> = old.lines().filter(kept).collect();
            crate::files::write_atomically(&json_path, |out| {
                lines.iter().try_for_each(|line| writeln!(out, "{line}"))
            })?;
        }
        let append = |path: &PathBuf| {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map_err(Error::io(path, "write"))
        };
        let json = append(&json_path)?;
        let events_path = run.file(&format!(
            "events.out.tfevents.{:.0}.camtrast.{}",
            now(),
            std::process::id()
        ));
        let events = append(&events_path)?;
        let mut log = Log {
            json,
            json_path,
            events,
            events_path,
        };
        log.event(step, &field(3, b"brain.Event:2"))?;
        Ok(log)
    }

    /// Appends one JSON object, which must have a `step`, and its numbers as TensorBoard scalars.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&mut self, object: &Value) -> Result<()> {
        writeln!(self.json, "{object}").map_err(Error::io(&self.json_path, "write"))?;
        let step = object["step"].as_u64().unwrap_or_default();
        let kind = object["kind"].as_str().unwrap_or("step");
        let mut summary = Vec::new();
        for (name, number) in object
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(k, v)| Some((k, v.as_f64()?)))
        {
            if name != "step" {
                let mut value = field(1, format!("{kind}/{name}").as_bytes());
                value.push(0x15); // field 2, 32-bit
                value.extend((number as f32).to_le_bytes());
                summary.extend(field(1, &value));
            }
        }
        self.event(step, &field(5, &summary))
    }

    /// Appends pictures to the TensorBoard events of a step, below `validation`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn show(&mut self, step: u64, pictures: &[Picture]) -> Result<()> {
        pictures
            .iter()
            .try_for_each(|picture| self.event(step, &field(5, &picture.value("validation/"))))
    }

    /// Writes pictures for TensorBoard: a file of events of their own, which replaces the one before.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_pictures(run: &Path, step: u64, pictures: &[Picture]) -> Result<()> {
        let path = run.join("events.out.tfevents.0.camtrast.pictures");
        let summary: Vec<u8> = pictures.iter().flat_map(|picture| picture.value("")).collect();
        crate::files::write_atomically(&path, |out| {
            out.write_all(&record(step, &field(3, b"brain.Event:2")))?;
            out.write_all(&record(step, &field(5, &summary)))
        })
    }

    fn event(&mut self, step: u64, what: &[u8]) -> Result<()> {
        self.events
            .write_all(&record(step, what))
            .map_err(Error::io(&self.events_path, "write"))
    }
}

// One TFRecord holding a protocol-buffer `tensorflow.Event`: wall_time = 1, step = 2, file_version = 3,
// summary = 5.
fn record(step: u64, what: &[u8]) -> Vec<u8> {
    let mut event = vec![0x09];
    event.extend(now().to_le_bytes());
    event.push(0x10);
    varint(step, &mut event);
    event.extend(what);
    let length = (event.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(&event);
    record.extend(masked_crc(&event).to_le_bytes());
    record
}

fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    varint(bytes.len() as u64, &mut out);
    out.extend(bytes);
    out
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}
