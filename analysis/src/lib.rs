//! Analysis of backbones: measures of their features, and class activation maps.

pub mod cam;
pub mod head;
pub mod measures;
pub mod representation;

use camtrast_common::device::Precision;
use camtrast_common::progress::Progress;
use tch::Device;

/// Device, precision and progress of an analysis.
#[derive(Clone, Copy)]
pub struct Compute<'a> {
    /// Device of backbones and tensors.
    pub device: Device,
    /// Precision of the networks' forward passes.
    pub precision: Precision,
    /// Receives the progress.
    pub progress: &'a dyn Progress,
}
