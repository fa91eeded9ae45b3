//! `--only method=moco,task=detection`: a part of a suite.

use super::plan::{SuiteCell, SuitePlan};
use camtrast_common::Error;
use std::collections::BTreeMap;

/// What is wanted by each key; a word without `=` names a run.
pub struct Only {
    wanted: BTreeMap<&'static str, Vec<String>>,
}

const KEYS: [&str; 4] = ["run", "method", "task", "seed"];

impl Only {
    /// Reads the words, which may themselves be lists by commas, and holds them against a plan.
    pub fn parse(words: &[String], plan: &SuitePlan) -> Result<Only, Error> {
        let mut wanted: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        for word in words {
            // The names of runs may hold commas.
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

    /// Whether a cell is meant: by every key that is given, by any of its values.
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
