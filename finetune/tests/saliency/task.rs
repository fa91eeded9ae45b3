//! The smallest dense task: which pixels belong to a bright square on a dark, noisy ground? A network, a
//! loss, a data set, an evaluator; docs/adding-a-task.md goes through this file.

use camtrast_common::Result;
use camtrast_common::checkpoint::{Backbone, BackboneInfo};
use camtrast_common::device::send;
use camtrast_common::distributed::Group;
use camtrast_common::engine::{Loss, Source, StepContext};
use camtrast_common::leakage::Prints;
use camtrast_common::network_file;
use camtrast_common::nn::{Conv2d, Modes};
use camtrast_common::optim::{Algorithm, OptimizerConfig};
use camtrast_common::progress::Progress;
use camtrast_common::random::generator;
use camtrast_common::resnet::ResNet;
use camtrast_common::run::Metrics;
use camtrast_common::schedule::{Decay, Schedule};
use camtrast_common::settings::BatchNormMode;
use camtrast_finetune::{Course, DenseTask, Network, Provenance, Trained};
use rand::RngExt;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Kind, Reduction, Tensor, nn, no_grad};

/// Side of the images in pixels.
const SIDE: usize = 32;

/// The settings: what a real task declares by the macro `settings!`.
#[derive(Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SaliencySettings {
    pub steps: u64,
    pub batch_size: u64,
    pub lr: f64,
    pub precise_bn: u64,
}

pub struct SaliencyTask {
    pub settings: SaliencySettings,
}

/// A 1x1 convolution on the backbone's last map.
pub struct SaliencyNet {
    backbone: ResNet,
    classifier: Conv2d,
}

pub struct Batch {
    /// Pixels u8 [N, H, W, 3].
    images: Tensor,
    /// 1 inside the square, 0 outside: f32 [N, H, W].
    masks: Tensor,
}

/// Draws images instead of reading them.
pub struct Squares {
    batch_size: usize,
    batches_per_epoch: u64,
    seed: u64,
    device: Device,
    group: Group,
}

impl Squares {
    fn batch_of(&self, purpose: &str, number: u64) -> Batch {
        let mut random = generator(self.seed, purpose, 0, number);
        let (mut images, mut masks) = (Vec::new(), Vec::new());
        for _ in 0..self.batch_size {
            let (size, range) = (random.random_range(8..20), 0..12);
            let (left, top) = (random.random_range(range.clone()), random.random_range(range));
            for (y, x) in (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (y, x))) {
                let inside = (left..left + size).contains(&x) && (top..top + size).contains(&y);
                let grey = random.random_range(0..80) + if inside { 120 } else { 0 };
                images.extend([grey as u8; 3]);
                masks.push(f32::from(u8::from(inside)));
            }
        }
        let (n, side) = (self.batch_size as i64, SIDE as i64);
        Batch {
            images: send(
                self.group
                    .part(&Tensor::from_slice(&images).view([n, side, side, 3])),
                self.device,
            ),
            masks: send(
                self.group.part(&Tensor::from_slice(&masks).view([n, side, side])),
                self.device,
            ),
        }
    }
}

impl Source for Squares {
    type Batch = Batch;

    fn batch(&mut self, epoch: u64, index: u64) -> Result<Batch> {
        Ok(self.batch_of("training", epoch * self.batches_per_epoch + index))
    }
}

impl SaliencyNet {
    /// Logits [N, H, W] of images [N, 3, H, W].
    pub fn forward(&self, images: &Tensor, modes: Modes) -> Tensor {
        let map = self.backbone.feature_map(images, modes.backbone); // [N, D, H/8, W/8]
        let logits = self.classifier.forward(&map); // [N, 1, H/8, W/8]
        let (_, _, height, width) = images.size4().expect("images have four dimensions");
        logits
            .upsample_bilinear2d([height, width], false, None, None)
            .squeeze_dim(1)
    }
}

impl SaliencyTask {
    fn logits(&self, network: &Network<SaliencyNet>, images: &Tensor, modes: Modes) -> Result<Tensor> {
        let x = network.input.of(images);
        network
            .precision
            .run(network.device, || Ok(network.net.forward(&x, modes)))
    }
}

