//! Fine-tunes Faster R-CNN from a pretrained backbone, end to end, and evaluates it.

use crate::Dataset;
use crate::detector::{self, DetectorInfo};
use crate::evaluate::{Evaluation, evaluate};
use crate::model::{DetectorArch, FasterRcnn, Losses};
use crate::options::{DetectionOptions, Preset};
use crate::predict::Predictor;
use crate::report::write_report;
use crate::source::{Batch, DetectionSource};
use crate::transform::Padded;
use camtrast_common::checkpoint::{Backbone, Origin, load_backbone};
use camtrast_common::device::{Precision, device_name};
use camtrast_common::engine::{self, Loss, Outcome, Source, StepContext, Task, TrainPlan};
use camtrast_common::leakage::{LEAKAGE, Prints};
use camtrast_common::nn::{Mode, Modes, weights_channels_last};
use camtrast_common::optim::{Optimizer, OptimizerConfig, ParamGroup};
use camtrast_common::precise_bn;
use camtrast_common::progress::Progress;
use camtrast_common::random::torch_seed;
use camtrast_common::run::{RunFolder, RunOptions};
use camtrast_common::sampler::period;
use camtrast_common::settings::{BatchNormMode, set};
use camtrast_common::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tch::nn::VarStore;
use tch::{Device, Tensor};

/// The trained detector's file in a run's folder.
pub const DETECTOR: &str = "detector.safetensors";
/// What an evaluation leaves in a folder, beside metrics.json: result files, pictures.
pub const LEFT: [&str; 5] = [
    "detections",
    "detections.json",
    "instances.json",
    "pictures",
    "curves",
];

/// Everything that decides a run's weights and metrics, as config.toml holds it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DetectionRecipe<D> {
    /// The pretrained backbone.
    pub checkpoint: PathBuf,
    /// Seed of everything random.
    pub seed: u64,
    /// Precision of the network's forward passes.
    pub precision: Precision,
    /// Which Faster R-CNN.
    pub arch: DetectorArch,
    /// Where the defaults come from.
    pub preset: Preset,
    /// Where the data is, as the user named it.
    #[serde(flatten)]
    pub data: D,
    /// The settings.
    #[serde(flatten)]
    pub options: DetectionOptions,
}

