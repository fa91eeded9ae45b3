//! Fine-tuning of a whole backbone with a linear classifier, on all labels of a pack or a share of them.

use crate::accuracy::{Accuracy, Tally};
use crate::source::{Batch, LabelledSource};
use crate::split::Split;
use camtrast_common::augment::{Augment, Crop};
use camtrast_common::checkpoint::{Backbone, BackboneInfo};
use camtrast_common::device::send;
use camtrast_common::distributed::Group;
use camtrast_common::engine::{Loss, StepContext, Validated};
use camtrast_common::features::{BATCH, Images};
use camtrast_common::leakage::Prints;
use camtrast_common::network_file;
use camtrast_common::nn::{Linear, Modes};
use camtrast_common::optim::{Algorithm, OptimizerConfig};
use camtrast_common::progress::{Progress, Silent};
use camtrast_common::resnet::{ResNet, pool};
use camtrast_common::run::Metrics;
use camtrast_common::sampler::{Passes, period};
use camtrast_common::schedule::{Decay, Schedule};
use camtrast_common::settings::{BatchNormMode, check_counts, check_not_negative, check_range, set};
use camtrast_common::{Error, Result, holdout, settings};
use camtrast_datasets::{Pack, Selection, SubsetOptions, select_subset};
use camtrast_finetune::{Course, DenseTask, Network, Provenance, Trained};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tch::{Device, Kind, Tensor, nn, no_grad};

settings! {
/// Settings of fine-tuning. `None`: not given; after [`FineTuneOptions::resolve`] all are set.
pub struct FineTuneOptions under "Fine-tuning settings (defaults are for the share of labels)" {
    /// Passes over the labelled images
    epochs: u64,
    /// Images per step
    batch_size: u64,
    /// Learning rate of the classifier, by SGD
    lr: f64,
    /// Factor on the backbone's learning rate
    backbone_lr_scale: f64,
    /// Momentum of SGD
    momentum: f64,
    /// Weight decay
    weight_decay: f64,
    /// Batch norm of the backbone: train or frozen
    batch_norm: BatchNormMode,
    /// Smallest share of an image's area that a random crop has; 1: only random mirror images
    crop_scale: f64,
}
}

impl FineTuneOptions {
    /// The user's settings, completed and checked. Defaults are SwAV's for 1 % and 10 % of ImageNet's labels
    /// (Caron et al. 2020): 20 epochs of batches of 256, rates 0.02 and 5, or 0.01 and 0.2, for backbone and
    /// classifier, divided by 10 after 60 % and 80 %. With more labels the second ones.
    ///
    /// # Errors
    /// [`Error::Settings`] for values out of range.
    pub fn resolve(self, label_share: f64) -> Result<Self> {
        check_range(
            "label-share",
            label_share,
            f64::MIN_POSITIVE..=100.0,
            "of percent, above 0 and at most 100",
        )?;
        let few = label_share < 5.0;
        let options = self.or(FineTuneOptions {
            epochs: Some(20),
            batch_size: Some(256),
            lr: Some(if few { 5.0 } else { 0.2 }),
            backbone_lr_scale: Some(if few { 0.004 } else { 0.05 }),
            momentum: Some(0.9),
            weight_decay: Some(0.0),
            batch_norm: Some(BatchNormMode::Train),
            crop_scale: Some(0.08),
        });
        check_counts(&[("epochs", options.epochs), ("batch-size", options.batch_size)])?;
        check_range("epochs", set(&options.epochs) as f64, 1.0.., "of at least 1")?;
        check_range(
            "batch-size",
            set(&options.batch_size) as f64,
            2.0..,
            "of at least 2",
        )?;
        check_range(
            "crop-scale",
            set(&options.crop_scale),
            1e-3..=1.0,
            "from 0.001 to 1",
        )?;
        check_not_negative(&[
            ("lr", options.lr),
            ("backbone-lr-scale", options.backbone_lr_scale),
            ("momentum", options.momentum),
            ("weight-decay", options.weight_decay),
        ])?;
        Ok(options)
    }
}

