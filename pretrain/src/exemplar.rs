//! Exemplar: Zhao et al. 2021, "What Makes Instance Discrimination Good for Transfer Learning?".
//!
//! MoCo v2 (see `moco.rs`) in which keys of the query's own class are no negatives, so that labels never push two images of a
//! class apart:
//!
//! `L = -log exp(q.k/T) / (exp(q.k/T) + sum over j with y_j != y of exp(q.k_j/T))`.

use crate::heads::Projector;
use crate::method::{Network, Pretraining, Setting};
use crate::moco::{self, MomentumContrast};
use crate::options::Options;
use common::Result;
use common::augment::Augment;
use common::engine::{Loss, Moment};
use common::resnet::{ResNet, pool};
use std::collections::BTreeMap;
use tch::Tensor;
use tch::nn::VarStore;

/// MoCo v2's.
pub(crate) fn defaults(setting: &Setting, given: &Options) -> Options {
    moco::defaults(setting, given)
}

/// See the module.
pub(crate) struct Exemplar {
    query: Network<Projector>,
    contrast: MomentumContrast,
    augment: Augment,
}

impl Exemplar {
    pub(crate) fn new(setting: &Setting, options: &Options) -> Result<Self> {
        let query = Network::new(setting, |vs| moco::projector(vs, setting, options));
        let contrast = MomentumContrast::new(setting, options, &query.vs)?;
        Ok(Exemplar { query, contrast, augment: options.augment()? })
    }
}

impl Pretraining for Exemplar {
    fn views(&self) -> Vec<Augment> {
        vec![self.augment.clone(), self.augment.clone()]
    }

    fn loss(&mut self, views: &[Tensor], labels: &Tensor, at: &Moment) -> Result<Loss> {
        let MomentumContrast { device, precision, mode, .. } = self.contrast;
        let q = precision.run(device, || {
            let features = pool(&self.query.backbone.feature_map(&views[0], mode));
            Ok(self.query.heads.forward(&features)) // [N, P]
        })?;
        let (total, accuracy) = self.contrast.loss(&q, &views[1], Some(labels), at)?;
        Ok(Loss { total, parts: vec![("contrast_accuracy", accuracy)] })
    }

    fn after_step(&mut self, _: &Moment) {
        self.contrast.follow();
    }

    fn online(&self) -> &VarStore {
        &self.query.vs
    }

    fn backbone(&self) -> &ResNet {
        &self.query.backbone
    }

    fn extra_state(&self) -> BTreeMap<String, Tensor> {
        self.contrast.state()
    }
}
