//! Checkpoints of other tools: read without running any code in them, renamed to torchvision's names, and
//! written so that other tools load them. See docs/interop.md.
//!
//! [`StateFile`] reads a file, [`naming`] finds backbones in it, [`mod@import`] converts one to our format,
//! [`mod@export`] converts ours to other formats, [`mod@diff`] compares.
//!
//! ```
//! use camtrast_interop::{StateFile, import::find};
//! use tch::{Device, Tensor, nn::VarStore};
//! use camtrast_common::resnet::ResNet;
//!
//! // A file as MoCo's code leaves it: the backbone is one of two encoders, under a prefix.
//! let folder = tempfile::tempdir().unwrap();
//! let path = folder.path().join("moco.safetensors");
//! let vs = VarStore::new(Device::Cpu);
//! ResNet::new(&vs.root(), "resnet18-w8".parse().unwrap());
//! let tensors = vs.variables().into_iter();
//! let foreign: Vec<(String, Tensor)> =
//!     tensors.map(|(name, tensor)| (format!("module.encoder_q.{name}"), tensor)).collect();
//! Tensor::write_safetensors(&foreign, &path).unwrap();
//!
//! let file = StateFile::open(&path)?;
//! let found = find(&file, None)?;
//! assert_eq!(found.arch.to_string(), "resnet18-w8");
//! assert_eq!(found.naming.prefix, "module.encoder_q.");
//! assert!(found.tensors.contains_key("layer4.1.conv2.weight") && found.missing.is_empty());
//! # Ok::<(), camtrast_common::Error>(())
//! ```

mod archive;
pub mod diff;
pub mod export;
pub mod import;
pub mod naming;
mod state_file;

pub use state_file::{Container, SLACK, StateFile, Stored, Unread};