/// The settings of a fine-tuning, as config.toml holds them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FineTuneSettings {
    /// Pack to train on.
    pub train: PathBuf,
    /// Pack to test on.
    pub test: PathBuf,
    /// Pack to validate on while training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val: Option<PathBuf>,
    /// Percent of the training pack's images whose labels are used.
    pub label_share: f64,
    /// Share of those that is not trained on but tested on in place of the test pack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holdout: Option<f64>,
    /// The settings of training.
    #[serde(flatten)]
    pub options: FineTuneOptions,
}

/// Classification of a pack as a task that a backbone is fine-tuned for.
pub struct ClassificationTask {
    settings: FineTuneSettings,
    seed: u64,
    train: Arc<Pack>,
    chosen: Selection,
    test: Labelled,
    validation: Option<Labelled>,
}

/// Images of a pack with their classes among the training classes.
struct Labelled {
    pack: Arc<Pack>,
    rows: Vec<i64>,
    labels: Vec<i64>,
}

impl Labelled {
    fn open(path: &Path, classes: &[String]) -> Result<Self> {
        let pack = Arc::new(Pack::open(path)?);
        let labels = labels_by_name(&pack, classes)?;
        let rows = (0..pack.len() as i64).collect();
        Ok(Labelled { pack, rows, labels })
    }
}

impl ClassificationTask {
    /// Completes the settings, opens the packs and draws the labelled images from `seed`: as many of each
    /// class, at least one; a smaller share is part of a larger one.
    ///
    /// # Errors
    /// [`Error::Settings`], also for test classes that are not trained on, and those of [`Pack::open`].
    pub fn new(mut settings: FineTuneSettings, seed: u64) -> Result<Self> {
        settings.options = settings.options.resolve(settings.label_share)?;
        let train = Arc::new(Pack::open(&settings.train)?);
        let classes = train.class_names().len();
        if classes < 2 {
            return Err(Error::file(
                &settings.train,
                "holds a single class",
                "give a pack of two and more",
            ));
        }
        let count = (settings.label_share / 100.0 * train.len() as f64).round() as usize;
        let options = SubsetOptions {
            total_images: (count < train.len()).then_some(count.max(classes)),
            seed,
            ..SubsetOptions::default()
        };
        let mut chosen = select_subset(&train, &options)?;
        let labelled = |path: &PathBuf| Labelled::open(path, train.class_names());
        let test = match settings.holdout {
            Some(share) => {
                let (rows, labels) = hold_out(&mut chosen, share, seed)?;
                let pack = train.clone();
                Labelled { pack, rows, labels }
            }
            None => labelled(&settings.test)?,
        };
        Ok(ClassificationTask {
            validation: settings.val.as_ref().map(labelled).transpose()?,
            test,
            settings,
            seed,
            train,
            chosen,
        })
    }

    fn batch_size(&self) -> u64 {
        set(&self.settings.options.batch_size).min(self.chosen.indices.len() as u64)
    }

    fn augment(&self) -> Augment {
        let scale = set(&self.settings.options.crop_scale);
        let crop = match scale {
            1.0 => Crop::None,
            _ => Crop::Resized { scale: (scale, 1.0) },
        };
        Augment {
            crop,
            flip: 0.5,
            ..Augment::NONE
        }
    }

    /// The pack trained on.
    pub fn training_pack(&self) -> &Pack {
        &self.train
    }

    /// The pack tested on; `None` where images are held out of the training pack.
    pub fn test_pack(&self) -> Option<&Pack> {
        self.settings.holdout.is_none().then_some(&*self.test.pack)
    }

    /// The pack validated on.
    pub fn validation_pack(&self) -> Option<&Pack> {
        self.validation.as_ref().map(|validation| &*validation.pack)
    }

    fn measure(
        &self,
        network: &Network<Classification>,
        data: &Labelled,
        what: &str,
        progress: &dyn Progress,
    ) -> Result<(Accuracy, Metrics)> {
        let device = network.device;
        let mut tally = Tally::default();
        progress.start(what, data.rows.len() as u64, 0);
        for (rows, labels) in data.rows.chunks(BATCH).zip(data.labels.chunks(BATCH)) {
            let x = network.input.of(&send(data.pack.rows(rows)?, device));
            let forward = || Ok(network.net.forward(&x, Modes::EVAL));
            let logits = no_grad(|| network.precision.run(device, forward))?;
            tally.add(
                &logits.to_kind(Kind::Float),
                &send(Tensor::from_slice(labels), device),
            );
            progress.advance(rows.len() as u64, "");
        }
        progress.finish();
        let names = self.train.class_names();
        let accuracy = tally.accuracy(&data.labels, names.len());
        let metrics = accuracy.metrics("probe/finetune", names);
        Ok((accuracy, metrics))
    }
}

