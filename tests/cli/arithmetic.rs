//! `--deterministic`, `--tf32` and `--profile-step`, on a CPU.

use crate::world::{CONTRAST, Place, TINY};

const DETECTION: &str = "detection train --voc world/VOCdevkit --train 2007:trainval \
    --classes clock,tree,mushroom,chair --preset moco --batch-size 2 --warmup-steps 2 --lr 0.01 \
    --train-sides 48,64 --test-side 64 --anchor-sizes 8,16,32,48,64 --regions-per-image 16 \
    --train-proposals 100,30 --fpn-channels 8 --head-features 16 --precise-bn 0 --steps 3";
const SEGMENTATION: &str = "segmentation train --cityscapes world --crop 32 --batch-size 2 --steps 3 \
    --head-channels 16 --pictures 0";
const SCRATCH: &str =
    "pretrain --method scratch --data train.pack --arch resnet18 --width 8 --device cpu --out scratch";

// None of the operations that anything trains with is refused, the bytes repeat, with threads as well, and
// the run says how it was computed.
#[test]
fn deterministic_runs_repeat_and_are_recorded() {
    let place = Place::new();
    place.ok(SCRATCH);
    let start = "--checkpoint scratch/backbone.safetensors --device cpu --threads 2";
    let tiny = TINY
        .replace("--threads 1", "--threads 2")
        .replace("--epochs 2", "--epochs 1");
    for (name, command, file) in [
        (
            "moco",
            format!("pretrain --method camtrast-moco {tiny} {CONTRAST}"),
            "backbone",
        ),
        ("byol", format!("pretrain --method byol {tiny}"), "backbone"),
        ("c4", format!("{DETECTION} --arch c4 {start}"), "detector"),
        ("fpn", format!("{DETECTION} --arch fpn {start}"), "detector"),
        ("deeplab", format!("{SEGMENTATION} {start}"), "segmenter"),
    ] {
        let bytes = ["a", "b"].map(|run| {
            place.ok(&format!("{command} --deterministic --out {name}-{run}"));
            place.bytes(&format!("{name}-{run}/{file}.safetensors"))
        });
        assert!(bytes[0] == bytes[1], "two deterministic runs of {name} differ");
        let config = place.text(&format!("{name}-a/config.toml"));
        assert_eq!(config.matches("deterministic = true\n").count(), 2, "{config}");
    }
    // It is a setting: the run is not continued without it.
    let saying = ["deterministic = true", "this command has no deterministic"];
    place.fails(&format!("{SEGMENTATION} {start} --out deeplab-a"), &saying);
}

#[test]
fn tf32_is_for_gpus() {
    let place = Place::new();
    place.ok(SCRATCH);
    let saying = ["--tf32 is for GPUs", "leave it out, or use --device cuda"];
    place.fails(
        &format!("pretrain --method supervised {TINY} --tf32 --out run"),
        &saying,
    );
    let start = "--checkpoint scratch/backbone.safetensors --device cpu --tf32 --out run";
    place.fails(&format!("{SEGMENTATION} {start}"), &saying);
    assert!(!place.path("run").exists());
}

// What is slower than the default is not begun without a word.
#[test]
fn bf16_without_avx512_is_a_warning() {
    let place = Place::new();
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let slow = !flags.contains("avx512bw") && cfg!(target_arch = "x86_64");
    for (precision, warns) in [("fp32", false), ("bf16", slow)] {
        let scratch = SCRATCH.replace(
            "--out scratch",
            &format!("--out {precision} --precision {precision}"),
        );
        let printed = place.ok(&scratch).stderr;
        assert_eq!(
            printed.contains("warning: this processor has no AVX-512"),
            warns,
            "{printed}"
        );
    }
}

#[test]
fn a_step_is_profiled() {
    let place = Place::new();
    place.ok(&format!(
        "pretrain --method supervised {TINY} --profile-step 3 --out run"
    ));
    let trace = place.json("run/profile.json");
    let events = trace["traceEvents"].as_array().unwrap();
    let names = events.iter().filter_map(|event| event["name"].as_str());
    let convolutions =
        names.filter(|name| name.contains("Convolution") && !name.starts_with("autograd::engine"));
    // Of one step: the gradients of a ResNet-18's 20 convolutions, by libtorch and by kernels of our own.
    assert_eq!(convolutions.count(), 20);
    let whole = place.bytes("run/backbone.safetensors");
    place.ok(&format!("pretrain --method supervised {TINY} --out plain"));
    assert!(
        place.bytes("plain/backbone.safetensors") == whole,
        "profiling changes the weights"
    );
}
