//! Shared helpers of the tests of several crates: golden cases, their filler and their probes. See
//! `tests/golden/_fill.py`.

use crate::augment::{IMAGENET_MEAN, IMAGENET_STD};
use crate::checkpoint::{BackboneInfo, save_backbone};
use crate::distributed::Group;
use crate::native::{Operations, count_operations};
use crate::resnet::ResNet;
use crate::run::{Build, RunOptions};
use crate::tensor_file::TensorFile;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};

/// A file under `tests/golden`.
pub fn golden_path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden")).join(name)
}

/// One golden case: what a reference implementation computed.
pub struct Case(TensorFile);

impl Case {
    /// `tests/golden/<name>/case.safetensors`.
    pub fn open(name: &str) -> Self {
        Case(TensorFile::open(&golden_path(name).join("case.safetensors")).unwrap())
    }

    /// A stored tensor.
    pub fn tensor(&self, name: &str) -> Tensor {
        self.0.any_tensor(name).unwrap()
    }

    /// A metadata entry.
    pub fn json(&self, key: &str) -> Value {
        serde_json::from_str(&self.0.metadata()[key]).unwrap()
    }
}

/// The strings of a JSON array.
pub fn strings(value: &Value) -> Vec<String> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_str().unwrap().to_owned())
        .collect()
}

/// The numbers of a JSON array.
pub fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap())
        .collect()
}

