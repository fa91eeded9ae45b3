//! CAMtrast: Sun et al. 2022, "Boost Supervised Pretraining for Visual Transfer Learning".
//!
//! For the first t epochs a plain classifier. Then its class activation map hides what it looks at, and the rest of the image
//! must both be classified and be recognised as the same image (eq. 3, 4, 6):
//!
//! `x' = (1 - M(x)) x`, `L = CE(fc(f(x)), y) + CE(fc(f(x')), y) + InfoNCE(g(f(x)), g_k(f_k(x')))`.
//!
//! One view per image: x and x' are the pair. The optimiser makes one step on the sum (the authors' code makes two).

use crate::cam::{class_activation_map, suppress};
use crate::heads::Projector;
use crate::method::{Network, Pretraining, Setting};
use crate::moco::{self, MomentumContrast};
use crate::options::{CamClass, Options, set};
use crate::supervised::accuracy;
use common::Result;
use common::augment::Augment;
use common::engine::{Loss, Moment};
use common::nn::Linear;
use common::resnet::pool;
use std::collections::BTreeMap;
use tch::nn::VarStore;
use tch::{Kind, Tensor};

/// MoCo v2's settings but for the temperature, which is the authors' code's; t is 30 epochs of 1000.
pub(crate) fn defaults(setting: &Setting, given: &Options) -> Options {
    let moco = moco::defaults(setting, given);
    let epochs = given.epochs.or(moco.epochs);
    Options {
        temperature: Some(0.07),
        cam_warmup_epochs: epochs.map(|epochs| (epochs as f64 * 0.03).ceil() as u64),
        cam_class: Some(CamClass::Predicted),
        ..moco
    }
}

/// See the module.
pub(crate) struct Camtrast {
    network: Network<Heads>,
    contrast: MomentumContrast,
    augment: Augment,
    warmup_epochs: u64,
    cam_class: CamClass,
}

struct Heads {
    fc: Linear,
    projector: Projector,
}

impl Camtrast {
    pub(crate) fn new(setting: &Setting, options: &Options) -> Result<Self> {
        let network = Network::new(setting, |vs| Heads {
            projector: moco::projector(vs, setting, options),
            fc: Linear::new(&(vs / "fc"), setting.arch.features(), setting.classes),
        });
        let contrast = MomentumContrast::new(setting, options, &network.vs)?;
        Ok(Camtrast {
            network,
            contrast,
            augment: options.augment()?,
            warmup_epochs: set(&options.cam_warmup_epochs),
            cam_class: set(&options.cam_class),
        })
    }
}

impl Pretraining for Camtrast {
    fn views(&self) -> Vec<Augment> {
        vec![self.augment.clone()]
    }

    fn loss(&mut self, views: &[Tensor], labels: &Tensor, at: &Moment) -> Result<Loss> {
        let Network { backbone, heads: Heads { fc, projector }, .. } = &self.network;
        let MomentumContrast { device, precision, mode, .. } = self.contrast;
        let x = &views[0];
        let (map, features, logits) = precision.run(device, || {
            let map = backbone.feature_map(x, mode); // [N, D, h, w]
            let features = pool(&map); // [N, D]
            let logits = fc.forward(&features); // [N, classes]
            Ok((map, features, logits))
        })?;
        let logits = logits.to_kind(Kind::Float);
        let mut total = logits.cross_entropy_for_logits(labels);
        let mut parts = vec![("accuracy", accuracy(&logits, labels)), ("loss_original", total.detach())];
        if at.epoch >= self.warmup_epochs {
            let classes = match self.cam_class {
                CamClass::Predicted => logits.argmax(1, false),
                CamClass::Label => labels.shallow_clone(),
            };
            let suppressed = suppress(x, &class_activation_map(&map, &fc.weight, &classes)); // x'
            let (rest, z) = precision.run(device, || {
                let rest = fc.forward(&pool(&backbone.feature_map(&suppressed, mode)));
                Ok((rest.to_kind(Kind::Float), projector.forward(&features)))
            })?;
            let suppressed_loss = rest.cross_entropy_for_logits(labels);
            let (contrast, found) = self.contrast.loss(&z, &suppressed, at)?;
            parts.push(("loss_suppressed", suppressed_loss.detach()));
            parts.push(("loss_contrast", contrast.detach()));
            parts.push(("contrast_accuracy", found));
            total = total + suppressed_loss + contrast;
        }
        Ok(Loss { total, parts })
    }

    fn after_step(&mut self, _: &Moment) {
        self.contrast.follow();
    }

    fn online(&self) -> &VarStore {
        &self.network.vs
    }

    fn extra_state(&self) -> BTreeMap<String, Tensor> {
        self.contrast.state()
    }
}
