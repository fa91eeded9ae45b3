//! The plan of a recipe: cells, each one command with one output folder.

use super::cell::{Pick, SuiteCell, cell, subcommand};
use super::kept;
use super::picks;
use super::recipe::{Run, SuiteRecipe, slug, usage};
use super::tasks::{REPRESENTATION, Task, tasks};
use camtrast_common::Error;
use camtrast_common::checkpoint::kept_file;
use camtrast_pretrain::Method;
use camtrast_report::record::{self, Column, PRETRAIN, cell_folder};
use clap::Command;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::Table;

/// The cells of a recipe, and the columns and rows of its report.
pub struct SuitePlan {
    /// The recipe's file, for messages.
    pub recipe: PathBuf,
    pub cells: Vec<SuiteCell>,
    pub suite: record::Suite,
    /// The names of the test packs, by task.
    pub packs: BTreeMap<String, String>,
}

impl SuitePlan {
    /// All runs with all seeds and all tasks below `out`. `root` is the whole command line, against which
    /// every flag is checked.
    pub fn new(recipe: &SuiteRecipe, path: &Path, out: &Path, root: &Command) -> Result<SuitePlan, Error> {
        let tasks = tasks(recipe).map_err(|problem| usage(path, problem))?;
        let columns: Vec<Column> = tasks.iter().flat_map(|task| task.columns.clone()).collect();
        if recipe.runs.is_empty() || recipe.seeds.is_empty() {
            return Err(usage(path, "names no runs or no seeds".into()));
        }
        if columns.is_empty() {
            return Err(usage(
                path,
                "names nothing to transfer to: no test pack, no [probe], no [detection], no [segmentation]"
                    .into(),
            ));
        }
        let known: Vec<&str> = columns.iter().map(|column| &column.title[..]).collect();
        let expected = recipe.expect.iter().map(|(run, columns)| (run, columns.keys()));
        for (name, column) in recipe
            .runs
            .iter()
            .flat_map(|run| run.published.keys().map(|c| (&run.name, c)))
        {
            if !known.contains(&&column[..]) {
                return Err(usage(
                    path,
                    format!(
                        "{name} publishes {column:?}, but the columns are {}",
                        known.join(", ")
                    ),
                ));
            }
        }
        for (run, mut wanted) in expected {
            let name = recipe.runs.iter().find(|r| r.name == *run);
            if name.is_none() || wanted.any(|column| !known.contains(&&column[..])) {
                return Err(usage(
                    path,
                    format!("expects a number of {run:?}, which is not one of its runs and columns"),
                ));
            }
        }
        let mut cells = Vec::new();
        for seed in picks::order(recipe, &tasks).map_err(|problem| usage(path, problem))? {
            for run in &recipe.runs {
                add_run(&mut cells, recipe, run, seed, &tasks, out, root)
                    .map_err(|problem| usage(path, problem))?;
            }
        }
        let sweeps: Vec<record::Sweep> = tasks
            .iter()
            .filter_map(|task| task.sweep.as_ref().map(|(_, sweep)| sweep.clone()))
            .collect();
        for (number, sweep) in sweeps.iter().enumerate() {
            picks::add(&mut cells, recipe, number, sweep, out);
        }
        let recorded = |run: &Run| kept::records(recipe, run, recorded(run, &tasks));
        let runs: Result<Vec<_>, String> = recipe.runs.iter().map(recorded).collect();
        let runs = runs.map_err(|problem| usage(path, problem))?.concat();
        kept::check_names(&runs).map_err(|problem| usage(path, problem))?;
        let suite = record::Suite {
            schema: camtrast_common::run::SCHEMA,
            title: recipe.title.clone(),
            about: recipe.about.trim().to_owned(),
            published_protocol: recipe.published_protocol.trim().to_owned(),
            command: String::new(),
            seeds: recipe.seeds.clone(),
            x_axis: kept::x_axis(recipe, &runs),
            runs,
            columns,
            sweeps,
            sweep_seeds: recipe.sweep_seeds.clone(),
        };
        let packs = tasks
            .iter()
            .filter_map(|task| Some((task.name.clone(), task.pack.clone()?)))
            .collect();
        Ok(SuitePlan {
            recipe: path.to_owned(),
            cells,
            suite,
            packs,
        })
    }

    /// The cells that must have ended before a cell can start.
    pub fn waits(&self, cell: &SuiteCell) -> impl Iterator<Item = usize> {
        let pick = cell.pick.as_ref();
        let twin = pick.and_then(|pick| pick.twin);
        let among = pick.map(|pick| pick.among.clone()).unwrap_or_default();
        cell.after.into_iter().chain(among).chain(twin)
    }

    /// The recipe's table that a task belongs to: itself, or the task whose values it sweeps.
    pub fn table_of<'a>(&'a self, task: &'a str) -> &'a str {
        let sweep = self
            .suite
            .sweeps
            .iter()
            .find(|sweep| sweep.shared_task == task || sweep.tasks.iter().any(|name| name == task));
        sweep.map_or(task, |sweep| &sweep.task)
    }

    /// Whether a task measures values of a sweep on validation images.
    pub fn is_validation(&self, task: &str) -> bool {
        let mut tasks = self.suite.sweeps.iter().flat_map(|sweep| &sweep.tasks);
        tasks.any(|name| name == task)
    }

