//! MoCo v2: He et al. 2020, "Momentum Contrast for Unsupervised Visual Representation Learning", and Chen et
//! al. 2020b.
//!
//! Two augmented views of an image; the query encoder's projection of one must find, among K older keys, the
//! momentum encoder's projection of the other:
//!
//! `q = f_q(x_q)`, `k = f_k(x_k)`, `L = -log exp(q.k/T) / (exp(q.k/T) + sum_j exp(q.k_j/T))`,
//! `theta_k <- m theta_k + (1-m) theta_q`. On one device, batch statistics would reveal which key belongs to
//! a query. The keys are therefore computed in shuffled order and batch norm sees the batch in parts, as on
//! several devices. On several devices, keys are shuffled over all of them, and the queue, the same
//! everywhere, gets the keys of all.

use crate::contrast::{Queue, info_nce, unit};
use crate::heads::Projector;
use crate::method::{Network, Pretraining, Setting};
use crate::options::{Numbers, PretrainOptions, set};
use camtrast_common::augment::Augment;
use camtrast_common::device::{Precision, send};
use camtrast_common::distributed::Group;
use camtrast_common::ema::Ema;
use camtrast_common::engine::{Loss, StepContext};
use camtrast_common::nn::Mode;
use camtrast_common::optim::Algorithm;
use camtrast_common::random::{generator, permutation};
use camtrast_common::resnet::{ResNet, pool};
use camtrast_common::schedule::Decay;
use camtrast_common::{Error, Result};
use std::collections::BTreeMap;
use tch::nn::{Path, VarStore};
use tch::{Device, Tensor, no_grad};

/// A query with gradient and a key without. See `Method::passes`.
pub(crate) const PASSES: f64 = 4.0 / 3.0;

/// MoCo v2's settings; 1000 epochs and K = 2048 are the paper's for miniImageNet and CIFAR-FS.
pub(crate) fn defaults(setting: &Setting, given: &PretrainOptions) -> PretrainOptions {
    let batch_size = given.batch_size.unwrap_or(256);
    let splits = given
        .bn_splits
        .unwrap_or(if batch_size.is_multiple_of(8) { 8 } else { 1 });
    PretrainOptions {
        epochs: Some(1000),
        batch_size: Some(batch_size),
        optimizer: Some(Algorithm::Sgd),
        lr: Some(0.03 * batch_size as f64 / 256.0),
        momentum: Some(0.9),
        weight_decay: Some(1e-4),
        schedule: Some(Decay::Cosine),
        milestones: Some(Numbers(Vec::new())),
        gamma: Some(0.1),
        warmup_epochs: Some(0.0),
        projection_dim: Some(128),
        projector_hidden: Some(setting.arch.features()),
        queue_size: Some(2048),
        temperature: Some(0.2),
        key_momentum: Some(0.999),
        bn_splits: Some(splits),
        query_bn_splits: Some(splits),
        ..PretrainOptions::strong_augmentation()
    }
}

/// MoCo v2; see the module.
pub(crate) struct Moco {
    query: Network<Projector>,
    contrast: MomentumContrast,
    augment: Augment,
    /// Keys of a query's own class are not negatives (Exemplar).
    pub(crate) spares_own_class: bool,
}

impl Moco {
    pub(crate) fn new(setting: &Setting, options: &PretrainOptions) -> Result<Self> {
        let query = Network::new(setting, |vs| projector(vs, setting, options));
        let contrast = MomentumContrast::new(setting, options, &query.vs)?;
        Ok(Moco {
            query,
            contrast,
            augment: options.augment()?,
            spares_own_class: false,
        })
    }
}

impl Pretraining for Moco {
    fn views(&self) -> Vec<Augment> {
        vec![self.augment.clone(), self.augment.clone()]
    }

    fn loss(&mut self, views: &[Tensor], labels: &Tensor, at: &StepContext) -> Result<Loss> {
        let MomentumContrast {
            device,
            precision,
            query_mode,
            ..
        } = self.contrast;
        let q = precision.run(device, || {
            let features = pool(&self.query.backbone.feature_map(&views[0], query_mode));
            Ok(self.query.heads.forward(&features)) // [N, P]
        })?;
        let (total, accuracy) =
            self.contrast
                .loss(&q, &views[1], self.spares_own_class.then_some(labels), at)?;
        Ok(Loss {
            total,
            parts: vec![("contrast_accuracy", accuracy)],
        })
    }

