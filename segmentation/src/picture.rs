//! Figures: a sample with its ground truth, prediction and errors, and the confusion matrix.

use crate::classes::{ClassSet, Meaning};
use crate::confusion::Confusion;
use crate::label_image::LabelImage;
use camtrast_common::Result;
use camtrast_images::picture::{Canvas, Rgb};
use camtrast_images::resample::{Image, resize};
use std::path::Path;

const PAPER: Rgb = [255, 255, 255];
const INK: Rgb = [40, 40, 40];
const WRONG: Rgb = [230, 30, 30];
/// Panels are resized to this width, or enlarged by a whole number to half of it.
const PANEL_WIDTH: usize = 1024;
/// Height of a line of text, in pixels.
const LINE: usize = 22;
/// Width of an entry of the legend.
const ENTRY: usize = 170;

/// Image, truth, prediction and errors (red; black where nothing is evaluated) in two rows, over a legend of
/// the classes that occur. Labels are in file ids.
///
/// # Errors
/// [`camtrast_common::Error::Settings`] when OpenCV fails to draw.
pub fn sample(
    classes: &ClassSet,
    image: &Image,
    truth: &LabelImage,
    prediction: &LabelImage,
) -> Result<Canvas> {
    let (height, width) = panel(image);
    let resized = resize(image.clone(), height, width);
    let (truth, prediction) = (nearest(truth, height, width), nearest(prediction, height, width));

    let meanings = classes.meanings();
    let error = |(i, (&t, &p)): (usize, (&u8, &u8))| {
        let pixel = &resized.pixels[i * 3..][..3];
        // A pale grey version of the image, for orientation.
        let grey = 128 + (pixel.iter().map(|&v| u16::from(v)).sum::<u16>() / 6) as u8;
        match meanings[usize::from(t)] {
            Meaning::Class(_) if t == p => [grey.min(250); 3],
            Meaning::Class(_) => WRONG,
            _ => [0; 3],
        }
    };
    let errors: Vec<u8> = truth
        .iter()
        .zip(&prediction)
        .enumerate()
        .flat_map(error)
        .collect();
    let present = |id: u8| truth.contains(&id) || prediction.contains(&id);
    let panels = [
        ("image", resized.pixels.clone()),
        ("truth", painted(classes, &truth)),
        ("prediction", painted(classes, &prediction)),
        ("errors", errors),
    ];
    sheet(classes, (height, width), panels, present)
}

/// Image, and the image under its prediction, over a legend of the classes that occur. Labels are in file
/// ids.
///
/// # Errors
/// As [`sample`].
pub fn prediction(classes: &ClassSet, image: &Image, labels: &LabelImage) -> Result<Canvas> {
    let (height, width) = panel(image);
    let resized = resize(image.clone(), height, width);
    let labels = nearest(labels, height, width);
    let colours = painted(classes, &labels);
    let blend = |(pixel, colour): (&u8, u8)| ((u16::from(*pixel) * 2 + u16::from(colour) * 3) / 5) as u8;
    let blended = resized.pixels.iter().zip(colours).map(blend).collect();
    let panels = [("image", resized.pixels.clone()), ("prediction", blended)];
    sheet(classes, (height, width), panels, |id| labels.contains(&id))
}

// Height and width of a picture's panels.
fn panel(image: &Image) -> (usize, usize) {
    let width = match image.width {
        wide if wide > PANEL_WIDTH => PANEL_WIDTH,
        narrow => narrow * (PANEL_WIDTH / 2).div_ceil(narrow),
    };
    ((image.height * width / image.width).max(1), width)
}

// File ids as the colours of their classes, black where they are none.
fn painted(classes: &ClassSet, labels: &[u8]) -> Vec<u8> {
    let meanings = classes.meanings();
    let colour = |id: u8| match meanings[usize::from(id)] {
        Meaning::Class(train) => classes.classes()[usize::from(train)].colour,
        _ => [0; 3],
    };
    labels.iter().flat_map(|&id| colour(id)).collect()
}

