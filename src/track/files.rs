//! MLflow's file store: `DIR/<experiment>/<run>/` with a file for every setting, number and tag.

use super::record::{Number, Record};
use anyhow::Result;
use camtrast_common::Error;
use camtrast_common::files::write_atomically;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// The experiment that all runs belong to, its number in the store, and its name.
const EXPERIMENT: (&str, &str) = ("741000000000000019", "camtrast");

/// Writes the run, whole: what was written of it before is replaced.
pub fn write(record: &Record, store: &Path) -> Result<()> {
    let experiment = store.join(EXPERIMENT.0);
    make(&experiment)?;
    let location = address(&experiment)?;
    let meta = experiment.join("meta.yaml");
    if !meta.exists() {
        let time = record.begun;
        let text = format!(
            "artifact_location: {location}\ncreation_time: {time}\nexperiment_id: '{}'\n\
             last_update_time: {time}\nlifecycle_stage: active\nname: {}\n",
            EXPERIMENT.0, EXPERIMENT.1
        );
        put(&meta, &text)?;
    }
    let run = experiment.join(&record.id);
    for folder in ["metrics", "params", "tags", "artifacts"] {
        make(&run.join(folder))?;
    }
    for (name, value) in &record.settings {
        put(&run.join("params").join(allowed(name)), value)?;
    }
    for (name, value) in [
        ("mlflow.runName", record.name.as_str()),
        ("mlflow.source.name", "camtrast"),
        ("mlflow.source.type", "LOCAL"),
        ("camtrast.folder", &record.folder.to_string_lossy()),
    ] {
        put(&run.join("tags").join(name), value)?;
    }
    let mut lines: BTreeMap<String, String> = BTreeMap::new();
    for Number { name, step, value } in &record.numbers {
        writeln!(
            lines.entry(allowed(name)).or_default(),
            "{} {value} {step}",
            record.changed
        )?;
    }
    for (name, text) in lines {
        let path = run.join("metrics").join(name);
        make(path.parent().expect("below metrics/"))?;
        put(&path, &text)?;
    }
    for picture in &record.pictures {
        let name = picture.file_name().expect("a file");
        let copy = run.join("artifacts").join(name);
        fs::copy(picture, &copy).map_err(Error::io(&copy, "write"))?;
    }
    // 1 is running, 3 is finished.
    let (end, status) = match record.ended {
        true => (record.changed.to_string(), 3),
        false => ("null".to_owned(), 1),
    };
    let text = format!(
        "artifact_uri: {location}/{id}/artifacts\nend_time: {end}\nentry_point_name: ''\n\
         experiment_id: '{}'\nlifecycle_stage: active\nrun_id: {id}\nrun_name: {}\nrun_uuid: {id}\n\
         source_name: ''\nsource_type: 4\nsource_version: ''\nstart_time: {}\nstatus: {status}\n\
         tags: []\nuser_id: camtrast\n",
        EXPERIMENT.0,
        // A string of JSON is one of YAML.
        serde_json::to_string(&record.name)?,
        record.begun,
        id = record.id,
    );
    put(&run.join("meta.yaml"), &text)
}

fn address(folder: &Path) -> Result<String> {
    let whole = fs::canonicalize(folder).map_err(Error::io(folder, "find"))?;
    Ok(serde_json::to_string(&format!("file://{}", whole.display()))?
        .trim_matches('"')
        .to_owned())
}

fn make(folder: &Path) -> Result<()> {
    Ok(fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?)
}

fn put(path: &Path, text: &str) -> Result<()> {
    Ok(write_atomically(path, |out| out.write_all(text.as_bytes()))?)
}

/// MLflow allows letters, digits, `_ - . /` and blanks in names.
pub fn allowed(name: &str) -> String {
    let good = |c: char| c.is_ascii_alphanumeric() || "_-./ ".contains(c);
    name.chars().map(|c| if good(c) { c } else { '_' }).collect()
}
