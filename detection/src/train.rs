//! Fine-tuning and evaluating Faster R-CNN: what detection adds to [`camtrast_finetune`].

use crate::Dataset;
use crate::detector::{self, DetectorInfo};
use crate::draw::{SampleOptions, samples};
use crate::evaluate::{Evaluation, evaluate};
use crate::model::{DetectorArch, FasterRcnn};
use crate::options::{DetectionOptions, Preset};
use crate::predict::Predictor;
use crate::report::write_report;
use crate::source::{Batch, DetectionAugment, DetectionSource};
use camtrast_common::checkpoint::{Backbone, BackboneInfo};
use camtrast_common::distributed::Group;
use camtrast_common::engine::{Loss, StepContext, Validated};
use camtrast_common::leakage::Prints;
use camtrast_common::log::Picture;
use camtrast_common::nn::Modes;
use camtrast_common::optim::{OptimizerConfig, ParamGroup};
use camtrast_common::progress::{Progress, Silent};
use camtrast_common::run::Metrics;
use camtrast_common::settings::{BatchNormMode, set};
use camtrast_common::{Error, Result};
use camtrast_finetune::{Course, DenseTask, Network, Trained};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use tch::nn::{self, VarStore};
use tch::{Device, Tensor};

/// The settings of detection, as config.toml holds them. `D` names the data.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DetectionSettings<D> {
    /// Which Faster R-CNN.
    pub arch: DetectorArch,
    /// Where the defaults come from.
    pub preset: Preset,
    /// Where the data is, as the user named it.
    #[serde(flatten)]
    pub data: D,
    /// The settings of training.
    #[serde(flatten)]
    pub options: DetectionOptions,
}

/// Largest number of validation images that are drawn.
const SHOWN: usize = 4;

/// Object detection as a task that a backbone is fine-tuned for.
pub struct DetectionTask<D> {
    settings: DetectionSettings<D>,
    training: Arc<Dataset>,
    test: Option<Dataset>,
    validation: Option<Dataset>,
    augment: DetectionAugment,
    pictures: usize,
}

impl<D> DetectionTask<D> {
    /// Completes the settings and checks that there is something to train on. `pictures` samples are drawn
    /// when the network is evaluated on `test`.
    ///
    /// # Errors
    /// [`Error::Settings`].
    pub fn new(
        mut settings: DetectionSettings<D>,
        training: Dataset,
        test: Option<Dataset>,
        pictures: usize,
    ) -> Result<Self> {
        settings.options = settings.options.resolve(settings.preset, settings.arch)?;
        let images = training.images.len();
        if images == 0 {
            let problem = "there is no image to train on";
            return Err(Error::settings(problem, "name a split with images"));
        }
        let augment = settings.options.augment(&training);
        let mut objects = training.images.iter().flat_map(|image| augment.trained_on(image));
        if objects.next().is_none() {
            let problem = format!("none of the {images} training images has an object that counts");
            let remedy =
                "name a split with objects of --classes, or train on difficult ones (--train-difficult on)";
            return Err(Error::settings(problem, remedy));
        }
        drop(objects);
        Ok(DetectionTask {
            settings,
            training: Arc::new(training),
            test,
            validation: None,
            augment,
            pictures,
        })
    }

    /// With images to validate on while training.
    pub fn validated_on(self, validation: Option<Dataset>) -> Self {
        DetectionTask { validation, ..self }
    }

    fn predictor<'a>(&self, network: &'a Network<FasterRcnn>) -> Predictor<'a> {
        Predictor {
            net: &network.net,
            input: &network.input,
            scale: self.settings.options.test_scale(),
            device: network.device,
            precision: network.precision,
        }
    }
}

