//! `camtrast probe eval`, `score` and `finetune`.

use super::finetune::{FineTuneArgs, fine_tune};
use super::{Common, is_json, tell_origin};
use crate::protocol::{Protocol, tell_leakage};
use crate::screen::Screen;
use anyhow::Result;
use camtrast_common::Error;
use camtrast_common::checkpoint::load_backbone;
use camtrast_common::device::{device_name, on_host};
use camtrast_common::distributed::Group;
use camtrast_common::features::extract;
use camtrast_common::progress::Progress;
use camtrast_common::run::Texts;
use camtrast_common::settings::{Numbers, check_range};
use camtrast_common::tensor_file::bytes_of;
use camtrast_datasets::Pack;
use camtrast_probe::accuracy::Accuracy;
use camtrast_probe::finetune::{ClassificationTask, FineTuneOptions, FineTuneSettings, labels_by_name};
use camtrast_probe::{
    Features, Normalize, ProbeTask, Protocol as LinearProtocol, Score, ScoreOptions, linear, neighbours,
    repeated, score, sgd,
};
use camtrast_report::table::{Table, percent};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub enum ProbeCommand {
    /// Classify a labelled pack on a backbone's features: linear classifier and nearest neighbours
    Eval(EvalArgs),
    /// The same on features of any model
    Score(ScoreArgs),
    /// Fine-tune the whole backbone with a linear classifier on a pack, or on a share of its labels
    Finetune(Box<FinetuneArgs>),
}

