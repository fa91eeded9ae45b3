//! Numbers that would mislead: of images that the network has seen, of another protocol, of nothing at all.

use crate::world::{PLAIN, Place, TINY};
use std::fs;

const EVAL: &str = "fewshot eval --queries 5 --episodes-count 20 --device cpu --threads 1 --quiet";
const VOC: &str = "--voc world/VOCdevkit --classes clock,tree,mushroom,chair";
const DETECTOR: &str = "--preset moco --arch fpn --steps 2 --batch-size 2 --lr 0.01 --warmup-steps 2 \
    --train-sides 64 \
    --test-side 64 --anchor-sizes 8,16,32,48,64 --regions-per-image 16 --train-proposals 100,30 \
    --test-proposals 100,30 \
    --fpn-channels 8 --head-features 16 --pictures 1";
const SEGMENTER: &str = "--steps 4 --batch-size 3 --crop 32 --head-channels 8 --lr 0.05";

fn says(text: &str, parts: &[&str]) {
    parts
        .iter()
        .for_each(|part| assert!(text.contains(part), "does not say {part:?}: {text}"));
}

fn backbone(place: &Place, method: &str, flags: &str) {
    // What trains nothing takes no settings of training.
    let all = TINY.replace(
        "--batch-size 16 --epochs 2",
        if method == "scratch" {
            ""
        } else {
            "--batch-size 16 --epochs 2"
        },
    );
    place.ok(&format!(
        "pretrain --method {method} {all} {flags} --out {method}"
    ));
}

