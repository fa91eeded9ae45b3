//! Object detection: Faster R-CNN fine-tuned end to end from a pretrained backbone.

pub mod coco;
pub mod curves;
mod dataset;
pub mod draw;
pub mod evaluate;
#[cfg(test)]
mod fixtures;
mod image_file;
pub mod model;
mod problems;
pub mod results;
pub mod torchvision;
pub mod voc;

pub use dataset::*;
pub use evaluate::{Evaluation, evaluate};
pub use results::Results;
