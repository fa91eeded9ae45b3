//! Pictures of detections together with the ground truth.

use crate::results::{Detection, Results};
use crate::{Annotated, Dataset};
use camtrast_common::Result;
use camtrast_images::decode;
use camtrast_images::picture::{Canvas, Rgb, class_colour};
use camtrast_images::resample::{Image, resize};
use std::path::{Path, PathBuf};

const WHITE: Rgb = [255; 3];
const BLACK: Rgb = [0; 3];
const TRUTH: Rgb = [40, 255, 90];
const DIFFICULT: Rgb = [200; 3];

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
        SampleOptions {
            count: 8,
            min_score: 0.5,
        }
    }
}

/// Writes pictures `<id>.png` of sample images, see [`samples`], into `folder`. Returns their paths.
///
/// # Errors
/// As [`samples`], and [`camtrast_common::Error::Io`] when writing fails.
pub fn write_samples(
    folder: &Path,
    dataset: &Dataset,
    results: &Results,
    options: &SampleOptions,
) -> Result<Vec<PathBuf>> {
    samples(dataset, results, options)
        .map(|sample| {
            let (id, canvas) = sample?;
            let path = folder.join(format!("{}.png", file_name(id)));
            canvas.write(&path)?;
            Ok(path)
        })
        .collect()
}

/// Pictures of sample images with their ids: objects dashed (green; grey when difficult), detections solid in
/// the colour of their class, with its name and score.
///
/// # Errors
/// As [`decode::read`].
pub fn samples<'a>(
    dataset: &'a Dataset,
    results: &'a Results,
    options: &SampleOptions,
) -> impl Iterator<Item = Result<(&'a str, Canvas)>> {
    let options = *options;
    let with_objects: Vec<usize> = (0..dataset.images.len())
        .filter(|&i| !dataset.images[i].objects.is_empty())
        .collect();
    let count = options.count.min(with_objects.len());
    let chosen = (0..count).map(move |i| with_objects[i * with_objects.len() / count]);
    chosen.map(move |place| {
        let image = &dataset.images[place];
        let shown = |found: &&Detection| found.image == place && found.score >= options.min_score;
        let mut found: Vec<Detection> = results.found.iter().filter(shown).copied().collect();
        found.sort_by(|a, b| a.score.total_cmp(&b.score));
        let pixels = decode::read_upright(&image.image, (image.width, image.height))?;
        Ok((&image.id[..], picture(pixels, image, &found, &dataset.classes)?))
    })
}

/// One image with its objects and detections, the last on top. Small images are enlarged, so that names can
/// be read.
pub(crate) fn picture(
    pixels: Image,
    image: &Annotated,
    found: &[Detection],
    classes: &[String],
) -> Result<Canvas> {
    let factor = 400_usize.div_ceil(pixels.height.max(pixels.width)).clamp(1, 8);
    let (height, width) = (pixels.height * factor, pixels.width * factor);
    let mut canvas = Canvas::new(width, height)?;
    canvas.paste(&resize(pixels, height, width), 0, 0)?;
    let corners = |bbox: [f64; 4]| bbox.map(|side| (side * factor as f64).round() as i32);
    for object in &image.objects {
        let [x1, y1, x2, y2] = corners(object.bbox.map(f64::from));
        let colour = if object.difficult { DIFFICULT } else { TRUTH };
        dashed_box(&mut canvas, [x1, y1, x2 - 1, y2 - 1], colour)?;
        let name = &classes[object.class];
        label(&mut canvas, x1, y2 - LABEL - 1, name, colour)?;
    }
    for detection in found {
        let [x1, y1, x2, y2] = corners(detection.bbox);
        let colour = class_colour(detection.class);
        canvas.frame([x1, y1, x2 - 1, y2 - 1], colour)?;
        label(
            &mut canvas,
            x1,
            y1,
            &format!("{} {:.2}", classes[detection.class], detection.score),
            colour,
        )?;
    }
    Ok(canvas)
}

/// A name as part of a file name.
pub(crate) fn file_name(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_alphanumeric() || "-_. ".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect()
}

const DASH: i32 = 6;

// Dashes with a dark rest, visible on any ground.
fn dashed_box(canvas: &mut Canvas, [x1, y1, x2, y2]: [i32; 4], colour: Rgb) -> Result<()> {
    let alternating = |from_start: i32| {
        if (from_start / DASH) % 2 == 0 {
            colour
        } else {
            BLACK
        }
    };
    for x in (x1..=x2).step_by(DASH as usize) {
        let end = (x + DASH - 1).min(x2);
        canvas.fill([x, y1, end, y1 + 1], alternating(x - x1))?;
        canvas.fill([x, y2 - 1, end, y2], alternating(x - x1))?;
    }
    for y in (y1..=y2).step_by(DASH as usize) {
        let end = (y + DASH - 1).min(y2);
        canvas.fill([x1, y, x1 + 1, end], alternating(y - y1))?;
        canvas.fill([x2 - 1, y, x2, end], alternating(y - y1))?;
    }
    Ok(())
}

const LABEL: i32 = 15;

// Text on a filled ground whose upper left corner is at (x, y), moved inside the picture.
fn label(canvas: &mut Canvas, x: i32, y: i32, text: &str, ground: Rgb) -> Result<()> {
    const SCALE: f64 = 0.4;
    let (width, (columns, rows)) = (Canvas::words_width(text, SCALE)? + 5, canvas.size());
    let (x, y) = (x.min(columns - width).max(0), y.min(rows - LABEL).max(0));
    canvas.fill([x, y, x + width, y + LABEL - 1], ground)?;
    let luminance = 0.3 * f64::from(ground[0]) + 0.59 * f64::from(ground[1]) + 0.11 * f64::from(ground[2]);
    canvas.words(
        text,
        x + 3,
        y + LABEL - 4,
        SCALE,
        if luminance > 120.0 { BLACK } else { WHITE },
    )
}
