//! One picture of one class: background, clutter, a distractor at the edge, the object, light and noise.

use super::canvas::{Canvas, Coverage, Pose};
use super::catalogue::Class;
use super::object::paint_object;
use super::paint::{between, pick, pick_leaning};
use super::setting::{SETTINGS, clutter};
use camtrast_common::error::Result;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::f32::consts::TAU;

// Pictures are drawn larger by this factor and averaged down.
pub(super) const OVERSAMPLING: usize = 2;

/// A finished picture.
pub struct Picture {
    /// Its colours, `size` x `size`.
    pub canvas: Canvas,
    /// The coverage of the object, at twice the picture's resolution.
    pub object: Coverage,
}

/// Draws a `size` x `size` picture of `class`. No random draw depends on the class within its category, so
/// two classes drawn with equal generators differ only in the part.
///
/// # Errors
/// When OpenCV fails to draw.
pub fn draw(class: Class, size: usize, rng: &mut ChaCha8Rng) -> Result<Picture> {
    let side = size * OVERSAMPLING;
    let taste = &class.category().taste;
    let setting = pick_leaning(rng, &SETTINGS, taste.setting);
    let mut canvas = setting.canvas(rng, side, side);
    let count = rng.random_range(2..=8);
    clutter(rng, &mut canvas, count)?;
    if rng.random::<f32>() < 0.6 {
        stranger(rng, &mut canvas, class)?;
    }
    let pose = central(rng, side as f32);
    let look = taste.look(rng);
    let object = paint_object(&mut canvas, class, &pose, &look)?;
    let mut canvas = canvas.shrunk(OVERSAMPLING);
    expose(rng, &mut canvas);
    Ok(Picture { canvas, object })
}

// Large and near the middle, turned a little, mirrored or not.
fn central(rng: &mut ChaCha8Rng, side: f32) -> Pose {
    let mirror = if rng.random() { 1.0 } else { -1.0 };
    Pose {
        x: side * between(rng, 0.42, 0.58),
        y: side * between(rng, 0.42, 0.58),
        scale: side * between(rng, 0.28, 0.4),
        angle: between(rng, -0.4, 0.4),
        stretch: mirror * between(rng, 0.85, 1.15),
    }
}

// A smaller object of another category, mostly cut off by the edge. It is of the same split: training
// pictures never show an object of the test classes.
fn stranger(rng: &mut ChaCha8Rng, canvas: &mut Canvas, class: Class) -> Result<()> {
    let others = class.strangers();
    let other = *pick(rng, &others);
    let side = canvas.width as f32;
    let (sin, cos) = between(rng, 0.0, TAU).sin_cos();
    let pose = Pose {
        x: side * (0.5 + 0.55 * cos),
        y: side * (0.5 + 0.55 * sin),
        scale: side * between(rng, 0.14, 0.24),
        angle: between(rng, -0.6, 0.6),
        stretch: between(rng, 0.85, 1.15),
    };
    let look = other.category().taste.look(rng);
    paint_object(canvas, other, &pose, &look)?;
    Ok(())
}

// Light from one side, a colour cast, contrast, and sensor noise.
pub(super) fn expose(rng: &mut ChaCha8Rng, canvas: &mut Canvas) {
    let (sin, cos) = between(rng, 0.0, TAU).sin_cos();
    let slope = between(rng, 0.0, 0.35);
    let (brightness, contrast) = (between(rng, -0.08, 0.08), between(rng, 0.8, 1.15));
    let cast: [f32; 3] = std::array::from_fn(|_| between(rng, 0.92, 1.08));
    let noise = between(rng, 0.005, 0.04);
    let (width, height) = (canvas.width as f32, canvas.height as f32);
    let row = canvas.width;
    for (i, pixel) in canvas.pixels.iter_mut().enumerate() {
        let (x, y) = ((i % row) as f32 / width - 0.5, (i / row) as f32 / height - 0.5);
        let light = 1.0 + slope * (cos * x + sin * y) * 2.0;
        for (value, cast) in pixel.iter_mut().zip(cast) {
            // The sum of four bytes of one draw is close enough to a normal distribution (standard deviation
            // 148).
            let bits: u32 = rng.random();
            let grain = bits.to_le_bytes().iter().map(|b| f32::from(*b)).sum::<f32>() - 510.0;
            *value = ((*value * light * cast - 0.5) * contrast + 0.5 + brightness) + noise * grain / 148.0;
        }
    }
}
