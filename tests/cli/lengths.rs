//! Backbones on the way (`--keep-epochs`), runs that start from one (`--init`) and runs that go on
//! (`--extend`).

use crate::world::{CONTRAST, PLAIN, Place, TINY, assert_same_records, content, list};
use serde_json::Value;
use std::collections::BTreeMap;

const STEADY: &str = "--method supervised --schedule constant";

fn tensors(place: &Place, file: &str) -> BTreeMap<String, (String, Vec<u8>)> {
    content(&place.bytes(file)).1
}

fn header(place: &Place, file: &str) -> BTreeMap<String, String> {
    content(&place.bytes(file)).0
}

fn config(place: &Place, file: &str) -> Value {
    serde_json::from_str(&header(place, file)["config"]).unwrap()
}

/// Runs a command, kills it when its second state is there, and runs it again to its end.
fn killed(place: &Place, command: &str, run: &str) {
    let previous = place.path(&format!("{run}/state.previous.safetensors"));
    place.signalled(command, libc::SIGKILL, || previous.exists());
    place.ok(command);
}

#[test]
fn kept_epochs_are_backbones_of_their_own() {
    let place = Place::new();
    let line = format!("pretrain {STEADY} {TINY} --keep-epochs 1,2");
    place.ok(&format!("{line} --out whole"));
    let kept = header(&place, "whole/backbone-epoch1.safetensors");
    assert_eq!((&kept["epoch"][..], &kept["step"][..]), ("1", "25"));
    assert_eq!(config(&place, "whole/backbone-epoch1.safetensors")["epochs"], 2);
    assert!(place.bytes("whole/backbone-epoch2.safetensors") == place.bytes("whole/backbone.safetensors"));
    // With a steady rate, a run of one epoch is the same as far as it goes.
    place.ok(&format!("pretrain {STEADY} {TINY} --epochs 1 --out short"));
    let kept = tensors(&place, "whole/backbone-epoch1.safetensors");
    assert!(kept == tensors(&place, "short/backbone.safetensors"));
    assert!(kept != tensors(&place, "whole/backbone.safetensors"));
    let out = format!("fewshot eval --checkpoint whole/backbone-epoch1.safetensors --data test.pack {PLAIN}");
    place.ok(&format!("{out} --episodes-count 5 --queries 5"));

    killed(&place, &format!("{line} --save-every 7 --out killed"), "killed");
    for name in ["backbone-epoch1.safetensors", "backbone.safetensors"] {
        let [ours, theirs] = ["killed", "whole"].map(|run| place.bytes(&format!("{run}/{name}")));
        assert!(ours == theirs, "{name}");
    }
    assert_same_records(&place, "killed", "whole");

    // Keeping changes nothing else, precise statistics included.
    let precise = format!("pretrain {STEADY} {TINY} --precise-bn 5");
    place.ok(&format!("{precise} --out plain"));
    place.ok(&format!("{precise} --keep-epochs 1 --out keeping"));
    for name in ["backbone.safetensors", "classifier.safetensors"] {
        let [ours, theirs] = ["keeping", "plain"].map(|run| place.bytes(&format!("{run}/{name}")));
        assert!(ours == theirs, "{name}");
    }
    let moving = |name: &str| name.contains("running_");
    let precise = tensors(&place, "keeping/backbone-epoch1.safetensors");
    assert!(
        precise
            .iter()
            .filter(|(name, _)| moving(name))
            .all(|(name, value)| kept[name] != *value)
    );
    assert!(
        precise
            .iter()
            .filter(|(name, _)| !moving(name))
            .all(|(name, value)| kept[name] == *value)
    );

    for (flags, saying) in [
        (
            "--keep-epochs 3 --out three",
            ["--keep-epochs 3", "this run's 2 epochs"],
        ),
        (
            "--keep-epochs 0 --out zero",
            ["--keep-epochs 0", "counted from 1"],
        ),
        (
            "--keep-epochs 1 --out plain --precise-bn 5",
            ["epoch 1 of plain is over", "--overwrite"],
        ),
    ] {
        place.fails(&format!("pretrain {STEADY} {TINY} {flags}"), &saying);
    }
    assert!(!place.path("three").exists());
    place.ok(&format!(
        "pretrain {STEADY} {TINY} --epochs 1 --overwrite --out killed"
    ));
    assert!(!list(&place.path("killed")).contains(&"backbone-epoch1.safetensors".to_owned()));
}

