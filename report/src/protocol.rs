//! How a number was measured: the settings and data that it follows from, and in what two protocols differ.

use crate::record::{COURSE, PLACES};
use crate::rows::TaskResult;
use std::collections::{BTreeMap, BTreeSet};
use toml::Table;

/// Keys of config.toml that are not part of a protocol, in addition to [`PLACES`] and [`COURSE`].
const NO_PROTOCOL: [&str; 10] = [
    "checkpoint",
    "seed",
    "out",
    "run",
    "detections",
    "predictions",
    "ground-truth",
    "backbone_sha256",
    "network_sha256",
    "commit",
];

/// The protocol: `key = value` lines of everything that a number depends on except the backbone; `None` if
/// the data is not recorded.
pub(crate) fn protocol(config: &Table) -> Option<Vec<String>> {
    let dataset = config.get("dataset").and_then(toml::Value::as_table);
    dataset?.keys().find(|key| !NO_PROTOCOL.contains(&&key[..]))?;
    Some(
        settings(config)
            .into_iter()
            .map(|(key, value)| format!("{key} = {value}"))
            .collect(),
    )
}

/// Everything in a config.toml that a number depends on: settings, the description of the data, and how a
/// fine-tuned network was trained (`network.steps`).
pub(crate) fn settings(config: &Table) -> Vec<(String, String)> {
    let of = |table: &str| {
        config
            .get(table)
            .and_then(toml::Value::as_table)
            .into_iter()
            .flatten()
    };
    let own = config
        .iter()
        .filter(|(_, value)| !value.is_table())
        .chain(of("dataset"));
    let own = own.map(|(key, value)| (String::new(), key, value));
    let network = of("network").map(|(key, value)| ("network.".to_owned(), key, value));
    let decides = |key: &str| {
        ![&PLACES[..], &COURSE, &NO_PROTOCOL]
            .iter()
            .any(|keys| keys.contains(&key))
    };
    // Packs whose checksum is recorded, too, are places.
    let dataset = config.get("dataset").and_then(toml::Value::as_table);
    let summed = |key: &str| dataset.is_some_and(|dataset| dataset.contains_key(&format!("{key}_sha256")));
    let deciding = own
        .chain(network)
        .filter(|(_, key, _)| decides(key) && !summed(key));
    deciding
        .map(|(table, key, value)| (table + key, value.to_string()))
        .collect()
}

/// Number of settings that a difference names; the others are counted.
const NAMED: usize = 8;

/// The difference between two protocols, as a text. A setting that one of them leaves to its default is taken
/// from the record of its command.
pub(crate) fn difference(here: &TaskResult, there: &TaskResult) -> String {
    let [here, there] = [here, there].map(Settings::of);
    let data_keys = here
        .resolved
        .keys()
        .chain(there.resolved.keys())
        .filter(|key| is_data(key));
    let keys: BTreeSet<&String> = here
        .protocol
        .keys()
        .chain(there.protocol.keys())
        .chain(data_keys)
        .collect();
    let (mut data, mut settings) = (Vec::new(), Vec::new());
    for key in keys {
        let words = match (here.get(key), there.get(key)) {
            (a, b) if a == b => continue,
            (Some(a), Some(b)) => format!("{key} is {a}, not {b}"),
            (Some(a), None) => format!("{key} is {a}, there not recorded"),
            (None, b) => format!("{key} is not recorded, there {}", b.unwrap_or_default()),
        };
        (if is_data(key) { &mut data } else { &mut settings }).push(words);
    }
    if settings.len() > NAMED {
        let more = settings.len() - NAMED;
        settings.truncate(NAMED);
        settings.push(format!("and {more} more settings"));
    }
    if !data.is_empty() {
        settings.push(format!("other data ({})", data.join("; ")));
    }
    if settings.is_empty() {
        return "no recorded setting differs: the data differ, or the same setting is written in another \
                way"
        .into();
    }
    settings.join("; ")
}

/// Endings of the keys that identify data.
const DATA: [&str; 5] = ["sha256", "_annotations", "_images", "_files", "_labels"];

fn is_data(key: &str) -> bool {
    DATA.iter().any(|ending| key.ends_with(ending)) && !key.starts_with("network.")
}

/// The settings of a cell: those of its protocol, and all resolved settings of its command.
struct Settings {
    protocol: BTreeMap<String, String>,
    resolved: BTreeMap<String, String>,
}

impl Settings {
    fn of(found: &TaskResult) -> Self {
        let plain = |value: &str| {
            let text: String = value
                .chars()
                .filter(|c| !matches!(c, '"' | '[' | ']' | ' '))
                .collect();
            // The beginning of a checksum is enough.
            if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
                text[..12].to_owned()
            } else {
                text
            }
        };
        let line = |line: &String| {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            (key.trim().to_owned(), plain(value))
        };
        let config: Table = found
            .config
            .as_deref()
            .and_then(|text| text.parse().ok())
            .unwrap_or_default();
        Settings {
            protocol: found.cell.protocol_settings.iter().map(line).collect(),
            resolved: settings(&config)
                .into_iter()
                .map(|(key, value)| (key, plain(&value)))
                .collect(),
        }
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.protocol
            .get(key)
            .or_else(|| self.resolved.get(key))
            .map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_is_settings_and_data_without_places() {
        let config: Table = "checkpoint = \"a\"\nseed = 3\nsteps = 240\nvoc = \"x\"\n[dataset]\n\
            backbone_sha256 = \"b\"\ntest_images = 4\n[build]\ncommit = \"c\"\n"
            .parse()
            .unwrap();
        assert_eq!(protocol(&config).unwrap(), ["steps = 240", "test_images = 4"]);
        let unknown: Table = "steps = 240\n[dataset]\nbackbone_sha256 = \"b\"\n"
            .parse()
            .unwrap();
        assert_eq!(protocol(&unknown), None, "nobody knows on what");
        let packs: Table = "test = \"x.safetensors\"\n[dataset]\ntest_sha256 = \"e\"\n"
            .parse()
            .unwrap();
        assert_eq!(protocol(&packs).unwrap(), ["test_sha256 = \"e\""]);
        let network: Table = "[dataset]\nsha256 = \"x\"\n[network]\nsteps = 9\nseed = 1\nvoc = \"y\"\n"
            .parse()
            .unwrap();
        assert_eq!(
            protocol(&network).unwrap(),
            ["sha256 = \"x\"", "network.steps = 9"]
        );
    }
}
