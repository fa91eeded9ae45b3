//! The plan of a recipe: cells, each one command with one output folder.

use super::kept;
use super::machine::Machine;
use super::recipe::{Run, SuiteRecipe, slug, usage};
use super::sweep::SWEEP;
use super::tasks::{REPRESENTATION, Task, tasks};
use crate::commands::thread_count;
use crate::config_file::flags;
use camtrast_common::Error;
use camtrast_common::checkpoint::{is_kept_file, kept_file};
use camtrast_common::device::device_name;
use camtrast_pretrain::Method;
use camtrast_report::record::{self, COURSE, Column, PLACES, PRETRAIN, cell_folder};
use clap::{ArgMatches, Command};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use toml::Table;

/// One command: the pretraining of a run with a seed, or a task that its backbone is transferred to.
#[derive(Clone)]
pub struct SuiteCell {
    /// Name of the run.
    pub run: String,
    /// Method, or `imported`.
    pub method: String,
    pub seed: u64,
    /// Name of the task.
    pub task: String,
    pub folder: PathBuf,
    /// Such as `detection train`.
    pub command: &'static str,
    /// Flags, without those that describe the machine.
    pub flags: Vec<OsString>,
    /// The flags that all runs share.
    pub shared: Vec<OsString>,
    /// The same as `key = value`, without file paths.
    pub protocol: Vec<String>,
    /// The backbone that a task starts from; `None` for a pretraining.
    pub checkpoint: Option<PathBuf>,
    /// Threads that the recipe asks for.
    pub threads: Option<usize>,
    /// The cell that makes [`SuiteCell::checkpoint`].
    pub after: Option<usize>,
    /// How one of its settings is chosen when it starts.
    pub pick: Option<Pick>,
    /// Whether several processes can share the work of its command.
    pub shares_work: bool,
}

