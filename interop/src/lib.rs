//! Checkpoints of other tools: read without running any code in them, renamed to torchvision's names, and
//! written so that other tools load them. See docs/interop.md.
//!
//! [`StateFile`] reads a file, [`naming`] finds backbones in it, [`mod@import`] converts one to our format,
//! [`mod@export`] converts ours to other formats, [`mod@diff`] compares.

mod archive;
pub mod diff;
pub mod export;
pub mod import;
pub mod naming;
mod state_file;

pub use state_file::{Container, SLACK, StateFile, Stored, Unread};