// Panels in two columns over a legend of the classes whose file ids are `present`.
fn sheet<const N: usize>(
    classes: &ClassSet,
    (height, width): (usize, usize),
    panels: [(&str, Vec<u8>); N],
    present: impl Fn(u8) -> bool,
) -> Result<Canvas> {
    let legend: Vec<_> = classes
        .classes()
        .iter()
        .filter(|class| present(class.id))
        .collect();
    let columns = (2 * width / ENTRY).max(1);
    let (rows, above) = (legend.len().div_ceil(columns), N.div_ceil(2) * (height + LINE));
    let mut canvas = Canvas::new(2 * width, above + rows * LINE + 6)?;
    for (i, (title, pixels)) in panels.into_iter().enumerate() {
        let (x, y) = (i % 2 * width, i / 2 * (height + LINE));
        canvas.words(title, x as i32 + 4, (y + LINE) as i32 - 6, 0.5, INK)?;
        canvas.paste(
            &Image {
                height,
                width,
                pixels,
            },
            x,
            y + LINE,
        )?;
    }
    for (i, class) in legend.iter().enumerate() {
        let x = (i % columns * ENTRY) as i32;
        let y = (above + 6 + i / columns * LINE) as i32;
        canvas.fill([x + 4, y, x + 17, y + 13], class.colour)?;
        canvas.words(&class.name, x + 24, y + 12, 0.45, INK)?;
    }
    Ok(canvas)
}

/// Share of each true class's pixels (rows) that is predicted as each class (columns); the last column is "no
/// class". Rows of classes without pixels are grey.
///
/// # Errors
/// [`camtrast_common::Error::Io`] when it cannot be written; otherwise as [`sample`].
pub fn confusion(path: &Path, confusion: &Confusion, classes: &ClassSet) -> Result<()> {
    let names: Vec<&str> = classes
        .classes()
        .iter()
        .map(|c| c.name.as_str())
        .chain(["no class"])
        .collect();
    let k = classes.len();
    let cell = (1200 / k as i32).clamp(10, 40);
    let font = f64::from(cell.min(32)) / 64.0;
    let centre = cell / 2 + (10.0 * font) as i32;
    let widths = names
        .iter()
        .map(|name| Canvas::words_width(name, font))
        .collect::<Result<Vec<i32>>>()?;
    let margin = widths.into_iter().max().unwrap_or_default() + 12;
    let top = margin + LINE as i32;
    let (width, height) = (margin + (k as i32 + 1) * cell + 6, top + k as i32 * cell + 6);
    let title = "rows: truth, columns: prediction, percent of the truth";
    let mut canvas = Canvas::new(
        width.max(Canvas::words_width(title, 0.45)? + 12) as usize,
        height as usize,
    )?;
    canvas.words(title, 6, LINE as i32 - 6, 0.45, INK)?;
    for (i, name) in names.iter().enumerate() {
        let at = i as i32 * cell;
        if i < k {
            canvas.words(name, 6, top + at + centre, font, INK)?;
        }
        canvas.upward_words(name, margin + at + centre, top - 6, font, INK)?;
    }
    for t in 0..k {
        let total: u64 = (0..=k).map(|p| confusion.count(t, p)).sum();
        for p in 0..=k {
            let share = (total > 0).then(|| confusion.count(t, p) as f64 / total as f64);
            let (x, y) = (margin + p as i32 * cell, top + t as i32 * cell);
            canvas.fill([x, y, x + cell - 2, y + cell - 2], share.map_or([225; 3], shade))?;
            if let Some(share) = share.filter(|share| *share >= 0.005 && cell >= 24) {
                let text = format!("{:.0}", share * 100.0);
                let left = x + (cell - Canvas::words_width(&text, 0.38)?) / 2;
                canvas.words(
                    &text,
                    left,
                    y + cell / 2 + 4,
                    0.38,
                    if share > 0.3 { PAPER } else { INK },
                )?;
            }
        }
    }
    canvas.write(path)
}

// From white to a dark blue; the square root makes small confusions visible.
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
