//! Object detection: Faster R-CNN fine-tuned end to end from a pretrained backbone.
//!
//! Data: [`voc`] and [`coco`] read a [`Dataset`]. Network: [`model`]. Fine-tuning: [`DetectionTask`] is the
//! task that [`camtrast_finetune`] trains, fed by `source`. Evaluation: [`Predictor`] and [`results`]
//! (anybody's detections) give [`Results`], [`mod@evaluate`] computes the figures that are called AP.
//!
//! ```
//! use camtrast_detection::results::Detection;
//! use camtrast_detection::{Annotated, Dataset, Object, Results, evaluate};
//!
//! // One image with one dog in it, found by one detection that covers 90 % of it.
//! let bbox = [10.0, 10.0, 50.0, 60.0]; // x1, y1, x2, y2, half-open, in pixels
//! let dog = Object { class: 0, bbox, difficult: false, area: None };
//! let image = Annotated {
//!     id: "000001".into(),
//!     image: "000001.jpg".into(),
//!     width: 100,
//!     height: 80,
//!     objects: vec![dog],
//! };
//! let dataset = Dataset {
//!     classes: vec!["dog".into()],
//!     category_ids: vec![1],
//!     images: vec![image],
//!     ..Dataset::default()
//! };
//! let found = Detection { image: 0, class: 0, score: 0.8, bbox: [10.0, 10.0, 50.0, 55.0] };
//! let results = Results { found: vec![found], ..Results::default() };
//!
//! let evaluation = evaluate(&dataset, &results)?;
//! assert!((evaluation.metrics()["detection/AP50"] - 1.0).abs() < 1e-9);
//! // Nine of the ten thresholds from .50 to .95 are met.
//! assert!((evaluation.mean.ap - 0.9).abs() < 1e-9);
//! # Ok::<(), camtrast_common::Error>(())
//! ```

pub mod coco;
pub mod curves;
pub mod data;
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
pub mod photos;
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
pub use train::{DetectionSettings, DetectionTask};
