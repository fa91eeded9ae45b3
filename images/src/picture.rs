//! Figures: images side by side, heat maps over them, and text.

use crate::resample::Image;
use camtrast_common::error::{Error, Result};
use camtrast_common::files::write_atomically;
use opencv::core::{
    CV_8UC3, Mat, MatTraitConst, Point, ROTATE_90_COUNTERCLOCKWISE, Rect, Scalar, Vector, rotate,
};
use opencv::prelude::*;
use opencv::{imgcodecs, imgproc};
use std::path::Path;

/// Red, green, blue in 0..=255.
pub type Rgb = [u8; 3];

const FONT: i32 = imgproc::FONT_HERSHEY_SIMPLEX;

/// A drawing on white; x to the right, y down, in pixels.
pub struct Canvas(Mat);

impl Canvas {
    /// An empty canvas.
    ///
    /// # Errors
    /// [`Error::Settings`] when OpenCV cannot make it, as here and below.
    pub fn new(width: usize, height: usize) -> Result<Self> {
        let white = Scalar::all(255.0);
        Mat::new_rows_cols_with_default(height as i32, width as i32, CV_8UC3, white)
            .map(Canvas)
            .map_err(refused)
    }

    /// Draws an image with its upper left corner at (x, y); it must fit.
    ///
    /// # Errors
    /// As [`Canvas::new`].
    pub fn paste(&mut self, image: &Image, x: usize, y: usize) -> Result<()> {
        let place = Rect::new(x as i32, y as i32, image.width as i32, image.height as i32);
        let bgr: Vec<u8> = image
            .pixels
            .chunks_exact(3)
            .flat_map(|p| [p[2], p[1], p[0]])
            .collect();
        let mut run = || {
            let source = Mat::new_rows_cols_with_bytes::<u8>(place.height, place.width * 3, &bgr)?;
            let source = source.reshape(3, place.height)?;
            let mut target = Mat::roi_mut(&mut self.0, place)?;
            source.copy_to(&mut target)
        };
        run().map_err(refused)
    }

    /// Writes a line of text that starts at (x, baseline) and is shrunk to at most `width`.
    ///
    /// # Errors
    /// As [`Canvas::new`].
    pub fn text(&mut self, text: &str, x: usize, baseline: usize, width: usize) -> Result<()> {
        let natural = Canvas::words_width(text, 0.5)?.max(1);
        let scale = 0.5 * (width as f64 / f64::from(natural)).min(1.0);
        self.words(text, x as i32, baseline as i32, scale, [40; 3])
    }

    /// Writes a line of text of OpenCV's `scale` that starts at (x, baseline). Letters beyond ASCII become
    /// `?`.
    ///
    /// # Errors
    /// As [`Canvas::new`].
    pub fn words(&mut self, text: &str, x: i32, baseline: i32, scale: f64, ink: Rgb) -> Result<()> {
        let (text, at) = (printable(text), Point::new(x, baseline));
        imgproc::put_text(
            &mut self.0,
            &text,
            at,
            FONT,
            scale,
            scalar(ink),
            1,
            imgproc::LINE_AA,
            false,
        )
        .map_err(refused)
    }

    /// As [`Canvas::words`], turned to read upwards from (baseline, bottom).
    ///
    /// # Errors
    /// As [`Canvas::new`], and when it does not fit.
    pub fn upward_words(
        &mut self,
        text: &str,
        baseline: i32,
        bottom: i32,
        scale: f64,
        ink: Rgb,
    ) -> Result<()> {
        let (width, above, below) = (
            Canvas::words_width(text, scale)? + 2,
            (24.0 * scale) as i32,
            (10.0 * scale) as i32,
        );
        let mut level = Canvas::new(width as usize, (above + below) as usize)?;
        level.words(text, 0, above, scale, ink)?;
        let mut run = || {
            let mut upright = Mat::default();
            rotate(&level.0, &mut upright, ROTATE_90_COUNTERCLOCKWISE)?;
            let place = Rect::new(baseline - above, bottom - width, above + below, width);
            let mut target = Mat::roi_mut(&mut self.0, place)?;
            upright.copy_to(&mut target)
        };
        run().map_err(refused)
    }

    /// Width in pixels of a text drawn by [`Canvas::words`].
    ///
    /// # Errors
    /// As [`Canvas::new`].
    pub fn words_width(text: &str, scale: f64) -> Result<i32> {
        Ok(imgproc::get_text_size(&printable(text), FONT, scale, 1, &mut 0)
            .map_err(refused)?
            .width)
    }

    /// Fills a rectangle [x1, y1, x2, y2], the last pixels included.
    ///
    /// # Errors
    /// As [`Canvas::new`].
    pub fn fill(&mut self, [x1, y1, x2, y2]: [i32; 4], colour: Rgb) -> Result<()> {
        let area = Rect::new(x1, y1, x2 - x1 + 1, y2 - y1 + 1);
        imgproc::rectangle(
            &mut self.0,
            area,
            scalar(colour),
            imgproc::FILLED,
            imgproc::LINE_8,
            0,
        )
        .map_err(refused)
    }

    /// Draws the border of a rectangle, two pixels wide.
    ///
    /// # Errors
    /// As [`Canvas::new`].
    pub fn frame(&mut self, [x1, y1, x2, y2]: [i32; 4], colour: Rgb) -> Result<()> {
        let area = Rect::new(x1, y1, x2 - x1 + 1, y2 - y1 + 1);
        imgproc::rectangle(&mut self.0, area, scalar(colour), 2, imgproc::LINE_8, 0).map_err(refused)
    }

