//! Label PNGs: one index per pixel, grey or with a palette (whose colours are ignored).
//!
//! OpenCV turns palettes into colours, so these are read and written by the `png` crate.

use crate::label_png;
use camtrast_common::files::write_atomically;
use camtrast_common::{Error, Result};
use png::{BitDepth, ColorType, Decoder, Encoder, Transformations};
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;

/// Indices of an image, [height, width].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelImage {
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// `height * width` values.
    pub pixels: Vec<u8>,
}

impl LabelImage {
    /// Reads a label PNG.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be opened, [`Error::File`] when it is not a complete PNG or has colours,
    /// alpha or 16 bits.
    pub fn read(path: &Path) -> Result<Self> {
        let mut image = LabelImage::default();
        image.reread(path)?;
        Ok(image)
    }

    /// Reads a label PNG into this image's memory, which takes less time than new memory.
    ///
    /// # Errors
    /// As [`LabelImage::read`]; the image is then undefined.
    pub fn reread(&mut self, path: &Path) -> Result<()> {
        let file = std::fs::read(path).map_err(Error::io(path, "read"))?;
        let Some((width, height, depth)) = label_png::decode(&file, &mut self.pixels) else {
            *self = Self::read_any(path)?;
            return Ok(());
        };
        (self.width, self.height) = (width, height);
        if depth < 8 {
            self.pixels = unpack(&self.pixels, width, (width * depth).div_ceil(8), depth);
        }
        Ok(())
    }

    // Every other PNG, or the reason why it cannot be read.
    fn read_any(path: &Path) -> Result<Self> {
        let mut reader = open(path)?;
        let size = reader
            .output_buffer_size()
            .ok_or_else(|| damaged(path, "its size is impossible"))?;
        let mut bytes = vec![0; size];
        let frame = reader.next_frame(&mut bytes).map_err(|e| damaged(path, e))?;
        // The end of the file holds the checksums.
        reader.finish().map_err(|e| damaged(path, e))?;
        bytes.truncate(frame.buffer_size());
        let (height, width) = (frame.height as usize, frame.width as usize);
        let pixels = match frame.bit_depth {
            BitDepth::Eight => bytes,
            depth => unpack(&bytes, width, frame.line_size, depth as usize),
        };
        Ok(LabelImage {
            height,
            width,
            pixels,
        })
    }

    /// Height and width of a label PNG, from its header alone.
    ///
    /// # Errors
    /// As [`LabelImage::read`].
    pub fn size(path: &Path) -> Result<(usize, usize)> {
        let info = open(path)?;
        let (width, height) = info.info().size();
        Ok((height as usize, width as usize))
    }

    /// Writes an 8-bit grey PNG, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<()> {
        write_atomically(path, |out| {
            let mut encoder = Encoder::new(BufWriter::new(out), self.width as u32, self.height as u32);
            encoder.set_color(ColorType::Grayscale);
            encoder.set_depth(BitDepth::Eight);
            encoder.set_compression(png::Compression::Fast);
            let mut writer = encoder.write_header()?;
            writer.write_image_data(&self.pixels)?;
            Ok(writer.finish()?)
        })
    }
}

fn open(path: &Path) -> Result<png::Reader<BufReader<File>>> {
    let file = File::open(path).map_err(Error::io(path, "read"))?;
    let mut decoder = Decoder::new(BufReader::with_capacity(1 << 16, file));
    decoder.set_transformations(Transformations::IDENTITY);
    let reader = decoder.read_info().map_err(|e| damaged(path, e))?;
    let remedy = "give label images with one class id per pixel (8-bit grey, or a palette of ids)";
    let problem = match (reader.info().color_type, reader.info().bit_depth) {
        (ColorType::Rgb | ColorType::Rgba, _) => "is a colour image, not class ids",
        (ColorType::GrayscaleAlpha, _) => "has an alpha channel",
        (_, BitDepth::Sixteen) => "has 16 bits per pixel (instance ids?), not class ids",
        _ => return held_by_file(path, reader),
    };
    Err(Error::file(path, problem, remedy))
}

// Memory is allocated by the header's size, so it is checked first: deflate shrinks data by at most a factor
// of 1032.
fn held_by_file(path: &Path, reader: png::Reader<BufReader<File>>) -> Result<png::Reader<BufReader<File>>> {
    let length = std::fs::metadata(path).map_err(Error::io(path, "read"))?.len();
    let (width, height) = reader.info().size();
    if reader
        .output_buffer_size()
        .is_none_or(|size| size as u64 / 1032 > length)
    {
        let problem = format!("says it has {width} x {height} pixels, but the file is too short for them");
        return Err(Error::file(path, problem, "copy or make it again"));
    }
    Ok(reader)
}

fn damaged(path: &Path, reason: impl std::fmt::Display) -> Error {
    Error::file(
        path,
        format!("is not a complete PNG ({reason})"),
        "copy or make it again",
    )
}