/// How a setting of a cell is chosen.
#[derive(Clone)]
pub struct Pick {
    /// Index into the [`record::Suite::sweeps`] of the plan.
    pub sweep: usize,
    /// Whether it is the value that is best on average over all backbones.
    pub shared: bool,
    /// The cells that measure the values, those of a backbone one after the other in the order of the grid.
    pub among: Vec<usize>,
    /// The cell with the same backbone and its own best value, which may be the same.
    pub twin: Option<usize>,
}

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
        for &seed in &recipe.seeds {
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
            add_shared(&mut cells, number, sweep, out);
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
        let about = |problem| in_run(format!("{}: {problem}", task.name));
        let mut own = (task.own)(run).cloned().unwrap_or_default();
        let pick = match &task.sweep {
            Some((grid, sweep)) => {
                grid.check_own(&own).map_err(about)?;
                let before = &tasks[..place];
                Some(Pick {
                    sweep: before.iter().filter(|task| task.sweep.is_some()).count(),
                    shared: false,
                    among: (cells.len() - sweep.tasks.len()..cells.len()).collect(),
                    twin: None,
                })
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

/// Beside every cell with its backbone's own best value one with the value that is best on average.
fn add_shared(cells: &mut Vec<SuiteCell>, number: usize, sweep: &record::Sweep, out: &Path) {
    let is_own = |cell: &SuiteCell| cell.pick.as_ref().is_some_and(|pick| pick.sweep == number);
    let own: Vec<usize> = (0..cells.len()).filter(|&i| is_own(&cells[i])).collect();
    let picks = own.iter().filter_map(|&i| cells[i].pick.as_ref());
    let among: Vec<usize> = picks.flat_map(|pick| pick.among.clone()).collect();
    for twin in own {
        let cell = cells[twin].clone();
        cells.push(SuiteCell {
            task: sweep.shared_task.clone(),
            folder: cell_folder(out, &slug(&cell.run), cell.seed, &sweep.shared_task),
            pick: Some(Pick {
                sweep: number,
                shared: true,
                among: among.clone(),
                twin: Some(twin),
            }),
            ..cell
        });
    }
}

/// Command, flags, protocol and data of a cell; otherwise what is wrong with them.
fn cell(
    command: &'static str,
    shared: &Table,
    own: &Table,
    seed: u64,
    root: &Command,
) -> Result<SuiteCell, String> {
    let clap = subcommand(root, command);
    let mut table = shared.clone();
    table.extend(own.clone());
    for key in [
        "out",
        "checkpoint",
        "seed",
        "device",
        "overwrite",
        "quiet",
        "config",
        "print-config",
        "extend",
    ] {
        if table.contains_key(key) {
            return Err(format!("{key:?} is set by the suite itself"));
        }
    }
    if table.contains_key(SWEEP) {
        let tables = "[finetune], [detection] or [segmentation]";
        return Err(format!("{SWEEP} belongs into {tables}, for all runs"));
    }
    let threads = table.remove("threads").map(threads).transpose()?;
    let joined = |(problem, remedy): (String, String)| format!("{problem}; {remedy}");
    let with_seed = |table: Table| {
        let mut given = flags(table, &clap).map_err(joined)?;
        given.push(format!("--seed={seed}").into());
        Ok::<_, String>(given)
    };
    let given = with_seed(table)?;
    // A typing error is found before hours of training.
    parse(root, command, &given)?;
    let without_threads = shared
        .clone()
        .into_iter()
        .filter(|(key, _)| key != "threads")
        .collect();
    let protocol = shared
        .iter()
        .filter(|(key, _)| !PLACES.contains(&&key[..]) && !COURSE.contains(&&key[..]));
    Ok(SuiteCell {
        run: String::new(),
        method: String::new(),
        seed,
        task: String::new(),
        folder: PathBuf::new(),
        command,
        flags: given,
        shared: with_seed(without_threads)?,
        protocol: protocol.map(|(key, value)| format!("{key} = {value}")).collect(),
        checkpoint: None,
        threads,
        after: None,
        pick: None,
        shares_work: clap.get_arguments().any(|a| a.get_long() == Some("nproc")),
    })
}

/// A number of threads that libtorch can be given.
fn threads(value: toml::Value) -> Result<usize, String> {
    thread_count(&value.to_string())
        .map_err(|range| format!("threads = {value} is not a number of threads; {range}"))
}

/// The flags of a command as clap reads them, with every default; otherwise what is wrong with them.
pub fn parse(root: &Command, command: &str, flags: &[OsString]) -> Result<ArgMatches, String> {
    let line: Vec<OsString> = ["camtrast"]
        .into_iter()
        .chain(command.split(' '))
        .map(OsString::from)
        .collect();
    let own_place = if command == "pretrain" {
        vec!["--out=x"]
    } else {
        vec!["--out=x", "--checkpoint=x"]
    };
    let line = line
        .into_iter()
        .chain(flags.iter().cloned())
        .chain(own_place.into_iter().map(OsString::from));
    let mut matches = root.clone().try_get_matches_from(line).map_err(|e| {
        let text = e.to_string();
        // clap lists missing arguments on the lines below.
        let text: Vec<&str> = text
            .split("\n\n")
            .next()
            .unwrap_or_default()
            .lines()
            .map(str::trim)
            .collect();
        text.join(" ").trim_start_matches("error: ").to_owned()
    })?;
    for _ in command.split(' ') {
        matches = matches.remove_subcommand().expect("a command of this program").1;
    }
    Ok(matches)
}

/// A command of this program by its full name, such as `detection train`.
pub fn subcommand(root: &Command, path: &str) -> Command {
    let found = path.split(' ').fold(root, |command, name| {
        command.find_subcommand(name).expect("a command of this program")
    });
    found.clone()
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
    let measured = |task: &&Task| !task.columns.iter().any(|column| column.validation);
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

impl SuiteCell {
    /// The command line that reproduces the same bytes, as a user would type it.
    pub fn typed(&self, machine: &Machine) -> String {
        let words = self
            .arguments(machine)
            .into_iter()
            .map(|word| word.to_string_lossy().into_owned());
        typed(words)
    }

    /// Its arguments.
    pub fn arguments(&self, machine: &Machine) -> Vec<OsString> {
        let mut words: Vec<OsString> = self.command.split(' ').map(OsString::from).collect();
        words.extend(self.flags.iter().cloned());
        let place = |flag: &str, path: &Path| {
            let mut word = OsString::from(flag);
            word.push(path);
            word
        };
        words.extend(self.checkpoint.as_ref().map(|path| place("--checkpoint=", path)));
        words.push(place("--out=", &self.folder));
        words.push(format!("--device={}", device_name(machine.device)).into());
        words.push(format!("--threads={}", machine.threads(self.threads)).into());
        words
    }

    /// Whether it starts from a backbone of an epoch on its pretraining's way.
    pub fn of_kept_epoch(&self) -> bool {
        let name = self.checkpoint.as_deref().and_then(Path::file_name);
        name.is_some_and(|name| is_kept_file(&name.to_string_lossy()))
    }

    /// The same with a value for the flag that was chosen.
    pub fn with(&self, flag: &str, value: &str) -> SuiteCell {
        let mut cell = self.clone();
        cell.flags.push(format!("--{flag}={value}").into());
        cell
    }

    /// `moco s0 detection`.
    pub fn name(&self) -> String {
        format!("{} s{} {}", self.run, self.seed, self.task)
    }
}

/// A word as a shell reads it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// `camtrast` and its arguments, quoted as a user would type them.
pub fn typed(words: impl Iterator<Item = String>) -> String {
    ["camtrast".to_owned()]
        .into_iter()
        .chain(words.map(|word| quoted(&word)))
        .collect::<Vec<_>>()
        .join(" ")
}
