//! Detection: training, evaluation, scoring, and what happens when the data is not as it should be.

use crate::shell::assert_printed_is_the_runs_own;
use crate::world::{Done, PLAIN, Place, assert_same_records, list, poisoned, send};
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

const DATA: &str =
    "--voc world/VOCdevkit --train 2007:trainval --test 2007:test --classes clock,tree,mushroom,chair";
const TEST: &str = "--voc world/VOCdevkit --test 2007:test --classes clock,tree,mushroom,chair";
/// A detector small enough for a step in a tenth of a second.
const SMALL: &str = "--checkpoint scratch/backbone.safetensors --preset moco --batch-size 2 --lr 0.01 \
    --warmup-steps 2 \
                     --train-sides 48,64 --test-side 64 --anchor-sizes 8,16,32,48,64 --regions-per-image 16 \
                     --train-proposals 100,30 \
                     --test-proposals 100,30 --fpn-channels 8 --head-features 16 --score-threshold 0 \
                     --precise-bn 3";

fn place() -> Place {
    let place = Place::new();
    place.ok(&format!(
        "pretrain --method scratch --data train.pack --arch resnet18 --width 8 --out scratch {PLAIN}"
    ));
    place
}

fn train(flags: &str) -> String {
    format!("detection train {DATA} {SMALL} {PLAIN} {flags}")
}

#[test]
fn what_training_measures_eval_and_score_measure_again() {
    let place = place();
    let done = place.ok(&train("--arch c4 --steps 12 --pictures 2 --out run"));
    assert!(
        done.stdout.contains("VOC07 mAP") && done.stdout.ends_with("run/detector.safetensors\n"),
        "{}",
        done.stdout
    );
    let metrics = place.json("run/metrics.json");
    for name in [
        "AP",
        "AP50",
        "AP75",
        "voc07_mAP",
        "voc_mAP",
        "detectron2_voc_AP",
        "AP/tree",
        "steps",
        "images_per_second",
    ] {
        assert!(
            metrics[format!("detection/{name}")].is_number(),
            "no detection/{name}"
        );
    }
    assert!(
        metrics["detection/AP50"].as_f64().unwrap() > 0.0,
        "nothing found by chance: the comparison below says little"
    );
    assert_eq!(list(&place.path("run/pictures")).len(), 2);
    assert!(list(&place.path("run/curves")).contains(&"pr_curves.png".to_owned()));
    let losses = [
        "loss_objectness",
        "loss_proposal_boxes",
        "loss_classes",
        "loss_boxes",
    ];
    assert!(
        place
            .log("run", "step")
            .iter()
            .all(|line| losses.iter().all(|loss| line[loss].is_number()))
    );

    let same = |other: &str, tolerance: f64| {
        let other = place.json(other);
        for name in ["AP", "AP50", "AP75", "APs", "voc07_mAP", "voc_mAP", "voc_AP/tree"]
            .map(|n| format!("detection/{n}"))
        {
            let [ours, theirs] = [&metrics, &other].map(|m| m[&name].as_f64());
            assert_eq!(ours.is_some(), theirs.is_some(), "{name}");
            assert!(
                (ours.unwrap_or(0.0) - theirs.unwrap_or(0.0)).abs() <= tolerance,
                "{name}: {ours:?} {theirs:?}"
            );
        }
    };
    place.ok(&format!("detection eval --run run {TEST} --out again {PLAIN}"));
    same("again/metrics.json", 0.0);
    assert!(place.bytes("again/detections.json") == place.bytes("run/detections.json"));
    for (detections, out) in [("run/detections", "devkit"), ("run/detections.json", "coco.json")] {
        place.ok(&format!(
            "detection score --detections {detections} {TEST} --out {out}"
        ));
    }
    // 1-based coordinates lose the last bit.
    same("devkit/metrics.json", 1e-9);
    same("coco.json", 1e-9);
    place.ok(
        "detection score --detections run/detections.json --coco run/instances.json --out instances.json",
    );
    same("instances.json", 1e-9);
}

#[test]
fn coco_trains_as_voc_does() {
    let place = place();
    place.ok(&train("--arch c4 --steps 2 --out voc"));
    let coco = "--coco voc/instances.json --coco-images world/VOCdevkit/VOC2007/JPEGImages --coco-test \
        voc/instances.json";
    place.ok(&format!(
        "detection train {coco} {SMALL} {PLAIN} --arch fpn --steps 3 --out coco"
    ));
    assert!(place.json("coco/metrics.json")["detection/AP50"].is_number());
    assert!(place.path("coco/pictures").is_dir());
}

/// Finished runs alike to the byte.
fn assert_same(place: &Place, run: &str, reference: &str) {
    for name in ["detector.safetensors", "detections.json"] {
        let [ours, theirs] = [run, reference].map(|r| place.bytes(&format!("{r}/{name}")));
        assert!(ours == theirs, "{run}/{name} differs from {reference}'s");
    }
    assert_same_records(place, run, reference);
}

