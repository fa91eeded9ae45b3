//! One training step of `--preset mmseg` on a ResNet-50 v1c, 19 classes: forward, losses, backward, SGD.
//!
//! Prints `fp32 SECONDS` and `bf16 SECONDS`, medians of processor time, which other work on the machine
//! disturbs least, and the operations of a step, `PRECISION-operations N`. `CAMTRAST_BENCH_CROP=96x192` sets
//! the crops; `CAMTRAST_BENCH_STEPS=3` the steps that count; `CAMTRAST_BENCH_PRECISIONS=fp32` leaves out
//! bf16, which takes minutes on a processor without it. `benches/peers/segmentation_step.py` takes turns
//! with mmsegmentation.

use camtrast_common::device::{Precision, channels_last};
use camtrast_common::native::count_operations;
use camtrast_common::nn::{Modes, weights_channels_last};
use camtrast_common::optim::{Algorithm, Optimizer, OptimizerConfig, ParamGroup};
use camtrast_common::settings::set;
use camtrast_segmentation::deeplab::{DeepLab, cross_entropy};
use camtrast_segmentation::{Preset, SegmentationOptions};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

const BATCH: i64 = 2;

fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.into())
}

fn processor_seconds() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: it fills the structure that it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn main() {
    tch::set_num_threads(setting("OMP_NUM_THREADS", "1").parse().expect("a number"));
    let crop = setting("CAMTRAST_BENCH_CROP", "128x256");
    let (height, width) = crop.split_once('x').expect("HEIGHTxWIDTH");
    let (height, width): (i64, i64) = (
        height.parse().expect("a number"),
        width.parse().expect("a number"),
    );
    let steps: usize = setting("CAMTRAST_BENCH_STEPS", "3").parse().expect("a number");

    let options = SegmentationOptions::default()
        .resolve(Preset::Mmseg)
        .expect("a whole preset");
    let model = options
        .model("resnet50-v1c".parse().expect("a known architecture"), 19)
        .expect("a network");
    let vs = VarStore::new(Device::Cpu);
    let net = DeepLab::new(&vs.root(), &model);
    weights_channels_last(&vs);
    let config = OptimizerConfig {
        algorithm: Algorithm::Sgd,
        momentum: set(&options.momentum),
        nesterov: false,
        weight_decay: set(&options.weight_decay),
    };
    let mut optimizer = Optimizer::new(config, vec![ParamGroup::all(&vs)]);
    let images = channels_last(&Tensor::randn(
        [BATCH, 3, height, width],
        (Kind::Float, Device::Cpu),
    ));
    let labels = Tensor::randint(19, [BATCH, height, width], (Kind::Int64, Device::Cpu));
    let average = set(&options.loss_average);

    let precisions = setting("CAMTRAST_BENCH_PRECISIONS", "fp32,bf16");
    for precision in [Precision::Fp32, Precision::Bf16] {
        if !precisions.split(',').any(|name| name == precision.to_string()) {
            continue;
        }
        let mut step = || {
            let logits = precision
                .run(Device::Cpu, || Ok(net.forward(&images, Modes::TRAIN)))
                .expect("logits");
            let auxiliary = cross_entropy(&logits.auxiliary.expect("an auxiliary head"), &labels, average);
            let loss =
                cross_entropy(&logits.main, &labels, average) + auxiliary * set(&options.auxiliary_weight);
            optimizer.zero_grad();
            loss.backward();
            optimizer.step(1e-4, 1e-4).expect("a step");
            loss
        };
        // The first step prepares kernels.
        let (_, operations) = count_operations(&mut step).expect("libtorch counts");
        let mut seconds: Vec<f64> = (0..steps)
            .map(|_| {
                let begun = processor_seconds();
                assert!(step().double_value(&[]).is_finite());
                processor_seconds() - begun
            })
            .collect();
        seconds.sort_by(f64::total_cmp);
        println!("{precision} {}", seconds[seconds.len() / 2]);
        println!("{precision}-operations {}", operations.all);
    }
}
