//! One image file -> RGB pixels of the wanted size.
//!
//! The pixels are those that PIL and torchvision give: OpenCV's JPEG decoder agrees with PIL's to the bit,
//! and [`resample`](super::resample) resizes as PIL does. Alpha is dropped and grey becomes RGB. Of 16-bit
//! values the upper 8 bits are kept, but grey values above 255 become 255, as in PIL. The orientation tag of
//! cameras is ignored by [`read`], as PIL and torchvision's data sets do, and obeyed by [`read_upright`], as
//! detectron2, mmdetection and mmsegmentation do.

use crate::orientation::orientation;
use crate::resample::{Image, centre_crop, resize};
use camtrast_common::error::{Error, Result};
use opencv::core::{CV_8U, CV_16U, Mat, MatTraitConst, MatTraitConstManual, Vec3w};
use opencv::imgcodecs;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

/// File name extensions (lower case) that count as images.
pub const EXTENSIONS: [&str; 10] = [
    "jpg", "jpeg", "jpe", "png", "bmp", "webp", "tif", "tiff", "ppm", "pgm",
];

/// How an image is resized to S x S pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Plain resize to S x S, aspect ratio not kept.
    Stretch {
        /// S in pixels.
        size: usize,
    },
    /// Resize the shorter side, then crop the centre: torchvision's `Resize(resize)` and `CenterCrop(crop)`.
    ResizeCrop {
        /// Length of the shorter side in pixels, at least `crop`.
        resize: usize,
        /// S in pixels.
        crop: usize,
    },
}

impl Fit {
    /// S: height and width of the result in pixels.
    pub fn size(self) -> usize {
        match self {
            Fit::Stretch { size } => size,
            Fit::ResizeCrop { crop, .. } => crop,
        }
    }
}

/// Whether the extension is that of an image.
pub fn is_image(path: &Path) -> bool {
    let extension = path
        .extension()
        .and_then(|e| e.to_str())
        .map(str::to_ascii_lowercase);
    extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str()))
}

/// Reads, decodes and resizes one image: RGB, [S, S, 3].
///
/// # Errors
/// As [`read`].
pub fn load(path: &Path, fit: Fit) -> Result<Vec<u8>> {
    Ok(fit_image(read(path)?, fit).pixels)
}

/// Reads and decodes one image at its own size, RGB.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read, [`Error::File`] when it is empty, cut off or not an image.
pub fn read(path: &Path) -> Result<Image> {
    let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
    decode(path, &bytes)
}

/// As [`read`], turned or mirrored as the camera's orientation tag says, as PIL's `exif_transpose` does it.
/// `size`, width and height in pixels, is what the image was annotated at: an image whose size matches only
/// as stored was annotated as stored, and is not turned.
///
/// # Errors
/// As [`read`].
pub fn read_upright(path: &Path, size: (usize, usize)) -> Result<Image> {
    let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
    let image = decode(path, &bytes)?;
    let orientation = orientation(Cursor::new(&bytes));
    let stored = (image.width, image.height);
    let stays = stored == size && orientation.upright(stored) != size;
    Ok(if stays { image } else { orientation.apply(image) })
}

fn decode(path: &Path, bytes: &[u8]) -> Result<Image> {
    check_whole(path, bytes)?;
    let image = pixels(bytes).ok().flatten();
    image.ok_or_else(|| Error::file(path, "is not an image that can be decoded", REMEDY))
}

fn pixels(bytes: &[u8]) -> opencv::Result<Option<Image>> {
    let bytes = Mat::from_slice(bytes)?;
    let colour = imgcodecs::IMREAD_COLOR | imgcodecs::IMREAD_IGNORE_ORIENTATION;
    let mut image = imgcodecs::imdecode(&bytes, colour | imgcodecs::IMREAD_ANYDEPTH)?;
    let mut pixels = match image.depth() {
        _ if image.empty() => return Ok(None),
        CV_16U => {
            let grey = imgcodecs::imdecode(&bytes, imgcodecs::IMREAD_UNCHANGED)?.channels() == 1;
            let eight = |&value: &u16| {
                if grey {
                    value.min(255) as u8
                } else {
                    (value >> 8) as u8
                }
            };
            image
                .data_typed::<Vec3w>()?
                .iter()
                .flat_map(|pixel| pixel.0.each_ref().map(eight))
                .collect()
        }
        CV_8U => image.data_bytes()?.to_vec(),
        _ => {
            image = imgcodecs::imdecode(&bytes, colour)?;
            image.data_bytes()?.to_vec()
        }
    };
    // OpenCV decodes to BGR.
    pixels.chunks_exact_mut(3).for_each(|pixel| pixel.swap(0, 2));
    Ok(Some(Image {
        height: image.rows() as usize,
        width: image.cols() as usize,
        pixels,
    }))
}

