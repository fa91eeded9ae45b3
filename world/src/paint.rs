//! Colours, surface patterns and noise: the appearance of an object that does not depend on its class.

use super::canvas::{Rgb, luminance, mix};
use super::shapes::Ink;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Uniform in `low..high`.
pub fn between(rng: &mut ChaCha8Rng, low: f32, high: f32) -> f32 {
    low + (high - low) * rng.random::<f32>()
}

/// One of `items`.
pub fn pick<'a, T>(rng: &mut ChaCha8Rng, items: &'a [T]) -> &'a T {
    &items[rng.random_range(0..items.len())]
}

/// `usual` in [`LEANING`] of the draws, else any of `items`.
pub fn pick_leaning<T: Copy>(rng: &mut ChaCha8Rng, items: &[T], usual: T) -> T {
    let (any, lean) = (*pick(rng, items), rng.random::<f32>());
    if lean < LEANING { usual } else { any }
}

/// How often a category shows its usual colour, pattern or surroundings instead of a free choice.
pub const LEANING: f32 = 0.35;

/// A range of related colours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Family {
    // Degrees, then ranges in 0..1.
    hue: (f32, f32),
    saturation: (f32, f32),
    value: (f32, f32),
}

const fn family(hue: (f32, f32), saturation: (f32, f32), value: (f32, f32)) -> Family {
    Family {
        hue,
        saturation,
        value,
    }
}

/// Reds.
pub const RED: Family = family((-12.0, 10.0), (0.65, 0.95), (0.55, 0.95));
/// Oranges.
pub const ORANGE: Family = family((18.0, 34.0), (0.7, 0.98), (0.75, 1.0));
/// Yellows.
pub const YELLOW: Family = family((46.0, 60.0), (0.6, 0.95), (0.8, 1.0));
/// Greens.
pub const GREEN: Family = family((90.0, 140.0), (0.45, 0.85), (0.35, 0.8));
/// Between green and blue.
pub const TEAL: Family = family((165.0, 190.0), (0.5, 0.9), (0.45, 0.85));
/// Blues.
pub const BLUE: Family = family((205.0, 235.0), (0.55, 0.9), (0.45, 0.95));
/// Violets.
pub const VIOLET: Family = family((260.0, 290.0), (0.4, 0.8), (0.4, 0.85));
/// Pinks.
pub const PINK: Family = family((310.0, 340.0), (0.35, 0.75), (0.75, 1.0));
/// Browns.
pub const BROWN: Family = family((20.0, 36.0), (0.45, 0.75), (0.3, 0.6));
/// Greys.
pub const GREY: Family = family((0.0, 360.0), (0.0, 0.1), (0.3, 0.9));
const FAMILIES: [Family; 10] = [RED, ORANGE, YELLOW, GREEN, TEAL, BLUE, VIOLET, PINK, BROWN, GREY];

impl Family {
    /// Any of the families.
    pub fn any(rng: &mut ChaCha8Rng) -> Family {
        *pick(rng, &FAMILIES)
    }

    /// A colour of the family.
    pub fn colour(&self, rng: &mut ChaCha8Rng) -> Rgb {
        let [hue, saturation, value] =
            [self.hue, self.saturation, self.value].map(|(low, high)| between(rng, low, high));
        let channel = |n: f32| {
            let k = (n + hue.rem_euclid(360.0) / 60.0) % 6.0;
            value * (1.0 - saturation * k.min(4.0 - k).clamp(0.0, 1.0))
        };
        [channel(5.0), channel(3.0), channel(1.0)]
    }
}

/// Kinds of surface pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weave {
    /// One colour.
    Plain,
    /// Parallel bands.
    Stripes,
    /// A grid of dots.
    Dots,
    /// A checkerboard.
    Checks,
    /// Wavy bands.
    Waves,
    /// Blotches.
    Marble,
}

const WEAVES: [Weave; 6] = [
    Weave::Plain,
    Weave::Stripes,
    Weave::Dots,
    Weave::Checks,
    Weave::Waves,
    Weave::Marble,
];

/// A surface pattern over the plane.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    weave: Weave,
    frequency: f32,
    direction: (f32, f32),
    phase: (f32, f32),
    seed: u32,
}

impl Pattern {
    fn sample(rng: &mut ChaCha8Rng, weave: Weave) -> Self {
        let (sin, cos) = between(rng, 0.0, std::f32::consts::PI).sin_cos();
        Pattern {
            weave,
            frequency: between(rng, 2.5, 5.0),
            direction: (cos, sin),
            phase: (rng.random(), rng.random()),
            seed: rng.random(),
        }
    }

    /// How much of the second tone the pattern shows at a point, in 0..1.
    pub fn at(&self, (u, v): (f32, f32)) -> f32 {
        let (cos, sin) = self.direction;
        let a = (u * cos + v * sin) * self.frequency + self.phase.0;
        let b = (v * cos - u * sin) * self.frequency + self.phase.1;
        let wave = |x: f32| (x * std::f32::consts::TAU).sin();
        match self.weave {
            Weave::Plain => 0.0,
            Weave::Stripes => step(wave(a)),
            Weave::Waves => step(wave(a + 0.25 * wave(b * 0.5))),
            Weave::Checks => step(4.0 * wave(a * 0.6) * wave(b * 0.6)),
            Weave::Dots => {
                let (x, y) = (a - a.floor() - 0.5, b - b.floor() - 0.5);
                step((0.3 - x.hypot(y)) * 6.0)
            }
            Weave::Marble => step((turbulence(self.seed, a, b) - 0.5) * 6.0),
        }
    }
}

