//! `camtrast suite`: a grid of pretraining runs, seeds and tasks from one recipe.

pub mod board;
mod cell;
mod choice;
mod content;
mod estimate;
mod executor;
mod kept;
mod leakage;
mod machine;
mod only;
mod picks;
mod plan;
mod recipe;
mod settle;
mod slurm;
mod status;
mod store;
mod sweep;
mod tasks;
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
use cell::typed;
use clap::{Args, Command, Subcommand};
use content::Contents;
use executor::{Executor, TaskOptions};
pub use machine::{Machine, MachineArgs};
pub use only::Only;
pub use plan::SuitePlan;
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
    /// Cancel the Slurm jobs of a suite; what is done stays
    Cancel(StatusArgs),
    /// Run one cell, as a job of Slurm does
    #[command(hide = true)]
    Cell(CellArgs),
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
    /// Commands to run in parallel: 1 if not given; of each task with Slurm, where all may run if not given
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=256))]
    jobs: Option<u64>,
    /// Where the commands run
    #[arg(long, value_enum, default_value_t = Executor::Local)]
    executor: Executor,
    /// Options of sbatch for all jobs, such as partition=gpu,time=24:00:00,gres=gpu:1; they replace those of
    /// the recipe's [slurm] and [slurm.TASK]
    #[arg(
        long,
        value_name = "KEY=VALUE,...",
        default_value = "",
        hide_default_value = true
    )]
    slurm: String,
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

#[derive(Args)]
pub struct CellArgs {
    /// Folder of a suite
    out: PathBuf,
    /// Folder of the cell in it
    cell: PathBuf,
    #[command(flatten)]
    machine: MachineArgs,
}

/// `root` is the whole command line, which the flags of recipes are checked against. Likewise below.
pub fn run(command: SuiteCommand, root: &Command) -> Result<()> {
    match command {
        SuiteCommand::Run(args) => run_suite(args, root),
        SuiteCommand::Status(args) => args.common.screen().and_then(|_| show_status(&args.out, root)),
        SuiteCommand::Cancel(args) => args.common.screen().and_then(|_| cancel(&args.out)),
        SuiteCommand::Cell(args) => run_cell(args, root),
    }
}

/// How the commands of a plan are run.
pub enum How<'a> {
    /// By this process.
    Here,
    /// By jobs of Slurm, which are waited for.
    Slurm(slurm::Submission<'a>),
    /// Not at all: job scripts are written.
    Print(slurm::Submission<'a>),
}

fn run_suite(mut args: SuiteArgs, root: &Command) -> Result<()> {
    let machine = Machine {
        reuse: args.reuse.clone(),
        ..match args.executor {
            Executor::Local => args.machine.open(args.jobs.unwrap_or(1))?,
            // Each job finds its own device.
            Executor::Slurm | Executor::Print => args.machine.of_jobs(),
        }
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
    let tasks: Vec<&str> = plan.tasks();
    let options = TaskOptions::new(&recipe, &args.recipe, &args.slurm, &tasks)?;
    let submission = slurm::Submission {
        options: &options,
        machine_flags: args.machine.flags(),
        at_once: args.jobs,
    };
    let how = match args.executor {
        Executor::Local if !args.slurm.is_empty() => {
            return Err(Error::Usage {
                problem: "--slurm has no effect on this machine".into(),
                remedy: "give --executor slurm or --executor print with it".into(),
            }
            .into());
        }
        Executor::Local => How::Here,
        Executor::Slurm => How::Slurm(submission),
        Executor::Print => How::Print(submission),
    };
    run_plan(plan, recipe, &wanted, &args.out, &machine, &how, root)
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
    if let Some(problem) = leakage::validated_on_test(plan, settled) {
        return Err(Error::Usage {
            problem: format!("{}: {problem}", plan.recipe.display()),
            remedy: "test on other images, or choose nothing by a sweep".into(),
        }
        .into());
    }
    let leaks = leakage::leaks(plan, settled)?;
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
    how: &How,
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
    let ends = match how {
        How::Here => work(&plan, &settled, settler.contents, out, machine)?,
        How::Slurm(submission) => slurm::work(&plan, &settled, settler.contents, out, machine, submission)?,
        How::Print(submission) => {
            let script = slurm::write_scripts(&plan, &settled, settler.contents, out, machine, submission)?;
            say(std::fs::read_to_string(&script)
                .map_err(Error::io(&script, "read"))?
                .trim_end());
            note(&format!("not submitted; to submit it: {}", script.display()));
            return Ok(());
        }
    };
    if let (How::Slurm(_), true) = (how, STOP.load(Ordering::Relaxed)) {
        return slurm::left(out);
    }
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

/// The recipe kept in a suite's folder.
fn recipe_of(out: &Path) -> Result<PathBuf> {
    let recipe = kept_recipe(out);
    if !recipe.is_file() {
        return Err(Error::file(
            out,
            "is not the folder of a suite",
            "give the --out of a `camtrast suite run`",
        )
        .into());
    }
    Ok(recipe)
}

/// The plan of a suite's folder.
fn kept_plan(out: &Path, root: &Command) -> Result<SuitePlan> {
    let recipe = recipe_of(out)?;
    Ok(SuitePlan::new(&SuiteRecipe::read(&recipe)?, &recipe, out, root)?)
}

fn show_status(out: &Path, root: &Command) -> Result<()> {
    let plan = kept_plan(out, root)?;
    let jobs = slurm::Jobs::read(out)?;
    let queue = if jobs.is_empty() {
        None
    } else {
        Some(slurm::Queue::look()?)
    };
    let queued = |folder: &Path| jobs.state(folder, queue.as_ref()?);
    say(&status::grid(&plan, Contents::open(out), queued));
    Ok(())
}

fn cancel(out: &Path) -> Result<()> {
    recipe_of(out)?;
    match slurm::cancel(out)? {
        0 => say("no job of this suite is in the queue"),
        n => say(&format!(
            "{n} jobs cancelled; what they saved stays, and `camtrast suite run` continues from it"
        )),
    }
    Ok(())
}

/// Runs one cell of a suite whose recipe was kept, beside other processes that run other cells.
fn run_cell(args: CellArgs, root: &Command) -> Result<()> {
    let machine = args.machine.open(1)?;
    catch_interrupts()?;
    let plan = kept_plan(&args.out, root)?;
    let folder = args.out.join(&args.cell);
    let wanted: Vec<bool> = plan.cells.iter().map(|cell| cell.folder == folder).collect();
    let Some(number) = wanted.iter().position(|wanted| *wanted) else {
        return Err(Error::file(
            folder,
            "is not a cell of this suite's recipe, which may have changed since the job was submitted",
            "cancel the job, and submit the suite again",
        )
        .into());
    };
    let mut settler = Settler::new(root, machine.device, Contents::open(&args.out));
    let settled = settler.all(&plan, &wanted)?;
    let ends = work(&plan, &settled, settler.contents, &args.out, &machine)?;
    match &ends[number] {
        Some(End::Done | End::Kept) => Ok(()),
        Some(End::Failed(error)) => bail!("{error}"),
        Some(End::Interrupted) | None => bail!("interrupted; the state is saved"),
    }
}
