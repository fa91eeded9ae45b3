//! What only a GPU can show. Without one these tests say so and pass, or fail if `CAMTRAST_REQUIRE_GPU` is
//! set. `CAMTRAST_TEST_DEVICE=cpu` runs all of them with the CPU in the GPU's place, to test the tests.

use crate::world::{CONTRAST, Place};
use serde_json::Value;

/// The device under test, when there is one.
struct Gpu {
    place: Place,
    device: String,
}

fn gpu() -> Option<Gpu> {
    let place = Place::new();
    let device = std::env::var("CAMTRAST_TEST_DEVICE").unwrap_or_else(|_| "cuda".into());
    let scratch = "pretrain --method scratch --data train.pack --arch resnet18 --width 8 --out scratch";
    let probe = place.run(&format!("{scratch} --device {device}"));
    if probe.code == Some(0) {
        return Some(Gpu { place, device });
    }
    let reason = probe.stderr.trim();
    assert!(
        std::env::var_os("CAMTRAST_REQUIRE_GPU").is_none(),
        "CAMTRAST_REQUIRE_GPU is set, but there is none: {reason}"
    );
    eprintln!("skipped, no GPU: {reason}");
    None
}

/// Every method, with flags that make it small.
const METHODS: [(&str, &str); 7] = [
    ("supervised", ""),
    ("moco", CONTRAST),
    ("simsiam", ""),
    ("byol", ""),
    ("exemplar", CONTRAST),
    (
        "camtrast-moco",
        "--queue-size 64 --bn-splits 2 --cam-warmup-epochs 0",
    ),
    ("camtrast-simsiam", "--cam-warmup-epochs 0"),
];
const PRETRAIN: &str = "--data train.pack --arch resnet18 --width 8 --stem small --batch-size 16 --epochs 2";
const DETECTION: &str = "detection train --voc world/VOCdevkit --train 2007:trainval --test 2007:test \
    --classes clock,tree,mushroom,chair --checkpoint scratch/backbone.safetensors --preset moco \
    --batch-size 2 --lr 0.001 --warmup-steps 2 --train-sides 48,64 --test-side 64 \
    --anchor-sizes 8,16,32,48,64 --regions-per-image 16 --train-proposals 100,30 --test-proposals 100,30 \
    --fpn-channels 8 --head-features 16 --precise-bn 3 --steps 8 --pictures 0";
const SEGMENTATION: &str = "segmentation train --cityscapes world --checkpoint scratch/backbone.safetensors \
    --crop 32 --batch-size 2 --steps 8 --head-channels 16 --pictures 0";

impl Gpu {
    /// Runs a training on the device until it has saved two states, then to its end, and checks its log.
    fn trains_and_resumes(&self, command: &str, out: &str) {
        let command = format!(
            "{command} --device {} --save-every 2 --log-every 1 --out {out}",
            self.device
        );
        let previous = self.place.path(&format!("{out}/state.previous.safetensors"));
        let cut = self.place.signalled(&command, libc::SIGINT, || previous.exists());
        let done = self.place.ok(&command);
        let whole = cut.code == Some(0);
        assert!(
            whole || done.stderr.contains("resumed at step"),
            "{command}\n{}",
            done.stderr
        );
        let log = self.place.log(out, "step");
        for line in &log {
            assert!(
                line["loss"].as_f64().is_some_and(f64::is_finite),
                "{command}: {line}"
            );
            assert!(
                self.device == "cpu" || line["cuda_peak_bytes"].as_i64() > Some(0),
                "{command}: {line}"
            );
        }
        assert_eq!(
            log.last().map(|line| &line["step"]),
            log.last().map(|line| &line["steps"])
        );
        let config = self.place.text(&format!("{out}/config.toml"));
        assert!(self.device == "cpu" || config.contains("\ncard = \""), "{config}");
    }

    /// Losses of the first steps of the same training on the CPU and on the device: the first to a relative
    /// `bound`, the others, whose weights have moved apart, to a hundred times that.
    fn agrees_with_the_cpu(&self, command: &str, out: &str, bound: f64) {
        let losses = |device: &str| -> Vec<f64> {
            let run = format!("{out}-on-{device}").replace(':', "-");
            self.place.ok(&format!(
                "{command} --device {device} --threads 1 --log-every 1 --out {run}"
            ));
            let loss = |line: &Value| line["loss"].as_f64().unwrap();
            self.place.log(&run, "step").iter().take(4).map(loss).collect()
        };
        let (cpu, gpu) = (losses("cpu"), losses(&self.device));
        for (step, (a, b)) in cpu.iter().zip(&gpu).enumerate() {
            let (error, bound) = (
                (a - b).abs() / a.abs(),
                if step == 0 { bound } else { 100.0 * bound },
            );
            println!(
                "{out}, step {step}: {a} on the CPU, {b} on {}: {error:.1e}",
                self.device
            );
            assert!(error <= bound, "{out}, step {step}: {cpu:?} {gpu:?}");
        }
    }
}

