//! Fine-tunes DeepLab v3+ from a pretrained backbone, end to end, and evaluates it.

use crate::classes::{ClassSet, IGNORE};
use crate::confusion::Scores;
use crate::dataset::Dataset;
use crate::deeplab::{DeepLab, LossAverage, cross_entropy};
use crate::evaluate::{LEFT, Leave, evaluate, metrics};
use crate::options::{EvaluationOptions, Preset, SegmentationOptions};
use crate::predict::Predictor;
use crate::segmenter::{self, SegmenterInfo};
use crate::source::{Batch, CropSource};
use camtrast_common::augment::to_input;
use camtrast_common::checkpoint::{Backbone, Origin, load_backbone};
use camtrast_common::device::{Precision, device_name};
use camtrast_common::engine::{self, Loss, Outcome, StepContext, Task, TrainPlan};
use camtrast_common::leakage::{LEAKAGE, Prints};
use camtrast_common::nn::{Modes, weights_channels_last};
use camtrast_common::optim::{Algorithm, Optimizer, OptimizerConfig, ParamGroup};
use camtrast_common::progress::Progress;
use camtrast_common::random::torch_seed;
use camtrast_common::resnet::{Arch, Stem};
use camtrast_common::run::{RunFolder, RunOptions};
use camtrast_common::sampler::period;
use camtrast_common::schedule::Schedule;
use camtrast_common::settings::{BatchNormMode, Numbers, set};
use camtrast_common::tensor_file::hex;
use camtrast_common::{Error, Result};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

/// What is trained on and evaluated on: Cityscapes, or folders of images and label PNGs.
#[derive(Debug, Clone, PartialEq, Serialize, clap::Args)]
#[serde(rename_all = "kebab-case")]
pub struct TrainData {
    /// Folder of Cityscapes, which holds leftImg8bit/ and gtFine/
    #[arg(long, help_heading = "Data", conflicts_with_all = ["images", "labels", "class_names"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cityscapes: Option<PathBuf>,
    /// Split of Cityscapes to train on
    #[arg(long, default_value = "train", help_heading = "Data")]
    pub train_split: String,
    /// Split of Cityscapes to evaluate on
    #[arg(long, default_value = "val", help_heading = "Data")]
    pub val_split: String,
    /// Folder of images to train on, instead of Cityscapes
    #[arg(long, help_heading = "Data", requires_all = ["labels", "class_names"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<PathBuf>,
    /// Folder of their label PNGs, one class id a pixel, named as the images
    #[arg(long, help_heading = "Data", requires = "images")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// Folder of images to evaluate on; those trained on when left out
    #[arg(long, help_heading = "Data", requires_all = ["val_labels", "images"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_images: Option<PathBuf>,
    /// Folder of their label PNGs
    #[arg(long, help_heading = "Data", requires = "val_images")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_labels: Option<PathBuf>,
    /// Text file with one class name a line, the first for id 0
    #[arg(long, help_heading = "Data", requires = "images")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_names: Option<PathBuf>,
    /// Ids that neither train nor count, such as 255
    #[arg(long, default_value = "255", help_heading = "Data")]
    pub ignore: Numbers,
}

impl TrainData {
    /// Splits `train` and `val` of a folder in Cityscapes' layout.
    pub fn of_cityscapes(root: &Path) -> Self {
        TrainData {
            cityscapes: Some(root.to_owned()),
            train_split: "train".into(),
            val_split: "val".into(),
            images: None,
            labels: None,
            val_images: None,
            val_labels: None,
            class_names: None,
            ignore: Numbers(vec![f64::from(IGNORE)]),
        }
    }

    /// The samples to train on.
    ///
    /// # Errors
    /// [`Error::Usage`] when no data is named, otherwise as [`Dataset::cityscapes`].
    pub fn training(&self) -> Result<Dataset> {
        match (&self.cityscapes, &self.images, &self.labels) {
            (Some(root), _, _) => Dataset::cityscapes(root, &self.train_split),
            (None, Some(images), Some(labels)) => Dataset::folders(images, labels, self.named_classes()?),
            _ => Err(no_data()),
        }
    }