    fn after_step(&mut self, _: &StepContext) -> Result<()> {
        self.contrast.follow()
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

/// The projector that `options` describe, under `projector.`.
pub(crate) fn projector(vs: &Path, setting: &Setting, options: &PretrainOptions) -> Projector {
    let (hidden, outputs) = (set(&options.projector_hidden), set(&options.projection_dim));
    Projector::new(&(vs / "projector"), setting.arch.features(), hidden, outputs)
}

/// The momentum encoder and its queue of keys.
pub(crate) struct MomentumContrast {
    key: Network<Projector>,
    ema: Ema,
    queue: Queue,
    temperature: f64,
    momentum: f64,
    key_mode: Mode,
    /// How batch norm works in the query encoder.
    pub(crate) query_mode: Mode,
    group: Group,
    pub(crate) device: Device,
    pub(crate) precision: Precision,
}

impl MomentumContrast {
    /// Starts as a copy of the query encoder, whose variables `query` holds.
    pub(crate) fn new(setting: &Setting, options: &PretrainOptions, query: &VarStore) -> Result<Self> {
        let (size, batch_size) = (set(&options.queue_size), set(&options.batch_size));
        if size < batch_size as i64 {
            let problem = format!("--queue-size {size} is smaller than --batch-size {batch_size}");
            return Err(Error::settings(
                problem,
                "the queue must hold at least one batch of keys",
            ));
        }
        let momentum = set(&options.key_momentum);
        if !(0.0..=1.0).contains(&momentum) {
            return Err(Error::settings(
                format!("--key-momentum {momentum} is outside 0..1"),
                "MoCo's is 0.999",
            ));
        }
        let temperature = set(&options.temperature);
        let key = Network::new(setting, |vs| projector(vs, setting, options));
        Ok(MomentumContrast {
            ema: Ema::new(&key.vs, query),
            queue: Queue::new(size, set(&options.projection_dim), setting.device),
            key,
            temperature,
            momentum,
            key_mode: setting.norm("bn-splits", options.bn_splits, options)?,
            query_mode: setting.norm("query-bn-splits", options.query_bn_splits, options)?,
            group: setting.group,
            device: setting.device,
            precision: setting.precision,
        })
    }

    /// Loss of raw query projections `q` [N, P] against the keys of `images` [N, 3, H, W], which then join
    /// the queue; and the share of queries that find their key. With `labels` i64 `[N]`, keys of a query's
    /// own class are not negatives.
    pub(crate) fn loss(
        &mut self,
        q: &Tensor,
        images: &Tensor,
        labels: Option<&Tensor>,
        at: &StepContext,
    ) -> Result<(Tensor, Tensor)> {
        let keys = self.keys(images, at)?;
        let same_class = labels.map(|labels| labels.unsqueeze(1).eq_tensor(&self.queue.labels)); // [N, K]
        let (loss, accuracy) = info_nce(
            &unit(q),
            &self.group.part(&keys),
            &self.queue.keys.copy(),
            same_class.as_ref(),
            self.temperature,
        )?;
        let labels = labels.map(|labels| self.group.all_gather(labels)).transpose()?;
        self.queue.push(&keys, labels.as_ref());
        Ok((loss, accuracy))
    }

    // The keys of all processes, [N, P] in the order of the whole batch.
    fn keys(&self, images: &Tensor, at: &StepContext) -> Result<Tensor> {
        let n = images.size()[0] * self.group.world() as i64;
        let order = permutation(
            n as usize,
            &mut generator(at.seed, "moco/shuffle", at.epoch, at.batch),
        );
        let order = send(Tensor::from_slice(&order), self.device);
        let back = order.argsort(0, false);
        no_grad(|| {
            // Channels-last images are gathered without a copy.
            let all = self.group.all_gather(&images.permute([0, 2, 3, 1]))?;
            let shuffled = all
                .permute([0, 3, 1, 2])
                .index_select(0, &self.group.part(&order));
            let keys = self.precision.run(self.device, || {
                let features = pool(&self.key.backbone.feature_map(&shuffled, self.key_mode));
                Ok(self.key.heads.forward(&features))
            })?;
            Ok(self.group.all_gather(&unit(&keys))?.index_select(0, &back))
        })
    }

    /// The momentum encoder's step.
    pub(crate) fn follow(&mut self) -> Result<()> {
        self.ema.update(self.momentum)
    }

    pub(crate) fn state(&self) -> BTreeMap<String, Tensor> {
        let mut state: BTreeMap<String, Tensor> = self
            .key
            .vs
            .variables()
            .into_iter()
            .map(|(name, tensor)| (format!("key/{name}"), tensor))
            .collect();
        state.insert("queue/keys".into(), self.queue.keys.shallow_clone());
        state.insert("queue/labels".into(), self.queue.labels.shallow_clone());
        state.insert("queue/pointer".into(), self.queue.pointer.shallow_clone());
        state
    }
}
