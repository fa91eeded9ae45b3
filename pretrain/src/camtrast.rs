//! CAMtrast: Sun et al. 2022, "Boost Supervised Pretraining for Visual Transfer Learning". For the first t
//! epochs, a plain classifier is trained. Then its class activation map hides the regions that the classifier
//! uses, and the rest of the image must be classified and also be recognised as the same image (eq. 3 to 6):
//!
//! `x' = (1 - M(x)) x`, `L = CE(fc(f(x)), y) + CE(fc(f(x')), y) + L_self(x, x')`,
//!
//! where `L_self` is MoCo's InfoNCE with x' as the key, or SimSiam's negative cosine. There is one view per
//! image: x and x' are the pair. The optimiser makes one step on the sum (the authors' code makes two).
//!
//! Two switches give the paper's ablations (Table 5): without the CAM, x' is a second augmented view, which
//! is contrasted from the first epoch on but not classified; without contrast `L_self` is left out; without
//! both it is the supervised baseline under CAMtrast's augmentation.

use crate::heads::Projector;
use crate::method::{Network, Pretraining, Setting};
use crate::moco::{self, MomentumContrast};
use crate::options::{CamClass, Contrast, PretrainOptions, Switch, set};
use crate::simsiam::{self, Siamese};
use crate::supervised::accuracy;
use camtrast_common::Result;
use camtrast_common::augment::Augment;
use camtrast_common::cam::{class_activation_map, suppress};
use camtrast_common::device::Precision;
use camtrast_common::engine::{Loss, StepContext};
use camtrast_common::nn::{Linear, Mode};
use camtrast_common::optim::ParamGroup;
use camtrast_common::resnet::{ResNet, pool};
use std::collections::BTreeMap;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

/// The suppressed view passes through the encoder with gradient, or through the momentum encoder without. See
/// `Method::passes`.
pub(crate) fn passes(contrast: Contrast) -> f64 {
    match contrast {
        Contrast::Moco => 7.0 / 3.0,
        Contrast::Simsiam | Contrast::None => 2.0,
    }
}

/// Those of the contrastive method (`own`, unless `--contrast` is given), as in the paper's supplement,
/// except for the query encoder's batch norm: it uses the whole batch, because the classifier follows it. t
/// is 30 epochs of 1000.
pub(crate) fn defaults(own: Contrast, setting: &Setting, given: &PretrainOptions) -> PretrainOptions {
    let contrast = given.contrast.unwrap_or(own);
    let base = match contrast {
        Contrast::Simsiam => simsiam::defaults(setting, given),
        _ => PretrainOptions {
            query_bn_splits: Some(1),
            ..moco::defaults(setting, given)
        },
    };
    let base = match contrast {
        Contrast::None => base.without_contrast(),
        _ => base,
    };
    let epochs = given.epochs.or(base.epochs);
    let cam = given.cam.unwrap_or(Switch::On);
    let warmup = epochs.map(|epochs| (epochs as f64 * 0.03).ceil() as u64);
    PretrainOptions {
        // The same in the ablations, so that they differ only in their losses.
        zero_init_residual: Some([own, contrast].contains(&Contrast::Simsiam)),
        cam: Some(cam),
        contrast: Some(contrast),
        cam_warmup_epochs: warmup.filter(|_| cam == Switch::On),
        cam_class: (cam == Switch::On).then_some(CamClass::Predicted),
        ..base
    }
}

/// CAMtrast; see the module.
pub(crate) struct Camtrast {
    network: Network<Heads>,
    contrast: Option<MomentumContrast>,
    augment: Augment,
    cam: Option<Cam>,
    constant_predictor_lr: bool,
    mode: Mode,
    device: Device,
    precision: Precision,
}

struct Cam {
    warmup_epochs: u64,
    class: CamClass,
}

struct Heads {
    fc: Linear,
    own: SelfSupervised,
}

enum SelfSupervised {
    None,
    Moco(Projector),
    Simsiam(Box<Siamese>),
}

impl Camtrast {
    pub(crate) fn new(setting: &Setting, options: &PretrainOptions) -> Result<Self> {
        let contrast = set(&options.contrast);
        let network = Network::new(setting, |vs| Heads {
            own: match contrast {
                Contrast::None => SelfSupervised::None,
                Contrast::Moco => SelfSupervised::Moco(moco::projector(vs, setting, options)),
                Contrast::Simsiam => SelfSupervised::Simsiam(Box::new(Siamese::new(vs, setting, options))),
            },
            fc: Linear::new(&(vs / "fc"), setting.arch.features(), setting.classes),
        });
        network.init_residuals(options);
        let contrast = match contrast {
            Contrast::Moco => Some(MomentumContrast::new(setting, options, &network.vs)?),
            _ => None,
        };
        let cam = Cam {
            warmup_epochs: options.cam_warmup_epochs.unwrap_or_default(),
            class: options.cam_class.unwrap_or(CamClass::Predicted),
        };
        Ok(Camtrast {
            mode: match &contrast {
                Some(contrast) => contrast.query_mode,
                None => setting.norm("bn-splits", options.bn_splits, options)?,
            },
            network,
            contrast,
            augment: options.augment()?,
            cam: (options.cam == Some(Switch::On)).then_some(cam),
            constant_predictor_lr: options.constant_predictor_lr.unwrap_or_default(),
            device: setting.device,
            precision: setting.precision,
        })
    }

