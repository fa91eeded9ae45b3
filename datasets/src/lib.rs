//! Data packs and the public layouts they are made from.
//!
//! [`prepare`](prepare::prepare) lists a public data set with its [`Layout`], decodes it once and writes a
//! [`Pack`]: one file of equally sized RGB images with labels, which training maps into memory.

pub mod fetch;
pub mod info;
pub mod layout;
pub mod overlap;
pub mod pack;
pub mod pack_writer;
pub mod prepare;
pub mod subset;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;

pub use fetch::{FetchOptions, Fetched, fetch};
pub use info::{Info, info};
pub use layout::Layout;
pub use pack::Pack;
pub use pack_writer::{PackDescription, PackWriter};
pub use prepare::{PrepareOptions, PrepareReport, prepare};
pub use subset::{LabelKind, Selection, SubsetOptions, select_subset};
