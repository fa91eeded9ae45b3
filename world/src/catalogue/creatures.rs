//! Fish, birds and butterflies.

use super::category::{Category, Split, Variant};
use super::emblems;
use crate::paint::{BLUE, ORANGE, VIOLET, Weave};
use crate::setting::{Setting, Taste};
use crate::shapes::Ink::{Body, Dark, Fire, Light, Part, Second};
use crate::shapes::{AS_DRAWN, Place, curve, disc, ellipse, line, polygon, smooth};

pub static FISH: Category = Category {
    name: "fish",
    split: Split::Train,
    pieces: &[
        polygon(&[(-0.4, -0.34), (0.0, -0.7), (0.28, -0.24)], Second),
        smooth(
            &[
                (-0.9, 0.05),
                (-0.35, -0.42),
                (0.2, -0.32),
                (0.6, -0.05),
                (0.6, 0.09),
                (0.2, 0.36),
                (-0.4, 0.42),
            ],
            Body,
        ),
        ellipse(-0.08, 0.14, 0.17, 0.09, Second),
        disc(-0.58, -0.08, 0.11, Light),
        disc(-0.6, -0.08, 0.055, Dark),
    ],
    part_behind: true,
    taste: Taste {
        colour: ORANGE,
        weave: Weave::Stripes,
        setting: Setting::Pebbles,
    },
    variants: [
        Variant {
            name: "with a forked tail",
            pieces: &[polygon(
                &[(0.45, 0.02), (1.02, -0.48), (0.78, 0.02), (1.02, 0.52)],
                Part,
            )],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a round tail",
            pieces: &[ellipse(0.77, 0.02, 0.27, 0.34, Part)],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a pointed tail",
            pieces: &[polygon(&[(0.5, -0.4), (1.1, 0.02), (0.5, 0.44)], Part)],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a square tail",
            pieces: &[polygon(
                &[
                    (0.45, 0.02),
                    (0.66, -0.34),
                    (1.02, -0.34),
                    (1.02, 0.38),
                    (0.66, 0.38),
                ],
                Part,
            )],
            places: AS_DRAWN,
        },
        Variant {
            name: "with two streamers",
            pieces: &[
                curve(&[(0.5, 0.0), (0.72, -0.34), (1.08, -0.42)], 0.11, Part),
                curve(&[(0.5, 0.04), (0.72, 0.38), (1.08, 0.46)], 0.11, Part),
            ],
            places: AS_DRAWN,
        },
    ],
};

pub static BIRD: Category = Category {
    name: "bird",
    split: Split::Train,
    pieces: &[
        line(&[(-0.05, 0.3), (-0.1, 0.75)], 0.06, Fire),
        line(&[(0.15, 0.3), (0.15, 0.75)], 0.06, Fire),
        polygon(&[(0.6, -0.02), (1.05, -0.14), (1.05, 0.2), (0.6, 0.22)], Second),
        polygon(&[(-0.7, -0.4), (-1.05, -0.26), (-0.7, -0.16)], Fire),
        smooth(
            &[
                (-0.62, 0.05),
                (-0.2, -0.28),
                (0.35, -0.15),
                (0.78, 0.1),
                (0.35, 0.42),
                (-0.3, 0.45),
            ],
            Body,
        ),
        disc(-0.5, -0.28, 0.3, Body),
        smooth(&[(-0.2, -0.02), (0.25, -0.1), (0.6, 0.15), (0.1, 0.25)], Second),
        disc(-0.58, -0.33, 0.09, Light),
        disc(-0.6, -0.33, 0.045, Dark),
    ],
    part_behind: true,
    taste: Taste {
        colour: BLUE,
        weave: Weave::Plain,
        setting: Setting::Clouds,
    },
    variants: [
        Variant {
            name: "with a spiky crest",
            pieces: &[polygon(
                &[
                    (-0.74, -0.44),
                    (-0.78, -0.9),
                    (-0.58, -0.64),
                    (-0.48, -1.05),
                    (-0.38, -0.64),
                    (-0.14, -0.88),
                    (-0.24, -0.4),
                ],
                Part,
            )],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a pompom",
            pieces: &[
                line(&[(-0.48, -0.5), (-0.45, -0.8)], 0.07, Part),
                disc(-0.44, -0.84, 0.2, Part),
            ],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a swept plume",
            pieces: &[smooth(
                &[
                    (-0.62, -0.5),
                    (-0.3, -0.8),
                    (0.25, -0.78),
                    (-0.05, -0.58),
                    (-0.28, -0.38),
                ],
                Part,
            )],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a curl",
            pieces: &[curve(
                &[
                    (-0.42, -0.5),
                    (-0.32, -0.85),
                    (-0.58, -1.05),
                    (-0.8, -0.9),
                    (-0.68, -0.76),
                ],
                0.1,
                Part,
            )],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a scalloped comb",
            pieces: &[
                disc(-0.72, -0.54, 0.15, Part),
                disc(-0.5, -0.64, 0.16, Part),
                disc(-0.28, -0.54, 0.15, Part),
            ],
            places: AS_DRAWN,
        },
    ],
};

const WINGS: &[Place] = &[Place(-0.56, -0.36, 0.19), Place(0.56, -0.36, 0.19)];

pub static BUTTERFLY: Category = Category {
    name: "butterfly",
    split: Split::Train,
    pieces: &[
        smooth(
            &[
                (-0.05, 0.05),
                (-0.65, 0.08),
                (-0.75, 0.55),
                (-0.4, 0.75),
                (-0.05, 0.25),
            ],
            Second,
        ),
        smooth(
            &[
                (0.05, 0.05),
                (0.65, 0.08),
                (0.75, 0.55),
                (0.4, 0.75),
                (0.05, 0.25),
            ],
            Second,
        ),
        smooth(
            &[
                (-0.04, -0.1),
                (-0.4, -0.72),
                (-0.95, -0.66),
                (-0.8, -0.05),
                (-0.1, 0.1),
            ],
            Body,
        ),
        smooth(
            &[
                (0.04, -0.1),
                (0.4, -0.72),
                (0.95, -0.66),
                (0.8, -0.05),
                (0.1, 0.1),
            ],
            Body,
        ),
        ellipse(0.0, 0.06, 0.08, 0.46, Dark),
        curve(&[(0.0, -0.36), (-0.12, -0.7), (-0.3, -0.86)], 0.04, Dark),
        curve(&[(0.0, -0.36), (0.12, -0.7), (0.3, -0.86)], 0.04, Dark),
    ],
    part_behind: false,
    taste: Taste {
        colour: VIOLET,
        weave: Weave::Marble,
        setting: Setting::Haze,
    },
    variants: [
        Variant {
            name: "with round spots",
            pieces: emblems::DISC,
            places: WINGS,
        },
        Variant {
            name: "with ring spots",
            pieces: emblems::RING,
            places: WINGS,
        },
        Variant {
            name: "with triangular spots",
            pieces: emblems::TRIANGLE,
            places: WINGS,
        },
        Variant {
            name: "with barred spots",
            pieces: emblems::BARS,
            places: WINGS,
        },
        Variant {
            name: "with crossed spots",
            pieces: emblems::CROSS,
            places: WINGS,
        },
    ],
};
