//! `camtrast suite`: a grid of pretraining runs, seeds and tasks from one recipe.

mod board;
mod content;
mod estimate;
mod only;
mod plan;
mod recipe;
mod status;
mod work;

use crate::commands::Common;
use crate::commands::report::show;
use crate::screen::{STOP, catch_interrupts, clock};
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use common::Error;
use common::checkpoint::{IMPORTED, Origin};
use common::device::{DeviceChoice, Precision};
use common::files::write_atomically;
use common::run::lock;
pub use only::Only;
pub use plan::Plan;
pub use recipe::{Run, SuiteRecipe};
use report::record::{self, SUITE};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;
use work::{End, kept_recipe, work};
pub use work::{Machine, with_parents};

#[derive(Subcommand)]
pub enum SuiteCommand {
    /// Pretrain every run of a recipe with every seed, transfer it to every task, and report
    Run(SuiteArgs),
    /// Show where a suite stands
    Status(StatusArgs),
}

#[derive(Args)]
pub struct SuiteArgs {
    /// The recipe, such as recipes/small/table5.toml
    recipe: PathBuf,
    /// Folder for runs and report; what is done there is not done again
    #[arg(long)]
    out: PathBuf,
    /// Pack to train on, in place of the recipe's
    #[arg(long)]
    train: Option<PathBuf>,
    /// Pack of the novel classes, in place of the recipe's (which must name a single one)
    #[arg(long)]
    test: Option<PathBuf>,
    /// Do this part only, such as method=moco,task=detection (or run=, seed=, or the name of a run); what it needs comes along
    #[arg(long, num_args = 1..)]
    only: Vec<String>,
    /// Show what there is to do and how long it may take, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Commands at a time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=256))]
    jobs: u64,
    /// TOML file whose keys are this command's flags; flags given here win
    #[arg(long, help_heading = "Common")]
    config: Option<PathBuf>,
    /// A single seed, in place of the recipe's
    #[arg(long, help_heading = "Common")]
    seed: Option<u64>,
    #[command(flatten)]
    machine: MachineArgs,
}

#[derive(Args)]
pub struct StatusArgs {
    /// Folder of a suite
    out: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// Flags of the machine that a suite runs on.
#[derive(Args)]
pub struct MachineArgs {
    /// cpu, cuda, cuda:N or auto
    #[arg(long, default_value = "auto", help_heading = "Common")]
    device: DeviceChoice,
    /// Precision of networks, in place of the recipe's: fp32 or bf16
    #[arg(long, help_heading = "Common")]
    precision: Option<Precision>,
    /// Threads of each command on the CPU, in place of the recipe's
    #[arg(long, help_heading = "Common")]
    threads: Option<usize>,
    /// Print results and errors only
    #[arg(long, help_heading = "Common")]
    quiet: bool,
}

impl MachineArgs {
    /// The device asked for, and the threads.
    pub fn open(&self) -> Result<tch::Device> {
        let device = self.device.open()?;
        self.threads.inspect(|threads| tch::set_num_threads((*threads).max(1) as i32));
        Ok(device)
    }

    /// Puts what is asked for here in the place of what a recipe says.
    pub fn replace(&self, recipe: &mut SuiteRecipe) {
        if let Some(precision) = self.precision {
            recipe.pretrain.insert("precision".into(), precision.to_string().into());
        }
    }

