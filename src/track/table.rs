//! Tables for tools that import CSV, Weights & Biases among them: a row per step, a column per number, and
//! the settings as JSON next to it.

use super::record::Record;
use anyhow::Result;
use camtrast_common::Error;
use camtrast_common::files::write_atomically;
use camtrast_report::csv_field;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Writes `<run>.csv` and `<run>.json`.
pub fn write(record: &Record, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
    let names: BTreeSet<&str> = record.numbers.iter().map(|number| number.name.as_str()).collect();
    let mut rows: BTreeMap<u64, BTreeMap<&str, f64>> = BTreeMap::new();
    for number in &record.numbers {
        rows.entry(number.step)
            .or_default()
            .insert(&number.name, number.value);
    }
    let header = std::iter::once("step".to_owned()).chain(names.iter().map(|name| csv_field(name)));
    let mut text = header.collect::<Vec<_>>().join(",") + "\n";
    for (step, row) in &rows {
        let cells = names
            .iter()
            .map(|name| row.get(name).map(f64::to_string).unwrap_or_default());
        text += &std::iter::once(step.to_string())
            .chain(cells)
            .collect::<Vec<_>>()
            .join(",");
        text += "\n";
    }
    // Two runs of one name, of different folders, do not replace each other.
    let name = format!("{}-{}", record.name, &record.id[..8]);
    write_atomically(&folder.join(format!("{name}.csv")), |out| {
        out.write_all(text.as_bytes())
    })?;
    let settings: serde_json::Map<String, serde_json::Value> = record
        .settings
        .iter()
        .map(|(key, value)| (key.clone(), value.as_str().into()))
        .collect();
    let text = serde_json::to_string_pretty(&settings)? + "\n";
    write_atomically(&folder.join(format!("{name}.json")), |out| {
        out.write_all(text.as_bytes())
    })?;
    Ok(())
}
