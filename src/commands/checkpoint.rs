//! `camtrast checkpoint info`, `import`, `export` and `diff`.

use super::Common;
use anyhow::Result;
use camtrast_common::Error;
use camtrast_common::augment::{IMAGENET_MEAN, IMAGENET_STD};
use camtrast_common::checkpoint::{OURS, load_backbone, some};
use camtrast_common::tensor_file::TensorFile;
use camtrast_interop::StateFile;
use camtrast_interop::diff::diff;
use camtrast_interop::export::{Target, export};
use camtrast_interop::import::{ImportOptions, import};
use camtrast_interop::naming::candidates;
use clap::{Args, Subcommand};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind};

#[derive(Subcommand)]
pub enum CheckpointCommand {
    /// Show architecture, origin, checksum and norms of a backbone, or the content of another tool's file
    Info(InfoArgs),
    /// Convert another tool's file (.pth, .pth.tar, .pt, .ckpt, .pkl, .safetensors) to a backbone checkpoint;
    /// no code in it is run
    Import(ImportArgs),
    /// Convert a backbone to another tool's format
    Export(ExportArgs),
    /// Compare two backbones, ours or another tool's; exits 1 when they differ
    Diff(DiffArgs),
}

#[derive(Args)]
pub struct InfoArgs {
    /// A backbone.safetensors, or another tool's file
    checkpoint: PathBuf,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub struct ImportArgs {
    /// Weights of torchvision, timm, MoCo, SimSiam, BYOL, solo-learn, lightly, VISSL, mmpretrain or
    /// detectron2
    file: PathBuf,
    /// The checkpoint to write
    #[arg(long)]
    out: PathBuf,
    /// Which backbone, if the file has several: the prefix of its tensor names, such as module.encoder_k
    #[arg(long)]
    prefix: Option<String>,
    /// Accept an incomplete backbone; missing tensors are initialised, and its results are marked
    #[arg(long)]
    allow_missing: bool,
    /// A network with detectron2's or Caffe2's names has its stride on the 3x3 convolutions, and takes RGB
    /// images
    #[arg(long)]
    stride_in_3x3: bool,
    /// Size (side) of the images it was trained on, in pixels
    #[arg(long, default_value_t = 224)]
    image_size: i64,
    /// Mean of the normalisation it was trained with, RGB in 0..1 (default: ImageNet's)
    #[arg(long, value_name = "R,G,B", value_parser = colours)]
    mean: Option<[f64; 3]>,
    /// Standard deviation of that normalisation (default: ImageNet's)
    #[arg(long, value_name = "R,G,B", value_parser = colours)]
    std: Option<[f64; 3]>,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub struct ExportArgs {
    /// A backbone.safetensors
    checkpoint: PathBuf,
    /// torchvision, timm, detectron2, mmdet or mmseg
    #[arg(long)]
    to: Target,
    /// The file to write: .safetensors, .pth, or detectron2's .pkl
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub struct DiffArgs {
    /// The first backbone
    a: PathBuf,
    /// The second backbone
    b: PathBuf,
    /// Which backbone, if the first file has several: the prefix of its tensor names
    #[arg(long)]
    prefix_a: Option<String>,
    /// Which backbone, if the second file has several: the prefix of its tensor names
    #[arg(long)]
    prefix_b: Option<String>,
    /// Number of tensors to list, those that differ most first
    #[arg(long, default_value_t = 10)]
    show: usize,
    #[command(flatten)]
    common: Common,
}

fn colours(text: &str) -> Result<[f64; 3], String> {
    let values: Option<Vec<f64>> = text
        .split(',')
        .map(|v| v.trim().parse().ok().filter(|v: &f64| v.is_finite()))
        .collect();
    values
        .and_then(|v| v.try_into().ok())
        .ok_or_else(|| "give three numbers, as in 0.485,0.456,0.406".into())
}

pub fn run(command: CheckpointCommand) -> Result<()> {
    match command {
        CheckpointCommand::Info(args) => info(args),
        CheckpointCommand::Import(args) => take_in(args),
        CheckpointCommand::Export(args) => give_out(args),
        CheckpointCommand::Diff(args) => compare(args),
    }
}

fn info(args: InfoArgs) -> Result<()> {
    if let Some(file) = foreign(&args.checkpoint) {
        return foreign_info(&file?);
    }
    let backbone = load_backbone(&args.checkpoint, Device::Cpu)?;
    let info = &backbone.info;
    let variables = backbone.vs.variables();
    let weights = variables.values().filter(|t| t.requires_grad());
    let count: usize = weights.clone().map(|t| t.numel()).sum();
    let norm = weights
        .map(|t| t.square().sum(Kind::Double).double_value(&[]))
        .sum::<f64>()
        .sqrt();
    let triple = |v: [f64; 3]| v.map(|x| x.to_string()).join(", ");
    for (key, value) in [
        ("architecture", info.arch.to_string()),
        ("features", info.arch.features().to_string()),
        ("parameters", count.to_string()),
        ("parameter norm", format!("{norm:.4}")),
        ("method", info.method.clone()),
        ("partial", info.partial().unwrap_or_else(|| "no".into())),
        ("data set", info.dataset.clone()),
        ("data set sha256", info.dataset_sha256.clone()),
        ("trained classes", names(&info.class_names)),
        ("image size", info.image_size.to_string()),
        ("mean", triple(info.mean)),
        ("std", triple(info.std)),
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

fn names(class_names: &[String]) -> String {
    if class_names.is_empty() {
        "unknown".into()
    } else {
        format!("{}: {}", class_names.len(), class_names.join(", "))
    }
}

// A file of another tool is described if it can be read; anything else gives the errors of our own files.
fn foreign(path: &Path) -> Option<camtrast_common::Result<StateFile>> {
    match TensorFile::open(path) {
        Ok(file)
            if file
                .metadata()
                .get("format")
                .is_some_and(|format| format.starts_with(OURS)) =>
        {
            None
        }
        Ok(_) => Some(StateFile::open(path)),
        Err(_) => {
            let file = StateFile::open(path);
            // A damaged safetensors file, or a missing file, gives its own error.
            let is_other = path.extension().is_some_and(|e| e != "safetensors") && path.is_file();
            (file.is_ok() || is_other).then_some(file)
        }
    }
}

fn foreign_info(file: &StateFile) -> Result<()> {
    println!("{:<16}{}", "container", file.container());
    if let Some(author) = file.author() {
        println!("{:<16}{author}", "author");
    }
    let mut types: BTreeMap<&str, usize> = BTreeMap::new();
    file.tensors()
        .iter()
        .for_each(|tensor| *types.entry(tensor.dtype.name()).or_default() += 1);
    let types: Vec<String> = types
        .iter()
        .map(|(name, count)| format!("{count} of {name}"))
        .collect();
    println!("{:<16}{} ({})", "tensors", file.tensors().len(), types.join(", "));
    let found = candidates(file.names());
    if found.is_empty() {
        println!("{:<16}none found", "backbones");
    }
    for candidate in found {
        let what = match camtrast_interop::import::find(file, Some(&candidate.prefix)) {
            Ok(found) if found.missing.is_empty() => found.arch.to_string(),
            Ok(found) => format!("{}, {} tensors missing", found.arch, found.missing.len()),
            Err(Error::File { problem, .. }) => problem,
            Err(other) => return Err(other.into()),
        };
        println!("{:<16}{candidate}: {what}", "backbone");
    }
    if !file.foreign().is_empty() {
        println!("{:<16}{}", "not called", file.foreign().join(", "));
    }
    println!("to use a backbone here, run `camtrast checkpoint import`");
    Ok(())
}

/// Refuses an output path that is the input: the input would be lost.
fn keep_source(source: &Path, out: &Path) -> Result<()> {
    match (source.canonicalize(), out.canonicalize()) {
        (Ok(source), Ok(same)) if source == same => {
            let problem = format!("--out {} is the input file", out.display());
            Err(Error::Usage {
                problem,
                remedy: "choose another name for --out".into(),
            }
            .into())
        }
        _ => Ok(()),
    }
}

fn take_in(args: ImportArgs) -> Result<()> {
    keep_source(&args.file, &args.out)?;
    let (mean, std) = (
        args.mean.unwrap_or(IMAGENET_MEAN),
        args.std.unwrap_or(IMAGENET_STD),
    );
    if args.image_size < 1 || std.iter().any(|s| *s <= 0.0) {
        let problem = "--image-size and --std must be positive".into();
        return Err(Error::Usage {
            problem,
            remedy: "see `camtrast checkpoint import --help`".into(),
        }
        .into());
    }
    let options = ImportOptions {
        prefix: args.prefix,
        allow_missing: args.allow_missing,
        stride_in_3x3: args.stride_in_3x3,
        seed: args.common.seed,
        mean,
        std,
        image_size: args.image_size,
        commit: env!("CAMTRAST_COMMIT").into(),
    };
    let report = import(&args.file, &args.out, &options)?;
    let missing = match report.missing.len() {
        0 => "none missing".to_owned(),
        count => format!("{count} missing and initialised: {}", report.missing.join(", ")),
    };
    println!("{}: {} tensors matched, {missing}", report.arch, report.matched);
    println!(
        "tensor names of {}; file format: {}",
        report.naming, report.container
    );
    if !report.others.is_empty() {
        println!(
            "other backbones of the file, for --prefix: {}",
            report.others.join(", ")
        );
    }
    if !report.converted.is_empty() {
        println!("converted to float32 from {}", report.converted.join(", "));
    }
    if !report.dropped.is_empty() {
        let groups: Vec<String> = report
            .dropped
            .iter()
            .map(|(name, count)| format!("{name} ({count})"))
            .collect();
        println!("left out, not part of the backbone: {}", groups.join(", "));
    }
    if !report.foreign.is_empty() {
        let names: Vec<&str> = report.foreign.iter().map(String::as_str).collect();
        println!(
            "no code in the file is run, so these objects next to the weights were not read: {}",
            some(&names)
        );
    }
    Ok(())
}

fn give_out(args: ExportArgs) -> Result<()> {
    keep_source(&args.checkpoint, &args.out)?;
    let backbone = load_backbone(&args.checkpoint, Device::Cpu)?;
    let report = export(&backbone, args.to, &args.out)?;
    println!("{}: {} tensors", args.out.display(), report.tensors);
    report.notes.iter().for_each(|note| println!("{note}"));
    Ok(())
}

fn compare(args: DiffArgs) -> Result<()> {
    let found = diff(
        &args.a,
        &args.b,
        [args.prefix_a.as_deref(), args.prefix_b.as_deref()],
    )?;
    println!("{:<16}{}", args.a.display(), found.archs[0]);
    println!("{:<16}{}", args.b.display(), found.archs[1]);
    println!(
        "{} of {} common tensors differ",
        found.different.len(),
        found.common
    );
    for (path, alone) in [&args.a, &args.b].into_iter().zip(&found.alone) {
        if let Some(first) = alone.first() {
            println!("{} tensors only in {}: {first}, ...", alone.len(), path.display());
        }
    }
    if !found.different.is_empty() {
        println!("{:<40}{:>14}{:>14}", "tensor", "largest", "relative");
    }
    for one in found.different.iter().take(args.show) {
        println!("{:<40}{:>14.4e}{:>14.4e}", one.name, one.largest, one.relative);
    }
    if found.equal() {
        return Ok(());
    }
    let what = format!("{} and {} differ", args.a.display(), args.b.display());
    Err(Error::settings(what, "the tensors that differ are listed above").into())
}
