//! `camtrast detection train`, `eval`, `predict` and `score`.

use super::finetune::{FineTuneArgs, fine_tune};
use super::predict::PredictArgs;
use super::{Common, is_json, metrics_path, tell_origin};
use crate::processes::ProcessArgs;
use crate::protocol::{Protocol, tell_leakage};
use crate::screen::Screen;
use anyhow::Result;
use camtrast_common::Error;
use camtrast_common::augment::Input;
use camtrast_common::device::device_name;
use camtrast_common::progress::{Progress, Silent};
use camtrast_common::run::{RunFolder, Texts};
use camtrast_detection::curves::write_curves;
use camtrast_detection::data::{TestData, TrainData, note_problems};
use camtrast_detection::detector::{DETECTOR, DetectorInfo};
use camtrast_detection::model::DetectorArch;
use camtrast_detection::photos::{WRITTEN, detect_photos};
use camtrast_detection::transform::Scale;
use camtrast_detection::{
    Dataset, DetectionOptions, DetectionSettings, DetectionTask, Evaluation, Predictor, Preset, Results,
    detector, evaluate, write_report,
};
use camtrast_report::table::Table;
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub enum DetectionCommand {
    /// Fine-tune Faster R-CNN from a backbone, and evaluate it
    Train(Box<TrainArgs>),
    /// Evaluate a trained Faster R-CNN, ours or torchvision's
    Eval(EvalArgs),
    /// Detect objects in your own images with a trained Faster R-CNN, ours or torchvision's
    Predict(DetectArgs),
    /// Compute average precision of detections from any program
    Score(ScoreArgs),
}

#[derive(Args)]
pub struct TrainArgs {
    #[command(flatten)]
    start: FineTuneArgs,
    /// c4 (layer4 as the head, as in MoCo's and the paper's tables) or fpn
    #[arg(long, value_enum, default_value = "c4")]
    arch: DetectorArch,
    /// Source of the defaults of all settings
    #[arg(long, value_enum, default_value = "paper")]
    preset: Preset,
    /// Number of sample pictures to draw after training
    #[arg(long, default_value_t = 8)]
    pictures: usize,
    #[command(flatten)]
    data: TrainData,
    #[command(flatten)]
    options: DetectionOptions,
    #[command(flatten)]
    common: Common,
}

/// A trained detector, and how it looks at images.
#[derive(Args)]
struct DetectorArgs {
    /// A detector.safetensors of `detection train`, or a torchvision fasterrcnn_resnetNN_fpn as safetensors
    #[arg(long, required_unless_present = "run", conflicts_with = "run")]
    checkpoint: Option<PathBuf>,
    /// Folder of a training run, in place of --checkpoint
    #[arg(long)]
    run: Option<PathBuf>,
    /// Resize the shorter side of images to this many pixels (default: as in training)
    #[arg(long, value_parser = clap::value_parser!(u64).range(32..=8192))]
    test_side: Option<u64>,
}

impl DetectorArgs {
    fn path(&self) -> PathBuf {
        let of_run = || self.run.clone().unwrap_or_default().join(DETECTOR);
        self.checkpoint.clone().unwrap_or_else(of_run)
    }
}

