//! Flags, configuration files, devices.

use super::data::{PREPARE, small_world};
use crate::world::{PLAIN, Place, TINY};
use std::path::Path;

#[test]
fn settings_that_do_not_fit_the_data() {
    let place = Place::new();
    for (method, flags, saying) in [
        ("supervised", "--classes 500", ["--classes", "train.pack has 50"]),
        ("supervised", "--classes 0", ["--classes", "1..50"]),
        (
            "supervised",
            "--images-per-class 9",
            ["--images-per-class", "1..8"],
        ),
        (
            "supervised",
            "--categories 99",
            ["99 categories", "--categories to 1.."],
        ),
        (
            "supervised",
            "--categories 4 --classes 3",
            ["3 classes", "in 4 categories"],
        ),
        (
            "supervised",
            "--total-images 401",
            ["9 images per class", "--total-images to 50..400"],
        ),
        ("supervised", "--batch-size 401", ["--batch-size", "400 images"]),
        ("supervised", "--accumulate 26", ["--accumulate", "400 images"]),
        ("supervised", "--batch-size 0", ["--batch-size", "at least 1"]),
        ("supervised", "--precise-bn 0", ["--precise-bn", "1..25"]),
        ("supervised", "--precise-bn 26", ["--precise-bn", "1..25"]),
        (
            "scratch",
            "--precise-bn 1 --batch-size 1 --epochs 0",
            ["--precise-bn", "method that trains"],
        ),
        ("supervised", "--clip-norm 0", ["--clip-norm", "not positive"]),
        ("supervised", "--flip 1.5", ["--flip", "from 0 to 1"]),
        ("supervised", "--jitter 0.4", ["--jitter", "4 numbers"]),
        (
            "moco",
            "--queue-size 15 --bn-splits 2",
            ["--queue-size 15", "--batch-size 16"],
        ),
        (
            "moco",
            "--queue-size 64 --bn-splits 3",
            ["--bn-splits 3", "--batch-size 16"],
        ),
        (
            "camtrast-moco",
            "--queue-size 64 --query-bn-splits 3",
            ["--query-bn-splits 3", "--batch-size 16"],
        ),
        (
            "camtrast-moco",
            "--queue-size 64 --temperature 0",
            ["--temperature", "not positive"],
        ),
        (
            "camtrast-moco",
            "--queue-size 64 --key-momentum 2",
            ["--key-momentum", "0.999"],
        ),
        ("scratch", "--epochs 2", ["--method scratch", "--epochs"]),
        (
            "moco",
            "--queue-size 64 --epochs 0",
            ["--epochs 0 does not train --method moco", "--method scratch"],
        ),
        (
            "supervised",
            "--epochs 9223372036854775808",
            ["--epochs", "at most"],
        ),
        (
            "supervised",
            "--accumulate 9223372036854775808",
            ["--accumulate", "at most"],
        ),
        ("supervised", "--lr=-0.1", ["--lr -0.1", "at least 0"]),
        ("supervised", "--lr NaN", ["--lr NaN", "at least 0"]),
        (
            "supervised",
            "--weight-decay=-1",
            ["--weight-decay -1", "at least 0"],
        ),
        ("supervised", "--momentum 2", ["--momentum 2", "below 1"]),
        ("supervised", "--gamma inf", ["--gamma inf", "at least 0"]),
        ("supervised", "--milestones 3,1", ["--milestones 3,1", "60,80"]),
        ("supervised", "--milestones=-1,1", ["--milestones -1,1", "60,80"]),
        (
            "supervised",
            "--warmup-epochs=-1",
            ["--warmup-epochs -1", "at least 0"],
        ),
        (
            "supervised",
            "--jitter NaN,0,0,0",
            ["--jitter", "0.4,0.4,0.4,0.1"],
        ),
        (
            "moco",
            "--queue-size 64 --temperature inf",
            ["--temperature inf", "not positive"],
        ),
        (
            "moco",
            "--queue-size 64 --blur-sigma 0.1,inf",
            ["--blur-sigma", "0.1,2"],
        ),
    ] {
        place.fails(
            &format!("pretrain --method {method} {TINY} {flags} --out run"),
            &saying,
        );
        assert!(!place.path("run").exists(), "{flags} left a run folder");
    }
    // A pack of a data set without general categories.
    small_world(&place);
    place.ok(PREPARE);
    for flags in ["--labels coarse", "--categories 2"] {
        let small = TINY
            .replace("train.pack", "bad.pack")
            .replace("--batch-size 16", "--batch-size 4");
        let line = format!("pretrain --method supervised {small} {flags} --out run");
        place.fails(
            &line,
            &[
                "bad.pack has no general categories",
                flags.trim_end_matches(" 2"),
                "categories.csv",
            ],
        );
    }
    // Far beyond what any machine can address: libtorch panics, the user sees one line all the same.
    let vast = "--queue-size 9999999999999 --bn-splits 2";
    place.fails(
        &format!("pretrain --method moco {TINY} {vast} --out run"),
        &["out of memory (tried to allocate 5119999999999488 bytes)"],
    );
    assert!(!place.path("run").exists());

    place.ok(&format!(
        "pretrain --method scratch {TINY} --epochs 0 --out scratch"
    ));
    let eval = |flags: &str| {
        format!("fewshot eval --checkpoint scratch/backbone.safetensors {PLAIN} --out m.json {flags}")
    };
    place.fails(
        &eval("--data test.pack --shots 6"),
        &["20", "--shots and --queries"],
    );
    place.fails(
        &eval("--data train.pack --shots 1"),
        &["16 images of each class", "8 images", "--queries"],
    );
    place.fails(
        &eval("--data test.pack --ways 21"),
        &["21-way", "20 classes", "--ways"],
    );
    place.fails(&eval("--data test.pack --ways 1"), &["1 ways", "2 ways"]);
    place.fails(
        &eval("--data test.pack --episodes-count 0"),
        &["at least one episode"],
    );
    assert!(!place.path("m.json").exists());
}