/// A recipe and how to run it.
#[derive(Debug, Clone)]
pub struct TrainConfig<D> {
    /// What decides the weights.
    pub recipe: DetectionRecipe<D>,
    /// The images to train on.
    pub training: Dataset,
    /// The images to evaluate on; no evaluation when `None`.
    pub test: Option<Dataset>,
    /// Where and how it goes.
    pub run: RunOptions,
    /// Sample pictures to draw.
    pub pictures: usize,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct TrainReport {
    /// The trained detector's file.
    pub detector: PathBuf,
    /// The backbone it began from.
    pub origin: Origin,
    /// How training ended.
    pub outcome: Outcome,
    /// Figures on the test images; `None` without any, when training was interrupted, or had been finished
    /// and evaluated before.
    pub evaluation: Option<Evaluation>,
}

/// Fine-tunes and evaluates, or goes on where an earlier run of the same recipe in the same folder was cut
/// off.
///
/// # Errors
/// [`Error::Settings`] for a recipe that cannot work or differs from the folder's, [`Error::File`] for images
/// and checkpoints that cannot be used; otherwise as [`engine::train`].
pub fn train<D: Serialize + Clone>(
    config: TrainConfig<D>,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<TrainReport> {
    let mut recipe = config.recipe.clone();
    recipe.options = recipe.options.resolve(recipe.preset, recipe.arch)?;
    let images = config.training.images.len();
    if images == 0 {
        return Err(Error::settings(
            "there is no image to train on",
            "name a split with images",
        ));
    }
    let augment = recipe.options.augment(&config.training);
    if config
        .training
        .images
        .iter()
        .all(|image| augment.trained_on(image).next().is_none())
    {
        let problem = format!("none of the {images} training images has an object that counts");
        let remedy =
            "name a split with objects of --classes, or train on difficult ones (--train-difficult on)";
        return Err(Error::settings(problem, remedy));
    }
    let backbone = load_backbone(&recipe.checkpoint, Device::Cpu)?;
    let trained = config.training.prints()?;
    let tested = config.test.as_ref().map(Dataset::prints).transpose()?;
    let leakage = tested.as_ref().and_then(|tested| trained.seen(tested));
    if let Some(leakage) = &leakage {
        progress.note(&format!("warning: {leakage}; these numbers are marked with it"));
    }
    let plan = plan(&config, &recipe.options, images);
    let schedule = recipe.options.schedule(images);

    let run = config.run.begin(&[&[DETECTOR][..], &LEFT].concat())?;
    claim(&run, &config, &recipe, &backbone, tested.as_ref())?;
    let mut task = DetectionTask::new(&recipe, &config, &backbone, trained)?;
    drop(backbone);
    let TrainConfig {
        training,
        test,
        pictures,
        run: RunOptions { device, .. },
        ..
    } = config;
    let training = Arc::new(training);
    let source = |seed| {
        let (training, augment, grouping) = (training.clone(), augment.clone(), recipe.options.grouping());
        DetectionSource::new(training, augment, grouping, plan.batches_per_epoch, seed)
    };
    let mut optimizer = optimiser(&recipe.options, &task.vs);
    let outcome = engine::train(
        &mut task,
        source(recipe.seed),
        &mut optimizer,
        &schedule,
        &plan,
        &run,
        progress,
        stop,
    )?;
    drop(optimizer);

    // A finished run looked at again keeps what it measured.
    let measured = outcome.was_done && run.file("metrics.json").exists();
    let mut evaluation = None;
    if !outcome.interrupted && !measured {
        // Images and sampling of their own.
        let seed = torch_seed(recipe.seed, "precise batch norm", 0, 0) as u64;
        task.re_estimate_batch_norm(set(&recipe.options.precise_bn), source(seed), seed, progress)?;
        task.save(&run, outcome.step)?;
        let mut metrics = BTreeMap::from([("detection/steps".to_owned(), outcome.step as f64)]);
        if outcome.seconds > 0.0 {
            let trained = (outcome.step * plan.batch_size * plan.accumulate) as f64;
            metrics.insert("detection/images_per_second".into(), trained / outcome.seconds);
        }
        if let Some(test) = &test {
            let results = task
                .predictor(recipe.options.test_scale())
                .predict(test, progress)?;
            let figures = evaluate(test, &results)?;
            write_report(run.path(), test, &results, &figures, pictures)?;
            metrics.extend(figures.metrics());
            evaluation = Some(figures);
        }
        let mut texts = task.info.origin.texts();
        texts.extend(leakage.map(|leakage| (LEAKAGE.to_owned(), leakage)));
        run.write_metrics(&metrics, texts, outcome.seconds, &device_name(device))?;
    }
    Ok(TrainReport {
        detector: run.file(DETECTOR),
        origin: task.info.origin,
        outcome,
        evaluation,
    })
}

fn plan<D>(config: &TrainConfig<D>, options: &DetectionOptions, images: usize) -> TrainPlan {
    let accumulate = set(&options.accumulate);
    let steps = options.total_steps(images);
    let period = period(steps, options.pass(images));
    TrainPlan {
        seed: config.recipe.seed,
        device: config.run.device,
        epochs: steps / period,
        batches_per_epoch: period * accumulate,
        accumulate,
        batch_size: set(&options.batch_size) / accumulate,
        clip_norm: Some(set(&options.clip_norm)).filter(|&norm| norm > 0.0),
        log_every: config.run.log_every.max(1),
        save_every: config.run.save_every,
    }
}

// Names the run by what decides its weights and metrics, data included.
fn claim<D: Serialize>(
    run: &RunFolder,
    config: &TrainConfig<D>,
    recipe: &DetectionRecipe<D>,
    backbone: &Backbone,
    tested: Option<&Prints>,
) -> Result<()> {
    let recipe = toml::to_string(recipe).expect("a recipe serialises");
    let mut dataset = format!(
        "\n[dataset]\nbackbone_sha256 = \"{}\"\ntraining_images = {}\ntraining_annotations = \"{}\"\n",
        backbone.sha256,
        config.training.images.len(),
        config.training.fingerprint(),
    );
    if let Some(test) = &config.test {
        let (images, annotations) = (test.images.len(), test.fingerprint());
        dataset += &format!("test_images = {images}\ntest_annotations = \"{annotations}\"\n");
    }
    if let Some(tested) = tested {
        dataset += &format!("test_files = \"{}\"\n", tested.sum());
    }
    run.claim(&(recipe + &dataset), &config.run.build, config.run.device)
}

fn optimiser(options: &DetectionOptions, vs: &VarStore) -> Optimizer {
    let frozen = set(&options.batch_norm) == BatchNormMode::Frozen;
    // All that a ResNet has of one dimension is batch norm's.
    let is_norm = |name: &str, param: &Tensor| {
        name.starts_with("backbone.") && param.dim() == 1 || name.starts_with("box_head.norm.")
    };
    let mut groups = Vec::new();
    for in_backbone in [true, false] {
        let all = ParamGroup::matching(vs, |name| name.starts_with("backbone.") == in_backbone).params;
        let (norms, rest) = all.into_iter().partition(|(name, param)| is_norm(name, param));
        let lr_scale = if in_backbone {
            set(&options.backbone_lr_scale)
        } else {
            1.0
        };
        let group = |params, weight_decay| ParamGroup {
            params,
            lr_scale,
            constant_lr: false,
            weight_decay,
        };
        groups.push(group(rest, None));
        if !(frozen && in_backbone) {
            groups.push(group(norms, Some(set(&options.norm_weight_decay))));
        }
    }
    let config = OptimizerConfig {
        algorithm: set(&options.optimizer),
        momentum: set(&options.momentum),
        nesterov: false,
        weight_decay: set(&options.weight_decay),
    };
    Optimizer::new(config, groups)
}

/// Faster R-CNN under the engine.
struct DetectionTask {
    net: FasterRcnn,
    vs: VarStore,
    modes: Modes,
    device: Device,
    precision: Precision,
    info: DetectorInfo,
}

impl DetectionTask {
    fn new<D: Serialize>(
        recipe: &DetectionRecipe<D>,
        config: &TrainConfig<D>,
        backbone: &Backbone,
        training_images: Prints,
    ) -> Result<Self> {
        let classes = &config.training.classes;
        let model = recipe
            .options
            .model(recipe.arch, backbone.info.arch, classes.len() as i64)?;
        tch::manual_seed(torch_seed(recipe.seed, "initialise", 0, 0));
        let mut vs = VarStore::new(Device::Cpu);
        let net = FasterRcnn::new(&vs.root(), &model);
        backbone.copy_into(&vs, "backbone.")?;
        vs.set_device(config.run.device);
        weights_channels_last(&vs);
        Ok(DetectionTask {
            net,
            vs,
            modes: Modes::training(set(&recipe.options.batch_norm)),
            device: config.run.device,
            precision: recipe.precision,
            info: DetectorInfo {
                model,
                classes: classes.clone(),
                mean: backbone.info.mean,
                std: backbone.info.std,
                scale: recipe.options.test_scale(),
                step: 0,
                precise_bn: 0,
                origin: backbone.origin(),
                training_images,
                config: serde_json::to_string(recipe).expect("a recipe serialises"),
                commit: config.run.build.commit.clone(),
            },
        })
    }

    fn predictor(&self, scale: crate::transform::Scale) -> Predictor<'_> {
        let DetectorInfo { mean, std, .. } = self.info;
        Predictor {
            net: &self.net,
            mean,
            std,
            scale,
            device: self.device,
            precision: self.precision,
        }
    }
}

impl DetectionTask {
    fn losses(&self, batch: &Batch, at: &StepContext, modes: Modes) -> Result<Losses> {
        let input = |group: &Padded| group.input(&self.info.mean, &self.info.std, self.device);
        let groups: Vec<_> = batch.groups.iter().map(input).collect();
        self.net
            .losses(&groups, &batch.truth(self.device), at, self.precision, modes)
    }

