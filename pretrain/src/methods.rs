//! The list of all methods; there is no other.

use crate::method::{Pretraining, Setting};
use crate::options::{Contrast, PretrainOptions};
use crate::{byol, camtrast, exemplar, moco, scratch, simsiam, supervised};
use camtrast_common::Result;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A method by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Random initialisation without training, the lower bound in every table
    Scratch,
    /// Cross-entropy on class labels
    Supervised,
    /// Momentum contrast, version 2
    Moco,
    /// Siamese networks with a predictor and stop-gradient
    Simsiam,
    /// Bootstrap your own latent: prediction of the features of a slow target network
    Byol,
    /// Momentum contrast with negatives of other classes only
    Exemplar,
    /// CAM-guided suppression and contrast with a momentum encoder
    CamtrastMoco,
    /// CAM-guided suppression and SimSiam
    CamtrastSimsiam,
}

impl Method {
    /// Its settings, with its authors' values.
    pub fn defaults(self, setting: &Setting, given: &PretrainOptions) -> PretrainOptions {
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

    /// Passes of the backbone, forward and backward, for each image of a step; a forward pass alone counts a
    /// third.
    pub fn passes(self) -> f64 {
        match self {
            Method::Scratch => scratch::PASSES,
            Method::Supervised => supervised::PASSES,
            Method::Moco | Method::Exemplar => moco::PASSES,
            Method::Simsiam => simsiam::PASSES,
            Method::Byol => byol::PASSES,
            Method::CamtrastMoco => camtrast::passes(Contrast::Moco),
            Method::CamtrastSimsiam => camtrast::passes(Contrast::Simsiam),
        }
    }

    /// Whether it trains at all.
    pub fn trains(self) -> bool {
        self.passes() > 0.0
    }

    /// Whether `name` is that of a method that trains nothing. Of other names, such as those that imported
    /// backbones carry, nobody knows.
    pub fn is_untrained(name: &str) -> bool {
        <Method as clap::ValueEnum>::from_str(name, false).is_ok_and(|method| !method.trains())
    }

    /// Builds its networks, heads and queues from resolved settings.
    ///
    /// # Errors
    /// [`camtrast_common::Error::Settings`] for settings that contradict each other.
    pub fn build(self, setting: &Setting, options: &PretrainOptions) -> Result<Box<dyn Pretraining>> {
        Ok(match self {
            Method::Scratch => Box::new(scratch::Scratch::new(setting, options)?),
            Method::Supervised => Box::new(supervised::Supervised::new(setting, options)?),
            Method::Moco => Box::new(moco::Moco::new(setting, options)?),
            Method::Simsiam => Box::new(simsiam::SimSiam::new(setting, options)?),
            Method::Byol => Box::new(byol::Byol::new(setting, options)?),
            Method::Exemplar => Box::new(exemplar::new(setting, options)?),
            Method::CamtrastMoco | Method::CamtrastSimsiam => {
                Box::new(camtrast::Camtrast::new(setting, options)?)
            }
        })
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self).expect("no variant is hidden");
        f.write_str(value.get_name())
    }
}
