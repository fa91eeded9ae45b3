//! A suite's recipe: what is pretrained, on what, and how it is looked at.

use super::cell::Cell;
use crate::commands::pretrain::PretrainArgs;
use crate::config_file::flags;
use anyhow::Result;
use clap::{Args, FromArgMatches};
use common::Error;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// A recipe file.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SuiteRecipe {
    /// Heading of the report.
    pub title: String,
    /// What it follows and where it differs.
    pub about: String,
    /// Every run is done with each.
    pub seeds: Vec<u64>,
    /// The packs.
    pub data: Data,
    /// Flags of `camtrast pretrain` for all runs.
    #[serde(default)]
    pub pretrain: toml::Table,
    /// The probe.
    #[serde(default)]
    pub fewshot: Fewshot,
    /// Whether entropy and uniformity are measured on the images trained on.
    #[serde(default)]
    pub representation: bool,
    /// Name of what `x` counts, for the figure.
    #[serde(default)]
    pub x_axis: String,
    /// The rows of the table.
    pub runs: Vec<Run>,
}

/// Packs by role; paths start where the command is run.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Base classes.
    pub train: PathBuf,
    /// Novel classes, by the name in the table's header.
    pub test: BTreeMap<String, PathBuf>,
}

/// Few-shot episodes.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Fewshot {
    pub ways: usize,
    pub shots: Vec<usize>,
    pub queries: usize,
    pub episodes: usize,
}

impl Default for Fewshot {
    fn default() -> Self {
        Fewshot { ways: 5, shots: vec![1, 5], queries: 15, episodes: 600 }
    }
}

/// A row of the table.
#[derive(Deserialize, Clone)]
pub struct Run {
    /// Its name, and that of its folder.
    pub name: String,
    /// The line of the figure it belongs to.
    #[serde(default)]
    pub series: Option<String>,
    /// Its place on that line.
    #[serde(default)]
    pub x: Option<f64>,
    /// Published numbers by column, accuracies in percent.
    #[serde(default)]
    pub published: BTreeMap<String, f64>,
    /// All else: flags of `camtrast pretrain`.
    #[serde(flatten)]
    pub flags: toml::Table,
}

impl SuiteRecipe {
    /// Reads and checks a recipe.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(Error::io(path, "read"))?;
        let recipe: SuiteRecipe = toml::from_str(&text).map_err(|e| {
            let line = e.span().map_or(0, |span| text[..span.start].lines().count().max(1));
            usage(path, format!("line {line}: {}", e.message()))
        })?;
        if recipe.runs.is_empty() || recipe.seeds.is_empty() || recipe.data.test.is_empty() {
            return Err(usage(path, "names no runs, no seeds or no test pack".into()).into());
        }
        let columns = recipe.columns();
        for (i, run) in recipe.runs.iter().enumerate() {
            if recipe.runs[..i].iter().any(|other| slug(&other.name) == slug(&run.name)) {
                return Err(usage(path, format!("has two runs named {:?}", run.name)).into());
            }
            if let Some(column) = run.published.keys().find(|c| !columns.contains(c)) {
                return Err(
                    usage(path, format!("publishes {column:?}, but the columns are {}", columns.join(", "))).into()
                );
            }
            // A typing error shows before hours of training.
            recipe.arguments(run, 0, Path::new("run")).map_err(|problem| usage(path, problem))?;
        }
        Ok(recipe)
    }

    /// Puts other packs in the place of the recipe's.
    pub fn replace_packs(&mut self, train: Option<PathBuf>, test: Option<PathBuf>, path: &Path) -> Result<()> {
        self.data.train = train.unwrap_or(std::mem::take(&mut self.data.train));
        if let Some(test) = test {
            if self.data.test.len() > 1 {
                return Err(
                    usage(path, "names several test packs, so --test cannot tell which it replaces".into()).into()
                );
            }
            self.data.test.values_mut().for_each(|pack| *pack = test.clone());
        }
        Ok(())
    }

    /// Drops all runs but those named, if any are.
    pub fn keep_only(&mut self, names: &[String], path: &Path) -> Result<()> {
        if let Some(unknown) = names.iter().find(|n| !self.runs.iter().any(|run| run.name == **n)) {
            let known: Vec<&str> = self.runs.iter().map(|run| &run.name[..]).collect();
            return Err(usage(path, format!("has no run {unknown:?}, only {}", known.join(", "))).into());
        }
        self.runs.retain(|run| names.is_empty() || names.contains(&run.name));
        Ok(())
    }

    /// Titles of the measured columns.
    pub fn columns(&self) -> Vec<String> {
        let mut columns = Vec::new();
        for test in self.data.test.keys() {
            for shots in &self.fewshot.shots {
                columns.push(self.column(test, *shots));
            }
        }
        if self.representation {
            columns.extend(["H_R", "U", "U unit"].map(String::from));
        }
        columns
    }

    /// Title of one accuracy.
    pub fn column(&self, test: &str, shots: usize) -> String {
        let prefix = if self.data.test.len() > 1 { format!("{test} ") } else { String::new() };
        format!("{prefix}{shots}-shot")
    }

    /// All runs with all seeds.
    pub fn cells(&self, out: &Path) -> Vec<Cell> {
        let cell = |run: &Run, seed: u64| {
            let out = out.join("runs").join(format!("{}-s{seed}", slug(&run.name)));
            Cell { run: run.clone(), seed, out }
        };
        self.seeds.iter().flat_map(|&seed| self.runs.iter().map(move |run| cell(run, seed))).collect()
    }

    /// Threads that the recipe asks for.
    pub fn threads(&self) -> Result<Option<usize>> {
        Ok(self.arguments(&self.runs[0], 0, Path::new("run")).map_err(anyhow::Error::msg)?.threads())
    }

    /// The run as a command line of `camtrast pretrain`, parsed; otherwise what is wrong with it.
    pub fn arguments(&self, run: &Run, seed: u64, out: &Path) -> Result<PretrainArgs, String> {
        let command = PretrainArgs::augment_args(clap::Command::new("pretrain"));
        let mut table = self.pretrain.clone();
        // What trains nothing has no settings to share with the others.
        let is_setting = |key: &str| {
            let argument = command.get_arguments().find(|a| a.get_long() == Some(key));
            argument.and_then(|a| a.get_help_heading()).is_some_and(|heading| heading.starts_with("Method settings"))
        };
        if run.flags.get("method").and_then(toml::Value::as_str) == Some("scratch") {
            table.retain(|key, _| !is_setting(key));
        }
        table.extend(run.flags.clone());
        let told = |problem: String| format!("run {:?}: {problem}", run.name);
        let given = flags(table, &command).map_err(|(problem, remedy)| told(format!("{problem}; {remedy}")))?;
        let mut line: Vec<OsString> = vec!["pretrain".into(), format!("--seed={seed}").into()];
        for (flag, path) in [("--data", &self.data.train), ("--out", &out.to_path_buf())] {
            line.extend([flag.into(), path.into()]);
        }
        line.extend(given);
        let parsed = command.try_get_matches_from(line);
        let parsed = parsed.and_then(|matches| PretrainArgs::from_arg_matches(&matches));
        parsed.map_err(|e| {
            told(e.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned())
        })
    }
}

/// A name as a folder.
pub fn slug(name: &str) -> String {
    let mapped: String = name.chars().map(|c| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    mapped.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

fn usage(path: &Path, problem: String) -> Error {
    Error::Usage { problem: format!("{}: {problem}", path.display()), remedy: "mend the recipe".into() }
}