    // x' from x, its feature map [N, D, h, w] and logits; `None` while the classifier warms up.
    fn suppressed(
        &self,
        x: &Tensor,
        map: &Tensor,
        logits: &Tensor,
        labels: &Tensor,
        epoch: u64,
    ) -> Option<Tensor> {
        let cam = self.cam.as_ref().filter(|cam| epoch >= cam.warmup_epochs)?;
        let classes = match cam.class {
            CamClass::Predicted => logits.argmax(1, false),
            CamClass::Label => labels.shallow_clone(),
        };
        Some(suppress(
            x,
            &class_activation_map(map, &self.network.heads.fc.weight, &classes),
        ))
    }
}

// One objective of all terms (eq. 6), each logged by its name.
fn sum(terms: Vec<(&'static str, Tensor)>, mut measures: Vec<(&'static str, Tensor)>) -> Loss {
    let losses: Vec<&Tensor> = terms.iter().map(|(_, loss)| loss).collect();
    let total = Tensor::stack(&losses, 0).sum(Kind::Float);
    measures.extend(terms.iter().map(|(name, loss)| (*name, loss.detach())));
    Loss {
        total,
        parts: measures,
    }
}

impl Pretraining for Camtrast {
    fn views(&self) -> Vec<Augment> {
        let second = self.cam.is_none() && !matches!(self.network.heads.own, SelfSupervised::None);
        vec![self.augment.clone(); 1 + usize::from(second)]
    }

    fn loss(&mut self, views: &[Tensor], labels: &Tensor, at: &StepContext) -> Result<Loss> {
        let Network {
            backbone,
            heads: Heads { fc, own },
            ..
        } = &self.network;
        let (device, precision, mode) = (self.device, self.precision, self.mode);
        let x = &views[0];
        let (map, features, logits) = precision.run(device, || {
            let map = backbone.feature_map(x, mode); // [N, D, h, w]
            let features = pool(&map); // [N, D]
            let logits = fc.forward(&features); // [N, classes]
            Ok((map, features, logits))
        })?;
        let logits = logits.to_kind(Kind::Float);
        let mut terms = vec![("loss_original", logits.cross_entropy_for_logits(labels))];
        let mut measures = vec![("accuracy", accuracy(&logits, labels))];

        let suppressed = self.suppressed(x, &map, &logits, labels, at.epoch);
        let Some(other) = suppressed.as_ref().or(views.get(1)) else {
            return Ok(sum(terms, measures));
        };
        // MoCo's key encoder processes x' alone.
        let needed = suppressed.is_some() || matches!(own, SelfSupervised::Simsiam(_));
        let other_features = if needed {
            Some(precision.run(device, || Ok(pool(&backbone.feature_map(other, mode))))?)
        } else {
            None
        };
        if let (Some(_), Some(features)) = (&suppressed, &other_features) {
            let logits = precision.run(device, || Ok(fc.forward(features)))?;
            terms.push((
                "loss_suppressed",
                logits.to_kind(Kind::Float).cross_entropy_for_logits(labels),
            ));
        }
        match (own, other_features) {
            (SelfSupervised::Moco(projector), _) => {
                let z = precision.run(device, || Ok(projector.forward(&features)))?;
                let contrast = self.contrast.as_mut().expect("MoCo has a queue and a projector");
                let (loss, found) = contrast.loss(&z, other, None, at)?;
                terms.push(("loss_contrast", loss));
                measures.push(("contrast_accuracy", found));
            }
            (SelfSupervised::Simsiam(heads), Some(other_features)) => {
                let outputs =
                    precision.run(device, || Ok(heads.outputs(&[features, other_features], mode)))?;
                let (loss, spread) = heads.loss(&outputs);
                terms.push(("loss_contrast", loss));
                measures.push(("output_std", spread));
            }
            _ => {}
        }
        Ok(sum(terms, measures))
    }

    fn after_step(&mut self, _: &StepContext) -> Result<()> {
        match &mut self.contrast {
            Some(contrast) => contrast.follow(),
            None => Ok(()),
        }
    }

    fn online(&self) -> &VarStore {
        &self.network.vs
    }

    fn backbone(&self) -> &ResNet {
        &self.network.backbone
    }

    fn groups(&self) -> Vec<ParamGroup> {
        simsiam::groups(self.online(), self.constant_predictor_lr)
    }

    fn extra_state(&self) -> BTreeMap<String, Tensor> {
        self.contrast
            .as_ref()
            .map(MomentumContrast::state)
            .unwrap_or_default()
    }
}