/// Takes a share of each class's images out of a selection; returns their rows and labels.
fn hold_out(chosen: &mut Selection, share: f64, seed: u64) -> Result<(Vec<i64>, Vec<i64>)> {
    holdout::count(chosen.indices.len(), share)?;
    let held = Split::stratified(&chosen.labels, share, seed)?.validation;
    let parts = |all: &mut Vec<i64>| holdout::divide(std::mem::take(all), &held);
    let ([rows, out], [labels, out_labels]) = (parts(&mut chosen.indices), parts(&mut chosen.labels));
    (chosen.indices, chosen.labels) = (rows, labels);
    Ok((out, out_labels))
}

/// Labels of a pack's images as positions in another list of classes.
///
/// # Errors
/// [`Error::File`] naming the pack, for a class that is not in the list.
pub fn labels_by_name(pack: &Pack, classes: &[String]) -> Result<Vec<i64>> {
    let place = |name: &String| classes.iter().position(|class| class == name);
    let places: Vec<Option<usize>> = pack.class_names().iter().map(place).collect();
    if let Some(unknown) = places.iter().position(Option::is_none) {
        return Err(Error::file(
            pack.path(),
            format!(
                "holds the class {}, which the training pack lacks",
                pack.class_names()[unknown]
            ),
            "test on the classes that are trained on, or use `fewshot` for new ones",
        ));
    }
    let labels = pack.labels().iter().map(|&label| places[label as usize]);
    Ok(labels.flatten().map(|place| place as i64).collect())
}

/// A backbone with a linear classifier.
pub struct Classification {
    backbone: ResNet,
    fc: Linear,
}

impl Classification {
    /// Logits [N, classes] of images [N, 3, H, W].
    pub fn forward(&self, images: &Tensor, modes: Modes) -> Tensor {
        self.fc
            .forward(&pool(&self.backbone.feature_map(images, modes.backbone)))
    }
}

