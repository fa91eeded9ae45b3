//! Cups, robots, lamps, clocks and chairs.

use super::category::{Category, Split, Variant};
use crate::paint::{BROWN, GREY, PINK, TEAL, Weave, YELLOW};
use crate::setting::{Setting, Taste};
use crate::shapes::Ink::{Body, Dark, Light, Part, Second};
use crate::shapes::{AS_DRAWN, curve, disc, ellipse, frame, line, polygon, ring, smooth};

pub static CUP: Category = Category {
    name: "cup",
    split: Split::Train,
    pieces: &[
        ellipse(-0.12, 0.66, 0.78, 0.13, Second),
        polygon(&[(-0.64, -0.55), (0.4, -0.55), (0.26, 0.64), (-0.5, 0.64)], Body),
        polygon(
            &[(-0.58, -0.02), (0.34, -0.02), (0.32, 0.16), (-0.56, 0.16)],
            Second,
        ),
        ellipse(-0.12, -0.55, 0.52, 0.13, Light),
        ellipse(-0.12, -0.53, 0.43, 0.08, Dark),
    ],
    part_behind: true,
    taste: Taste {
        colour: PINK,
        weave: Weave::Dots,
        setting: Setting::Planks,
    },
    variants: [
        Variant {
            name: "with a round handle",
            pieces: &[ring(0.5, 0.02, 0.3, 0.14, Part)],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a square handle",
            pieces: &[frame(
                &[(0.2, -0.28), (0.78, -0.28), (0.78, 0.34), (0.2, 0.34)],
                0.14,
                Part,
            )],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a pointed handle",
            pieces: &[frame(&[(0.2, -0.36), (0.92, 0.02), (0.2, 0.42)], 0.14, Part)],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a double handle",
            pieces: &[
                ring(0.5, -0.2, 0.19, 0.13, Part),
                ring(0.46, 0.26, 0.19, 0.13, Part),
            ],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a hooked handle",
            pieces: &[curve(
                &[(0.3, -0.34), (0.74, -0.36), (0.86, 0.0), (0.66, 0.18)],
                0.14,
                Part,
            )],
            places: AS_DRAWN,
        },
    ],
};

pub static ROBOT: Category = Category {
    name: "robot",
    split: Split::Train,
    pieces: &[
        polygon(&[(-0.3, 0.5), (-0.08, 0.5), (-0.08, 0.98), (-0.34, 0.98)], Dark),
        polygon(&[(0.3, 0.5), (0.08, 0.5), (0.08, 0.98), (0.34, 0.98)], Dark),
        line(&[(-0.4, 0.05), (-0.72, 0.4)], 0.15, Body),
        line(&[(0.4, 0.05), (0.72, 0.4)], 0.15, Body),
        disc(-0.72, 0.42, 0.12, Second),
        disc(0.72, 0.42, 0.12, Second),
        polygon(&[(-0.46, -0.04), (0.46, -0.04), (0.4, 0.6), (-0.4, 0.6)], Second),
        polygon(&[(-0.24, 0.12), (0.24, 0.12), (0.24, 0.4), (-0.24, 0.4)], Light),
        polygon(&[(-0.4, -0.56), (0.4, -0.56), (0.4, -0.08), (-0.4, -0.08)], Body),
        disc(-0.18, -0.36, 0.09, Light),
        disc(0.18, -0.36, 0.09, Light),
        line(&[(-0.18, -0.18), (0.18, -0.18)], 0.05, Dark),
    ],
    part_behind: true,
    taste: Taste {
        colour: GREY,
        weave: Weave::Checks,
        setting: Setting::Bricks,
    },
    variants: [
        Variant {
            name: "with a ball antenna",
            pieces: &[
                line(&[(0.0, -0.5), (0.0, -0.9)], 0.08, Part),
                disc(0.0, -0.88, 0.18, Part),
            ],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a forked antenna",
            pieces: &[
                line(&[(0.0, -0.5), (0.0, -0.74), (-0.3, -1.04)], 0.11, Part),
                line(&[(0.0, -0.74), (0.3, -1.04)], 0.11, Part),
            ],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a zigzag antenna",
            pieces: &[line(
                &[(0.0, -0.5), (0.2, -0.66), (-0.2, -0.82), (0.2, -0.98)],
                0.11,
                Part,
            )],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a dish antenna",
            pieces: &[
                line(&[(0.0, -0.5), (0.0, -0.8)], 0.08, Part),
                smooth(&[(-0.36, -1.0), (0.36, -1.0), (0.2, -0.76), (-0.2, -0.76)], Part),
            ],
            places: AS_DRAWN,
        },
        Variant {
            name: "with two horns",
            pieces: &[
                polygon(&[(-0.38, -0.5), (-0.44, -0.96), (-0.12, -0.5)], Part),
                polygon(&[(0.38, -0.5), (0.44, -0.96), (0.12, -0.5)], Part),
            ],
            places: AS_DRAWN,
        },
    ],
};