#[test]
fn command_lines_that_cannot_mean_anything() {
    let place = Place::new();
    let pretrain = |flags: &str| format!("pretrain {TINY} --out run {flags}");
    for (line, saying) in [
        (pretrain("--method simclr"), ["simclr", "camtrast-moco"]),
        (
            pretrain("--method supervised --learning-rate 3"),
            ["--learning-rate", "--help"],
        ),
        (
            pretrain("--method supervised --queue-size 64"),
            [
                "--queue-size has no meaning for --method supervised",
                "leave it out",
            ],
        ),
        (
            pretrain("--method moco --cam-class label"),
            ["--cam-class has no meaning for --method moco", "leave it out"],
        ),
        (
            pretrain("--method camtrast-moco --cam off --cam-warmup-epochs 3"),
            [
                "--cam-warmup-epochs has no meaning for --method camtrast-moco",
                "leave it out",
            ],
        ),
        (
            pretrain("--method camtrast-moco --contrast none --queue-size 64"),
            [
                "--queue-size has no meaning for --method camtrast-moco",
                "leave it out",
            ],
        ),
        (
            pretrain("--method supervised --images-per-class 2 --total-images 100"),
            ["--images-per-class", "--total-images"],
        ),
        (
            pretrain("--method supervised --labels coarser"),
            ["coarser", "fine, coarse"],
        ),
        (
            pretrain("--method scratch --lr 1"),
            ["--lr has no meaning for --method scratch", "leave it out"],
        ),
        (pretrain("--method supervised --lr fast"), ["--lr", "fast"]),
        (
            pretrain("--method supervised --save-every 0"),
            ["--save-every", "0"],
        ),
        (
            pretrain("--method supervised --threads 0"),
            ["--threads", "from 1 to 1024"],
        ),
        (
            pretrain("--method supervised --threads=-1"),
            ["--threads", "from 1 to 1024"],
        ),
        (
            pretrain("--method supervised --threads 100000"),
            ["--threads", "from 1 to 1024"],
        ),
        (
            pretrain("--method supervised --crop-padding=-1"),
            ["--crop-padding", "-1"],
        ),
        (
            pretrain("--method moco --projection-dim 0"),
            ["--projection-dim", "0"],
        ),
        (
            pretrain("--method moco --projector-hidden=-8"),
            ["--projector-hidden", "-8"],
        ),
        (
            pretrain("--method supervised --arch resnet19"),
            ["--arch", "resnet19"],
        ),
        (pretrain("--method supervised --width 1"), ["--width", "4 to 512"]),
        (pretrain("--method supervised --device tpu"), ["--device", "tpu"]),
        (
            pretrain("--method supervised --precision fp16"),
            ["--precision", "fp16"],
        ),
        (pretrain(""), ["--method", "required"]),
        (
            "fewshot eval --data test.pack".to_owned(),
            ["--checkpoint", "required"],
        ),
        (
            "fewshot eval --checkpoint a --data b --shots 0".to_owned(),
            ["--shots", "0"],
        ),
        ("pretain".to_owned(), ["pretain", "pretrain"]),
    ] {
        place.misused(&line, &saying);
    }
    assert!(!place.path("run").exists());
}