impl DenseTask for ClassificationTask {
    const NAME: &'static str = "probe";
    const FILE: &'static str = "network.safetensors";
    const ARTIFACTS: &'static [&'static str] = &[];
    const SCORE: &'static str = "probe/finetune/top1";
    const VALIDATED_BY: &'static str = "--val";
    const ONE_SHAPE: bool = true;
    type Settings = FineTuneSettings;
    type Net = Classification;
    type Batch = Batch;
    type Source = LabelledSource;
    type Evaluation = Accuracy;

    fn settings(&self) -> &FineTuneSettings {
        &self.settings
    }

    fn course(&self) -> Course {
        let options = &self.settings.options;
        let pass = (self.chosen.indices.len() as u64).div_ceil(self.batch_size());
        let epochs = set(&options.epochs);
        let steps = epochs * pass;
        let milestone = |share: f64| (share * epochs as f64).round() as u64;
        Course {
            steps,
            pass,
            batch_size: self.batch_size(),
            accumulate: 1,
            clip_norm: None,
            optimizer: OptimizerConfig {
                algorithm: Algorithm::Sgd,
                momentum: set(&options.momentum),
                nesterov: false,
                weight_decay: set(&options.weight_decay),
            },
            schedule: Schedule {
                base_lr: set(&options.lr),
                floor: 0.0,
                decay: Decay::Step,
                milestones: vec![milestone(0.6), milestone(0.8)],
                gamma: 0.1,
                warmup_steps: 0,
                warmup_factor: 0.0,
                steps_per_epoch: period(steps, pass),
                total_steps: steps,
            },
            backbone_lr_scale: set(&options.backbone_lr_scale),
            batch_norm: set(&options.batch_norm),
            precise_bn: 0,
        }
    }

    fn training_images(&self) -> Result<Prints> {
        Ok(Prints::default())
    }

    fn test_images(&self) -> Result<Option<Prints>> {
        Ok(Some(Prints::default()))
    }

    fn describe_data(&self, backbone: &Backbone, _tested: Option<&Prints>) -> Result<String> {
        let lines = [
            format!("backbone_sha256 = \"{}\"", backbone.sha256),
            format!("train_sha256 = \"{}\"", self.train.sha256()),
            format!("test_sha256 = \"{}\"", self.test.pack.sha256()),
            format!("training_images = {}", self.chosen.indices.len()),
            format!("labels_seed = {}", self.seed),
        ];
        let validation = self.validation_pack();
        let validation = validation.map(|pack| format!("val_sha256 = \"{}\"\n", pack.sha256()));
        Ok(lines.map(|line| line + "\n").concat() + &validation.unwrap_or_default())
    }

    fn validation_images(&self) -> Result<Option<Prints>> {
        Ok(self.validation.as_ref().map(|_| Prints::default()))
    }

    fn validate(&self, network: &Network<Classification>) -> Result<Validated> {
        let mut seen = Validated::default();
        if let Some(validation) = &self.validation {
            let (_, metrics) = self.measure(network, validation, "validation images", &Silent)?;
            let shown = ["probe/finetune/top1", "probe/finetune/top5"];
            seen.measures = metrics
                .into_iter()
                .filter(|(name, _)| shown.contains(&&name[..]))
                .collect();
        }
        Ok(seen)
    }

    fn network(&self, root: &nn::Path, backbone: &BackboneInfo) -> Result<Classification> {
        let fc = Linear::new(
            &(root / "fc"),
            backbone.arch.features(),
            self.chosen.classes as i64,
        );
        Ok(Classification {
            backbone: ResNet::new(&(root / "backbone"), backbone.arch),
            fc,
        })
    }

    fn source(
        &self,
        backbone: &BackboneInfo,
        batches_per_epoch: u64,
        seed: u64,
        device: Device,
        group: Group,
    ) -> Result<LabelledSource> {
        Ok(LabelledSource {
            pack: self.train.clone(),
            chosen: self.chosen.clone(),
            passes: Passes::new(self.chosen.indices.len(), seed, group),
            batch_size: self.batch_size(),
            batches_per_epoch,
            seed,
            rank: group.rank(),
            device,
            augment: self.augment(),
            colours: (backbone.mean, backbone.std),
        })
    }

    fn loss(
        &self,
        network: &Network<Classification>,
        batch: &Batch,
        _at: &StepContext,
        modes: Modes,
    ) -> Result<Loss> {
        let x = self.augment().apply_draws(&batch.images, &batch.draws[0]);
        let labels = &batch.labels;
        let logits = network
            .precision
            .run(network.device, || Ok(network.net.forward(&x, modes)))?
            .to_kind(Kind::Float);
        let right = logits.argmax(1, false).eq_tensor(labels);
        Ok(Loss {
            total: logits.cross_entropy_for_logits(labels),
            parts: vec![("accuracy", right.to_kind(Kind::Float).mean(Kind::Float))],
        })
    }

    fn save(&self, path: &Path, network: &Network<Classification>, trained: &Trained) -> Result<()> {
        #[derive(Serialize)]
        struct Info<'a> {
            arch: String,
            classes: &'a [String],
            mean: [f64; 3],
            std: [f64; 3],
            step: u64,
            #[serde(flatten)]
            provenance: &'a Provenance,
        }
        let backbone = &network.backbone;
        let info = Info {
            arch: backbone.arch.to_string(),
            classes: self.train.class_names(),
            mean: backbone.mean,
            std: backbone.std,
            step: trained.step,
            provenance: &trained.provenance,
        };
        let tensors = network.vs.variables().into_iter().collect();
        network_file::save(path, "camtrast-classification", &tensors, &info)
    }

    fn evaluate(
        &self,
        network: &Network<Classification>,
        _folder: &Path,
        progress: &dyn Progress,
    ) -> Result<Option<(Accuracy, Metrics)>> {
        self.measure(network, &self.test, "test images", progress)
            .map(Some)
    }
}