    /// The names of all tasks, in the order of their first cells.
    pub fn tasks(&self) -> Vec<&str> {
        let mut tasks: Vec<&str> = Vec::new();
        for cell in &self.cells {
            if !tasks.contains(&&cell.task[..]) {
                tasks.push(&cell.task);
            }
        }
        tasks
    }
}

fn add_run(
    cells: &mut Vec<SuiteCell>,
    recipe: &SuiteRecipe,
    run: &Run,
    seed: u64,
    tasks: &[Task],
    out: &Path,
    root: &Command,
) -> Result<(), String> {
    let in_run = |problem: String| format!("run {:?}: {problem}", run.name);
    let method = run
        .flags
        .get("method")
        .and_then(toml::Value::as_str)
        .unwrap_or("imported")
        .to_owned();
    let folder = |task: &str| cell_folder(out, &slug(&run.name), seed, task);
    let mut after = None;
    if run.checkpoint.is_none() {
        let mut shared = recipe.pretrain.clone();
        if let Some(train) = &recipe.data.train {
            shared.insert("data".into(), train.display().to_string().into());
        }
        // `scratch` does not train, so it does not take the shared settings.
        if Method::is_untrained(&method) {
            let command = subcommand(root, "pretrain");
            let is_setting = |key: &str| {
                let argument = command.get_arguments().find(|a| a.get_long() == Some(key));
                argument
                    .and_then(|a| a.get_help_heading())
                    .is_some_and(|h| h.starts_with("Method settings"))
            };
            shared.retain(|key, _| !is_setting(key));
        }
        let cell = SuiteCell {
            run: run.name.clone(),
            method: method.clone(),
            seed,
            task: PRETRAIN.into(),
            folder: folder(PRETRAIN),
            checkpoint: None,
            after: None,
            ..cell("pretrain", &shared, &run.flags, seed, root).map_err(in_run)?
        };
        after = Some(cells.len());
        cells.push(cell);
    }
    let checkpoint = run
        .checkpoint
        .clone()
        .unwrap_or_else(|| folder(PRETRAIN).join("backbone.safetensors"));
    let kept = kept::epochs(recipe, run)
        .map_err(in_run)?
        .into_iter()
        .map(|epoch| {
            let checkpoint = folder(PRETRAIN).join(kept_file(epoch));
            (kept::name(run, epoch), checkpoint)
        });
    let backbones: Vec<_> = [(run.name.clone(), checkpoint)].into_iter().chain(kept).collect();
    let every = |backbone| {
        tasks
            .iter()
            .enumerate()
            .map(move |(place, task)| (backbone, place, task))
    };
    for ((name, checkpoint), place, task) in backbones.iter().flat_map(every) {
        // What gives no number is done for the last epoch only.
        if *name != run.name && task.columns.is_empty() {
            continue;
        }
        if task.is_validation() && !recipe.sweeps_with(seed) {
            continue;
        }
        let about = |problem| in_run(format!("{}: {problem}", task.name));
        let mut own = (task.own)(run).cloned().unwrap_or_default();
        let pick = match &task.sweep {
            Some((grid, _)) => {
                grid.check_own(&own).map_err(about)?;
                let before = &tasks[..place];
                let sweep = before.iter().filter(|task| task.sweep.is_some()).count();
                Some(Pick::own(sweep))
            }
            None => None,
        };
        if task.name == REPRESENTATION {
            // The images that the backbone was trained on.
            let part = [
                "data",
                "classes",
                "categories",
                "images-per-class",
                "total-images",
            ];
            let given = recipe
                .pretrain
                .iter()
                .chain(&run.flags)
                .filter(|(key, _)| part.contains(&&key[..]));
            own.extend(given.map(|(key, value)| (key.clone(), value.clone())));
        }
        cells.push(SuiteCell {
            run: name.clone(),
            method: method.clone(),
            seed,
            task: task.name.clone(),
            folder: cell_folder(out, &slug(name), seed, &task.name),
            checkpoint: Some(checkpoint.clone()),
            after,
            pick,
            ..cell(task.command, &task.shared, &own, seed, root).map_err(about)?
        });
    }
    Ok(())
}

/// A run as the report knows it.
fn recorded(run: &Run, tasks: &[Task]) -> record::RunRecord {
    let settings = |table: &Table| {
        table
            .iter()
            .map(|(key, value)| format!("{key} = {value}"))
            .collect::<Vec<_>>()
    };
    // A sweep's own tasks have the settings of the task that it is for.
    let measured = |task: &&Task| !task.is_validation();
    let own = tasks.iter().filter(measured).map(|task| {
        (
            task.name.clone(),
            (task.own)(run).map(settings).unwrap_or_default(),
        )
    });
    let mut flags = run.flags.clone();
    let method = flags.remove("method").and_then(|m| m.as_str().map(String::from));
    let own_settings: BTreeMap<_, _> = own
        .chain([(PRETRAIN.into(), settings(&flags))])
        .filter(|(_, s)| !s.is_empty())
        .collect();
    record::RunRecord {
        name: run.name.clone(),
        slug: slug(&run.name),
        method,
        imported: run.checkpoint.clone(),
        kept: None,
        series: run.series.clone(),
        x: run.x,
        own_settings,
        published: run.published.clone(),
    }
}
