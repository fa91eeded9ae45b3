//! Whole methods, built as a run builds them, beside the same steps written in PyTorch:
//! `tests/golden/_pretraining.py` and the `export.py` of each case.
//!
//! Networks run in float64, as the references do, so that a wrong term cannot hide in rounding. Cross-entropy
//! and MoCo's queue stay in float32, and set the tolerances where they take part.

mod byol;
mod camtrast;
mod defaults;
mod exemplar;
mod passes;
mod simsiam;

use camtrast_common::device::Precision;
use camtrast_common::distributed::Group;
use camtrast_common::engine::StepContext;
use camtrast_common::optim::{Optimizer, OptimizerConfig};
use camtrast_common::schedule::Schedule;
use camtrast_common::testing::{Worst, fill, fill_variables, probe, relative_error, sign};
use camtrast_pretrain::contrast::unit;
use camtrast_pretrain::{Method, PretrainOptions, Pretraining, Setting};
use serde_json::Value;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor, no_grad};

const BATCH: i64 = 8;
const CLASSES: i64 = 5;

/// A method on the smallest backbone, as it is initialised, and its settings with every default filled in.
fn initialised(method: Method, options: &Value) -> (Box<dyn Pretraining>, PretrainOptions) {
    let setting = Setting {
        arch: "resnet18-w4-small".parse().unwrap(),
        classes: CLASSES,
        images: BATCH as u64,
        image_size: 32,
        device: Device::Cpu,
        group: Group::ALONE,
        precision: Precision::Fp32,
        seed: 0,
    };
    let given: PretrainOptions = serde_json::from_value(options.clone()).unwrap();
    let defaults = method.defaults(&setting, &given);
    let options = given.resolve(defaults, &method.to_string()).unwrap();
    (method.build(&setting, &options).unwrap(), options)
}

/// A method with float64 networks; every online tensor is filled under its name, one of the second network
/// (whose state begins with `second`) under `second`, a dot and its name there.
fn build(method: Method, options: &Value, second: &str) -> (Box<dyn Pretraining>, PretrainOptions) {
    let (built, options) = initialised(method, options);

    let online = built.online().variables();
    for (name, tensor) in second_network(built.as_ref(), second) {
        assert_eq!(tensor, online[&name], "{second}/{name} starts as a copy");
        assert!(!tensor.requires_grad(), "{second}/{name} is not trained");
        widen(&tensor);
        no_grad(|| {
            tensor
                .shallow_clone()
                .copy_(&fill(&format!("{second}.{name}"), &tensor.size()))
        });
    }
    if let Some(keys) = built.extra_state().get("queue/keys") {
        no_grad(|| keys.shallow_clone().copy_(&unit(&sign("queue", &keys.size()))));
    }
    online.values().for_each(widen);
    fill_variables(built.online());
    (built, options)
}

fn second_network(method: &dyn Pretraining, prefix: &str) -> BTreeMap<String, Tensor> {
    let own = |name: String| name.strip_prefix(&format!("{prefix}/")).map(str::to_owned);
    method
        .extra_state()
        .into_iter()
        .filter_map(|(name, tensor)| Some((own(name)?, tensor)))
        .collect()
}

// In place, so that the layers that hold the tensor see it.
fn widen(tensor: &Tensor) {
    if tensor.is_floating_point() {
        tensor.shallow_clone().set_data(&tensor.to_kind(Kind::Double));
    }
}

/// The optimiser and schedule of a run of as many steps as `options` have epochs.
fn training(method: &dyn Pretraining, options: &PretrainOptions) -> (Optimizer, Schedule) {
    let config = OptimizerConfig {
        algorithm: options.optimizer.unwrap(),
        momentum: options.momentum.unwrap(),
        nesterov: false,
        weight_decay: options.weight_decay.unwrap(),
    };
    let schedule = Schedule {
        base_lr: options.lr.unwrap(),
        floor: 0.0,
        decay: options.schedule.unwrap(),
        milestones: Vec::new(),
        gamma: 1.0,
        warmup_steps: 0,
        warmup_factor: 0.0,
        steps_per_epoch: 1,
        total_steps: options.epochs.unwrap(),
    };
    (Optimizer::new(config, method.groups()), schedule)
}

fn moment(step: u64, options: &PretrainOptions) -> StepContext {
    StepContext {
        seed: 0,
        epoch: step,
        step,
        batch: 0,
        total_steps: options.epochs.unwrap(),
    }
}

fn views(step: u64, count: usize) -> Vec<Tensor> {
    (0..count)
        .map(|i| fill(&format!("view{i}_{step}"), &[BATCH, 3, 32, 32]).to_kind(Kind::Double))
        .collect()
}

fn labels() -> Tensor {
    Tensor::arange(BATCH, (Kind::Int64, Device::Cpu)).remainder(CLASSES)
}

/// Gradients of all parameters that have one.
fn gradients(method: &dyn Pretraining) -> BTreeMap<String, Tensor> {
    let params = method.groups().into_iter().flat_map(|group| group.params);
    params
        .map(|(name, p)| (name, p.grad()))
        .filter(|(_, grad)| grad.defined())
        .collect()
}

/// Parameters and running statistics of a network.
fn state(variables: impl IntoIterator<Item = (String, Tensor)>) -> BTreeMap<String, Tensor> {
    variables
        .into_iter()
        .filter(|(name, _)| !name.ends_with("num_batches_tracked"))
        .collect()
}

/// Compares tensors with their probes in `truth`, which lie in the order of names; a row of zeros stands for
/// a tensor that is rounding alone.
fn compare(worst: &mut Worst, what: &str, ours: &BTreeMap<String, Tensor>, truth: &Tensor) {
    assert_eq!(ours.len() as i64, truth.size()[0], "{what}: other tensors");
    for (i, (name, tensor)) in ours.iter().enumerate() {
        let (ours, truth) = (probe(name, tensor), truth.get(i as i64));
        let error = if truth.norm().double_value(&[]) == 0.0 {
            ours.norm().double_value(&[])
        } else {
            relative_error(&ours, &truth)
        };
        worst.add(&format!("{what} {name}"), error);
    }
}
