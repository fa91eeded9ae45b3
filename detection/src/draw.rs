//! Pictures of detections beside the ground truth, and the canvas that curves are drawn on too.

use crate::results::{Found, Results};
use crate::{Annotated, Dataset};
use common::data::decode;
use common::data::resample::{Image, resize};
use common::files::write_atomically;
use common::{Error, Result};
use opencv::core::{CV_8UC3, Mat, MatTraitManual, Point, Rect, Scalar, Vector};
use opencv::{imgcodecs, imgproc};
use std::path::{Path, PathBuf};

/// Red, green, blue in 0..=255.
pub(crate) type Colour = [u8; 3];

const WHITE: Colour = [255; 3];
const BLACK: Colour = [0; 3];
const TRUTH: Colour = [40, 255, 90];
const DIFFICULT: Colour = [200; 3];

/// Which sample pictures [`write_samples`] makes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleOptions {
    /// Number of pictures, spread evenly over the images that have objects.
    pub count: usize,
    /// Detections below this score are not drawn.
    pub min_score: f64,
}

impl Default for SampleOptions {
    fn default() -> Self {
        SampleOptions { count: 8, min_score: 0.5 }
    }
}

/// Writes pictures `<id>.png` of sample images into `folder`: objects dashed (green; grey when difficult), detections solid in
/// the colour of their class, with its name and score. Returns their paths.
///
/// # Errors
/// As [`decode::read`], and [`Error::Io`] when writing fails.
pub fn write_samples(
    folder: &Path,
    dataset: &Dataset,
    results: &Results,
    options: &SampleOptions,
) -> Result<Vec<PathBuf>> {
    let with_objects: Vec<usize> =
        (0..dataset.images.len()).filter(|&i| !dataset.images[i].objects.is_empty()).collect();
    let count = options.count.min(with_objects.len());
    let chosen = (0..count).map(|i| with_objects[i * with_objects.len() / count]);
    chosen
        .map(|place| {
            let image = &dataset.images[place];
            let shown = |found: &&Found| found.image == place && found.score >= options.min_score;
            let mut found: Vec<Found> = results.found.iter().filter(shown).copied().collect();
            found.sort_by(|a, b| a.score.total_cmp(&b.score));
            let path = folder.join(format!("{}.png", file_name(&image.id)));
            picture(decode::read(&image.image)?, image, &found, &dataset.classes)?.write(&path)?;
            Ok(path)
        })
        .collect()
}

/// One image with its objects and detections, the last on top. Small images are enlarged, so that names can be read.
fn picture(pixels: Image, image: &Annotated, found: &[Found], classes: &[String]) -> Result<Canvas> {
    let factor = 400_usize.div_ceil(pixels.height.max(pixels.width)).clamp(1, 8);
    let (height, width) = (pixels.height * factor, pixels.width * factor);
    let mut canvas = Canvas::from_image(&resize(pixels, height, width))?;
    let corners = |bbox: [f64; 4]| bbox.map(|side| (side * factor as f64).round() as i32);
    for object in &image.objects {
        let [x1, y1, x2, y2] = corners(object.bbox.map(f64::from));
        let colour = if object.difficult { DIFFICULT } else { TRUTH };
        canvas.dashed_box([x1, y1, x2 - 1, y2 - 1], colour)?;
        let name = &classes[object.class];
        canvas.label(x1, y2 - Canvas::LABEL - 1, name, colour)?;
    }
    for detection in found {
        let [x1, y1, x2, y2] = corners(detection.bbox);
        let colour = class_colour(detection.class);
        canvas.solid_box([x1, y1, x2 - 1, y2 - 1], colour)?;
        canvas.label(x1, y1, &format!("{} {:.2}", classes[detection.class], detection.score), colour)?;
    }
    Ok(canvas)
}

/// A colour far from those of the neighbouring numbers.
pub(crate) fn class_colour(class: usize) -> Colour {
    // Steps of the golden ratio around the circle of hues.
    let hue = (class as f64 * 0.618_034 + 0.02).fract() * 6.0;
    let value = if class % 2 == 0 { 235.0 } else { 190.0 };
    let channel = |n: f64| {
        let k = (n + hue) % 6.0;
        (value * (1.0 - 0.85 * k.min(4.0 - k).clamp(0.0, 1.0))) as u8
    };
    [channel(5.0), channel(3.0), channel(1.0)]
}

/// A name as part of a file name.
pub(crate) fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || "-_. ".contains(c) { c } else { '_' }).collect()
}

/// A picture being drawn; x to the right, y down, in pixels.
pub(crate) struct Canvas(Mat);

impl Canvas {
    /// Height of a label.
    pub const LABEL: i32 = 15;

    /// A white canvas.
    pub fn white(width: i32, height: i32) -> Result<Self> {
        Mat::new_rows_cols_with_default(height, width, CV_8UC3, scalar(WHITE)).map(Canvas).map_err(refused)
    }

