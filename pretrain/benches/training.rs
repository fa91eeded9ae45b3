//! Training speed as ratios within one run, and memory over epochs:
//!
//! 1. the whole pretraining loop (pack, augmentation, engine, logs) against bare forward + backward +
//!    optimiser on one batch;
//! 2. bfloat16 channels-last against float32 in plain layout;
//! 3. resident memory after the second epoch and after the last.
//!
//! `cargo bench -p camtrast-pretrain --bench training [-- resnet50 32]` (backbone, batch size).

use camtrast_common::arithmetic::Arithmetic;
use camtrast_common::device::Precision;
use camtrast_common::distributed::Group;
use camtrast_common::engine::StepContext;
use camtrast_common::nn::Mode;
use camtrast_common::optim::{Algorithm, Optimizer, OptimizerConfig, ParamGroup};
use camtrast_common::progress::Silent;
use camtrast_common::resnet::{Arch, ResNet};
use camtrast_common::run::{Build, RunOptions};
use camtrast_datasets::{PackDescription, PackWriter};
use camtrast_pretrain::{Method, PretrainConfig, PretrainOptions, PretrainRecipe, Setting, Subset, pretrain};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

const SIZE: usize = 84;
const CLASSES: i64 = 10;
const ROUNDS: usize = 3;
const STEPS: u64 = 6;
const SGD: OptimizerConfig = OptimizerConfig {
    algorithm: Algorithm::Sgd,
    momentum: 0.9,
    nesterov: false,
    weight_decay: 5e-4,
};

fn main() {
    // Under `cargo test` a bench is only compiled and started.
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    let own: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with("--"))
        .collect();
    let arch: Arch = own
        .first()
        .map_or("resnet50", String::as_str)
        .parse()
        .expect("an architecture");
    let batch: u64 = own.get(1).map_or(32, |b| b.parse().expect("a batch size"));
    let folder = std::env::temp_dir().join(format!("camtrast-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    println!("{arch}, batch {batch}, {} threads", tch::get_num_threads());
    whole_loop(&folder, arch, batch);
    precision(arch, batch as i64);
    memory(&folder);
    std::fs::remove_dir_all(&folder).expect("our own folder");
}

fn whole_loop(folder: &Path, arch: Arch, batch: u64) {
    let pack = noise_pack(folder, batch * STEPS * 2);
    for method in [Method::Supervised, Method::Moco, Method::CamtrastMoco] {
        for precision in [Precision::Fp32, Precision::Bf16] {
            let mut ratios = Vec::new();
            let (mut bare_rates, mut loop_rates) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                bare_rates.push(bare(method, arch, batch, precision));
                loop_rates.push(run(folder, &pack, method, arch, batch, precision));
                ratios.push(loop_rates.last().unwrap() / bare_rates.last().unwrap());
            }
            let (bare, whole, ratio) = (median(bare_rates), median(loop_rates), median(ratios));
            println!("{method} {precision}: loop {whole:.1} images/s, bare step {bare:.1}, ratio {ratio:.3}");
        }
    }
}

/// Forward, backward and optimiser on one batch that lies ready.
fn bare(method: Method, arch: Arch, batch: u64, precision: Precision) -> f64 {
    let device = Device::Cpu;
    let images = batch * STEPS;
    let setting = Setting {
        arch,
        classes: CLASSES,
        images,
        image_size: SIZE as i64,
        device,
        group: Group::ALONE,
        precision,
        seed: 0,
    };
    let options = options(batch);
    let options = options
        .clone()
        .resolve(method.defaults(&setting, &options), "")
        .expect("fitting options");
    let mut method = method.build(&setting, &options).expect("a method");
    let mut optimizer = Optimizer::new(SGD, method.groups());
    let view = || {
        camtrast_common::device::channels_last(&Tensor::randn(
            [batch as i64, 3, SIZE as i64, SIZE as i64],
            (Kind::Float, device),
        ))
    };
    let views: Vec<Tensor> = method.views().iter().map(|_| view()).collect();
    let labels = Tensor::randint(CLASSES, [batch as i64], (Kind::Int64, device));
    let mut step = |step: u64| {
        let at = StepContext {
            seed: 0,
            epoch: 0,
            step,
            batch: step,
            total_steps: STEPS,
        };
        optimizer.zero_grad();
        method
            .loss(&views, &labels, &at)
            .expect("a loss")
            .total
            .backward();
        optimizer.step(0.01, 0.01).expect("a step");
        method.after_step(&at).expect("a step");
    };
    step(0);
    let start = Instant::now();
    (0..STEPS).for_each(&mut step);
    (STEPS * batch) as f64 / start.elapsed().as_secs_f64()
}

/// The last log line's images per second of a run of two epochs.
fn run(folder: &Path, pack: &Path, method: Method, arch: Arch, batch: u64, precision: Precision) -> f64 {
    let out = folder.join("run");
    pretrain(
        &config(pack, &out, method, arch, precision, options(batch)),
        &Silent,
        &AtomicBool::new(false),
    )
    .expect("a run");
    let log = std::fs::read_to_string(out.join("log.jsonl")).expect("a log");
    let rate =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?["images_per_second"].as_f64();
    log.lines().filter_map(rate).next_back().expect("a log line")
}