#[test]
fn a_killed_run_ends_with_the_same_bytes() {
    let place = place();
    for (name, flags) in [
        ("c4", "--arch c4 --steps 8 --accumulate 2"),
        (
            "fpn",
            "--arch fpn --preset paper --epochs 2 --train-sides 48 --batch-norm frozen --precision bf16",
        ),
    ] {
        let begun = Instant::now();
        place.ok(&train(&format!("{flags} --out {name}-whole")));
        let length = begun.elapsed();
        let command = train(&format!("{flags} --save-every 2 --out {name}-killed"));
        for part in [3, 5] {
            let mut child = place.spawn(&command);
            sleep((length * part / 10).max(Duration::from_millis(1)));
            send(&child, libc::SIGKILL);
            child.wait().unwrap();
        }
        // A finished run that is looked at again stays as it is, its re-estimated batch norm included.
        for _ in 0..2 {
            place.ok(&command);
            assert_same(&place, &format!("{name}-killed"), &format!("{name}-whole"));
        }
    }
    let command = train("--arch c4 --steps 8 --accumulate 2 --out c4-whole");
    place.fails(
        &format!("{command} --lr 0.5"),
        &["lr = 0.01", "lr = 0.5", "--overwrite"],
    );
}

/// `bad/VOC2007`: a copy of the scenes, to be spoilt.
fn spoilt(place: &Place) {
    for name in ["JPEGImages", "Annotations", "ImageSets/Main"].map(|n| format!("VOC2007/{n}")) {
        fs::create_dir_all(place.path("bad").join(&name)).unwrap();
        let from = place.path("world/VOCdevkit").join(&name);
        for file in list(&from) {
            fs::copy(from.join(&file), place.path("bad").join(&name).join(&file)).unwrap();
        }
    }
}

#[test]
fn bad_data_is_named_or_skipped() {
    let place = place();
    spoilt(&place);
    let small = SMALL;
    let command = format!(
        "detection train --voc bad --train 2007:trainval --test 2007:test --classes \
         clock,tree,mushroom,chair {small} {PLAIN} --arch c4 --steps 1 \
         --out run --overwrite"
    );
    let annotation = "bad/VOC2007/Annotations/000002.xml";
    let whole = place.text(annotation);
    let object = |bbox: [&str; 4], name: &str| {
        let [x1, y1, x2, y2] = bbox;
        format!(
            "<annotation><object><name>{name}</name>\
             <bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>\
             </bndbox></object></annotation>"
        )
    };
    for (content, saying) in [
        (whole[..whole.len() / 2].to_owned(), "is malformed or cut off"),
        (
            object(["9990", "1", "9999", "9"], "tree"),
            "lies outside the image",
        ),
        (object(["9", "1", "9", "9"], "tree"), "is empty or inverted"),
        (object(["1", "1", "9", "9"], ""), "object 1: has no name"),
        (object(["one", "1", "9", "9"], "tree"), "not a number"),
        (
            "<annotation><filename>../../etc/passwd</filename></annotation>".into(),
            "leads out of the data set",
        ),
        (
            "<annotation><filename>/etc/passwd</filename></annotation>".into(),
            "leads out of the data set",
        ),
    ] {
        place.write(annotation, content);
        place.fails(&command, &["000002.xml", saying]);
        let done = place.ok(&format!("{command} --skip-bad"));
        assert!(
            done.stderr.contains("1 bad parts") && done.stderr.contains(saying),
            "{}",
            done.stderr
        );
    }
    // Fractions are taken as they are, an image without objects is background.
    for content in [
        object(["1.5", "2.25", "9", "9.75"], "tree"),
        "<annotation></annotation>".into(),
    ] {
        place.write(annotation, content);
        place.ok(&command);
    }
    // So are a box past the edge, clipped, and an object of another class, left alone; each is said once.
    place.write(
        annotation,
        object(["0", "1", "9999", "9"], "tree").replace("</annotation>", "")
            + &object(["1", "1", "9", "9"], "dragon")[12..],
    );
    let done = place.ok(&command);
    for note in [
        "warning: 1 boxes pass the edge of their image and were clipped",
        "not used: dragon (1)",
    ] {
        assert_eq!(done.stderr.matches(note).count(), 1, "{}", done.stderr);
    }
    place.write(annotation, &whole);

    let image = "bad/VOC2007/JPEGImages/000003.jpg";
    let pixels = place.bytes(image);
    place.write(image, &pixels[..pixels.len() / 2]);
    let all = format!("{command} --steps 8");
    place.fails(&all, &["000003.jpg", "is cut off before its end"]);
    let done = place.ok(&format!("{all} --skip-bad"));
    assert!(done.stderr.contains("000003.jpg"), "{}", done.stderr);
    fs::remove_file(place.path(image)).unwrap();
    place.fails(&command, &["trainval.txt", "000003", "no image"]);
    place.write(image, &pixels);

    let list = "bad/VOC2007/ImageSets/Main/trainval.txt";
    place.write(list, "000001\n999999\n");
    place.fails(&command, &["trainval.txt", "999999"]);
    place.write(list, "");
    place.fails(&command, &["trainval.txt"]);
    place.write(list, "000001\n000002\n");
    for id in ["000001", "000002"] {
        let annotation = format!("bad/VOC2007/Annotations/{id}.xml");
        let difficult = place.text(&annotation).replace("<difficult>0", "<difficult>1");
        place.write(&annotation, difficult);
    }
    // The protocol of --preset moco trains on them.
    place.ok(&command);
    let counted = format!("{command} --train-difficult off");
    place.fails(
        &counted,
        &[
            "none of the 2 training images has an object that counts",
            "--train-difficult on",
        ],
    );
}

