//! One training step of the C4 detector under `--preset moco`, on two small images: forward, backward,
//! optimiser. Prints `step seconds`, of processor time, so that other work on the machine counts for little;
//! `benches/peers/detection_step.py` runs it in turns with detectron2's modules. Then `operations` of a step
//! and its `waits`, as `cargo test --test operations` counts them.
//!
//! `OMP_NUM_THREADS`: threads. `CAMTRAST_BENCH_WIDTH`: channels after the stem (32).

use camtrast_common::device::Precision;
use camtrast_common::engine::StepContext;
use camtrast_common::native::count_operations;
use camtrast_common::nn::{Modes, weights_channels_last};
use camtrast_common::optim::{Algorithm, Optimizer, OptimizerConfig, ParamGroup};
use camtrast_common::resnet::{Arch, Stem};
use camtrast_common::testing::unit;
use camtrast_detection::model::heads::Truth;
use camtrast_detection::model::{DetectorArch, FasterRcnn, Images};
use camtrast_detection::{DetectionOptions, Preset};
use tch::nn::VarStore;
use tch::{Device, Tensor};

const ROUNDS: u64 = 5;

fn main() {
    if let Some(threads) = std::env::var("OMP_NUM_THREADS").ok().and_then(|n| n.parse().ok()) {
        tch::set_num_threads(threads);
    }
    tch::manual_seed(0);
    let width = std::env::var("CAMTRAST_BENCH_WIDTH")
        .ok()
        .and_then(|w| w.parse().ok())
        .unwrap_or(32);
    let options = DetectionOptions {
        regions_per_image: Some(32),
        ..DetectionOptions::default()
    };
    let options = options
        .resolve(Preset::Moco, DetectorArch::C4)
        .expect("settings that work");
    let arch = Arch {
        depth: 50,
        width,
        stem: Stem::Standard,
    };
    let model = options
        .model(DetectorArch::C4, arch, 20)
        .expect("settings that work");
    let vs = VarStore::new(Device::Cpu);
    let net = FasterRcnn::new(&vs.root(), &model);
    weights_channels_last(&vs);
    let config = OptimizerConfig {
        algorithm: Algorithm::Sgd,
        momentum: 0.9,
        nesterov: false,
        weight_decay: 1e-4,
    };
    let mut optimizer = Optimizer::new(config, vec![ParamGroup::matching(&vs, |_| true)]);

    let sizes = vec![(192, 256), (180, 240)];
    let pixels = camtrast_common::device::channels_last(&unit("image", &[2, 3, 192, 256])) - 0.5;
    let _ = pixels.get(1).narrow(1, 180, 12).zero_();
    let _ = pixels.get(1).narrow(2, 240, 16).zero_();
    let images = [Images { pixels, sizes }];
    let truth = || Truth {
        boxes: Tensor::from_slice(&[20f32, 30.0, 120.0, 160.0, 100.0, 20.0, 220.0, 90.0]).view([2, 4]),
        labels: Tensor::from_slice(&[1i64, 7]),
    };
    let truth = [truth(), truth()];
    let (mut seconds, mut operations) = (Vec::new(), None);
    for step in 0..=ROUNDS {
        let at = StepContext {
            seed: 0,
            epoch: 0,
            step,
            batch: step,
            total_steps: ROUNDS,
        };
        let mut train = || {
            optimizer.zero_grad();
            let losses = net
                .losses(&images, &truth, &at, Precision::Fp32, Modes::TRAIN)
                .expect("the CPU");
            (losses.objectness + losses.proposal_boxes + losses.classes + losses.boxes).backward();
            optimizer.step(1e-4, 1e-4).expect("an optimiser that fits");
        };
        let before = processor_seconds();
        match step {
            0 => operations = Some(count_operations(train).expect("libtorch counts").1),
            _ => train(),
        }
        seconds.push(processor_seconds() - before);
    }
    // The first step prepares kernels.
    seconds.remove(0);
    seconds.sort_by(f64::total_cmp);
    println!("step {:.3}", seconds[seconds.len() / 2]);
    let operations = operations.expect("the first step is counted");
    println!("operations {}\nwaits {}", operations.all, operations.waits);
}

/// Time that the process has computed, user's and system's, of all threads, to 10 ms.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |place: usize| {
        fields
            .get(place)
            .and_then(|ticks| ticks.parse::<f64>().ok())
            .unwrap_or_default()
    };
    (ticks(11) + ticks(12)) / 100.0
}
