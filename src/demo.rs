//! `camtrast demo`: world, packs, every method, few-shot probe, detection, segmentation, report, in one folder. What is done
//! already is not done again.

mod detection;
mod segmentation;

use self::detection::{Detected, DetectionRecipe, detect};
use self::segmentation::{SegmentationRecipe, segment};
use crate::commands::Common;
use crate::commands::fewshot::{evaluate, metrics};
use crate::commands::pretrain::{RunSettings, pretrain_run};
use crate::published;
use crate::screen::{Screen, catch_interrupts, clock};
use report::table::{Table, percent};
use anyhow::Result;
use clap::Args;
use common::data::synth::{SynthOptions, contact_sheet, synth};
use common::data::{Layout, Pack, PrepareOptions, prepare};
use common::device::Precision;
use common::files::write_atomically;
use common::progress::Progress;
use common::resnet::Arch;
use common::run::write_metrics;
use fewshot::{EvalOptions, EvalResult};
use pretrain::{Method, Options, Recipe, Subset};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tch::Device;

/// Few-shot tasks drawn for each number of shots.
const EPISODES: usize = 600;

#[derive(Args)]
pub struct DemoArgs {
    /// Folder for everything it makes
    #[arg(long, default_value = "demo")]
    out: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// recipes/demo.toml.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct DemoRecipe {
    size: usize,
    images_per_class: usize,
    arch: Arch,
    precision: Precision,
    threads: usize,
    shared: Options,
    detection: DetectionRecipe,
    segmentation: SegmentationRecipe,
    methods: toml::Table,
}

/// One method's line of the report.
struct Line {
    method: Method,
    results: Vec<EvalResult>,
    detected: Detected,
    miou: f64,
    seconds: f64,
}

pub fn run(mut args: DemoArgs) -> Result<()> {
    let begun = Instant::now();
    let recipe: DemoRecipe = toml::from_str(include_str!("../recipes/demo.toml"))?;
    args.common.threads = args.common.threads.or(Some(recipe.threads));
    let (device, screen) = args.common.open()?;
    catch_interrupts()?;
    let packs = packs(&args.out, &recipe, args.common.seed, &screen)?;

    let mut lines = Vec::new();
    for (name, own) in &recipe.methods {
        let method: Method = clap::ValueEnum::from_str(name, false).map_err(anyhow::Error::msg)?;
        let own: Options = own.clone().try_into()?;
        screen.note(&format!("── {method}"));
        let options = if method == Method::Scratch { own } else { own.or(recipe.shared.clone()) };
        lines.push(line(method, options, &args, &recipe, &packs, device, &screen)?);
    }
    println!("\n{}\n", table(&lines).to_text());
    let report = args.out.join("report.md");
    let markdown = markdown(&lines, &recipe, &packs, begun.elapsed().as_secs_f64())?;
    write_atomically(&report, |file| file.write_all(markdown.as_bytes()))?;
    println!("{} ({})", report.display(), clock(begun.elapsed().as_secs_f64()));
    Ok(())
}

/// The world's packs: base classes and novel classes.
struct Packs {
    world: PathBuf,
    train: PathBuf,
    test: PathBuf,
}

fn packs(out: &Path, recipe: &DemoRecipe, seed: u64, screen: &Screen) -> Result<Packs> {
    let world = out.join("world");
    let packs =
        Packs { train: out.join("train.safetensors"), test: out.join("test.safetensors"), world: world.clone() };
    if Pack::open(&packs.train).is_ok() && Pack::open(&packs.test).is_ok() {
        return Ok(packs);
    }
    let options = SynthOptions {
        seed,
        size: recipe.size,
        images_per_class: recipe.images_per_class,
        scenes: recipe.detection.scenes,
        scene_size: recipe.detection.scene_size,
        streets: recipe.segmentation.streets,
        street_size: recipe.segmentation.street_size,
        ..SynthOptions::new(&world)
    };
    synth(&options, screen)?;
    contact_sheet(&out.join("world.png"), seed, 84)?;
    for (split, pack) in [("train", &packs.train), ("test", &packs.test)] {
        let options = PrepareOptions {
            split: Some(split.into()),
            size: recipe.size,
            ..PrepareOptions::new(Layout::MiniImagenet, &world, pack)
        };
        prepare(&options, screen)?;
    }
    Ok(packs)
}

