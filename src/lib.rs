//! camtrast: which pretraining transfers best?
//!
//! Parse, plan, dispatch. This is the only code that prints or exits.
//!
//! There are two programs, because loading libtorch and OpenCV takes a third of a second: `camtrast` starts
//! in milliseconds, runs the commands that need neither, and for all others becomes `camtrast-torch`, which
//! has every command. The linker leaves libraries out of the first that none of its commands uses.

#[macro_use]
mod output;

mod commands;
mod config_file;
mod demo;
mod launch;
mod processes;
mod protocol;
mod screen;
mod suite;
mod track;

use camtrast_common::{Error, memory};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use commands::data::DataCommand;
use commands::detection::DetectionCommand;
use commands::fewshot::FewshotCommand;
use commands::segmentation::SegmentationCommand;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

/// Which pretraining transfers best? Pretrain a ResNet, transfer it unchanged, and print the numbers next to
/// the published ones.
#[derive(Parser)]
#[command(
    name = "camtrast",
    bin_name = "camtrast",
    version = version(),
    arg_required_else_help = true,
    max_term_width = 110
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Try everything in minutes: make a small world, pretrain, transfer, report
    Demo(demo::DemoArgs),
    /// Make, pack and inspect data sets
    #[command(subcommand)]
    Data(DataCommand),
    /// Pretrain a backbone
    Pretrain(Box<commands::pretrain::PretrainArgs>),
    /// Few-shot recognition with a linear probe
    #[command(subcommand)]
    Fewshot(FewshotCommand),
    /// Classification of a labelled data set: linear probe, nearest neighbours, fine-tuning
    #[command(subcommand)]
    Probe(commands::probe::ProbeCommand),
    /// Object detection with Faster R-CNN
    #[command(subcommand)]
    Detection(DetectionCommand),
    /// Semantic segmentation with DeepLab v3+
    #[command(subcommand)]
    Segmentation(SegmentationCommand),
    /// Transfer one backbone to every task of a recipe
    Transfer(commands::transfer::TransferArgs),
    /// Run many pretrainings and their transfer from one recipe
    #[command(subcommand)]
    Suite(suite::SuiteCommand),
    /// Make one page of tables, curves and pictures from result folders
    Report(commands::report::ReportArgs),
    /// Copy runs to MLflow, or to tables that other tools import
    Track(commands::track::TrackArgs),
    /// Analyze backbones: measures of their features, class activation maps
    #[command(subcommand)]
    Analyze(commands::analyze::AnalyzeCommand),
    /// Inspect, compare, import and export backbone checkpoints
    #[command(subcommand)]
    Checkpoint(commands::checkpoint::CheckpointCommand),
    /// Print a script that completes commands and flags in a shell
    Completions(commands::shell::CompletionsArgs),
    /// Write a man page for every command
    Man(commands::shell::ManArgs),
}

fn version() -> &'static str {
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("CAMTRAST_COMMIT"), ")")
}

/// The program `camtrast`: runs what needs no libtorch, and becomes `camtrast-torch` for everything else.
pub fn start() -> ExitCode {
    report_panics_in_one_line();
    let (cli, _) = match parse() {
        Ok(parsed) => parsed,
        Err(error) => return fail(&error.into()),
    };
    match &cli.command {
        Command::Completions(_) | Command::Man(_) | Command::Report(_) | Command::Track(_) => {}
        Command::Data(DataCommand::Info(_)) | Command::Fewshot(FewshotCommand::Score(_)) => {}
        Command::Segmentation(SegmentationCommand::Score(_)) => {}
        Command::Detection(DetectionCommand::Score(args)) if !args.draws() => {}
        _ => return fail(&become_torch()),
    }
    if let Err(error) = screen::end_with_input() {
        return fail(&error.into());
    }
    end(without_torch(cli.command))
}

/// The program `camtrast-torch`: every command.
pub fn run() -> ExitCode {
    report_panics_in_one_line();
    if let Err(error) = screen::end_with_input() {
        return fail(&error.into());
    }
    let (cli, root) = match parse() {
        Ok(parsed) => parsed,
        Err(error) => return fail(&error.into()),
    };
    end(guarded(|| match cli.command {
        Command::Demo(args) => demo::run(args, &root),
        Command::Data(command) => commands::data::run(command),
        Command::Pretrain(args) => commands::pretrain::run(*args),
        Command::Fewshot(command) => commands::fewshot::run(command),
        Command::Probe(command) => commands::probe::run(command),
        Command::Detection(command) => commands::detection::run(command),
        Command::Segmentation(command) => commands::segmentation::run(command),
        Command::Transfer(args) => commands::transfer::run(args, &root),
        Command::Suite(command) => suite::run(command, &root),
        Command::Analyze(command) => commands::analyze::run(command),
        Command::Checkpoint(command) => commands::checkpoint::run(command),
        command => without_torch(command),
    }))
}