impl DenseTask for SaliencyTask {
    const NAME: &'static str = "saliency";
    const FILE: &'static str = "saliency.safetensors";
    const ARTIFACTS: &'static [&'static str] = &[];
    const SCORE: &'static str = "saliency/error";
    const VALIDATED_BY: &'static str = "nothing";
    const ONE_SHAPE: bool = true;
    type Settings = SaliencySettings;
    type Net = SaliencyNet;
    type Batch = Batch;
    type Source = Squares;
    type Evaluation = f64;

    fn settings(&self) -> &SaliencySettings {
        &self.settings
    }

    fn course(&self) -> Course {
        let SaliencySettings {
            steps,
            batch_size,
            lr,
            precise_bn,
        } = self.settings;
        Course {
            steps,
            pass: 4,
            batch_size,
            accumulate: 1,
            clip_norm: None,
            optimizer: OptimizerConfig {
                algorithm: Algorithm::Sgd,
                momentum: 0.9,
                nesterov: false,
                weight_decay: 1e-4,
            },
            schedule: Schedule {
                base_lr: lr,
                floor: 0.0,
                decay: Decay::Poly,
                milestones: Vec::new(),
                gamma: 1.0,
                warmup_steps: 0,
                warmup_factor: 0.0,
                steps_per_epoch: 4,
                total_steps: steps,
            },
            backbone_lr_scale: 1.0,
            batch_norm: BatchNormMode::Train,
            precise_bn,
        }
    }

    fn training_images(&self) -> Result<Prints> {
        Ok(Prints::default())
    }

    fn test_images(&self) -> Result<Option<Prints>> {
        Ok(Some(Prints::default()))
    }

    fn describe_data(&self, backbone: &Backbone, _tested: Option<&Prints>) -> Result<String> {
        Ok(format!("backbone_sha256 = \"{}\"\n", backbone.sha256))
    }

    fn network(&self, root: &nn::Path, backbone: &BackboneInfo) -> Result<SaliencyNet> {
        let features = backbone.arch.features();
        Ok(SaliencyNet {
            backbone: ResNet::new(&(root / "backbone"), backbone.arch),
            classifier: Conv2d::with_bias(&(root / "classifier"), features, 1, 1, nn::Init::Const(0.0)),
        })
    }

    fn source(
        &self,
        _: &BackboneInfo,
        batches_per_epoch: u64,
        seed: u64,
        device: Device,
        group: Group,
    ) -> Result<Squares> {
        Ok(Squares {
            batch_size: self.settings.batch_size as usize,
            batches_per_epoch,
            seed,
            device,
            group,
        })
    }

    fn loss(
        &self,
        network: &Network<SaliencyNet>,
        batch: &Batch,
        _at: &StepContext,
        modes: Modes,
    ) -> Result<Loss> {
        let logits = self.logits(network, &batch.images, modes)?.to_kind(Kind::Float);
        let total =
            logits.binary_cross_entropy_with_logits::<Tensor>(&batch.masks, None, None, Reduction::Mean);
        Ok(Loss {
            total,
            parts: Vec::new(),
        })
    }

    fn save(&self, path: &Path, network: &Network<SaliencyNet>, trained: &Trained) -> Result<()> {
        #[derive(Serialize)]
        struct Info<'a> {
            arch: String,
            step: u64,
            precise_bn: u64,
            #[serde(flatten)]
            provenance: &'a Provenance,
        }
        let info = Info {
            arch: network.backbone.arch.to_string(),
            step: trained.step,
            precise_bn: trained.precise_bn,
            provenance: &trained.provenance,
        };
        let tensors = network.vs.variables().into_iter().collect();
        network_file::save(path, "camtrast-saliency", &tensors, &info)
    }

    /// Intersection over union of all squares of 64 images.
    fn evaluate(
        &self,
        network: &Network<SaliencyNet>,
        _folder: &Path,
        _progress: &dyn Progress,
    ) -> Result<Option<(f64, Metrics)>> {
        let squares = Squares {
            batch_size: 64,
            batches_per_epoch: 1,
            seed: 0,
            device: network.device,
            group: Group::ALONE,
        };
        let test = squares.batch_of("test", 0);
        let logits = no_grad(|| self.logits(network, &test.images, Modes::EVAL))?;
        let (predicted, truth) = (logits.gt(0.0), test.masks.gt(0.5));
        let count = |mask: Tensor| mask.sum(Kind::Int64).int64_value(&[]) as f64;
        let both = count(predicted.logical_and(&truth));
        let iou = both / count(predicted.logical_or(&truth)).max(1.0);
        Ok(Some((iou, BTreeMap::from([("saliency/IoU".to_owned(), iou)]))))
    }
}
