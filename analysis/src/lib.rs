//! Why a pretraining transfers: what a backbone's features hold, and where in an image they come from.

pub mod cam;
pub mod head;
pub mod representation;

use common::device::Precision;
use common::progress::Progress;
use tch::Device;

/// Where and how networks run, and who is told.
#[derive(Clone, Copy)]
pub struct Compute<'a> {
    /// Where backbones and tensors live.
    pub device: Device,
    /// Precision of the networks' forward passes.
    pub precision: Precision,
    /// Told of every batch.
    pub progress: &'a dyn Progress,
}
