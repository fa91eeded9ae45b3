//! One command of a suite: its flags, what it needs, and how it is typed.

use super::machine::Machine;
use super::sweep::SWEEP;
use crate::commands::thread_count;
use crate::config_file::flags;
use camtrast_common::checkpoint::is_kept_file;
use camtrast_common::device::device_name;
use camtrast_report::record::{COURSE, PLACES};
use clap::{ArgMatches, Command};
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
    /// Index into the [`camtrast_report::record::Suite::sweeps`] of the plan.
    pub sweep: usize,
    /// Whether it is the value that is best on average over all backbones.
    pub shared: bool,
    /// The cells that measure the values, those of a backbone one after the other in the order of the grid.
    pub among: Vec<usize>,
    /// The cell with the same backbone and its own best value, which may be the same.
    pub twin: Option<usize>,
}

impl Pick {
    /// The own best value of a backbone; the cells that measure it are found later.
    pub fn own(sweep: usize) -> Pick {
        Pick {
            sweep,
            shared: false,
            among: Vec::new(),
            twin: None,
        }
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

/// Command, flags, protocol and data of a cell; otherwise what is wrong with them.
pub fn cell(
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
