//! Batches of labelled images for fine-tuning.

use camtrast_common::Result;
use camtrast_common::augment::{Augment, Draws};
use camtrast_common::device::send;
use camtrast_common::engine::Source;
use camtrast_common::features::Images;
use camtrast_common::random::generator;
use camtrast_common::sampler::Passes;
use camtrast_datasets::{Pack, Selection};
use std::sync::Arc;
use tch::{Device, Tensor};

/// What one step trains on.
pub struct Batch {
    /// Pixels u8 [N, H, W, 3].
    pub(crate) images: Tensor,
    /// i64 [N].
    pub(crate) labels: Tensor,
    /// The random numbers of its augmentation.
    pub(crate) draws: Vec<Draws>,
}

/// Draws batches in an order of its own for every pass.
pub struct LabelledSource {
    pub(crate) pack: Arc<Pack>,
    pub(crate) chosen: Selection,
    pub(crate) passes: Passes,
    pub(crate) batch_size: u64,
    pub(crate) batches_per_epoch: u64,
    pub(crate) seed: u64,
    pub(crate) rank: u64,
    pub(crate) device: Device,
    pub(crate) augment: Augment,
    /// Mean and standard deviation of the normalisation.
    pub(crate) colours: ([f64; 3], [f64; 3]),
}

impl Source for LabelledSource {
    type Batch = Batch;

    fn batch(&mut self, epoch: u64, index: u64) -> Result<Batch> {
        let number = epoch * self.batches_per_epoch + index;
        let places = self.passes.batch(number, self.batch_size);
        let of = |all: &[i64]| places.iter().map(|&(_, place)| all[place]).collect::<Vec<_>>();
        // Processes have images of their own, and random numbers of their own.
        let mut generator = generator(self.seed, "augment", self.rank, number);
        let size = [places.len(), self.pack.height(), self.pack.width()].map(|d| d as i64);
        let (mean, std) = &self.colours;
        let draws = vec![self.augment.draw_with(size, mean, std, &mut generator)];
        Ok(Batch {
            images: send(self.pack.rows(&of(&self.chosen.indices))?, self.device),
            labels: send(Tensor::from_slice(&of(&self.chosen.labels)), self.device),
            draws: Draws::send(draws, self.device),
        })
    }
}