fn fnv1a64(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, byte| {
        (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// `u` of the filler: `count` numbers in [0, 1).
pub fn uniform(name: &str, count: usize) -> impl Iterator<Item = f64> {
    let start = fnv1a64(name);
    (0..count as u64).map(move |i| {
        let mut x = start.wrapping_add(i).wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 40) as f64 / (1u64 << 24) as f64
    })
}

fn filled(name: &str, shape: &[i64], value: impl Fn(f64) -> f64) -> Tensor {
    let count = shape.iter().product::<i64>() as usize;
    let values: Vec<f32> = uniform(name, count).map(|u| value(u) as f32).collect();
    Tensor::from_slice(&values).reshape(shape)
}

/// The "unit" filler `u`, f32.
pub fn unit(name: &str, shape: &[i64]) -> Tensor {
    filled(name, shape, |u| u)
}

/// The "sign" filler `2u - 1`, f32.
pub fn sign(name: &str, shape: &[i64]) -> Tensor {
    filled(name, shape, |u| 2.0 * u - 1.0)
}

/// What a parameter, buffer or input of this name and shape holds.
pub fn fill(name: &str, shape: &[i64]) -> Tensor {
    let fan_in = shape.iter().skip(1).product::<i64>() as f64;
    match (name.rsplit_once('.').map_or("", |(_, kind)| kind), shape.len()) {
        ("num_batches_tracked", _) => Tensor::zeros(shape, (Kind::Int64, Device::Cpu)),
        ("bias" | "running_mean", _) => filled(name, shape, |u| (u - 0.5) * 0.2),
        ("running_var", _) | ("weight", 1) => filled(name, shape, |u| 0.5 + u),
        ("weight", dimensions) => {
            let bound = (if dimensions == 4 { 6.0 } else { 1.0 } / fan_in).sqrt();
            filled(name, shape, |u| (2.0 * u - 1.0) * bound)
        }
        _ => filled(name, shape, |u| 4.0 * u - 2.0),
    }
}

/// Overwrites every variable of a store with the filler of its name.
pub fn fill_variables(vs: &VarStore) {
    for (name, mut variable) in vs.variables() {
        no_grad(|| variable.copy_(&fill(&name, &variable.size())));
    }
}

/// The nine numbers that stand for a big tensor, f64 `[9]`.
pub fn probe(name: &str, tensor: &Tensor) -> Tensor {
    let flat = Vec::<f64>::try_from(tensor.detach().to_kind(Kind::Double).reshape([-1])).unwrap();
    let dot = |k| {
        flat.iter()
            .zip(uniform(&format!("{name}/probe{k}"), flat.len()))
            .map(|(v, u)| v * (2.0 * u - 1.0))
            .sum()
    };
    let norm = flat.iter().map(|v| v * v).sum::<f64>().sqrt();
    Tensor::from_slice(&(0..8).map(dot).chain([norm]).collect::<Vec<f64>>())
}

/// `|ours - truth| / |truth|` (Euclidean); any NaN gives NaN, which fails every `<=`.
pub fn relative_error(ours: &Tensor, truth: &Tensor) -> f64 {
    assert_eq!(ours.size(), truth.size());
    let (ours, truth) = (ours.detach().to_kind(Kind::Double), truth.to_kind(Kind::Double));
    ((ours - &truth).norm() / truth.norm()).double_value(&[])
}

/// Whether two tensors hold the same bits, in whatever layout.
pub fn same(a: &Tensor, b: &Tensor) -> bool {
    a.kind() == b.kind() && a.size() == b.size() && a.equal(b)
}

/// The largest of named errors, which every test compares with its tolerance and prints.
#[derive(Debug, Default)]
pub struct Worst {
    name: String,
    error: f64,
}

impl Worst {
    /// Adds an error.
    pub fn add(&mut self, name: &str, error: f64) {
        if self.name.is_empty() || error.is_nan() || error > self.error {
            *self = Worst {
                name: name.to_owned(),
                error,
            };
        }
    }

    /// Panics when the largest error exceeds `tolerance`, or when there was none to compare.
    pub fn check(&self, what: &str, tolerance: f64) {
        println!(
            "{what}: worst {:.1e} ({}), tolerance {tolerance:.0e}",
            self.error, self.name
        );
        assert!(!self.name.is_empty(), "{what}: nothing was compared");
        assert!(
            self.error <= tolerance,
            "{what}: {} is off by {:e}, more than {tolerance:e}",
            self.name,
            self.error
        );
    }
}

/// Saves the backbone of a network as it is initialised, as `camtrast pretrain --method scratch` does.
pub fn save_untrained(path: &Path, arch: &str) {
    let vs = VarStore::new(Device::Cpu);
    let arch = arch.parse().expect("a known architecture");
    ResNet::new(&vs.root(), arch);
    let info = BackboneInfo {
        arch,
        method: "scratch".into(),
        dataset: "none".into(),
        dataset_sha256: "none".into(),
        class_names: Vec::new(),
        image_size: 32,
        mean: IMAGENET_MEAN,
        std: IMAGENET_STD,
        epoch: 0,
        step: 0,
        config: "{}".into(),
        commit: "none".into(),
    };
    save_backbone(path, &vs.variables().into_iter().collect(), &info).expect("a folder that can be written");
}

/// A run on the CPU, in `out`, that is started again whatever is there, logs next to nothing and saves no
/// state on the way.
pub fn quiet_run(out: PathBuf) -> RunOptions {
    RunOptions {
        out,
        overwrite: true,
        device: Device::Cpu,
        group: Group::ALONE,
        log_every: 1000,
        save_every: None,
        profile_step: None,
        build: Build {
            version: "0".into(),
            commit: "none".into(),
        },
    }
}

/// Operations of a whole training in the folder `run`, without the one read for each step that it logs.
pub fn operations_of(run: &Path, training: impl FnOnce()) -> Operations {
    let ((), counted) = count_operations(training).expect("a counter that is not running");
    let log = std::fs::read_to_string(run.join("log.jsonl")).expect("a run has a log");
    let logged = log.lines().filter(|line| line.contains("\"kind\":\"step\""));
    Operations {
        waits: counted.waits - logged.count() as i64,
        ..counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filler_has_the_known_answers() {
        assert_eq!(fnv1a64("input"), 0x1ebb_ae8f_5810_b65b);
        let start: Vec<f64> = uniform("input", 3).map(|u| u * (1u64 << 24) as f64).collect();
        assert_eq!(start, [1_641_119.0, 2_474_280.0, 9_631_538.0]);
        let known = [
            -3.3899, -1.5394, 1.8047, 1.3533, -0.6868, 1.9036, 1.2045, 0.5221, 2.5797,
        ];
        let ours = Vec::<f64>::try_from(probe("input", &fill("input", &[4]))).unwrap();
        assert!(
            ours.iter().zip(known).all(|(a, b)| (a - b).abs() < 5e-5),
            "{ours:?}"
        );
    }

    #[test]
    #[should_panic(expected = "is off by NaN")]
    fn nan_is_an_error() {
        let mut worst = Worst::default();
        worst.add("a", f64::NAN);
        worst.add("b", 0.5);
        worst.check("test", 1.0);
    }
}
