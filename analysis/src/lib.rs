//! Analysis of backbones: measures of their features, and class activation maps.
//!
//! [`measures`] are entropy, effective rank, uniformity, alignment and neighbours of any features, [`rank`]
//! and [`evidence`] the measures that were proposed to predict transfer, [`similarity`] compares two
//! backbones. [`representation::describe`] takes them of a backbone on a pack, [`mod@cam`] draws class
//! activation maps, for which [`head`] fits a classifier where a backbone comes without one.
//!
//! ```
//! use camtrast_analysis::measures::{spectrum, uniformity};
//! use tch::{Device, Kind, Tensor};
//!
//! // 64 features that fill a plane of a space of 8 dimensions, and 64 that fill all of it.
//! let noise = |d: i64| Tensor::randn([64, d], (Kind::Float, Device::Cpu));
//! let (plane, all) = (noise(2).matmul(&noise(8).narrow(0, 0, 2)), noise(8)); // [N, D]
//! let (poor, rich) = (spectrum(&plane)?, spectrum(&all)?);
//! assert!(poor.effective_rank <= 2.0 + 1e-6 && rich.effective_rank > 4.0);
//! assert!(poor.entropy < rich.entropy && rich.entropy <= 8_f64.ln());
//! assert_eq!(uniformity(&all, 0)?.features, 64);
//! # Ok::<(), camtrast_common::Error>(())
//! ```

pub mod cam;
pub mod evidence;
pub mod head;
pub mod measures;
pub mod rank;
pub mod representation;
pub mod similarity;

use camtrast_common::device::Precision;
use camtrast_common::distributed::Group;
use camtrast_common::progress::Progress;
use tch::Device;

/// Device, precision and progress of an analysis.
#[derive(Clone, Copy)]
pub struct Compute<'a> {
    /// Device of backbones and tensors.
    pub device: Device,
    /// The processes that share the work.
    pub group: Group,
    /// Precision of the networks' forward passes.
    pub precision: Precision,
    /// Receives the progress.
    pub progress: &'a dyn Progress,
}