fn line(
    method: Method,
    options: Options,
    args: &DemoArgs,
    recipe: &DemoRecipe,
    packs: &Packs,
    device: Device,
    screen: &Screen,
) -> Result<Line> {
    let out = args.out.join("runs").join(method.to_string());
    let run = RunSettings { out: out.clone(), overwrite: false, log_every: 20, save_every: None, probe_every: None };
    let pretraining = Recipe {
        method,
        data: packs.train.clone(),
        seed: args.common.seed,
        precision: recipe.precision,
        arch: recipe.arch,
        subset: Subset::default(),
        accumulate: 1,
        clip_norm: None,
        options,
    };
    let report = pretrain_run(pretraining, run, device, screen)?;
    let probe = EvalOptions {
        ways: 5,
        shots: vec![1, 5],
        queries: 15,
        episodes: EPISODES,
        seed: args.common.seed,
        precision: recipe.precision,
        probe: Default::default(),
    };
    let begun = Instant::now();
    let results = evaluate(&report.backbone, &packs.test, device, &probe, screen)?;
    write_metrics(&out.join("fewshot.json"), &metrics(&results), begun.elapsed().as_secs_f64(), "cpu")?;
    let folder = out.join("detection");
    let detected =
        detect(&recipe.detection, report.backbone.clone(), &packs.world, folder, &args.common, device, screen)?;
    let folder = out.join("segmentation");
    let miou = segment(&recipe.segmentation, report.backbone, &packs.world, folder, &args.common, device, screen)?;
    Ok(Line { method, results, detected, miou, seconds: report.outcome.seconds })
}

fn table(lines: &[Line]) -> Table {
    let mut table = Table::new([
        "pretraining",
        "5-way 1-shot (%)",
        "5-way 5-shot (%)",
        "AP (%)",
        "AP50 (%)",
        "mIoU (%)",
        "trained in",
        "paper: 1-shot",
        "5-shot",
    ]);
    for line in lines {
        let accuracy = |i: usize| percent(line.results[i].score.mean, line.results[i].score.ci95);
        let published = published::mini_imagenet(line.method);
        let number = |n: Option<f64>| n.map_or("–".to_owned(), |n| format!("{n:.2}"));
        table.row([
            line.method.to_string(),
            accuracy(0),
            accuracy(1),
            percent(line.detected.ap, f64::NAN),
            percent(line.detected.ap50, f64::NAN),
            percent(line.miou, f64::NAN),
            clock(line.seconds),
            number(published.map(|p| p.0)),
            number(published.map(|p| p.1)),
        ]);
    }
    table
}

fn markdown(lines: &[Line], recipe: &DemoRecipe, packs: &Packs, seconds: f64) -> Result<String> {
    let (train, test) = (Pack::open(&packs.train)?, Pack::open(&packs.test)?);
    let epochs = recipe.shared.epochs.unwrap_or_default();
    let rows = lines.iter().map(|line| {
        let (name, log) = (line.method, format!("runs/{}/log.jsonl", line.method));
        format!("- **{name}**: [settings](runs/{name}/config.toml), [log]({log}), [metrics](runs/{name}/metrics.json), \
             [precision and recall](runs/{name}/detection/curves/pr_curves.png), [detections](runs/{name}/detection/pictures), \
             [streets](runs/{name}/segmentation/pictures)")
    });
    Ok(format!(
        "# camtrast demo\n\n\
         Which pretraining transfers best? Each backbone ({arch}, {size} pixels) was pretrained for {epochs} epochs on {images} \
         drawn images of {base} base classes, then frozen and probed on {novel} novel classes: {EPISODES} tasks, accuracy with its \
         95 % confidence interval; chance is 20 %. Then it was fine-tuned to detect the novel categories in {scenes} scenes (Faster R-CNN, AP of \
         COCO on {test_scenes} others), and to label every pixel of {streets} streets (DeepLab v3+, mean IoU on {val_streets} others).\n\n{table}\n\n\
         The last two columns are the paper's (Sun et al. 2022, Table 3): ResNet-50 on miniImageNet at 84 pixels, trained for 200 to \
         1000 epochs. They are for orientation; the world here is drawn and the training minutes long.\n\n\
         ## The world\n\nA row is a category, a column a class; the classes of a category differ in one small part.\n\n\
         ![the world](world.png)\n\n## The runs\n\n{runs}\n\nMade by camtrast {version} ({commit}) in {time}; data {sha}.\n",
        arch = recipe.arch,
        size = recipe.size,
        images = train.len(),
        base = train.class_names().len(),
        novel = test.class_names().len(),
        scenes = recipe.detection.scenes[0],
        test_scenes = recipe.detection.scenes[1],
        streets = recipe.segmentation.streets[0],
        val_streets = recipe.segmentation.streets[1],
        table = table(lines).to_markdown(),
        runs = rows.collect::<Vec<_>>().join("\n"),
        version = env!("CARGO_PKG_VERSION"),
        commit = env!("CAMTRAST_COMMIT"),
        time = clock(seconds),
        sha = &train.sha256()[..12],
    ))
}
