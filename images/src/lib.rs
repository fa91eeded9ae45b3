//! Reading and writing images: files decoded by OpenCV, resized as PIL does it, and drawn figures.

pub mod decode;
pub mod orientation;
pub mod picture;
pub mod resample;
#[doc(hidden)]
pub mod testing;
