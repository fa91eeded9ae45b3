//! `camtrast data fetch`, `prepare`, `info` and `synth`.

mod fetch;

use super::Common;
use anyhow::Result;
use camtrast_common::progress::Progress;
use camtrast_datasets::info::info;
use camtrast_datasets::{Fold, Layout, PrepareOptions, prepare};
use camtrast_detection::voc::SplitOverview;
use camtrast_report::table::Table;
use camtrast_world::scene::scene_classes;
use camtrast_world::{SynthOptions, synth};
use clap::{Args, Subcommand};
use std::collections::BTreeSet;
use std::path::PathBuf;

#[derive(Subcommand)]
pub enum DataCommand {
    /// Download, verify and unpack a public data set; complete files are not downloaded again
    Fetch(fetch::FetchArgs),
    /// Pack the images of a data set into one file
    Prepare(PrepareArgs),
    /// Show the content of a pack or a data set folder, and its problems
    Info(InfoArgs),
    /// Draw a synthetic data set (the drawn world) in the layouts of public ones
    Synth(SynthArgs),
}

#[derive(Args)]
pub struct PrepareArgs {
    /// How the data set is laid out on disk
    layout: Layout,
    /// Folder or archive of the data set
    #[arg(long)]
    from: PathBuf,
    /// The pack to write
    #[arg(long)]
    out: PathBuf,
    /// train, val or test
    #[arg(long)]
    split: Option<String>,
    /// Only fold K of N, such as 5/5: of each class the images at places K, K + N, .. of the list
    #[arg(long, value_name = "K/N", conflicts_with = "without_fold")]
    fold: Option<Fold>,
    /// All images but those of fold K of N: to train on, where the fold is to test on
    #[arg(long, value_name = "K/N")]
    without_fold: Option<Fold>,
    /// Size (side) of the packed images, in pixels
    #[arg(long, default_value_t = PrepareOptions::DEFAULT_SIZE)]
    size: usize,
    /// Resize the shorter side to this many pixels first, then crop the centre
    #[arg(long)]
    resize: Option<usize>,
    /// Size (side) of the centre crop, with --resize
    #[arg(long)]
    crop: Option<usize>,
    /// Leave undecodable images out and list them, instead of stopping
    #[arg(long)]
    skip_bad: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub struct InfoArgs {
    /// A pack, or the folder or archive of a data set
    path: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub struct SynthArgs {
    /// Folder to draw into
    #[arg(long)]
    out: PathBuf,
    /// Size (side) of the images, in pixels
    #[arg(long, default_value_t = 84)]
    size: usize,
    /// Images of each base class
    #[arg(long, default_value_t = 100)]
    images_per_class: usize,
    /// Images of each validation and novel class
    #[arg(long, default_value_t = 40)]
    evaluation_images_per_class: usize,
    /// Number of training scenes for detection (several objects each), in VOCdevkit/
    #[arg(long, default_value_t = 200)]
    scenes: usize,
    /// Number of test scenes for detection
    #[arg(long, default_value_t = 60)]
    test_scenes: usize,
    /// Short side of the scenes, in pixels
    #[arg(long, default_value_t = 150)]
    scene_size: usize,
    /// Number of training streets for segmentation, in leftImg8bit/ and gtFine/
    #[arg(long, default_value_t = 100)]
    streets: usize,
    /// Number of validation streets for segmentation
    #[arg(long, default_value_t = 40)]
    val_streets: usize,
    /// Height of the streets, in pixels; they are twice as wide
    #[arg(long, default_value_t = 128)]
    street_size: usize,
    #[command(flatten)]
    common: Common,
}

pub fn run(command: DataCommand) -> Result<()> {
    match command {
        DataCommand::Fetch(args) => fetch::run(args),
        DataCommand::Prepare(args) => run_prepare(args),
        DataCommand::Info(args) => run_info(args),
        DataCommand::Synth(args) => run_synth(args),
    }
}

/// `data info`.
pub fn run_info(args: InfoArgs) -> Result<()> {
    if args.path.is_dir()
        && let Some(splits) = camtrast_detection::voc::overview(&args.path)?
    {
        return show_voc(&splits, args.json);
    }
    if args.path.is_dir()
        && let Some(splits) = camtrast_segmentation::overview::overview(&args.path)?
    {
        show_cityscapes(&splits, args.json)?;
        // The drawn world is two data sets in one folder.
        let pack_layout = Layout::detect(&args.path).is_ok_and(|layout| layout != Layout::Imagefolder);
        if !pack_layout || args.json {
            return Ok(());
        }
    }
    let info = info(&args.path)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&info)?);
    } else {
        println!("{info}");
    }
    Ok(())
}

