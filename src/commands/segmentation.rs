//! `camtrast segmentation train`, `eval`, `predict` and `score`.

use super::finetune::{FineTuneArgs, fine_tune};
use super::predict::PredictArgs;
use super::{Common, tell_origin};
use crate::processes::ProcessArgs;
use crate::protocol::{Protocol, tell_leakage};
use crate::screen::Screen;
use anyhow::Result;
use camtrast_common::augment::Input;
use camtrast_common::device::device_name;
use camtrast_common::progress::Progress;
use camtrast_common::run::Texts;
use camtrast_common::settings::{Numbers, set};
use camtrast_report::table::Table;
use camtrast_segmentation::data::ignored_ids;
use camtrast_segmentation::options::{EvaluationOptions, ViewOptions};
use camtrast_segmentation::photos::{WRITTEN, predict_photos};
use camtrast_segmentation::segmenter::SEGMENTER;
use camtrast_segmentation::{
    ClassSet, Dataset, Leave, Naming, Predictor, Preset, Scores, SegmentationOptions, SegmentationSettings,
    SegmentationTask, TrainData, evaluate, metrics, score, segmenter, truth_sum,
};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Subcommand)]
pub enum SegmentationCommand {
    /// Fine-tune DeepLab v3+ from a backbone, and evaluate it
    Train(Box<TrainArgs>),
    /// Evaluate a trained DeepLab v3+
    Eval(EvalArgs),
    /// Segment your own images with a trained DeepLab v3+
    Predict(SegmentArgs),
    /// Compute mIoU of label PNGs from any program, as cityscapesScripts does
    Score(ScoreArgs),
}

