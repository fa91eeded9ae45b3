//! Optimisers, moving averages, schedules.

use camtrast_common::ema::Ema;
use camtrast_common::nn::weights_channels_last;
use camtrast_common::optim::{Algorithm, Optimizer, OptimizerConfig, ParamGroup};
use camtrast_common::schedule::{Decay, Schedule};
use camtrast_common::testing::{
    Case, Worst, fill, fill_variables, numbers, relative_error, same, sign, strings,
};
use serde_json::Value;
use std::collections::BTreeMap;
use tch::nn::{Init, VarStore};
use tch::{Device, Kind, Tensor, no_grad};

const SHAPES: [(&str, &str, &[i64]); 3] = [
    ("conv", "weight", &[4, 3, 3, 3]),
    ("conv", "bias", &[4]),
    ("fc", "weight", &[5, 4]),
];

fn parameters() -> VarStore {
    let vs = VarStore::new(Device::Cpu);
    for (layer, name, shape) in SHAPES {
        let _ = (vs.root() / layer).var(name, shape, Init::Const(0.0));
    }
    fill_variables(&vs);
    vs
}

fn config(case: &str, settings: &Value) -> OptimizerConfig {
    OptimizerConfig {
        algorithm: case.split('_').next().unwrap().parse::<Algorithm>().unwrap(),
        momentum: settings["momentum"].as_f64().unwrap_or_default(),
        nesterov: settings["nesterov"].as_bool().unwrap_or_default(),
        weight_decay: settings["weight_decay"].as_f64().unwrap(),
    }
}

// Returns the moments at the end, by case and name.
fn optimisers_agree(double: bool, last: bool, resumed: bool, tolerance: f64) -> BTreeMap<String, Tensor> {
    let mut moments = BTreeMap::new();
    let golden = Case::open("optimizers");
    let mut worst = Worst::default();
    for case in strings(&golden.json("cases")) {
        let config = config(&case, &golden.json("settings")[&case]);
        let mut vs = parameters();
        if double {
            vs.double();
        }
        if last {
            weights_channels_last(&vs);
        }
        let mut optimizer = Optimizer::new(config, vec![ParamGroup::all(&vs)]);
        let rates = Vec::<f64>::try_from(golden.tensor(&format!("{case}.lr"))).unwrap();
        for (step, lr) in rates.into_iter().enumerate() {
            if resumed {
                let saved = optimizer
                    .state()
                    .into_iter()
                    .map(|(name, tensor)| (name, tensor.copy()))
                    .collect();
                optimizer = Optimizer::new(config, vec![ParamGroup::all(&vs)]);
                optimizer.load_state(&saved).unwrap();
            }
            optimizer.zero_grad();
            // Through autograd, which lays gradients out like their parameters.
            let terms = vs.variables().into_iter().map(|(name, p)| {
                let gradient = sign(&format!("grad{step}.{name}"), &p.size()).to_kind(p.kind());
                (p * gradient).sum(None)
            });
            Tensor::stack(&terms.collect::<Vec<_>>(), 0).sum(None).backward();
            optimizer.step(f64::NAN, lr).unwrap();
            for (name, p) in vs.variables() {
                let truth = golden.tensor(&format!("{case}.{name}")).get(step as i64);
                worst.add(&format!("{case}.{name} step {step}"), relative_error(&p, &truth));
            }
        }
        moments.extend(
            optimizer
                .state()
                .into_iter()
                .map(|(name, tensor)| (format!("{case}.{name}"), tensor)),
        );
    }
    worst.check(
        &format!("optimizers double={double} channels_last={last} resumed={resumed}"),
        tolerance,
    );
    moments
}

#[test]
fn optimisers_are_torchs() {
    let plain = optimisers_agree(true, false, false, 1e-12);
    optimisers_agree(false, false, false, 5e-7);
    for (last, resumed) in [(true, false), (false, true), (true, true)] {
        optimisers_agree(false, last, resumed, 5e-7);
        // What a checkpoint stores must not depend on the layout either.
        let mut worst = Worst::default();
        for (name, moment) in optimisers_agree(true, last, resumed, 1e-12) {
            worst.add(&name, relative_error(&moment, &plain[&name]));
        }
        worst.check("moments", 1e-12);
    }
}

