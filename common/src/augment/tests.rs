//! What augmentation must keep whatever the numbers drawn.

use super::*;
use crate::random::generator;
use crate::testing::{same, uniform};
use tch::no_grad;

const STRONG: Augment = Augment::MOCO_V2;

// Random pixels, u8 [n, side, side, 3].
fn pixels(n: i64, side: i64) -> Tensor {
    let shape = [n, side, side, 3];
    let bytes: Vec<u8> = uniform("pixels", shape.iter().product::<i64>() as usize)
        .map(|u| (u * 256.0) as u8)
        .collect();
    Tensor::from_slice(&bytes).view(shape)
}

// n images of one colour.
fn plain(n: i64, side: i64, colour: [u8; 3]) -> Tensor {
    Tensor::from_slice(&colour)
        .expand([n, side, side, 3], false)
        .contiguous()
}

fn apply(augment: &Augment, pixels: &Tensor, seed: u64) -> Tensor {
    augment.apply(pixels, &mut generator(seed, "test", 0, 0))
}

// Undoes the normalisation: [N, 3, H, W] in 0..1.
fn unit(x: &Tensor) -> Tensor {
    let channels = |v: [f64; 3]| Tensor::from_slice(&v).view([1, 3, 1, 1]);
    x * channels(IMAGENET_STD) + channels(IMAGENET_MEAN)
}

fn largest(x: &Tensor) -> f64 {
    x.abs().max().double_value(&[])
}

fn per_image(x: &Tensor) -> Vec<f64> {
    Vec::try_from(x.to_kind(Kind::Double).reshape([-1])).unwrap()
}

#[test]
fn one_generator_state_gives_one_result() {
    let pixels = pixels(20, 32);
    let first = apply(&STRONG, &pixels, 3);
    assert!(same(&apply(&STRONG, &pixels, 3), &first));
    assert!(!same(&apply(&STRONG, &pixels, 4), &first));
}

#[test]
fn nothing_to_do_is_normalisation_alone() {
    let pixels = pixels(17, 20);
    assert!(same(
        &apply(&Augment::NONE, &pixels, 0),
        &Input::new(&IMAGENET_MEAN, &IMAGENET_STD, Device::Cpu).of(&pixels)
    ));
    let exact = pixels.permute([0, 3, 1, 2]).to_kind(Kind::Double) / 255.0;
    assert!(largest(&(unit(&apply(&Augment::NONE, &pixels, 0)) - exact)) < 1e-6);
}

#[test]
fn outputs_are_colours_in_channels_last() {
    for (n, side) in [(1, 1), (1, 8), (17, 32), (3, 84)] {
        let out = apply(&STRONG, &pixels(n, side), 1);
        assert_eq!(out.size(), [n, 3, side, side]);
        assert!(out.permute([0, 2, 3, 1]).is_contiguous());
        let colours = unit(&out);
        assert!(
            colours.min().double_value(&[]) > -1e-6 && colours.max().double_value(&[]) < 1.0 + 1e-6,
            "{n} x {side}"
        );
    }
}

// 33 images make chunks of 16, 16 and 1. Nothing of an image may depend on which it fell into.
#[test]
fn each_image_is_augmented_alone() {
    let (n, side) = (33, 32);
    let pixels = pixels(n, side);
    let draws = STRONG.draw([n, side, side], &mut generator(5, "test", 0, 0));
    let batch = apply(&STRONG, &pixels, 5);
    for i in 0..n {
        let alone = STRONG.augment(&pixels, &draws, i as usize..i as usize + 1);
        let alone = normalise(&alone, &IMAGENET_MEAN, &IMAGENET_STD);
        let error = largest(&(batch.narrow(0, i, 1) - alone));
        assert!(error < 2e-5, "image {i} differs by {error:e}");
    }
}