    // Batch norm's running statistics from so many batches, with the trained weights.
    fn re_estimate_batch_norm(
        &mut self,
        batches: u64,
        mut source: DetectionSource,
        seed: u64,
        progress: &dyn Progress,
    ) -> Result<()> {
        // The pyramid's head has no batch norm.
        let none = self.info.model.arch == DetectorArch::Fpn && self.modes.backbone == Mode::Eval;
        if batches == 0 || none {
            return Ok(());
        }
        progress.start("estimating batch norm", batches, 0);
        precise_bn::re_estimate(batches, |batch, mode| {
            let at = StepContext {
                seed,
                epoch: 0,
                step: batch,
                batch,
                total_steps: batches,
            };
            self.losses(&source.batch(0, batch)?, &at, self.modes.with_training(mode))?;
            progress.advance(1, "");
            Ok(())
        })?;
        progress.finish();
        self.info.precise_bn = batches;
        Ok(())
    }

    fn save(&self, run: &RunFolder, step: u64) -> Result<()> {
        detector::save(
            &run.file(DETECTOR),
            &self.vs,
            &DetectorInfo {
                step,
                ..self.info.clone()
            },
        )
    }
}

impl Task for DetectionTask {
    type Batch = Batch;

    fn forward(&mut self, batch: Batch, at: &StepContext) -> Result<Loss> {
        let losses = self.losses(&batch, at, self.modes)?;
        Ok(Loss {
            total: &losses.objectness + &losses.proposal_boxes + &losses.classes + &losses.boxes,
            parts: vec![
                ("loss_objectness", losses.objectness),
                ("loss_proposal_boxes", losses.proposal_boxes),
                ("loss_classes", losses.classes),
                ("loss_boxes", losses.boxes),
            ],
        })
    }

    fn after_step(&mut self, _at: &StepContext) -> Result<()> {
        Ok(())
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        self.vs.variables().into_iter().collect()
    }

    fn export(&self, run: &RunFolder, _epoch: u64, step: u64) -> Result<()> {
        // What this state has become already is better: its batch norm has been estimated anew.
        match detector::info(&run.file(DETECTOR)) {
            Some(info) if info.precise_bn > 0 && info.step == step => Ok(()),
            _ => self.save(run, step),
        }
    }
}
