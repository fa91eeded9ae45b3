//! No pretraining: random initialisation, the lower bound in every table.

use crate::method::{Network, Pretraining, Setting};
use crate::options::{PretrainOptions, set};
use camtrast_common::augment::Augment;
use camtrast_common::engine::{Loss, StepContext};
use camtrast_common::resnet::ResNet;
use camtrast_common::{Error, Result};
use tch::Tensor;
use tch::nn::VarStore;

/// It does not train. See `Method::passes`.
pub(crate) const PASSES: f64 = 0.0;

/// Its only setting is 0 epochs.
pub(crate) fn defaults() -> PretrainOptions {
    PretrainOptions {
        epochs: Some(0),
        batch_size: Some(1),
        ..PretrainOptions::default()
    }
}

/// No pretraining; see the module.
pub(crate) struct Scratch {
    network: Network<()>,
}

impl Scratch {
    pub(crate) fn new(setting: &Setting, options: &PretrainOptions) -> Result<Self> {
        match set(&options.epochs) {
            0 => Ok(Scratch {
                network: Network::new(setting, |_| ()),
            }),
            _ => Err(does_not_train()),
        }
    }
}

impl Pretraining for Scratch {
    fn views(&self) -> Vec<Augment> {
        Vec::new()
    }

    fn loss(&mut self, _: &[Tensor], _: &Tensor, _: &StepContext) -> Result<Loss> {
        Err(does_not_train())
    }

    fn online(&self) -> &VarStore {
        &self.network.vs
    }

    fn backbone(&self) -> &ResNet {
        &self.network.backbone
    }
}

fn does_not_train() -> Error {
    Error::settings("--method scratch does not train", "omit --epochs")
}
