//! Fine-tuning and evaluating DeepLab v3+: what segmentation adds to [`camtrast_finetune`].

use crate::confusion::Scores;
use crate::data::TrainData;
use crate::dataset::Dataset;
use crate::deeplab::{DeepLab, cross_entropy};
use crate::evaluate::{ARTIFACTS, evaluate, metrics};
use crate::files::Leave;
use crate::options::{EvaluationOptions, Preset, SegmentationOptions};
use crate::picture;
use crate::predict::{PredictOptions, Predictor};
use crate::segmenter::{self, SegmenterInfo};
use crate::source::{Batch, CropSource};
use camtrast_common::Result;
use camtrast_common::checkpoint::{Backbone, BackboneInfo};
use camtrast_common::distributed::Group;
use camtrast_common::engine::{Loss, StepContext, Validated};
use camtrast_common::leakage::Prints;
use camtrast_common::log::Picture;
use camtrast_common::nn::Modes;
use camtrast_common::optim::{Algorithm, OptimizerConfig};
use camtrast_common::progress::{Progress, Silent};
use camtrast_common::resnet::{Arch, Stem};
use camtrast_common::run::Metrics;
use camtrast_common::sampler::period;
use camtrast_common::schedule::Schedule;
use camtrast_common::settings::set;
use camtrast_common::tensor_file::hex;
use camtrast_finetune::{Course, DenseTask, Network, Trained};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;
use tch::{Device, Kind, nn};

/// The settings of segmentation, as config.toml holds them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SegmentationSettings {
    /// Where the defaults come from.
    pub preset: Preset,
    /// The data.
    #[serde(flatten)]
    pub data: TrainData,
    /// The settings of training.
    #[serde(flatten)]
    pub options: SegmentationOptions,
    /// How the result is evaluated.
    #[serde(flatten)]
    pub evaluation: EvaluationOptions,
}

/// Semantic segmentation as a task that a backbone is fine-tuned for.
pub struct SegmentationTask {
    settings: SegmentationSettings,
    predict: PredictOptions,
    training: Arc<Dataset>,
    validation: Dataset,
    development: Option<Dataset>,
}

/// Largest number of images that are drawn while training.
const SHOWN: usize = 4;

impl SegmentationTask {
    /// Completes the settings and reads the data.
    ///
    /// # Errors
    /// [`camtrast_common::Error::Settings`], and those of [`TrainData::training`].
    pub fn new(mut settings: SegmentationSettings) -> Result<Self> {
        settings.options = settings.options.resolve(settings.preset)?;
        let crop = set(&settings.options.crop);
        let predict = settings
            .evaluation
            .views
            .predict_options([crop.height as i64, crop.width as i64])?;
        Ok(SegmentationTask {
            predict,
            training: Arc::new(settings.data.training()?),
            validation: settings.data.validation()?,
            development: settings.data.development()?,
            settings,
        })
    }

    fn predictor<'a>(&self, network: &'a Network<DeepLab>) -> Predictor<'a> {
        Predictor {
            net: &network.net,
            input: &network.input,
            device: network.device,
            precision: network.precision,
            options: self.predict.clone(),
        }
    }
}

