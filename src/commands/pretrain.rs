//! `camtrast pretrain`.

use super::{Common, RunArgs, print_config, tell_outcome, tracked};
use crate::screen::{STOP, catch_interrupts};
use anyhow::Result;
use camtrast_common::distributed::Group;
use camtrast_common::resnet::{Arch, Stem};
use camtrast_datasets::Pack;
use camtrast_pretrain::{
    Method, Preset, PretrainConfig, PretrainOptions, PretrainRecipe, PretrainReport, Subset, pretrain,
};
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub struct PretrainArgs {
    /// Pretraining method
    #[arg(long)]
    method: Method,
    /// Published settings that replace the method's defaults; flags on the command line win over them
    #[arg(long)]
    preset: Option<Preset>,
    /// The pack to train on (made by `camtrast data prepare`)
    #[arg(long)]
    data: PathBuf,
    #[command(flatten)]
    run: RunArgs,
    /// resnet18, resnet34, resnet50 or resnet101
    #[arg(long, default_value = "resnet50")]
    arch: Arch,
    /// Channels after the stem (64 in the published networks)
    #[arg(long)]
    width: Option<i64>,
    /// standard, small for 32-pixel images, or v1c (three 3x3 convolutions, as mmsegmentation's ResNetV1c)
    #[arg(long)]
    stem: Option<Stem>,
    /// Batches whose gradients are added up for one step
    #[arg(long, default_value_t = 1)]
    accumulate: u64,
    /// Largest norm of all gradients together; larger ones are scaled down
    #[arg(long)]
    clip_norm: Option<f64>,
    /// After the last step, recompute the running statistics of batch norm on this many batches of images
    /// without augmentation
    #[arg(long)]
    precise_bn: Option<u64>,
    /// Epochs between measurements of the representation (entropy, uniformity, rank, nearest neighbours),
    /// which go to the log
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    probe_every: Option<u64>,
    /// Start from this backbone instead of random weights
    #[arg(long)]
    init: Option<PathBuf>,
    /// Epochs whose backbones are kept, too, as backbone-epoch50.safetensors and so on
    #[arg(long, value_delimiter = ',')]
    keep_epochs: Vec<u64>,
    /// Train the run in --out for more --epochs than it was begun with
    #[arg(long)]
    extend: bool,
    #[command(flatten)]
    subset: Subset,
    #[command(flatten)]
    options: PretrainOptions,
    #[command(flatten)]
    common: Common,
}

pub fn run(args: PretrainArgs) -> Result<()> {
    if args.run.print_config {
        let (device, _) = args.common.open()?;
        let recipe = args.recipe()?;
        let pack = Pack::open(&recipe.data)?;
        return print_config(&recipe.settle(&pack, device, Group::ALONE)?.recipe);
    }
    let (device, screen, group) = args.common.open_shared(&args.run.processes)?;
    catch_interrupts()?;
    let (track, probe_every) = (args.run.track.clone(), args.probe_every);
    let (keep_epochs, extend) = (args.keep_epochs.clone(), args.extend);
    let run = args.run.clone().options(device, group);
    let config = PretrainConfig {
        recipe: args.recipe()?,
        run,
        probe_every,
        keep_epochs,
        extend,
    };
    let PretrainReport {
        recipe,
        backbone,
        outcome,
    } = tracked(track.as_ref(), &config.run, &screen, || {
        Ok(pretrain(&config, &screen, &STOP)?)
    })?;
    tell_outcome(&recipe.method.to_string(), &outcome, &screen)?;
    println!("{}", backbone.display());
    Ok(())
}

impl PretrainArgs {
    /// The settings that decide the weights.
    pub fn recipe(self) -> Result<PretrainRecipe> {
        let mut arch: Arch = self.arch;
        arch.width = self.width.unwrap_or(arch.width);
        arch.stem = self.stem.unwrap_or(arch.stem);
        let arch: Arch = arch
            .to_string()
            .parse()
            .map_err(|e: String| camtrast_common::Error::Usage {
                problem: e,
                remedy: "choose --width from 4 to 512".into(),
            })?;
        let options = match self.preset {
            Some(preset) => preset.under(self.options, self.method)?,
            None => self.options,
        };
        Ok(PretrainRecipe {
            method: self.method,
            preset: self.preset,
            data: self.data,
            seed: self.common.seed,
            precision: self.common.precision,
            arithmetic: self.run.arithmetic,
            arch,
            subset: self.subset,
            accumulate: self.accumulate,
            clip_norm: self.clip_norm,
            precise_bn: self.precise_bn,
            init: self.init,
            options,
        })
    }
}
