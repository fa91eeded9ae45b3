//! Pretraining: one file per method, to be read together with its paper, and one driver that runs all of
//! them.
//!
//! [`Method`] lists the methods, [`PretrainOptions`] their settings. A [`PretrainRecipe`] is everything that
//! decides a run's weights, [`PretrainRecipe::settle`] fills in its defaults for a pack, and [`pretrain`]
//! trains and leaves `backbone.safetensors`. A method implements [`Pretraining`].
//!
//! Symbols: x images [N, 3, H, W]; A feature map [N, D, h, w]; f pooled features [N, D]; q, k, z projections
//! [N, P].
//!
//! ```
//! use camtrast_common::checkpoint::load_backbone;
//! use camtrast_common::arithmetic::Arithmetic;
//! use camtrast_common::device::Precision;
//! use camtrast_common::distributed::Group;
//! use camtrast_common::progress::Silent;
//! use camtrast_common::run::{Build, RunOptions};
//! use camtrast_datasets::{PackDescription, PackWriter};
//! use camtrast_pretrain::{
//!     Method, PretrainConfig, PretrainOptions, PretrainRecipe, Subset, pretrain,
//! };
//! use std::sync::atomic::AtomicBool;
//! use tch::Device;
//!
//! // A pack of eight black and white images. `camtrast data prepare` packs real ones.
//! let folder = tempfile::tempdir().unwrap();
//! let data = folder.path().join("tiny.pack");
//! let description = PackDescription {
//!     height: 16,
//!     width: 16,
//!     class_names: vec!["black".into(), "white".into()],
//!     ..PackDescription::default()
//! };
//! let mut writer = PackWriter::create(&data, description, 8)?;
//! writer.push(&[[0; 4 * 16 * 16 * 3], [255; 4 * 16 * 16 * 3]].concat())?;
//! writer.finish(&[0, 0, 0, 0, 1, 1, 1, 1], None)?;
//!
//! let recipe = PretrainRecipe {
//!     method: Method::Supervised,
//!     preset: None,
//!     data,
//!     seed: 0,
//!     precision: Precision::Fp32,
//!     arithmetic: Arithmetic::default(),
//!     arch: "resnet18-w4-small".parse().unwrap(),
//!     subset: Subset::default(),
//!     accumulate: 1,
//!     clip_norm: None,
//!     precise_bn: None,
//!     init: None,
//!     // All else is the method's own default.
//!     options: PretrainOptions { epochs: Some(1), batch_size: Some(4), ..Default::default() },
//! };
//! let run = RunOptions {
//!     out: folder.path().join("run"),
//!     overwrite: false,
//!     device: Device::Cpu,
//!     group: Group::ALONE,
//!     log_every: 1,
//!     save_every: None,
//!     profile_step: None,
//!     build: Build { version: "1".into(), commit: "unknown".into() },
//! };
//! let config = PretrainConfig { recipe, run, probe_every: None, keep_epochs: vec![], extend: false };
//! let report = pretrain(&config, &Silent, &AtomicBool::new(false))?;
//! assert_eq!(report.outcome.step, 2);
//! assert_eq!(load_backbone(&report.backbone, Device::Cpu)?.info.method, "supervised");
//! # Ok::<(), camtrast_common::Error>(())
//! ```

pub mod byol;
mod camtrast;
mod clean;
pub mod contrast;
mod driver;
mod exemplar;
mod extend;
mod heads;
mod init;
mod keep;
mod method;
mod methods;
mod moco;
pub mod options;
mod preset;
mod probe;
mod recipe;
mod scratch;
pub mod simsiam;
mod source;
mod supervised;

pub use driver::{PretrainConfig, PretrainReport, pretrain};
pub use method::{Network, Pretraining, Setting};
pub use methods::Method;
pub use options::{PretrainOptions, Subset};
pub use preset::Preset;
pub use recipe::{PretrainRecipe, Settled};
