//! `--val-every`: scores while training, the best network, and which one is tested.

use crate::world::{PLAIN, Place, TINY, assert_same_records, content, list};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;

const CLASSES: &str = "clock,tree,mushroom,chair";
const DETECTION: &str = "detection train --checkpoint scratch/backbone.safetensors --voc devkit \
    --train 2007:train --arch fpn --preset moco --batch-size 2 --lr 0.05 --warmup-steps 0 --train-sides 48 \
    --test-side 64 --anchor-sizes 8,16,32,48,64 --regions-per-image 16 --fpn-channels 8 --head-features 16 \
    --train-proposals 100,30 --test-proposals 100,30 --score-threshold 0 --steps 8 --device cpu --threads 1";
const SEGMENTATION: &str = "segmentation train --checkpoint scratch/backbone.safetensors --cityscapes world \
    --steps 8 --batch-size 2 --crop 32 --head-channels 8 --lr 0.1 --device cpu --threads 1";

fn place() -> Place {
    let place = Place::new();
    place.ok(&format!(
        "pretrain --method scratch --data train.pack --arch resnet18-w8 --out scratch {PLAIN}"
    ));
    place
}

/// `devkit/`: the drawn scenes with the training ones divided, 8 to train on and 4 to validate on.
fn divided(place: &Place) {
    let lists = place.path("devkit/VOC2007/ImageSets/Main");
    fs::create_dir_all(&lists).unwrap();
    let drawn = place.path("world/VOCdevkit/VOC2007");
    for name in ["JPEGImages", "Annotations"] {
        symlink(drawn.join(name), place.path("devkit/VOC2007").join(name)).unwrap();
    }
    fs::copy(drawn.join("ImageSets/Main/test.txt"), lists.join("test.txt")).unwrap();
    let scenes = fs::read_to_string(drawn.join("ImageSets/Main/trainval.txt")).unwrap();
    let scenes: Vec<&str> = scenes.lines().collect();
    fs::write(lists.join("train.txt"), scenes[..8].join("\n")).unwrap();
    fs::write(lists.join("val.txt"), scenes[8..].join("\n")).unwrap();
}

/// Steps and scores of the validation lines of a run's log.
fn scores(place: &Place, run: &str, name: &str) -> Vec<(u64, f64)> {
    let lines = place.log(run, "validation").into_iter();
    lines
        .map(|line| (line["step"].as_u64().unwrap(), line[name].as_f64().unwrap()))
        .collect()
}

fn first_best(scores: &[(u64, f64)]) -> (u64, f64) {
    let most = scores.iter().map(|one| one.1).fold(f64::MIN, f64::max);
    *scores.iter().find(|one| one.1 == most).unwrap()
}

/// What a network's file says of itself.
fn info(place: &Place, file: &str) -> Value {
    serde_json::from_str(&content(&place.bytes(file)).0["info"]).unwrap()
}

/// Kills a run after its first validation and a state, and runs it again; everything is as without.
fn survives_a_kill(place: &Place, command: &str, whole: &str, files: &[&str]) {
    let killed = format!("{whole}-killed");
    let line = format!("{command} --save-every 3 --out {killed}");
    let ready = place.path(&format!("{killed}/state.previous.safetensors"));
    place.signalled(&line, libc::SIGKILL, || ready.exists());
    place.ok(&line);
    for file in files {
        let [ours, theirs] = [&killed, whole].map(|run: &str| place.bytes(&format!("{run}/{file}")));
        assert!(ours == theirs, "{killed}/{file}");
    }
    assert_eq!(place.log(&killed, "validation"), place.log(whole, "validation"));
    assert_same_records(place, &killed, whole);
}

