//! Checkpoints of other tools: read without running what they hold, renamed to torchvision's names, and
//! written so that other tools load them. See docs/interop.md.
//!
//! [`StateFile`] reads a file, [`naming`] finds backbones in it, [`mod@import`] makes ours of one,
//! [`mod@export`] goes the other way, [`mod@diff`] compares.

mod archive;
pub mod diff;
pub mod export;
pub mod import;
pub mod naming;
mod state_file;

pub use state_file::{Container, SLACK, StateFile, Stored, Unread};
