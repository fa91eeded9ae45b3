//! Object detection: Faster R-CNN fine-tuned end to end from a pretrained backbone.
//!
//! Data: [`voc`] and [`coco`] read a [`Dataset`]. Network: [`model`]. Fine-tuning: [`mod@train`] puts the
//! network under the common engine, fed by `source`. Evaluation: [`Predictor`] and [`results`] (detections of
//! any program) give [`Results`], which [`mod@evaluate`] scores.

pub mod coco;
pub mod curves;
mod dataset;
pub mod detector;
pub mod draw;
pub mod evaluate;
#[cfg(test)]
mod fixtures;
pub mod grouping;
mod image_file;
pub mod model;
pub mod options;
mod predict;
mod problems;
mod report;
pub mod results;
pub mod source;
pub mod torchvision;
pub mod train;
pub mod transform;
pub mod voc;

pub use dataset::*;
pub use evaluate::{Evaluation, evaluate};
pub use options::{DetectionOptions, Preset};
pub use predict::Predictor;
pub use report::write_report;
pub use results::Results;
pub use train::{DetectionRecipe, TrainConfig, TrainReport, train};
