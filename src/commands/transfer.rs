//! `camtrast transfer`: one backbone to every task of a recipe.

use super::checkpoint_name;
use crate::suite::{
    How, MachineArgs, Only, Run, SuitePlan, SuiteRecipe, note_files_elsewhere, run_plan, with_parents,
};
use anyhow::Result;
use camtrast_common::checkpoint::Origin;
use camtrast_common::files::write_atomically;
use clap::{Args, Command};
use std::path::PathBuf;

#[derive(Args)]
pub struct TransferArgs {
    /// A backbone.safetensors
    #[arg(long)]
    checkpoint: PathBuf,
    /// Suite recipe whose tasks are used (tables data, fewshot, detection and segmentation); its runs and
    /// seeds are ignored
    #[arg(long)]
    recipe: PathBuf,
    /// Folder for results and report; finished tasks in it are not repeated
    #[arg(long)]
    out: PathBuf,
    /// Name of the backbone in the report (default: the name of its folder or file)
    #[arg(long)]
    name: Option<String>,
    /// Published numbers of this backbone to print next to ours, such as 1-shot=55.31 AP50=81.3
    #[arg(long, num_args = 1.., value_name = "COLUMN=NUMBER", value_parser = published)]
    published: Vec<(String, f64)>,
    /// Pack of the novel classes; replaces the recipe's, which must name only one
    #[arg(long)]
    test: Option<PathBuf>,
    /// Run only these tasks, such as task=detection
    #[arg(long, num_args = 1..)]
    only: Vec<String>,
    /// Tasks to run in parallel
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=256))]
    jobs: u64,
    /// TOML file whose keys are this command's flags; flags given here win
    #[arg(long, help_heading = "Common")]
    config: Option<PathBuf>,
    /// Seed of everything random
    #[arg(long, default_value_t = 0, help_heading = "Common")]
    seed: u64,
    #[command(flatten)]
    machine: MachineArgs,
}

fn published(text: &str) -> Result<(String, f64), String> {
    let (column, number) = text
        .rsplit_once('=')
        .ok_or("give a column and a number, as in 1-shot=55.31")?;
    let number = number
        .trim()
        .parse()
        .ok()
        .filter(|n: &f64| n.is_finite())
        .ok_or(format!("{number:?} is not a number"))?;
    Ok((column.trim().to_owned(), number))
}

/// `root` is the whole command line, which the flags of the recipe are checked against.
pub fn run(args: TransferArgs, root: &Command) -> Result<()> {
    let machine = args.machine.open(args.jobs)?;
    // Checked before the recipe: a wrong checkpoint is the more basic mistake.
    Origin::read(&args.checkpoint)?;
    let mut recipe = SuiteRecipe::read(&args.recipe)?;
    recipe.replace_packs(None, args.test, &args.recipe)?;
    args.machine.replace(&mut recipe);
    let name = args.name.unwrap_or_else(|| checkpoint_name(&args.checkpoint));
    let published = recipe
        .runs
        .iter()
        .find(|run| run.name == name)
        .map(|run| run.published.clone());
    // The recipe's description of its own runs does not apply to this one.
    recipe.about = format!(
        "{name} ({}), by the tasks of {}.",
        args.checkpoint.display(),
        args.recipe.display()
    );
    if !args.published.is_empty() {
        recipe.published_protocol = "as given on the command line.".into();
    }
    let published = published.into_iter().flatten().chain(args.published).collect();
    recipe.runs = vec![Run {
        name,
        checkpoint: Some(args.checkpoint.clone()),
        published,
        ..Run::default()
    }];
    recipe.seeds = vec![args.seed];
    // Which images it was trained on is not known here.
    recipe.representation = false;
    recipe.expect.clear();
    let plan = SuitePlan::new(&recipe, &args.recipe, &args.out, root)?;
    let only = Only::parse(&args.only, &plan)?;
    let wanted = with_parents(&plan, |cell| only.wants(cell));
    let folders: Vec<PathBuf> = plan.cells.iter().map(|cell| cell.folder.clone()).collect();
    note_files_elsewhere(&recipe, &args.recipe, machine.quiet);
    run_plan(plan, recipe, &wanted, &args.out, &machine, &How::Here, root)?;

    // All metrics in one file, as in every run folder.
    let mut all = serde_json::Map::new();
    let mut seconds = 0.0;
    for folder in folders {
        let Ok(bytes) = std::fs::read(folder.join("metrics.json")) else {
            continue;
        };
        let metrics: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&bytes)?;
        seconds += metrics
            .get("seconds")
            .and_then(serde_json::Value::as_f64)
            .unwrap_or_default();
        all.extend(metrics);
    }
    all.insert("seconds".into(), seconds.into());
    write_atomically(&args.out.join("metrics.json"), |file| {
        writeln!(file, "{:#}", serde_json::Value::Object(all))
    })?;
    Ok(())
}