#[derive(Args)]
pub struct EvalArgs {
    /// A backbone.safetensors
    #[arg(long)]
    checkpoint: PathBuf,
    /// Pack to train the probes on
    #[arg(long)]
    train: PathBuf,
    /// Pack to test them on, of classes of the training pack
    #[arg(long)]
    test: PathBuf,
    /// Folder for config.toml and metrics.json, or a .json file for the latter
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    probes: ProbeArgs,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub struct ScoreArgs {
    /// safetensors file with the training images' `features` (f32, N x D) and `labels` (i64, N)
    #[arg(long)]
    train: PathBuf,
    /// The same of the test images
    #[arg(long)]
    test: PathBuf,
    /// Folder for config.toml and metrics.json, or a .json file for the latter
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    probes: ProbeArgs,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub struct FinetuneArgs {
    #[command(flatten)]
    start: FineTuneArgs,
    /// Pack to train on
    #[arg(long)]
    train: PathBuf,
    /// Pack to test on, of classes of the training pack
    #[arg(long)]
    test: PathBuf,
    /// Pack to validate on while training (see --val-every), of classes of the training pack
    #[arg(long)]
    val: Option<PathBuf>,
    /// Percent of the training images whose labels are used, as many of each class; the literature's are 1,
    /// 10 and 100
    #[arg(long, default_value_t = 100.0)]
    label_share: f64,
    /// Train without this share of each class's labelled images, which is drawn, and test on it instead of
    /// --test: for choosing settings
    #[arg(long, value_name = "SHARE")]
    holdout: Option<f64>,
    #[command(flatten)]
    options: FineTuneOptions,
    #[command(flatten)]
    common: Common,
}

/// The settings of the probes.
#[derive(Args, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProbeArgs {
    /// What is done to the features first
    #[arg(long, value_enum, default_value = "none", help_heading = "Probes")]
    normalize: Normalize,
    /// Only this probe, in place of both
    #[arg(long, value_enum, help_heading = "Probes")]
    #[serde(skip_serializing_if = "Option::is_none")]
    only: Option<ProbeName>,
    /// How the linear classifier is found: exact (the optimum of scikit-learn's LogisticRegression) or sgd
    /// (the best of several learning rates, trained side by side)
    #[arg(long, value_enum, default_value = "exact", help_heading = "Probes")]
    protocol: ProtocolName,
    /// C of the exact classifier, as in LogisticRegression(C): a number, several such as 0.1,1,10, or grid
    /// (0.0001 to 1000)
    #[arg(long, default_value = "grid", help_heading = "Probes")]
    c: String,
    /// Numbers of neighbours, such as 5 or 1,5,20,200 (the default, as far as there are training images)
    #[arg(long, help_heading = "Probes")]
    #[serde(skip_serializing_if = "Option::is_none")]
    k: Option<Numbers>,
    /// Neighbours by cosine similarity s vote with exp(s / temperature); without it they are those of
    /// smallest Euclidean distance and vote alike
    #[arg(long, help_heading = "Probes")]
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    /// Share of each class's training images on which C, k and the learning rate are chosen
    #[arg(long, default_value_t = 0.2, help_heading = "Probes")]
    validation: f64,
    /// Passes over the training images, with --protocol sgd
    #[arg(long, default_value_t = 100, value_parser = count(), help_heading = "Probes")]
    sgd_epochs: u64,
    /// Images per step, with --protocol sgd
    #[arg(long, default_value_t = 256, value_parser = count(), help_heading = "Probes")]
    sgd_batch_size: u64,
    /// Learning rates of --protocol sgd for batches of 256, such as 0.01 or 0.01,0.1, in place of the 13 from
    /// 0.00001 to 0.1
    #[arg(long, help_heading = "Probes")]
    #[serde(skip_serializing_if = "Option::is_none")]
    sgd_lr: Option<Numbers>,
}

fn count() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=100_000_000)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum ProbeName {
    Linear,
    Knn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum ProtocolName {
    Exact,
    Sgd,
}

pub fn run(command: ProbeCommand) -> Result<()> {
    match command {
        ProbeCommand::Eval(args) => run_eval(args),
        ProbeCommand::Score(args) => run_score(args),
        ProbeCommand::Finetune(args) => run_finetune(*args),
    }
}

impl FinetuneArgs {
    /// The packs to train on and to test on.
    pub fn packs(&self) -> [&Path; 2] {
        [&self.train, &self.test]
    }

    /// The pack to validate on while training.
    pub fn validation_pack(&self) -> Option<&Path> {
        self.val.as_deref()
    }

    /// The settings with every default filled in, checked.
    pub fn resolved(&self) -> Result<FineTuneOptions> {
        Ok(self.options.clone().resolve(self.label_share)?)
    }
}

impl ProbeArgs {
    /// The settings, checked, for this many training images.
    fn options(&self, common: &Common, images: usize, weighted: bool) -> Result<ScoreOptions> {
        check_range(
            "validation",
            self.validation,
            1e-6..=0.9,
            "above 0 and at most 0.9",
        )?;
        if let Some(temperature) = self.temperature {
            check_range("temperature", temperature, 1e-3..=1e3, "from 0.001 to 1000")?;
        }
        let usual = neighbours::USUAL.into_iter().filter(|&k| k <= images).collect();
        let ks = self.k.as_ref().map_or(Ok(usual), whole)?;
        let linear = match self.protocol {
            ProtocolName::Exact => LinearProtocol::Exact(penalties(&self.c)?),
            ProtocolName::Sgd => {
                let course = sgd::Course {
                    epochs: self.sgd_epochs as usize,
                    batch_size: self.sgd_batch_size as usize,
                    seed: common.seed,
                };
                let usual = Ok(sgd::RATES.into());
                let rates = self.sgd_lr.as_ref().map_or(usual, |rates| {
                    positive("sgd-lr", rates, "give a number, or several such as 0.01,0.1")
                })?;
                LinearProtocol::Sgd(rates, course)
            }
        };
        Ok(ScoreOptions {
            normalize: self.normalize,
            linear: Some(linear).filter(|_| self.only != Some(ProbeName::Knn)),
            ks: if self.only == Some(ProbeName::Linear) {
                Vec::new()
            } else {
                ks
            },
            temperature: self.temperature,
            weighted,
            validation: self.validation,
            seed: common.seed,
        })
    }
}

fn penalties(text: &str) -> Result<Vec<f64>> {
    if text == "grid" {
        return Ok(linear::GRID.into());
    }
    let hint = "give a number, several such as 0.1,1,10, or grid";
    let read = text
        .parse()
        .map_err(|problem| Error::settings(format!("--c: {problem}"), hint))?;
    // Each optimum is reached from the one before.
    positive("c", &read, hint)
}

/// The values of a flag, sorted.
fn positive(flag: &str, values: &Numbers, hint: &str) -> Result<Vec<f64>> {
    if values.0.is_empty() || values.0.iter().any(|value| !(1e-12..=1e12).contains(value)) {
        let problem = format!("--{flag} {values} is not a positive number or a list of such");
        return Err(Error::settings(problem, hint).into());
    }
    let mut values = values.0.clone();
    values.sort_by(f64::total_cmp);
    values.dedup();
    Ok(values)
}

fn whole(ks: &Numbers) -> Result<Vec<usize>> {
    let whole = ks.0.iter().all(|k| k.fract() == 0.0 && (1.0..=1e9).contains(k));
    if ks.0.is_empty() || !whole {
        let problem = format!("--k {ks} is not a number of neighbours or a list of such");
        return Err(Error::settings(problem, "give one as 5, or several as 1,5,20,200").into());
    }
    let mut ks: Vec<usize> = ks.0.iter().map(|&k| k as usize).collect();
    ks.sort_unstable();
    ks.dedup();
    Ok(ks)
}

fn run_eval(args: EvalArgs) -> Result<()> {
    let (device, screen) = args.common.open()?;
    let mut protocol = Protocol::begin("probe eval", args.out.as_deref())?;
    let packs = [Pack::open(&args.train)?, Pack::open(&args.test)?];
    let options = args.probes.options(&args.common, packs[0].len(), true)?;
    let names = packs[0].class_names().to_vec();
    let test_labels = labels_by_name(&packs[1], &names)?;
    let repeats = of_packs(&packs[0], &packs[1])?;
    let backbone = load_backbone(&args.checkpoint, device)?;
    let origin = backbone.origin();
    let mut texts = origin.texts();
    // The classes may well be those of pretraining; the images may not.
    let pretrained = backbone.info.step > 0 && backbone.info.dataset_sha256 == packs[1].sha256();
    let pretrained = pretrained.then(|| "the backbone was trained on the test pack".to_owned());
    tell_leakage(pretrained.or(repeats), &mut texts, &screen);
    let features = |pack: &Pack, labels: Vec<i64>| {
        let x = extract(
            &backbone,
            pack,
            device,
            args.common.precision,
            Group::ALONE,
            &screen,
        )?;
        Features::new(x, labels)
    };
    let task = ProbeTask::new(
        features(&packs[0], packs[0].labels().to_vec())?,
        features(&packs[1], test_labels)?,
        |label| names[label as usize].clone(),
        |label| names[label as usize].clone(),
    )?;
    let found = score(&task, &options, &screen)?;
    show(&found, &screen);
    if let Some(out) = &args.out {
        protocol.set("checkpoint", args.checkpoint.display().to_string());
        protocol.note("dataset", "backbone_sha256", &origin.backbone_sha256[..]);
        let sums = [packs[0].sha256(), packs[1].sha256()].map(str::to_owned);
        let places = [&args.train, &args.test];
        record(&mut protocol, places, sums, &found, &args.probes, &args.common);
        let metrics = found.metrics(&task.classes);
        protocol.write(out, &metrics, texts, &device_name(device))?;
    }
    tell_origin(&origin, &screen);
    Ok(())
}

fn run_score(args: ScoreArgs) -> Result<()> {
    let (device, screen) = args.common.open()?;
    let mut protocol = Protocol::begin("probe score", args.out.as_deref())?;
    let [train, test] = [&args.train, &args.test].map(|path| Features::open(path, device));
    let (train, test) = (train?, test?);
    let options = args.probes.options(&args.common, train.labels.len(), false)?;
    let mut texts = Texts::new();
    tell_leakage(of_features(&train, &test, &args.test)?, &mut texts, &screen);
    let sums = match &args.out {
        Some(out) if !is_json(out) => [train.sum(), test.sum()],
        _ => Default::default(),
    };
    let task = ProbeTask::of_numbers(train, test)?;
    let found = score(&task, &options, &screen)?;
    show(&found, &screen);
    if let Some(out) = &args.out {
        let places = [&args.train, &args.test];
        record(&mut protocol, places, sums, &found, &args.probes, &args.common);
        let metrics = found.metrics(&task.classes);
        protocol.write(out, &metrics, texts, &device_name(device))?;
    }
    Ok(())
}

fn run_finetune(args: FinetuneArgs) -> Result<()> {
    let settings = FineTuneSettings {
        train: args.train,
        test: args.test,
        val: args.val,
        label_share: args.label_share,
        holdout: args.holdout,
        options: args.options,
    };
    let (seed, test_best) = (args.common.seed, args.start.tests_best());
    let task = |screen: &Screen| {
        let task = ClassificationTask::new(settings, seed)?;
        let (train, test) = (task.training_pack(), task.test_pack());
        if let Some(test) = test
            && let Some(repeats) = of_packs(train, test)?
        {
            screen.note(&format!("warning: {repeats}"));
        }
        if let Some(validation) = task.validation_pack() {
            let among = [(train, "training")]
                .into_iter()
                .chain(test.map(|test| (test, "test")));
            for (among, what) in among {
                let (all, count) = (validation.len(), repeats(among, validation));
                let seen = format!("{count} of the {all} validation images are among the {what} images");
                match (count, what) {
                    (0, _) => {}
                    (_, "test") if test_best => {
                        let remedy = "validate on other images, or leave --test-best out";
                        return Err(Error::settings(format!("--test-best: {seen}"), remedy).into());
                    }
                    _ => screen.note(&format!("warning: {seen}")),
                }
            }
        }
        Ok(task)
    };
    fine_tune(args.start, &args.common, task, |accuracy: &Accuracy, _| {
        println!("fine-tuned: top-1 {} %", shown(accuracy));
    })
}

/// Records settings, data and the choice of validation images.
fn record(
    protocol: &mut Protocol,
    places: [&PathBuf; 2],
    sums: [String; 2],
    found: &Score,
    probes: &ProbeArgs,
    common: &Common,
) {
    for ((name, place), sum) in ["train", "test"].into_iter().zip(places).zip(sums) {
        protocol.set(name, place.display().to_string());
        protocol.note("dataset", &format!("{name}_sha256"), sum);
    }
    protocol.set_all(probes);
    common.record(protocol);
    if let Some(split) = &found.split {
        let count = split.validation.iter().filter(|held| **held).count();
        protocol.note("dataset", "validation_images", count as i64);
        protocol.note("dataset", "validation_files", split.sum());
    }
}

fn show(found: &Score, screen: &Screen) {
    let mut table = Table::new(["probe", "setting", "top-1 (%)", "top-5 (%)"]);
    let mut row = |probe: &str, setting: String, accuracy: &Accuracy| {
        let five = accuracy.top5.map(|five| format!("{:.2}", 100.0 * five));
        table.row([
            probe.to_owned(),
            setting,
            shown(accuracy),
            five.unwrap_or_default(),
        ]);
    };
    if let Some(linear) = &found.linear {
        row(
            "linear",
            format!("{} = {}", linear.setting, linear.chosen),
            &linear.accuracy,
        );
    }
    for vote in &found.neighbours {
        for (k, _, accuracy) in &vote.each {
            let chosen = if vote.each.len() > 1 && *k == vote.chosen {
                " (chosen)"
            } else {
                ""
            };
            row(&vote.name.replace('_', " "), format!("k = {k}{chosen}"), accuracy);
        }
    }
    println!("{}", table.to_text());
    if let Some(linear) = found.linear.as_ref().filter(|linear| linear.at_the_end()) {
        screen.note(&format!(
            "note: the best {}, {}, is at the end of its grid; a better one may lie outside",
            linear.setting, linear.chosen
        ));
    }
}

/// `55.31 ± 0.78`, with half the interval.
fn shown(accuracy: &Accuracy) -> String {
    let [low, high] = accuracy.interval;
    percent(accuracy.top1, (high - low) / 2.0)
}

/// What training and test pack have in common, as a text.
pub fn of_packs(train: &Pack, test: &Pack) -> Result<Option<String>> {
    overlapping(repeats(train, test), test.len(), test.path())
}

/// Number of images of the second pack that are also in the first.
fn repeats(first: &Pack, second: &Pack) -> usize {
    let images = |pack: &Pack| pack.pixels().len() / pack.len();
    match images(first) == images(second) {
        true => repeated(
            first.pixels().chunks(images(first)),
            second.pixels().chunks(images(second)),
        ),
        false => 0,
    }
}

/// What training and test features have in common, as a text; rows of zeros are not compared.
fn of_features(train: &Features, test: &Features, path: &Path) -> Result<Option<String>> {
    if train.dimension() != test.dimension() {
        return Ok(None);
    }
    let [train, rows] = [train, test].map(|features| on_host(&features.x));
    let length = 4 * test.dimension() as usize;
    let full = |row: &&[u8]| row.iter().any(|byte| *byte != 0);
    let found = repeated(
        bytes_of(&train).chunks(length).filter(full),
        bytes_of(&rows).chunks(length).filter(full),
    );
    overlapping(found, test.labels.len(), path)
}

fn overlapping(found: usize, all: usize, test: &Path) -> Result<Option<String>> {
    match found {
        0 => Ok(None),
        _ if found == all => Err(Error::file(
            test,
            "holds only images that are trained on",
            "test on other images",
        )
        .into()),
        _ => Ok(Some(format!(
            "{found} of the {all} test images are among the training images"
        ))),
    }
}
