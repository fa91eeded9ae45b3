//! RoIAlign (forward and backward) and suppression at the sizes of `c4` on an image of 800 x 800, and the
//! images a second that the data path makes ready for it. Prints a line `name seconds` each;
//! `benches/peers/detection_operators.py` runs them in turns with torchvision's.
//!
//! `CAMTRAST_BENCH_IMAGES`: a JPEG file to decode and resize, over and over; without it the data path is left
//! out.

use camtrast_common::engine::Source;
use camtrast_common::testing::{fill, unit};
use camtrast_detection::grouping::Grouping;
use camtrast_detection::model::nms::nms;
use camtrast_detection::model::roi_align::{Map, Region, RoiAlign};
use camtrast_detection::source::{DetectionAugment, DetectionSource};
use camtrast_detection::transform::{Aspect, Scale};
use camtrast_detection::{Annotated, Dataset, Object};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;
use tch::{Device, Tensor};

const ROUNDS: usize = 7;

/// Boxes [count, 4] of 16 to `side` pixels within a square of `side`, the same as the peer's.
fn boxes(name: &str, count: i64, side: f64) -> Tensor {
    let rows = unit(name, &[count, 4]);
    let [a, b, c, d] = [0, 1, 2, 3].map(|i| rows.select(1, i));
    let (w, h) = (&c * &c * (side - 16.0) + 16.0, &d * &d * (side - 16.0) + 16.0);
    let (x, y) = (a * (side - &w), b * (side - &h));
    Tensor::stack(&[&x, &y, &(&x + w), &(&y + h)], 1)
}

fn median(mut once: impl FnMut()) -> f64 {
    once();
    let mut seconds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            once();
            begun.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[ROUNDS / 2]
}

fn main() {
    if let Some(threads) = std::env::var("OMP_NUM_THREADS").ok().and_then(|n| n.parse().ok()) {
        tch::set_num_threads(threads);
    }
    let (proposals, scores) = (boxes("nms", 2000, 800.0), unit("scores", &[2000]));
    println!(
        "nms {:.6}",
        median(|| drop(black_box(nms(&proposals, &scores, 0.7, usize::MAX).unwrap())))
    );

    let sides: Vec<f32> = Vec::try_from(boxes("regions", 512, 800.0).reshape([-1])).unwrap();
    let region = |corners: &[f32]| Region {
        map: 0,
        image: 0,
        corners: corners.try_into().expect("four numbers"),
    };
    let regions: Vec<Region> = sides.chunks_exact(4).map(region).collect();
    let features =
        camtrast_common::device::channels_last(&fill("features", &[1, 1024, 50, 50])).set_requires_grad(true);
    let align = RoiAlign {
        bins: 14,
        sampling_ratio: 0,
        aligned: true,
    };
    let before = peak_bytes();
    let seconds = median(|| {
        let map = Map {
            features: &features,
            scale: 1.0 / 16.0,
        };
        let pooled = align.forward(&[map], &regions);
        pooled.sum(None).backward();
    });
    println!("roi_align {seconds:.6}");
    println!("roi_align_bytes {}", peak_bytes() - before);

    let Some(image) = std::env::var_os("CAMTRAST_BENCH_IMAGES") else {
        return;
    };
    let object = Object {
        class: 0,
        bbox: [10.0, 10.0, 90.0, 90.0],
        difficult: false,
        area: None,
    };
    let annotated = |id: usize| {
        let (width, height) = (0, 0);
        Annotated {
            id: id.to_string(),
            image: (&image).into(),
            width,
            height,
            objects: vec![object.clone()],
        }
    };
    let dataset = Dataset {
        images: (0..16).map(annotated).collect(),
        ..Dataset::default()
    };
    let scale = Scale {
        side: 800,
        max_side: 1333,
        aspect: Aspect::Keep,
        pad_to: 32,
    };
    let augment = DetectionAugment {
        scales: vec![scale],
        flip: 0.5,
        difficult: true,
    };
    let grouping = Grouping {
        batch_size: 16,
        images_per_group: 0,
        by_aspect: false,
    };
    let mut source = DetectionSource::new(
        Arc::new(dataset),
        augment,
        grouping,
        1,
        0,
        Device::Cpu,
        camtrast_common::distributed::Group::ALONE,
    );
    let seconds = median(|| drop(black_box(source.batch(0, 0).expect("a whole image"))));
    println!("data_images_per_second {:.1}", 16.0 / seconds);
}

/// The most memory that the process has held, in bytes.
fn peak_bytes() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse::<i64>().ok())
        .map_or(0, |kilobytes| kilobytes * 1024)
}
