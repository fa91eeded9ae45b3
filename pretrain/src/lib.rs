//! Pretraining: one file per method, to be read together with its paper, and one driver that runs all of
//! them.
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
mod scratch;
pub mod simsiam;
mod supervised;

pub use driver::{PretrainConfig, PretrainRecipe, PretrainReport, Settled, pretrain};
pub use method::{Network, Pretraining, Setting};
pub use methods::Method;
pub use options::{PretrainOptions, Subset};
pub use preset::Preset;
