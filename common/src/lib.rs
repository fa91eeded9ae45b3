//! What two tasks need: files, checkpoints, the backbone, data, augmentation, the engine, optimisers.
//!
//! Task crates depend on this one and never on each other. Nothing here prints or exits.

pub mod data;
pub mod error;
pub mod files;
pub mod progress;
pub mod random;
pub mod tensor_file;

pub use error::{Error, Result};