impl<D: Serialize> DenseTask for DetectionTask<D> {
    const NAME: &'static str = "detection";
    const FILE: &'static str = detector::DETECTOR;
    const ARTIFACTS: &'static [&'static str] = &[
        "detections",
        "detections.json",
        "instances.json",
        "pictures",
        "curves",
    ];
    const SCORE: &'static str = "detection/AP";
    const VALIDATED_BY: &'static str = "--val (or --coco-val)";
    const ONE_SHAPE: bool = false;
    type Settings = DetectionSettings<D>;
    type Net = FasterRcnn;
    type Batch = Batch;
    type Source = DetectionSource;
    type Evaluation = Evaluation;

    fn settings(&self) -> &Self::Settings {
        &self.settings
    }

    fn course(&self) -> Course {
        let (options, images) = (&self.settings.options, self.training.images.len());
        let batch_norm = set(&options.batch_norm);
        // The pyramid's head has no batch norm.
        let no_statistics = self.settings.arch == DetectorArch::Fpn && batch_norm == BatchNormMode::Frozen;
        Course {
            steps: options.total_steps(images),
            pass: options.pass(images),
            batch_size: set(&options.batch_size),
            accumulate: set(&options.accumulate),
            clip_norm: Some(set(&options.clip_norm)).filter(|&norm| norm > 0.0),
            optimizer: OptimizerConfig {
                algorithm: set(&options.optimizer),
                momentum: set(&options.momentum),
                nesterov: false,
                weight_decay: set(&options.weight_decay),
            },
            schedule: options.schedule(images),
            backbone_lr_scale: set(&options.backbone_lr_scale),
            batch_norm,
            precise_bn: if no_statistics {
                0
            } else {
                set(&options.precise_bn)
            },
        }
    }

    fn training_images(&self) -> Result<Prints> {
        self.training.prints()
    }

    fn test_images(&self) -> Result<Option<Prints>> {
        self.test.as_ref().map(Dataset::prints).transpose()
    }

    fn validation_images(&self) -> Result<Option<Prints>> {
        self.validation.as_ref().map(Dataset::prints).transpose()
    }

    fn validate(&self, network: &Network<FasterRcnn>) -> Result<Validated> {
        let mut seen = Validated::default();
        let Some(dataset) = &self.validation else {
            return Ok(seen);
        };
        let results = self.predictor(network).predict(dataset, network.group, &Silent)?;
        if !network.group.leads() {
            return Ok(seen);
        }
        let figures = evaluate(dataset, &results)?.metrics().into_iter();
        // Not those of single classes.
        seen.measures = figures
            .filter(|(name, _)| name.matches('/').count() == 1)
            .collect();
        let options = SampleOptions {
            count: self.pictures.min(SHOWN),
            ..SampleOptions::default()
        };
        for sample in samples(dataset, &results, &options) {
            let (id, canvas) = sample?;
            seen.pictures.push(Picture {
                name: format!("detection/{id}"),
                size: canvas.pixels(),
                bytes: canvas.png()?,
            });
        }
        Ok(seen)
    }

    fn describe_data(&self, backbone: &Backbone, tested: Option<&Prints>) -> Result<String> {
        let mut lines = format!(
            "backbone_sha256 = \"{}\"\ntraining_images = {}\ntraining_annotations = \"{}\"\n",
            backbone.sha256,
            self.training.images.len(),
            self.training.fingerprint(),
        );
        if let Some(test) = &self.test {
            let (images, annotations) = (test.images.len(), test.fingerprint());
            lines += &format!("test_images = {images}\ntest_annotations = \"{annotations}\"\n");
        }
        if let Some(validation) = &self.validation {
            let (images, annotations) = (validation.images.len(), validation.fingerprint());
            lines += &format!("val_images = {images}\nval_annotations = \"{annotations}\"\n");
        }
        if let Some(tested) = tested {
            lines += &format!("test_files = \"{}\"\n", tested.sum());
        }
        Ok(lines)
    }

    fn network(&self, root: &nn::Path, backbone: &BackboneInfo) -> Result<FasterRcnn> {
        let DetectionSettings { options, arch, .. } = &self.settings;
        let classes = self.training.classes.len() as i64;
        Ok(FasterRcnn::new(
            root,
            &options.model(*arch, backbone.arch, classes)?,
        ))
    }

    // Backbone and the rest, each with its batch norm apart.
    fn parameter_groups(&self, vs: &VarStore) -> Vec<ParamGroup> {
        let options = &self.settings.options;
        // All that a ResNet has of one dimension is batch norm's.
        let is_norm = |name: &str, param: &Tensor| {
            name.starts_with("backbone.") && param.dim() == 1 || name.starts_with("box_head.norm.")
        };
        let mut groups = Vec::new();
        for in_backbone in [true, false] {
            let all = ParamGroup::matching(vs, |name| name.starts_with("backbone.") == in_backbone).params;
            let (norms, rest) = all.into_iter().partition(|(name, param)| is_norm(name, param));
            let lr_scale = match in_backbone {
                true => set(&options.backbone_lr_scale),
                false => 1.0,
            };
            let group = |params, weight_decay| ParamGroup {
                params,
                lr_scale,
                constant_lr: false,
                weight_decay,
            };
            groups.push(group(rest, None));
            groups.push(group(norms, Some(set(&options.norm_weight_decay))));
        }
        groups
    }

    fn source(
        &self,
        _: &BackboneInfo,
        batches_per_epoch: u64,
        seed: u64,
        device: Device,
        group: Group,
    ) -> Result<DetectionSource> {
        Ok(DetectionSource::new(
            self.training.clone(),
            self.augment.clone(),
            self.settings.options.grouping(),
            batches_per_epoch,
            seed,
            device,
            group,
        ))
    }

    fn loss(
        &self,
        network: &Network<FasterRcnn>,
        batch: &Batch,
        at: &StepContext,
        modes: Modes,
    ) -> Result<Loss> {
        let groups: Vec<_> = batch
            .groups
            .iter()
            .map(|group| group.input(&network.input))
            .collect();
        let losses = network
            .net
            .losses(&groups, &batch.truth, at, network.precision, modes)?;
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

    fn save(&self, path: &Path, network: &Network<FasterRcnn>, trained: &Trained) -> Result<()> {
        let DetectionSettings { options, arch, .. } = &self.settings;
        let (backbone, classes) = (&network.backbone, &self.training.classes);
        let info = DetectorInfo {
            model: options.model(*arch, backbone.arch, classes.len() as i64)?,
            classes: classes.clone(),
            mean: backbone.mean,
            std: backbone.std,
            scale: options.test_scale(),
            step: trained.step,
            precise_bn: trained.precise_bn,
            provenance: trained.provenance.clone(),
        };
        detector::save(path, &network.vs, &info)
    }

    fn evaluate(
        &self,
        network: &Network<FasterRcnn>,
        folder: &Path,
        progress: &dyn Progress,
    ) -> Result<Option<(Evaluation, Metrics)>> {
        let Some(test) = &self.test else { return Ok(None) };
        let results = self.predictor(network).predict(test, network.group, progress)?;
        if !network.group.leads() {
            return Ok(None);
        }
        let evaluation = evaluate(test, &results)?;
        write_report(folder, test, &results, &evaluation, self.pictures)?;
        let metrics = evaluation.metrics();
        Ok(Some((evaluation, metrics)))
    }
}
