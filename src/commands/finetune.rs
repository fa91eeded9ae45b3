//! What the commands that fine-tune a backbone for a dense task have in common.

use super::{Common, RunArgs, print_config, tell_origin, tell_outcome, tracked};
use crate::screen::{STOP, Screen, catch_interrupts};
use crate::track::pictures_for_tensorboard;
use anyhow::Result;
use camtrast_finetune::{DenseTask, Settings, Start, Tune, Validation, train};
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub struct FineTuneArgs {
    /// A backbone.safetensors
    #[arg(long)]
    checkpoint: PathBuf,
    /// The part of the backbone that is trained, besides the task's own layers
    #[arg(long, value_enum, default_value = "all")]
    tune: Tune,
    #[command(flatten)]
    validation: Validation,
    #[command(flatten)]
    run: RunArgs,
}

impl FineTuneArgs {
    /// Whether the best network on validation images is tested.
    pub fn tests_best(&self) -> bool {
        self.validation.test_best
    }
}

/// Trains the task that `task` makes, shows its evaluation by `show` and prints the network's file.
pub fn fine_tune<T: DenseTask>(
    args: FineTuneArgs,
    common: &Common,
    task: impl FnOnce(&Screen) -> Result<T>,
    show: impl FnOnce(&T::Evaluation, &Screen),
) -> Result<()> {
    let start = Start {
        checkpoint: args.checkpoint,
        seed: common.seed,
        precision: common.precision,
        arithmetic: args.run.arithmetic,
        tune: args.tune,
        validation: args.validation,
    };
    if args.run.print_config {
        let (_, screen) = common.open()?;
        let task = &task(&screen)?;
        return print_config(&Settings {
            start: &start,
            task: task.settings(),
        });
    }
    let (device, screen, group) = common.open_shared(&args.run.processes)?;
    catch_interrupts()?;
    let track = args.run.track.clone();
    let options = args.run.options(device, group);
    let task = task(&screen)?;
    let report = tracked(track.as_ref(), &options, &screen, || {
        Ok(train(&task, &start, &options, &screen, &STOP)?)
    })?;
    tell_outcome("fine-tuning", &report.outcome, &screen)?;
    if let Some(evaluation) = &report.evaluation {
        show(evaluation, &screen);
        tell_origin(&report.origin, &screen);
        if group.leads() {
            pictures_for_tensorboard(&options.out, report.outcome.step)?;
        }
    }
    println!("{}", report.network.display());
    Ok(())
}
