//! The size of an image file, without decoding it.

use crate::decode;
use crate::orientation::orientation;
use camtrast_common::error::{Error, Result};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// Width and height of an image in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Size of the image turned as the camera's orientation tag says.
    pub upright: (usize, usize),
    /// Size of the image as stored.
    pub stored: (usize, usize),
}

impl Size {
    /// The size that an annotation refers to, to be given to [`decode::read_upright`]: the first that `fits`;
    /// `None` when neither does.
    pub fn annotated(self, fits: impl Fn((usize, usize)) -> bool) -> Option<(usize, usize)> {
        [self.upright, self.stored].into_iter().find(|&size| fits(size))
    }
}

/// The size of an image, from the file's first bytes; with `whole`, the end of the file is checked too.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read, [`Error::File`] when it is not an image.
pub fn size(path: &Path, whole: bool) -> Result<Size> {
    let header = match imagesize::size(path) {
        Ok(size) if size.width > 0 && size.height > 0 => (size.width, size.height),
        Err(imagesize::ImageError::IoError(error)) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
            return Err(Error::io(path, "read")(error));
        }
        _ => {
            let remedy = "replace it, or skip such images with --skip-bad";
            return Err(Error::file(path, "is empty, cut off or not an image", remedy));
        }
    };
    if whole {
        decode::check(path)?;
    }
    let file = File::open(path).map_err(Error::io(path, "read"))?;
    let orientation = orientation(BufReader::new(file));
    Ok(Size {
        upright: orientation.upright(header),
        stored: orientation.decoded(header),
    })
}
