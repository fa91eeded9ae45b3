//! Against pycocotools and the Python form of the VOC devkit, on the scenes of `tests/golden/_scenes.py`.

use super::*;
use crate::results::Found;
use crate::{Annotated, Object};
use common::testing::{Case, Worst};
use tch::{Kind, Tensor};

const SCENES: [&str; 3] = ["mixed", "exact", "none"];
const IMAGES: usize = 24;
const CLASSES: usize = 6;

// As rows of f64.
fn rows(tensor: &Tensor) -> Vec<Vec<f64>> {
    Vec::<Vec<f64>>::try_from(tensor.to_kind(Kind::Double)).unwrap()
}

// Scenes are in the coordinates of VOC's files.
fn half_open(row: &[f64]) -> [f64; 4] {
    [row[0] - 1.0, row[1] - 1.0, row[2], row[3]]
}

fn scene(case: &Case, name: &str) -> (Dataset, Results) {
    let images = (0..IMAGES).map(|i| Annotated {
        id: format!("{:06}", i + 1),
        image: Default::default(),
        width: 500,
        height: 375,
        objects: Vec::new(),
    });
    let mut dataset = Dataset {
        classes: (0..CLASSES).map(|class| class.to_string()).collect(),
        category_ids: (1..=CLASSES as u64).collect(),
        images: images.collect(),
        problems: Vec::new(),
    };
    for row in rows(&case.tensor(&format!("{name}/objects"))) {
        let object =
            Object { class: row[1] as usize, bbox: half_open(&row[2..]), difficult: row[6] != 0.0, area: None };
        dataset.images[row[0] as usize].objects.push(object);
    }
    let found = rows(&case.tensor(&format!("{name}/detections"))).into_iter().map(|row| Found {
        image: row[0] as usize,
        class: row[1] as usize,
        score: row[2],
        bbox: half_open(&row[3..]),
    });
    (dataset, Results { found: found.collect(), problems: Vec::new() })
}

// -1 stands for a figure that does not exist.
fn compare(worst: &mut Worst, name: &str, ours: Option<f64>, truth: f64) {
    worst.add(name, (ours.unwrap_or(-1.0) - truth).abs());
}

#[test]
fn coco_figures_are_those_of_pycocotools() {
    let case = Case::open("coco_eval");
    let mut worst = Worst::default();
    for name in SCENES {
        let (dataset, results) = scene(&case, name);
        let evaluation = evaluate(&dataset, &results).unwrap();
        let stats = Vec::<f64>::try_from(case.tensor(&format!("{name}/stats"))).unwrap();
        let mean = &evaluation.mean;
        let ours = [Some(mean.ap), Some(mean.ap50), Some(mean.ap75), mean.ap_small, mean.ap_medium, mean.ap_large];
        for (i, (ours, truth)) in ours.into_iter().zip(stats).enumerate() {
            compare(&mut worst, &format!("{name}/stats {i}"), ours, truth);
        }
        // Stage by stage: each class, threshold and area, then the curves.
        let precision =
            Precision::new(&image_ids(&dataset), &objects(&dataset), &detections(&dataset, &results).unwrap());
        let precision = precision.unwrap();
        let per_class = case.tensor(&format!("{name}/per_class"));
        for t in 0..THRESHOLDS {
            for class in 0..CLASSES {
                for area in [Area::All, Area::Small, Area::Medium, Area::Large] {
                    let truth = per_class.double_value(&[t as i64, class as i64, area as i64]);
                    let what = format!("{name}/per_class {t} {class} {area:?}");
                    compare(&mut worst, &what, precision.average(t, class, area), truth);
                }
            }
        }
        for (class, truth) in rows(&case.tensor(&format!("{name}/precision"))).iter().enumerate() {
            let ours = precision.curve(AT_50, class, Area::All);
            for (recall, &truth) in truth.iter().enumerate() {
                compare(
                    &mut worst,
                    &format!("{name}/precision {class} {recall}"),
                    ours.as_ref().map(|c| c[recall]),
                    truth,
                );
            }
        }
    }
    // The same float64 arithmetic; sums in another order.
    worst.check("pycocotools", 1e-12);
}

#[test]
fn voc_figures_are_those_of_the_devkit() {
    let case = Case::open("voc_eval");
    let mut worst = Worst::default();
    for name in SCENES {
        let (dataset, results) = scene(&case, name);
        let evaluation = evaluate(&dataset, &results).unwrap();
        let truth = Vec::<f64>::try_from(case.tensor(&format!("{name}/figures"))).unwrap();
        let mean = &evaluation.mean;
        let ours = [mean.voc07, mean.voc, mean.detectron2_voc, mean.detectron2_voc12];
        for (i, (ours, truth)) in ours.into_iter().zip(truth).enumerate() {
            compare(&mut worst, &format!("{name}/figures {i}"), Some(ours), truth);
        }
        let (objects, detections) = (objects(&dataset), detections(&dataset, &results).unwrap());
        let (ap11, area) = (case.tensor(&format!("{name}/ap11")), case.tensor(&format!("{name}/area")));
        for class in 0..CLASSES {
            let matches = Matches::new(&objects[class], &detections[class]);
            for t in 0..THRESHOLDS {
                let at = |table: &Tensor| table.double_value(&[t as i64, class as i64]);
                let curve = matches.curve((50 + 5 * t) as f64 / 100.0);
                assert_eq!(at(&ap11).is_nan(), matches.objects() == 0, "{name} {class}");
                if matches.objects() > 0 {
                    compare(&mut worst, &format!("{name}/ap11 {t} {class}"), Some(curve.eleven_point()), at(&ap11));
                    compare(&mut worst, &format!("{name}/area {t} {class}"), Some(curve.area()), at(&area));
                }
            }
            if matches.objects() > 0 {
                let curve = matches.curve(0.5);
                let truth = rows(&case.tensor(&format!("{name}/curve{class}")));
                assert_eq!(curve.recall.len(), truth[0].len());
                for (ours, truth) in [(&curve.recall, &truth[0]), (&curve.precision, &truth[1])] {
                    for (ours, truth) in ours.iter().zip(truth) {
                        compare(&mut worst, &format!("{name}/curve {class}"), Some(*ours), *truth);
                    }
                }
            }
        }
    }
    worst.check("VOC devkit", 1e-12);
}
