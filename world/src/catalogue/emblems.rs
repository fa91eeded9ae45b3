//! Small signs that several categories carry; they fill the unit circle.

use crate::shapes::Ink::Part;
use crate::shapes::{Piece, disc, line, polygon, ring};

pub const DISC: &[Piece] = &[disc(0.0, 0.0, 0.9, Part)];
pub const RING: &[Piece] = &[ring(0.0, 0.0, 0.72, 0.42, Part)];
pub const SQUARE: &[Piece] = &[polygon(
    &[(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    Part,
)];
pub const TRIANGLE: &[Piece] = &[polygon(&[(0.0, -1.0), (1.0, 0.8), (-1.0, 0.8)], Part)];
pub const DIAMOND: &[Piece] = &[polygon(
    &[(0.0, -1.15), (0.7, 0.0), (0.0, 1.15), (-0.7, 0.0)],
    Part,
)];
pub const CROSS: &[Piece] = &[
    line(&[(0.0, -0.9), (0.0, 0.9)], 0.55, Part),
    line(&[(-0.9, 0.0), (0.9, 0.0)], 0.55, Part),
];
pub const BARS: &[Piece] = &[
    line(&[(-0.85, -0.5), (0.85, -0.5)], 0.5, Part),
    line(&[(-0.85, 0.5), (0.85, 0.5)], 0.5, Part),
];
pub const STAR: &[Piece] = &[polygon(
    &[
        (0.0, -1.15),
        (0.28, -0.38),
        (1.09, -0.36),
        (0.45, 0.15),
        (0.68, 0.93),
        (0.0, 0.47),
        (-0.68, 0.93),
        (-0.45, 0.15),
        (-1.09, -0.36),
        (-0.28, -0.38),
    ],
    Part,
)];
pub const BOLT: &[Piece] = &[polygon(
    &[
        (0.25, -1.15),
        (-0.75, 0.2),
        (-0.05, 0.2),
        (-0.3, 1.15),
        (0.75, -0.3),
        (0.05, -0.3),
    ],
    Part,
)];
pub const MOON: &[Piece] = &[polygon(
    &[
        (0.35, -1.0),
        (-0.35, -0.9),
        (-0.9, -0.35),
        (-0.95, 0.3),
        (-0.5, 0.85),
        (0.1, 1.05),
        (0.7, 0.8),
        (0.1, 0.65),
        (-0.25, 0.25),
        (-0.28, -0.25),
        (0.0, -0.7),
    ],
    Part,
)];
