//! What a metrics.json and a config.toml say of numbers, whoever wrote them.

use crate::record;
use camtrast_common::checkpoint::Origin;
use camtrast_common::error::Result;
use camtrast_common::leakage::LEAKAGE;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// The content of a metrics.json.
#[derive(Default)]
pub(crate) struct Measured {
    /// Numbers by name.
    pub numbers: BTreeMap<String, f64>,
    /// The backbone that they come from.
    pub origin: Origin,
    /// Which test data the network was trained on, if any.
    pub leakage: Option<String>,
}

/// Checksums of the episodes by metric prefix, from config.toml of a few-shot evaluation.
pub(crate) fn episodes_sha256(config: &str) -> BTreeMap<String, String> {
    let config: toml::Table = config.parse().unwrap_or_default();
    let sums = config
        .get("episodes")
        .and_then(toml::Value::as_table)
        .into_iter()
        .flatten();
    sums.filter_map(|(task, sum)| Some((format!("fewshot/{task}"), sum.as_str()?.to_owned())))
        .collect()
}

pub(crate) fn metrics(path: &Path) -> Result<Measured> {
    let object: Map<String, Value> = record::read(path)?.unwrap_or_default();
    let origin = Origin::deserialize(&Value::Object(object.clone())).unwrap_or_default();
    Ok(Measured {
        leakage: object.get(LEAKAGE).and_then(Value::as_str).map(str::to_owned),
        origin,
        numbers: object
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_f64()?)))
            .collect(),
    })
}
