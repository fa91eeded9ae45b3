//! Streets seen from a car, for segmentation: every pixel has one of Cityscapes' label ids.
//!
//! A street is drawn from back to front: sky, blocks, ground with pavements and road, then houses, trees,
//! signs, people and cars, the farthest first. Cars, houses and trees are the catalogue's, so that streets
//! show objects that pretraining on the drawn world has seen.

use super::canvas::{Canvas, Coverage, Outline, Pose, Rgb, mix};
use super::catalogue::Class;
use super::object::paint_object;
use super::paint::{Family, GREEN, GREY, between, bumps, cell, pick, turbulence};
use super::picture::{OVERSAMPLING, expose};
use super::shapes::{AS_DRAWN, Ink, Piece, curve, disc, line, smooth};
use camtrast_common::error::Result;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::f32::consts::TAU;

/// Cityscapes' label ids of the things in streets.
pub mod id {
    /// The bonnet of the car with the camera; not evaluated.
    pub const EGO_VEHICLE: u8 = 1;
    /// Road.
    pub const ROAD: u8 = 7;
    /// Pavement.
    pub const SIDEWALK: u8 = 8;
    /// Houses and blocks.
    pub const BUILDING: u8 = 11;
    /// Posts of signs.
    pub const POLE: u8 = 17;
    /// Fronts of signs.
    pub const TRAFFIC_SIGN: u8 = 20;
    /// Trees.
    pub const VEGETATION: u8 = 21;
    /// Grass.
    pub const TERRAIN: u8 = 22;
    /// Sky.
    pub const SKY: u8 = 23;
    /// People.
    pub const PERSON: u8 = 24;
    /// Cars.
    pub const CAR: u8 = 26;
}

/// A street and its label image.
pub struct Street {
    /// The picture.
    pub canvas: Canvas,
    /// A label id for every pixel, row by row.
    pub labels: Vec<u8>,
}

/// Draws a street of `height` x `width` pixels.
///
/// # Errors
/// When OpenCV fails to draw.
pub fn draw(height: usize, width: usize, rng: &mut ChaCha8Rng) -> Result<Street> {
    let mut painter = Painter::new(height * OVERSAMPLING, width * OVERSAMPLING, rng);
    painter.blocks()?;
    painter.ground()?;
    let mut things: Vec<(f32, Thing)> = Vec::new();
    for (kind, least, most, nearest) in [
        (Thing::House, 2, 5, 0.45),
        (Thing::Tree, 1, 5, 0.6),
        (Thing::Sign, 1, 4, 0.7),
        (Thing::Person, 1, 5, 0.8),
        (Thing::Car, 1, 5, 0.8),
    ] {
        for _ in 0..painter.rng.random_range(least..=most) {
            things.push((between(painter.rng, 0.06, nearest), kind));
        }
    }
    things.sort_by(|a, b| a.0.total_cmp(&b.0));
    things
        .into_iter()
        .try_for_each(|(near, thing)| painter.thing(near, thing))?;
    painter.bonnet()?;
    let Painter {
        canvas, labels, rng, ..
    } = painter;
    let columns = width * OVERSAMPLING;
    let mut canvas = canvas.shrunk(OVERSAMPLING);
    expose(rng, &mut canvas);
    let label = |i: usize| labels[i / width * OVERSAMPLING * columns + i % width * OVERSAMPLING];
    Ok(Street {
        canvas,
        labels: (0..height * width).map(label).collect(),
    })
}

#[derive(Clone, Copy)]
enum Thing {
    House,
    Tree,
    Sign,
    Person,
    Car,
}

const FIGURE: &[Piece] = &[
    line(&[(-0.12, 0.3), (-0.2, 0.98)], 0.2, Ink::Second),
    line(&[(0.12, 0.3), (0.22, 0.98)], 0.2, Ink::Second),
    curve(&[(-0.26, -0.4), (-0.42, 0.0), (-0.36, 0.3)], 0.14, Ink::Body),
    curve(&[(0.26, -0.4), (0.42, -0.05), (0.38, 0.28)], 0.14, Ink::Body),
    smooth(
        &[(-0.28, -0.5), (0.28, -0.5), (0.24, 0.4), (-0.24, 0.4)],
        Ink::Body,
    ),
    disc(0.0, -0.78, 0.2, Ink::Part),
];
const POST: &[Piece] = &[line(&[(0.0, -0.7), (0.0, 0.98)], 0.1, Ink::Dark)];

struct Painter<'a> {
    canvas: Canvas,
    labels: Vec<u8>,
    rng: &'a mut ChaCha8Rng,
    // Row of the horizon, column that the road runs to.
    horizon: f32,
    vanishing: f32,
    // Half the width of the road at the lower rim, and of road with pavements.
    road: f32,
    pavement: f32,
}

