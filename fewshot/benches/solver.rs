//! 600 episodes of 2048-dimensional features: gather, Gram matrices, classifiers and query scores.
//!
//! Leaves the features, the episodes and our accuracies in the folder `CAMTRAST_BENCH_FILES`, when that is
//! set, for the same work in `benches/peers/fewshot_sklearn.py`; `benches/peers/fewshot.sh` runs both.

use camtrast_common::progress::Silent;
use camtrast_common::tensor_file;
use camtrast_fewshot::{EpisodeSet, Protocol, ScoreOptions, score};
use criterion::Criterion;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
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

fn write(folder: &Path, features: &Tensor, labels: &[i64], shots: usize, episodes: &EpisodeSet) {
    let tensors = BTreeMap::from([
        ("features".to_owned(), features.shallow_clone()),
        ("labels".to_owned(), Tensor::from_slice(labels)),
    ]);
    tensor_file::save(&folder.join("features.safetensors"), &tensors, &BTreeMap::new())
        .expect("the folder is writable");
    episodes
        .save(&folder.join(format!("episodes_{shots}shot.json")))
        .expect("the folder is writable");
    let score = score(features, labels, episodes, &ScoreOptions::default(), &Silent)
        .expect("the classifiers converge");
    let text = serde_json::to_string(&score).expect("numbers serialise");
    fs::write(folder.join(format!("ours_{shots}shot.json")), text).expect("the folder is writable");
}

fn solver(criterion: &mut Criterion) {
    let (features, labels) = features();
    let files = std::env::var_os("CAMTRAST_BENCH_FILES");
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
        if let Some(folder) = &files {
            write(Path::new(folder), &features, &labels, shots, &episodes);
        }
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
