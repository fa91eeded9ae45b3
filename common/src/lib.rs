//! What two tasks need: files, checkpoints, the backbone, data, augmentation, the engine, optimisers.
//!
//! Task crates depend on this one and never on each other. Nothing here prints or exits.

pub mod augment;
pub mod cam;
pub mod checkpoint;
pub mod classifier;
pub mod device;
pub mod ema;
pub mod engine;
pub mod error;
pub mod features;
pub mod files;
pub mod leakage;
pub mod log;
pub mod native;
pub mod network_file;
pub mod nn;
pub mod optim;
pub mod precise_bn;
pub mod progress;
pub mod random;
pub mod resnet;
pub mod run;
pub mod sampler;
pub mod schedule;
pub mod settings;
pub mod tensor_file;
#[doc(hidden)]
pub mod testing;

pub use error::{Error, Result};