    /// The samples to evaluate on.
    ///
    /// # Errors
    /// As [`TrainData::training`].
    pub fn validation(&self) -> Result<Dataset> {
        match (&self.cityscapes, &self.val_images, &self.val_labels) {
            (Some(root), _, _) => Dataset::cityscapes(root, &self.val_split),
            (None, Some(images), Some(labels)) => Dataset::folders(images, labels, self.named_classes()?),
            _ => self.training(),
        }
    }

    fn named_classes(&self) -> Result<ClassSet> {
        let names = self.class_names.as_deref().ok_or_else(no_data)?;
        ClassSet::read(names, &self.ignored()?)
    }

    /// `--ignore` as ids.
    ///
    /// # Errors
    /// [`Error::Settings`] when it is no list of ids.
    pub fn ignored(&self) -> Result<Vec<u8>> {
        ignored_ids(&self.ignore)
    }
}

/// Ids 0..255 of a list of numbers.
///
/// # Errors
/// [`Error::Settings`] for anything else.
pub fn ignored_ids(list: &Numbers) -> Result<Vec<u8>> {
    let id = |n: &f64| (n.fract() == 0.0 && (0.0..256.0).contains(n)).then_some(*n as u8);
    let ids = list.0.iter().map(id).collect::<Option<Vec<u8>>>();
    ids.ok_or_else(|| {
        Error::settings(
            format!("--ignore {list} is no list of ids"),
            "give ids from 0 to 255",
        )
    })
}

fn no_data() -> Error {
    Error::Usage {
        problem: "no data set is named".into(),
        remedy: "give --cityscapes ROOT, or --images, --labels and --class-names".into(),
    }
}

/// Everything that decides a run's weights and metrics, as config.toml holds it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SegmentationRecipe {
    /// The pretrained backbone.
    pub checkpoint: PathBuf,
    /// Seed of everything random.
    pub seed: u64,
    /// Precision of the network's forward passes.
    pub precision: Precision,
    /// Where the defaults come from.
    pub preset: Preset,
    /// The data.
    #[serde(flatten)]
    pub data: TrainData,
    /// The settings.
    #[serde(flatten)]
    pub options: SegmentationOptions,
    /// How the result is evaluated.
    #[serde(flatten)]
    pub evaluation: EvaluationOptions,
}

