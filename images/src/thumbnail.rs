//! Pictures for a page: PNG in, JPEG out. OpenCV would do both, but takes longer to load than a page to
//! write.

use crate::resample::Image;
use camtrast_common::error::{Error, Result};
use jpeg_encoder::{ColorType as JpegColour, Encoder, SamplingFactor};
use png::{ColorType, Decoder, Transformations};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// Reads a PNG as RGB: grey becomes RGB, alpha is dropped, of 16 bits the upper 8 are kept.
///
/// # Errors
/// [`Error::Io`] when it cannot be opened, [`Error::File`] when it is not a whole PNG.
pub fn read_png(path: &Path) -> Result<Image> {
    let file = File::open(path).map_err(Error::io(path, "read"))?;
    let problem = |reason| Error::file(path, format!("is not a whole PNG ({reason})"), "make it again");
    let mut decoder = Decoder::new(BufReader::new(file));
    decoder.set_transformations(Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|e| problem(e.to_string()))?;
    let size = reader
        .output_buffer_size()
        .ok_or_else(|| problem("too large".into()))?;
    let mut bytes = vec![0; size];
    let frame = reader
        .next_frame(&mut bytes)
        .map_err(|e| problem(e.to_string()))?;
    bytes.truncate(frame.buffer_size());
    let pixels = match frame.color_type {
        ColorType::Grayscale => bytes.iter().flat_map(|&grey| [grey; 3]).collect(),
        ColorType::GrayscaleAlpha => bytes
            .as_chunks()
            .0
            .iter()
            .flat_map(|&[grey, _]| [grey; 3])
            .collect(),
        ColorType::Rgba => bytes
            .as_chunks()
            .0
            .iter()
            .flat_map(|&[r, g, b, _]| [r, g, b])
            .collect(),
        ColorType::Rgb | ColorType::Indexed => bytes,
    };
    Ok(Image {
        height: frame.height as usize,
        width: frame.width as usize,
        pixels,
    })
}

/// An image as a JPEG file, colours at half the resolution; quality 1 to 100.
///
/// # Errors
/// [`Error::Settings`] for sides of 0 or above 65535 pixels.
pub fn jpeg(image: &Image, quality: u8) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, quality);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    let sides = [image.width, image.height].map(|side| u16::try_from(side).unwrap_or(0));
    encoder
        .encode(&image.pixels, sides[0], sides[1], JpegColour::Rgb)
        .map_err(|reason| {
            let problem = format!(
                "{} x {} pixels cannot be a JPEG: {reason}",
                image.width, image.height
            );
            Error::settings(problem, "make a smaller picture")
        })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode;
    use crate::testing::{alpha, encoded, grey16};

    #[test]
    fn a_png_is_read_as_opencv_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        for bytes in [encoded(".png", 21, 30, 5), alpha()] {
            std::fs::write(&path, &bytes).unwrap();
            let (ours, theirs) = (read_png(&path).unwrap(), decode::read(&path).unwrap());
            assert_eq!((ours.height, ours.width), (theirs.height, theirs.width));
            assert!(ours.pixels == theirs.pixels);
            std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
            assert!(
                read_png(&path)
                    .unwrap_err()
                    .to_string()
                    .contains("is not a whole PNG")
            );
        }
        std::fs::write(&path, grey16()).unwrap();
        assert_eq!(read_png(&path).unwrap().pixels, [128; 20 * 30 * 3]);
    }

    #[test]
    fn a_jpeg_is_close_to_its_image() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        std::fs::write(&path, encoded(".png", 37, 50, 3)).unwrap();
        let image = read_png(&path).unwrap();
        std::fs::write(&path, jpeg(&image, 90).unwrap()).unwrap();
        let read = decode::read(&path).unwrap();
        assert_eq!((read.height, read.width), (37, 50));
        let apart = read
            .pixels
            .iter()
            .zip(&image.pixels)
            .map(|(a, b)| a.abs_diff(*b))
            .max();
        assert!(apart < Some(12), "{apart:?}");
        let empty = Image {
            height: 0,
            width: 3,
            pixels: Vec::new(),
        };
        assert!(jpeg(&empty, 90).is_err());
    }
}
