//! Training crops against mmsegmentation's transforms, bit for bit.

use camtrast_common::testing::{Case, probe, relative_error};
use camtrast_images::resample::Image;
use camtrast_segmentation::augment::{Resize, SegmentationAugment, Window, resize_whole};
use camtrast_segmentation::label_image::LabelImage;
use camtrast_segmentation::photometric::Distortion;
use opencv::core::Mat;
use opencv::prelude::*;
use serde_json::Value;
use tch::Tensor;

fn bytes(tensor: &Tensor) -> Vec<u8> {
    Vec::<u8>::try_from(tensor.reshape([-1])).unwrap()
}

fn label_image(tensor: &Tensor) -> LabelImage {
    let (height, width) = tensor.size2().unwrap();
    LabelImage {
        height: height as usize,
        width: width as usize,
        pixels: bytes(tensor),
    }
}

fn augment(height: usize, width: usize, scale: f64) -> SegmentationAugment {
    SegmentationAugment {
        height,
        width,
        scale: (scale, scale),
        resize: Resize::Whole,
        flip: 0.0,
        max_class_share: 0.75,
        photometric: true,
        padding: [0; 3],
    }
}

fn distortion(crop: &Value) -> Distortion {
    Distortion {
        brightness: crop["brightness"].as_f64(),
        contrast: crop["contrast"].as_f64(),
        contrast_first: crop["first"].as_bool().unwrap(),
        saturation: crop["saturation"].as_f64(),
        hue: crop["hue"].as_i64().map(|turn| turn as i32),
    }
}

#[test]
fn crops_are_the_same() {
    let case = Case::open("mmseg_crops");
    let image = Image {
        height: 30,
        width: 44,
        pixels: bytes(&case.tensor("image")),
    };
    let labels = label_image(&case.tensor("labels"));
    let crops = case.json("crops");
    for (k, crop) in crops.as_array().unwrap().iter().enumerate() {
        let of = |name: &str| case.tensor(&format!("{k}.{name}"));
        let number = |name: &str| crop[name].as_f64().unwrap();
        let scaled = Resize::Whole.sides(30, 44, number("ratio"));
        assert_eq!(
            Vec::<i64>::try_from(of("scaled")).unwrap(),
            [scaled.0 as i64, scaled.1 as i64],
            "crop {k}"
        );
        let (height, width) = of("labels").size2().unwrap();
        let cut = augment(height as usize, width as usize, number("ratio"));
        let (image, labels) = resize_whole(&image, &labels, scaled).unwrap();
        let flip = crop["flip"].as_bool().unwrap();
        let window = Window {
            scaled,
            top: number("top") as usize,
            left: number("left") as usize,
            flip,
        };
        assert!(
            cut.labels(&labels, &window).unwrap() == bytes(&of("labels")),
            "labels of crop {k}"
        );
        let ours = cut.image(&image, &window, Some(&distortion(crop))).unwrap();
        let apart = ours
            .iter()
            .zip(bytes(&of("image")))
            .map(|(a, b)| a.abs_diff(b))
            .max();
        assert_eq!(apart, Some(0), "image of crop {k}");
    }
}

#[test]
fn a_class_that_takes_too_much_is_drawn_again() {
    let case = Case::open("mmseg_crops");
    let blocks = label_image(&case.tensor("blocks"));
    for (name, offsets) in case.json("choices").as_object().unwrap() {
        let offsets: Vec<Value> = offsets
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|o| o.as_array().unwrap().clone())
            .collect();
        let mut drawn = 0;
        let draw = |most: usize| {
            assert_eq!(most, 12);
            drawn += 1;
            offsets[drawn - 1].as_u64().unwrap() as usize
        };
        let (window, _) = augment(8, 8, 1.0).choose(&blocks, (20, 20), false, draw).unwrap();
        let chosen = Vec::<i64>::try_from(case.tensor(&format!("{name}.chosen"))).unwrap();
        assert_eq!(
            chosen,
            [window.top as i64, window.left as i64, drawn as i64 / 2],
            "{name}"
        );
    }
}

#[test]
fn every_colour_is_changed_alike() {
    let levels = |i: usize| (0..3).map(move |c| (i >> (8 - 4 * c) & 15) as u8 * 17);
    let grid: Vec<u8> = (0..4096).flat_map(levels).collect();
    let grid = Mat::from_slice(&grid)
        .unwrap()
        .reshape(3, 64)
        .unwrap()
        .clone_pointee();
    let changed = Distortion {
        saturation: Some(1.21),
        hue: Some(-7),
        ..Distortion::default()
    }
    .apply(grid)
    .unwrap();
    let changed = Tensor::from_slice(changed.data_bytes().unwrap());
    let truth = Case::open("mmseg_crops").tensor("rgb_of_all");
    assert!(relative_error(&probe("rgb_of_all", &changed), &truth) < 1e-12);
}