#[test]
fn every_method_trains_resumes_and_is_probed_on_a_gpu() {
    let Some(gpu) = gpu() else { return };
    for (method, more) in METHODS {
        for precision in ["fp32", "bf16"] {
            let out = format!("{method}-{precision}");
            let command = format!("pretrain --method {method} {PRETRAIN} --precision {precision} {more}");
            gpu.trains_and_resumes(&command, &out);
            gpu.place.ok(&format!(
                "fewshot eval --checkpoint {out}/backbone.safetensors --data test.pack \
                 --precision {precision} --episodes-count 20 --device {}",
                gpu.device
            ));
        }
    }
}

#[test]
fn every_task_trains_resumes_and_is_evaluated_on_a_gpu() {
    let Some(gpu) = gpu() else { return };
    for precision in ["fp32", "bf16"] {
        for (task, command, metric) in [
            ("c4", format!("{DETECTION} --arch c4"), "detection/AP50"),
            ("fpn", format!("{DETECTION} --arch fpn"), "detection/AP50"),
            (
                "frozen",
                format!("{DETECTION} --batch-norm frozen"),
                "detection/AP50",
            ),
            ("deeplab", SEGMENTATION.to_owned(), "segmentation/mIoU"),
        ] {
            let out = format!("{task}-{precision}");
            gpu.trains_and_resumes(&format!("{command} --precision {precision}"), &out);
            assert!(gpu.place.json(&format!("{out}/metrics.json"))[metric].is_number());
        }
    }
}

// Bounds: sums of float32 products in another order, through a few dozen layers. Pretraining's augmentation
// uses the same random numbers on every device.
#[test]
fn the_first_steps_are_those_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    for (method, more) in METHODS {
        let command = format!("pretrain --method {method} {PRETRAIN} {more}");
        gpu.agrees_with_the_cpu(&command, method, 1e-4);
    }
    gpu.agrees_with_the_cpu(&format!("{DETECTION} --arch c4"), "c4", 1e-3);
    gpu.agrees_with_the_cpu(&format!("{DETECTION} --arch fpn"), "fpn", 1e-3);
    // Dropout's numbers come from the device's own generator.
    gpu.agrees_with_the_cpu(&format!("{SEGMENTATION} --dropout 0"), "deeplab", 1e-4);
}

// A trained network gives the same numbers wherever it is evaluated.
#[test]
fn evaluations_are_those_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let place = &gpu.place;
    place.ok(&format!(
        "pretrain --method supervised {PRETRAIN} --device cpu --out run"
    ));
    place.ok(&format!("{DETECTION} --device cpu --out detector"));
    place.ok(&format!("{SEGMENTATION} --device cpu --out segmenter"));
    for (name, command, metric, bound) in [
        (
            "fewshot",
            "fewshot eval --checkpoint run/backbone.safetensors --data test.pack --episodes-count 100",
            "fewshot/5way5shot/mean",
            2e-3,
        ),
        (
            "representation",
            "analyze representation --checkpoint run/backbone.safetensors --data test.pack",
            "representation/entropy",
            1e-3,
        ),
        (
            "detection",
            "detection eval --run detector --voc world/VOCdevkit --test 2007:test --pictures 0 \
             --classes clock,tree,mushroom,chair",
            "detection/AP",
            5e-3,
        ),
        (
            "segmentation",
            "segmentation eval --run segmenter --cityscapes world --pictures 0",
            "segmentation/mIoU",
            1e-3,
        ),
    ] {
        let [cpu, other] = ["cpu", &gpu.device].map(|device| {
            let out = format!("{name}-on-{device}").replace(':', "-");
            place.ok(&format!("{command} --device {device} --out {out}"));
            let metrics = place.json(&format!("{out}/metrics.json"));
            metrics[metric]
                .as_f64()
                .unwrap_or_else(|| panic!("no {metric} in {metrics}"))
        });
        println!("{metric}: {cpu} on the CPU, {other} on {}", gpu.device);
        assert!((cpu - other).abs() <= bound, "{metric}: {cpu} and {other}");
    }
}

#[test]
fn a_gpu_computes_as_it_was_asked_to_and_the_run_says_so() {
    let Some(gpu) = gpu() else { return };
    let train = format!("pretrain --method supervised {PRETRAIN} --device {}", gpu.device);
    if gpu.device != "cpu" {
        gpu.place.ok(&format!("{train} --tf32 --out tf32"));
        let config = gpu.place.text("tf32/config.toml");
        assert!(config.contains("\ntf32 = true\n"), "{config}");
    }
    // The bytes of one run are those of the next.
    for out in ["once", "twice"] {
        gpu.place.ok(&format!("{train} --deterministic --out {out}"));
    }
    let [once, twice] = ["once", "twice"].map(|out| gpu.place.bytes(&format!("{out}/backbone.safetensors")));
    assert!(once == twice, "two deterministic runs differ");
}

#[test]
fn a_step_is_profiled_on_a_gpu() {
    let Some(gpu) = gpu() else { return };
    gpu.place.ok(&format!(
        "pretrain --method supervised {PRETRAIN} --device {} --profile-step 3 --out run",
        gpu.device
    ));
    let trace = gpu.place.json("run/profile.json");
    let events = trace["traceEvents"].as_array().unwrap();
    let count = |kind: &str| events.iter().filter(|event| event["cat"] == kind).count();
    println!("{} operations, {} kernels", count("cpu_op"), count("kernel"));
    assert!(count("cpu_op") > 100);
    assert!(gpu.device == "cpu" || count("kernel") > 100);
}