fn show_voc(splits: &[SplitOverview], json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(splits)?);
        return Ok(());
    }
    let mut classes = BTreeSet::new();
    for SplitOverview {
        split,
        images,
        background,
        objects,
        problems,
    } in splits
    {
        println!("{split}: {images} images, {background} without an object");
        let mut table = Table::new(["class", "objects", "difficult"]);
        objects.iter().for_each(|(class, [count, difficult])| {
            table.row([class.clone(), count.to_string(), difficult.to_string()]);
        });
        println!("{}", table.to_text());
        print_problems(problems);
        println!();
        classes.extend(objects.keys().cloned());
    }
    println!("--classes {}", classes.into_iter().collect::<Vec<_>>().join(","));
    Ok(())
}

fn show_cityscapes(splits: &[camtrast_segmentation::overview::SplitOverview], json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(splits)?);
        return Ok(());
    }
    for split in splits {
        let sizes = split
            .sizes
            .map_or(String::new(), |[(h, w), most]| match most == (h, w) {
                true => format!(" of {w} x {h} pixels"),
                false => format!(" from {w} x {h} to {} x {} pixels", most.1, most.0),
            });
        let ignored = 100.0 * split.ignored;
        println!(
            "{}: {} images{sizes}, {ignored:.1} % of the pixels ignored",
            split.split, split.images
        );
        let mut table = Table::new(["class", "pixels (%)", "images"]);
        split.classes.iter().for_each(|(class, (share, images))| {
            table.row([class.clone(), format!("{:.2}", 100.0 * share), images.to_string()]);
        });
        println!("{}", table.to_text());
        print_problems(&split.problems);
        println!();
    }
    Ok(())
}

// One line each, up to a number that can be read.
fn print_problems(problems: &[String]) {
    const SHOWN: usize = 20;
    problems
        .iter()
        .take(SHOWN)
        .for_each(|problem| println!("problem: {problem}"));
    if problems.len() > SHOWN {
        println!("and {} more problems", problems.len() - SHOWN);
    }
}

fn run_prepare(args: PrepareArgs) -> Result<()> {
    let options = PrepareOptions {
        layout: args.layout,
        from: args.from,
        out: args.out,
        split: args.split,
        fold: args.fold.or(args.without_fold.map(Fold::others)),
        size: args.size,
        resize: args.resize,
        crop: args.crop,
        skip_bad: args.skip_bad,
    };
    let screen = args.common.screen()?;
    let report = prepare(&options, &screen)?;
    report
        .in_common
        .iter()
        .for_each(|line| screen.note(&format!("warning: {line}")));
    for line in report.notes.iter().chain(&report.skipped) {
        eprintln!("{line}");
    }
    let rate = report.images as f64 / report.seconds;
    println!(
        "{}: {} images of {} classes ({}), {size} x {size} pixels, {rate:.0} images/s",
        report.path.display(),
        report.images,
        report.classes,
        report.split,
        size = report.size
    );
    Ok(())
}

fn run_synth(args: SynthArgs) -> Result<()> {
    let options = SynthOptions {
        seed: args.common.seed,
        size: args.size,
        images_per_class: args.images_per_class,
        evaluation_images_per_class: args.evaluation_images_per_class,
        scenes: [args.scenes, args.test_scenes],
        scene_size: args.scene_size,
        streets: [args.streets, args.val_streets],
        street_size: args.street_size,
        ..SynthOptions::new(args.out)
    };
    let report = synth(&options, &args.common.screen()?)?;
    for split in &report.splits {
        println!(
            "{}: {} images of {} classes in {} categories",
            split.split, split.images, split.classes, split.categories
        );
    }
    let [training, test] = report.scenes;
    println!(
        "VOCdevkit: {training} scenes to train on, {test} to test with, --classes {}",
        scene_classes().join(",")
    );
    let [training, val] = report.streets;
    println!("leftImg8bit and gtFine: {training} streets to train on, {val} to evaluate with");
    Ok(())
}
