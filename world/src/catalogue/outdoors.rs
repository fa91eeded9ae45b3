//! Houses, flowers, kites, trees and mushrooms.

use super::category::{Category, Split, Variant};
use super::emblems;
use crate::paint::{BLUE, GREEN, PINK, RED, Weave, YELLOW};
use crate::setting::{Setting, Taste};
use crate::shapes::Ink::{Body, Dark, Glass, Ground, Leaf, Light, Part, Second, Wood};
use crate::shapes::{AS_DRAWN, Place, curve, disc, frame, line, polygon, smooth};

pub static HOUSE: Category = Category {
    name: "house",
    split: Split::Train,
    pieces: &[
        polygon(&[(-0.66, -0.1), (0.66, -0.1), (0.66, 0.86), (-0.66, 0.86)], Body),
        polygon(&[(-0.88, -0.02), (0.0, -0.62), (0.88, -0.02)], Second),
        polygon(&[(-0.15, 0.36), (0.15, 0.36), (0.15, 0.86), (-0.15, 0.86)], Dark),
        polygon(
            &[(-0.52, 0.16), (-0.26, 0.16), (-0.26, 0.42), (-0.52, 0.42)],
            Glass,
        ),
        polygon(&[(0.26, 0.16), (0.52, 0.16), (0.52, 0.42), (0.26, 0.42)], Glass),
    ],
    part_behind: true,
    taste: Taste {
        colour: YELLOW,
        weave: Weave::Plain,
        setting: Setting::Horizon,
    },
    variants: [
        Variant {
            name: "with a chimney",
            pieces: &[polygon(
                &[(0.24, -0.2), (0.24, -0.92), (0.52, -0.92), (0.52, -0.2)],
                Part,
            )],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a flag",
            pieces: &[
                line(&[(0.0, -0.5), (0.0, -1.06)], 0.07, Part),
                polygon(&[(0.0, -1.08), (0.46, -0.92), (0.0, -0.74)], Part),
            ],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a finial ball",
            pieces: &[
                line(&[(0.0, -0.5), (0.0, -0.8)], 0.1, Part),
                disc(0.0, -0.86, 0.2, Part),
            ],
            places: AS_DRAWN,
        },
        Variant {
            name: "with an aerial",
            pieces: &[
                line(&[(0.0, -0.5), (0.0, -1.06)], 0.08, Part),
                line(&[(-0.32, -0.98), (0.32, -0.98)], 0.09, Part),
                line(&[(-0.22, -0.78), (0.22, -0.78)], 0.09, Part),
            ],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a weathervane",
            pieces: &[
                line(&[(0.0, -0.5), (0.0, -0.86)], 0.07, Part),
                line(&[(-0.36, -0.86), (0.2, -0.86)], 0.1, Part),
                polygon(&[(0.14, -1.08), (0.48, -0.86), (0.14, -0.64)], Part),
            ],
            places: AS_DRAWN,
        },
    ],
};

const HEART_OF_FLOWER: &[Place] = &[Place(0.0, -0.32, 0.22)];

pub static FLOWER: Category = Category {
    name: "flower",
    split: Split::Train,
    pieces: &[
        curve(&[(0.0, -0.2), (0.05, 0.4), (-0.02, 1.0)], 0.1, Leaf),
        smooth(&[(0.03, 0.6), (0.3, 0.32), (0.6, 0.36), (0.4, 0.62)], Leaf),
        smooth(&[(0.0, 0.75), (-0.3, 0.45), (-0.6, 0.52), (-0.35, 0.78)], Leaf),
        disc(0.42, -0.32, 0.25, Body),
        disc(0.21, 0.04, 0.25, Body),
        disc(-0.21, 0.04, 0.25, Body),
        disc(-0.42, -0.32, 0.25, Body),
        disc(-0.21, -0.68, 0.25, Body),
        disc(0.21, -0.68, 0.25, Body),
        disc(0.0, -0.32, 0.31, Ground),
    ],
    part_behind: false,
    taste: Taste {
        colour: PINK,
        weave: Weave::Plain,
        setting: Setting::Clouds,
    },
    variants: [
        Variant {
            name: "with a round eye",
            pieces: emblems::DISC,
            places: HEART_OF_FLOWER,
        },
        Variant {
            name: "with a starry eye",
            pieces: emblems::STAR,
            places: HEART_OF_FLOWER,
        },
        Variant {
            name: "with a crossed eye",
            pieces: emblems::CROSS,
            places: HEART_OF_FLOWER,
        },
        Variant {
            name: "with a moon-shaped eye",
            pieces: emblems::MOON,
            places: HEART_OF_FLOWER,
        },
        Variant {
            name: "with a banded eye",
            pieces: emblems::BARS,
            places: HEART_OF_FLOWER,
        },
    ],
};

