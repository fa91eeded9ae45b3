//! Pretraining: one file per method, read beside its paper, and one driver that runs any of them.
//!
//! Symbols: x images [N, 3, H, W]; A feature map [N, D, h, w]; f pooled features [N, D]; q, k, z projections
//! [N, P].

pub mod byol;
mod camtrast;
mod clean;
pub mod contrast;
mod driver;
mod exemplar;
mod heads;
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
