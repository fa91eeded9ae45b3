//! `camtrast suite`: a grid of pretraining runs, seeds and tasks from one recipe.

pub mod board;
mod content;
mod estimate;
mod leakage;
mod machine;
mod only;
mod plan;
mod recipe;
mod settle;
mod status;
mod store;
mod work;

use crate::commands::Common;
use crate::commands::report::show;
use crate::screen::{STOP, catch_interrupts, clock};
use anyhow::{Result, bail};
use board::note;
pub use board::say;
use camtrast_common::Error;
use camtrast_common::checkpoint::{IMPORTED, Origin};
use camtrast_common::device::device_name;
use camtrast_common::files::write_atomically;
use camtrast_common::run::lock;
use camtrast_report::record::{self, SUITE};
use clap::{Args, Command, Subcommand};
use content::Contents;
pub use machine::{Machine, MachineArgs};
pub use only::Only;
pub use plan::SuitePlan;
use plan::typed;
pub use recipe::{Run, SuiteRecipe};
use settle::{Settled, Settler};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;
use store::Store;
pub use work::with_parents;
use work::{End, kept_recipe, work};

#[derive(Subcommand)]
pub enum SuiteCommand {
    /// Pretrain every run of a recipe with every seed, transfer it to every task, and report
    Run(SuiteArgs),
    /// Show the state of a suite
    Status(StatusArgs),
}

#[derive(Args)]
pub struct SuiteArgs {
    /// The recipe, such as recipes/small/table5.toml
    recipe: PathBuf,
    /// Folder for runs and report; finished work in it is not repeated
    #[arg(long)]
    out: PathBuf,
    /// Pack to train on; replaces the recipe's
    #[arg(long)]
    train: Option<PathBuf>,
    /// Pack of the novel classes; replaces the recipe's, which must name only one
    #[arg(long)]
    test: Option<PathBuf>,
    /// Run only this part, and what it needs: keys method=, task=, run= and seed=, or the name of a run; such
    /// as method=moco,task=detection
    #[arg(long, num_args = 1..)]
    only: Vec<String>,
    /// Other suites' folders; their results with the same settings, data and backbone are copied
    #[arg(long, value_name = "DIR", value_delimiter = ',')]
    reuse: Vec<PathBuf>,
    /// Only show what would be run and how long it may take
    #[arg(long)]
    dry_run: bool,
    /// Commands to run in parallel
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=256))]
    jobs: u64,
    /// TOML file whose keys are this command's flags; flags given here win
    #[arg(long, help_heading = "Common")]
    config: Option<PathBuf>,
    /// A single seed; replaces the recipe's
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

/// `root` is the whole command line, which the flags of recipes are checked against. Likewise below.
pub fn run(command: SuiteCommand, root: &Command) -> Result<()> {
    match command {
        SuiteCommand::Run(args) => run_suite(args, root),
        SuiteCommand::Status(args) => args.common.screen().and_then(|_| show_status(&args.out, root)),
    }
}

fn run_suite(mut args: SuiteArgs, root: &Command) -> Result<()> {
    let machine = Machine {
        reuse: args.reuse.clone(),
        ..args.machine.open(args.jobs)?
    };
    for suite in &args.reuse {
        if !suite.join(SUITE).is_file() {
            return Err(Error::file(
                suite,
                "is not the folder of a suite",
                "give --reuse the --out of a suite",
            )
            .into());
        }
    }
    let mut recipe = SuiteRecipe::read(&args.recipe)?;
    recipe.replace_packs(args.train.take(), args.test.take(), &args.recipe)?;
    recipe.seeds = args.seed.map_or(recipe.seeds, |seed| vec![seed]);
    args.machine.replace(&mut recipe);
    note_files_elsewhere(&recipe, &args.recipe, args.machine.quiet);
    let plan = SuitePlan::new(&recipe, &args.recipe, &args.out, root)?;
    let only = Only::parse(&args.only, &plan)?;
    let wanted = with_parents(&plan, |cell| only.wants(cell));
    if args.dry_run {
        let mut settler = Settler::new(root, machine.device, Contents::open(&args.out));
        let settled = settler.all(&plan, &wanted)?;
        refuse_leaks(&plan, &settled, &recipe)?;
        let mut rates = estimate::Rates::new(machine.device, machine.threads);
        let store = Store::new(&args.out, &machine.reuse);
        say(&status::plan(
            &plan,
            &settled,
            &store,
            &mut settler.contents,
            &mut rates,
        ));
        settler.contents.keep();
        return Ok(());
    }
    run_plan(plan, recipe, &wanted, &args.out, &machine, root)
}

/// Prints which files were not found next to the recipe.
pub fn note_files_elsewhere(recipe: &SuiteRecipe, path: &Path, quiet: bool) {
    let files: Vec<String> = recipe
        .elsewhere
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    if !files.is_empty() && !quiet {
        let (files, recipe) = (files.join(", "), path.display());
        note(&format!(
            "note: not found next to {recipe}, so taken from the working directory: {files}"
        ));
    }
}

