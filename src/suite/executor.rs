//! Where the commands of a suite run: here, or as jobs of Slurm.

use super::recipe::{SuiteRecipe, usage};
use camtrast_common::Error;
use clap::ValueEnum;
use std::collections::BTreeMap;
use std::path::Path;
use toml::Value;

/// The value of `--executor`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Executor {
    /// On this machine
    Local,
    /// As job arrays of Slurm
    Slurm,
    /// Write the job scripts of Slurm, and print how to submit them
    Print,
}

/// Options of `sbatch` by their long names, such as `partition = gpu`.
pub type Options = BTreeMap<String, String>;

/// Options that the suite sets itself.
const OWN: [&str; 8] = [
    "array",
    "dependency",
    "output",
    "open-mode",
    "requeue",
    "signal",
    "job-name",
    "kill-on-invalid-dep",
];

/// Options of each task: those of the recipe's table `[slurm]`, then those of `[slurm.TASK]`, then those of
/// `--slurm`.
pub struct TaskOptions {
    all: Options,
    tasks: BTreeMap<String, Options>,
    given: Options,
}

impl TaskOptions {
    /// Of a recipe and the command line.
    ///
    /// # Errors
    /// [`Error::Usage`] that names the option.
    pub fn new(recipe: &SuiteRecipe, path: &Path, given: &str, tasks: &[&str]) -> Result<Self, Error> {
        let (mut all, mut by_task) = (Options::new(), BTreeMap::new());
        for (key, value) in &recipe.slurm {
            if let Value::Table(table) = value {
                if !tasks.contains(&&key[..]) {
                    let tasks = tasks.join(", ");
                    return Err(usage(
                        path,
                        format!("[slurm.{key}] is not one of its tasks: {tasks}"),
                    ));
                }
                let options = table.iter().map(|(key, value)| (key.clone(), text(value)));
                by_task.insert(key.clone(), options.collect());
            } else {
                all.insert(key.clone(), text(value));
            }
        }
        let given = parse(given)?;
        let named = all.keys().chain(given.keys());
        let mut named = named.chain(by_task.values().flat_map(Options::keys));
        if let Some(key) = named.find(|key| OWN.contains(&&key[..])) {
            return Err(Error::Usage {
                problem: format!("sbatch's option {key} is set by the suite itself"),
                remedy: "remove it from --slurm and from the recipe's [slurm]".into(),
            });
        }
        Ok(TaskOptions {
            all,
            tasks: by_task,
            given,
        })
    }

    /// Those of a task that belongs to the recipe's table `table`.
    pub fn of(&self, table: &str, task: &str) -> Options {
        let own = [table, task]
            .into_iter()
            .filter_map(|name| self.tasks.get(name))
            .flatten();
        let layers = self.all.iter().chain(own).chain(&self.given);
        layers.map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `key=value,key=value`; a part without `=` belongs to the value before it, as in `nodelist=a,b`.
fn parse(given: &str) -> Result<Options, Error> {
    let mut options: Vec<(String, String)> = Vec::new();
    for part in given.split(',').filter(|part| !part.is_empty()) {
        match (part.split_once('='), options.last_mut()) {
            (Some((key, value)), _) if !key.trim().is_empty() => {
                let key = key.trim().trim_start_matches('-');
                options.push((key.to_owned(), value.trim().to_owned()));
            }
            (None, Some((_, value))) => {
                value.push(',');
                value.push_str(part);
            }
            _ => {
                return Err(Error::Usage {
                    problem: format!("--slurm: {part:?} is not key=value"),
                    remedy: "write options of sbatch, such as partition=gpu,time=24:00:00,gres=gpu:1".into(),
                });
            }
        }
    }
    Ok(options.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_parsed_as_sbatch_writes_them() {
        let options = parse("partition=gpu,time=24:00:00,gres=gpu:1,nodelist=a,b,--mem=8G").unwrap();
        let all: Vec<String> = options
            .iter()
            .map(|(key, value)| format!("{key} {value}"))
            .collect();
        assert_eq!(
            all,
            [
                "gres gpu:1",
                "mem 8G",
                "nodelist a,b",
                "partition gpu",
                "time 24:00:00"
            ]
        );
        assert!(parse("").unwrap().is_empty());
        for bad in ["gpu", "=x"] {
            assert!(parse(bad).unwrap_err().to_string().contains("is not key=value"));
        }
    }

    #[test]
    fn a_tasks_options_replace_the_recipes_and_the_command_lines_both() {
        let text = "title = 'x'\n[slurm]\ntime = '1:00'\nnodes = 1\n[slurm.detection]\ntime = '2:00'";
        let recipe = SuiteRecipe::parse(text, Path::new("r.toml")).unwrap();
        let options =
            |given| TaskOptions::new(&recipe, Path::new("r.toml"), given, &["pretrain", "detection"]);
        let written = |options: Options| format!("{options:?}");
        let all = options("").unwrap();
        assert_eq!(
            written(all.of("pretrain", "pretrain")),
            r#"{"nodes": "1", "time": "1:00"}"#
        );
        assert_eq!(
            written(all.of("detection", "detection-lr-1")),
            r#"{"nodes": "1", "time": "2:00"}"#
        );
        let given = options("time=3:00").unwrap();
        assert_eq!(
            written(given.of("detection", "detection")),
            r#"{"nodes": "1", "time": "3:00"}"#
        );
        assert!(options("array=1").is_err());
        assert!(TaskOptions::new(&recipe, Path::new("r.toml"), "", &["pretrain"]).is_err());
    }
}
