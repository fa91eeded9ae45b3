//! Running statistics of batch norm, recomputed with fixed weights ("PreciseBN"). In training, running
//! statistics average over batches that passed through older weights. Here a number of batches passes through
//! the network with fixed weights, and each batch norm gets the mean and variance of all its inputs.
//!
//! Source: Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm", section 3, and fvcore's `update_bn_stats`
//! with its population variance, as detectron2 runs it.

use crate::error::Result;
use crate::nn::mode::Mode;
use std::sync::atomic::{AtomicU64, Ordering};
use tch::{Kind, Tensor, no_grad};

/// Runs `forward` without gradient for batches 0 to `batches` - 1. Every batch norm that `forward` gives the
/// mode to has, in the end, the mean and population variance of its inputs in all batches as its running
/// statistics; batches count by their number of values. Other batch norms keep theirs, and 0 batches change
/// nothing.
///
/// `forward` puts the mode wherever training puts [`Mode::TRAIN`]. A batch norm that sees a batch twice, as
/// with two views of an image, counts both.
///
/// # Errors
/// Those of `forward`; the running statistics are then those of the batches before.
pub fn re_estimate(batches: u64, mut forward: impl FnMut(u64, Mode) -> Result<()>) -> Result<()> {
    static ROUNDS: AtomicU64 = AtomicU64::new(0);
    let round = ROUNDS.fetch_add(1, Ordering::Relaxed);
    (0..batches).try_for_each(|batch| no_grad(|| forward(batch, Mode::Measure { round })))
}

/// The sums of one batch norm in one round. In double precision, because the variance is a difference of two
/// means.
#[derive(Debug)]
pub(crate) struct Population {
    pub(crate) round: u64,
    values: f64,
    mean: Tensor,
    mean_square: Tensor,
}

impl Population {
    /// Nothing yet, of as many channels as `like` has.
    pub(crate) fn new(round: u64, like: &Tensor) -> Self {
        let zeros = || like.zeros_like().to_kind(Kind::Double);
        Population {
            round,
            values: 0.0,
            mean: zeros(),
            mean_square: zeros(),
        }
    }

    /// Adds a batch of so many values a channel, by its mean and its variance with Bessel's correction, both
    /// `[C]`.
    pub(crate) fn add(&mut self, values: i64, mean: &Tensor, variance: &Tensor) {
        let values = values as f64;
        self.values += values;
        let mean = mean.to_kind(Kind::Double);
        let mean_square = mean.square() + variance * ((values - 1.0) / values);
        let share = values / self.values;
        self.mean += (mean - &self.mean) * share;
        self.mean_square += (mean_square - &self.mean_square) * share;
    }

    /// Mean and variance `[C]` of all values.
    pub(crate) fn statistics(&self) -> (&Tensor, Tensor) {
        (&self.mean, &self.mean_square - self.mean.square())
    }
}
