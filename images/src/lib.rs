//! Images in and out: files decoded by OpenCV, resized as PIL does it, and pictures drawn for people.

pub mod decode;
pub mod orientation;
pub mod picture;
pub mod resample;
#[doc(hidden)]
pub mod testing;