impl<'a> Painter<'a> {
    fn new(height: usize, width: usize, rng: &'a mut ChaCha8Rng) -> Self {
        let (h, w) = (height as f32, width as f32);
        let blue = mix([0.55, 0.75, 0.95], [0.8; 3], between(rng, 0.0, 0.9));
        let seed: u32 = rng.random();
        let canvas = Canvas::painted(width, height, |x, y| {
            let cloud = (2.2 * turbulence(seed, 4.0 * x / w, 7.0 * y / h) - 0.8).clamp(0.0, 1.0);
            mix(blue, [0.95; 3], (0.7 * cloud + 0.4 * y / h).min(1.0))
        });
        let road = w * between(rng, 0.3, 0.55);
        Painter {
            canvas,
            labels: vec![id::SKY; height * width],
            horizon: h * between(rng, 0.36, 0.5),
            vanishing: w * between(rng, 0.38, 0.62),
            road,
            pavement: road + w * between(rng, 0.15, 0.4),
            rng,
        }
    }

    fn size(&self) -> (f32, f32) {
        (self.canvas.height as f32, self.canvas.width as f32)
    }

    fn mark(&mut self, coverage: &Coverage, id: u8) {
        for (x, y, _) in coverage.cells().filter(|(_, _, alpha)| *alpha >= 128) {
            self.labels[y * self.canvas.width + x] = id;
        }
    }

    fn region(&mut self, points: &[(f32, f32)], id: u8, paint: impl Fn(f32, f32) -> Rgb) -> Result<()> {
        let coverage = self.canvas.cover(&Outline {
            points,
            closed: true,
            pen: None,
        })?;
        self.canvas.lay(&coverage, 1.0, paint);
        self.mark(&coverage, id);
        Ok(())
    }

    // Blocks of flats along the horizon, with gaps that show the sky.
    fn blocks(&mut self) -> Result<()> {
        let (h, w) = self.size();
        let mut left = -w * between(self.rng, 0.0, 0.1);
        while left < w {
            let right = left + w * between(self.rng, 0.08, 0.22);
            let top = self.horizon - h * between(self.rng, 0.1, 0.42);
            let wall = mix(
                Family::any(self.rng).colour(self.rng),
                [between(self.rng, 0.3, 0.8); 3],
                0.55,
            );
            let glass = mix([0.25, 0.3, 0.4], [0.8, 0.85, 0.9], self.rng.random());
            let (storey, seed) = (h * between(self.rng, 0.045, 0.08), self.rng.random());
            let ground = self.horizon + 2.0;
            self.region(
                &[(left, top), (right, top), (right, ground), (left, ground)],
                id::BUILDING,
                |x, y| {
                    let (u, v) = ((x - left) / storey, (y - top) / storey);
                    let inside = (0.3..0.7).contains(&u.fract()) && (0.3..0.75).contains(&v.fract());
                    if inside {
                        glass.map(|c| c * (0.7 + 0.3 * cell(seed, u as i32, v as i32)))
                    } else {
                        wall.map(|c| c * (0.9 + 0.15 * bumps(seed, 6.0 * u, 6.0 * v)))
                    }
                },
            )?;
            left = right
                + w * if self.rng.random::<f32>() < 0.4 {
                    between(self.rng, 0.02, 0.12)
                } else {
                    0.0
                };
        }
        Ok(())
    }

    // Grass, on it pavements, between them the road with its markings.
    fn ground(&mut self) -> Result<()> {
        let (h, w) = self.size();
        let (horizon, middle) = (self.horizon, self.vanishing);
        let seed: u32 = self.rng.random();
        let grain = move |x: f32, y: f32, depth: f32| depth * (bumps(seed, 90.0 * x / w, 90.0 * y / h) - 0.5);
        let grass = mix(GREEN.colour(self.rng), [0.35, 0.4, 0.25], 0.5);
        self.region(
            &[(0.0, horizon), (w, horizon), (w, h), (0.0, h)],
            id::TERRAIN,
            |x, y| grass.map(|c| c * (1.0 + grain(x, y, 0.5))),
        )?;
        // From a tenth of its width at the horizon to the whole at the lower rim.
        let strip = |half: f32| {
            [
                (middle - 0.1 * half, horizon),
                (middle + 0.1 * half, horizon),
                (middle + half, h),
                (middle - half, h),
            ]
        };
        let stone = mix(GREY.colour(self.rng), [0.65, 0.6, 0.55], 0.6);
        self.region(&strip(self.pavement), id::SIDEWALK, |x, y| {
            let near = 0.1 + 0.9 * (y - horizon) / (h - horizon);
            let slab = ((x - middle) / (near * 0.07 * w)).fract().abs();
            stone.map(|c| c * (if slab < 0.08 { 0.8 } else { 1.0 } + grain(x, y, 0.1)))
        })?;
        let tar = [between(self.rng, 0.22, 0.42); 3];
        let half = self.road;
        self.region(&strip(half), id::ROAD, |x, y| {
            let near = 0.1 + 0.9 * (y - horizon) / (h - horizon);
            let across = ((x - middle) / (near * half)).abs();
            // Equal distances shrink towards the horizon.
            let dash = (1.5 / near).fract() < 0.5;
            let marked = (across < 0.015 && dash) || (0.93..0.96).contains(&across);
            if marked {
                [0.85; 3]
            } else {
                tar.map(|c| c * (1.0 + grain(x, y, 0.25)))
            }
        })
    }

