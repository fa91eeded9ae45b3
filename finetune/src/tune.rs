//! Which part of a backbone is fine-tuned.

use camtrast_common::device::on_host;
use camtrast_common::nn::{Mode, Modes};
use camtrast_common::tensor_file::{absorb, bytes_of, hex};
use camtrast_common::{Error, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use tch::Tensor;
use tch::nn::VarStore;

/// The part of a backbone that is fine-tuned; a task's own layers always are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Tune {
    /// All of it
    #[default]
    All,
    /// Nothing: the task's own layers learn on frozen features
    Frozen,
    /// Scale and shift of batch norm, and its statistics
    Norm,
    /// The last stage (layer4), with the checkpoint's statistics of batch norm
    LastStage,
}

/// Names of the backbone's variables begin so.
const BACKBONE: &str = "backbone.";

impl Tune {
    /// The modes of training, for those that the task's settings give.
    pub(crate) fn modes(self, modes: Modes) -> Modes {
        match self {
            Tune::All | Tune::Norm => modes,
            Tune::Frozen | Tune::LastStage => Modes {
                backbone: Mode::Eval,
                ..modes
            },
        }
    }

    /// Whether a variable stays as it is in the checkpoint.
    fn holds(self, name: &str, variable: &Tensor) -> bool {
        let Some(name) = name.strip_prefix(BACKBONE) else {
            return false;
        };
        match self {
            Tune::All => false,
            Tune::Frozen => true,
            // All that a ResNet has of one dimension and less is batch norm's.
            Tune::Norm => variable.dim() > 1,
            Tune::LastStage => !name.starts_with("layer4."),
        }
    }

    fn held(self, vs: &VarStore) -> BTreeMap<String, Tensor> {
        let variables = vs.variables().into_iter();
        variables
            .filter(|(name, variable)| self.holds(name, variable))
            .collect()
    }

    /// Takes the gradients of what is not trained.
    pub(crate) fn freeze(self, vs: &VarStore) {
        for variable in self.held(vs).into_values() {
            if variable.requires_grad() {
                let _ = variable.set_requires_grad(false);
            }
        }
    }

    /// Checksum of what is not trained.
    pub(crate) fn sum(self, vs: &VarStore) -> String {
        let mut hash = Sha256::new();
        for (name, variable) in self.held(vs) {
            let variable = on_host(&variable);
            absorb(&mut hash, &name, "", &variable.size(), bytes_of(&variable));
        }
        hex(&hash.finalize())
    }

    /// Refuses a network in which anything moved that is not trained; `before` is its [`Tune::sum`].
    ///
    /// # Errors
    /// [`Error::Settings`].
    pub(crate) fn check(self, vs: &VarStore, before: &str) -> Result<()> {
        if self.sum(vs) == before {
            return Ok(());
        }
        Err(Error::settings(
            "the part of the backbone that --tune holds has changed in training",
            "the saved state is not of this run: --overwrite it",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, no_grad};

    #[test]
    fn a_change_of_what_is_held_is_found() {
        let vs = VarStore::new(Device::Cpu);
        let conv = (&vs.root() / "backbone" / "conv1").zeros("weight", &[2, 2]);
        let head = (&vs.root() / "classifier").zeros("weight", &[2]);
        let add = |variable: &Tensor| no_grad(|| variable.shallow_clone().g_add_scalar_(1.0));
        let before = Tune::Frozen.sum(&vs);
        let _ = add(&head);
        Tune::Frozen.check(&vs, &before).unwrap();
        let _ = add(&conv);
        let error = Tune::Frozen.check(&vs, &before).unwrap_err();
        assert!(error.to_string().contains("--tune"), "{error}");
    }
}
