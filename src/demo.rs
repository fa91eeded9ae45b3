//! `camtrast demo`: a drawn world, and the suite of recipes/demo.toml on it. Finished parts are not repeated.

use crate::commands::Common;
use crate::suite::{How, Machine, SuitePlan, SuiteRecipe, run_plan};
use anyhow::Result;
use camtrast_datasets::{Fold, Layout, Pack, PrepareOptions, prepare};
use camtrast_world::scene::scene_classes;
use camtrast_world::{SynthOptions, contact_sheet, synth};
use clap::{Args, Command};
use serde::Deserialize;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct DemoArgs {
    /// Folder for all output
    #[arg(long, default_value = "demo")]
    out: PathBuf,
    /// Commands to run in parallel (default: one per core, one on a GPU)
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=256))]
    jobs: Option<u64>,
    #[command(flatten)]
    common: Common,
}

/// Size of the drawn world.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct World {
    size: usize,
    images_per_class: usize,
    scenes: [usize; 2],
    scene_size: usize,
    streets: [usize; 2],
    street_size: usize,
}

/// `root` is the whole command line, which the flags of the recipe are checked against.
pub fn run(args: DemoArgs, root: &Command) -> Result<()> {
    let (device, screen) = args.common.open()?;
    let path = Path::new("recipes/demo.toml");
    let folder = toml::Value::String(args.out.display().to_string()).to_string();
    let text = include_str!("../recipes/demo.toml")
        .replace("{out}", &folder[1..folder.len() - 1])
        .replace("{scene-classes}", &scene_classes().join(","));
    let mut table: toml::Table = text.parse()?;
    let world: World = table.remove("world").expect("the demo has a world").try_into()?;
    let mut recipe = SuiteRecipe::parse(&table.to_string(), path)?;
    recipe.seeds = vec![args.common.seed];
    recipe
        .pretrain
        .insert("precision".into(), args.common.precision.to_string().into());

    draw(&world, &args.out, args.common.seed, &screen)?;
    let plan = SuitePlan::new(&recipe, path, &args.out, root)?;
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let machine = Machine {
        jobs: args
            .jobs
            .map_or(if device.is_cuda() { 1 } else { cores }, |jobs| jobs as usize),
        device,
        threads: args.common.threads,
        default_threads: tch::get_num_threads().max(1) as usize,
        quiet: args.common.quiet,
        reuse: Vec::new(),
    };
    let wanted = vec![true; plan.cells.len()];
    run_plan(plan, recipe, &wanted, &args.out, &machine, &How::Here, root)
}

/// The world in its three layouts, and its packs.
fn draw(world: &World, out: &Path, seed: u64, screen: &crate::screen::Screen) -> Result<()> {
    let pack = |name: &str| out.join(format!("{name}.safetensors"));
    let fold: Fold = "3/3".parse().expect("a fold");
    // Novel classes whole, and in two parts with the same classes.
    let packs = [
        ("train", pack("train"), None),
        ("test", pack("test"), None),
        ("test", pack("labelled-train"), Some(fold.others())),
        ("test", pack("labelled-test"), Some(fold)),
    ];
    if packs.iter().all(|(_, pack, _)| Pack::open(pack).is_ok()) {
        return Ok(());
    }
    let folder = out.join("world");
    let options = SynthOptions {
        seed,
        size: world.size,
        images_per_class: world.images_per_class,
        scenes: world.scenes,
        scene_size: world.scene_size,
        streets: world.streets,
        street_size: world.street_size,
        ..SynthOptions::new(&folder)
    };
    synth(&options, screen)?;
    contact_sheet(&out.join("world.png"), seed, 84)?;
    for (split, pack, fold) in packs {
        let options = PrepareOptions {
            split: Some(split.into()),
            fold,
            size: world.size,
            ..PrepareOptions::new(Layout::MiniImagenet, &folder, &pack)
        };
        prepare(&options, screen)?;
    }
    Ok(())
}