    /// Draws a line through the points, smooth at the edges.
    ///
    /// # Errors
    /// As [`Canvas::new`].
    pub fn path(&mut self, points: &[(f64, f64)], colour: Rgb, thickness: i32) -> Result<()> {
        // OpenCV takes sixteenths of a pixel.
        let fixed = |&(x, y): &(f64, f64)| Point::new((x * 16.0).round() as i32, (y * 16.0).round() as i32);
        let lines: Vector<Vector<Point>> =
            Vector::from_iter([points.iter().map(fixed).collect::<Vector<Point>>()]);
        imgproc::polylines(
            &mut self.0,
            &lines,
            false,
            scalar(colour),
            thickness,
            imgproc::LINE_AA,
            4,
        )
        .map_err(refused)
    }

    /// Width and height.
    pub fn size(&self) -> (i32, i32) {
        (self.0.cols(), self.0.rows())
    }

    /// The same as numbers of pixels.
    pub fn pixels(&self) -> (u64, u64) {
        let (width, height) = self.size();
        (width as u64, height as u64)
    }

    /// The content of a PNG file.
    ///
    /// # Errors
    /// As [`Canvas::new`].
    pub fn png(&self) -> Result<Vec<u8>> {
        let mut bytes = Vector::new();
        imgcodecs::imencode(".png", &self.0, &mut bytes, &Vector::new()).map_err(refused)?;
        Ok(bytes.to_vec())
    }

    /// Writes a PNG file.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be written; otherwise as [`Canvas::new`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let bytes = self.png()?;
        write_atomically(path, |file| file.write_all(&bytes))
    }
}

/// An image under its heat map, `heat` in 0..1 of the image's size, row by row: blue where 0, red where 1
/// (OpenCV's JET).
///
/// # Errors
/// As [`Canvas::new`].
pub fn overlay(image: &Image, heat: &[f32]) -> Result<Image> {
    assert_eq!(heat.len() * 3, image.pixels.len(), "one value a pixel");
    let bytes: Vec<u8> = heat
        .iter()
        .map(|h| (h.clamp(0.0, 1.0) * 255.0).round() as u8)
        .collect();
    let run = || {
        let mut colours = Mat::default();
        imgproc::apply_color_map(&Mat::from_slice(&bytes)?, &mut colours, imgproc::COLORMAP_JET)?;
        Ok(colours.data_bytes()?.to_vec())
    };
    let colours: Vec<u8> = run().map_err(refused)?;
    let mixed = image.pixels.chunks_exact(3).zip(colours.chunks_exact(3));
    let pixels =
        mixed.flat_map(|(p, c)| [0, 1, 2].map(|i| ((u16::from(p[i]) + u16::from(c[2 - i])) / 2) as u8));
    Ok(Image {
        pixels: pixels.collect(),
        ..*image
    })
}

/// A colour for the class with this index, far from those of the neighbouring indices.
pub fn class_colour(class: usize) -> Rgb {
    // Steps of the golden ratio around the circle of hues.
    let hue = (class as f64 * 0.618_034 + 0.02).fract() * 6.0;
    let value = if class.is_multiple_of(2) { 235.0 } else { 190.0 };
    let channel = |n: f64| {
        let k = (n + hue) % 6.0;
        (value * (1.0 - 0.85 * k.min(4.0 - k).clamp(0.0, 1.0))) as u8
    };
    [channel(5.0), channel(3.0), channel(1.0)]
}

fn scalar([red, green, blue]: Rgb) -> Scalar {
    Scalar::new(blue.into(), green.into(), red.into(), 0.0)
}

// The built-in font has no other letters.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_ascii() && !c.is_ascii_control() {
                c
            } else {
                '?'
            }
        })
        .collect()
}

/// Converts an error of OpenCV.
pub fn refused(error: opencv::Error) -> Error {
    Error::settings(
        format!("OpenCV cannot draw a picture: {}", error.message),
        "check that the installed OpenCV is 4.6",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode;

    #[test]
    fn what_is_pasted_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let image = Image {
            height: 2,
            width: 3,
            pixels: (0..18).map(|v| v * 10).collect(),
        };
        let mut canvas = Canvas::new(10, 30).unwrap();
        canvas.paste(&image, 4, 1).unwrap();
        canvas
            .text("words that are much too long for it", 0, 25, 10)
            .unwrap();
        canvas.write(&path).unwrap();
        let read = decode::read(&path).unwrap();
        assert_eq!((read.height, read.width), (30, 10));
        let at = |x: usize, y: usize| &read.pixels[(y * 10 + x) * 3..][..3];
        assert_eq!(at(4, 1), &image.pixels[..3]);
        assert_eq!(at(6, 2), &image.pixels[15..]);
        assert_eq!(at(0, 0), [255; 3]);
        assert!(canvas.paste(&image, 9, 1).is_err(), "it does not fit");
    }

    #[test]
    fn heat_runs_from_blue_to_red() {
        let image = Image {
            height: 1,
            width: 2,
            pixels: vec![0; 6],
        };
        let Image { pixels, .. } = overlay(&image, &[0.0, 1.0]).unwrap();
        assert_eq!(pixels, [0, 0, 64, 64, 0, 0]);
    }
}