#[test]
fn a_run_starts_from_a_backbone() {
    let place = Place::new();
    place.ok(&format!("pretrain {STEADY} {TINY} --epochs 1 --out first"));
    // Without steps of any length, weights stay what they were.
    let still = "--init first/backbone.safetensors --epochs 1 --lr 0 --weight-decay 0";
    for (method, network) in [
        ("supervised", None),
        ("moco", Some("key")),
        ("byol", Some("target")),
    ] {
        let more = if method == "moco" { CONTRAST } else { "" };
        place.ok(&format!(
            "pretrain --method {method} {TINY} {more} {still} --out {method}"
        ));
        let (first, second) = (
            tensors(&place, "first/backbone.safetensors"),
            tensors(&place, &format!("{method}/backbone.safetensors")),
        );
        let weights = first.keys().filter(|name| name.contains("conv"));
        assert!(weights.clone().count() > 10);
        weights.for_each(|name| assert!(first[name] == second[name], "{method}: {name}"));
        if let Some(network) = network {
            let state = tensors(&place, &format!("{method}/state.safetensors"));
            let numbers = |bytes: &[u8]| -> Vec<f32> {
                bytes
                    .chunks_exact(4)
                    .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
                    .collect()
            };
            let ours = numbers(&state[&format!("{network}/backbone.conv1.weight")].1);
            let theirs = numbers(&first["conv1.weight"].1);
            let apart = ours
                .iter()
                .zip(&theirs)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(apart < 1e-6, "{method}: {apart}");
        }
    }
    let sum = header(&place, "first/backbone.safetensors")["checksum"].clone();
    assert_eq!(config(&place, "moco/backbone.safetensors")["init_sha256"], sum);
    let toml = place.text("moco/config.toml");
    assert!(
        toml.contains("init = \"first/backbone.safetensors\"")
            && toml.contains(&format!("init_sha256 = {sum:?}"))
    );
    // Another name of the same file is the same run, another file is not.
    let line = format!("pretrain --method moco {TINY} {CONTRAST} {still} --out moco");
    place.ok(&line.replace("first/", "./first/"));
    place.fails(
        &line.replace("first/", "supervised/"),
        &["moco holds a run with init", "supervised/"],
    );

    let other = "--init first/backbone.safetensors --width 16 --out other";
    let saying = [
        "first/backbone.safetensors: is a resnet18-w8-small",
        "resnet18-w16-small",
        "--arch",
    ];
    place.fails(&format!("pretrain {STEADY} {TINY} {other}"), &saying);
    let line =
        format!("pretrain --method scratch {PLAIN} --data train.pack --init first/backbone.safetensors");
    place.fails(&format!("{line} --out scratch"), &["scratch", "--init"]);

    // The classes of both are known as trained on.
    let line = format!("pretrain {STEADY} {TINY} --epochs 1 --init first/backbone.safetensors --out novel");
    place.ok(&line.replace("train.pack", "test.pack"));
    let info = place.ok("checkpoint info novel/backbone.safetensors").stdout;
    assert!(info.contains("70: "), "{info}");
}

#[test]
fn a_run_goes_on_to_more_epochs() {
    let place = Place::new();
    let line = |flags: &str| format!("pretrain {STEADY} {TINY} {flags}");
    place.ok(&line("--out straight"));
    place.ok(&line("--epochs 1 --out run"));
    place.copy("run", "again");
    // A steady rate does not know how long it lasts.
    place.ok(&line("--extend --keep-epochs 1 --out run"));
    assert!(tensors(&place, "run/backbone.safetensors") == tensors(&place, "straight/backbone.safetensors"));
    assert_eq!(header(&place, "run/backbone-epoch1.safetensors")["epoch"], "1");
    assert_eq!(place.json("run/metrics.json")["pretrain/epochs"], 2.0);
    let extended = config(&place, "run/backbone.safetensors")["extended"].clone();
    assert_eq!(
        (&extended[0]["from-step"], &extended[0]["epochs"]),
        (&25.into(), &1.into())
    );
    assert!(config(&place, "straight/backbone.safetensors")["extended"].is_null());
    assert!(
        place
            .text("run/config.toml")
            .contains("[[extended]]\nfrom-step = 25\nepochs = 1\n")
    );
    // The same command, with or without the flag, finds it done.
    let before = place.bytes("run/metrics.json");
    place.ok(&line("--extend --out run"));
    place.ok(&line("--out run"));
    assert!(before == place.bytes("run/metrics.json"));

    // All settings from the run's own file; killed on the way.
    let own = "pretrain --config again/config.toml --epochs 3 --extend --device cpu --threads 1";
    place.copy("again", "killed");
    place.ok(&format!("{own} --out again"));
    killed(&place, &format!("{own} --save-every 7 --out killed"), "killed");
    assert!(place.bytes("again/backbone.safetensors") == place.bytes("killed/backbone.safetensors"));
    assert_same_records(&place, "killed", "again");

    for (flags, saying) in [
        (
            "--extend --epochs 1 --out run",
            ["run is a run of 2 epochs already", "--epochs 1"],
        ),
        (
            "--extend --out nothing",
            ["nothing: holds no run to extend", "--out"],
        ),
        (
            "--extend --epochs 4 --batch-size 8 --out run",
            ["run holds a run with batch-size = 16", "batch-size = 8"],
        ),
        (
            "--epochs 4 --out run",
            ["run holds a run with epochs = 2", "epochs = 4"],
        ),
    ] {
        place.fails(&line(flags), &saying);
    }
}

#[test]
fn an_extended_schedule_is_the_new_one_from_where_it_went_on() {
    let place = Place::new();
    let line =
        |flags: &str| format!("pretrain --method supervised {TINY} --schedule cosine --lr 0.1 {flags}");
    place.ok(&line("--epochs 4 --log-every 1 --out straight"));
    // Interrupted in the first of two epochs, and continued to four.
    let begun = line("--epochs 2 --save-every 5 --log-every 1 --out run");
    let previous = place.path("run/state.previous.safetensors");
    place.signalled(&begun, libc::SIGINT, || previous.exists());
    let before = place.log("run", "step").len();
    assert!((10..49).contains(&before), "{before}");
    place.ok(&line("--epochs 4 --log-every 1 --extend --out run"));
    let rates = |run: &str| -> Vec<f64> {
        place
            .log(run, "step")
            .iter()
            .map(|line| line["lr"].as_f64().unwrap())
            .collect()
    };
    let (ours, straight) = (rates("run"), rates("straight"));
    assert_eq!((ours.len(), straight.len()), (100, 100));
    let from = config(&place, "run/backbone.safetensors")["extended"][0]["from-step"]
        .as_u64()
        .unwrap() as usize;
    assert_eq!(from, before);
    assert_eq!(ours[from..], straight[from..]);
    let half = |step: usize| 0.05 * (1.0 + (std::f64::consts::PI * step as f64 / 50.0).cos());
    ours[..from]
        .iter()
        .enumerate()
        .for_each(|(step, lr)| assert!((lr - half(step)).abs() < 1e-12));
}
