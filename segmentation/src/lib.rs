//! Semantic segmentation: how well does a pretrained backbone transfer to DeepLab v3+?
//!
//! [`SegmentationTask`] is the task that fine-tunes a [`deeplab`] on a [`dataset`], [`evaluate()`] predicts
//! and scores it, and [`score()`] scores label images of any program as cityscapesScripts does.
//!
//! ```
//! use camtrast_segmentation::label_image::LabelImage;
//! use camtrast_segmentation::{ClassSet, Confusion};
//!
//! let classes = ClassSet::named(&["road".into(), "sky".into()], &[255])?;
//! let image = |pixels: [u8; 4]| LabelImage { height: 2, width: 2, pixels: pixels.into() };
//! let mut confusion = Confusion::new(&classes);
//! // One of the two pixels of sky is taken for road; the pixel 255 counts nowhere.
//! confusion.add(&image([0, 1, 1, 255]), &image([0, 1, 0, 0])).unwrap();
//! let scores = confusion.scores(&classes);
//! assert_eq!(scores.mean_iou, Some(0.5));
//! # Ok::<(), camtrast_common::Error>(())
//! ```

pub mod augment;
pub mod classes;
pub mod confusion;
pub mod data;
pub mod dataset;
pub mod deeplab;
pub mod evaluate;
pub mod files;
pub mod label_image;
mod label_png;
pub mod linear_head;
pub mod options;
pub mod overview;
pub mod photometric;
pub mod photos;
pub mod picture;
pub mod predict;
pub mod rle;
pub mod score;
pub mod segmenter;
pub mod source;
pub mod train;

pub use classes::ClassSet;
pub use confusion::{Confusion, Scores};
pub use data::TrainData;
pub use dataset::Dataset;
pub use evaluate::{evaluate, metrics};
pub use files::Leave;
pub use options::{Preset, SegmentationOptions};
pub use predict::{PredictOptions, Predictor};
pub use score::{Naming, score, truth_sum};
pub use segmenter::{Segmenter, SegmenterInfo};
pub use train::{SegmentationSettings, SegmentationTask};
