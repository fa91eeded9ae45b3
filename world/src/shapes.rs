//! The pieces of drawings, in unit coordinates (x right, y down, about -1..1) that tables can hold.

use super::canvas::{Canvas, Coverage, Outline, Pose};
use camtrast_common::error::Result;
use std::f32::consts::TAU;

/// A corner in unit coordinates.
pub type Corner = (f32, f32);

/// What a piece is painted with; the actual colours come from the object's [`Look`](super::paint::Look).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// The patterned main colour.
    Body,
    /// The second colour.
    Second,
    /// The colour of the part that distinguishes the class; contrasts with `Body` and `Ground`.
    Part,
    /// Bright or dark, in contrast to `Part`.
    Ground,
    /// Nearly black.
    Dark,
    /// Nearly white.
    Light,
    /// Window glass.
    Glass,
    /// Leaves and stems.
    Leaf,
    /// Trunks and timber.
    Wood,
    /// Flames and beaks.
    Fire,
}

/// The geometry of one piece.
#[derive(Clone, Copy, Debug)]
pub enum Path {
    /// Centre and radii.
    Ellipse(f32, f32, f32, f32),
    /// Straight sides.
    Straight(&'static [Corner]),
    /// A smooth curve through the corners (Catmull-Rom).
    Smooth(&'static [Corner]),
}

/// One stroke or filled shape of a drawing.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Its geometry.
    pub path: Path,
    /// Its paint.
    pub ink: Ink,
    /// Pen width in units; `None` fills.
    pub pen: Option<f32>,
    /// Whether the path returns to its start.
    pub closed: bool,
}

/// A filled ellipse: centre, then radii.
pub const fn ellipse(x: f32, y: f32, rx: f32, ry: f32, ink: Ink) -> Piece {
    Piece {
        path: Path::Ellipse(x, y, rx, ry),
        ink,
        pen: None,
        closed: true,
    }
}

/// A filled circle.
pub const fn disc(x: f32, y: f32, radius: f32, ink: Ink) -> Piece {
    ellipse(x, y, radius, radius, ink)
}

/// A circle drawn with a pen.
pub const fn ring(x: f32, y: f32, radius: f32, pen: f32, ink: Ink) -> Piece {
    Piece {
        path: Path::Ellipse(x, y, radius, radius),
        ink,
        pen: Some(pen),
        closed: true,
    }
}

/// A filled polygon.
pub const fn polygon(corners: &'static [Corner], ink: Ink) -> Piece {
    Piece {
        path: Path::Straight(corners),
        ink,
        pen: None,
        closed: true,
    }
}

/// A filled shape with a smooth edge.
pub const fn smooth(corners: &'static [Corner], ink: Ink) -> Piece {
    Piece {
        path: Path::Smooth(corners),
        ink,
        pen: None,
        closed: true,
    }
}

/// An open line with corners.
pub const fn line(corners: &'static [Corner], pen: f32, ink: Ink) -> Piece {
    Piece {
        path: Path::Straight(corners),
        ink,
        pen: Some(pen),
        closed: false,
    }
}

/// An open smooth line.
pub const fn curve(corners: &'static [Corner], pen: f32, ink: Ink) -> Piece {
    Piece {
        path: Path::Smooth(corners),
        ink,
        pen: Some(pen),
        closed: false,
    }
}

/// A closed line with corners.
pub const fn frame(corners: &'static [Corner], pen: f32, ink: Ink) -> Piece {
    Piece {
        path: Path::Straight(corners),
        ink,
        pen: Some(pen),
        closed: true,
    }
}

/// Where a group of pieces is put inside a drawing: centre and size, in the drawing's units.
#[derive(Clone, Copy, Debug)]
pub struct Place(pub f32, pub f32, pub f32);

/// A group that is already in the drawing's own units.
pub const AS_DRAWN: &[Place] = &[Place(0.0, 0.0, 1.0)];

impl Piece {
    /// What the piece covers when drawn at `place` of an object in `pose`, its edge moved outwards by `grow`
    /// pixels.
    ///
    /// # Errors
    /// When OpenCV fails to draw.
    pub fn cover(&self, canvas: &Canvas, pose: &Pose, place: Place, grow: f32) -> Result<Coverage> {
        let put = |(u, v): Corner| pose.to_canvas((place.0 + u * place.2, place.1 + v * place.2));
        let points: Vec<_> = self.path.corners(self.closed).into_iter().map(put).collect();
        let pen = self.pen.map(|pen| pen * place.2 * pose.scale + 2.0 * grow);
        let mut coverage = canvas.cover(&Outline {
            points: &points,
            closed: self.closed,
            pen,
        })?;
        if pen.is_none() && grow > 0.0 {
            coverage.join(&canvas.cover(&Outline {
                points: &points,
                closed: true,
                pen: Some(2.0 * grow),
            })?);
        }
        Ok(coverage)
    }
}

impl Path {
    fn corners(&self, closed: bool) -> Vec<Corner> {
        match *self {
            Path::Ellipse(x, y, rx, ry) => {
                const STEPS: u32 = 36;
                let angles = (0..STEPS).map(|i| i as f32 * TAU / STEPS as f32);
                angles.map(|a| (x + rx * a.cos(), y + ry * a.sin())).collect()
            }
            Path::Straight(corners) => corners.to_vec(),
            Path::Smooth(corners) => through(corners, closed),
        }
    }
}

// Catmull-Rom: six points per span, the ends of an open curve repeated.
fn through(corners: &[Corner], closed: bool) -> Vec<Corner> {
    const STEPS: usize = 6;
    let count = corners.len() as isize;
    let at = |i: isize| {
        corners[if closed {
            i.rem_euclid(count)
        } else {
            i.clamp(0, count - 1)
        } as usize]
    };
    let spans = if closed { count } else { count - 1 };
    let mut points = Vec::with_capacity(spans as usize * STEPS + 1);
    for span in 0..spans {
        let [a, b, c, d] = [at(span - 1), at(span), at(span + 1), at(span + 2)];
        for step in 0..STEPS {
            let t = step as f32 / STEPS as f32;
            let blend = |a: f32, b: f32, c: f32, d: f32| {
                let (square, cube) = (t * t, t * t * t);
                0.5 * (2.0 * b
                    + (c - a) * t
                    + (2.0 * a - 5.0 * b + 4.0 * c - d) * square
                    + (3.0 * b - a - 3.0 * c + d) * cube)
            };
            points.push((blend(a.0, b.0, c.0, d.0), blend(a.1, b.1, c.1, d.1)));
        }
    }
    points.push(at(spans));
    points
}
