//! `camtrast suite run`: a grid of pretraining runs and seeds from one recipe, each transferred, and their table.

mod cell;
mod recipe;
mod report;

use crate::commands::Common;
use crate::screen::{STOP, catch_interrupts, clock};
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use common::device::{DeviceChoice, Precision};
use common::progress::Progress;
use recipe::SuiteRecipe;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;

#[derive(Subcommand)]
pub enum SuiteCommand {
    /// Pretrain every run of a recipe with every seed, transfer it, and print the table
    Run(SuiteArgs),
}

#[derive(Args)]
pub struct SuiteArgs {
    /// The recipe, such as recipes/small/table5.toml
    recipe: PathBuf,
    /// Folder for runs, report.md, results.csv and figure.svg; what is done there is not done again
    #[arg(long)]
    out: PathBuf,
    /// Pack to train on, in place of the recipe's
    #[arg(long)]
    train: Option<PathBuf>,
    /// Pack of the novel classes, in place of the recipe's (which must name a single one)
    #[arg(long)]
    test: Option<PathBuf>,
    /// Do these runs only, by name
    #[arg(long, num_args = 1..)]
    only: Vec<String>,
    /// Show what there is to do, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// TOML file whose keys are this command's flags; flags given here win
    #[arg(long, help_heading = "Common")]
    config: Option<PathBuf>,
    /// A single seed, in place of the recipe's
    #[arg(long, help_heading = "Common")]
    seed: Option<u64>,
    /// cpu, cuda, cuda:N or auto
    #[arg(long, default_value = "auto", help_heading = "Common")]
    device: DeviceChoice,
    /// Precision of networks, in place of the recipe's: fp32 or bf16
    #[arg(long, help_heading = "Common")]
    precision: Option<Precision>,
    /// Threads on the CPU, in place of the recipe's
    #[arg(long, help_heading = "Common")]
    threads: Option<usize>,
    /// Print results and errors only
    #[arg(long, help_heading = "Common")]
    quiet: bool,
}

pub fn run(command: SuiteCommand) -> Result<()> {
    let SuiteCommand::Run(mut args) = command;
    let mut recipe = SuiteRecipe::read(&args.recipe)?;
    recipe.replace_packs(args.train.take(), args.test.take(), &args.recipe)?;
    recipe.seeds = args.seed.map_or(recipe.seeds, |seed| vec![seed]);
    if let Some(precision) = args.precision {
        recipe.pretrain.insert("precision".into(), precision.to_string().into());
    }
    recipe.keep_only(&args.only, &args.recipe)?;
    let cells = recipe.cells(&args.out);
    let common = Common {
        config: None,
        seed: 0,
        device: args.device,
        precision: Precision::Fp32,
        threads: args.threads.or(recipe.threads()?),
        quiet: args.quiet,
    };
    let (device, screen) = common.open()?;
    if args.dry_run {
        cells.iter().for_each(|cell| println!("{:8}  {}", cell.state(), cell.out.display()));
        return Ok(());
    }
    catch_interrupts()?;
    std::fs::create_dir_all(&args.out).map_err(common::Error::io(&args.out, "create"))?;
    let begun = Instant::now();
    let packs = cell::Packs::open(&recipe)?;
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for (i, cell) in cells.iter().enumerate() {
        screen.note(&format!("── {} · seed {} · {} of {}", cell.run.name, cell.seed, i + 1, cells.len()));
        match cell.work(&recipe, &packs, device, &screen) {
            Ok(results) => done.push((cell, results)),
            Err(error) if STOP.load(Ordering::Relaxed) => return Err(error),
            // One run that cannot be done does not take the others with it.
            Err(error) => {
                screen.note(&format!("warning: {} seed {} failed: {error:#}", cell.run.name, cell.seed));
                failed.push((cell, format!("{error:#}")));
            }
        }
        // After every cell, so that a suite can be looked at while it runs.
        report::write(&args.out, &args.recipe, &recipe, &done, &failed, begun.elapsed().as_secs_f64())?;
    }
    println!("\n{}\n", report::table(&recipe, &done).to_text());
    println!("{} ({})", args.out.join("report.md").display(), clock(begun.elapsed().as_secs_f64()));
    if !failed.is_empty() {
        bail!("{} of {} runs failed, see {}", failed.len(), cells.len(), args.out.join("report.md").display());
    }
    Ok(())
}
