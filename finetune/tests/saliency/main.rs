//! A dense task that exists only here goes through everything that the real ones go through.

mod task;

use camtrast_common::arithmetic::Arithmetic;
use camtrast_common::checkpoint::load_backbone;
use camtrast_common::device::Precision;
use camtrast_common::network_file;
use camtrast_common::progress::{Progress, Silent};
use camtrast_common::run::RunOptions;
use camtrast_common::testing::{quiet_run, save_untrained};
use camtrast_finetune::{DenseTask, Start, TrainReport, Tune, Validation, train};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use task::{SaliencySettings, SaliencyTask};
use tch::{Device, Tensor};
use tempfile::TempDir;

const STEPS: u64 = 40;

fn backbone(folder: &Path) {
    tch::set_num_threads(1); // the tests run side by side
    tch::manual_seed(0);
    save_untrained(&folder.join("backbone.safetensors"), "resnet18-w8-small");
}

fn run(
    folder: &Path,
    out: &str,
    precise_bn: u64,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> camtrast_common::Result<TrainReport<f64>> {
    let task = SaliencyTask {
        settings: SaliencySettings {
            steps: STEPS,
            batch_size: 8,
            lr: 0.05,
            precise_bn,
        },
    };
    train(
        &task,
        &start(folder, Tune::All),
        &options(folder, out),
        progress,
        stop,
    )
}

fn start(folder: &Path, tune: Tune) -> Start {
    Start {
        checkpoint: folder.join("backbone.safetensors"),
        seed: 3,
        precision: Precision::Fp32,
        arithmetic: Arithmetic::default(),
        tune,
        validation: Validation::default(),
    }
}

fn options(folder: &Path, out: &str) -> RunOptions {
    RunOptions {
        overwrite: false,
        log_every: 10,
        save_every: Some(7),
        ..quiet_run(folder.join(out))
    }
}

fn whole(folder: &Path, out: &str, precise_bn: u64) -> TrainReport<f64> {
    run(folder, out, precise_bn, &Silent, &AtomicBool::new(false)).unwrap()
}

/// Asks training to stop after so many steps.
struct StopAfter<'a>(AtomicU64, &'a AtomicBool);

impl Progress for StopAfter<'_> {
    fn start(&self, _: &str, _: u64, _: u64) {}
    fn advance(&self, _: u64, _: &str) {
        if self.0.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.1.store(true, Ordering::Relaxed);
        }
    }
    fn finish(&self) {}
    fn note(&self, _: &str) {}
}