#[test]
fn images_of_a_batch_get_numbers_of_their_own() {
    let n = 33;
    let out = apply(
        &STRONG,
        &pixels(1, 32).expand([n, 32, 32, 3], false).contiguous(),
        6,
    );
    for i in 0..n {
        for j in 0..i {
            assert!(!same(&out.get(i), &out.get(j)), "images {i} and {j}");
        }
    }
}

// Every pixel's red is its row and its green its column, so the window can be read off the output.
#[test]
fn resized_crops_have_the_drawn_area_and_shape() {
    let (n, side) = (400, 60);
    let ramp = Tensor::arange(side, (Kind::Float, Device::Cpu)) * 4.0;
    let rows = ramp.view([side, 1]).expand([side, side], false);
    let columns = ramp.view([1, side]).expand([side, side], false);
    let image = Tensor::stack(&[&rows, &columns, &rows.zeros_like()], 2).to_kind(Kind::Uint8);
    let augment = Augment {
        crop: Crop::Resized { scale: (0.2, 1.0) },
        flip: 0.5,
        ..Augment::NONE
    };
    let out = unit(&apply(
        &augment,
        &image.expand([n, side, side, 3], false).contiguous(),
        0,
    )) * (255.0 / 4.0);
    let position = |channel: i64, row: i64, column: i64| {
        per_image(&out.select(1, channel).select(1, row).select(1, column))
    };
    let (top, bottom) = (position(0, 0, 0), position(0, side - 1, 0));
    let (left, right) = (position(1, 0, 0), position(1, 0, side - 1));
    let (mut areas, mut flips) = (Vec::new(), 0);
    for i in 0..n as usize {
        let (height, width) = (bottom[i] - top[i] + 1.0, (right[i] - left[i]).abs() + 1.0);
        for edge in [top[i], bottom[i], left[i], right[i]] {
            assert!(
                (edge - edge.round()).abs() < 1e-3 && (-1e-3..=side as f64 - 1.0 + 1e-3).contains(&edge),
                "{edge}"
            );
        }
        // Sides are rounded to whole pixels.
        let (least, most) = ((height - 0.5) * (width - 0.5), (height + 0.5) * (width + 0.5));
        let whole = (side * side) as f64;
        assert!(most >= 0.2 * whole && least <= whole, "{height} x {width}");
        assert!(
            (width + 0.5) / (height - 0.5) >= 0.75 && (width - 0.5) / (height + 0.5) <= 4.0 / 3.0,
            "{height} x {width}"
        );
        areas.push(height * width / whole);
        flips += i32::from(right[i] < left[i]);
    }
    areas.sort_by(f64::total_cmp);
    assert!(
        areas[0] < 0.25 && areas[n as usize - 1] > 0.9,
        "areas from {} to {}",
        areas[0],
        areas[n as usize - 1]
    );
    // Five standard deviations about the half.
    assert!((150..=250).contains(&flips), "{flips} of {n} mirrored");
}

#[test]
fn padded_crops_shift_by_no_more_than_the_padding() {
    let (n, side, padding) = (200, 24, 3);
    let augment = Augment {
        crop: Crop::Padded { padding },
        ..Augment::NONE
    };
    let out = unit(&apply(&augment, &plain(n, side, [255; 3]), 0));
    // Black rows and columns tell the shift; what is not black is untouched.
    let rows = (out.select(1, 0).amax([2i64].as_slice(), false).lt(0.5)).sum_dim_intlist(
        [1i64].as_slice(),
        false,
        Kind::Int64,
    );
    let columns = (out.select(1, 0).amax([1i64].as_slice(), false).lt(0.5)).sum_dim_intlist(
        [1i64].as_slice(),
        false,
        Kind::Int64,
    );
    for black in [rows, columns] {
        assert_eq!(
            (black.min().int64_value(&[]), black.max().int64_value(&[])),
            (0, padding)
        );
    }
    let grey = out
        .ge(1e-4)
        .logical_and(&out.le(1.0 - 1e-4))
        .sum(Kind::Int64)
        .int64_value(&[]);
    assert_eq!(grey, 0, "pixels between black and white");
}