// A soft edge around 0.
fn step(x: f32) -> f32 {
    (0.5 + 1.5 * x).clamp(0.0, 1.0)
}

/// Value in 0..1 that depends on a grid cell only.
pub fn cell(seed: u32, x: i32, y: i32) -> f32 {
    let mut hash = seed ^ (x as u32).wrapping_mul(0x9E37_79B1) ^ (y as u32).wrapping_mul(0x85EB_CA77);
    hash = (hash ^ (hash >> 15)).wrapping_mul(0x2C1B_3C6D);
    hash = (hash ^ (hash >> 12)).wrapping_mul(0x297A_2D39);
    ((hash ^ (hash >> 15)) >> 8) as f32 / (1 << 24) as f32
}

/// Smooth noise in 0..1 with one bump per unit.
pub fn bumps(seed: u32, x: f32, y: f32) -> f32 {
    let (x0, y0) = (x.floor(), y.floor());
    let ease = |t: f32| t * t * (3.0 - 2.0 * t);
    let lerp = |a: f32, b: f32, t: f32| a + (b - a) * t;
    let (tx, ty) = (ease(x - x0), ease(y - y0));
    let (i, j) = (x0 as i32, y0 as i32);
    let upper = lerp(cell(seed, i, j), cell(seed, i + 1, j), tx);
    let lower = lerp(cell(seed, i, j + 1), cell(seed, i + 1, j + 1), tx);
    lerp(upper, lower, ty)
}

/// Smooth noise in 0..1 of three octaves; the coarsest has one bump per unit.
pub fn turbulence(seed: u32, x: f32, y: f32) -> f32 {
    0.55 * bumps(seed, x, y)
        + 0.3 * bumps(seed ^ 1, x * 2.1, y * 2.1)
        + 0.15 * bumps(seed ^ 2, x * 4.3, y * 4.3)
}

/// The drawn appearance of one object.
#[derive(Clone, Debug)]
pub struct Look {
    body: Rgb,
    tone: Rgb,
    second: Rgb,
    part: Rgb,
    ground: Rgb,
    leaf: Rgb,
    wood: Rgb,
    fire: Rgb,
    pattern: Pattern,
    // Darkening towards the lower right, in 0..1.
    shade: f32,
    /// Colour of the contour.
    pub contour: Rgb,
    /// Width of the contour in units.
    pub contour_width: f32,
}

impl Look {
    /// Draws a random appearance. It does not depend on the class, and on the category only through its usual
    /// `colour` and `weave`.
    pub fn sample(rng: &mut ChaCha8Rng, colour: Family, weave: Weave) -> Self {
        let body = pick_leaning(rng, &FAMILIES, colour).colour(rng);
        let weave = pick_leaning(rng, &WEAVES, weave);
        let pattern = Pattern::sample(rng, weave);
        let toward = if luminance(body) > 0.5 { [0.0; 3] } else { [1.0; 3] };
        let tone = mix(body, toward, between(rng, 0.12, 0.3));
        let second = Family::any(rng).colour(rng);
        let part = standing_out(rng, mix(body, tone, 0.5));
        let ground = if luminance(part) > 0.5 {
            [0.1, 0.1, 0.13]
        } else {
            [0.95, 0.94, 0.9]
        };
        let dark = rng.random::<f32>() < 0.75;
        Look {
            body,
            tone,
            second,
            part,
            ground,
            leaf: GREEN.colour(rng),
            wood: BROWN.colour(rng),
            fire: ORANGE.colour(rng),
            pattern,
            shade: between(rng, 0.0, 0.35),
            contour: if dark { [0.07, 0.06, 0.1] } else { [0.96; 3] },
            contour_width: between(rng, 0.02, 0.04),
        }
    }

    /// The colour of `ink` at a point of the object, in unit coordinates.
    pub fn colour(&self, ink: Ink, at: (f32, f32)) -> Rgb {
        let flat = match ink {
            Ink::Body => mix(self.body, self.tone, self.pattern.at(at)),
            Ink::Second => self.second,
            Ink::Part => return self.part,
            Ink::Ground => return self.ground,
            Ink::Dark => [0.1, 0.1, 0.12],
            Ink::Light => [0.95, 0.95, 0.93],
            Ink::Glass => [0.62, 0.8, 0.9],
            Ink::Leaf => self.leaf,
            Ink::Wood => self.wood,
            Ink::Fire => self.fire,
        };
        let light = 1.0 + self.shade * (0.2 - 0.4 * at.0 - 0.6 * at.1).clamp(-1.0, 0.6);
        flat.map(|v| v * light)
    }
}

// A colour that clearly differs from `other` in brightness.
fn standing_out(rng: &mut ChaCha8Rng, other: Rgb) -> Rgb {
    const LEAST: f32 = 0.38;
    for _ in 0..12 {
        let colour = Family::any(rng).colour(rng);
        if (luminance(colour) - luminance(other)).abs() >= LEAST {
            return colour;
        }
    }
    if luminance(other) > 0.5 {
        [0.08, 0.07, 0.12]
    } else {
        [0.97, 0.96, 0.92]
    }
}
