//! Against pycocotools and the Python form of the VOC devkit, on the scenes of `tests/golden/_scenes.py`.

use super::*;
use crate::results::Detection;
use crate::{Annotated, Object};
use camtrast_common::testing::{Case, Worst};
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
        ..Dataset::default()
    };
    for row in rows(&case.tensor(&format!("{name}/objects"))) {
        let object = Object {
            class: row[1] as usize,
            bbox: half_open(&row[2..]),
            difficult: row[6] != 0.0,
            area: None,
        };
        dataset.images[row[0] as usize].objects.push(object);
    }
    let found = rows(&case.tensor(&format!("{name}/detections")))
        .into_iter()
        .map(|row| Detection {
            image: row[0] as usize,
            class: row[1] as usize,
            score: row[2],
            bbox: half_open(&row[3..]),
        });
    (
        dataset,
        Results {
            found: found.collect(),
            ..Results::default()
        },
    )
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
        let ours = [
            Some(mean.ap),
            Some(mean.ap50),
            Some(mean.ap75),
            mean.ap_small,
            mean.ap_medium,
            mean.ap_large,
        ];
        for (i, (ours, truth)) in ours.into_iter().zip(stats).enumerate() {
            compare(&mut worst, &format!("{name}/stats {i}"), ours, truth);
        }
        // Stage by stage: each class, threshold and area, then the curves.
        let precision = Precision::new(
            &image_ids(&dataset),
            &objects(&dataset).unwrap(),
            &detections(&dataset, &results).unwrap(),
        );
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
        for (class, truth) in rows(&case.tensor(&format!("{name}/precision")))
            .iter()
            .enumerate()
        {
            let ours = precision.curve(AT_50, class, Area::All);
            for (recall, &truth) in truth.iter().enumerate() {
                compare(
                    &mut worst,
                    &format!("{name}/precision {class} {recall}"),
                    ours.map(|curve| curve[recall]),
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
        let (objects, detections) = (
            objects(&dataset).unwrap(),
            detections(&dataset, &results).unwrap(),
        );
        let (ap11, area) = (
            case.tensor(&format!("{name}/ap11")),
            case.tensor(&format!("{name}/area")),
        );
        // detectron2's AP75: the mean over the classes that have an object that counts.
        for (table, ours) in [(&ap11, mean.detectron2_voc_75), (&area, mean.detectron2_voc12_75)] {
            let truth = table.get(AT_75 as i64).nanmean(0, false, Kind::Double);
            compare(
                &mut worst,
                &format!("{name}/AP75"),
                Some(ours),
                truth.double_value(&[]),
            );
        }
        for class in 0..CLASSES {
            let matches = Matches::new(&objects[class], &detections[class]);
            for t in 0..THRESHOLDS {
                let at = |table: &Tensor| table.double_value(&[t as i64, class as i64]);
                let curve = matches.curve((50 + 5 * t) as f64 / 100.0);
                assert_eq!(at(&ap11).is_nan(), matches.objects() == 0, "{name} {class}");
                if matches.objects() > 0 {
                    compare(
                        &mut worst,
                        &format!("{name}/ap11 {t} {class}"),
                        Some(curve.eleven_point()),
                        at(&ap11),
                    );
                    compare(
                        &mut worst,
                        &format!("{name}/area {t} {class}"),
                        Some(curve.area()),
                        at(&area),
                    );
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

#[test]
fn metrics_have_the_agreed_names_and_classes_without_objects_are_listed() {
    let (dataset, results) = scene(&Case::open("coco_eval"), "mixed");
    let evaluation = evaluate(&dataset, &results).unwrap();
    assert_eq!(evaluation.left_out, ["4", "5"]);
    assert_eq!(evaluation.images, IMAGES);
    let metrics = evaluation.metrics();
    for name in [
        "AP",
        "AP50",
        "AP75",
        "APs",
        "APm",
        "APl",
        "voc07_mAP",
        "voc_mAP",
        "detectron2_voc_AP",
        "AP50/0",
        "voc_AP/3",
    ] {
        assert!(
            (0.0..=1.0).contains(&metrics[&format!("detection/{name}")]),
            "{name}"
        );
    }
    assert!(
        !metrics
            .keys()
            .any(|name| name.ends_with("/4") || name.ends_with("/5"))
    );
    let counts: Vec<_> = evaluation
        .classes
        .iter()
        .map(|class| (class.objects + class.difficult, class.detections))
        .collect();
    assert_eq!(
        counts.iter().map(|(objects, _)| objects).sum::<usize>() + objects(&dataset).unwrap()[5].len(),
        82
    );
    assert_eq!(counts[3].1, 0);
    for class in &evaluation.classes {
        assert!((mean(&class.precision[AT_50]) - class.figures.ap50).abs() < 1e-12);
    }
}

#[test]
fn figures_that_do_not_exist_are_left_out() {
    let (mut dataset, mut results) = scene(&Case::open("coco_eval"), "none");
    for object in dataset.images.iter_mut().flat_map(|image| &mut image.objects) {
        object.bbox = [0.0, 0.0, 20.0, 20.0];
    }
    let metrics = evaluate(&dataset, &results).unwrap().metrics();
    assert_eq!(metrics["detection/APs"], 0.0);
    assert!(!metrics.contains_key("detection/APm") && !metrics.contains_key("detection/APl"));

    // COCO's area of a mask decides, not the box's.
    dataset.images[0].objects[0].area = Some(5000.0);
    assert!(
        evaluate(&dataset, &results)
            .unwrap()
            .metrics()
            .contains_key("detection/APm")
    );

    for object in dataset.images.iter_mut().flat_map(|image| &mut image.objects) {
        object.difficult = true;
    }
    let message = evaluate(&dataset, &results).unwrap_err().to_string();
    assert!(message.contains("none of which counts"), "{message}");
    assert!(evaluate(&scene(&Case::open("coco_eval"), "empty").0, &results).is_err());

    let good = Detection {
        image: 0,
        class: 0,
        score: 0.5,
        bbox: [0.0, 0.0, 9.0, 9.0],
    };
    for bad in [
        Detection {
            score: f64::NAN,
            ..good
        },
        Detection { image: 99, ..good },
        Detection { class: 6, ..good },
    ] {
        results.found = vec![bad];
        let message = evaluate(&dataset, &results).unwrap_err().to_string();
        assert!(message.contains("a detection cannot be evaluated"), "{message}");
    }
}

#[test]
fn equal_scores_keep_the_order_of_the_file_for_voc_and_of_the_images_for_coco() {
    let (mut dataset, _) = scene(&Case::open("voc_eval"), "empty");
    dataset.images[0].objects.push(Object {
        class: 0,
        bbox: [0.0, 0.0, 9.0, 9.0],
        difficult: false,
        area: None,
    });
    let found = |image| Detection {
        image,
        class: 0,
        score: 0.5,
        bbox: [0.0, 0.0, 9.0, 9.0],
    };
    let figures = |found| {
        evaluate(
            &dataset,
            &Results {
                found,
                ..Results::default()
            },
        )
        .unwrap()
        .mean
    };
    let (hit_first, miss_first) = (
        figures(vec![found(0), found(1)]),
        figures(vec![found(1), found(0)]),
    );
    assert_eq!((hit_first.voc, miss_first.voc), (1.0, 0.5));
    // 101 precisions of just below 1, as in pycocotools, which adds a float's spacing to the number of
    // detections.
    assert!(
        [hit_first.ap50, miss_first.ap50]
            .iter()
            .all(|ap| (ap - 1.0).abs() < 1e-12)
    );
}