impl DenseTask for SegmentationTask {
    const NAME: &'static str = "segmentation";
    const FILE: &'static str = segmenter::SEGMENTER;
    const ARTIFACTS: &'static [&'static str] = &ARTIFACTS;
    const SCORE: &'static str = "segmentation/mIoU";
    const VALIDATED_BY: &'static str = "--dev-split (or --dev-images)";
    const ONE_SHAPE: bool = true;
    type Settings = SegmentationSettings;
    type Net = DeepLab;
    type Batch = Batch;
    type Source = CropSource;
    type Evaluation = Scores;

    fn settings(&self) -> &SegmentationSettings {
        &self.settings
    }

    fn course(&self) -> Course {
        let options = &self.settings.options;
        let (steps, batch_size) = (set(&options.steps), set(&options.batch_size));
        let pass = (self.training.samples.len() as u64).div_ceil(batch_size);
        Course {
            steps,
            pass,
            batch_size,
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
                floor: set(&options.lr_floor),
                decay: set(&options.schedule),
                milestones: Vec::new(),
                gamma: 1.0,
                warmup_steps: set(&options.warmup_steps),
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
        self.training.prints()
    }

    fn test_images(&self) -> Result<Option<Prints>> {
        self.validation.prints().map(Some)
    }

    fn validation_images(&self) -> Result<Option<Prints>> {
        self.development.as_ref().map(Dataset::prints).transpose()
    }

    fn validate(&self, network: &Network<DeepLab>) -> Result<Validated> {
        let mut seen = Validated::default();
        let Some(dataset) = &self.development else {
            return Ok(seen);
        };
        let predictor = self.predictor(network);
        let confusion = evaluate(&predictor, dataset, None, network.group, &Silent)?;
        if !network.group.leads() {
            return Ok(seen);
        }
        let scores = metrics(&confusion.scores(&dataset.classes)).into_iter();
        // Not those of single classes.
        seen.measures = scores
            .filter(|(name, _)| name.matches('/').count() == 1)
            .collect();
        let count = self.settings.evaluation.pictures.min(SHOWN);
        for sample in dataset.samples.iter().take(count) {
            let (image, truth) = sample.read()?;
            let prediction = predictor.predict_ids(&image, &dataset.classes)?;
            let canvas = picture::sample(&dataset.classes, &image, &truth, &prediction)?;
            seen.pictures.push(Picture {
                name: format!("segmentation/{}", sample.name),
                size: canvas.pixels(),
                bytes: canvas.png()?,
            });
        }
        Ok(seen)
    }

    fn describe_data(&self, backbone: &Backbone, tested: Option<&Prints>) -> Result<String> {
        let (training, validation) = (&self.training, &self.validation);
        let classes = serde_json::to_vec(&training.classes).expect("classes serialise");
        let lines = [
            format!("backbone_sha256 = \"{}\"", backbone.sha256),
            format!("backbone_arch = \"{}\"", backbone.info.arch),
            format!("classes = \"{}\"", &hex(&Sha256::digest(classes))[..16]),
            format!("training_images = {}", training.samples.len()),
            format!("training_files = \"{}\"", training.fingerprint()?),
            format!("validation_images = {}", validation.samples.len()),
            format!(
                "validation_files = \"{}\"",
                tested.map(Prints::sum).unwrap_or_default()
            ),
            format!("validation_labels = \"{}\"", validation.labels_sum()?),
        ];
        let mut lines = lines.map(|line| line + "\n").concat();
        if let Some(development) = &self.development {
            let (files, labels) = (development.prints()?.sum(), development.labels_sum()?);
            lines += &format!("dev_files = \"{files}\"\ndev_labels = \"{labels}\"\n");
        }
        Ok(lines)
    }

    fn notes(&self, backbone: &BackboneInfo) -> Vec<String> {
        if self.settings.preset != Preset::Mmseg || backbone.arch.stem == Stem::V1c {
            return Vec::new();
        }
        let published = Arch {
            stem: Stem::V1c,
            ..backbone.arch
        };
        vec![format!(
            "the stem is the checkpoint's, {}; mmsegmentation's own network has three 3x3 convolutions \
             there ({published})",
            backbone.arch,
        )]
    }

    fn network(&self, root: &nn::Path, backbone: &BackboneInfo) -> Result<DeepLab> {
        let classes = self.training.classes.len() as i64;
        Ok(DeepLab::new(
            root,
            &self.settings.options.model(backbone.arch, classes)?,
        ))
    }

    fn source(
        &self,
        backbone: &BackboneInfo,
        batches_per_epoch: u64,
        seed: u64,
        device: Device,
        group: Group,
    ) -> Result<CropSource> {
        let options = &self.settings.options;
        Ok(CropSource::new(
            self.training.clone(),
            options.augment(backbone.mean)?,
            set(&options.batch_size),
            batches_per_epoch,
            seed,
            device,
            group,
        ))
    }

    fn loss(
        &self,
        network: &Network<DeepLab>,
        batch: &Batch,
        _at: &StepContext,
        modes: Modes,
    ) -> Result<Loss> {
        let options = &self.settings.options;
        let (x, labels) = (network.input.of(&batch.images), batch.labels.to_kind(Kind::Int64));
        let forward = || Ok(network.net.forward(&x, modes));
        let logits = network.precision.run(network.device, forward)?;
        let average = set(&options.loss_average);
        let main = cross_entropy(&logits.main, &labels, average);
        let Some(auxiliary) = logits.auxiliary else {
            return Ok(Loss {
                total: main,
                parts: Vec::new(),
            });
        };
        let auxiliary = cross_entropy(&auxiliary, &labels, average);
        Ok(Loss {
            total: &main + &auxiliary * set(&options.auxiliary_weight),
            parts: vec![("main_loss", main), ("auxiliary_loss", auxiliary)],
        })
    }

    fn save(&self, path: &Path, network: &Network<DeepLab>, trained: &Trained) -> Result<()> {
        let (options, backbone) = (&self.settings.options, &network.backbone);
        let (classes, crop) = (&self.training.classes, set(&options.crop));
        let info = SegmenterInfo {
            model: options.model(backbone.arch, classes.len() as i64)?,
            classes: classes.clone(),
            mean: backbone.mean,
            std: backbone.std,
            crop: [crop.height as i64, crop.width as i64],
            step: trained.step,
            provenance: trained.provenance.clone(),
        };
        segmenter::save(path, &network.vs, &info)
    }

    fn evaluate(
        &self,
        network: &Network<DeepLab>,
        folder: &Path,
        progress: &dyn Progress,
    ) -> Result<Option<(Scores, Metrics)>> {
        let predictor = self.predictor(network);
        let leave = Leave {
            predictions: true,
            pictures: self.settings.evaluation.pictures,
        };
        let out = Some((folder, leave));
        let confusion = evaluate(&predictor, &self.validation, out, network.group, progress)?;
        if !network.group.leads() {
            return Ok(None);
        }
        let scores = confusion.scores(&self.validation.classes);
        let metrics = metrics(&scores);
        Ok(Some((scores, metrics)))
    }
}