/// A recipe and how to run it.
#[derive(Debug, Clone)]
pub struct TrainConfig {
    /// What decides the weights.
    pub recipe: SegmentationRecipe,
    /// Where and how it goes.
    pub run: RunOptions,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct TrainReport {
    /// The trained network's file.
    pub segmenter: PathBuf,
    /// The backbone it began from.
    pub origin: Origin,
    /// How training ended.
    pub outcome: Outcome,
    /// Scores on the validation data; `None` when training was interrupted, or had been finished and
    /// evaluated before.
    pub scores: Option<Scores>,
}

/// The trained network's file in a run's folder.
pub const SEGMENTER: &str = "segmenter.safetensors";

/// Fine-tunes and evaluates, or goes on where an earlier run of the same recipe in the same folder was cut
/// off.
///
/// # Errors
/// [`Error::Settings`] for a recipe that cannot work or differs from the folder's, [`Error::File`] for data
/// and checkpoints that cannot be used; otherwise as [`engine::train`].
pub fn train(config: &TrainConfig, progress: &dyn Progress, stop: &AtomicBool) -> Result<TrainReport> {
    let (device, mut recipe) = (config.run.device, config.recipe.clone());
    recipe.options = recipe.options.resolve(recipe.preset)?;
    let options = recipe.options.clone();
    let crop = set(&options.crop);
    let predict = recipe
        .evaluation
        .predict_options([crop.height as i64, crop.width as i64])?;
    let backbone = load_backbone(&recipe.checkpoint, Device::Cpu)?;
    let training = Arc::new(recipe.data.training()?);
    let validation = recipe.data.validation()?;
    let (trained, tested) = (training.prints()?, validation.prints()?);
    let leakage = trained.seen(&tested);
    if let Some(leakage) = &leakage {
        progress.note(&format!("warning: {leakage}; these numbers are marked with it"));
    }
    let plan = plan(config, &recipe, &training);

    let run = config.run.begin(&[&[SEGMENTER][..], &LEFT].concat())?;
    claim(
        &run,
        config,
        &recipe,
        &training,
        (&validation, &tested),
        &backbone,
    )?;
    if recipe.preset == Preset::Mmseg && backbone.info.arch.stem != Stem::V1c {
        progress.note(&format!(
            "the stem is the checkpoint's, {}; mmsegmentation's own network has three 3x3 convolutions \
             there ({})",
            backbone.info.arch,
            Arch {
                stem: Stem::V1c,
                ..backbone.info.arch
            },
        ));
    }

    let mut task = task(&recipe, &training.classes, &backbone, config)?;
    task.info.training_images = trained;
    drop(backbone);
    let augment = options.augment(task.info.mean)?;
    let source = CropSource::new(
        training,
        augment,
        plan.batch_size,
        plan.batches_per_epoch,
        recipe.seed,
    );
    let (mut optimizer, schedule) = optimiser(&options, &task.vs, &plan);
    let outcome = engine::train(
        &mut task,
        source,
        &mut optimizer,
        &schedule,
        &plan,
        &run,
        progress,
        stop,
    )?;
    drop(optimizer);

    // A finished run looked at again keeps what it measured.
    let evaluated = outcome.was_done && run.file("metrics.json").exists();
    let scores = (!outcome.interrupted && !evaluated).then(|| {
        let predictor = Predictor {
            net: &task.net,
            mean: task.info.mean,
            std: task.info.std,
            device,
            precision: recipe.precision,
            options: predict,
        };
        let leave = Leave {
            predictions: true,
            pictures: recipe.evaluation.pictures,
        };
        let scores = evaluate(&predictor, &validation, Some((run.path(), leave)), progress)?
            .scores(&validation.classes);
        let mut named = metrics(&scores);
        named.insert("segmentation/steps".into(), outcome.step as f64);
        if outcome.seconds > 0.0 {
            let rate = (outcome.step * plan.batch_size) as f64 / outcome.seconds;
            named.insert("segmentation/images_per_second".into(), rate);
        }
        let mut texts = task.info.origin.texts();
        texts.extend(leakage.map(|leakage| (LEAKAGE.to_owned(), leakage)));
        run.write_metrics(&named, texts, outcome.seconds, &device_name(device))?;
        Ok::<Scores, Error>(scores)
    });
    let scores = scores.transpose()?;
    Ok(TrainReport {
        segmenter: run.file(SEGMENTER),
        origin: task.info.origin,
        outcome,
        scores,
    })
}

fn plan(config: &TrainConfig, recipe: &SegmentationRecipe, training: &Dataset) -> TrainPlan {
    let (steps, batch_size) = (set(&recipe.options.steps), set(&recipe.options.batch_size));
    let pass = (training.samples.len() as u64).div_ceil(batch_size);
    let period = period(steps, pass);
    TrainPlan {
        seed: recipe.seed,
        device: config.run.device,
        epochs: steps / period,
        batches_per_epoch: period,
        accumulate: 1,
        batch_size,
        clip_norm: None,
        log_every: config.run.log_every.max(1),
        save_every: config.run.save_every,
    }
}

// Names the run by what decides its weights and metrics, data included.
fn claim(
    run: &RunFolder,
    config: &TrainConfig,
    recipe: &SegmentationRecipe,
    training: &Dataset,
    (validation, tested): (&Dataset, &Prints),
    backbone: &Backbone,
) -> Result<()> {
    let recipe = toml::to_string(recipe).expect("a recipe serialises");
    let classes = serde_json::to_vec(&training.classes).expect("classes serialise");
    let dataset = format!(
        "\n[dataset]\nbackbone_sha256 = \"{}\"\nbackbone_arch = \"{}\"\nclasses = \"{}\"\ntraining_images = \
         {}\ntraining_files = \"{}\"\nvalidation_images = {}\nvalidation_files = \"{}\"\nvalidation_labels \
         = \"{}\"\n",
        backbone.sha256,
        backbone.info.arch,
        &hex(&Sha256::digest(classes))[..16],
        training.samples.len(),
        training.fingerprint()?,
        validation.samples.len(),
        tested.sum(),
        validation.labels_sum()?,
    );
    run.claim(&(recipe + &dataset), &config.run.build, config.run.device)
}

fn task(
    recipe: &SegmentationRecipe,
    classes: &ClassSet,
    backbone: &Backbone,
    config: &TrainConfig,
) -> Result<SegmentationTask> {
    let options = &recipe.options;
    let model = options.model(backbone.info.arch, classes.len() as i64)?;
    tch::manual_seed(torch_seed(recipe.seed, "initialise", 0, 0));
    let mut vs = VarStore::new(Device::Cpu);
    let net = DeepLab::new(&vs.root(), &model);
    backbone.copy_into(&vs, "backbone.")?;
    vs.set_device(config.run.device);
    weights_channels_last(&vs);
    let crop = set(&options.crop);
    Ok(SegmentationTask {
        net,
        vs,
        modes: Modes::training(set(&options.batch_norm)),
        device: config.run.device,
        precision: recipe.precision,
        loss_average: set(&options.loss_average),
        auxiliary_weight: set(&options.auxiliary_weight),
        info: SegmenterInfo {
            model,
            classes: classes.clone(),
            mean: backbone.info.mean,
            std: backbone.info.std,
            crop: [crop.height as i64, crop.width as i64],
            step: 0,
            origin: backbone.origin(),
            training_images: Prints::default(),
            config: serde_json::to_string(recipe).expect("a recipe serialises"),
            commit: config.run.build.commit.clone(),
        },
    })
}

fn optimiser(options: &SegmentationOptions, vs: &VarStore, plan: &TrainPlan) -> (Optimizer, Schedule) {
    let frozen = set(&options.batch_norm) == BatchNormMode::Frozen;
    let mut backbone = ParamGroup::matching(vs, |name| name.starts_with("backbone."));
    // All that a ResNet has of one dimension is batch norm's.
    backbone.params.retain(|(_, param)| !frozen || param.dim() > 1);
    backbone.lr_scale = set(&options.backbone_lr_scale);
    let head = ParamGroup::matching(vs, |name| !name.starts_with("backbone."));
    let config = OptimizerConfig {
        algorithm: Algorithm::Sgd,
        momentum: set(&options.momentum),
        nesterov: false,
        weight_decay: set(&options.weight_decay),
    };
    let schedule = Schedule {
        base_lr: set(&options.lr),
        floor: set(&options.lr_floor),
        decay: set(&options.schedule),
        milestones: Vec::new(),
        gamma: 1.0,
        warmup_steps: set(&options.warmup_steps),
        warmup_factor: 0.0,
        steps_per_epoch: plan.batches_per_epoch,
        total_steps: plan.epochs * plan.batches_per_epoch,
    };
    (Optimizer::new(config, vec![backbone, head]), schedule)
}

/// DeepLab v3+ under the engine.
struct SegmentationTask {
    net: DeepLab,
    vs: VarStore,
    modes: Modes,
    device: Device,
    precision: Precision,
    loss_average: LossAverage,
    auxiliary_weight: f64,
    info: SegmenterInfo,
}

impl Task for SegmentationTask {
    type Batch = Batch;