#[test]
fn a_detector_is_validated_and_the_best_is_kept() {
    let place = place();
    divided(&place);
    let line = format!("{DETECTION} --classes {CLASSES} --val 2007:val --val-every 2");
    place.ok(&format!("{line} --test 2007:test --precise-bn 2 --out last"));
    let found = scores(&place, "last", "detection/AP");
    assert_eq!(found.iter().map(|one| one.0).collect::<Vec<_>>(), [2, 4, 6, 8]);
    let (step, best) = first_best(&found);
    assert!(best > 0.0, "nothing found by chance: the test says little");
    let metrics = place.json("last/metrics.json");
    assert_eq!(metrics["tested"], "last");
    assert_eq!(metrics["detection/validation/best"], best);
    assert_eq!(metrics["detection/validation/best_step"], step as f64);
    assert_eq!(metrics["detection/validation/last"], found.last().unwrap().1);
    assert_eq!(info(&place, "last/best.safetensors")["step"], step);
    assert_eq!(info(&place, "last/detector.safetensors")["step"], 8);
    let eval = format!("detection eval --voc devkit --classes {CLASSES} {PLAIN}");
    // The score is that of the file, whose statistics are not estimated again.
    place.ok(&format!(
        "{eval} --checkpoint last/best.safetensors --test 2007:val --out again"
    ));
    assert_eq!(place.json("again/metrics.json")["detection/AP"], best);
    // Weights are those of a run that is not validated.
    let plain = line.replace(" --val 2007:val --val-every 2", "");
    place.ok(&format!("{plain} --test 2007:test --precise-bn 2 --out plain"));
    let weights = |file: &str| content(&place.bytes(file)).1;
    assert!(weights("plain/detector.safetensors") == weights("last/detector.safetensors"));
    assert_eq!(
        place.json("plain/metrics.json")["detection/AP"],
        metrics["detection/AP"]
    );
    let events: Vec<u8> = list(&place.path("last"))
        .into_iter()
        .filter(|name| name.starts_with("events."))
        .flat_map(|name| place.bytes(&format!("last/{name}")))
        .collect();
    for part in [
        &b"validation/detection/AP"[..],
        b"validation/detection/0",
        b"\x89PNG\r\n",
    ] {
        assert!(
            events.windows(part.len()).any(|window| window == part),
            "{part:?}"
        );
    }
    let files = ["best.safetensors", "detector.safetensors", "detections.json"];
    let command = format!("{line} --test 2007:test --precise-bn 2");
    survives_a_kill(&place, &command, "last", &files);

    // The best is tested where that is asked for, in the same words everywhere.
    place.ok(&format!(
        "{line} --test 2007:test --precise-bn 2 --test-best --out best"
    ));
    let tested = place.json("best/metrics.json");
    assert_eq!(tested["tested"], "best");
    assert!(weights("best/detector.safetensors") == weights("last/detector.safetensors"));
    let precise = info(&place, "best/best.safetensors");
    assert_eq!(
        (&precise["step"], &precise["precise_bn"]),
        (&step.into(), &2.into())
    );
    place.ok(&format!(
        "{eval} --checkpoint best/best.safetensors --test 2007:test --out of-best"
    ));
    assert_eq!(
        place.json("of-best/metrics.json")["detection/AP"],
        tested["detection/AP"]
    );
    survives_a_kill(&place, &format!("{command} --test-best"), "best", &files);
    place.ok("report last best --out report");
    let page = place.text("report/report.html");
    assert!(page.contains("AP on validation images"));
    assert!(page.contains("best on validation images (--test-best): best."));
    // Numbers of the best and of the last are not put into one table.
    assert!(page.contains("test-best"), "a protocol of its own");
}

#[test]
fn a_segmenter_is_validated_and_the_best_is_kept() {
    let place = place();
    let line = format!("{SEGMENTATION} --dev-split train --val-every 3");
    place.ok(&format!("{line} --out last"));
    let found = scores(&place, "last", "segmentation/mIoU");
    assert_eq!(found.iter().map(|one| one.0).collect::<Vec<_>>(), [3, 6, 8]);
    let (step, best) = first_best(&found);
    assert_eq!(info(&place, "last/best.safetensors")["step"], step);
    let eval = format!("segmentation eval --cityscapes world {PLAIN}");
    place.ok(&format!(
        "{eval} --checkpoint last/best.safetensors --split train --out again"
    ));
    assert_eq!(place.json("again/metrics.json")["segmentation/mIoU"], best);
    survives_a_kill(
        &place,
        &line,
        "last",
        &["best.safetensors", "segmenter.safetensors"],
    );
    place.ok(&format!("{line} --test-best --auxiliary-weight 0.4 --out best"));
    place.ok(&format!(
        "{eval} --checkpoint best/best.safetensors --out of-best"
    ));
    let miou = |run: &str| place.json(&format!("{run}/metrics.json"))["segmentation/mIoU"].clone();
    assert_eq!(miou("of-best"), miou("best"));
}

