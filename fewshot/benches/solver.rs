//! 600 episodes of 2048-dimensional features: inner products, classifiers and query scores.
//!
//! `benches/peers/fewshot_sklearn.py` times the whole process beside scikit-learn's.

use camtrast_common::progress::Silent;
use camtrast_common::tensor_file::bytes_of;
use camtrast_fewshot::{EpisodeSet, Features, Protocol, ScoreOptions, score};
use criterion::Criterion;
use std::time::Duration;
use tch::{Device, Kind, Tensor};

const CLASSES: i64 = 20;
const IMAGES: i64 = 600;
const DIMENSIONS: i64 = 2048;

/// Features [CLASSES * IMAGES, DIMENSIONS] f32 of miniImageNet's test split in size and kind: pooled after a
/// ReLU, so non-negative with a large common mean, and varying within a class along a few hundred shared
/// directions.
fn features() -> (Tensor, Vec<i64>) {
    tch::manual_seed(0);
    let normal = |size: &[i64]| Tensor::randn(size, (Kind::Float, Device::Cpu));
    let common = normal(&[1, 1, DIMENSIONS]).abs();
    let centres = normal(&[CLASSES, 1, DIMENSIONS]) * 0.25;
    let within = normal(&[CLASSES * IMAGES, 300]).matmul(&(normal(&[300, DIMENSIONS]) * 0.045));
    let features = (within.view([CLASSES, IMAGES, DIMENSIONS]) + centres + common).relu();
    (
        features.view([-1, DIMENSIONS]),
        (0..CLASSES * IMAGES).map(|i| i / IMAGES).collect(),
    )
}

fn solver(criterion: &mut Criterion) {
    let (features, labels) = features();
    let features = Features::from_bytes(bytes_of(&features), DIMENSIONS as usize).expect("whole rows");
    let mut group = criterion.benchmark_group("fewshot");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5));
    for shots in [1, 5] {
        let protocol = Protocol {
            shots,
            ..Protocol::default()
        };
        let episodes = EpisodeSet::sample(&labels, &protocol, 0).expect("there are images enough");
        group.bench_function(format!("5way{shots}shot"), |bencher| {
            bencher.iter(|| {
                score(&features, &labels, &episodes, &ScoreOptions::default(), &Silent)
                    .expect("they converge")
            })
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    solver(&mut criterion);
    criterion.final_summary();
}
