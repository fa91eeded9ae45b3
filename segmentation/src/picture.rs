//! Pictures for people: a sample beside its truth, prediction and errors, and the confusion matrix.

use crate::classes::{ClassSet, Meaning};
use crate::confusion::Confusion;
use crate::label_image::{LabelImage, write_rgb};
use common::data::resample::{Image, resize};
use common::{Error, Result};
use opencv::core::{CV_8UC3, Mat, Point, ROTATE_90_COUNTERCLOCKWISE, Rect, Scalar, rotate};
use opencv::imgproc::{FILLED, FONT_HERSHEY_SIMPLEX, LINE_8, LINE_AA, get_text_size, put_text, rectangle};
use opencv::prelude::*;
use std::path::Path;

type Rgb = [u8; 3];

const PAPER: Rgb = [255, 255, 255];
const INK: Rgb = [40, 40, 40];
const WRONG: Rgb = [230, 30, 30];
/// Panels wider than this are shrunk.
const PANEL_WIDTH: usize = 1024;
/// Height of a line of text, in pixels.
const LINE: i32 = 22;

/// Image, truth, prediction and errors (red; black where nothing is evaluated) in two rows, over a legend of the classes that occur.
/// Labels are in file ids.
///
/// # Errors
/// [`Error::Io`] when it cannot be written, [`Error::File`] when OpenCV refuses to draw.
pub fn sample(path: &Path, classes: &ClassSet, image: &Image, truth: &LabelImage, prediction: &LabelImage) -> Result<()> {
    let width = image.width.min(PANEL_WIDTH);
    let height = (image.height * width / image.width).max(1);
    let shrunk = resize(image.clone(), height, width);
    let (truth, prediction) = (nearest(truth, height, width), nearest(prediction, height, width));

    let meanings = classes.meanings();
    let colour = |id: u8| match meanings[usize::from(id)] {
        Meaning::Class(train) => classes.classes()[usize::from(train)].colour,
        _ => [0; 3],
    };
    let painted = |labels: &[u8]| labels.iter().flat_map(|&id| colour(id)).collect::<Vec<u8>>();
    let error = |(i, (&t, &p)): (usize, (&u8, &u8))| {
        let pixel = &shrunk.pixels[i * 3..][..3];
        // A pale grey picture to find one's way by.
        let grey = 128 + (pixel.iter().map(|&v| u16::from(v)).sum::<u16>() / 6) as u8;
        match meanings[usize::from(t)] {
            Meaning::Class(_) if t == p => [grey.min(250); 3],
            Meaning::Class(_) => WRONG,
            _ => [0; 3],
        }
    };
    let errors: Vec<u8> = truth.iter().zip(&prediction).enumerate().flat_map(error).collect();
    let present = |class: &&crate::classes::Class| truth.contains(&class.id) || prediction.contains(&class.id);
    let legend: Vec<_> = classes.classes().iter().filter(present).collect();

    let (w, h) = (width as i32, height as i32);
    let entry = 170;
    let columns = (2 * w / entry).max(1);
    let rows = (legend.len() as i32 + columns - 1) / columns;
    let panels = [
        ("image", shrunk.pixels.clone()),
        ("truth", painted(&truth)),
        ("prediction", painted(&prediction)),
        ("errors", errors),
    ];
    let draw = || -> opencv::Result<Canvas> {
        let mut canvas = Canvas::new(2 * (h + LINE) + rows * LINE + 6, 2 * w)?;
        for (i, (title, pixels)) in panels.iter().enumerate() {
            let (x, y) = (i as i32 % 2 * w, i as i32 / 2 * (h + LINE));
            canvas.text(title, x + 4, y + LINE - 6, 0.5)?;
            canvas.paste(pixels, x, y + LINE, h, w)?;
        }
        for (i, class) in legend.iter().enumerate() {
            let (x, y) = (i as i32 % columns * entry, 2 * (h + LINE) + 6 + i as i32 / columns * LINE);
            canvas.fill(x + 4, y, 14, 14, class.colour)?;
            canvas.text(&class.name, x + 24, y + 12, 0.45)?;
        }
        Ok(canvas)
    };
    save(path, draw())
}