#[test]
fn evaluations_say_their_whole_protocol_and_the_report_keeps_them_apart() {
    let place = Place::new();
    place.ok("data prepare miniimagenet --from world --out val.pack --size 32 --split val");
    backbone(&place, "supervised", "");
    backbone(&place, "scratch", "");
    for (out, flags) in [
        (
            "a",
            "--checkpoint supervised/backbone.safetensors --data test.pack",
        ),
        ("b", "--checkpoint scratch/backbone.safetensors --data test.pack"),
        (
            "pack",
            "--checkpoint scratch/backbone.safetensors --data val.pack",
        ),
        (
            "queries",
            "--checkpoint scratch/backbone.safetensors --data test.pack --queries 4",
        ),
        (
            "seed",
            "--checkpoint scratch/backbone.safetensors --data test.pack --seed 1",
        ),
    ] {
        place.ok(&format!("{EVAL} {flags} --out runs/{out}"));
    }
    let config: toml::Table = place.text("runs/a/config.toml").parse().unwrap();
    let whole = [
        "checkpoint",
        "data",
        "ways",
        "shots",
        "queries",
        "episodes-count",
        "seed",
        "precision",
    ];
    assert_eq!(whole.map(|key| config.contains_key(key)), [true; 8], "{config}");
    let sum = place.json("runs/a/metrics.json")["backbone_sha256"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(config["dataset"]["backbone_sha256"].as_str(), Some(&sum[..]));
    assert_eq!(
        (
            config["dataset"]["sha256"].as_str().unwrap().len(),
            config["dataset"]["split"].as_str()
        ),
        (64, Some("test"))
    );
    assert_eq!(config["build"]["command"].as_str(), Some("fewshot eval"));
    // It is a configuration that does the same again.
    place.ok("fewshot eval --config runs/a/config.toml --out again --device cpu --threads 1");
    assert_eq!(
        place.text("again/episodes.json"),
        place.text("runs/a/episodes.json")
    );

    let episodes = |run: &str| {
        let config: toml::Table = place.text(&format!("runs/{run}/config.toml")).parse().unwrap();
        config["episodes"]["5way1shot"].as_str().unwrap().to_owned()
    };
    assert!(episodes("a").len() == 64 && episodes("a") == episodes("b"));
    assert!(
        ["pack", "queries", "seed"]
            .iter()
            .all(|other| episodes(other) != episodes("a"))
    );

    place.ok("report runs --out report");
    let report = place.json("report/report.json");
    let tables = report["tables"].as_array().unwrap();
    let names = |table: usize| {
        let rows = tables[table]["rows"].as_array().unwrap().iter();
        rows.map(|row| row["run"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (names(0), names(1), names(2)),
        (
            vec!["a".into(), "b".into(), "seed".into()],
            vec!["pack".into()],
            vec!["queries".into()]
        )
    );
    let p = |row: usize| &tables[0]["rows"][row]["numbers"]["1-shot"]["difference"]["p"];
    assert!(
        p(1).is_number() && p(2).is_null(),
        "tested on the same episodes alone: {}",
        tables[0]
    );
    let page = place.text("report/report.md");
    says(&page, &["queries is 4, not 5", "split is val, not test"]);
    assert!(!page.contains("unset"), "{page}");
    for line in place.text("report/report.csv").lines().skip(1) {
        assert!(
            line.split(',').nth(6).unwrap().len() == 64,
            "no checksum of the backbone: {line}"
        );
    }
    // What a training goes on from is not written over.
    place.fails(
        &format!("{EVAL} --checkpoint scratch/backbone.safetensors --data test.pack --out scratch"),
        &["scratch", "holds a training run"],
    );
}

#[test]
fn other_tasks_say_their_protocol_too() {
    let place = Place::new();
    backbone(&place, "scratch", "");
    let from = "--checkpoint scratch/backbone.safetensors";
    place.ok(&format!(
        "detection train {from} {VOC} --train 2007:trainval --test 2007:test {DETECTOR} {PLAIN} --out \
         detector"
    ));
    place.ok(&format!(
        "segmentation train {from} --cityscapes world {SEGMENTER} {PLAIN} --out segmenter"
    ));
    place.ok(&format!(
        "detection eval --run detector {VOC} --test 2007:test {PLAIN} --out runs/detection"
    ));
    place.ok(&format!(
        "detection eval --run detector {VOC} --test 2007:test --test-side 48 {PLAIN} --out runs/smaller"
    ));
    place.ok(&format!(
        "detection score --detections detector/detections {VOC} --test 2007:test --out runs/scored"
    ));
    place.ok(&format!(
        "segmentation eval --run segmenter --cityscapes world {PLAIN} --out runs/segmentation"
    ));
    place.ok(&format!(
        "segmentation eval --run segmenter --cityscapes world --eval-flip {PLAIN} --out runs/flipped"
    ));
    place.ok(
        "segmentation score --ground-truth world/gtFine/val --predictions segmenter/predictions --out \
        runs/masks",
    );
    place.ok(&format!(
        "analyze representation {from} --data train.pack {PLAIN} --out runs/representation"
    ));
    let config = |run: &str| {
        place
            .text(&format!("{run}/config.toml"))
            .parse::<toml::Table>()
            .unwrap()
    };
    for (run, command, keys, sums) in [
        (
            "detection",
            "detection eval",
            &["test", "classes", "test-side", "precision"][..],
            &["test_annotations", "test_files", "backbone_sha256"][..],
        ),
        (
            "scored",
            "detection score",
            &["test", "classes"],
            &["test_annotations"],
        ),
        (
            "segmentation",
            "segmentation eval",
            &["cityscapes", "split", "eval-scales", "precision"],
            &["validation_files", "backbone_sha256"],
        ),
        (
            "masks",
            "segmentation score",
            &["ground-truth"],
            &["validation_labels"],
        ),
        (
            "representation",
            "analyze representation",
            &["data", "seed", "precision"],
            &["sha256", "backbone_sha256"],
        ),
    ] {
        let config = config(&format!("runs/{run}"));
        assert_eq!(config["build"]["command"].as_str(), Some(command));
        keys.iter()
            .for_each(|key| assert!(config.contains_key(*key), "{run} {key}: {config}"));
        sums.iter()
            .for_each(|key| assert!(config["dataset"].get(*key).is_some(), "{run} {key}: {config}"));
    }
    // The same images have the same sum wherever they are measured.
    assert_eq!(
        config("runs/detection")["dataset"]["test_files"],
        config("detector")["dataset"]["test_files"]
    );
    assert_eq!(
        config("runs/segmentation")["dataset"]["validation_files"],
        config("segmenter")["dataset"]["validation_files"]
    );
    place.ok("report runs --out report");
    let page = place.text("report/report.md");
    says(&page, &["test-side is", "eval-flip is"]);
    let csv = place.text("report/report.csv");
    let sums = |run: &str| {
        csv.lines()
            .filter(|line| line.starts_with(&format!("{run},")))
            .all(|l| l.split(',').nth(6).unwrap().len() == 64)
    };
    assert!(
        [
            "detection",
            "smaller",
            "segmentation",
            "flipped",
            "representation"
        ]
        .into_iter()
        .all(sums),
        "{csv}"
    );
}

#[test]
fn a_backbone_that_saw_the_test_classes_is_told_of_and_marked() {
    let place = Place::new();
    backbone(&place, "supervised", "--classes 30");
    backbone(&place, "scratch", "");
    let eval = |name: &str, pack: &str| {
        place.ok(&format!(
            "{EVAL} --queries 2 --checkpoint {name}/backbone.safetensors --data {pack} --out \
             runs/{name}-{pack}"
        ))
    };
    let warnings = eval("supervised", "train.pack").stderr;
    says(
        &warnings,
        &[
            "warning: ",
            "the backbone was trained on this pack (30 of its 50 classes)",
        ],
    );
    let leak = place.json("runs/supervised-train.pack/metrics.json")["leakage"]
        .as_str()
        .unwrap()
        .to_owned();
    says(&warnings, &[&leak]);
    for (name, pack) in [
        ("supervised", "test.pack"),
        ("scratch", "train.pack"),
        ("scratch", "test.pack"),
    ] {
        assert!(!eval(name, pack).stderr.contains("trained on"), "{name} {pack}");
        assert!(
            place.json(&format!("runs/{name}-{pack}/metrics.json"))["leakage"].is_null(),
            "{name} {pack}"
        );
    }
    place.ok("report runs --out report");
    says(&place.text("report/report.md"), &["‡", &leak]);

    // The same classes in a pack of other images.
    fs::create_dir(place.path("other")).unwrap();
    let train = place.text("world/train.csv");
    let test = place.text("world/test.csv");
    let class = |list: &str, skip: usize| {
        list.lines()
            .skip(1)
            .nth(skip)
            .unwrap()
            .split(',')
            .nth(1)
            .unwrap()
            .to_owned()
    };
    let of = |list: &str, class: &str| {
        list.lines()
            .filter(|l| l.ends_with(&format!(",{class}")))
            .map(|l| l.to_owned() + "\n")
            .collect::<String>()
    };
    let known = train
        .lines()
        .skip(1)
        .map(|l| l.split(',').nth(1).unwrap().to_owned());
    let known = known
        .into_iter()
        .find(|c| place.text("supervised/subset.json").contains(&format!("\"{c}\"")))
        .unwrap();
    let mixed: String = (0..test.lines().count() - 1)
        .step_by(20)
        .take(5)
        .map(|i| of(&test, &class(&test, i)))
        .collect();
    std::os::unix::fs::symlink(place.path("world/images"), place.path("other/images")).unwrap();
    place.write(
        "other/train.csv",
        format!("filename,label\n{}{mixed}", of(&train, &known)),
    );
    place.ok("data prepare miniimagenet --from other --out other.pack --size 24 --split train");
    says(
        &eval("supervised", "other.pack").stderr,
        &[
            "warning: ",
            "the backbone was trained on 1 of the 6 classes",
            &known,
        ],
    );

    let (metadata, _) = crate::world::content(&place.bytes("supervised/backbone.safetensors"));
    let classes: Vec<String> = serde_json::from_str(&metadata["class_names"]).unwrap();
    assert_eq!(classes.len(), 30);
    says(
        &place.ok("checkpoint info supervised/backbone.safetensors").stdout,
        &["trained classes", &known],
    );
}

#[test]
fn detectors_and_segmenters_say_when_they_are_scored_on_what_they_were_trained_on() {
    let place = Place::new();
    backbone(&place, "scratch", "");
    let from = format!("--checkpoint scratch/backbone.safetensors {PLAIN} --quiet");
    let leak = |run: &str| {
        place.json(&format!("{run}/metrics.json"))["leakage"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let detector = |test: &str, out: &str| {
        place.ok(&format!(
            "detection train {from} {VOC} --train 2007:trainval --test {test} {DETECTOR} --out {out}"
        ))
    };
    let done = detector("2007:trainval", "same");
    says(
        &done.stderr,
        &["warning: ", "all 12 test images are among the training images"],
    );
    says(&leak("same"), &["all 12 test images"]);
    assert!(!detector("2007:test", "apart").stderr.contains("training images") && leak("apart").is_empty());
    let eval = |split: &str, out: &str| {
        place.ok(&format!(
            "detection eval --run apart {VOC} --test {split} {PLAIN} --quiet --out {out}"
        ))
    };
    says(
        &eval("2007:trainval", "seen").stderr,
        &["all 12 test images are among the training images"],
    );
    assert!(
        leak("seen").contains("12")
            && eval("2007:test", "unseen").stderr.is_empty()
            && leak("unseen").is_empty()
    );

    let plain = "--images world/leftImg8bit/train/camtrast --labels labels --class-names names.txt";
    fs::create_dir(place.path("labels")).unwrap();
    for file in crate::world::list(&place.path("world/gtFine/train/camtrast"))
        .iter()
        .filter(|f| f.ends_with("_labelIds.png"))
    {
        let to = place
            .path("labels")
            .join(file.replace("gtFine_labelIds", "leftImg8bit"));
        fs::copy(place.path("world/gtFine/train/camtrast").join(file), to).unwrap();
    }
    place.write(
        "names.txt",
        (0..34).map(|i| format!("class {i}\n")).collect::<String>(),
    );
    let done = place.ok(&format!(
        "segmentation train {from} {plain} {SEGMENTER} --out streets"
    ));
    says(
        &done.stderr,
        &["warning: ", "all 4 test images are among the training images"],
    );
    says(&leak("streets"), &["all 4 test images"]);
    place.ok(&format!(
        "segmentation train {from} --cityscapes world {SEGMENTER} --out city"
    ));
    assert!(leak("city").is_empty());
    let eval = |split: &str, out: &str| {
        place.ok(&format!(
            "segmentation eval --run city --cityscapes world --split {split} {PLAIN} --quiet --out {out}"
        ))
    };
    says(
        &eval("train", "learnt").stderr,
        &["all 4 test images are among the training images"],
    );
    assert!(
        !leak("learnt").is_empty()
            && !eval("val", "new").stderr.contains("training images")
            && leak("new").is_empty()
    );
}

#[test]
fn splits_that_share_images_or_classes_are_told_of() {
    let place = Place::new();
    assert!(!place.ok("data info world").stdout.contains("in common"));
    fs::create_dir(place.path("mixed")).unwrap();
    std::os::unix::fs::symlink(place.path("world/images"), place.path("mixed/images")).unwrap();
    place.write("mixed/train.csv", place.text("world/train.csv"));
    place.write("mixed/test.csv", place.text("world/train.csv"));
    place.write("mixed/val.csv", place.text("world/val.csv"));
    let said = [
        "train and test have 400 images in common, such as ",
        "train and test have 50 classes in common",
    ];
    let info = place.ok("data info mixed").stdout;
    says(&info, &said);
    assert!(!info.contains("val and") && !info.contains("and val"), "{info}");
    let done =
        place.ok("data prepare miniimagenet --from mixed --out mixed.pack --size 16 --split test --quiet");
    says(&done.stderr, &["warning: ", said[0], said[1]]);
    let done = place.ok("data prepare miniimagenet --from mixed --out mixed.pack --size 16 --split val");
    assert!(!done.stderr.contains("in common"), "{}", done.stderr);
}

#[test]
fn figures_of_nothing_have_no_sign() {
    let place = Place::new();
    place.write("none.json", "[]");
    let done = place.ok(&format!(
        "detection score --detections none.json {VOC} --test 2007:test --out none"
    ));
    assert!(!done.stdout.contains("-0.00"), "{}", done.stdout);
    assert!(
        !place.text("none/metrics.json").contains("-0.0"),
        "{}",
        place.text("none/metrics.json")
    );
}