#[test]
fn configuration_files_that_are_wrong() {
    let place = Place::new();
    let with = |file: &str| format!("pretrain --config {file} --data train.pack --out run {PLAIN}");
    place.write("key.toml", "method = \"moco\"\nqueue-sizes = 64\n");
    place.misused(
        &with("key.toml"),
        &["key.toml", "\"queue-sizes\"", "did you mean \"queue-size\"?"],
    );
    place.write("strange.toml", "zzz = 1\n");
    place.misused(
        &with("strange.toml"),
        &["strange.toml", "\"zzz\"", "camtrast pretrain --help"],
    );
    place.write("broken.toml", "method = \"moco\"\n\nlr = = 3\n");
    place.misused(&with("broken.toml"), &["broken.toml", "line 3", "TOML"]);
    place.write("table.toml", "method = \"moco\"\n[lr]\nvalue = 3\n");
    place.misused(&with("table.toml"), &["table.toml", "\"lr\"", "plain value"]);
    place.write("value.toml", "method = \"moco\"\nlr = \"fast\"\n");
    place.misused(&with("value.toml"), &["--lr", "fast"]);
    place.write("meaning.toml", "method = \"supervised\"\nqueue-size = 64\n");
    place.misused(
        &with("meaning.toml"),
        &["--queue-size has no meaning", "leave it out"],
    );
    place.fails(&with("nowhere.toml"), &["nowhere.toml", "no such file or folder"]);
    assert!(!place.path("run").exists());
}

#[test]
fn a_cuda_device_that_is_not_there() {
    if Path::new("/dev/nvidiactl").exists() {
        return;
    }
    let place = Place::new();
    let done = place.ok(&format!(
        "pretrain --method scratch {TINY} --epochs 0 --device auto --out scratch"
    ));
    assert!(
        done.stderr.starts_with("computing on cpu (no NVIDIA GPU"),
        "{}",
        done.stderr
    );
    let quiet = place.ok(&format!(
        "pretrain --method scratch {TINY} --epochs 0 --device auto --quiet --out quiet"
    ));
    assert_eq!(quiet.stderr, "");
    assert!(place.text("scratch/config.toml").contains("device = \"cpu\""));
    let cuda = ["there is no CUDA device", "--device cpu"];
    place.fails(
        &format!("pretrain --method supervised {TINY} --device cuda --out run"),
        &cuda,
    );
    place.fails(
        "fewshot eval --checkpoint scratch/backbone.safetensors --data test.pack --device cuda:1",
        &cuda,
    );
    assert!(!place.path("run").exists());
}
