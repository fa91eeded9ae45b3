//! The EXIF orientation tag: cameras store what their sensor saw and note how it is to be turned.

use crate::resample::Image;
use exif::{In, Reader, Tag};
use std::io::{BufRead, Seek};

/// How a stored image is turned or mirrored to stand upright.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orientation {
    /// The tag's value, 1 to 8.
    tag: u32,
    /// Whether the decoder applies it: both PIL and OpenCV do for TIFF.
    by_decoder: bool,
}

/// The orientation of an image file; upright as stored when it has no such tag, or one that cannot be read.
pub fn orientation(file: impl BufRead + Seek) -> Orientation {
    let mut file = file;
    let by_decoder = file
        .fill_buf()
        .is_ok_and(|head| head.starts_with(b"II") || head.starts_with(b"MM"));
    let exif = Reader::new().read_from_container(&mut file).ok();
    let tag = exif.and_then(|exif| exif.get_field(Tag::Orientation, In::PRIMARY)?.value.get_uint(0));
    Orientation {
        tag: tag.filter(|value| (1..=8).contains(value)).unwrap_or(1),
        by_decoder,
    }
}

impl Orientation {
    /// Width and height of the upright image, from those of the stored one.
    pub fn upright(self, (width, height): (usize, usize)) -> (usize, usize) {
        if self.tag >= 5 {
            (height, width)
        } else {
            (width, height)
        }
    }

    /// Width and height of the decoded image, from those in the file's header.
    pub fn decoded(self, header: (usize, usize)) -> (usize, usize) {
        if self.by_decoder {
            self.upright(header)
        } else {
            header
        }
    }

    /// The upright image, from the decoded one.
    pub(crate) fn apply(self, stored: Image) -> Image {
        if self.tag == 1 || self.by_decoder {
            return stored;
        }
        let (w, h) = (stored.width, stored.height);
        let (width, height) = self.upright((w, h));
        let mut pixels = Vec::with_capacity(stored.pixels.len());
        for y in 0..height {
            for x in 0..width {
                // Row and column of the stored pixel.
                let (row, column) = match self.tag {
                    2 => (y, w - 1 - x),
                    3 => (h - 1 - y, w - 1 - x),
                    4 => (h - 1 - y, x),
                    5 => (x, y),
                    6 => (h - 1 - x, y),
                    7 => (h - 1 - x, w - 1 - y),
                    _ => (x, w - 1 - y),
                };
                pixels.extend_from_slice(&stored.pixels[(row * w + column) * 3..][..3]);
            }
        }
        Image {
            height,
            width,
            pixels,
        }
    }
}
