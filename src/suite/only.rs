//! `--only method=moco,task=detection`: a part of a suite.

use super::cell::SuiteCell;
use super::plan::SuitePlan;
use camtrast_common::Error;
use std::collections::BTreeMap;

/// The wanted values of each key; a word without `=` is the name of a run.
pub struct Only {
    wanted: BTreeMap<&'static str, Vec<String>>,
}

const KEYS: [&str; 4] = ["run", "method", "task", "seed"];

impl Only {
    /// Parses the words, which may be lists separated by commas, and checks them against a plan.
    pub fn parse(words: &[String], plan: &SuitePlan) -> Result<Only, Error> {
        let mut wanted: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        for word in words {
            // Names of runs may contain commas.
            let parts: Vec<&str> = if word.contains('=') {
                word.split(',').collect()
            } else {
                vec![word]
            };
            for part in parts {
                let (key, value) = part.split_once('=').unwrap_or(("run", part));
                let Some(key) = KEYS.into_iter().find(|known| *known == key.trim()) else {
                    return Err(unknown(&format!("key {key:?}"), &KEYS.map(String::from)));
                };
                let known = distinct(plan, key);
                if !known.iter().any(|k| k == value) {
                    return Err(unknown(&format!("{key} {value:?}"), &known));
                }
                wanted.entry(key).or_default().push(value.to_owned());
            }
        }
        Ok(Only { wanted })
    }

    /// Whether a cell is selected: for every given key, one of the values must match.
    pub fn wants(&self, cell: &SuiteCell) -> bool {
        self.wanted
            .iter()
            .all(|(key, values)| values.contains(&value(cell, key)))
    }
}

fn value(cell: &SuiteCell, key: &str) -> String {
    match key {
        "run" => cell.run.clone(),
        "method" => cell.method.clone(),
        "task" => cell.task.clone(),
        _ => cell.seed.to_string(),
    }
}

fn distinct(plan: &SuitePlan, key: &str) -> Vec<String> {
    let mut known: Vec<String> = Vec::new();
    for value in plan.cells.iter().map(|cell| value(cell, key)) {
        if !known.contains(&value) {
            known.push(value);
        }
    }
    known
}

fn unknown(what: &str, known: &[String]) -> Error {
    Error::Usage {
        problem: format!("--only: no {what} here"),
        remedy: format!("choose from {}", known.join(", ")),
    }
}