    fn forward(&mut self, batch: Batch, _: &StepContext) -> Result<Loss> {
        let x = to_input(
            &batch.images.to_device(self.device),
            &self.info.mean,
            &self.info.std,
        );
        let labels = batch.labels.to_device(self.device).to_kind(Kind::Int64);
        let logits = self
            .precision
            .run(self.device, || Ok(self.net.forward(&x, self.modes)))?;
        let main = cross_entropy(&logits.main, &labels, self.loss_average);
        Ok(match logits.auxiliary {
            None => Loss {
                total: main,
                parts: Vec::new(),
            },
            Some(auxiliary) => {
                let auxiliary = cross_entropy(&auxiliary, &labels, self.loss_average);
                let total = &main + &auxiliary * self.auxiliary_weight;
                Loss {
                    total,
                    parts: vec![("main_loss", main), ("auxiliary_loss", auxiliary)],
                }
            }
        })
    }

    fn after_step(&mut self, _: &StepContext) -> Result<()> {
        Ok(())
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        self.vs
            .variables()
            .into_iter()
            .map(|(name, tensor)| (format!("online/{name}"), tensor))
            .collect()
    }

    fn export(&self, run: &RunFolder, _: u64, step: u64) -> Result<()> {
        segmenter::save(
            &run.file(SEGMENTER),
            &self.vs,
            &SegmenterInfo {
                step,
                ..self.info.clone()
            },
        )
    }
}