    /// The machine as asked for, with so many commands at a time.
    pub fn machine(&self, jobs: u64) -> Machine {
        Machine { jobs: jobs as usize, device: self.device.to_string(), threads: self.threads, quiet: self.quiet }
    }
}

pub fn run(command: SuiteCommand) -> Result<()> {
    match command {
        SuiteCommand::Run(args) => run_suite(args),
        SuiteCommand::Status(args) => args.common.screen().and_then(|_| show_status(&args.out)),
    }
}

fn run_suite(mut args: SuiteArgs) -> Result<()> {
    let mut recipe = SuiteRecipe::read(&args.recipe)?;
    recipe.replace_packs(args.train.take(), args.test.take(), &args.recipe)?;
    recipe.seeds = args.seed.map_or(recipe.seeds, |seed| vec![seed]);
    args.machine.replace(&mut recipe);
    let plan = Plan::new(&recipe, &args.recipe, &args.out, &crate::command_line())?;
    let only = Only::parse(&args.only, &plan)?;
    let wanted = with_parents(&plan, |cell| only.wants(cell));
    if args.dry_run {
        let mut rates = estimate::Rates::new(args.machine.open()?);
        println!("{}", status::plan(&plan, &wanted, &mut rates));
        return Ok(());
    }
    let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    run_plan(plan, &recipe, &wanted, &args.out, &args.machine.machine(args.jobs), &format!("camtrast {command}"))
}

/// Does a plan and writes its report.
pub fn run_plan(
    mut plan: Plan,
    recipe: &SuiteRecipe,
    wanted: &[bool],
    out: &Path,
    machine: &Machine,
    command: &str,
) -> Result<()> {
    catch_interrupts()?;
    std::fs::create_dir_all(out).map_err(Error::io(out, "create"))?;
    let Some(_lock) = lock(out)? else {
        return Err(
            Error::file(out, "another suite is at work here", "wait until it ends, or give another --out").into()
        );
    };
    let begun = Instant::now();
    plan.suite.command = command.to_owned();
    // Whoever made a backbone that is brought along, its file says; one that cannot be read shows where it is wanted.
    for run in &mut plan.suite.runs {
        let origin = run.imported.as_deref().and_then(|path| Origin::read(path).ok());
        run.method = run.method.take().or(origin.map(|o| o.method).filter(|method| method != IMPORTED));
    }
    // A part of the seeds or another pack does not make the suite forget what it was.
    record::write(&out.join(SUITE), &plan.suite)?;
    write_atomically(&kept_recipe(out), |file| file.write_all(recipe.to_toml().as_bytes()))?;
    let ends = work(&plan, wanted, out, machine)?;

    if STOP.load(Ordering::Relaxed) {
        bail!("interrupted; what was running is saved, the same command goes on from there");
    }
    let failed = ends.iter().filter(|end| matches!(end, Some(End::Failed(_)))).count();
    let finished = ends.iter().filter(|end| matches!(end, Some(End::Done | End::Kept))).count();
    if finished == 0 {
        bail!("all {failed} commands failed, `camtrast suite status {}` says why", out.display());
    }
    show(&[out.to_owned()], out, false)?;
    if !machine.quiet {
        eprintln!("{} commands in {}", finished + failed, clock(begun.elapsed().as_secs_f64()));
    }
    if failed > 0 {
        bail!("{failed} of {} commands failed, `camtrast suite status {}` says why", finished + failed, out.display());
    }
    check_expectations(&plan, recipe, wanted)
}

/// Holds the results against what the recipe says must come out; what was left out by `--only` is not looked at.
fn check_expectations(plan: &Plan, recipe: &SuiteRecipe, wanted: &[bool]) -> Result<()> {
    let mut wrong = Vec::new();
    for (run, columns) in &recipe.expect {
        for (title, [expected, tolerance]) in columns {
            let column = plan.suite.columns.iter().find(|c| c.title == *title).expect("the plan knows it");
            let cells = plan.cells.iter().zip(wanted).filter(|(c, _)| c.run == *run && c.task == column.task);
            if cells.clone().any(|(_, wanted)| !wanted) {
                continue;
            }
            let cells: Vec<_> = cells.map(|(cell, _)| cell).collect();
            let mut sum = 0.0;
            for cell in &cells {
                let path = cell.folder.join("metrics.json");
                let metrics: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?)?;
                let scale = if column.percent { 100.0 } else { 1.0 };
                sum += scale * metrics[&column.metric].as_f64().unwrap_or(f64::NAN);
            }
            let mean = sum / cells.len() as f64;
            let told = format!("{run}: {title} {mean:.2}, expected {expected} ± {tolerance}");
            println!("{told}");
            if mean.is_nan() || (mean - expected).abs() > *tolerance {
                wrong.push(told);
            }
        }
    }
    if !wrong.is_empty() {
        bail!("not what the recipe expects: {}", wrong.join("; "));
    }
    Ok(())
}

fn show_status(out: &Path) -> Result<()> {
    let recipe = kept_recipe(out);
    if !recipe.is_file() {
        return Err(Error::file(out, "is no suite's folder", "give the --out of a `camtrast suite run`").into());
    }
    let plan = Plan::new(&SuiteRecipe::read(&recipe)?, &recipe, out, &crate::command_line())?;
    println!("{}", status::grid(&plan));
    Ok(())
}
