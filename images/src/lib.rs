//! Reading and writing images: files decoded by OpenCV, resized as PIL does it, and drawn figures.
//!
//! [`size`] reads a file's first bytes; [`decode`] reads a file into an [`Image`](resample::Image),
//! turned upright by [`orientation`] where that is asked for; [`folder`] lists the images of a folder;
//! [`resample`] resizes and crops; [`picture`]
//! draws and writes; [`thumbnail`] reads what was drawn for a page.
//!
//! ```
//! use camtrast_images::decode::{Fit, load};
//! use camtrast_images::thumbnail::jpeg;
//! use camtrast_images::resample::{Image, centre_crop, resize};
//!
//! let grey = Image { height: 40, width: 60, pixels: vec![128; 40 * 60 * 3] };
//! let folder = tempfile::tempdir().unwrap();
//! let path = folder.path().join("grey.jpg");
//! std::fs::write(&path, jpeg(&grey, 95)?).unwrap();
//!
//! // torchvision's Resize(20) and CenterCrop(16), at once or step by step.
//! let pixels = load(&path, Fit::ResizeCrop { resize: 20, crop: 16 })?; // RGB [16, 16, 3]
//! assert_eq!(pixels, centre_crop(&resize(grey, 20, 30), 16).pixels);
//! # Ok::<(), camtrast_common::Error>(())
//! ```

pub mod decode;
pub mod folder;
pub mod orientation;
pub mod picture;
pub mod resample;
pub mod size;
#[doc(hidden)]
pub mod testing;
pub mod thumbnail;
