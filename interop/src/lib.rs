//! Checkpoints of other tools: read without running what they hold, renamed to torchvision's names, and written so that other
//! tools load them. See docs/interop.md.
//!
//! [`StateFile`] reads a file, [`naming`] finds backbones in it, [`mod@import`] makes ours of one, [`mod@export`] goes the other
//! way, [`mod@diff`] compares.

mod archive;
pub mod diff;
mod dtype;
pub mod export;
pub mod import;
pub mod naming;
mod pickle;
mod refusal;
mod state_file;

pub use dtype::Dtype;
pub use refusal::{Refusal, Told};
pub use state_file::{Container, SLACK, StateFile, Stored};
