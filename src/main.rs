//! camtrast: which pretraining transfers best?
//!
//! Parse, plan, dispatch. This is the only code that prints or exits.

mod commands;
mod config_file;
mod demo;
mod published;
mod screen;
mod table;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use common::Error;
use std::process::ExitCode;

/// Which pretraining transfers best? Pretrain a ResNet, transfer it unchanged, and print the numbers beside the published ones.
#[derive(Parser)]
#[command(name = "camtrast", version = version(), arg_required_else_help = true, max_term_width = 110)]
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
    Data(commands::data::DataCommand),
    /// Pretrain a backbone
    Pretrain(Box<commands::pretrain::PretrainArgs>),
    /// Few-shot recognition with a linear probe
    #[command(subcommand)]
    Fewshot(commands::fewshot::FewshotCommand),
    /// Look into backbone checkpoints, and bring foreign ones in
    #[command(subcommand)]
    Checkpoint(commands::checkpoint::CheckpointCommand),
}

fn version() -> &'static str {
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("CAMTRAST_COMMIT"), ")")
}

fn main() -> ExitCode {
    let arguments = match config_file::expand(std::env::args_os().collect(), &Cli::command()) {
        Ok(arguments) => arguments,
        Err(error) => return fail(&error.into()),
    };
    // A later flag replaces an earlier one, so that the command line overrules the configuration file.
    let matches = override_self(Cli::command()).get_matches_from(arguments);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let outcome = match cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Data(command) => commands::data::run(command),
        Command::Pretrain(args) => commands::pretrain::run(*args),
        Command::Fewshot(command) => commands::fewshot::run(command),
        Command::Checkpoint(command) => commands::checkpoint::run(command),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn override_self(command: clap::Command) -> clap::Command {
    let names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let command = command.args_override_self(true);
    names.into_iter().fold(command, |command, name| command.mut_subcommand(name, override_self))
}

/// One line on standard error; 2 for a command line that cannot mean anything, 1 for the rest.
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("camtrast: {error:#}");
    let usage = matches!(error.downcast_ref::<Error>(), Some(Error::Usage { .. }));
    ExitCode::from(if usage { 2 } else { 1 })
}
