//! `camtrast analyze representation` and `cam`.

use super::{Common, checkpoint_name, tell_origin};
use crate::processes::ProcessArgs;
use crate::protocol::Protocol;
use anyhow::Result;
use camtrast_analysis::Compute;
use camtrast_analysis::cam::{HeadOrigin, Headed, examples, grid, with_head};
use camtrast_analysis::representation::{Representation, describe};
use camtrast_analysis::similarity::cka;
use camtrast_common::checkpoint::load_backbone;
use camtrast_common::device::device_name;
use camtrast_common::distributed::Group;
use camtrast_common::run::Texts;
use camtrast_datasets::{Pack, SubsetOptions, select_subset};
use camtrast_report::table::Table;
use clap::{Args, Subcommand};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Subcommand)]
pub enum AnalyzeCommand {
    /// Measure features: entropy, ranks, uniformity, alignment, evidence of the labels; similarity of
    /// backbones
    Representation(RepresentationArgs),
    /// Draw class activation maps of several backbones side by side
    Cam(CamArgs),
}

#[derive(Args)]
pub struct RepresentationArgs {
    /// One or more backbone.safetensors
    #[arg(long, required = true, num_args = 1..)]
    checkpoint: Vec<PathBuf>,
    /// Pack of the images to measure; the paper uses the images it pretrains on
    #[arg(long)]
    data: PathBuf,
    /// Folder for metrics.json, or a .json file
    #[arg(long)]
    out: Option<PathBuf>,
    /// Augmented views of each image, for LiDAR (its authors use 50)
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(2..=1000))]
    views: u64,
    /// Use this many classes, the same that `pretrain` draws with this seed
    #[arg(long, help_heading = "Part of the data")]
    classes: Option<usize>,
    /// Draw the classes from this many general categories
    #[arg(long, help_heading = "Part of the data")]
    categories: Option<usize>,
    /// Use this many images of each class
    #[arg(long, help_heading = "Part of the data")]
    images_per_class: Option<usize>,
    /// Use this many images in total
    #[arg(long, help_heading = "Part of the data", conflicts_with = "images_per_class")]
    total_images: Option<usize>,
    #[command(flatten)]
    processes: ProcessArgs,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub struct CamArgs {
    /// One or more backbone.safetensors
    #[arg(long, required = true, num_args = 1..)]
    checkpoint: Vec<PathBuf>,
    /// Pack of the images; a backbone without a linear head gets one fitted on its classes
    #[arg(long)]
    data: PathBuf,
    /// Folder for cam.png and metrics.json
    #[arg(long, default_value = "cam")]
    out: PathBuf,
    /// Number of images in the picture, each of another class
    #[arg(long, default_value_t = 8)]
    images: usize,
    /// Fit a head for every backbone, even if it has its own
    #[arg(long)]
    refit_heads: bool,
    #[command(flatten)]
    common: Common,
}

pub fn run(command: AnalyzeCommand) -> Result<()> {
    match command {
        AnalyzeCommand::Representation(args) => run_representation(args),
        AnalyzeCommand::Cam(args) => run_cam(args),
    }
}

fn run_representation(args: RepresentationArgs) -> Result<()> {
    let (device, screen, group) = args.common.open_shared(&args.processes)?;
    let mut protocol = Protocol::begin("analyze representation", args.out.as_deref())?;
    let pack = Pack::open(&args.data)?;
    let subset = SubsetOptions {
        classes: args.classes,
        categories: args.categories,
        images_per_class: args.images_per_class,
        total_images: args.total_images,
        seed: args.common.seed,
        ..SubsetOptions::default()
    };
    let rows = select_subset(&pack, &subset)?.indices;
    let mut table = Table::new([
        "backbone",
        "D",
        "H_R (nats)",
        "rank",
        "U",
        "U unit",
        "alignment",
        "RankMe",
        "a-ReQ",
        "LiDAR",
        "LogME",
        "size (M)",
    ]);
    let compute = Compute {
        device,
        group,
        precision: args.common.precision,
        progress: &screen,
    };
    let (mut metrics, mut texts, mut sums) = (BTreeMap::new(), Texts::new(), Vec::new());
    let names = labels(&args.checkpoint);
    let mut all: Vec<Representation> = Vec::new();
    for (path, label) in args.checkpoint.iter().zip(&names) {
        let backbone = load_backbone(path, device)?;
        let views = args.views as usize;
        let found = describe(&backbone, &pack, &rows, views, args.common.seed, compute)?;
        let number = |value: f64| format!("{value:.3}");
        table.row([
            label.clone(),
            found.dimension.to_string(),
            number(found.spectrum.entropy),
            format!("{:.1}", found.spectrum.effective_rank),
            number(found.uniformity.value),
            number(found.uniformity_unit.value),
            number(found.alignment),
            format!("{:.1}", found.rankme),
            number(found.alpha_req),
            format!("{:.1}", found.lidar),
            number(found.logme),
            format!("{:.2}", found.parameters as f64 / 1e6),
        ]);
        let alone = args.checkpoint.len() == 1;
        let named = |name| if alone { name } else { format!("{label}/{name}") };
        metrics.extend(
            found
                .metrics()
                .into_iter()
                .map(|(name, value)| (named(name), value)),
        );
        let origin = backbone.origin();
        texts.extend(origin.texts().into_iter().map(|(name, text)| (named(name), text)));
        tell_origin(&origin, &screen);
        sums.push(origin.backbone_sha256);
        all.push(found);
    }
    println!("{}\n\n{}", table.to_text(), Representation::DEFINITIONS);
    if let Some(found) = all.last() {
        let pairs = match found.uniformity.features as usize {
            n if n == found.images => format!("all pairs of {n} images"),
            n => format!("all pairs of {n} images, drawn from {}", found.images),
        };
        println!(
            "Here: U over {pairs}; alignment and LiDAR over {} images, LiDAR with {} views of each.",
            found.aligned_images, found.views
        );
    }
    if all.len() > 1 {
        println!("\n{}", similarities(&all, &names, &mut metrics)?);
    }
    if let Some(out) = args.out.filter(|_| group.leads()) {
        protocol.set("checkpoint", paths(&args.checkpoint));
        protocol.set("data", args.data.display().to_string());
        protocol.set("views", args.views as i64);
        for (flag, number) in [
            ("classes", args.classes),
            ("categories", args.categories),
            ("images-per-class", args.images_per_class),
            ("total-images", args.total_images),
        ] {
            protocol.set_if(flag, number.map(|number| number as i64));
        }
        args.common.record(&mut protocol);
        protocol.note("dataset", "backbone_sha256", sums.join(","));
        protocol.note("dataset", "sha256", pack.sha256());
        protocol.note("dataset", "split", pack.split());
        protocol.write(&out, &metrics, texts, &device_name(device))?;
    }
    Ok(())
}

