//! `detection predict` and `segmentation predict` on folders of one's own images.

use crate::world::{PLAIN, Place, list};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;

const CLASSES: &str = "clock,tree,mushroom,chair";

/// `detector/`, a few steps on the drawn scenes, and `photos/`, the scenes of its test split.
fn detector(place: &Place) -> Vec<String> {
    place.ok(&format!(
        "pretrain --method scratch --data train.pack --arch resnet18 --width 8 --out scratch {PLAIN}"
    ));
    place.ok(&format!(
        "detection train --checkpoint scratch/backbone.safetensors --voc world/VOCdevkit \
         --train 2007:trainval --test 2007:test --classes {CLASSES} --arch fpn --preset moco --steps 4 \
         --batch-size 2 --train-sides 48 --test-side 64 --anchor-sizes 8,16,32,48,64 --fpn-channels 8 \
         --head-features 16 --test-proposals 100,30 --score-threshold 0.2 --precise-bn 0 --pictures 0 \
         --out detector {PLAIN}"
    ));
    fs::create_dir(place.path("photos")).unwrap();
    let listed = place.text("world/VOCdevkit/VOC2007/ImageSets/Main/test.txt");
    let names: Vec<String> = listed.lines().map(|line| line.trim().to_owned()).collect();
    for name in &names {
        let image = place.path(&format!("world/VOCdevkit/VOC2007/JPEGImages/{name}.jpg"));
        fs::copy(image, place.path(&format!("photos/{name}.jpg"))).unwrap();
    }
    names
}

fn detect(flags: &str) -> String {
    format!("detection predict --run detector --images photos {flags} {PLAIN}")
}

#[test]
fn own_images_are_detected_as_a_test_split_is() {
    let place = Place::new();
    let names = detector(&place);
    let done = place.ok(&detect("--out found --min-score 0.25"));
    assert_eq!(done.stdout, "found\n");
    let records = |file: &str| place.json(file).as_array().unwrap().clone();
    let (ours, tested) = (
        records("found/detections.json"),
        records("detector/detections.json"),
    );
    assert!(!ours.is_empty());
    let facts = |records: &[Value]| -> Vec<String> {
        let fact = |r: &Value| {
            format!(
                "{} {} {} {}",
                r["image_id"], r["category_id"], r["score"], r["bbox"]
            )
        };
        records.iter().map(fact).collect()
    };
    assert_eq!(facts(&ours), facts(&tested));
    let classes: Vec<&str> = CLASSES.split(',').collect();
    for record in &ours {
        let number = record["category_id"].as_u64().unwrap() as usize;
        assert_eq!(record["category"], classes[number - 1]);
        let file = record["file_name"].as_str().unwrap();
        let digits: u64 = file
            .strip_suffix(".jpg")
            .unwrap()
            .replace('_', "")
            .parse()
            .unwrap();
        assert_eq!(record["image_id"], digits);
    }
    let images = place.json("found/images.json");
    assert_eq!(images["images"].as_array().unwrap().len(), names.len());
    assert!(images["images"][0]["width"].as_u64().unwrap() >= 64);
    assert_eq!(
        images["categories"][1],
        serde_json::json!({"id": 2, "name": "tree"})
    );
    let pictures: Vec<String> = names.iter().map(|name| format!("{name}.png")).collect();
    assert_eq!(list(&place.path("found/pictures")), pictures);
    place.ok(&format!(
        "detection score --detections found/detections.json --voc world/VOCdevkit --test 2007:test \
         --classes {CLASSES} --out score.json"
    ));
    let [ours, theirs] =
        ["score.json", "detector/metrics.json"].map(|file| place.json(file)["detection/AP50"].clone());
    assert!((ours.as_f64().unwrap() - theirs.as_f64().unwrap()).abs() < 1e-9);
    assert!(
        place
            .text("found/config.toml")
            .contains("command = \"detection predict\"")
    );
}

#[test]
fn one_bad_image_does_not_lose_the_others() {
    let place = Place::new();
    let names = detector(&place);
    let whole = place.bytes(&format!("photos/{}.jpg", names[0]));
    place.ok(&detect("--out whole --no-pictures"));

    fs::create_dir(place.path("photos/more")).unwrap();
    place.write("photos/more/cut.jpg", &whole[..whole.len() / 2]);
    place.write("photos/readme.txt", "no image");
    let saying = [
        "photos/more/cut.jpg",
        "cut off before its end; replace or remove it",
        "1 of 7 images",
        "found",
    ];
    let done = place.fails(&detect("--out found"), &saying);
    assert!(done.stderr.contains("photos/readme.txt"), "{}", done.stderr);
    // Of the whole files, the names are no longer all digits.
    let boxes = |file: &str| -> Vec<Value> {
        let records = place.json(file).as_array().unwrap().clone();
        records.iter().map(|r| r["bbox"].clone()).collect()
    };
    assert_eq!(boxes("found/detections.json"), boxes("whole/detections.json"));
    assert_eq!(list(&place.path("found/pictures")).len(), names.len());

    // A header that is right over a body that is not an image, and a text: a line for each.
    let mut broken = b"II*\0".to_vec();
    broken.extend([
        8, 0, 0, 0, 2, 0, 0, 1, 3, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 1, 3, 0, 1, 0, 0, 0, 9, 0, 0, 0,
    ]);
    broken.extend([0; 4]);
    place.write("photos/broken.tif", broken);
    place.write("photos/text.png", "no image");
    let done = place.fails(
        &detect("--out found --no-pictures"),
        &["3 of 9 images", "photos/"],
    );
    for name in ["broken.tif", "text.png", "more/cut.jpg"] {
        let lines = done.stderr.lines().filter(|line| line.starts_with("warning: "));
        assert_eq!(
            lines.filter(|line| line.contains(name)).count(),
            1,
            "{name}: {}",
            done.stderr
        );
    }
    assert_eq!(boxes("found/detections.json"), boxes("whole/detections.json"));
    assert!(!place.path("found/pictures").exists(), "of the prediction before");

    fs::create_dir(place.path("bad")).unwrap();
    place.write("bad/text.png", "no image");
    let line = format!("detection predict --run detector --images bad --out nothing {PLAIN}");
    place.fails(&line, &["bad/text.png", "1 of 1 images"]);
}

