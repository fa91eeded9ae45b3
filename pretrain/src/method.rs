//! What a pretraining method is.

use crate::options::{Contrast, Options};
use crate::{byol, camtrast, exemplar, moco, scratch, simsiam, supervised};
use common::augment::Augment;
use common::device::Precision;
use common::engine::{Loss, Moment};
use common::nn::Mode;
use common::optim::ParamGroup;
use common::random::torch_seed;
use common::resnet::{Arch, ResNet};
use common::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use tch::nn::{Path, VarStore};
use tch::{Device, Tensor};

/// A method by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Random initialisation, the floor of every table
    Scratch,
    /// Cross-entropy on class labels
    Supervised,
    /// Momentum contrast, version 2
    Moco,
    /// Siamese networks with a predictor and stop-gradient
    Simsiam,
    /// Bootstrap your own latent: predictions of a slow target network
    Byol,
    /// Momentum contrast whose negatives are of other classes
    Exemplar,
    /// CAM-guided suppression and contrast with a momentum encoder
    CamtrastMoco,
    /// CAM-guided suppression and SimSiam
    CamtrastSimsiam,
}

impl Method {
    /// The settings it has, with its authors' values.
    pub fn defaults(self, setting: &Setting, given: &Options) -> Options {
        match self {
            Method::Scratch => scratch::defaults(),
            Method::Supervised => supervised::defaults(setting, given),
            Method::Moco => moco::defaults(setting, given),
            Method::Simsiam => simsiam::defaults(setting, given),
            Method::Byol => byol::defaults(setting, given),
            Method::Exemplar => exemplar::defaults(setting, given),
            Method::CamtrastMoco => camtrast::defaults(Contrast::Moco, setting, given),
            Method::CamtrastSimsiam => camtrast::defaults(Contrast::Simsiam, setting, given),
        }
    }

    /// Builds its networks, heads and queues from resolved settings.
    ///
    /// # Errors
    /// [`Error::Settings`] for settings that contradict each other.
    pub fn build(self, setting: &Setting, options: &Options) -> Result<Box<dyn Pretraining>> {
        Ok(match self {
            Method::Scratch => Box::new(scratch::Scratch::new(setting, options)?),
            Method::Supervised => Box::new(supervised::Supervised::new(setting, options)?),
            Method::Moco => Box::new(moco::Moco::new(setting, options)?),
            Method::Simsiam => Box::new(simsiam::SimSiam::new(setting, options)?),
            Method::Byol => Box::new(byol::Byol::new(setting, options)?),
            Method::Exemplar => Box::new(exemplar::new(setting, options)?),
            Method::CamtrastMoco | Method::CamtrastSimsiam => Box::new(camtrast::Camtrast::new(setting, options)?),
        })
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self).expect("no variant is hidden");
        f.write_str(value.get_name())
    }
}

/// What a method is built for.
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
    /// Precision of the networks' forward passes.
    pub precision: Precision,
    /// The run's seed.
    pub seed: u64,
}

/// One method at work.
pub trait Pretraining {
    /// The augmentation of each view that [`Pretraining::loss`] takes.
    fn views(&self) -> Vec<Augment>;
    /// The one summed objective on a batch: `views` f32 [N, 3, H, W] each, `labels` i64 `[N]`.
    ///
    /// # Errors
    /// [`Error::Torch`].
    fn loss(&mut self, views: &[Tensor], labels: &Tensor, at: &Moment) -> Result<Loss>;
    /// What follows the optimiser's step.
    fn after_step(&mut self, _at: &Moment) {}
    /// The trained variables; those of the backbone are named `backbone.*`.
    fn online(&self) -> &VarStore;
    /// The trained backbone.
    fn backbone(&self) -> &ResNet;
    /// What is optimised, and how.
    fn groups(&self) -> Vec<ParamGroup> {
        vec![ParamGroup::all(self.online())]
    }
    /// What training changes beyond the online variables and the optimiser.
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
    /// Whatever `heads` built.
    pub heads: H,
}

impl<H> Network<H> {
    /// Initialised from the seed, alike on every device.
    pub fn new(setting: &Setting, heads: impl FnOnce(&Path) -> H) -> Self {
        tch::manual_seed(torch_seed(setting.seed, "initialise", 0, 0));
        let mut vs = VarStore::new(Device::Cpu);
        let backbone = ResNet::new(&(vs.root() / "backbone"), setting.arch);
        let heads = heads(&vs.root());
        vs.set_device(setting.device);
        common::nn::weights_channels_last(&vs);
        Network { vs, backbone, heads }
    }

    /// Starts every residual block as the identity, where `options` say so.
    pub(crate) fn init_residuals(&self, options: &Options) {
        if options.zero_init_residual == Some(true) {
            self.backbone.zero_init_residuals();
        }
    }
}

/// Batch norm in `splits` parts, which must divide the batch; `flag` is the setting that says how many.
pub(crate) fn split_mode(flag: &str, splits: i64, batch_size: u64) -> Result<Mode> {
    if splits < 1 || !batch_size.is_multiple_of(splits as u64) {
        let problem = format!("--{flag} {splits} does not divide --batch-size {batch_size}");
        return Err(Error::settings(problem, "choose a divisor, or 1 for the whole batch"));
    }
    Ok(Mode::Train { splits })
}