#[derive(Args)]
pub struct TrainArgs {
    #[command(flatten)]
    start: FineTuneArgs,
    /// Source of the defaults of all settings
    #[arg(long, value_enum, default_value = "paper")]
    preset: Preset,
    #[command(flatten)]
    data: TrainData,
    #[command(flatten)]
    options: SegmentationOptions,
    #[command(flatten)]
    evaluation: EvaluationOptions,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub struct EvalArgs {
    /// Folder of a training run
    #[arg(long, required_unless_present = "checkpoint", conflicts_with = "checkpoint")]
    run: Option<PathBuf>,
    /// A segmenter.safetensors
    #[arg(long)]
    checkpoint: Option<PathBuf>,
    /// Folder of Cityscapes, which contains leftImg8bit/ and gtFine/
    #[arg(long, required_unless_present = "images", conflicts_with_all = ["images", "labels"])]
    cityscapes: Option<PathBuf>,
    /// Split of Cityscapes
    #[arg(long, default_value = "val")]
    split: String,
    /// Folder of images, in place of --cityscapes
    #[arg(long, requires = "labels")]
    images: Option<PathBuf>,
    /// Folder of their label PNGs, with the same ids as in training
    #[arg(long, requires = "images")]
    labels: Option<PathBuf>,
    /// Folder for metrics.json, pictures, the confusion matrix and predictions
    #[arg(long)]
    out: Option<PathBuf>,
    /// Do not write predictions
    #[arg(long)]
    no_predictions: bool,
    #[command(flatten)]
    evaluation: EvaluationOptions,
    #[command(flatten)]
    processes: ProcessArgs,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub struct SegmentArgs {
    /// Folder of a training run
    #[arg(long, required_unless_present = "checkpoint", conflicts_with = "checkpoint")]
    run: Option<PathBuf>,
    /// A segmenter.safetensors
    #[arg(long)]
    checkpoint: Option<PathBuf>,
    #[command(flatten)]
    photos: PredictArgs,
    #[command(flatten)]
    views: ViewOptions,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub struct ScoreArgs {
    /// Folder of the ground truth, such as gtFine/val with its *_gtFine_labelIds.png
    #[arg(long)]
    ground_truth: PathBuf,
    /// Folder of predicted label PNGs with the same ids
    #[arg(long)]
    predictions: PathBuf,
    /// For other data sets: text file with one class name per line, the first for id 0; files are then
    /// matched by name
    #[arg(long)]
    class_names: Option<PathBuf>,
    /// Ids of the ground truth that are not evaluated, with --class-names
    #[arg(long, default_value = "255", requires = "class_names")]
    ignore: Numbers,
    /// Folder for metrics.json, or a .json file
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

pub fn run(command: SegmentationCommand) -> Result<()> {
    match command {
        SegmentationCommand::Train(args) => run_train(*args),
        SegmentationCommand::Eval(args) => run_eval(args),
        SegmentationCommand::Predict(args) => run_predict(args),
        SegmentationCommand::Score(args) => run_score(args),
    }
}

impl TrainArgs {
    /// The data to train on and to evaluate on.
    pub fn data(&self) -> &TrainData {
        &self.data
    }

    /// The settings with every default filled in, checked.
    pub fn resolved(&self) -> Result<SegmentationOptions> {
        let options = self.options.clone().resolve(self.preset)?;
        let crop = set(&options.crop);
        self.evaluation
            .views
            .predict_options([crop.height as i64, crop.width as i64])?;
        Ok(options)
    }
}

fn run_train(args: TrainArgs) -> Result<()> {
    let settings = SegmentationSettings {
        preset: args.preset,
        data: args.data,
        options: args.options,
        evaluation: args.evaluation,
    };
    fine_tune(
        args.start,
        &args.common,
        |_| Ok(SegmentationTask::new(settings)?),
        show,
    )
}

fn run_eval(args: EvalArgs) -> Result<()> {
    let (device, screen, group) = args.common.open_shared(&args.processes)?;
    let mut protocol = Protocol::begin("segmentation eval", args.out.as_deref())?;
    let path = args
        .checkpoint
        .unwrap_or_else(|| args.run.unwrap_or_default().join(SEGMENTER));
    let segmenter = segmenter::load(&path, device)?;
    let input = Input::new(&segmenter.info.mean, &segmenter.info.std, device);
    let predictor = Predictor {
        net: &segmenter.net,
        input: &input,
        device,
        precision: args.common.precision,
        options: args.evaluation.views.predict_options(segmenter.info.crop)?,
    };
    for (flag, place) in [
        ("cityscapes", &args.cityscapes),
        ("images", &args.images),
        ("labels", &args.labels),
    ] {
        protocol.set_if(flag, place.as_ref().map(|place| place.display().to_string()));
    }
    let dataset = match (args.cityscapes, args.images, args.labels) {
        (None, Some(images), Some(labels)) => {
            Dataset::folders(&images, &labels, segmenter.info.classes.clone())?
        }
        (cityscapes, ..) => Dataset::cityscapes(&cityscapes.unwrap_or_default(), &args.split)?,
    };
    if dataset.classes != segmenter.info.classes {
        let problem = format!(
            "it was trained on {} classes that are not Cityscapes'",
            segmenter.info.classes.len()
        );
        return Err(
            camtrast_common::Error::file(path, problem, "evaluate it with --images and --labels").into(),
        );
    }
    let (tested, mut texts) = (dataset.prints()?, segmenter.info.provenance.origin.texts());
    tell_leakage(
        segmenter.info.provenance.training_images.seen(&tested),
        &mut texts,
        &screen,
    );
    let leave = Leave {
        predictions: !args.no_predictions,
        pictures: args.evaluation.pictures,
    };
    let out = args.out.as_deref().map(|folder| (folder, leave));
    let scores = evaluate(&predictor, &dataset, out, group, &screen)?.scores(&dataset.classes);
    show(&scores, &screen);
    tell_origin(&segmenter.info.provenance.origin, &screen);
    if let Some(out) = args.out.filter(|_| group.leads()) {
        protocol.set("checkpoint", path.display().to_string());
        protocol.set("split", args.split);
        protocol.set_all(&args.evaluation);
        args.common.record(&mut protocol);
        protocol.note(
            "dataset",
            "backbone_sha256",
            &segmenter.info.provenance.origin.backbone_sha256[..],
        );
        protocol.note("dataset", "network_sha256", &segmenter.sha256[..]);
        protocol.note("dataset", "validation_images", dataset.samples.len() as i64);
        protocol.note("dataset", "validation_files", tested.sum());
        protocol.note("dataset", "validation_labels", dataset.labels_sum()?);
        protocol.trained(
            &segmenter.info.provenance.config,
            &segmenter.info.provenance.training_images,
        );
        protocol.write(&out, &metrics(&scores), texts, &device_name(device))?;
    }
    Ok(())
}

fn run_predict(args: SegmentArgs) -> Result<()> {
    let (device, screen) = args.common.open()?;
    let mut protocol = Protocol::begin("segmentation predict", Some(&args.photos.out))?;
    let path = args
        .checkpoint
        .unwrap_or_else(|| args.run.unwrap_or_default().join(SEGMENTER));
    let segmenter = segmenter::load(&path, device)?;
    let info = &segmenter.info;
    protocol.set("checkpoint", path.display().to_string());
    protocol.set("no-pictures", args.photos.no_pictures);
    protocol.set_all(&args.views);
    args.common.record(&mut protocol);
    protocol.note("dataset", "network_sha256", &segmenter.sha256[..]);
    protocol.trained(&info.provenance.config, &info.provenance.training_images);
    let predictor = Predictor {
        net: &segmenter.net,
        input: &Input::new(&info.mean, &info.std, device),
        device,
        precision: args.common.precision,
        options: args.views.predict_options(info.crop)?,
    };
    let drawn = !args.photos.no_pictures;
    args.photos.run(
        protocol,
        &WRITTEN,
        &device_name(device),
        &screen,
        |photos, out| predict_photos(&predictor, &info.classes, photos, out, drawn, &screen),
    )
}

/// `segmentation score`.
pub fn run_score(args: ScoreArgs) -> Result<()> {
    let screen = args.common.screen()?;
    let mut protocol = Protocol::begin("segmentation score", args.out.as_deref())?;
    let naming = match &args.class_names {
        Some(names) => Naming::Same(ClassSet::read(names, &ignored_ids(&args.ignore)?)?),
        None => Naming::Cityscapes,
    };
    let confusion = score(&args.ground_truth, &args.predictions, &naming, &screen)?;
    let scores = confusion.scores(&naming.classes());
    show(&scores, &screen);
    if let Some(out) = args.out {
        protocol.set("ground-truth", args.ground_truth.display().to_string());
        protocol.set("predictions", args.predictions.display().to_string());
        // Ids that do not count are of --class-names alone.
        if let Some(names) = &args.class_names {
            protocol.set("class-names", names.display().to_string());
            protocol.set("ignore", args.ignore.to_string());
            let names: Vec<String> = naming
                .classes()
                .classes()
                .iter()
                .map(|class| class.name.clone())
                .collect();
            protocol.note("dataset", "classes", names);
        }
        let (images, labels) = truth_sum(&args.ground_truth, &naming)?;
        protocol.note("dataset", "validation_images", images as i64);
        protocol.note("dataset", "validation_labels", labels);
        protocol.write(&out, &metrics(&scores), Texts::new(), "cpu")?;
    }
    Ok(())
}

/// Prints the tables of classes and categories, and what the means leave out.
fn show(scores: &Scores, screen: &Screen) {
    let percent = |iou: Option<f64>| iou.map_or("–".to_owned(), |iou| format!("{:.2}", 100.0 * iou));
    let mut table = Table::new(["class", "IoU (%)"]);
    scores
        .classes
        .iter()
        .for_each(|c| table.row([c.name.clone(), percent(c.iou)]));
    table.row(["mean".to_owned(), percent(scores.mean_iou)]);
    println!("{}", table.to_text());
    if !scores.categories.is_empty() {
        let mut table = Table::new(["category", "IoU (%)"]);
        scores
            .categories
            .iter()
            .for_each(|c| table.row([c.name.clone(), percent(c.iou)]));
        table.row(["mean".to_owned(), percent(scores.category_mean_iou)]);
        println!("\n{}", table.to_text());
    }
    let named = |predicted: bool| {
        let absent = scores
            .absent()
            .into_iter()
            .filter(|c| c.iou.is_some() == predicted);
        absent.map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    for (names, what) in [
        (named(false), "left out of the mean"),
        (
            named(true),
            "predicted nevertheless, which counts as IoU 0 (as in cityscapesScripts)",
        ),
    ] {
        if !names.is_empty() {
            screen.note(&format!("absent from the ground truth and {what}: {names}"));
        }
    }
    if scores.mean_iou.is_none() {
        screen.note("warning: no pixel of the ground truth is of an evaluated class, so there is no mIoU");
    }
}
