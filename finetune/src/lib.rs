//! Fine-tuning a pretrained backbone for a dense task: everything that detection, segmentation and the next
//! such task have in common.
//!
//! A task implements [`DenseTask`]: its settings, data, network, loss and evaluation. [`train`] does the
//! rest: it reads the backbone, compares training with test images, claims the run's folder, initialises the
//! network, trains it under the common engine, resumes it, estimates batch norm's statistics again where the
//! task asks for it, evaluates the network once and writes `metrics.json`. See docs/adding-a-task.md;
//! finetune/tests/saliency/ is a whole task, as small as it can be.
//!
//! [`Start`] and the task's own settings decide a run's weights, and are the text that its config.toml begins
//! with:
//!
//! ```
//! use camtrast_common::arithmetic::Arithmetic;
//! use camtrast_common::device::Precision;
//! use camtrast_finetune::{Settings, Start, Tune, Validation};
//!
//! #[derive(serde::Serialize)]
//! struct Saliency { steps: u64 }
//!
//! let start = Start {
//!     checkpoint: "runs/moco/backbone.safetensors".into(),
//!     seed: 0,
//!     precision: Precision::Fp32,
//!     arithmetic: Arithmetic::default(),
//!     tune: Tune::Frozen,
//!     validation: Validation::default(),
//! };
//! let settings = Settings { start: &start, task: &Saliency { steps: 100 } };
//! let lines = [
//!     "checkpoint = \"runs/moco/backbone.safetensors\"",
//!     "seed = 0",
//!     "precision = \"fp32\"",
//!     "tune = \"frozen\"",
//!     "steps = 100",
//! ];
//! assert_eq!(toml::to_string(&settings).unwrap().lines().collect::<Vec<_>>(), lines);
//! ```

mod network;
mod task;
mod train;
mod tune;
mod validation;

pub use network::{Network, Provenance, Trained, load_into};
pub use task::{Course, DenseTask, Start};
pub use train::{Settings, TrainReport, train};
pub use tune::Tune;
pub use validation::{BEST, TESTED, Validation};
