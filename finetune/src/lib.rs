//! Fine-tuning a pretrained backbone for a dense task: everything that detection, segmentation and the next
//! such task have in common.
//!
//! A task implements [`DenseTask`]: its settings, data, network, loss and evaluation. [`train`] does the
//! rest: it reads the backbone, compares training with test images, claims the run's folder, initialises the
//! network, trains it under the common engine, resumes it, estimates batch norm's statistics again where the
//! task asks for it, evaluates the network once and writes `metrics.json`. See docs/adding-a-task.md.

mod network;
mod task;
mod train;

pub use network::{Network, Provenance, Trained, load_into};
pub use task::{Course, DenseTask, Start};
pub use train::{TrainReport, train};
