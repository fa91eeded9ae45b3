//! How many operations of libtorch a training step of a detector takes, and after how many of them the host
//! of a GPU waits, whatever the number of images: it reads the anchors' labels, the overlaps of the proposals
//! and the regions to sample from, once each.
//!
//! `cargo test -p camtrast-detection --test operations -- --nocapture` prints the numbers;
//! `benches/peers/operations.py` prints those of torchvision's detectors.

use camtrast_common::arithmetic::Arithmetic;
use camtrast_common::device::Precision;
use camtrast_common::native::Operations;
use camtrast_common::progress::Silent;
use camtrast_common::settings::{BatchNormMode, Numbers, Switch};
use camtrast_common::testing::{operations_of, quiet_run, save_untrained};
use camtrast_detection::model::DetectorArch;
use camtrast_detection::{
    Annotated, Dataset, DetectionOptions, DetectionSettings, DetectionTask, Object, Preset,
};
use camtrast_finetune::{Start, Tune, Validation, train};
use camtrast_images::picture::Canvas;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use tempfile::TempDir;

/// Names the data in a run's settings: nothing to name.
#[derive(serde::Serialize)]
struct Drawn {}

// Eight images with two objects each.
fn dataset(folder: &Path) -> Dataset {
    let (width, height) = (160, 128);
    let object = |class, bbox| Object {
        class,
        bbox,
        difficult: false,
        area: None,
    };
    let image = |i: usize| {
        let path = folder.join(format!("{i}.png"));
        let mut canvas = Canvas::new(width, height).unwrap();
        canvas.fill([10 + i as i32, 20, 90, 100], [200, 30, 60]).unwrap();
        canvas.write(&path).unwrap();
        Annotated {
            id: i.to_string(),
            image: path,
            width,
            height,
            objects: vec![
                object(0, [10.0 + i as f64, 20.0, 90.0, 100.0]),
                object(1, [60.0, 10.0, 150.0, 70.0]),
            ],
        }
    };
    Dataset {
        classes: vec!["a".into(), "b".into()],
        category_ids: vec![1, 2],
        images: (0..8).map(image).collect(),
        ..Dataset::default()
    }
}

/// What a step is made of.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    arch: DetectorArch,
    images: u64,
    /// Images that are padded to one size: half of them are another group.
    per_group: u64,
    batch_norm: BatchNormMode,
    /// Most operations of a step.
    most: i64,
}

/// Times that the host of a GPU waits in a step. `benches/peers/operations.py` counts 6,225 operations and 41
/// waits for torchvision's C4 detector on 2 images, 7,782 and 88 on 4; 8,612 and 67, 10,767 and 127 for its
/// FPN. Ours does with each group of images what theirs does with the batch.
const WAITS: i64 = 3;

const CASES: [Case; 5] = [
    Case {
        name: "c4, 2 images",
        arch: DetectorArch::C4,
        images: 2,
        per_group: 0,
        batch_norm: BatchNormMode::Train,
        most: 4_610,
    },
    Case {
        name: "c4, 2 images, frozen batch norm",
        arch: DetectorArch::C4,
        images: 2,
        per_group: 0,
        batch_norm: BatchNormMode::Frozen,
        most: 3_860,
    },
    Case {
        name: "c4, 4 images in 2 groups",
        arch: DetectorArch::C4,
        images: 4,
        per_group: 2,
        batch_norm: BatchNormMode::Train,
        most: 11_200,
    },
    Case {
        name: "fpn, 2 images",
        arch: DetectorArch::Fpn,
        images: 2,
        per_group: 0,
        batch_norm: BatchNormMode::Train,
        most: 7_150,
    },
    Case {
        name: "fpn, 4 images in 2 groups",
        arch: DetectorArch::Fpn,
        images: 4,
        per_group: 2,
        batch_norm: BatchNormMode::Train,
        most: 14_750,
    },
];

// Of a whole training of so many steps, without what is done once for each line of the log.
fn operations(folder: &Path, case: Case, steps: u64) -> Operations {
    let options = DetectionOptions {
        steps: Some(steps),
        batch_size: Some(case.images),
        images_per_group: Some(case.per_group),
        group_by_aspect: Some(Switch::Off),
        batch_norm: Some(case.batch_norm),
        precise_bn: Some(0),
        train_sides: Some(Numbers(vec![128.0])),
        test_side: Some(128),
        anchor_sizes: Some(Numbers(vec![16.0, 32.0, 64.0, 96.0, 128.0])),
        regions_per_image: Some(32),
        train_proposals: Some(Numbers(vec![400.0, 100.0])),
        fpn_channels: Some(16),
        head_features: Some(32),
        ..DetectionOptions::default()
    };
    let settings = DetectionSettings {
        arch: case.arch,
        preset: Preset::Moco,
        data: Drawn {},
        options,
    };
    let task = DetectionTask::new(settings, dataset(folder), None, 0).unwrap();
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
fn a_step_has_few_operations_and_three_waits() {
    tch::set_num_threads(1);
    let folder = TempDir::new().unwrap();
    save_untrained(&folder.path().join("backbone.safetensors"), "resnet50-w8");
    let mut failures = Vec::new();
    for case in CASES {
        let (short, long) = (
            operations(folder.path(), case, 4),
            operations(folder.path(), case, 8),
        );
        let (all, waits) = ((long.all - short.all) / 4, (long.waits - short.waits) / 4);
        let line = format!("{}: {all} operations a step, {waits} waits", case.name);
        println!("{line}");
        if all > case.most || waits != WAITS || long.waits - short.waits != 4 * WAITS {
            failures.push(format!("{line}; at most {} operations, {WAITS} waits", case.most));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
