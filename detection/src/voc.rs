//! The layout of PASCAL VOC: `VOCdevkit/VOC2007/{ImageSets/Main/<split>.txt, Annotations/<id>.xml,
//! JPEGImages/<id>.jpg}`. Here, and only here, VOC's 1-based boxes with both ends inside become 0-based
//! half-open ones: `[xmin - 1, ymin - 1, xmax, ymax]`. Fractions, which some annotations have, are kept.

mod annotation;
mod overview;
mod read;
mod split;

#[cfg(test)]
mod tests;

pub use overview::{SplitOverview, overview};
pub use read::{VocOptions, read};
pub use split::VocSplit;

/// PASCAL VOC's classes, in its order.
#[rustfmt::skip]
pub const CLASSES: [&str; 20] = [
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
];