// One operation at a time on pixels whose colour tells the factor.
#[test]
fn jitter_factors_fill_their_range() {
    let n = 600;
    // Left half 64, right half 192 in every channel: mean grey is 128 (times the luma's sum of 0.9999).
    let halves = {
        let column = Tensor::cat(
            &[
                Tensor::full([4], 64, (Kind::Uint8, Device::Cpu)),
                Tensor::full([4], 192, (Kind::Uint8, Device::Cpu)),
            ],
            0,
        );
        column.view([1, 1, 8, 1]).expand([n, 8, 8, 3], false).contiguous()
    };
    let channel = |x: &Tensor, c: i64, column: i64| x.select(1, c).select(1, 0).select(1, column);
    type Reading<'a> = Box<dyn Fn(&Tensor) -> Tensor + 'a>;
    let cases: [(usize, f64, f64, Tensor, Reading); 4] = [
        (
            0,
            0.4,
            1.0,
            plain(n, 4, [102; 3]),
            Box::new(|x| channel(x, 0, 0) / 0.4),
        ),
        (
            1,
            0.4,
            1.0,
            halves,
            Box::new(|x| (channel(x, 0, 7) - channel(x, 0, 0)) * 255.0 / 128.0),
        ),
        (
            2,
            0.4,
            1.0,
            plain(n, 4, [153, 102, 102]),
            Box::new(|x| (channel(x, 0, 0) - channel(x, 1, 0)) * 5.0),
        ),
        (
            3,
            0.1,
            0.0,
            plain(n, 4, [255, 0, 0]),
            Box::new(|x| (channel(x, 1, 0) - channel(x, 2, 0)) / 6.0),
        ),
    ];
    for (operation, strength, centre, pixels, reading) in cases {
        let mut jitter = [0.0; 4];
        jitter[operation] = strength;
        let augment = Augment {
            jitter,
            jitter_probability: 0.8,
            ..Augment::NONE
        };
        let factors = per_image(&no_grad(|| reading(&unit(&apply(&augment, &pixels, 0)))));
        let off: Vec<f64> = factors.iter().map(|f| (f - centre) / strength).collect();
        let (least, most) = off
            .iter()
            .fold((0.0f64, 0.0f64), |(a, b), &f| (a.min(f), b.max(f)));
        assert!(
            (-1.0001..-0.95).contains(&least) && (0.95..1.0001).contains(&most),
            "{operation}: {least} to {most}"
        );
        // 120 +- 50 of 600 are left alone.
        let unchanged = off.iter().filter(|f| f.abs() < 1e-4).count();
        assert!(
            (70..=170).contains(&unchanged),
            "{operation}: {unchanged} unchanged"
        );
    }
}

#[test]
fn grayscale_and_blur_come_as_often_as_asked() {
    let n = 600;
    let pixels = pixels(1, 8).expand([n, 8, 8, 3], false).contiguous();
    let still = unit(&apply(&Augment::NONE, &pixels, 0));
    let changed = |augment: &Augment| {
        let off = (unit(&apply(augment, &pixels, 0)) - &still)
            .abs()
            .amax([1i64, 2, 3].as_slice(), false);
        off.gt(1e-4).sum(Kind::Int64).int64_value(&[])
    };
    // Five standard deviations.
    let grey = changed(&Augment {
        grayscale: 0.2,
        ..Augment::NONE
    });
    assert!((70..=170).contains(&grey), "{grey}");
    let blurred = changed(&Augment {
        blur: 0.5,
        blur_sigma: (0.5, 2.0),
        ..Augment::NONE
    });
    assert!((240..=360).contains(&blurred), "{blurred}");
    assert_eq!(
        changed(&Augment {
            grayscale: 1.0,
            ..Augment::NONE
        }),
        n
    );
}