fn metrics(folder: &Path, out: &str) -> serde_json::Value {
    let text = fs::read(folder.join(out).join("metrics.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn it_learns_and_records_what_the_real_tasks_record() {
    let place = TempDir::new().unwrap();
    backbone(place.path());
    let report = whole(place.path(), "run", 0);
    let iou = report.evaluation.unwrap();
    assert!(iou > 0.6, "IoU {iou}");
    let metrics = metrics(place.path(), "run");
    assert_eq!(metrics["saliency/IoU"], iou);
    assert_eq!(metrics["saliency/steps"], STEPS as f64);
    assert_eq!(metrics["method"], "scratch");
    let config = fs::read_to_string(place.path().join("run/config.toml")).unwrap();
    let settings = "seed = 3\nprecision = \"fp32\"\ntune = \"all\"\nsteps = 40\nbatch-size = 8\n";
    assert!(
        config.contains(settings) && config.contains("[dataset]\nbackbone_sha256"),
        "{config}"
    );
    // Started again, it is done, and its measurements stay.
    let again = whole(place.path(), "run", 0);
    assert!(again.outcome.was_done && again.evaluation.is_none());
}

#[test]
fn an_interrupted_run_continues_to_the_same_bytes() {
    for precise_bn in [0, 3] {
        let place = TempDir::new().unwrap();
        backbone(place.path());
        whole(place.path(), "whole", precise_bn);
        let stop = AtomicBool::new(false);
        let progress = StopAfter(AtomicU64::new(23), &stop);
        let report = run(place.path(), "parts", precise_bn, &progress, &stop).unwrap();
        assert!(report.outcome.interrupted && report.outcome.step < STEPS);
        whole(place.path(), "parts", precise_bn);
        let network = |out: &str| fs::read(place.path().join(out).join(SaliencyTask::FILE)).unwrap();
        assert!(
            network("whole") == network("parts"),
            "precise_bn {precise_bn}: other bytes"
        );
        let iou = |out| metrics(place.path(), out)["saliency/IoU"].as_f64().unwrap();
        assert_eq!(iou("whole"), iou("parts"));
    }
}

#[test]
fn what_tune_holds_stays_as_it_is_in_the_checkpoint() {
    let place = TempDir::new().unwrap();
    backbone(place.path());
    let before = load_backbone(&place.path().join("backbone.safetensors"), Device::Cpu).unwrap();
    let before = before.vs.variables();
    let task = SaliencyTask {
        settings: SaliencySettings {
            steps: 4,
            batch_size: 8,
            lr: 0.05,
            precise_bn: 2,
        },
    };
    let moved = |out: &str, tune| {
        let (stop, options) = (AtomicBool::new(false), options(place.path(), out));
        train(&task, &start(place.path(), tune), &options, &Silent, &stop).unwrap();
        let file = place.path().join(out).join(SaliencyTask::FILE);
        let after = network_file::load::<serde_json::Value>(&file, "camtrast-saliency", "").unwrap();
        let head = after.tensors["classifier.weight"].abs().max().double_value(&[]);
        assert!(head > 0.0, "{out}: the head learns");
        let moved = |name: &&String| before[*name] != after.tensors[&format!("backbone.{name}")];
        let mut moved: Vec<String> = before.keys().filter(moved).cloned().collect();
        moved.sort();
        moved
    };
    assert_eq!(moved("frozen", Tune::Frozen), [""; 0]);
    let norm = moved("norm", Tune::Norm);
    assert!(norm.contains(&"bn1.weight".into()) && norm.contains(&"bn1.running_mean".into()));
    assert!(norm.iter().all(|name| before[name].dim() <= 1), "{norm:?}");
    let last = moved("last", Tune::LastStage);
    assert!(last.contains(&"layer4.0.conv1.weight".into()));
    let trained = |name: &String| name.starts_with("layer4.") && !name.contains("running");
    assert!(last.iter().all(trained), "{last:?}");
    assert!(moved("all", Tune::All).contains(&"conv1.weight".into()));
}

#[test]
fn batch_norm_is_estimated_again_when_the_task_asks_for_it() {
    let place = TempDir::new().unwrap();
    backbone(place.path());
    whole(place.path(), "moving", 0);
    whole(place.path(), "precise", 5);
    let file = |out: &str| place.path().join(out).join(SaliencyTask::FILE);
    let stage = network_file::stage(&file("precise")).unwrap();
    assert_eq!((stage.step, stage.precise_bn), (STEPS, 5));
    let load = |out: &str| {
        let format = "camtrast-saliency";
        network_file::load::<serde_json::Value>(&file(out), format, "")
            .unwrap()
            .tensors
    };
    let (moving, precise) = (load("moving"), load("precise"));
    let differs = |name: &str| {
        let difference: Tensor = (&moving[name] - &precise[name]).abs().max();
        difference.double_value(&[]) > 1e-6
    };
    assert!(differs("backbone.bn1.running_mean"));
    assert!(!differs("backbone.conv1.weight"));
}

#[test]
fn other_settings_in_the_same_folder_are_refused() {
    let place = TempDir::new().unwrap();
    backbone(place.path());
    whole(place.path(), "run", 0);
    let error = run(place.path(), "run", 2, &Silent, &AtomicBool::new(false)).unwrap_err();
    assert!(error.to_string().contains("precise-bn"), "{error}");
    let loaded = load_backbone(&place.path().join("backbone.safetensors"), Device::Cpu).unwrap();
    assert_eq!(loaded.info.method, "scratch");
}