    fn from_image(image: &Image) -> Result<Self> {
        let mut canvas = Canvas::white(image.width as i32, image.height as i32)?;
        let bytes = canvas.0.data_bytes_mut().map_err(refused)?;
        for (target, source) in bytes.chunks_exact_mut(3).zip(image.pixels.chunks_exact(3)) {
            target.copy_from_slice(&[source[2], source[1], source[0]]);
        }
        Ok(canvas)
    }

    /// A line through the points, smooth at the edges.
    pub fn path(&mut self, points: &[(f64, f64)], colour: Colour, thickness: i32) -> Result<()> {
        // OpenCV takes sixteenths of a pixel.
        let fixed = |(x, y): (f64, f64)| Point::new((x * 16.0).round() as i32, (y * 16.0).round() as i32);
        let points: Vector<Point> = points.iter().copied().map(fixed).collect();
        let lines: Vector<Vector<Point>> = Vector::from_iter([points]);
        imgproc::polylines(&mut self.0, &lines, false, scalar(colour), thickness, imgproc::LINE_AA, 4).map_err(refused)
    }

    /// Text whose left end and base line are at (x, y).
    pub fn text(&mut self, x: i32, y: i32, text: &str, size: f64, colour: Colour) -> Result<()> {
        let (text, font) = (printable(text), imgproc::FONT_HERSHEY_SIMPLEX);
        let at = Point::new(x, y);
        imgproc::put_text(&mut self.0, &text, at, font, size, scalar(colour), 1, imgproc::LINE_AA, false)
            .map_err(refused)
    }

    /// Width of a text.
    pub fn text_width(text: &str, size: f64) -> Result<i32> {
        let font = imgproc::FONT_HERSHEY_SIMPLEX;
        let extent = imgproc::get_text_size(&printable(text), font, size, 1, &mut 0).map_err(refused)?;
        Ok(extent.width)
    }

    /// A filled rectangle, with its last pixels.
    pub fn fill(&mut self, [x1, y1, x2, y2]: [i32; 4], colour: Colour) -> Result<()> {
        let area = Rect::new(x1, y1, x2 - x1 + 1, y2 - y1 + 1);
        imgproc::rectangle(&mut self.0, area, scalar(colour), imgproc::FILLED, imgproc::LINE_8, 0).map_err(refused)
    }

    fn solid_box(&mut self, [x1, y1, x2, y2]: [i32; 4], colour: Colour) -> Result<()> {
        let area = Rect::new(x1, y1, x2 - x1 + 1, y2 - y1 + 1);
        imgproc::rectangle(&mut self.0, area, scalar(colour), 2, imgproc::LINE_8, 0).map_err(refused)
    }

    // Dashes with a dark rest, visible on any ground.
    fn dashed_box(&mut self, [x1, y1, x2, y2]: [i32; 4], colour: Colour) -> Result<()> {
        const DASH: usize = 6;
        for x in (x1..=x2).step_by(DASH) {
            let (end, colour) = ((x + DASH as i32 - 1).min(x2), alternating(x - x1, colour));
            self.fill([x, y1, end, y1 + 1], colour)?;
            self.fill([x, y2 - 1, end, y2], colour)?;
        }
        for y in (y1..=y2).step_by(DASH) {
            let (end, colour) = ((y + DASH as i32 - 1).min(y2), alternating(y - y1, colour));
            self.fill([x1, y, x1 + 1, end], colour)?;
            self.fill([x2 - 1, y, x2, end], colour)?;
        }
        return Ok(());

        fn alternating(from_start: i32, colour: Colour) -> Colour {
            if (from_start / DASH as i32) % 2 == 0 { colour } else { BLACK }
        }
    }

    // Text on a filled ground whose upper left corner is at (x, y), moved inside the picture.
    fn label(&mut self, x: i32, y: i32, text: &str, ground: Colour) -> Result<()> {
        use opencv::core::MatTraitConst;
        const SIZE: f64 = 0.4;
        let width = Canvas::text_width(text, SIZE)? + 5;
        let (x, y) = (x.min(self.0.cols() - width).max(0), y.min(self.0.rows() - Canvas::LABEL).max(0));
        self.fill([x, y, x + width, y + Canvas::LABEL - 1], ground)?;
        let luminance = 0.3 * f64::from(ground[0]) + 0.59 * f64::from(ground[1]) + 0.11 * f64::from(ground[2]);
        self.text(x + 3, y + Canvas::LABEL - 4, text, SIZE, if luminance > 120.0 { BLACK } else { WHITE })
    }

    /// Writes a PNG.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut png = Vector::new();
        imgcodecs::imencode(".png", &self.0, &mut png, &Vector::new()).map_err(refused)?;
        write_atomically(path, |file| file.write_all(png.as_slice()))
    }
}

fn scalar([red, green, blue]: Colour) -> Scalar {
    Scalar::new(blue.into(), green.into(), red.into(), 0.0)
}

// The built-in font has no other letters.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii() && !c.is_ascii_control() { c } else { '?' }).collect()
}

fn refused(error: opencv::Error) -> Error {
    let problem = format!("OpenCV cannot draw a picture: {}", error.message);
    Error::settings(problem, "check that the installed OpenCV is 4.6")
}
