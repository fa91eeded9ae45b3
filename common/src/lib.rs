//! What every task needs: the backbone and its checkpoint, training, augmentation, devices, files and errors.
//!
//! - [`checkpoint`] saves and loads a backbone, the one contract between pretraining and tasks; [`resnet`]
//!   and [`nn`] are its layers, [`features`] its pooled features of many images;
//! - [`engine::train`] is the only training loop, for whatever implements [`engine::Task`]; [`optim`],
//!   [`schedule`] and [`run`] (the run's folder) serve it;
//! - [`augment::Augment`] turns a batch of pixels into views; [`random`] derives all randomness from a seed;
//! - [`Error`] names the file or setting concerned and what to do; [`progress::Progress`] is how a caller
//!   hears of long work.
//!
//! Task crates depend on this one and never on each other. Nothing here prints or exits.
//!
//! # A backbone and its features
//!
//! ```
//! use camtrast_common::augment::{IMAGENET_MEAN, IMAGENET_STD, Input};
//! use camtrast_common::checkpoint::{BackboneInfo, load_backbone, save_backbone};
//! use camtrast_common::device::Precision;
//! use camtrast_common::features::pooled;
//! use camtrast_common::resnet::ResNet;
//! use tch::{Device, Kind, Tensor, nn::VarStore};
//!
//! let folder = tempfile::tempdir().unwrap();
//! let path = folder.path().join("backbone.safetensors");
//!
//! // A network of 8 channels after its stem, as it is initialised. `camtrast pretrain` leaves a trained one.
//! let info = BackboneInfo {
//!     arch: "resnet18-w8-small".parse().unwrap(),
//!     method: "scratch".into(),
//!     dataset: "none".into(),
//!     dataset_sha256: "0".repeat(64),
//!     class_names: vec![],
//!     image_size: 32,
//!     mean: IMAGENET_MEAN,
//!     std: IMAGENET_STD,
//!     epoch: 0,
//!     step: 0,
//!     config: "{}".into(),
//!     commit: "unknown".into(),
//! };
//! let vs = VarStore::new(Device::Cpu);
//! ResNet::new(&vs.root(), info.arch);
//! save_backbone(&path, &vs.variables().into_iter().collect(), &info)?;
//!
//! let backbone = load_backbone(&path, Device::Cpu)?;
//! let pixels = Tensor::randint(256, [2, 32, 32, 3], (Kind::Uint8, Device::Cpu)); // [N, H, W, 3]
//! let input = Input::new(&backbone.info.mean, &backbone.info.std, Device::Cpu);
//! let features = pooled(&backbone.net, &input.of(&pixels), Device::Cpu, Precision::Fp32)?; // [N, D]
//! assert_eq!(features.size(), [2, backbone.info.arch.features()]);
//! # Ok::<(), camtrast_common::Error>(())
//! ```
//!
//! [`engine::train`] shows a whole training run.

pub mod arithmetic;
pub mod augment;
pub mod cam;
pub mod checkpoint;
pub mod classifier;
pub mod device;
pub mod distributed;
pub mod ema;
pub mod engine;
pub mod error;
pub mod features;
pub mod files;
pub mod holdout;
pub mod leakage;
pub mod log;
pub mod memory;
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
