//! Faster R-CNN, from the bottom up: [`boxes`], [`anchors`], [`matcher`], [`nms`] and [`roi_align`] are
//! arithmetic; [`rpn`] and [`heads`] are the two stages, [`fpn`] the pyramid; [`FasterRcnn`] puts them
//! together.

pub mod anchors;
pub mod boxes;
mod config;
mod faster_rcnn;
pub mod fpn;
pub mod heads;
pub mod matcher;
pub mod nms;
pub mod roi_align;
pub mod rpn;

pub use config::*;
pub use faster_rcnn::*;