/// Share of each true class's pixels (rows) that is predicted as each class (columns); the last column is no class. Rows of classes
/// without pixels are grey.
///
/// # Errors
/// As [`sample`].
pub fn confusion(path: &Path, confusion: &Confusion, classes: &ClassSet) -> Result<()> {
    let names: Vec<&str> = classes.classes().iter().map(|c| c.name.as_str()).chain(["no class"]).collect();
    let k = classes.len();
    let cell = (1200 / k as i32).clamp(10, 40);
    let font = f64::from(cell.min(32)) / 64.0;
    let draw = || -> opencv::Result<Canvas> {
        let widths = names.iter().map(|name| text_width(name, font)).collect::<opencv::Result<Vec<i32>>>()?;
        let margin = widths.into_iter().max().unwrap_or_default() + 12;
        let top = margin + LINE;
        let mut canvas = Canvas::new(top + k as i32 * cell + 6, margin + (k as i32 + 1) * cell + 6)?;
        canvas.text("rows: truth, columns: prediction, percent of the truth", 6, LINE - 6, 0.45)?;
        for (i, name) in names.iter().enumerate() {
            let at = i as i32 * cell;
            if i < k {
                canvas.text(name, 6, top + at + cell / 2 + (10.0 * font) as i32, font)?;
            }
            canvas.upright_text(name, margin + at, top - 6, cell, font)?;
        }
        for t in 0..k {
            let total: u64 = (0..=k).map(|p| confusion.count(t, p)).sum();
            for p in 0..=k {
                let share = (total > 0).then(|| confusion.count(t, p) as f64 / total as f64);
                let (x, y) = (margin + p as i32 * cell, top + t as i32 * cell);
                canvas.fill(x, y, cell - 1, cell - 1, share.map_or([225; 3], shade))?;
                if let Some(share) = share.filter(|share| *share >= 0.005 && cell >= 24) {
                    let text = format!("{:.0}", share * 100.0);
                    let left = x + (cell - text_width(&text, 0.38)?) / 2;
                    let ink = if share > 0.3 { PAPER } else { INK };
                    canvas.text_in(&text, left, y + cell / 2 + 4, 0.38, ink)?;
                }
            }
        }
        Ok(canvas)
    };
    save(path, draw())
}

// From white to a dark blue; the square root lets small confusions be seen.
fn shade(share: f64) -> Rgb {
    let t = share.sqrt();
    [(255.0, 8.0), (255.0, 48.0), (255.0, 107.0)].map(|(light, dark)| (light + (dark - light) * t) as u8)
}

fn nearest(labels: &LabelImage, height: usize, width: usize) -> Vec<u8> {
    let source = |i: usize, from: usize, to: usize| ((2 * i + 1) * from / (2 * to)).min(from - 1);
    let row = |y: usize| {
        let line = source(y, labels.height, height) * labels.width;
        (0..width).map(move |x| labels.pixels[line + source(x, labels.width, width)])
    };
    (0..height).flat_map(row).collect()
}

fn text_width(text: &str, font: f64) -> opencv::Result<i32> {
    Ok(get_text_size(text, FONT_HERSHEY_SIMPLEX, font, 1, &mut 0)?.width)
}

fn save(path: &Path, drawn: opencv::Result<Canvas>) -> Result<()> {
    let pixels = drawn.and_then(|canvas| {
        Ok((canvas.0.rows() as usize, canvas.0.cols() as usize, canvas.0.data_bytes()?.to_vec()))
    });
    let (height, width, pixels) =
        pixels.map_err(|e| Error::file(path, format!("cannot be drawn ({})", e.message), "ask for no pictures"))?;
    write_rgb(path, height, width, &pixels)
}

/// An RGB drawing.
struct Canvas(Mat);

fn scalar([r, g, b]: Rgb) -> Scalar {
    Scalar::new(f64::from(r), f64::from(g), f64::from(b), 0.0)
}

impl Canvas {
    fn new(height: i32, width: i32) -> opencv::Result<Self> {
        Ok(Canvas(Mat::new_rows_cols_with_default(height, width, CV_8UC3, scalar(PAPER))?))
    }

    fn fill(&mut self, x: i32, y: i32, width: i32, height: i32, colour: Rgb) -> opencv::Result<()> {
        rectangle(&mut self.0, Rect::new(x, y, width, height), scalar(colour), FILLED, LINE_8, 0)
    }

    fn text(&mut self, text: &str, x: i32, baseline: i32, font: f64) -> opencv::Result<()> {
        self.text_in(text, x, baseline, font, INK)
    }

    fn text_in(&mut self, text: &str, x: i32, baseline: i32, font: f64, colour: Rgb) -> opencv::Result<()> {
        let at = Point::new(x, baseline);
        put_text(&mut self.0, text, at, FONT_HERSHEY_SIMPLEX, font, scalar(colour), 1, LINE_AA, false)
    }

    /// Text that reads upwards from (x, bottom), centred in `width`.
    fn upright_text(&mut self, text: &str, x: i32, bottom: i32, width: i32, font: f64) -> opencv::Result<()> {
        let mut line = Canvas::new(width, text_width(text, font)? + 2)?;
        line.text(text, 0, width / 2 + (10.0 * font) as i32, font)?;
        let mut upright = Mat::default();
        rotate(&line.0, &mut upright, ROTATE_90_COUNTERCLOCKWISE)?;
        let (height, width) = (upright.rows(), upright.cols());
        let place = Rect::new(x, bottom - height, width, height);
        let mut place = Mat::roi_mut(&mut self.0, place)?;
        upright.copy_to(&mut place)
    }

    fn paste(&mut self, pixels: &[u8], x: i32, y: i32, height: i32, width: i32) -> opencv::Result<()> {
        let picture = Mat::new_rows_cols_with_bytes::<u8>(height, width * 3, pixels)?;
        let picture = picture.reshape(3, height)?;
        let mut place = Mat::roi_mut(&mut self.0, Rect::new(x, y, width, height))?;
        picture.copy_to(&mut place)
    }
}