/// Leakage is an error, or, if the recipe allows it, a warning for each run or task.
fn refuse_leaks(plan: &SuitePlan, settled: &[Option<Settled>], recipe: &SuiteRecipe) -> Result<Vec<String>> {
    let leaks = leakage::leaks(plan, settled);
    match leaks.first() {
        Some(first) if !recipe.allow_leakage => {
            let more = if leaks.len() > 1 {
                format!(" (and {} more such cases)", leaks.len() - 1)
            } else {
                String::new()
            };
            Err(Error::Usage {
                problem: format!("{}: {first}{more}", plan.recipe.display()),
                remedy: "use other data, or set allow-leakage = true in the recipe \
                 if this is intended"
                    .into(),
            }
            .into())
        }
        _ => {
            leaks.iter().for_each(|leak| note(&format!("warning: {leak}")));
            Ok(leaks)
        }
    }
}

/// Runs a plan and writes its report.
pub fn run_plan(
    mut plan: SuitePlan,
    mut recipe: SuiteRecipe,
    wanted: &[bool],
    out: &Path,
    machine: &Machine,
    root: &Command,
) -> Result<()> {
    catch_interrupts()?;
    let mut settler = Settler::new(root, machine.device, Contents::open(out));
    let settled = settler.all(&plan, wanted)?;
    let leaks = refuse_leaks(&plan, &settled, &recipe)?;
    std::fs::create_dir_all(out).map_err(Error::io(out, "create"))?;
    let Some(_lock) = lock(out)? else {
        return Err(Error::file(
            out,
            "another process is running this suite",
            "wait until it ends, or give another --out",
        )
        .into());
    };
    settler.contents.keep();
    let begun = Instant::now();
    plan.suite.command = typed_here(&plan, machine);
    if !leaks.is_empty() {
        let separator = if plan.suite.about.is_empty() { "" } else { "\n\n" };
        plan.suite.about += &format!(
            "{separator}Tested on what was trained on, as the recipe allows: {}.",
            leaks.join("; ")
        );
    }
    // The file of a given backbone says who made it.
    for run in &mut plan.suite.runs {
        let origin = run.imported.as_deref().and_then(|path| Origin::read(path).ok());
        run.method = run
            .method
            .take()
            .or(origin.map(|o| o.method).filter(|method| method != IMPORTED));
    }
    // Running with other seeds or another pack must not change the recipe stored in the suite's folder.
    record::write(&out.join(SUITE), &plan.suite)?;
    recipe.absolute();
    write_atomically(&kept_recipe(out), |file| {
        file.write_all(recipe.to_toml().as_bytes())
    })?;
    let ends = work(&plan, &settled, settler.contents, out, machine)?;

    if STOP.load(Ordering::Relaxed) {
        bail!(
            "interrupted; the running commands have saved their states, \
             run the same command again to continue"
        );
    }
    let failed = ends
        .iter()
        .filter(|end| matches!(end, Some(End::Failed(_))))
        .count();
    let finished = ends
        .iter()
        .filter(|end| matches!(end, Some(End::Done | End::Kept)))
        .count();
    if finished == 0 {
        bail!(
            "all {failed} commands failed, `camtrast suite status {}` says why",
            out.display()
        );
    }
    show(&[out.to_owned()], out, false)?;
    if !machine.quiet {
        note(&format!(
            "{} commands in {}",
            finished + failed,
            clock(begun.elapsed().as_secs_f64())
        ));
    }
    if failed > 0 {
        bail!(
            "{failed} of {} commands failed, `camtrast suite status {}` says why",
            finished + failed,
            out.display()
        );
    }
    check_expectations(&plan, &recipe, wanted)
}

/// The command of this process, with the device and the threads that it chose itself.
fn typed_here(plan: &SuitePlan, machine: &Machine) -> String {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let given = words
        .iter()
        .any(|word| word == "--device" || word.starts_with("--device="));
    let auto = !given || words.iter().any(|word| word == "auto" || word == "--device=auto");
    // Given for all commands, threads would win over those of the recipe.
    let threads = machine.threads.is_none() && plan.cells.iter().all(|cell| cell.threads.is_none());
    let missing = [
        auto.then(|| format!("--device={}", device_name(machine.device))),
        threads.then(|| format!("--threads={}", machine.default_threads)),
    ];
    words.extend(missing.into_iter().flatten());
    typed(words.into_iter())
}

/// Compares the results with the `expect` table of the recipe; cells excluded by `--only` are skipped.
fn check_expectations(plan: &SuitePlan, recipe: &SuiteRecipe, wanted: &[bool]) -> Result<()> {
    let mut wrong = Vec::new();
    for (run, columns) in &recipe.expect {
        for (title, [expected, tolerance]) in columns {
            let column = plan
                .suite
                .columns
                .iter()
                .find(|c| c.title == *title)
                .expect("the plan knows it");
            let cells = plan
                .cells
                .iter()
                .zip(wanted)
                .filter(|(c, _)| c.run == *run && c.task == column.task);
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
            let result = format!("{run}: {title} {mean:.2}, expected {expected} ± {tolerance}");
            say(&result);
            if mean.is_nan() || (mean - expected).abs() > *tolerance {
                wrong.push(result);
            }
        }
    }
    if !wrong.is_empty() {
        bail!(
            "results differ from what the recipe expects: {}",
            wrong.join("; ")
        );
    }
    Ok(())
}

fn show_status(out: &Path, root: &Command) -> Result<()> {
    let recipe = kept_recipe(out);
    if !recipe.is_file() {
        return Err(Error::file(
            out,
            "is not the folder of a suite",
            "give the --out of a `camtrast suite run`",
        )
        .into());
    }
    let plan = SuitePlan::new(&SuiteRecipe::read(&recipe)?, &recipe, out, root)?;
    say(&status::grid(&plan, Contents::open(out)));
    Ok(())
}
