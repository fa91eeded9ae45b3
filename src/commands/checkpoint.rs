//! `camtrast checkpoint info` and `import`.

use super::Common;
use anyhow::Result;
use clap::{Args, Subcommand};
use common::augment::{IMAGENET_MEAN, IMAGENET_STD};
use common::checkpoint::{ImportOrigin, import_torchvision, load_backbone};
use std::path::PathBuf;
use tch::{Device, Kind};

#[derive(Subcommand)]
pub enum CheckpointCommand {
    /// Architecture, provenance, checksum and norms of a backbone
    Info(InfoArgs),
    /// Make a backbone checkpoint of a torchvision-named safetensors file
    Import(ImportArgs),
}

#[derive(Args)]
pub struct InfoArgs {
    /// A backbone.safetensors
    checkpoint: PathBuf,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub struct ImportArgs {
    /// safetensors file of a torchvision `resnetXX().state_dict()`
    file: PathBuf,
    /// The checkpoint to write
    #[arg(long)]
    out: PathBuf,
    /// Side of the images it was trained on, in pixels
    #[arg(long, default_value_t = 224)]
    image_size: i64,
    #[command(flatten)]
    common: Common,
}

pub fn run(command: CheckpointCommand) -> Result<()> {
    match command {
        CheckpointCommand::Info(args) => info(args),
        CheckpointCommand::Import(args) => import(args),
    }
}

fn info(args: InfoArgs) -> Result<()> {
    let backbone = load_backbone(&args.checkpoint, Device::Cpu)?;
    let info = &backbone.info;
    let variables = backbone.vs.variables();
    let weights = variables.values().filter(|t| t.requires_grad());
    let count: usize = weights.clone().map(|t| t.numel()).sum();
    let norm = weights.map(|t| t.square().sum(Kind::Double).double_value(&[])).sum::<f64>().sqrt();
    for (key, value) in [
        ("architecture", info.arch.to_string()),
        ("features", info.arch.features().to_string()),
        ("parameters", count.to_string()),
        ("parameter norm", format!("{norm:.4}")),
        ("method", info.method.clone()),
        ("data set", info.dataset.clone()),
        ("data set sha256", info.dataset_sha256.clone()),
        ("image size", info.image_size.to_string()),
        ("epochs", info.epoch.to_string()),
        ("steps", info.step.to_string()),
        ("commit", info.commit.clone()),
        ("sha256", backbone.sha256.clone()),
        ("config", info.config.clone()),
    ] {
        println!("{key:<16}{value}");
    }
    Ok(())
}

fn import(args: ImportArgs) -> Result<()> {
    let origin = ImportOrigin {
        mean: IMAGENET_MEAN,
        std: IMAGENET_STD,
        image_size: args.image_size,
        commit: env!("CAMTRAST_COMMIT").into(),
    };
    let report = import_torchvision(&args.file, &args.out, &origin)?;
    println!("{}: {} tensors matched, none missing", report.arch, report.matched);
    if !report.dropped.is_empty() {
        println!("left out, no part of a backbone: {}", report.dropped.join(", "));
    }
    Ok(())
}
