//! A contact sheet: one picture of every class.

use super::canvas::Canvas;
use super::catalogue::{CLASSES_PER_CATEGORY, Class};
use super::encode::encode;
use super::picture;
use camtrast_common::error::Result;
use camtrast_common::files::write_atomically;
use camtrast_common::random::generator;
use rayon::prelude::*;
use std::path::Path;

/// Writes a PNG with a row per category, a column per class and `size`-pixel pictures with a gap between
/// them. The pictures are the first of each class in a set of the same seed and size.
///
/// # Errors
/// When drawing or writing fails.
pub fn contact_sheet(path: &Path, seed: u64, size: usize) -> Result<()> {
    const GAP: usize = 4;
    let classes: Vec<Class> = Class::all().collect();
    let pictures = classes.par_iter().map(|class| {
        let mut rng = generator(seed, &format!("synth/{}", class.label()), 0, 0);
        Ok(picture::draw(*class, size, &mut rng)?.canvas)
    });
    let pictures = pictures.collect::<Result<Vec<Canvas>>>()?;
    let step = size + GAP;
    let rows = classes.len() / CLASSES_PER_CATEGORY;
    let mut sheet = Canvas::painted(CLASSES_PER_CATEGORY * step + GAP, rows * step + GAP, |_, _| {
        [1.0; 3]
    });
    for (i, picture) in pictures.iter().enumerate() {
        let (left, top) = (
            GAP + i % CLASSES_PER_CATEGORY * step,
            GAP + i / CLASSES_PER_CATEGORY * step,
        );
        for (y, row) in picture.pixels.chunks_exact(size).enumerate() {
            let start = (top + y) * sheet.width + left;
            sheet.pixels[start..start + size].copy_from_slice(row);
        }
    }
    let png = encode(&sheet, ".png", &[])?;
    write_atomically(path, |file| file.write_all(&png))
}
