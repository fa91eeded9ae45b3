//! Named published settings that differ from a method's defaults.

use crate::methods::Method;
use crate::options::{Contrast, Numbers, PretrainOptions, Switch};
use camtrast_common::optim::Algorithm;
use camtrast_common::schedule::Decay;
use camtrast_common::{Error, Result};
use serde::{Deserialize, Serialize};

/// The value of `--preset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Schedule and augmentation of the released code of CAMtrast; only with --method camtrast-simsiam
    ReleasedCode,
}

impl Preset {
    /// The settings `given`, completed with the preset's. Others keep the method's defaults.
    ///
    /// # Errors
    /// [`Error::Usage`] for a method that the preset does not describe.
    pub fn under(self, given: PretrainOptions, method: Method) -> Result<PretrainOptions> {
        let contrasts = matches!(given.contrast, None | Some(Contrast::Simsiam));
        if method != Method::CamtrastSimsiam || !contrasts || given.cam == Some(Switch::Off) {
            let problem =
                "--preset released-code describes CAMtrast with SimSiam, the only method that code trains";
            let remedy = "use it with --method camtrast-simsiam, and omit --contrast and --cam";
            return Err(Error::Usage {
                problem: problem.into(),
                remedy: remedy.into(),
            });
        }
        Ok(given.or(released_code()))
    }
}

// `train.py` at commit 7b48bbd with the arguments in its README. Its two steps per batch and its order of
// grey before jitter are not reproduced: see docs/reproducing-the-paper.md.
fn released_code() -> PretrainOptions {
    PretrainOptions {
        epochs: Some(100),
        batch_size: Some(256),
        optimizer: Some(Algorithm::Sgd),
        lr: Some(0.05),
        momentum: Some(0.9),
        weight_decay: Some(5e-4),
        schedule: Some(Decay::Step),
        milestones: Some(Numbers(vec![60.0, 80.0])),
        gamma: Some(0.1),
        jitter: Some(Numbers(vec![0.4; 4])),
        jitter_probability: Some(1.0),
        // `fix_lr` is set and never read.
        constant_predictor_lr: Some(false),
        // `epoch >= 30`, counted from one.
        cam_warmup_epochs: Some(29),
        ..PretrainOptions::default()
    }
}