/// Runs a command. Training says itself that memory has run out, and with which batch; what is left is
/// evaluation.
fn guarded(command: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut outcome = Ok(());
    let run = || {
        outcome = command();
        Ok(())
    };
    let explain = |wanted| {
        let remedy =
            "end other programs on the device, use smaller images or --precision bf16, or --device cpu";
        Error::settings(format!("out of memory ({wanted})"), remedy)
    };
    memory::guarded(run, explain)?;
    outcome
}

/// The commands that need neither libtorch nor OpenCV.
fn without_torch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Completions(args) => commands::shell::completions(args, Cli::command()),
        Command::Man(args) => commands::shell::man(args, Cli::command()),
        Command::Report(args) => commands::report::run(args),
        Command::Track(args) => commands::track::run(args),
        Command::Data(DataCommand::Info(args)) => commands::data::run_info(args),
        Command::Fewshot(FewshotCommand::Score(args)) => commands::fewshot::run_score(args),
        Command::Detection(DetectionCommand::Score(args)) => commands::detection::run_score(args, None),
        Command::Segmentation(SegmentationCommand::Score(args)) => commands::segmentation::run_score(args),
        _ => unreachable!("`start` and `run` know the others"),
    }
}

/// glibc's allocator for programs that free and allocate the same large blocks in every step: memory that was
/// freed stays with the process, and large areas are of huge pages. A variable that is set already wins, and
/// other systems ignore this one.
const ALLOCATOR: (&str, &str) = (
    "GLIBC_TUNABLES",
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=4294967296",
);

/// Replaces this process by `camtrast-torch` with the same arguments; returns only when that fails.
fn become_torch() -> anyhow::Error {
    let program = match std::env::current_exe() {
        Ok(own) => own.with_file_name("camtrast-torch"),
        Err(error) => return error.into(),
    };
    let mut command = std::process::Command::new(&program);
    if std::env::var_os(ALLOCATOR.0).is_none() {
        command.env(ALLOCATOR.0, ALLOCATOR.1);
    }
    let error = command.args(std::env::args_os().skip(1)).arg0("camtrast").exec();
    let problem = format!("cannot be started ({error})");
    let remedy = "install it in the folder of camtrast; `cargo build` makes both";
    Error::file(program, problem, remedy).into()
}

/// The arguments, and the command line that they are checked against.
fn parse() -> camtrast_common::Result<(Cli, clap::Command)> {
    let arguments = config_file::expand(std::env::args_os().collect(), &Cli::command())?;
    // A later flag replaces an earlier one, so that the command line overrules the configuration file.
    let root = command_line();
    let matches = root.clone().get_matches_from(arguments);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    Ok((cli, root))
}

fn end(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => match output::finish() {
            Ok(()) => {
                processes::leave();
                ExitCode::SUCCESS
            }
            Err(error) => fail(&Error::io("standard output", "write")(error).into()),
        },
        Err(error) => fail(&error),
    }
}

fn override_self(command: clap::Command) -> clap::Command {
    let names: Vec<String> = command
        .get_subcommands()
        .map(|c| c.get_name().to_owned())
        .collect();
    let command = command.args_override_self(true);
    names.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, override_self)
    })
}

/// The whole command line, also used to check the arguments of a recipe's commands.
fn command_line() -> clap::Command {
    override_self(Cli::command())
}

/// Prints one line on standard error, of several processes in one of them; exit code 2 for an invalid command
/// line, 1 for all other errors.
fn fail(error: &anyhow::Error) -> ExitCode {
    if let Some(words) = processes::words(error) {
        eprintln!("camtrast: {words}");
    }
    ExitCode::from(if matches!(error.downcast_ref(), Some(Error::Usage { .. })) {
        2
    } else {
        1
    })
}

/// Turns a panic into one line and exit code 1: most of libtorch's errors reach us as panics. With
/// RUST_BACKTRACE set, panics are printed as usual.
fn report_panics_in_one_line() {
    if std::env::var_os("RUST_BACKTRACE").is_some_and(|v| v != "0") {
        return;
    }
    std::panic::set_hook(Box::new(|info| {
        // Of batch norm over several processes.
        if let Some(Error::Lost {
            problem,
            remedy,
            reported,
        }) = info.payload().downcast_ref()
        {
            if !reported {
                processes::let_parent_speak();
                eprintln!("camtrast: {problem}; {remedy}");
            }
            std::process::exit(1);
        }
        let text = info.payload_as_str().unwrap_or("unknown cause");
        // The main thread comes back from it, and says what to lower.
        if memory::exhausted(text).is_some() && std::thread::current().name() == Some("main") {
            return;
        }
        // tch's message is the debug form of libtorch's, whose first line names the problem.
        let torch = text
            .split_once("Torch(\"")
            .map(|(_, rest)| rest.split("\\n").next().unwrap_or(rest));
        match torch {
            Some(text) => {
                eprintln!("camtrast: libtorch: {text}")
            }
            None => {
                let place = info
                    .location()
                    .map(|l| format!(" ({}:{})", l.file(), l.line()))
                    .unwrap_or_default();
                let text = text.lines().next().unwrap_or_default();
                eprintln!("camtrast: internal error: {text}{place}; RUST_BACKTRACE=1 shows more");
            }
        }
        std::process::exit(1);
    }));
}