pub static LAMP: Category = Category {
    name: "lamp",
    split: Split::Val,
    pieces: &[
        line(&[(0.0, -0.2), (0.0, 0.62)], 0.1, Dark),
        polygon(
            &[(-0.3, -0.92), (0.3, -0.92), (0.64, -0.12), (-0.64, -0.12)],
            Body,
        ),
        polygon(
            &[(-0.62, -0.24), (0.62, -0.24), (0.66, -0.1), (-0.66, -0.1)],
            Second,
        ),
    ],
    part_behind: false,
    taste: Taste {
        colour: YELLOW,
        weave: Weave::Dots,
        setting: Setting::Planks,
    },
    variants: [
        Variant {
            name: "with a domed base",
            pieces: &[smooth(
                &[
                    (-0.42, 0.9),
                    (-0.28, 0.62),
                    (0.0, 0.5),
                    (0.28, 0.62),
                    (0.42, 0.9),
                    (0.0, 0.94),
                ],
                Part,
            )],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a block base",
            pieces: &[polygon(
                &[(-0.3, 0.54), (0.3, 0.54), (0.3, 0.94), (-0.3, 0.94)],
                Part,
            )],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a tripod base",
            pieces: &[
                line(&[(0.0, 0.48), (-0.42, 0.92)], 0.11, Part),
                line(&[(0.0, 0.48), (0.0, 0.94)], 0.11, Part),
                line(&[(0.0, 0.48), (0.42, 0.92)], 0.11, Part),
            ],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a ring base",
            pieces: &[ring(0.0, 0.72, 0.22, 0.12, Part)],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a flat base",
            pieces: &[polygon(
                &[(-0.56, 0.8), (0.56, 0.8), (0.56, 0.94), (-0.56, 0.94)],
                Part,
            )],
            places: AS_DRAWN,
        },
    ],
};

pub static CLOCK: Category = Category {
    name: "clock",
    split: Split::Test,
    pieces: &[
        line(&[(-0.35, 0.6), (-0.5, 0.95)], 0.11, Dark),
        line(&[(0.35, 0.6), (0.5, 0.95)], 0.11, Dark),
        disc(0.0, 0.18, 0.66, Body),
        disc(0.0, 0.18, 0.48, Light),
        line(&[(0.0, 0.18), (0.0, -0.18)], 0.06, Dark),
        line(&[(0.0, 0.18), (0.26, 0.32)], 0.06, Dark),
        disc(0.0, -0.24, 0.04, Second),
        disc(0.0, 0.6, 0.04, Second),
        disc(0.42, 0.18, 0.04, Second),
        disc(-0.42, 0.18, 0.04, Second),
    ],
    part_behind: true,
    taste: Taste {
        colour: TEAL,
        weave: Weave::Plain,
        setting: Setting::Bricks,
    },
    variants: [
        Variant {
            name: "with two bells",
            pieces: &[disc(-0.4, -0.52, 0.22, Part), disc(0.4, -0.52, 0.22, Part)],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a ring on top",
            pieces: &[ring(0.0, -0.68, 0.24, 0.12, Part)],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a crown",
            pieces: &[polygon(
                &[
                    (-0.36, -0.38),
                    (-0.42, -0.92),
                    (-0.18, -0.66),
                    (0.0, -0.98),
                    (0.18, -0.66),
                    (0.42, -0.92),
                    (0.36, -0.38),
                ],
                Part,
            )],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a winding knob",
            pieces: &[
                line(&[(0.0, -0.4), (0.0, -0.7)], 0.14, Part),
                polygon(
                    &[(-0.26, -0.92), (0.26, -0.92), (0.26, -0.68), (-0.26, -0.68)],
                    Part,
                ),
            ],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a carrying bow",
            pieces: &[curve(
                &[
                    (-0.5, -0.2),
                    (-0.44, -0.72),
                    (0.0, -0.94),
                    (0.44, -0.72),
                    (0.5, -0.2),
                ],
                0.09,
                Part,
            )],
            places: AS_DRAWN,
        },
    ],
};

pub static CHAIR: Category = Category {
    name: "chair",
    split: Split::Test,
    pieces: &[
        line(&[(-0.48, -0.94), (-0.48, 0.2)], 0.14, Body),
        line(&[(0.48, -0.94), (0.48, 0.2)], 0.14, Body),
        line(&[(-0.5, 0.2), (-0.56, 0.98)], 0.13, Body),
        line(&[(0.5, 0.2), (0.56, 0.98)], 0.13, Body),
        polygon(
            &[(-0.55, 0.14), (0.55, 0.14), (0.68, 0.38), (-0.68, 0.38)],
            Second,
        ),
    ],
    part_behind: true,
    taste: Taste {
        colour: BROWN,
        weave: Weave::Stripes,
        setting: Setting::Planks,
    },
    variants: [
        Variant {
            name: "with an upright back",
            pieces: &[
                line(&[(-0.22, -0.86), (-0.22, 0.2)], 0.08, Part),
                line(&[(0.0, -0.86), (0.0, 0.2)], 0.08, Part),
                line(&[(0.22, -0.86), (0.22, 0.2)], 0.08, Part),
            ],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a slatted back",
            pieces: &[
                line(&[(-0.48, -0.7), (0.48, -0.7)], 0.12, Part),
                line(&[(-0.48, -0.3), (0.48, -0.3)], 0.12, Part),
            ],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a crossed back",
            pieces: &[
                line(&[(-0.46, -0.8), (0.46, 0.05)], 0.1, Part),
                line(&[(0.46, -0.8), (-0.46, 0.05)], 0.1, Part),
            ],
            places: AS_DRAWN,
        },
        Variant {
            name: "with a ringed back",
            pieces: &[ring(0.0, -0.4, 0.32, 0.1, Part)],
            places: AS_DRAWN,
        },
        Variant {
            name: "with an arched back",
            pieces: &[curve(
                &[
                    (-0.46, 0.05),
                    (-0.36, -0.5),
                    (0.0, -0.82),
                    (0.36, -0.5),
                    (0.46, 0.05),
                ],
                0.11,
                Part,
            )],
            places: AS_DRAWN,
        },
    ],
};