#[test]
fn folders_that_cannot_serve_are_named() {
    let place = Place::new();
    detector(&place);
    fs::create_dir(place.path("empty")).unwrap();
    fs::create_dir(place.path("mine")).unwrap();
    place.write("mine/thesis.txt", "years of work");
    place.write("file", "");
    let line = |images: &str, out: &str| {
        format!("detection predict --run detector --images {images} --out {out} {PLAIN}")
    };
    for (images, out, saying) in [
        ("empty", "found", ["empty: holds no image", "give the folder"]),
        ("nowhere", "found", ["nowhere", "no such"]),
        (
            "photos",
            "mine",
            [
                "mine: holds something else (thesis.txt)",
                "empty folder with --out",
            ],
        ),
        ("photos", "detector", ["detector", "holds a training run"]),
        (
            "photos",
            "photos/found",
            ["photos/found: lies in the folder of the images", "--out"],
        ),
        ("photos", "file", ["file", "create"]),
    ] {
        place.fails(&line(images, out), &saying);
    }
    assert_eq!(place.text("mine/thesis.txt"), "years of work");
    // Of an earlier prediction, only what it wrote is replaced.
    place.ok(&detect("--out found --no-pictures"));
    place.write("found/notes.txt", "mine");
    place.fails(
        &detect("--out found"),
        &["found: holds something else (notes.txt)"],
    );
    assert!(place.path("found/detections.json").exists());
    fs::remove_file(place.path("found/notes.txt")).unwrap();
    place.ok(&detect("--out found --no-pictures"));
    // A segmenter is none.
    let line = line("photos", "again").replace("--run detector", "--checkpoint scratch/backbone.safetensors");
    place.fails(&line, &["scratch/backbone.safetensors"]);
}

#[test]
fn own_images_are_segmented_as_a_validation_split_is() {
    let place = Place::new();
    place.ok(&format!(
        "pretrain --method scratch --data train.pack --arch resnet18-w8 --out backbone {PLAIN}"
    ));
    place.ok(&format!(
        "segmentation train --checkpoint backbone/backbone.safetensors --cityscapes world --steps 6 \
         --batch-size 2 --crop 32 --head-channels 8 --pictures 0 --out run {PLAIN}"
    ));
    let line = format!(
        "segmentation predict --run run --images world/leftImg8bit/val --out found {PLAIN} --eval-flip"
    );
    let eval = format!("segmentation eval --run run --cityscapes world --out tested --eval-flip {PLAIN}");
    place.ok(&eval);
    place.ok(&line);
    let images = place.json("found/images.json");
    let images = images["images"].as_array().unwrap();
    assert_eq!(images.len(), 2);
    let segments = place.json("found/segments.json");
    for image in images {
        let file = image["file_name"].as_str().unwrap();
        let name = file.strip_suffix(".png").unwrap();
        let frame = name
            .rsplit('/')
            .next()
            .unwrap()
            .strip_suffix("_leftImg8bit")
            .unwrap();
        assert_eq!(
            place.bytes(&format!("found/labels/{name}.png")),
            place.bytes(&format!("tested/predictions/{frame}_labelIds.png"))
        );
        assert!(place.path(&format!("found/pictures/{name}.png")).exists());
        let own = segments
            .as_array()
            .unwrap()
            .iter()
            .filter(|s| s["image_id"] == image["id"]);
        let own: Vec<&Value> = own.collect();
        let area: u64 = own.iter().map(|segment| segment["area"].as_u64().unwrap()).sum();
        let [height, width] = ["height", "width"].map(|side| image[side].as_u64().unwrap());
        assert_eq!(area, height * width, "{name}: every pixel has a class");
        let classes: BTreeSet<&str> = own.iter().map(|s| s["category"].as_str().unwrap()).collect();
        assert_eq!(classes.len(), own.len());
        assert_eq!(own[0]["segmentation"]["size"], serde_json::json!([height, width]));
    }
    // Label PNGs have the images' names, as --labels wants them.
    place
        .ok("segmentation score --ground-truth world/gtFine/val --predictions found/labels --out score.json");
    assert_eq!(
        place.json("score.json")["segmentation/mIoU"],
        place.json("tested/metrics.json")["segmentation/mIoU"]
    );
}
