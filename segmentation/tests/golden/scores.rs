//! `score` on files, against cityscapesScripts.

use camtrast_common::progress::Silent;
use camtrast_common::testing::Case;
use camtrast_segmentation::label_image::LabelImage;
use camtrast_segmentation::{ClassSet, Naming, score};
use std::path::Path;
use tch::Tensor;

fn images(tensor: &Tensor) -> Vec<LabelImage> {
    let (n, height, width) = tensor.size3().unwrap();
    let image = |i| {
        let pixels = Vec::<u8>::try_from(tensor.get(i).reshape([-1])).unwrap();
        LabelImage {
            height: height as usize,
            width: width as usize,
            pixels,
        }
    };
    (0..n).map(image).collect()
}

fn write(folder: &Path, images: &[LabelImage], suffix: &str) {
    for (i, image) in images.iter().enumerate() {
        let city = ["aachen", "bremen", "cologne"][i];
        image
            .write(
                &folder
                    .join(city)
                    .join(format!("{city}_{i:06}_000019_{suffix}.png")),
            )
            .unwrap();
    }
}

fn equals_cityscapes_scripts(name: &str) {
    let case = Case::open("cityscapes_eval");
    let (truth, predictions) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(
        truth.path(),
        &images(&case.tensor(&format!("{name}/truth"))),
        "gtFine_labelIds",
    );
    write(
        predictions.path(),
        &images(&case.tensor(&format!("{name}/prediction"))),
        "pred",
    );
    let confusion = score(truth.path(), predictions.path(), &Naming::Cityscapes, &Silent).unwrap();
    let ours = confusion.scores(&ClassSet::cityscapes());

    let theirs = &case.json("scores")[name];
    let close = |what: &str, ours: Option<f64>, theirs: &serde_json::Value| match (ours, theirs.as_f64()) {
        (Some(a), Some(b)) => assert!((a - b).abs() <= 1e-9, "{name} {what}: {a} and {b}"),
        (a, b) => assert_eq!(a, b, "{name} {what}"),
    };
    assert_eq!((ours.classes.len(), ours.categories.len()), (19, 7));
    for (what, scores) in [("classes", &ours.classes), ("categories", &ours.categories)] {
        assert_eq!(theirs[what].as_object().unwrap().len(), scores.len());
        scores
            .iter()
            .for_each(|s| close(&s.name, s.iou, &theirs[what][&s.name]));
    }
    close("mean", ours.mean_iou, &theirs["mean"]);
    close("category mean", ours.category_mean_iou, &theirs["category_mean"]);
}

#[test]
fn every_id_on_both_sides() {
    equals_cityscapes_scripts("all");
}

#[test]
fn absent_classes() {
    equals_cityscapes_scripts("absent");
}

#[test]
fn ignored_regions_and_predictions_that_are_not_evaluated() {
    equals_cityscapes_scripts("ignored");
}

#[test]
fn perfect_predictions() {
    equals_cityscapes_scripts("perfect");
}

#[test]
fn predictions_out_of_range_are_misses() {
    equals_cityscapes_scripts("range");
}
