//! Supervised pretraining: cross-entropy on class labels, `L(x) = CE(fc(f(x)), y)`.
//!
//! Settings: Sun et al. 2022, supplement A (after Chen et al. 2018b); augmentation of Tian et al. 2020.

use crate::method::{Network, Pretraining, Setting};
use crate::options::{Numbers, PretrainOptions};
use camtrast_common::Result;
use camtrast_common::augment::Augment;
use camtrast_common::device::Precision;
use camtrast_common::engine::{Loss, StepContext};
use camtrast_common::nn::{Linear, Mode};
use camtrast_common::optim::Algorithm;
use camtrast_common::resnet::{ResNet, pool};
use camtrast_common::schedule::Decay;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};

/// One view, one pass. See `Method::passes`.
pub(crate) const PASSES: f64 = 1.0;

/// 200 epochs, batch 64, SGD 0.05, divided by 10 after 30 % and 40 % of training (epochs 60 and 80 of 200).
pub(crate) fn defaults(setting: &Setting, given: &PretrainOptions) -> PretrainOptions {
    let epochs = given.epochs.unwrap_or(200);
    let batch_size = given.batch_size.unwrap_or(64);
    PretrainOptions {
        epochs: Some(epochs),
        batch_size: Some(batch_size),
        optimizer: Some(Algorithm::Sgd),
        lr: Some(0.05 * batch_size as f64 / 64.0),
        momentum: Some(0.9),
        weight_decay: Some(5e-4),
        schedule: Some(Decay::Step),
        milestones: Some(Numbers(
            [0.3, 0.4].map(|share| (share * epochs as f64).round()).into(),
        )),
        gamma: Some(0.1),
        warmup_epochs: Some(0.0),
        ..PretrainOptions::weak_augmentation(setting.image_size)
    }
}

/// Supervised pretraining; see the module.
pub(crate) struct Supervised {
    network: Network<Linear>,
    augment: Augment,
    mode: Mode,
    device: Device,
    precision: Precision,
}

impl Supervised {
    pub(crate) fn new(setting: &Setting, options: &PretrainOptions) -> Result<Self> {
        let network = Network::new(setting, |vs| {
            Linear::new(&(vs / "fc"), setting.arch.features(), setting.classes)
        });
        Ok(Supervised {
            network,
            augment: options.augment()?,
            mode: setting.norm("bn-splits", options.bn_splits, options)?,
            device: setting.device,
            precision: setting.precision,
        })
    }
}

impl Pretraining for Supervised {
    fn views(&self) -> Vec<Augment> {
        vec![self.augment.clone()]
    }

    fn loss(&mut self, views: &[Tensor], labels: &Tensor, _: &StepContext) -> Result<Loss> {
        let Network {
            backbone, heads: fc, ..
        } = &self.network;
        let logits = self.precision.run(self.device, || {
            let features = pool(&backbone.feature_map(&views[0], self.mode));
            Ok(fc.forward(&features)) // [N, classes]
        })?;
        let logits = logits.to_kind(Kind::Float);
        Ok(Loss {
            total: logits.cross_entropy_for_logits(labels),
            parts: vec![("accuracy", accuracy(&logits, labels))],
        })
    }

    fn online(&self) -> &VarStore {
        &self.network.vs
    }

    fn backbone(&self) -> &ResNet {
        &self.network.backbone
    }
}

/// Share of rows whose largest logit is the label's, as a scalar tensor.
pub(crate) fn accuracy(logits: &Tensor, labels: &Tensor) -> Tensor {
    no_grad(|| {
        logits
            .argmax(1, false)
            .eq_tensor(labels)
            .to_kind(Kind::Float)
            .mean(Kind::Float)
    })
}