fn options(batch: u64) -> PretrainOptions {
    PretrainOptions {
        epochs: Some(1),
        batch_size: Some(batch),
        ..PretrainOptions::default()
    }
}

fn config(
    pack: &Path,
    out: &Path,
    method: Method,
    arch: Arch,
    precision: Precision,
    options: PretrainOptions,
) -> PretrainConfig {
    PretrainConfig {
        recipe: PretrainRecipe {
            preset: None,
            precise_bn: None,
            method,
            data: pack.to_owned(),
            seed: 0,
            precision,
            arithmetic: Arithmetic::default(),
            arch,
            subset: Subset::default(),
            accumulate: 1,
            clip_norm: None,
            init: None,
            options,
        },
        run: RunOptions {
            out: out.to_owned(),
            overwrite: true,
            device: Device::Cpu,
            group: Group::ALONE,
            log_every: STEPS,
            save_every: None,
            profile_step: None,
            build: Build {
                version: "bench".into(),
                commit: "bench".into(),
            },
        },
        probe_every: None,
        keep_epochs: vec![],
        extend: false,
    }
}

fn precision(arch: Arch, batch: i64) {
    const SIDE: i64 = 64;
    let mut vs = [VarStore::new(Device::Cpu), VarStore::new(Device::Cpu)];
    let nets = [0, 1].map(|i| ResNet::new(&vs[i].root(), arch));
    camtrast_common::nn::weights_channels_last(&vs[1]);
    let plain = Tensor::randn([batch, 3, SIDE, SIDE], (Kind::Float, Device::Cpu));
    let inputs = [
        plain.shallow_clone(),
        camtrast_common::device::channels_last(&plain),
    ];
    let mut optimizers = vs
        .each_mut()
        .map(|vs| Optimizer::new(SGD, vec![ParamGroup::all(vs)]));
    let mut rate = |i: usize, precision: Precision| {
        let mut step = || {
            optimizers[i].zero_grad();
            let features = precision
                .run(Device::Cpu, || Ok(nets[i].features(&inputs[i], Mode::TRAIN)))
                .expect("features");
            features
                .to_kind(Kind::Float)
                .square()
                .mean(Kind::Float)
                .backward();
            optimizers[i].step(0.01, 0.01).expect("a step");
        };
        step();
        let start = Instant::now();
        (0..STEPS).for_each(|_| step());
        (batch as u64 * STEPS) as f64 / start.elapsed().as_secs_f64()
    };
    let (mut plain, mut fast, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        plain.push(rate(0, Precision::Fp32));
        fast.push(rate(1, Precision::Bf16));
        ratios.push(fast.last().unwrap() / plain.last().unwrap());
    }
    let (plain, fast, ratio) = (median(plain), median(fast), median(ratios));
    println!(
        "{arch} at {SIDE} pixels: bf16 channels-last {fast:.1} images/s, fp32 plain {plain:.1}, ratio \
         {ratio:.2}"
    );
}

fn memory(folder: &Path) {
    let (pack, arch): (PathBuf, Arch) = (
        noise_pack(folder, 1024),
        "resnet18-w16".parse().expect("an architecture"),
    );
    let resident_after = |epochs: u64| {
        let options = PretrainOptions {
            epochs: Some(epochs),
            batch_size: Some(64),
            ..PretrainOptions::default()
        };
        let config = config(
            &pack,
            &folder.join("run"),
            Method::CamtrastMoco,
            arch,
            Precision::Fp32,
            options,
        );
        pretrain(&config, &Silent, &AtomicBool::new(false)).expect("a run");
        let status = std::fs::read_to_string("/proc/self/statm").expect("Linux");
        let pages: f64 = status
            .split(' ')
            .nth(1)
            .and_then(|p| p.parse().ok())
            .expect("a number of pages");
        pages * 4096.0 / 1e6
    };
    let (early, late) = (resident_after(2), resident_after(12));
    println!(
        "resident memory: {early:.0} MB after 2 epochs, {late:.0} MB after 14, ratio {:.3}",
        late / early
    );
}

fn noise_pack(folder: &Path, images: u64) -> PathBuf {
    let path = folder.join(format!("noise{images}.safetensors"));
    let description = PackDescription {
        height: SIZE,
        width: SIZE,
        class_names: (0..CLASSES).map(|c| format!("class{c}")).collect(),
        category_names: None,
        more: Default::default(),
    };
    let mut writer = PackWriter::create(&path, description, images as usize).expect("a pack");
    let mut state = 1u64;
    for _ in 0..images {
        let pixels: Vec<u8> = (0..SIZE * SIZE * 3)
            .map(|_| {
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                (state >> 56) as u8
            })
            .collect();
        writer.push(&pixels).expect("disk space");
    }
    let labels: Vec<i64> = (0..images as i64).map(|i| i % CLASSES).collect();
    writer.finish(&labels, None).expect("disk space");
    path
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
