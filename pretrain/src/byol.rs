//! BYOL: Grill et al. 2020, "Bootstrap Your Own Latent".
//!
//! Online network: backbone, projector, predictor (theta). Target network: backbone, projector (xi), a slow
//! average of the online one. The online prediction of one view must have the direction of the target's
//! projection of the other view; each view is used in both roles:
//!
//! `L = |q(z1) - z2'|^2 + |q(z2) - z1'|^2` of unit vectors `= 4 - 2 cos(q(z1), z2') - 2 cos(q(z2), z1')`,
//! `xi <- tau xi + (1 - tau) theta`, `tau = 1 - (1 - tau_0) (cos(pi k / K) + 1) / 2` at step k of K.

use crate::heads::NormMlp;
use crate::method::{Network, Pretraining, Setting};
use crate::options::{Numbers, PretrainOptions, set};
use crate::simsiam::negative_cosine;
use camtrast_common::augment::Augment;
use camtrast_common::device::Precision;
use camtrast_common::ema::Ema;
use camtrast_common::engine::{Loss, StepContext};
use camtrast_common::nn::Mode;
use camtrast_common::optim::Algorithm;
use camtrast_common::resnet::{ResNet, pool};
use camtrast_common::schedule::Decay;
use camtrast_common::{Error, Result};
use std::collections::BTreeMap;
use std::f64::consts::PI;
use tch::nn::{Path, VarStore};
use tch::{Device, Tensor, no_grad};

/// Two views with gradient, and two targets without. See `Method::passes`.
pub(crate) const PASSES: f64 = 8.0 / 3.0;

/// SGD with the learning rate of Sun et al. for unsupervised methods; with `--optimizer lars`, that of BYOL
/// for large batches. Views as in BYOL, appendix B: the first always blurred, the second rarely, and
/// sometimes solarised.
pub(crate) fn defaults(setting: &Setting, given: &PretrainOptions) -> PretrainOptions {
    let batch_size = given.batch_size.unwrap_or(256);
    let epochs = given.epochs.unwrap_or(1000);
    let lars = given.optimizer == Some(Algorithm::Lars);
    let (lr, weight_decay, warmup) = if lars {
        (0.2, 1.5e-6, 10.0)
    } else {
        (0.03, 1e-4, 0.0)
    };
    let hidden = 4096 * setting.arch.width / 64;
    PretrainOptions {
        epochs: Some(epochs),
        batch_size: Some(batch_size),
        optimizer: Some(Algorithm::Sgd),
        lr: Some(lr * batch_size as f64 / 256.0),
        momentum: Some(0.9),
        weight_decay: Some(weight_decay),
        schedule: Some(Decay::Cosine),
        milestones: Some(Numbers(Vec::new())),
        gamma: Some(0.1),
        warmup_epochs: Some(warmup),
        projection_dim: Some(256),
        projector_hidden: Some(hidden),
        predictor_hidden: Some(hidden),
        key_momentum: Some(if epochs >= 1000 { 0.996 } else { 0.99 }),
        jitter: Some(Numbers(vec![0.4, 0.4, 0.2, 0.1])),
        crop_scale: Some(Numbers(vec![0.08, 1.0])),
        blur: Some(1.0),
        second_blur: Some(0.1),
        second_solarize: Some(0.2),
        ..PretrainOptions::strong_augmentation()
    }
}

/// BYOL; see the module.
pub(crate) struct Byol {
    online: Network<Heads>,
    target: Network<NormMlp>,
    ema: Ema,
    base_momentum: f64,
    views: [Augment; 2],
    mode: Mode,
    device: Device,
    precision: Precision,
}

struct Heads {
    projector: NormMlp,
    predictor: NormMlp,
}

impl Byol {
    pub(crate) fn new(setting: &Setting, options: &PretrainOptions) -> Result<Self> {
        let base_momentum = set(&options.key_momentum);
        if !(0.0..=1.0).contains(&base_momentum) {
            let problem = format!("--key-momentum {base_momentum} is outside 0..1");
            return Err(Error::settings(
                problem,
                "BYOL's is 0.99, or 0.996 for 1000 epochs",
            ));
        }
        let outputs = set(&options.projection_dim);
        let projector = |vs: &Path| {
            let hidden = set(&options.projector_hidden);
            NormMlp::new(
                &(vs / "projector"),
                &[setting.arch.features(), hidden, outputs],
                false,
            )
        };
        let online = Network::new(setting, |vs| Heads {
            projector: projector(vs),
            predictor: NormMlp::new(
                &(vs / "predictor"),
                &[outputs, set(&options.predictor_hidden), outputs],
                false,
            ),
        });
        let target = Network::new(setting, projector);
        let first = options.augment()?;
        let second = PretrainOptions {
            blur: options.second_blur,
            solarize: options.second_solarize,
            ..options.clone()
        };
        Ok(Byol {
            ema: Ema::new(&target.vs, &online.vs),
            online,
            target,
            base_momentum,
            views: [first, second.augment()?],
            mode: setting.norm("bn-splits", options.bn_splits, options)?,
            device: setting.device,
            precision: setting.precision,
        })
    }
}

impl Pretraining for Byol {
    fn views(&self) -> Vec<Augment> {
        self.views.to_vec()
    }

    fn loss(&mut self, views: &[Tensor], _: &Tensor, _: &StepContext) -> Result<Loss> {
        let Network {
            backbone,
            heads: Heads { projector, predictor },
            ..
        } = &self.online;
        let mode = self.mode;
        let predictions = self.precision.run(self.device, || {
            Ok([0, 1].map(|i| {
                let features = pool(&backbone.feature_map(&views[i], mode));
                predictor.forward(&projector.forward(&features, mode), mode)
            }))
        })?;
        let Network {
            backbone,
            heads: projector,
            ..
        } = &self.target;
        let targets = no_grad(|| {
            self.precision.run(self.device, || {
                Ok([0, 1].map(|i| projector.forward(&pool(&backbone.feature_map(&views[i], mode)), mode)))
            })
        })?;
        let cosine =
            negative_cosine(&predictions[0], &targets[1]) + negative_cosine(&predictions[1], &targets[0]);
        Ok(Loss {
            total: cosine * 2.0 + 4.0,
            parts: Vec::new(),
        })
    }

    fn after_step(&mut self, at: &StepContext) -> Result<()> {
        self.ema
            .update(momentum(self.base_momentum, at.step, at.total_steps))
    }

    fn online(&self) -> &VarStore {
        &self.online.vs
    }

    fn backbone(&self) -> &ResNet {
        &self.online.backbone
    }

    fn extra_state(&self) -> BTreeMap<String, Tensor> {
        self.target
            .vs
            .variables()
            .into_iter()
            .map(|(name, tensor)| (format!("target/{name}"), tensor))
            .collect()
    }
}

/// tau at `step` of `total_steps`.
pub fn momentum(base: f64, step: u64, total_steps: u64) -> f64 {
    1.0 - (1.0 - base) * ((PI * step as f64 / total_steps as f64).cos() + 1.0) / 2.0
}
