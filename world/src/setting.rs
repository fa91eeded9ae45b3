//! Backgrounds and the clutter on them.

use super::canvas::{Canvas, Outline, Rgb, mix};
use super::paint::{Family, Look, Weave, between, bumps, cell, turbulence};
use camtrast_common::error::Result;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Kinds of background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// One colour running into another.
    Haze,
    /// Sky over ground.
    Horizon,
    /// Blotches of two colours.
    Clouds,
    /// Boards side by side.
    Planks,
    /// Rows of bricks.
    Bricks,
    /// Irregular cells, as of pebbles.
    Pebbles,
}

/// What a category tends to look like, in [`LEANING`](super::paint::LEANING) of its pictures.
#[derive(Clone, Copy, Debug)]
pub struct Taste {
    /// Usual body colour.
    pub colour: Family,
    /// Usual pattern.
    pub weave: Weave,
    /// Usual background.
    pub setting: Setting,
}

impl Taste {
    /// The appearance of one object of such a category.
    pub fn look(&self, rng: &mut ChaCha8Rng) -> Look {
        Look::sample(rng, self.colour, self.weave)
    }
}

/// All of them.
pub const SETTINGS: [Setting; 6] = [
    Setting::Haze,
    Setting::Horizon,
    Setting::Clouds,
    Setting::Planks,
    Setting::Bricks,
    Setting::Pebbles,
];

impl Setting {
    /// A canvas with this background.
    pub fn canvas(self, rng: &mut ChaCha8Rng, width: usize, height: usize) -> Canvas {
        let (near, far) = (muted(rng), muted(rng));
        let seed: u32 = rng.random();
        let (sin, cos) = between(rng, -0.5, 0.5).sin_cos();
        let count = between(rng, 4.0, 9.0);
        let level = between(rng, 0.35, 0.75);
        let side = width.min(height) as f32;
        Canvas::painted(width, height, |x, y| {
            // Turned coordinates with one unit per image side, so that boards and bricks are slanted.
            let (u, v) = ((x * cos + y * sin) / side, (y * cos - x * sin) / side);
            let grain = 0.7 * (bumps(seed ^ 77, u * 26.0, v * 26.0) - 0.5);
            let (share, light) = match self {
                Setting::Haze => (v.clamp(0.0, 1.0), 0.1 * grain),
                Setting::Horizon if v < level => (0.35 * v / level, 0.06 * grain),
                Setting::Horizon => (1.0, 0.5 * grain + 0.15 * (v - level)),
                Setting::Clouds => (
                    (turbulence(seed, u * count, v * count) * 2.4 - 0.7).clamp(0.0, 1.0),
                    0.1 * grain,
                ),
                Setting::Planks => {
                    let (board, gap) = split(u * count);
                    let fibre = turbulence(seed, u * count * 6.0, v * 2.0) - 0.5;
                    (cell(seed, board, 0), 0.35 * fibre - gap)
                }
                Setting::Bricks => {
                    let (row, gap) = split(v * count);
                    let (brick, joint) = split(u * count * 0.55 + 0.5 * (row & 1) as f32);
                    (cell(seed, brick, row), 0.3 * grain - gap.max(joint))
                }
                Setting::Pebbles => pebble(seed, u * count, v * count),
            };
            mix(near, far, share).map(|c| c * (1.0 + light))
        })
    }
}

// The index of a strip and how dark the gap next to it is, in 0..0.45.
fn split(position: f32) -> (i32, f32) {
    let index = position.floor();
    let inside = position - index;
    (
        index as i32,
        0.45 * (1.0 - (inside.min(1.0 - inside) * 12.0).min(1.0)),
    )
}

// The nearest and second nearest of one random point per grid cell: cells with dark seams.
fn pebble(seed: u32, x: f32, y: f32) -> (f32, f32) {
    let (i, j) = (x.floor() as i32, y.floor() as i32);
    let (mut first, mut second, mut share) = (f32::MAX, f32::MAX, 0.0);
    for (a, b) in (-1..=1).flat_map(|a| (-1..=1).map(move |b| (i + a, j + b))) {
        let (px, py) = (a as f32 + cell(seed, a, b), b as f32 + cell(seed ^ 9, a, b));
        let distance = ((px - x).powi(2) + (py - y).powi(2)).sqrt();
        if distance < first {
            (second, first, share) = (first, distance, cell(seed ^ 5, a, b));
        } else {
            second = second.min(distance);
        }
    }
    (share, -0.5 * (1.0 - ((second - first) * 5.0).min(1.0)))
}

// Backgrounds are less saturated than objects, so that objects stand out.
fn muted(rng: &mut ChaCha8Rng) -> Rgb {
    let colour = Family::any(rng).colour(rng);
    let grey = between(rng, 0.25, 0.85);
    mix(colour, [grey; 3], between(rng, 0.35, 0.8))
}

/// Draws `count` small random shapes (clutter) on the canvas.
///
/// # Errors
/// When OpenCV fails to draw.
pub fn clutter(rng: &mut ChaCha8Rng, canvas: &mut Canvas, count: usize) -> Result<()> {
    let (width, height) = (canvas.width as f32, canvas.height as f32);
    for _ in 0..count {
        let (x, y) = (between(rng, 0.0, width), between(rng, 0.0, height));
        let reach = width.min(height) * between(rng, 0.03, 0.14);
        let corners = rng.random_range(2..=7);
        let turn = between(rng, 0.0, std::f32::consts::TAU);
        let points: Vec<_> = (0..corners)
            .map(|i| {
                let angle = turn + i as f32 * std::f32::consts::TAU / corners as f32;
                let radius = reach * between(rng, 0.6, 1.1);
                (x + radius * angle.cos(), y + radius * angle.sin())
            })
            .collect();
        let pen = (corners == 2 || rng.random::<f32>() < 0.3).then(|| reach * between(rng, 0.15, 0.4));
        let coverage = canvas.cover(&Outline {
            points: &points,
            closed: corners > 2,
            pen,
        })?;
        let colour = mix(Family::any(rng).colour(rng), muted(rng), 0.4);
        canvas.lay(&coverage, between(rng, 0.5, 1.0), |_, _| colour);
    }
    Ok(())
}