#[test]
fn group_settings_override_the_whole() {
    let after = |algorithm, own: bool| {
        let vs = parameters();
        let (scale, decay) = if own { (0.5, 0.1) } else { (1.0, 0.0) };
        let config = OptimizerConfig {
            algorithm,
            momentum: 0.0,
            nesterov: false,
            weight_decay: if own { 0.0 } else { 0.1 },
        };
        let group = ParamGroup {
            lr_scale: scale,
            weight_decay: own.then_some(decay),
            constant_lr: own,
            ..ParamGroup::all(&vs)
        };
        let mut optimizer = Optimizer::new(config, vec![group]);
        vs.variables()
            .values()
            .for_each(|p| p.square().sum(None).backward());
        // The learning rate is 0.2 * 0.5 (base rate, scaled) or 0.1 (of the schedule).
        optimizer.step(0.2, 0.1).unwrap();
        vs.variables().remove("fc.weight").unwrap()
    };
    for algorithm in [Algorithm::Sgd, Algorithm::Adam, Algorithm::AdamW, Algorithm::Lars] {
        assert!(
            same(&after(algorithm, true), &after(algorithm, false)),
            "{algorithm}"
        );
        assert!(
            !same(&after(algorithm, true), &fill("fc.weight", &[5, 4])),
            "{algorithm}"
        );
    }
}

#[test]
fn moving_average_follows_parameters_and_leaves_buffers() {
    let store = |name: &str| {
        let vs = VarStore::new(Device::Cpu);
        let _ = vs.root().add("weight", fill(name, &[3, 2]), true);
        let _ = vs.root().add("running_mean", fill(name, &[3]), false);
        vs
    };
    let (average, online) = (store("average"), store("online"));
    let _ = online.root().add("head", fill("head", &[2]), true);
    let mut ema = Ema::new(&average, &online);
    let of = |vs: &VarStore, name: &str| vs.variables().remove(name).unwrap();
    for name in ["weight", "running_mean"] {
        assert!(
            same(&of(&average, name), &of(&online, name)),
            "{name} begins as a copy"
        );
    }
    assert!(!of(&average, "weight").requires_grad());
    let start = of(&online, "weight").detach().to_kind(Kind::Double);
    no_grad(|| {
        of(&online, "weight").copy_(&fill("later", &[3, 2]));
        of(&online, "running_mean").copy_(&fill("later", &[3]));
    });
    ema.update(0.9).unwrap();
    ema.update(0.75).unwrap();
    let truth = (start * 0.9 + fill("later", &[3, 2]).to_kind(Kind::Double) * 0.1) * 0.75
        + fill("later", &[3, 2]).to_kind(Kind::Double) * 0.25;
    let mut worst = Worst::default();
    worst.add("weight", relative_error(&of(&average, "weight"), &truth));
    worst.check("ema", 1e-7);
    assert!(same(&of(&average, "running_mean"), &fill("online", &[3])));
}

#[test]
fn schedules_are_the_references() {
    let case = Case::open("schedules");
    let parameters = case.json("parameters");
    // (case, decay, steps in an epoch, whether an entry is an epoch)
    let cases = [
        ("multistep", Decay::Step, 7, true),
        ("exponential", Decay::Exponential, 7, true),
        ("cosine_epoch", Decay::Cosine, 7, true),
        ("cosine_step", Decay::Cosine, 10, false),
        ("poly", Decay::Poly, 10, false),
        ("warmup", Decay::Step, 20, false),
    ];
    let mut worst = Worst::default();
    for (name, decay, steps_per_epoch, per_epoch) in cases {
        let p = &parameters[name];
        let truth = Vec::<f64>::try_from(case.tensor(name)).unwrap();
        let milestones: Vec<u64> = p["milestones"]
            .as_array()
            .map(|_| numbers(&p["milestones"]))
            .unwrap_or_default()
            .into_iter()
            .map(|m| m as u64 / if per_epoch { 1 } else { steps_per_epoch })
            .collect();
        let entry = if per_epoch { steps_per_epoch } else { 1 };
        let schedule = Schedule {
            base_lr: p["base"].as_f64().unwrap(),
            floor: p["floor"].as_f64().unwrap_or_default(),
            decay,
            milestones,
            gamma: p["gamma"].as_f64().unwrap_or(f64::NAN),
            warmup_steps: p["warmup_steps"].as_u64().unwrap_or_default(),
            warmup_factor: p["factor"].as_f64().unwrap_or_default(),
            steps_per_epoch,
            total_steps: truth.len() as u64 * entry,
        };
        for (i, truth) in truth.iter().enumerate() {
            let first = i as u64 * entry;
            // The cosine moves within an epoch, where the reference stands still; they meet where an epoch
            // starts.
            let last = if decay == Decay::Cosine {
                first
            } else {
                first + entry - 1
            };
            for step in first..=last {
                worst.add(
                    &format!("{name} step {step}"),
                    (schedule.lr(step) / truth - 1.0).abs(),
                );
            }
        }
    }
    worst.check("schedules", 1e-12);
}
