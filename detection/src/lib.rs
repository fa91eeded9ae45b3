//! Object detection: Faster R-CNN fine-tuned end to end from a pretrained backbone.

mod dataset;

pub use dataset::*;
