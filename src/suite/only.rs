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
    /// Parses the words and checks them against a plan. A word is a condition, or several separated by
    /// commas; a condition is the name of a run, or `key=value` or `key=value,value`. Names may contain
    /// commas.
    pub fn parse(words: &[String], plan: &SuitePlan) -> Result<Only, Error> {
        Self::of(words, |key| distinct(plan, key))
    }

    /// The same with the known values of each key.
    fn of(words: &[String], known: impl Fn(&str) -> Vec<String>) -> Result<Only, Error> {
        let mut wanted: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        let runs = known("run");
        for condition in words.iter().flat_map(|word| conditions(word)) {
            let (key, value) = match condition.split_once('=') {
                Some(both) if !runs.iter().any(|run| run == condition) => both,
                _ => ("run", condition),
            };
            let Some(key) = KEYS.into_iter().find(|known| *known == key.trim()) else {
                return Err(unknown(&format!("key {key:?}"), &KEYS.map(String::from)));
            };
            let known = known(key);
            let is_known = |value: &str| known.iter().any(|k| k == value);
            let values: Vec<&str> = match is_known(value) {
                true => vec![value],
                false => value.split(',').map(str::trim).collect(),
            };
            if values.iter().any(|value| !is_known(value)) {
                return Err(unknown(&format!("{key} {value:?}"), &known));
            }
            wanted
                .entry(key)
                .or_default()
                .extend(values.into_iter().map(String::from));
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

/// Cuts a word at the commas before a key.
fn conditions(word: &str) -> Vec<&str> {
    let begins = |rest: &str| {
        KEYS.iter()
            .any(|key| rest.trim_start().starts_with(&format!("{key}=")))
    };
    let cuts = word
        .match_indices(',')
        .map(|(at, _)| at)
        .filter(|&at| begins(&word[at + 1..]));
    let (mut found, mut from) = (Vec::new(), 0);
    for at in cuts {
        found.push(word[from..at].trim());
        from = at + 1;
    }
    found.push(word[from..].trim());
    found
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
        remedy: format!("choose from {}", known.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(word: &str) -> Result<Vec<(&'static str, Vec<String>)>, String> {
        let known = |key: &str| {
            let values: &[&str] = match key {
                "run" => &["slow", "slow, 16 classes", "t = 6 (slow)"],
                "task" => &["fewshot", "detection"],
                _ => &["0", "1"],
            };
            values.iter().map(|value| (*value).to_owned()).collect()
        };
        let only = Only::of(&[word.to_owned()], known).map_err(|e| e.to_string())?;
        Ok(only.wanted.into_iter().collect())
    }

    #[test]
    fn names_may_contain_commas_and_equals_signs() {
        let run = |names: &[&str]| ("run", names.iter().map(|name| (*name).to_owned()).collect());
        for (word, expected) in [
            ("slow, 16 classes", run(&["slow, 16 classes"])),
            ("run=slow, 16 classes", run(&["slow, 16 classes"])),
            ("t = 6 (slow)", run(&["t = 6 (slow)"])),
            ("run=t = 6 (slow)", run(&["t = 6 (slow)"])),
            ("run=slow,t = 6 (slow)", run(&["slow", "t = 6 (slow)"])),
        ] {
            assert_eq!(wanted(word).unwrap(), [expected], "{word}");
        }
        let both = wanted("run=slow, 16 classes,task=fewshot,detection, seed=1").unwrap();
        let expected = [
            run(&["slow, 16 classes"]),
            ("seed", vec!["1".to_owned()]),
            ("task", vec!["fewshot".to_owned(), "detection".to_owned()]),
        ];
        assert_eq!(both, expected);
    }

    #[test]
    fn unknown_keys_and_values_are_errors() {
        for (word, text) in [
            ("runs=slow", "no key \"runs\""),
            ("slwo", "no run \"slwo\" here"),
            ("task=fewshot,slow", "no task \"fewshot,slow\" here"),
        ] {
            let error = wanted(word).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }
}
