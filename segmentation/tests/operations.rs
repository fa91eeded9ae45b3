//! How many operations of libtorch a training step of DeepLab v3+ takes, and that the host of a GPU waits for
//! none of them.
//!
//! `cargo test -p camtrast-segmentation --test operations -- --nocapture` prints the numbers;
//! `benches/peers/operations.py` prints those of torchvision's DeepLab v3.

use camtrast_common::arithmetic::Arithmetic;
use camtrast_common::device::Precision;
use camtrast_common::native::Operations;
use camtrast_common::progress::Silent;
use camtrast_common::settings::{BatchNormMode, Numbers};
use camtrast_common::testing::{operations_of, quiet_run, save_untrained};
use camtrast_finetune::{Start, Tune, Validation, train};
use camtrast_images::picture::Canvas;
use camtrast_segmentation::label_image::LabelImage;
use camtrast_segmentation::options::EvaluationOptions;
use camtrast_segmentation::{Preset, SegmentationOptions, SegmentationSettings, SegmentationTask, TrainData};
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use tempfile::TempDir;

// Four images of two classes, with their labels.
fn data(folder: &Path) -> TrainData {
    let (width, height) = (96, 64);
    for kind in ["images", "labels"] {
        fs::create_dir_all(folder.join(kind)).unwrap();
    }
    for i in 0..4 {
        let mut canvas = Canvas::new(width, height).unwrap();
        canvas.fill([0, 0, 40 + i, 64], [200, 30, 60]).unwrap();
        canvas.write(&folder.join(format!("images/{i}.png"))).unwrap();
        let is_left = |place: usize| u8::from(place % width < 40 + i as usize);
        let labels = LabelImage {
            height,
            width,
            pixels: (0..width * height).map(is_left).collect(),
        };
        labels.write(&folder.join(format!("labels/{i}.png"))).unwrap();
    }
    fs::write(folder.join("names"), "right\nleft\n").unwrap();
    TrainData {
        cityscapes: None,
        train_split: "train".into(),
        val_split: "val".into(),
        holdout: None,
        images: Some(folder.join("images")),
        labels: Some(folder.join("labels")),
        val_images: None,
        val_labels: None,
        dev_split: None,
        dev_images: None,
        dev_labels: None,
        class_names: Some(folder.join("names")),
        ignore: Numbers(vec![255.0]),
    }
}

/// A preset, batch norm, and the most operations of a step.
const CASES: [(Preset, BatchNormMode, i64); 3] = [
    (Preset::Paper, BatchNormMode::Train, 3_400),
    (Preset::Paper, BatchNormMode::Frozen, 2_660),
    (Preset::Mmseg, BatchNormMode::Train, 4_010),
];

// Of a whole training of so many steps, without the reads for lines of the log.
fn operations(folder: &Path, preset: Preset, batch_norm: BatchNormMode, steps: u64) -> Operations {
    let settings = SegmentationSettings {
        preset,
        data: data(folder),
        options: SegmentationOptions {
            steps: Some(steps),
            batch_size: Some(2),
            batch_norm: Some(batch_norm),
            crop: Some("64x96".parse().unwrap()),
            head_channels: Some(16),
            ..SegmentationOptions::default()
        },
        evaluation: EvaluationOptions {
            pictures: 0,
            ..EvaluationOptions::default()
        },
    };
    let task = SegmentationTask::new(settings).unwrap();
    let start = Start {
        checkpoint: folder.join("backbone.safetensors"),
        seed: 0,
        precision: Precision::Fp32,
        arithmetic: Arithmetic::default(),
        tune: Tune::All,
        validation: Validation::default(),
    };
    let run = quiet_run(folder.join("run"));
    operations_of(&run.out, || {
        train(&task, &start, &run, &Silent, &AtomicBool::new(false)).unwrap();
    })
}

#[test]
fn a_step_has_few_operations_and_waits_for_none() {
    tch::set_num_threads(1);
    let folder = TempDir::new().unwrap();
    save_untrained(&folder.path().join("backbone.safetensors"), "resnet50-w8");
    let mut failures = Vec::new();
    for (preset, batch_norm, most) in CASES {
        let count = |steps| operations(folder.path(), preset, batch_norm, steps);
        let (short, long) = (count(4), count(8));
        let (all, waits) = ((long.all - short.all) / 4, long.waits - short.waits);
        let line =
            format!("{preset:?}, batch norm {batch_norm:?}: {all} operations a step, {waits} waits in 4");
        println!("{line}");
        if all > most || waits != 0 {
            failures.push(format!("{line}; at most {most} operations and no wait"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
