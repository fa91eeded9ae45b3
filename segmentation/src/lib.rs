//! Semantic segmentation: how well does a pretrained backbone transfer to DeepLab v3+?
//!
//! [`train()`] fine-tunes a [`deeplab`] on a [`dataset`], [`evaluate()`] predicts and scores it, and
//! [`score()`] scores label images of any program as cityscapesScripts does.

pub mod augment;
pub mod classes;
pub mod confusion;
pub mod dataset;
pub mod deeplab;
pub mod evaluate;
pub mod label_image;
pub mod options;
pub mod overview;
pub mod photometric;
pub mod picture;
pub mod predict;
pub mod score;
pub mod segmenter;
pub mod source;
pub mod train;

pub use classes::ClassSet;
pub use confusion::{Confusion, Scores};
pub use dataset::Dataset;
pub use evaluate::{Leave, evaluate, metrics};
pub use options::{Preset, SegmentationOptions};
pub use predict::{PredictOptions, Predictor};
pub use score::{Naming, score, truth_sum};
pub use segmenter::{Segmenter, SegmenterInfo};
pub use train::{TrainConfig, TrainData, TrainReport, train};