/// The table of linear CKA of all pairs of backbones, which also become metrics.
fn similarities(
    all: &[Representation],
    names: &[String],
    metrics: &mut BTreeMap<String, f64>,
) -> Result<String> {
    let header = std::iter::once("linear CKA").chain(names.iter().map(String::as_str));
    let mut table = Table::new(header);
    for (i, (found, name)) in all.iter().zip(names).enumerate() {
        let mut row = vec![name.clone()];
        for (other, other_name) in all[..i].iter().zip(names) {
            let value = cka(&other.features, &found.features)?;
            metrics.insert(format!("cka/{other_name}/{name}"), value);
            row.push(format!("{value:.3}"));
        }
        row.push(format!("{:.3}", 1.0));
        row.resize(names.len() + 1, String::new());
        table.row(row);
    }
    Ok(table.to_text())
}

fn run_cam(args: CamArgs) -> Result<()> {
    let (device, screen) = args.common.open()?;
    let mut protocol = Protocol::begin("analyze cam", Some(&args.out))?;
    let compute = Compute {
        device,
        group: Group::ALONE,
        precision: args.common.precision,
        progress: &screen,
    };
    let pack = Pack::open(&args.data)?;
    let shown = examples(&pack, args.images)?;
    let load = |(path, label): (&PathBuf, String)| -> Result<Headed> {
        let backbone = load_backbone(path, device)?;
        Ok(with_head(
            label,
            backbone,
            path,
            args.refit_heads,
            &pack,
            compute,
        )?)
    };
    let backbones = args
        .checkpoint
        .iter()
        .zip(labels(&args.checkpoint))
        .map(load)
        .collect::<Result<Vec<_>>>()?;
    let rows: Vec<i64> = (0..pack.len() as i64).collect();
    let mut table = Table::new(["backbone", "area above half (%)", "linear head"]);
    let (mut metrics, mut texts, mut sums) = (BTreeMap::new(), Texts::new(), Vec::new());
    for headed in &backbones {
        let area = headed.area(&pack, &rows, compute)?;
        let origin = match headed.origin {
            HeadOrigin::Own { classes } => format!("its own, {classes} classes"),
            HeadOrigin::Fitted { classes, accuracy } => {
                format!("fitted here, {classes} classes, {:.1} % right", 100.0 * accuracy)
            }
        };
        table.row([headed.name.clone(), format!("{:.2}", 100.0 * area), origin]);
        metrics.insert(format!("cam/{}/area", headed.name), area);
        let (name, origin) = (&headed.name, headed.backbone.origin());
        texts.extend(
            origin
                .texts()
                .into_iter()
                .map(|(key, text)| (format!("cam/{name}/{key}"), text)),
        );
        tell_origin(&origin, &screen);
        sums.push(origin.backbone_sha256);
    }
    std::fs::create_dir_all(&args.out).map_err(camtrast_common::Error::io(&args.out, "create"))?;
    let picture = args.out.join("cam.png");
    grid(&picture, &backbones, &pack, &shown, compute)?;
    protocol.set("checkpoint", paths(&args.checkpoint));
    protocol.set("data", args.data.display().to_string());
    protocol.set("images", args.images as i64);
    protocol.set("refit-heads", args.refit_heads);
    args.common.record(&mut protocol);
    protocol.note("dataset", "backbone_sha256", sums.join(","));
    protocol.note("dataset", "sha256", pack.sha256());
    protocol.write(&args.out, &metrics, texts, &device_name(device))?;
    println!("{}\n", table.to_text());
    println!(
        "Area: share of the image where the map of the predicted class, scaled to 0..1 per image, exceeds \
         1/2; mean of {} images.",
        rows.len()
    );
    println!("{}", picture.display());
    Ok(())
}

fn paths(checkpoints: &[PathBuf]) -> Vec<String> {
    checkpoints
        .iter()
        .map(|path| path.display().to_string())
        .collect()
}

// A second backbone of the same name gets a number.
fn labels(checkpoints: &[PathBuf]) -> Vec<String> {
    let mut labels: Vec<String> = Vec::new();
    for path in checkpoints {
        let name = checkpoint_name(path);
        let same = labels
            .iter()
            .filter(|l| **l == name || l.starts_with(&format!("{name} (")))
            .count();
        labels.push(if same == 0 {
            name
        } else {
            format!("{name} ({})", same + 1)
        });
    }
    labels
}
