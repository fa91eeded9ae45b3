//! Why a pretraining transfers: what a backbone's features hold, and where in an image they come from.

pub mod cam;
pub mod head;
pub mod measures;
pub mod representation;

use camtrast_common::device::Precision;
use camtrast_common::progress::Progress;
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
