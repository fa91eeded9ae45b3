//! Average precision on 5,000 synthetic images in VOC's proportions: all figures, from boxes in memory and
//! from a COCO results JSON. `benches/peers/coco_eval.py` times the whole process beside faster-coco-eval's.

use camtrast_common::testing::uniform;
use camtrast_detection::evaluate;
use camtrast_detection::results::{Detection, Results, read_coco, write_coco};
use camtrast_detection::{Annotated, Dataset, Object};
use criterion::Criterion;
use std::path::PathBuf;
use std::time::Duration;

const IMAGES: usize = 5000;
const CLASSES: usize = 20;
const WIDTH: f64 = 500.0;
const HEIGHT: f64 = 375.0;

/// Up to five objects an image; each found three times, well, loosely and under any class, among as many
/// boxes anywhere.
fn synthetic() -> (Dataset, Results) {
    let mut numbers = uniform("evaluation", usize::MAX);
    let mut draw = move || numbers.next().expect("there is no end of them");
    let mut images = Vec::new();
    let mut found = Vec::new();
    for image in 0..IMAGES {
        let mut objects = Vec::new();
        for _ in 0..(draw() * 6.0) as usize {
            let class = (draw() * CLASSES as f64) as usize;
            let bbox = place(&mut draw);
            let difficult = draw() < 0.1;
            objects.push(Object {
                class,
                bbox,
                difficult,
                area: None,
            });
            for (looseness, class) in [
                (0.1, class),
                (0.4, class),
                (0.2, (draw() * CLASSES as f64) as usize),
            ] {
                let (width, height) = (bbox[2] - bbox[0], bbox[3] - bbox[1]);
                let mut moved =
                    |side: f64, by: f64| ((side + (draw() - 0.5) * looseness * by) * 10.0).round() / 10.0;
                let (x1, y1) = (moved(bbox[0], width), moved(bbox[1], height));
                let bbox = [
                    x1,
                    y1,
                    moved(bbox[2], width).max(x1 + 1.0),
                    moved(bbox[3], height).max(y1 + 1.0),
                ];
                found.push(Detection {
                    image,
                    class,
                    score: (draw() * 1000.0).round() / 1000.0,
                    bbox,
                });
            }
            for _ in 0..3 {
                let class = (draw() * CLASSES as f64) as usize;
                found.push(Detection {
                    image,
                    class,
                    score: (draw() * 800.0).round() / 1000.0,
                    bbox: place(&mut draw),
                });
            }
        }
        let (width, height) = (WIDTH as usize, HEIGHT as usize);
        images.push(Annotated {
            id: format!("{:06}", image + 1),
            image: PathBuf::new(),
            width,
            height,
            objects,
        });
    }
    let classes = (0..CLASSES).map(|class| format!("class{class}")).collect();
    let category_ids = (1..=CLASSES as u64).collect();
    (
        Dataset {
            classes,
            category_ids,
            images,
            ..Dataset::default()
        },
        Results {
            found,
            ..Results::default()
        },
    )
}

fn place(draw: &mut impl FnMut() -> f64) -> [f64; 4] {
    let (width, height) = (10.0 + (draw() * 300.0).round(), 10.0 + (draw() * 250.0).round());
    let (x, y) = (
        (draw() * (WIDTH - width)).round(),
        (draw() * (HEIGHT - height)).round(),
    );
    [x, y, x + width, y + height]
}

fn evaluation(criterion: &mut Criterion) {
    let (dataset, results) = synthetic();
    let folder = tempfile::tempdir().expect("there is room for a file");
    let json = folder.path().join("results.json");
    write_coco(&json, &dataset, &results).expect("the folder is writable");

    let mut group = criterion.benchmark_group("evaluation");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5));
    group.bench_function("boxes", |bencher| {
        bencher.iter(|| evaluate(&dataset, &results).expect("there are objects"))
    });
    group.bench_function("json", |bencher| {
        bencher.iter(|| {
            let results = read_coco(&json, &dataset, false).expect("was just written");
            evaluate(&dataset, &results).expect("there are objects")
        })
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    evaluation(&mut criterion);
    criterion.final_summary();
}
