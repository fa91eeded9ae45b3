//! Data packs and the public layouts they are made from.
//!
//! [`prepare`](prepare::prepare) lists a public data set with its [`Layout`], decodes it once and writes a
//! [`Pack`]: one file of equally sized RGB images with labels, which training maps into memory.
//! [`select_subset`] draws parts of a pack, [`fetch`](fetch::fetch) downloads data sets,
//! [`info`](info::info) says what a file or folder holds.
//!
//! # A pack, a batch of it and two augmented views
//!
//! ```
//! use camtrast_common::augment::Augment;
//! use camtrast_common::features::Images;
//! use camtrast_common::random::generator;
//! use camtrast_datasets::{Pack, PackDescription, PackWriter};
//!
//! // Four grey images of two classes. `camtrast data prepare` packs real ones.
//! let folder = tempfile::tempdir().unwrap();
//! let path = folder.path().join("tiny.pack");
//! let description = PackDescription {
//!     height: 32,
//!     width: 32,
//!     class_names: vec!["cat".into(), "dog".into()],
//!     ..PackDescription::default()
//! };
//! let mut writer = PackWriter::create(&path, description, 4)?;
//! writer.push(&[128; 4 * 32 * 32 * 3])?;
//! writer.finish(&[0, 1, 0, 1], None)?;
//!
//! let pack = Pack::open(&path)?;
//! let batch = pack.rows(&[3, 0])?; // u8 [N, H, W, 3]
//! let mut random = generator(0, "augment", 0, 0);
//! let query = Augment::MOCO_V2.apply(&batch, &mut random); // f32 [N, 3, H, W]
//! let key = Augment::MOCO_V2.apply(&batch, &mut random);
//! assert_eq!(query.size(), [2, 3, 32, 32]);
//! assert_ne!(query, key, "each view is drawn anew");
//! # Ok::<(), camtrast_common::Error>(())
//! ```

pub mod fetch;
pub mod fold;
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
pub use fold::Fold;
pub use info::{Info, info};
pub use layout::Layout;
pub use pack::Pack;
pub use pack_writer::{PackDescription, PackWriter};
pub use prepare::{PrepareOptions, PrepareReport, prepare};
pub use subset::{LabelKind, Selection, SubsetOptions, select_subset};
