//! How many operations of libtorch a training step takes, and that the host of a GPU waits for none of them.
//!
//! `cargo test -p camtrast-pretrain --test operations -- --nocapture` prints the numbers;
//! `benches/peers/operations.py` prints those of the same steps in PyTorch.

use camtrast_common::arithmetic::Arithmetic;
use camtrast_common::device::Precision;
use camtrast_common::native::{Operations, count_operations};
use camtrast_common::progress::Silent;
use camtrast_common::testing::quiet_run;
use camtrast_datasets::{PackDescription, PackWriter};
use camtrast_pretrain::{Method, PretrainConfig, PretrainOptions, PretrainRecipe, Subset, pretrain};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use tempfile::TempDir;

const SIDE: usize = 16;
const IMAGES: usize = 32;
const BATCH: u64 = 8;
const STEPS_OF_EPOCH: i64 = IMAGES as i64 / BATCH as i64;

fn pack(path: &Path) {
    let description = PackDescription {
        height: SIDE,
        width: SIDE,
        class_names: vec!["a".into(), "b".into()],
        category_names: None,
        more: Default::default(),
    };
    let mut writer = PackWriter::create(path, description, IMAGES).unwrap();
    for image in 0..IMAGES {
        let pixels: Vec<u8> = (0..SIDE * SIDE * 3)
            .map(|i| (i * (image + 3) % 256) as u8)
            .collect();
        writer.push(&pixels).unwrap();
    }
    let labels: Vec<i64> = (0..IMAGES as i64).map(|image| image % 2).collect();
    writer.finish(&labels, None).unwrap();
}

// Of a whole run of so many epochs.
fn operations(folder: &Path, method: Method, splits: Option<i64>, epochs: u64) -> Operations {
    let config = PretrainConfig {
        recipe: PretrainRecipe {
            preset: None,
            precise_bn: None,
            method,
            data: folder.join("pack.safetensors"),
            seed: 0,
            precision: Precision::Fp32,
            arithmetic: Arithmetic::default(),
            arch: "resnet18-w8-small".parse().unwrap(),
            subset: Subset::default(),
            accumulate: 1,
            clip_norm: None,
            init: None,
            options: PretrainOptions {
                epochs: Some(epochs),
                batch_size: Some(BATCH),
                queue_size: [Method::Moco, Method::Exemplar, Method::CamtrastMoco]
                    .contains(&method)
                    .then_some(64),
                bn_splits: splits,
                ..PretrainOptions::default()
            },
        },
        run: quiet_run(folder.join(format!("{method}-{epochs}"))),
        probe_every: None,
        keep_epochs: vec![],
        extend: false,
    };
    let run = || pretrain(&config, &Silent, &AtomicBool::new(false)).unwrap();
    count_operations(run).unwrap().1
}

/// Most operations that a step may take, augmentation included. `splits`: parts of batch norm where a method
/// has them. `benches/peers/operations.py` counts 1437, 2933 and 3041 for supervised, MoCo and SimSiam,
/// without augmentation and split batch norm. Counted with AVX2, where batch norm is one operation with what
/// follows it.
const BOUNDS: [(Method, Option<i64>, i64); 8] = [
    (Method::Supervised, None, 1_390),
    (Method::Moco, Some(1), 3_410),
    (Method::Moco, Some(8), 3_410),
    (Method::Simsiam, None, 3_480),
    (Method::Byol, None, 4_700),
    (Method::Exemplar, Some(1), 3_430),
    (Method::CamtrastMoco, Some(1), 3_900),
    (Method::CamtrastSimsiam, None, 3_210),
];

#[test]
fn a_step_has_few_operations_and_waits_for_none() {
    tch::set_num_threads(1);
    let folder = TempDir::new().unwrap();
    pack(&folder.path().join("pack.safetensors"));
    let mut failures = Vec::new();
    for (method, splits, most) in BOUNDS {
        // The third and fourth epoch: what happens once, at the start and the end, is in both.
        let count = |epochs| operations(folder.path(), method, splits, epochs);
        let (short, long) = (count(2), count(4));
        let all = (long.all - short.all) / (2 * STEPS_OF_EPOCH);
        // An epoch ends with one line in the log.
        let waits = long.waits - short.waits - 2;
        let parts = splits
            .map(|n| format!(", batch norm in {n} parts"))
            .unwrap_or_default();
        let line = format!("{method}{parts}: {all} operations a step, {waits} waits");
        println!("{line}");
        if all > most || waits != 0 {
            failures.push(format!("{line}; at most {most} operations and no wait"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