    // `near` is 0 at the horizon and 1 at the lower rim; sizes and distances from the middle grow with it.
    fn thing(&mut self, near: f32, thing: Thing) -> Result<()> {
        let (h, w) = self.size();
        let grown = 0.1 + 0.9 * near;
        let foot = self.horizon + near * (h - self.horizon);
        let side = if self.rng.random() { 1.0 } else { -1.0 };
        let (road, pavement) = (self.road, self.pavement);
        let (least, most) = match thing {
            Thing::House => (pavement + 0.12 * w, pavement + 0.5 * w),
            Thing::Tree => (pavement, pavement + 0.5 * w),
            Thing::Sign => (road * 1.05, road * 1.2),
            Thing::Person => (road * 0.7, pavement),
            Thing::Car => (0.1 * road, 0.8 * road),
        };
        let x = self.vanishing + side * grown * between(self.rng, least, most);
        let (size, base) = match thing {
            Thing::House => (between(self.rng, 0.45, 0.6), 0.86),
            Thing::Tree => (between(self.rng, 0.4, 0.6), 0.98),
            Thing::Sign => (between(self.rng, 0.3, 0.38), 0.98),
            Thing::Person => (between(self.rng, 0.2, 0.26), 0.98),
            Thing::Car => (between(self.rng, 0.26, 0.34), 0.68),
        };
        let scale = h * size * grown;
        let stretch = side * between(self.rng, 0.85, 1.15);
        let pose = Pose {
            x,
            y: foot - base * scale,
            scale,
            angle: 0.0,
            stretch,
        };
        match thing {
            Thing::House => self.of_catalogue("house", &pose, id::BUILDING),
            Thing::Tree => self.of_catalogue("tree", &pose, id::VEGETATION),
            Thing::Car => self.of_catalogue("car", &pose, id::CAR),
            Thing::Person => self.pieces(FIGURE, &pose, id::PERSON),
            Thing::Sign => {
                self.pieces(POST, &pose, id::POLE)?;
                let front = Pose {
                    y: pose.y - 0.72 * scale,
                    scale: 0.32 * scale,
                    ..pose
                };
                self.sign(&front)
            }
        }
    }

    fn of_catalogue(&mut self, category: &str, pose: &Pose, id: u8) -> Result<()> {
        let classes: Vec<Class> = Class::all()
            .filter(|class| class.category().name == category)
            .collect();
        let class = *pick(self.rng, &classes);
        let look = class.category().taste.look(self.rng);
        let coverage = paint_object(&mut self.canvas, class, pose, &look)?;
        self.mark(&coverage, id);
        Ok(())
    }

    fn pieces(&mut self, pieces: &[Piece], pose: &Pose, id: u8) -> Result<()> {
        let classes: Vec<Class> = Class::all().collect();
        let class = *pick(self.rng, &classes);
        let look = class.category().taste.look(self.rng);
        for piece in pieces {
            let coverage = piece.cover(&self.canvas, pose, AS_DRAWN[0], 0.0)?;
            self.canvas.lay(&coverage, 1.0, |x, y| {
                look.colour(piece.ink, pose.to_unit((x, y)))
            });
            self.mark(&coverage, id);
        }
        Ok(())
    }

    // A bright shape with a red or blue rim: a triangle, a square or a disc.
    fn sign(&mut self, pose: &Pose) -> Result<()> {
        let corners = *pick(self.rng, &[3, 4, 24]);
        let rim = *pick(self.rng, &[[0.8, 0.1, 0.1], [0.1, 0.25, 0.7]]);
        for (radius, colour) in [(1.0, rim), (0.68, [0.95, 0.95, 0.9])] {
            let angle = |i: usize| TAU * (i as f32 + 0.5) / corners as f32 + TAU / 4.0;
            let corner = |i: usize| pose.to_canvas((radius * angle(i).cos(), radius * angle(i).sin()));
            let points: Vec<_> = (0..corners).map(corner).collect();
            self.region(&points, id::TRAFFIC_SIGN, |_, _| colour)?;
        }
        Ok(())
    }

    fn bonnet(&mut self) -> Result<()> {
        let (h, w) = self.size();
        let (height, dark) = (h * between(self.rng, 0.03, 0.07), between(self.rng, 0.05, 0.3));
        let arc = |i: usize| {
            let angle = TAU / 2.0 * i as f32 / 16.0;
            (w * (0.5 - 0.45 * angle.cos()), h - height * angle.sin())
        };
        let points: Vec<_> = (0..=16).map(arc).collect();
        self.region(&points, id::EGO_VEHICLE, |_, y| [dark + 0.3 * (h - y) / h; 3])
    }
}