#[test]
fn bad_settings_and_files_are_named() {
    let place = place();
    place.fails(
        &train("--arch fpn --anchor-sizes 8,16 --out run"),
        &["--anchor-sizes has 2", "five"],
    );
    place.fails(
        &train("--arch c4 --steps 1 --epochs 1 --out run"),
        &["--steps and --epochs"],
    );
    place.fails(
        &train("--arch c4 --batch-size 3 --accumulate 2 --out run"),
        &["--batch-size 3", "--accumulate 2"],
    );
    place.misused(&format!("detection train {SMALL} --out run"), &["--voc"]);
    place.misused(
        &format!("detection train --voc world/VOCdevkit {SMALL} --out run"),
        &["--train"],
    );
    place.misused(
        &format!("detection eval --run run --voc world/VOCdevkit --test 2007 {PLAIN}"),
        &["YEAR:SPLIT"],
    );
    place.fails(&train("--arch c4 --out run --train 2012:trainval"), &["VOC2012"]);
    let wrong = train("--arch c4 --out run").replace("scratch/backbone", "scratch/state");
    place.fails(&wrong, &["scratch/state.safetensors", "not a backbone"]);

    place.ok(&train("--arch c4 --steps 1 --out run"));
    let done: Done = place.fails(
        &format!("detection eval --checkpoint scratch/backbone.safetensors {TEST} {PLAIN}"),
        &["detector"],
    );
    assert!(done.stderr.contains("detection train"), "{}", done.stderr);
    place.write(
        "nan.safetensors",
        poisoned(&place.bytes("run/detector.safetensors")),
    );
    let nan = ["nan.safetensors: tensor", "holds NaN or infinite values"];
    place.fails(
        &format!("detection eval --checkpoint nan.safetensors {TEST} {PLAIN}"),
        &nan,
    );
    let other = TEST.replace("clock,tree", "tree,clock");
    place.fails(
        &format!("detection eval --run run {other} {PLAIN}"),
        &["clock,tree", "--classes"],
    );

    let id = fs::read_to_string(place.path("world/VOCdevkit/VOC2007/ImageSets/Main/test.txt")).unwrap();
    let id = id.lines().next().unwrap().trim_start_matches('0').to_owned();
    let record = |image: &str, score: &str| {
        format!("[{{\"image_id\": {image}, \"category_id\": 1, \"bbox\": [1, 1, 5, 5], \"score\": {score}}}]")
    };
    for (content, saying) in [
        (record("4711", "0.5"), "4711 is not in the data set"),
        (record(&id, "NaN"), "NaN"),
        ("[{".to_owned(), "is not a COCO results list"),
    ] {
        place.write("found.json", content);
        place.fails(
            &format!("detection score --detections found.json {TEST}"),
            &["found.json", saying],
        );
    }
    let two = [
        record("4711", "0.5").trim_end_matches(']'),
        record(&id, "0.5").trim_start_matches('['),
    ]
    .join(",");
    place.write("found.json", two);
    let done = place.ok(&format!(
        "detection score --detections found.json {TEST} --skip-bad"
    ));
    assert!(
        done.stderr.contains("1 bad parts of detections"),
        "{}",
        done.stderr
    );
    place.write("found.json", "[]");
    let done = place.ok(&format!("detection score --detections found.json {TEST}"));
    assert!(done.stderr.contains("holds no detection"), "{}", done.stderr);
}

#[test]
fn info_tells_what_a_devkit_holds() {
    let place = place();
    spoilt(&place);
    place.write("bad/VOC2007/Annotations/000002.xml", "<annotation>");
    let text = place.ok("data info bad").stdout;
    for part in [
        "VOC2007:test: 6 images",
        "VOC2007:trainval: 11 images",
        "problem: ",
        "000002.xml",
        "--classes chair,clock,mushroom,tree",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json: serde_json::Value = serde_json::from_str(&place.ok("data info bad --json").stdout).unwrap();
    assert_eq!(json[1]["images"], 11);
    assert!(json[0]["objects"]["tree"][0].is_u64());
}

#[test]
fn a_printed_configuration_is_its_runs_own() {
    let place = place();
    let flags = format!("{DATA} {SMALL} --steps 2 --seed 3 --train-difficult on");
    let plain = format!("{PLAIN} --pictures 0");
    assert_printed_is_the_runs_own(&place, "detection train", &flags, &plain, "run");
    let printed: toml::Table = place.text("run.toml").parse().unwrap();
    assert_eq!(printed["preset"].as_str(), Some("moco"));
    assert!(printed.contains_key("weight-decay"), "a default of the preset");
}
