//! Cars, boats and rockets.

use super::category::{Category, Split, Variant};
use super::emblems;
use crate::paint::{GREY, RED, TEAL, Weave};
use crate::setting::{Setting, Taste};
use crate::shapes::Ink::{Body, Dark, Fire, Glass, Light, Part, Second, Wood};
use crate::shapes::{AS_DRAWN, Place, curve, disc, ellipse, line, polygon, smooth};

const DOOR: &[Place] = &[Place(0.0, 0.16, 0.21)];

pub static CAR: Category = Category {
    name: "car",
    split: Split::Train,
    pieces: &[
        polygon(
            &[
                (-0.98, 0.45),
                (-0.98, 0.05),
                (-0.62, -0.1),
                (-0.4, -0.5),
                (0.36, -0.5),
                (0.62, -0.1),
                (0.98, 0.0),
                (0.98, 0.45),
            ],
            Body,
        ),
        polygon(
            &[(-0.48, -0.12), (-0.32, -0.42), (-0.05, -0.42), (-0.05, -0.12)],
            Glass,
        ),
        polygon(
            &[(0.05, -0.12), (0.05, -0.42), (0.29, -0.42), (0.48, -0.12)],
            Glass,
        ),
        polygon(
            &[(-0.98, 0.36), (0.98, 0.36), (0.98, 0.46), (-0.98, 0.46)],
            Second,
        ),
        disc(-0.56, 0.46, 0.22, Dark),
        disc(0.56, 0.46, 0.22, Dark),
        disc(-0.56, 0.46, 0.1, Light),
        disc(0.56, 0.46, 0.1, Light),
        ellipse(0.9, 0.14, 0.07, 0.07, Fire),
    ],
    part_behind: false,
    taste: Taste {
        colour: RED,
        weave: Weave::Plain,
        setting: Setting::Horizon,
    },
    variants: [
        Variant {
            name: "with a star on its door",
            pieces: emblems::STAR,
            places: DOOR,
        },
        Variant {
            name: "with a cross on its door",
            pieces: emblems::CROSS,
            places: DOOR,
        },
        Variant {
            name: "with a ring on its door",
            pieces: emblems::RING,
            places: DOOR,
        },
        Variant {
            name: "with a bolt on its door",
            pieces: emblems::BOLT,
            places: DOOR,
        },
        Variant {
            name: "with a triangle on its door",
            pieces: emblems::TRIANGLE,
            places: DOOR,
        },
    ],
};

pub static BOAT: Category = Category {
    name: "boat",
    split: Split::Train,
    pieces: &[
        line(&[(0.0, 0.4), (0.0, -0.98)], 0.07, Wood),
        polygon(&[(0.07, -0.5), (0.68, 0.24), (0.07, 0.24)], Second),
        polygon(&[(-0.07, -0.46), (-0.5, 0.24), (-0.07, 0.24)], Light),
        polygon(&[(-0.92, 0.34), (0.92, 0.34), (0.6, 0.82), (-0.6, 0.82)], Body),
    ],
    part_behind: false,
    taste: Taste {
        colour: TEAL,
        weave: Weave::Waves,
        setting: Setting::Horizon,
    },
    variants: [
        Variant {
            name: "with a pointed pennant",
            pieces: &[polygon(&[(0.03, -1.02), (0.56, -0.82), (0.03, -0.6)], Part)],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a swallowtail flag",
            pieces: &[polygon(
                &[
                    (0.03, -1.02),
                    (0.58, -1.02),
                    (0.36, -0.82),
                    (0.58, -0.62),
                    (0.03, -0.62),
                ],
                Part,
            )],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a square flag",
            pieces: &[polygon(
                &[(0.03, -1.02), (0.42, -1.02), (0.42, -0.62), (0.03, -0.62)],
                Part,
            )],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a streamer",
            pieces: &[curve(
                &[(0.03, -0.92), (0.22, -1.04), (0.4, -0.8), (0.6, -0.92)],
                0.1,
                Part,
            )],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a masthead ball",
            pieces: &[disc(0.0, -0.84, 0.2, Part)],
            places: AS_DRAWN,
        },
    ],
};

const NOSE: &[Place] = &[Place(0.0, -0.2, 0.2)];

pub static ROCKET: Category = Category {
    name: "rocket",
    split: Split::Train,
    pieces: &[
        smooth(&[(-0.18, 0.55), (0.0, 1.05), (0.18, 0.55), (0.0, 0.5)], Fire),
        polygon(&[(-0.26, 0.1), (-0.72, 0.75), (-0.2, 0.58)], Second),
        polygon(&[(0.26, 0.1), (0.72, 0.75), (0.2, 0.58)], Second),
        smooth(
            &[
                (0.0, -1.0),
                (0.28, -0.5),
                (0.33, 0.1),
                (0.22, 0.6),
                (-0.22, 0.6),
                (-0.33, 0.1),
                (-0.28, -0.5),
            ],
            Body,
        ),
        polygon(&[(-0.31, 0.28), (0.31, 0.28), (0.28, 0.42), (-0.28, 0.42)], Dark),
    ],
    part_behind: false,
    taste: Taste {
        colour: GREY,
        weave: Weave::Checks,
        setting: Setting::Haze,
    },
    variants: [
        Variant {
            name: "with a round window",
            pieces: emblems::DISC,
            places: NOSE,
        },
        Variant {
            name: "with a diamond window",
            pieces: emblems::DIAMOND,
            places: NOSE,
        },
        Variant {
            name: "with a slatted window",
            pieces: emblems::BARS,
            places: NOSE,
        },
        Variant {
            name: "with a triangular window",
            pieces: emblems::TRIANGLE,
            places: NOSE,
        },
        Variant {
            name: "with a cross-shaped window",
            pieces: emblems::CROSS,
            places: NOSE,
        },
    ],
};
