//! Learning rate over training time.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How the learning rate decays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Constant.
    Constant,
    /// Multiplied by `gamma` at each milestone epoch (`MultiStepLR`).
    Step,
    /// `0.5 (1 + cos(pi t))`, t the finished fraction of training. Changes every step; at the start of each
    /// epoch it has the value that MoCo's and SimSiam's scripts use for that whole epoch.
    Cosine,
    /// `(1 - t)^0.9`, every step (DeepLab).
    Poly,
    /// Multiplied by `gamma` after each epoch (`ExponentialLR`).
    Exponential,
}

impl FromStr for Decay {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "constant" => Ok(Self::Constant),
            "step" => Ok(Self::Step),
            "cosine" => Ok(Self::Cosine),
            "poly" => Ok(Self::Poly),
            "exponential" => Ok(Self::Exponential),
            _ => Err(format!(
                "{text:?} is not one of constant, step, cosine, poly, exponential"
            )),
        }
    }
}

impl fmt::Display for Decay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Constant => "constant",
            Self::Step => "step",
            Self::Cosine => "cosine",
            Self::Poly => "poly",
            Self::Exponential => "exponential",
        })
    }
}

/// A learning-rate schedule: a linear warm-up followed by a decay.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// The base learning rate.
    pub base_lr: f64,
    /// Learning rate that [`Decay::Poly`] and [`Decay::Cosine`] fall to. Above zero it is that of the last
    /// step, as in mmengine's `PolyLR`; zero is reached one step after the last, so that the last step still
    /// trains.
    pub floor: f64,
    /// How it decays.
    pub decay: Decay,
    /// Epochs at which [`Decay::Step`] multiplies by `gamma`.
    pub milestones: Vec<u64>,
    /// Factor of [`Decay::Step`] and [`Decay::Exponential`].
    pub gamma: f64,
    /// Steps over which the rate rises linearly from `warmup_factor` of its value.
    pub warmup_steps: u64,
    /// Where the warm-up begins: 0, or 0.001 as in detectron2.
    pub warmup_factor: f64,
    /// Steps in an epoch.
    pub steps_per_epoch: u64,
    /// Steps in the whole training.
    pub total_steps: u64,
}

impl Schedule {
    /// The learning rate at a step, counted from 0 over the whole training.
    pub fn lr(&self, step: u64) -> f64 {
        let falling = if self.floor > 0.0 {
            self.total_steps.saturating_sub(1)
        } else {
            self.total_steps
        };
        let done = step as f64 / falling.max(1) as f64;
        let epoch = step / self.steps_per_epoch.max(1);
        let decay = match self.decay {
            Decay::Constant => 1.0,
            Decay::Step => self
                .gamma
                .powi(self.milestones.iter().filter(|&&m| epoch >= m).count() as i32),
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
            Decay::Poly => (1.0 - done).max(0.0).powf(0.9),
            Decay::Exponential => self.gamma.powf(epoch as f64),
        };
        let warmup = if step < self.warmup_steps {
            let t = step as f64 / self.warmup_steps as f64;
            self.warmup_factor * (1.0 - t) + t
        } else {
            1.0
        };
        let falls = matches!(self.decay, Decay::Poly | Decay::Cosine);
        let floor = if falls { self.floor } else { 0.0 };
        ((self.base_lr - floor) * decay + floor) * warmup
    }
}