// 1, 2 or 4 bits a pixel, the leftmost pixel in the highest bits; every row starts at a new byte.
fn unpack(bytes: &[u8], width: usize, line_size: usize, depth: usize) -> Vec<u8> {
    let (per_byte, mask) = (8 / depth, (1u8 << depth) - 1);
    let line = |line: &[u8]| -> Vec<u8> {
        (0..width)
            .map(|x| line[x / per_byte] >> (8 - depth * (x % per_byte + 1)) & mask)
            .collect()
    };
    bytes.chunks_exact(line_size).flat_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(colour: ColorType, depth: BitDepth, data: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("label.png");
        let mut encoder = Encoder::new(File::create(&path).unwrap(), 5, 2);
        encoder.set_color(colour);
        encoder.set_depth(depth);
        if colour == ColorType::Indexed {
            encoder.set_palette((0..48).rev().collect::<Vec<u8>>());
        }
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        (folder, path)
    }

    #[test]
    fn palettes_and_few_bits_are_indices() {
        let (_folder, path) = encoded(
            ColorType::Indexed,
            BitDepth::Four,
            &[0x01, 0x23, 0x40, 0x56, 0x78, 0x90],
        );
        let image = LabelImage::read(&path).unwrap();
        assert_eq!(
            image,
            LabelImage {
                height: 2,
                width: 5,
                pixels: (0..10).collect()
            }
        );
        let (_folder, path) = encoded(ColorType::Grayscale, BitDepth::One, &[0b1010_1000, 0b0101_0000]);
        assert_eq!(
            LabelImage::read(&path).unwrap().pixels,
            [1, 0, 1, 0, 1, 0, 1, 0, 1, 0]
        );
        assert_eq!(LabelImage::size(&path).unwrap(), (2, 5));
    }

    #[test]
    fn written_is_read_and_damage_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let image = LabelImage {
            height: 3,
            width: 200,
            pixels: (0..600).map(|i| (i * 7 % 34) as u8).collect(),
        };
        image.write(&path).unwrap();
        assert_eq!(LabelImage::read(&path).unwrap(), image);
        let bytes = std::fs::read(&path).unwrap();
        for length in [0, 20, bytes.len() / 2, bytes.len() - 14] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(
                LabelImage::read(&path)
                    .unwrap_err()
                    .to_string()
                    .contains("is not a complete PNG"),
                "{length}"
            );
        }
    }

    /// Every filter and depth, runs and noise: what the fast reader takes, it reads as the `png` crate does.
    #[test]
    fn both_readers_agree_on_every_filter() {
        use png::Filter::{Adaptive, Avg, NoFilter, Paeth, Sub, Up};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("label.png");
        for (depth, bits, width) in [
            (BitDepth::Eight, 8, 203),
            (BitDepth::Two, 2, 77),
            (BitDepth::One, 1, 64),
        ] {
            for filter in [NoFilter, Sub, Up, Avg, Paeth, Adaptive] {
                let (line, height) = (usize::div_ceil(width * bits, 8), 1500);
                let byte = |i: usize| match (i % line, i / line) {
                    (x, y) if (x / 20 + y / 30) % 5 == 0 => ((i * i * 31) >> 3) as u8,
                    (x, y) => ((x + y / 7) / 40 * 37) as u8,
                };
                let data: Vec<u8> = (0..line * height).map(byte).collect();
                let mut encoder = Encoder::new(File::create(&path).unwrap(), width as u32, height as u32);
                encoder.set_depth(depth);
                encoder.set_filter(filter);
                encoder.write_header().unwrap().write_image_data(&data).unwrap();
                let file = std::fs::read(&path).unwrap();
                let mut rows = vec![7; 5];
                let header = label_png::decode(&file, &mut rows);
                assert_eq!(header, Some((width, height, bits)), "{filter:?} {bits}");
                assert!(rows == data, "{filter:?} {bits}");
                assert_eq!(
                    LabelImage::read(&path).unwrap(),
                    LabelImage::read_any(&path).unwrap()
                );
                for at in [20, 70, file.len() / 2, file.len() - 20] {
                    let mut damaged = file.clone();
                    damaged[at] ^= 4;
                    assert_eq!(label_png::decode(&damaged, &mut rows), None, "{filter:?} {at}");
                }
            }
        }
    }

    #[test]
    fn sizes_that_the_file_cannot_hold_cost_no_memory() {
        let (_folder, path) = encoded(ColorType::Grayscale, BitDepth::Eight, &[0; 10]);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[16..24].copy_from_slice(&[0, 4, 0, 0, 0, 16, 0, 0]); // 2^18 x 2^20 pixels
        let crc = crc32fast::hash(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&crc.to_be_bytes());
        std::fs::write(&path, bytes).unwrap();
        for refused in [
            LabelImage::read(&path).map(drop),
            LabelImage::size(&path).map(drop),
        ] {
            let error = refused.unwrap_err().to_string();
            assert!(
                error.contains("says it has 262144 x 1048576 pixels, but the file is too short for them"),
                "{error}"
            );
        }
    }

    #[test]
    fn colours_alpha_and_16_bits_are_refused() {
        for (colour, depth, length, problem) in [
            (ColorType::Rgb, BitDepth::Eight, 30, "colour image"),
            (ColorType::GrayscaleAlpha, BitDepth::Eight, 20, "alpha"),
            (ColorType::Grayscale, BitDepth::Sixteen, 20, "16 bits"),
        ] {
            let (_folder, path) = encoded(colour, depth, &vec![0; length]);
            let error = LabelImage::size(&path).unwrap_err().to_string();
            assert!(error.contains(problem) && error.contains("label.png"), "{error}");
        }
    }
}
