//! What a pretraining method is.

use crate::options::{BatchNormScope, PretrainOptions, set};
use camtrast_common::augment::Augment;
use camtrast_common::device::Precision;
use camtrast_common::distributed::Group;
use camtrast_common::engine::{Loss, StepContext};
use camtrast_common::nn::Mode;
use camtrast_common::optim::ParamGroup;
use camtrast_common::random::torch_seed;
use camtrast_common::resnet::{Arch, ResNet};
use camtrast_common::{Error, Result};
use std::collections::BTreeMap;
use tch::nn::{Path, VarStore};
use tch::{Device, Tensor};

/// The data, device and seed that a method is built for.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The backbone.
    pub arch: Arch,
    /// Classes in the selected data.
    pub classes: i64,
    /// Images in the selected data.
    pub images: u64,
    /// Side of the images, in pixels.
    pub image_size: i64,
    /// Where tensors live.
    pub device: Device,
    /// The processes that train together.
    pub group: Group,
    /// Precision of the networks' forward passes.
    pub precision: Precision,
    /// The run's seed.
    pub seed: u64,
}

impl Setting {
    /// Batch norm in `splits` parts of the batch (1, the whole batch, when `None`), which must divide it;
    /// `flag` is the setting with their number. Processes that train together have the same number of parts
    /// each. Where they share a whole batch, each takes its own part's statistics, unless `--batch-norm
    /// sync`.
    pub(crate) fn norm(&self, flag: &str, splits: Option<i64>, options: &PretrainOptions) -> Result<Mode> {
        let (batch_size, group) = (set(&options.batch_size), self.group);
        let (splits, world) = (splits.unwrap_or(1), group.world() as i64);
        if splits < 1 || !batch_size.is_multiple_of(splits as u64) {
            let problem = format!("--{flag} {splits} does not divide --batch-size {batch_size}");
            return Err(Error::settings(
                problem,
                "choose a divisor, or 1 for the whole batch",
            ));
        }
        match splits {
            _ if splits % world == 0 => Ok(Mode::Train {
                splits: splits / world,
            }),
            1 if options.batch_norm == Some(BatchNormScope::Sync) => Ok(Mode::Sync { group }),
            1 => Ok(Mode::TRAIN),
            _ => Err(Error::settings(
                format!("the parts of --{flag} {splits} cannot be divided among {world} processes"),
                "choose a multiple of their number, or 1 for the whole batch",
            )),
        }
    }
}

/// A method in training.
pub trait Pretraining {
    /// The augmentation of each view that [`Pretraining::loss`] takes.
    fn views(&self) -> Vec<Augment>;
    /// The one summed objective on a batch: `views` f32 [N, 3, H, W] each, `labels` i64 `[N]`.
    ///
    /// # Errors
    /// [`Error::Torch`].
    fn loss(&mut self, views: &[Tensor], labels: &Tensor, at: &StepContext) -> Result<Loss>;
    /// Runs after the optimiser's step.
    ///
    /// # Errors
    /// [`Error::Torch`].
    fn after_step(&mut self, _at: &StepContext) -> Result<()> {
        Ok(())
    }
    /// The trained variables; those of the backbone are named `backbone.*`.
    fn online(&self) -> &VarStore;
    /// The trained backbone.
    fn backbone(&self) -> &ResNet;
    /// The optimised parameters and their settings.
    fn groups(&self) -> Vec<ParamGroup> {
        vec![ParamGroup::all(self.online())]
    }
    /// The state that training changes besides the online variables and the optimiser.
    fn extra_state(&self) -> BTreeMap<String, Tensor> {
        BTreeMap::new()
    }
}

/// A backbone with heads, and the variables of both.
pub struct Network<H> {
    /// All variables, on the setting's device and laid out channels-last.
    pub vs: VarStore,
    /// The backbone, under `backbone.`.
    pub backbone: ResNet,
    /// The result of `heads`.
    pub heads: H,
}

impl<H> Network<H> {
    /// Initialises from the seed, with the same values on every device.
    pub fn new(setting: &Setting, heads: impl FnOnce(&Path) -> H) -> Self {
        tch::manual_seed(torch_seed(setting.seed, "initialise", 0, 0));
        let mut vs = VarStore::new(Device::Cpu);
        let backbone = ResNet::new(&(vs.root() / "backbone"), setting.arch);
        let heads = heads(&vs.root());
        vs.set_device(setting.device);
        camtrast_common::nn::weights_channels_last(&vs);
        Network { vs, backbone, heads }
    }

    /// Starts every residual block as the identity, if `options` ask for it.
    pub(crate) fn init_residuals(&self, options: &PretrainOptions) {
        if options.zero_init_residual == Some(true) {
            self.backbone.zero_init_residuals();
        }
    }
}