/// Reads an image file and checks, without decoding it, that it is complete.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read, [`Error::File`] when it is empty or cut off.
pub fn check(path: &Path) -> Result<()> {
    check_whole(path, &std::fs::read(path).map_err(Error::io(path, "read"))?)
}

/// Whether the first bytes are those of an image that OpenCV can decode: a very cheap check.
pub fn begins_like_an_image(path: &Path) -> bool {
    let mut head = [0; 8];
    let length = File::open(path)
        .and_then(|mut file| file.read(&mut head))
        .unwrap_or(0);
    let head = &head[..length];
    const MAGICS: [&[u8]; 6] = [
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"BM",
        b"RIFF",
        b"II*\0",
        b"MM\0*",
    ];
    MAGICS.iter().any(|magic| head.starts_with(magic)) || matches!(head, [b'P', b'1'..=b'6', ..])
}

/// Resizes an image to S x S pixels.
pub fn fit_image(image: Image, fit: Fit) -> Image {
    let Fit::ResizeCrop { resize: short, crop } = fit else {
        return resize(image, fit.size(), fit.size());
    };
    let (h, w) = (image.height, image.width);
    let long = |side: usize| short * side / h.min(w);
    let (h, w) = if h <= w {
        (short, long(w))
    } else {
        (long(h), short)
    };
    centre_crop(&resize(image, h, w), crop)
}

const REMEDY: &str = "replace it, or skip such files with --skip-bad";

/// OpenCV decodes a cut-off JPEG or PNG to a half-grey image without an error, so the end marker is checked
/// here.
fn check_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let whole = match bytes {
        [] => return Err(Error::file(path, "is empty", REMEDY)),
        [0xff, 0xd8, ..] => jpeg_is_whole(bytes),
        [0x89, b'P', b'N', b'G', ..] => png_is_whole(bytes),
        _ => true,
    };
    if whole {
        Ok(())
    } else {
        Err(Error::file(path, "is cut off before its end", REMEDY))
    }
}

// Walks the segments: the first end marker in the file may belong to an embedded thumbnail.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[0xff, marker]) = bytes.get(at..at + 2) {
        match marker {
            0xd9 => return true,
            0xff => at += 1, // fill byte
            0x01 | 0xd0..=0xd8 => at += 2,
            _ => {
                let Some(&[high, low]) = bytes.get(at + 2..at + 4) else {
                    return false;
                };
                at += 2 + usize::from(u16::from_be_bytes([high, low]));
                if marker == 0xda {
                    at += entropy_coded_length(bytes.get(at..).unwrap_or_default());
                }
            }
        }
    }
    false
}

// Bytes up to the next marker; stuffed zeros and restart markers belong to the data.
fn entropy_coded_length(bytes: &[u8]) -> usize {
    let is_marker = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0x00 | 0xd0..=0xd7);
    bytes.windows(2).position(is_marker).unwrap_or(bytes.len())
}

fn png_is_whole(bytes: &[u8]) -> bool {
    let mut at = 8;
    while let Some(head) = bytes.get(at..at + 8) {
        if &head[4..] == b"IEND" {
            return bytes.len() >= at + 12;
        }
        at += 12 + u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::encoded;

    fn whole(bytes: &[u8]) -> bool {
        check_whole(Path::new("x"), bytes).is_ok()
    }

    #[test]
    fn every_cut_is_seen_and_trailing_bytes_are_not_one() {
        for extension in [".jpg", ".png"] {
            let bytes = encoded(extension, 20, 30, 1);
            assert!(
                (0..bytes.len()).all(|length| !whole(&bytes[..length]) || length < 4),
                "{extension}"
            );
            assert!(whole(&[&bytes[..], b"more"].concat()), "{extension}");
        }
    }

    #[test]
    fn end_of_a_thumbnail_is_not_the_end_of_the_photo() {
        let (photo, thumbnail) = (encoded(".jpg", 64, 64, 1), encoded(".jpg", 8, 8, 2));
        let length = (thumbnail.len() + 2) as u16;
        let segment = [&[0xff, 0xe1][..], &length.to_be_bytes(), &thumbnail].concat();
        let bytes = [&photo[..2], &segment, &photo[2..]].concat();
        assert!(whole(&bytes));
        assert!(!whole(&bytes[..bytes.len() - 50]));
    }
}
