//! Checkpoints, packs and other files that are given to a command.

use crate::world::{PLAIN, Place, TINY, poisoned};
use camtrast_common::tensor_file::{self, TensorFile};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

#[test]
fn files_of_the_wrong_kind() {
    let place = Place::new();
    place.ok(&format!(
        "pretrain --method supervised {TINY} --classes 4 --out run"
    ));
    let backbone = place.bytes("run/backbone.safetensors");
    place.write("half.safetensors", &backbone[..backbone.len() / 2]);
    let mut flipped = backbone.clone();
    let last = flipped.len() - 100;
    flipped[last] ^= 1;
    place.write("flipped.safetensors", flipped);
    place.write("empty.safetensors", "");
    place.write(
        "text.safetensors",
        "this is no safetensors file at all, whatever its name says",
    );
    let zeros = [0u8; 16];
    let tensor = TensorView::new(Dtype::F32, vec![4], &zeros).unwrap();
    serialize_to_file([("weight", tensor)], None, &place.path("foreign.safetensors")).unwrap();

    for (file, problem) in [
        (
            "train.pack",
            "is a camtrast-pack file, not a backbone checkpoint; give the run's backbone.safetensors",
        ),
        (
            "run/state.safetensors",
            "is a camtrast-state file, not a backbone checkpoint; give the run's backbone.safetensors",
        ),
        ("run", "is a folder"),
        ("half.safetensors", "not a whole safetensors file"),
        ("empty.safetensors", "not a whole safetensors file"),
        ("text.safetensors", "not a whole safetensors file"),
        ("flipped.safetensors", "is damaged"),
        ("nowhere.safetensors", "no such file or folder"),
    ] {
        place.fails(
            &format!("checkpoint info {file}"),
            &[&format!("{file}: "), problem],
        );
    }
    for (file, problem) in [
        (
            "run/backbone.safetensors",
            "is camtrast-backbone, not a data pack",
        ),
        ("foreign.safetensors", "not a data pack"),
        ("world", "is a folder, not a data pack"),
        ("half.safetensors", "not a whole safetensors file"),
        ("nowhere.pack", "no such file or folder"),
    ] {
        place.fails(
            &format!("pretrain --method supervised {TINY} --data {file} --out other"),
            &[file, problem],
        );
        assert!(!place.path("other").exists());
    }
    let eval = |checkpoint: &str, pack: &str| {
        format!("fewshot eval --checkpoint {checkpoint} --data {pack} {PLAIN}")
    };
    place.fails(
        &eval("train.pack", "test.pack"),
        &["train.pack: is a camtrast-pack file, not a backbone checkpoint"],
    );
    place.fails(
        &eval("foreign.safetensors", "test.pack"),
        &["foreign.safetensors", "camtrast checkpoint import"],
    );
    let swapped = eval("run/backbone.safetensors", "run/backbone.safetensors");
    place.fails(
        &swapped,
        &["backbone.safetensors: is camtrast-backbone, not a data pack"],
    );
    place.fails(
        "checkpoint import foreign.safetensors --out in.safetensors",
        &["foreign.safetensors", "torchvision"],
    );
    place.fails(
        "checkpoint import train.pack --out in.safetensors",
        &["train.pack", "torchvision"],
    );
    assert!(!place.path("in.safetensors").exists());
}

#[test]
fn weights_that_are_not_finite_are_loaded_nowhere() {
    let place = Place::new();
    place.ok(&format!(
        "pretrain --method supervised {TINY} --classes 10 --out run"
    ));
    place.write(
        "nan.safetensors",
        poisoned(&place.bytes("run/backbone.safetensors")),
    );
    let saying = ["nan.safetensors: tensor", "holds NaN or infinite values"];
    for line in [
        "checkpoint info nan.safetensors".to_owned(),
        "checkpoint export nan.safetensors --to torchvision --out out.pth".to_owned(),
        format!("fewshot eval --checkpoint nan.safetensors --data test.pack {PLAIN}"),
        format!("analyze representation --checkpoint nan.safetensors --data test.pack --out a {PLAIN}"),
        format!(
            "detection train --checkpoint nan.safetensors --voc world/VOCdevkit --train 2007:trainval --out \
             d --classes clock,tree,mushroom,chair {PLAIN}"
        ),
    ] {
        place.fails(&line, &saying);
    }
    // A foreign file is named as it is, not as what was to be written.
    place.ok("checkpoint export run/backbone.safetensors --to torchvision --out tv.safetensors");
    place.write("foreign.safetensors", poisoned(&place.bytes("tv.safetensors")));
    let foreign = ["foreign.safetensors: tensor", "holds NaN or infinite values"];
    place.fails(
        "checkpoint import foreign.safetensors --out in.safetensors",
        &foreign,
    );
    assert!(!place.path("in.safetensors").exists());
    // A state gives way to the one before it.
    place.copy("run", "damaged");
    place.write(
        "damaged/state.previous.safetensors",
        place.bytes("run/state.safetensors"),
    );
    place.write(
        "damaged/state.safetensors",
        poisoned(&place.bytes("run/state.safetensors")),
    );
    let done = place.ok(&format!(
        "pretrain --method supervised {TINY} --classes 10 --out damaged"
    ));
    assert!(
        done.stderr.contains("NaN") && done.stderr.contains("the state before it"),
        "{}",
        done.stderr
    );
}

/// Rewrites a file of ours with another metadata entry, and checksums that fit.
fn with_metadata(place: &Place, file: &str, key: &str, value: &str) {
    let path = place.path(file);
    let content = TensorFile::open(&path).unwrap();
    let mut metadata = content.metadata().clone();
    metadata.insert(key.into(), value.into());
    metadata.retain(|key, _| !key.ends_with("checksum"));
    tensor_file::save(&path, &content.tensors().unwrap(), &metadata).unwrap();
}

#[test]
fn files_of_later_versions_are_refused() {
    let place = Place::new();
    let command = format!("pretrain --method supervised {TINY} --classes 10 --out run");
    place.ok(&command);
    place.write("state.good", place.bytes("run/state.safetensors"));
    let newer = [
        "is of version 2 of its format",
        "reads up to 1",
        "use a newer camtrast",
    ];
    with_metadata(&place, "run/state.safetensors", "version", "2");
    place.fails(&command, &newer);
    for step in ["", "-1", "1e3", "many"] {
        place.write("run/state.safetensors", place.bytes("state.good"));
        with_metadata(&place, "run/state.safetensors", "step", step);
        place.fails(
            &command,
            &["run/state.safetensors", "\"step\"", &format!("{step:?}")],
        );
    }
    with_metadata(&place, "run/backbone.safetensors", "version", "2");
    place.fails("checkpoint info run/backbone.safetensors", &newer);
    with_metadata(&place, "run/backbone.safetensors", "version", "new");
    place.fails(
        "checkpoint info run/backbone.safetensors",
        &["run/backbone.safetensors", "\"version\" is \"new\""],
    );
}