const SAIL: &[Place] = &[Place(0.0, -0.24, 0.25)];

pub static KITE: Category = Category {
    name: "kite",
    split: Split::Val,
    pieces: &[
        curve(&[(0.0, 0.5), (0.18, 0.68), (-0.1, 0.84), (0.12, 1.0)], 0.07, Dark),
        polygon(&[(0.0, -1.0), (0.66, -0.26), (0.0, 0.58), (-0.66, -0.26)], Body),
        frame(
            &[(0.0, -0.92), (0.58, -0.26), (0.0, 0.48), (-0.58, -0.26)],
            0.09,
            Second,
        ),
    ],
    part_behind: false,
    taste: Taste {
        colour: BLUE,
        weave: Weave::Checks,
        setting: Setting::Clouds,
    },
    variants: [
        Variant {
            name: "with a star",
            pieces: emblems::STAR,
            places: SAIL,
        },
        Variant {
            name: "with a moon",
            pieces: emblems::MOON,
            places: SAIL,
        },
        Variant {
            name: "with a bolt",
            pieces: emblems::BOLT,
            places: SAIL,
        },
        Variant {
            name: "with a ring",
            pieces: emblems::RING,
            places: SAIL,
        },
        Variant {
            name: "with a square",
            pieces: emblems::SQUARE,
            places: SAIL,
        },
    ],
};

const BOUGHS: &[Place] = &[
    Place(-0.42, -0.2, 0.15),
    Place(0.0, -0.62, 0.15),
    Place(0.42, -0.16, 0.15),
    Place(0.0, -0.14, 0.15),
];

pub static TREE: Category = Category {
    name: "tree",
    split: Split::Test,
    pieces: &[
        polygon(&[(-0.14, 0.0), (0.14, 0.0), (0.2, 0.98), (-0.2, 0.98)], Wood),
        disc(0.0, -0.5, 0.46, Body),
        disc(-0.42, -0.14, 0.38, Body),
        disc(0.42, -0.14, 0.38, Body),
        disc(0.0, -0.02, 0.36, Body),
    ],
    part_behind: false,
    taste: Taste {
        colour: GREEN,
        weave: Weave::Marble,
        setting: Setting::Horizon,
    },
    variants: [
        Variant {
            name: "with apples",
            pieces: emblems::DISC,
            places: BOUGHS,
        },
        Variant {
            name: "with cones",
            pieces: emblems::TRIANGLE,
            places: BOUGHS,
        },
        Variant {
            name: "with starry blossoms",
            pieces: emblems::STAR,
            places: BOUGHS,
        },
        Variant {
            name: "with wreaths",
            pieces: emblems::RING,
            places: BOUGHS,
        },
        Variant {
            name: "with curved pods",
            pieces: emblems::MOON,
            places: BOUGHS,
        },
    ],
};

const CAP: &[Place] = &[
    Place(-0.44, -0.22, 0.17),
    Place(0.02, -0.46, 0.17),
    Place(0.46, -0.2, 0.17),
];

pub static MUSHROOM: Category = Category {
    name: "mushroom",
    split: Split::Test,
    pieces: &[
        smooth(
            &[
                (-0.22, 0.0),
                (0.22, 0.0),
                (0.2, 0.5),
                (0.32, 0.92),
                (-0.32, 0.92),
                (-0.2, 0.5),
            ],
            Light,
        ),
        smooth(
            &[
                (-0.92, 0.02),
                (-0.66, -0.52),
                (0.0, -0.82),
                (0.66, -0.52),
                (0.92, 0.02),
                (0.4, 0.12),
                (-0.4, 0.12),
            ],
            Body,
        ),
        polygon(&[(-0.26, 0.26), (0.26, 0.26), (0.3, 0.38), (-0.3, 0.38)], Second),
    ],
    part_behind: false,
    taste: Taste {
        colour: RED,
        weave: Weave::Plain,
        setting: Setting::Pebbles,
    },
    variants: [
        Variant {
            name: "with round flecks",
            pieces: emblems::DISC,
            places: CAP,
        },
        Variant {
            name: "with square flecks",
            pieces: emblems::SQUARE,
            places: CAP,
        },
        Variant {
            name: "with diamond flecks",
            pieces: emblems::DIAMOND,
            places: CAP,
        },
        Variant {
            name: "with ringed flecks",
            pieces: emblems::RING,
            places: CAP,
        },
        Variant {
            name: "with crossed flecks",
            pieces: emblems::CROSS,
            places: CAP,
        },
    ],
};
