//! SimSiam: Chen & He 2021, "Exploring Simple Siamese Representation Learning".
//!
//! Two augmented views of an image go through one encoder (backbone and projector, z); a predictor turns each
//! view's z into p, which must have the direction of the other view's z. No gradient flows through that z,
//! which prevents all outputs from becoming the same:
//!
//! `D(p, z) = -p.z / (|p| |z|)`, `L = D(p1, stopgrad(z2)) / 2 + D(p2, stopgrad(z1)) / 2`.

use crate::contrast::unit;
use crate::heads::NormMlp;
use crate::method::{Network, Pretraining, Setting};
use crate::options::{Numbers, PretrainOptions, set};
use camtrast_common::Result;
use camtrast_common::augment::Augment;
use camtrast_common::device::Precision;
use camtrast_common::engine::{Loss, StepContext};
use camtrast_common::nn::Mode;
use camtrast_common::optim::{Algorithm, ParamGroup};
use camtrast_common::resnet::{ResNet, pool};
use camtrast_common::schedule::Decay;
use tch::nn::{Path, VarStore};
use tch::{Device, Tensor, no_grad};

/// Two views with gradient. See `Method::passes`.
pub(crate) const PASSES: f64 = 2.0;

/// SimSiam's settings. Its heads are 2048 wide with a bottleneck of 512; a narrow backbone narrows them in
/// proportion.
pub(crate) fn defaults(setting: &Setting, given: &PretrainOptions) -> PretrainOptions {
    let batch_size = given.batch_size.unwrap_or(256);
    let width = 2048 * setting.arch.width / 64;
    PretrainOptions {
        epochs: Some(1000),
        batch_size: Some(batch_size),
        optimizer: Some(Algorithm::Sgd),
        lr: Some(0.05 * batch_size as f64 / 256.0),
        momentum: Some(0.9),
        weight_decay: Some(1e-4),
        schedule: Some(Decay::Cosine),
        milestones: Some(Numbers(Vec::new())),
        gamma: Some(0.1),
        warmup_epochs: Some(0.0),
        projection_dim: Some(width),
        projector_hidden: Some(width),
        predictor_hidden: Some(width / 4),
        constant_predictor_lr: Some(true),
        stop_gradient: Some(true),
        zero_init_residual: Some(true),
        ..PretrainOptions::strong_augmentation()
    }
}

/// SimSiam; see the module.
pub(crate) struct SimSiam {
    network: Network<Siamese>,
    augment: Augment,
    constant_predictor_lr: bool,
    mode: Mode,
    device: Device,
    precision: Precision,
}

impl SimSiam {
    pub(crate) fn new(setting: &Setting, options: &PretrainOptions) -> Result<Self> {
        let network = Network::new(setting, |vs| Siamese::new(vs, setting, options));
        network.init_residuals(options);
        Ok(SimSiam {
            network,
            augment: options.augment()?,
            constant_predictor_lr: set(&options.constant_predictor_lr),
            mode: setting.norm("bn-splits", options.bn_splits, options)?,
            device: setting.device,
            precision: setting.precision,
        })
    }
}

impl Pretraining for SimSiam {
    fn views(&self) -> Vec<Augment> {
        vec![self.augment.clone(), self.augment.clone()]
    }

    fn loss(&mut self, views: &[Tensor], _: &Tensor, _: &StepContext) -> Result<Loss> {
        let Network { backbone, heads, .. } = &self.network;
        let outputs = self.precision.run(self.device, || {
            let features = [0, 1].map(|i| pool(&backbone.feature_map(&views[i], self.mode)));
            Ok(heads.outputs(&features, self.mode))
        })?;
        let (total, spread) = heads.loss(&outputs);
        Ok(Loss {
            total,
            parts: vec![("output_std", spread)],
        })
    }

    fn online(&self) -> &VarStore {
        &self.network.vs
    }

    fn backbone(&self) -> &ResNet {
        &self.network.backbone
    }

    fn groups(&self) -> Vec<ParamGroup> {
        groups(self.online(), self.constant_predictor_lr)
    }
}

/// All variables in one group, or those of the predictor in a separate one with a constant learning rate.
pub(crate) fn groups(online: &VarStore, constant_predictor_lr: bool) -> Vec<ParamGroup> {
    let is_predictor = |name: &str| name.starts_with("predictor.");
    let mut predictor = ParamGroup::matching(online, is_predictor);
    predictor.constant_lr = constant_predictor_lr;
    vec![
        ParamGroup::matching(online, |name| !is_predictor(name)),
        predictor,
    ]
}

/// Projector and predictor.
pub(crate) struct Siamese {
    projector: NormMlp,
    predictor: NormMlp,
    stop_gradient: bool,
}

/// z and p of two views, [N, P] each.
pub(crate) struct Outputs {
    z: [Tensor; 2],
    p: [Tensor; 2],
}

impl Siamese {
    pub(crate) fn new(vs: &Path, setting: &Setting, options: &PretrainOptions) -> Self {
        let (hidden, outputs) = (set(&options.projector_hidden), set(&options.projection_dim));
        let predictor_hidden = set(&options.predictor_hidden);
        Siamese {
            projector: NormMlp::new(
                &(vs / "projector"),
                &[setting.arch.features(), hidden, hidden, outputs],
                true,
            ),
            predictor: NormMlp::new(&(vs / "predictor"), &[outputs, predictor_hidden, outputs], false),
            stop_gradient: set(&options.stop_gradient),
        }
    }

    /// From pooled features of two views, [N, D] each.
    pub(crate) fn outputs(&self, features: &[Tensor; 2], mode: Mode) -> Outputs {
        let z = [0, 1].map(|i| self.projector.forward(&features[i], mode));
        let p = [0, 1].map(|i| self.predictor.forward(&z[i], mode));
        Outputs { z, p }
    }

    /// The symmetrised loss, and the standard deviation of the unit vectors z over the batch, averaged over
    /// channels: about `1 / sqrt(P)` when they spread over the sphere, 0 when they have collapsed to one
    /// point.
    pub(crate) fn loss(&self, Outputs { z, p }: &Outputs) -> (Tensor, Tensor) {
        let target = |z: &Tensor| {
            if self.stop_gradient {
                z.detach()
            } else {
                z.shallow_clone()
            }
        };
        let total = (negative_cosine(&p[0], &target(&z[1])) + negative_cosine(&p[1], &target(&z[0]))) / 2.0;
        let spread = no_grad(|| unit(&z[0]).std_dim([0i64].as_slice(), true, false).mean(None));
        (total, spread)
    }
}

/// `-p.z / (|p| |z|)`, averaged over the rows of [N, P].
pub fn negative_cosine(p: &Tensor, z: &Tensor) -> Tensor {
    -(unit(p) * unit(z))
        .sum_dim_intlist([1i64].as_slice(), false, None)
        .mean(None)
}