#[derive(Args)]
pub struct EvalArgs {
    #[command(flatten)]
    detector: DetectorArgs,
    /// Folder for metrics.json, result files, curves and pictures
    #[arg(long)]
    out: Option<PathBuf>,
    /// Number of sample pictures to draw
    #[arg(long, default_value_t = 8)]
    pictures: usize,
    #[command(flatten)]
    data: TestData,
    #[command(flatten)]
    processes: ProcessArgs,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub struct DetectArgs {
    #[command(flatten)]
    detector: DetectorArgs,
    /// Least score of detections in pictures; the files hold all
    #[arg(long, default_value_t = 0.5)]
    min_score: f64,
    #[command(flatten)]
    photos: PredictArgs,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub struct ScoreArgs {
    /// Folder of VOC devkit result files (`*_det_<split>_<class>.txt`), or a COCO results JSON
    #[arg(long)]
    detections: PathBuf,
    /// Folder for metrics.json and precision-recall curves, or a .json file
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    data: TestData,
    #[command(flatten)]
    common: Common,
}

pub fn run(command: DetectionCommand) -> Result<()> {
    match command {
        DetectionCommand::Train(args) => run_train(*args),
        DetectionCommand::Eval(args) => run_eval(args),
        DetectionCommand::Predict(args) => run_predict(args),
        DetectionCommand::Score(args) => run_score(args, Some(write_curves)),
    }
}

impl TrainArgs {
    /// The data flags.
    pub fn data(&self) -> &impl std::fmt::Debug {
        &self.data
    }

    /// The data sets that the flags name: to train on, to test on, to validate on.
    pub fn datasets(&self) -> Result<(Dataset, Option<Dataset>, Option<Dataset>)> {
        let (training, test) = self.data.read(&Silent)?;
        let validation = self.data.validation(&training, &Silent)?;
        Ok((training, test, validation))
    }

    /// The settings with every default filled in, checked.
    pub fn resolved(&self) -> Result<DetectionOptions> {
        Ok(self.options.clone().resolve(self.preset, self.arch)?)
    }
}

fn run_train(args: TrainArgs) -> Result<()> {
    let task = |screen: &Screen| {
        let (training, test) = args.data.read(screen)?;
        let validation = args.data.validation(&training, screen)?;
        let settings = DetectionSettings {
            arch: args.arch,
            preset: args.preset,
            data: args.data,
            options: args.options,
        };
        Ok(DetectionTask::new(settings, training, test, args.pictures)?.validated_on(validation))
    };
    fine_tune(args.start, &args.common, task, show)
}

fn run_eval(args: EvalArgs) -> Result<()> {
    let (device, screen, group) = args.common.open_shared(&args.processes)?;
    let mut protocol = Protocol::begin("detection eval", args.out.as_deref())?;
    let path = args.detector.path();
    let detector = detector::load(&path, device)?;
    let dataset = args.data.read(true, &screen)?;
    let info = &detector.info;
    if info.model.classes != dataset.classes.len() as i64
        || !info.classes.is_empty() && info.classes != dataset.classes
    {
        let known = if info.classes.is_empty() {
            "unnamed".into()
        } else {
            info.classes.join(",")
        };
        let problem = format!(
            "finds {} classes ({known}), the data has {} ({})",
            info.model.classes,
            dataset.classes.len(),
            dataset.classes.join(",")
        );
        return Err(Error::file(
            path,
            problem,
            "give the classes that it was trained on by --classes",
        )
        .into());
    }
    let scale = scale_of(info, args.detector.test_side);
    let input = Input::new(&info.mean, &info.std, device);
    let (tested, mut texts) = (dataset.prints()?, info.provenance.origin.texts());
    tell_leakage(info.provenance.training_images.seen(&tested), &mut texts, &screen);
    let results = Predictor {
        net: &detector.net,
        input: &input,
        scale,
        device,
        precision: args.common.precision,
    }
    .predict(&dataset, group, &screen)?;
    if !group.leads() {
        return Ok(());
    }
    let evaluation = evaluate(&dataset, &results)?;
    show(&evaluation, &screen);
    tell_origin(&detector.info.provenance.origin, &screen);
    if let Some(out) = args.out {
        let folder = RunFolder::create(&out)?;
        write_report(folder.path(), &dataset, &results, &evaluation, args.pictures)?;
        protocol.set("checkpoint", path.display().to_string());
        protocol.set("test-side", scale.side as i64);
        protocol.set_all(&args.data);
        args.common.record(&mut protocol);
        protocol.note(
            "dataset",
            "backbone_sha256",
            &info.provenance.origin.backbone_sha256[..],
        );
        detector
            .sha256
            .iter()
            .for_each(|sum| protocol.note("dataset", "network_sha256", &sum[..]));
        note_data(&mut protocol, &dataset);
        protocol.note("dataset", "test_files", tested.sum());
        protocol.trained(&info.provenance.config, &info.provenance.training_images);
        protocol.write(&out, &evaluation.metrics(), texts, &device_name(device))?;
    }
    Ok(())
}

// As in training, but for the shorter side where another is asked for.
fn scale_of(info: &DetectorInfo, side: Option<u64>) -> Scale {
    Scale {
        side: side.map_or(info.scale.side, |side| side as usize),
        ..info.scale
    }
}

fn run_predict(args: DetectArgs) -> Result<()> {
    let (device, screen) = args.common.open()?;
    let mut protocol = Protocol::begin("detection predict", Some(&args.photos.out))?;
    let path = args.detector.path();
    let detector = detector::load(&path, device)?;
    let info = &detector.info;
    let scale = scale_of(info, args.detector.test_side);
    protocol.set("checkpoint", path.display().to_string());
    protocol.set("test-side", scale.side as i64);
    protocol.set("min-score", args.min_score);
    protocol.set("no-pictures", args.photos.no_pictures);
    args.common.record(&mut protocol);
    detector
        .sha256
        .iter()
        .for_each(|sum| protocol.note("dataset", "network_sha256", &sum[..]));
    protocol.trained(&info.provenance.config, &info.provenance.training_images);
    let classes = match &info.classes[..] {
        [] => (1..=info.model.classes).map(|n| format!("class {n}")).collect(),
        known => known.to_vec(),
    };
    let input = Input::new(&info.mean, &info.std, device);
    let predictor = Predictor {
        net: &detector.net,
        input: &input,
        scale,
        device,
        precision: args.common.precision,
    };
    let drawn = (!args.photos.no_pictures).then_some(args.min_score);
    args.photos.run(
        protocol,
        &WRITTEN,
        &device_name(device),
        &screen,
        |photos, out| detect_photos(&predictor, &classes, photos, out, drawn, &screen),
    )
}

impl ScoreArgs {
    /// Whether pictures of curves are asked for, which OpenCV draws.
    pub fn draws(&self) -> bool {
        self.out.as_deref().is_some_and(|out| !is_json(out))
    }
}

/// Draws precision-recall curves into a folder.
pub type DrawCurves = fn(&Path, &Evaluation) -> camtrast_common::Result<Vec<PathBuf>>;

/// `detection score`. `draw` is needed where [`ScoreArgs::draws`].
pub fn run_score(args: ScoreArgs, draw: Option<DrawCurves>) -> Result<()> {
    let screen = args.common.screen()?;
    let mut protocol = Protocol::begin("detection score", args.out.as_deref())?;
    let dataset = args.data.read(false, &screen)?;
    let results = Results::read(&args.detections, &dataset, args.data.skip_bad)?;
    note_problems(&results.problems, "detections", &screen);
    results
        .notes
        .iter()
        .for_each(|note| screen.note(&format!("warning: {note}")));
    if results.found.is_empty() {
        screen.note(&format!(
            "warning: {} holds no detection",
            args.detections.display()
        ));
    }
    let evaluation = evaluate(&dataset, &results)?;
    show(&evaluation, &screen);
    if let Some(out) = args.out {
        let path = metrics_path(&out)?;
        protocol.set("detections", args.detections.display().to_string());
        protocol.set_all(&args.data);
        note_data(&mut protocol, &dataset);
        protocol.write(&out, &evaluation.metrics(), Texts::new(), "cpu")?;
        if let Some(draw) = draw.filter(|_| path != out) {
            let curves = out.join("curves");
            std::fs::create_dir_all(&curves).map_err(Error::io(&curves, "create"))?;
            draw(&curves, &evaluation)?;
        }
    }
    Ok(())
}

fn note_data(protocol: &mut Protocol, dataset: &Dataset) {
    protocol.note("dataset", "test_images", dataset.images.len() as i64);
    protocol.note("dataset", "test_annotations", dataset.fingerprint());
}

/// Prints the mean figures, then the table of the classes.
fn show(evaluation: &Evaluation, screen: &Screen) {
    let percent = |share: f64| format!("{:.2}", 100.0 * share);
    let maybe = |share: Option<f64>| share.map_or("–".to_owned(), percent);
    let mean = &evaluation.mean;
    let mut table = Table::new(["figure", "%", "what it is"]);
    for (name, value, what) in [
        ("AP", percent(mean.ap), "COCO, mean over IoU .50:.95"),
        ("AP50", percent(mean.ap50), "COCO, IoU .50"),
        ("AP75", percent(mean.ap75), "COCO, IoU .75"),
        ("APs", maybe(mean.ap_small), "COCO, objects below 32^2 pixels"),
        ("APm", maybe(mean.ap_medium), "COCO, 32^2 to 96^2"),
        ("APl", maybe(mean.ap_large), "COCO, above 96^2"),
        ("VOC07 mAP", percent(mean.voc07), "11 points, IoU .50"),
        ("VOC mAP", percent(mean.voc), "area, IoU .50"),
        (
            "detectron2 VOC AP",
            percent(mean.detectron2_voc),
            "11 points, mean over IoU .50:.95",
        ),
        (
            "detectron2 VOC AP75",
            percent(mean.detectron2_voc_75),
            "11 points, IoU .75",
        ),
        (
            "detectron2 VOC12 AP",
            percent(mean.detectron2_voc12),
            "area, mean over IoU .50:.95",
        ),
    ] {
        table.row([name.to_owned(), value, what.to_owned()]);
    }
    println!("{}\n", table.to_text());
    let mut table = Table::new([
        "class",
        "objects",
        "detections",
        "AP",
        "AP50",
        "AP75",
        "VOC07 AP",
        "VOC AP",
    ]);
    for class in &evaluation.classes {
        let figures = &class.figures;
        let [ap, ap50, ap75, voc07, voc] =
            [figures.ap, figures.ap50, figures.ap75, figures.voc07, figures.voc].map(percent);
        let (objects, detections) = (class.objects.to_string(), class.detections.to_string());
        table.row([
            class.name.clone(),
            objects,
            detections,
            ap,
            ap50,
            ap75,
            voc07,
            voc,
        ]);
    }
    println!("{}", table.to_text());
    if !evaluation.left_out.is_empty() {
        screen.note(&format!(
            "left out of every mean, without an object that counts: {}",
            evaluation.left_out.join(", ")
        ));
    }
}