#[test]
fn a_fine_tuned_probe_is_validated() {
    let place = place();
    place.ok(&format!("pretrain --method supervised {TINY} --out run"));
    for (pack, seed) in [("val.pack", 8), ("more.pack", 9)] {
        place.ok(&format!(
            "data synth --out drawn-{seed} --size 32 --images-per-class 2 --evaluation-images-per-class 2 \
             --scenes 1 --test-scenes 1 --scene-size 64 --streets 1 --val-streets 1 --street-size 32 \
             --seed {seed}"
        ));
        place.ok(&format!(
            "data prepare miniimagenet --from drawn-{seed} --out {pack} --size 32 --split train"
        ));
    }
    let line = format!(
        "probe finetune --checkpoint run/backbone.safetensors --train train.pack --test more.pack \
         --val-every 5 --epochs 2 --batch-size 40 --lr 0.1 --backbone-lr-scale 1 {PLAIN}"
    );
    place.ok(&format!("{line} --val val.pack --out last"));
    let found = scores(&place, "last", "probe/finetune/top1");
    assert_eq!(found.iter().map(|one| one.0).collect::<Vec<_>>(), [5, 10, 15, 20]);
    assert_eq!(
        info(&place, "last/best.safetensors")["step"],
        first_best(&found).0
    );
    survives_a_kill(
        &place,
        &format!("{line} --val val.pack"),
        "last",
        &["best.safetensors", "network.safetensors"],
    );
    place.ok(&format!("{line} --val val.pack --test-best --out best"));
    let [best, last] = ["best", "last"].map(|run| place.json(&format!("{run}/metrics.json")));
    assert_eq!(
        (&best["tested"], &last["tested"]),
        (&"best".into(), &"last".into())
    );
    assert_eq!(best["probe/validation/best"], first_best(&found).1);

    place.fails(
        &format!("{line} --val test.pack --out novel"),
        &["test.pack", "which the training pack lacks"],
    );
    place.fails(
        &format!("{line} --val more.pack --test-best --out same"),
        &["--test-best: 100 of the 100 validation images are among the test images"],
    );
    let done = place.ok(&format!("{line} --val train.pack --out seen"));
    let said = "warning: 400 of the 400 validation images are among the training images";
    assert!(done.stderr.contains(said), "{}", done.stderr);
}

#[test]
fn validation_that_cannot_be_is_refused() {
    let place = place();
    divided(&place);
    let line = format!("{DETECTION} --classes {CLASSES}");
    for (flags, saying) in [
        ("--val-every 2", ["--val-every 2 has no images", "--val"]),
        (
            "--val 2007:val",
            ["names images to validate on", "give --val-every"],
        ),
        (
            "--val 2007:test --test 2007:test --val-every 2 --test-best",
            [
                "--test-best: all 6 test images are among the validation images",
                "other images",
            ],
        ),
    ] {
        place.fails(&format!("{line} {flags} --out run"), &saying);
    }
    place.misused(&format!("{line} --test-best --out run"), &["--val-every"]);
    place.misused(
        &format!("{line} --val 2007:val --val-every 0 --out run"),
        &["--val-every"],
    );
    place.fails(
        &format!("{SEGMENTATION} --val-every 2 --out run"),
        &["no images to validate on", "--dev-split"],
    );
    place.fails(
        &format!("{SEGMENTATION} --val-every 2 --dev-split val --test-best --out run"),
        &["--test-best", "validation images"],
    );
    let done = place.ok(&format!(
        "{SEGMENTATION} --val-every 8 --dev-split val --out warned"
    ));
    let said = "warning: all 2 test images are among the validation images";
    assert!(done.stderr.contains(said), "{}", done.stderr);
}
