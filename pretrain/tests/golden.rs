//! InfoNCE, MoCo and class activation maps beside their references: `tests/golden/<case>/export.py` says what
//! each case holds.

use camtrast_common::cam::{class_activation_map, suppress};
use camtrast_common::ema::Ema;
use camtrast_common::nn::Linear;
use camtrast_common::optim::{Algorithm, Optimizer, OptimizerConfig, ParamGroup};
use camtrast_common::testing::{
    Case, Worst, fill, fill_variables, probe, relative_error, same, sign, uniform,
};
use camtrast_pretrain::contrast::{Queue, info_nce, unit};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};

const INT64: (Kind, Device) = (Kind::Int64, Device::Cpu);

#[test]
fn info_nce_is_mocos() {
    let case = Case::open("infonce");
    let [q, k, queue] = ["q", "k", "queue"].map(|name| case.tensor(name).to_kind(Kind::Float));
    for variant in ["T0.07", "T0.2"] {
        let temperature = case.json("temperature")[variant].as_f64().unwrap();
        let [q, k, queue] = [&q, &k, &queue].map(|t| t.copy().set_requires_grad(true));
        let (loss, accuracy) = info_nce(&q, &k, &queue, None, temperature).unwrap();
        loss.backward();
        let truth = |name: &str| case.tensor(&format!("{variant}.{name}"));
        let mut worst = Worst::default();
        worst.add("loss", relative_error(&loss.view([1]), &truth("loss")));
        worst.add("grad_q", relative_error(&q.grad(), &truth("grad_q")));
        worst.check(&format!("infonce {variant}"), 1e-6);
        assert!(
            !k.grad().defined() && !queue.grad().defined(),
            "keys are constants"
        );
        let found = truth("logits")
            .argmax(1, false)
            .eq(0)
            .to_kind(Kind::Float)
            .mean(None);
        assert_eq!(accuracy.double_value(&[]), found.double_value(&[]));
    }
}

// The reference moves the key encoder at the start of a step, we at the end of the one before: the same
// sequence.
#[test]
fn three_moco_steps_are_the_references() {
    let case = Case::open("moco");
    let number = |key: &str| case.json(key).as_f64().unwrap();
    let (temperature, momentum, lr, batch) = (
        number("temperature"),
        number("momentum"),
        number("lr"),
        number("batch") as i64,
    );
    for size in [32, 20] {
        let [online, key] = [(); 2].map(|()| VarStore::new(Device::Cpu));
        let encoder = Linear::new(&(online.root() / "encoder_q"), 12, 16);
        let key_encoder = Linear::new(&(key.root() / "encoder_q"), 12, 16);
        fill_variables(&online);
        let mut ema = Ema::new(&key, &online);
        let mut queue = Queue::new(size, 16, Device::Cpu);
        queue.keys.copy_(&unit(&sign("queue", &[16, size]).tr()));
        let config = OptimizerConfig {
            algorithm: Algorithm::Sgd,
            momentum: 0.0,
            nesterov: false,
            weight_decay: 0.0,
        };
        let mut optimizer = Optimizer::new(config, vec![ParamGroup::all(&online)]);

        let mut worst = Worst::default();
        for step in 0..3 {
            let mut compare = |name: &str, ours: &Tensor| {
                let truth = case.tensor(&format!("K{size}.{name}")).get(step);
                worst.add(&format!("{name} of step {step}"), relative_error(ours, &truth));
            };
            let q = unit(&encoder.forward(&fill(&format!("x_q{step}"), &[batch, 12])));
            let k = no_grad(|| unit(&key_encoder.forward(&fill(&format!("x_k{step}"), &[batch, 12]))));
            compare("key_weight", &key_encoder.weight);
            compare("key_bias", key_encoder.bias.as_ref().unwrap());
            let (loss, _) = info_nce(&q, &k, &queue.keys.copy(), None, temperature).unwrap();
            queue.push(&k, None);
            compare("loss", &loss);
            compare("queue", &queue.keys.tr());
            optimizer.zero_grad();
            loss.backward();
            compare("grad_weight", &encoder.weight.grad());
            compare("grad_bias", &encoder.bias.as_ref().unwrap().grad());
            optimizer.step(lr, lr).unwrap();
            ema.update(momentum).unwrap();
            let pointer = case.tensor(&format!("K{size}.pointer")).int64_value(&[step]);
            assert_eq!(queue.pointer.int64_value(&[]), pointer);
        }
        worst.check(&format!("moco K{size}"), 1e-6);
    }
}

#[test]
fn queue_begins_with_unit_vectors_and_takes_a_whole_batch() {
    tch::manual_seed(0);
    let mut queue = Queue::new(6, 4, Device::Cpu);
    let lengths = queue.keys.norm_scalaropt_dim(2, [1i64].as_slice(), false);
    assert!((lengths - 1.0).abs().max().double_value(&[]) < 1e-6);
    let before = queue.keys.copy();
    let keys = unit(&fill("keys", &[4, 4]));
    queue.push(&keys, None);
    assert!(
        same(&queue.keys.narrow(0, 0, 4), &keys)
            && same(&queue.keys.narrow(0, 4, 2), &before.narrow(0, 4, 2))
    );
    let keys = unit(&fill("more", &[6, 4]));
    queue.push(&keys, None);
    // The pointer stood at 4: the batch fills the ring from there once around.
    assert!(same(
        &queue.keys,
        &keys.index_select(0, &(Tensor::arange(6, INT64) + 2).remainder(6))
    ));
    assert_eq!(queue.pointer.int64_value(&[]), 4);
}

#[test]
fn activation_maps_and_suppression_are_the_papers() {
    let case = Case::open("cam");
    let features = uniform("features", 3 * 16 * 9)
        .map(|u| (2.0 * u) as f32)
        .collect::<Vec<f32>>();
    let features = Tensor::from_slice(&features).view([3, 16, 3, 3]);
    let constant = features
        .get(2)
        .narrow(1, 0, 1)
        .narrow(2, 0, 1)
        .expand([16, 3, 3], false)
        .contiguous();
    features.get(2).copy_(&constant);
    let (weight, bias) = (fill("fc.weight", &[7, 16]), fill("fc.bias", &[7]));
    let x = fill("x", &[3, 3, 84, 84]);

    let logits = features
        .mean_dim([2i64, 3].as_slice(), false, None)
        .linear(&weight, Some(&bias));
    let classes = logits.argmax(1, false);
    assert!(same(&classes, &case.tensor("class")));
    let map = class_activation_map(&features, &weight, &classes);
    let suppressed = suppress(&x, &map);
    // M itself, at the size of the images
    let resized: Tensor = 1.0 - suppress(&x.ones_like(), &map).select(1, 0);

    let order = "normalised_then_resized";
    let named = |what: &str| format!("{order}.{what}");
    let mut worst = Worst::default();
    worst.add("logits", relative_error(&logits, &case.tensor("logits")));
    worst.add(
        "map_normalised",
        relative_error(&map.squeeze_dim(1), &case.tensor("map_normalised")),
    );
    let rows =
        Tensor::from_slice(&camtrast_common::testing::numbers(&case.json("rows"))).to_kind(Kind::Int64);
    worst.add(
        "rows",
        relative_error(&resized.index_select(1, &rows), &case.tensor(&named("rows"))),
    );
    for (what, ours) in [("map", &resized), ("suppressed", &suppressed)] {
        worst.add(
            what,
            relative_error(&probe(&named(what), ours), &case.tensor(&named(what))),
        );
    }
    worst.check("cam", 1e-6);
    assert_eq!(map.get(2).abs().max().double_value(&[]), 0.0);
    assert!(
        same(&suppressed.get(2), &x.get(2)),
        "a constant map suppresses nothing"
    );
    assert!(!suppressed.requires_grad());
}

// Real networks have 2048 channels, whose sum rounds differently from column to column.
#[test]
fn constant_maps_of_real_size_suppress_nothing() {
    for (seed, (channels, height, width)) in [
        (2048, 3, 3),
        (2048, 7, 7),
        (2048, 2, 5),
        (512, 11, 11),
        (256, 1, 1),
    ]
    .into_iter()
    .enumerate()
    {
        let n = 16;
        let column = fill(&format!("features{seed}"), &[n, channels, 1, 1]).abs();
        let map = column.expand([n, channels, height, width], false).contiguous();
        let weight = fill("fc.weight", &[20, channels]);
        let x = fill("x", &[n, 3, 21, 21]);
        for kind in [Kind::Float, Kind::BFloat16] {
            for last in [false, true] {
                let map = if last {
                    camtrast_common::device::channels_last(&map)
                } else {
                    map.shallow_clone()
                }
                .to_kind(kind);
                let cam = class_activation_map(&map, &weight, &Tensor::arange(n, INT64));
                assert_eq!(
                    cam.abs().max().double_value(&[]),
                    0.0,
                    "{channels} x {height} x {width} {kind:?}"
                );
                assert!(same(&suppress(&x, &cam), &x));
            }
        }
        // A true difference of a thousandth in one place is still seen, whether or not the terms cancel in M.
        if height * width > 1 {
            let raised = map.copy();
            raised
                .select(2, 0)
                .select(2, 0)
                .copy_(&(column.view([n, channels]) * (weight.narrow(0, 0, n).sign() * 1e-3 + 1.0)));
            let cam = class_activation_map(&raised, &weight, &Tensor::arange(n, INT64));
            assert!(same(
                &cam.amax([1i64, 2, 3].as_slice(), false),
                &Tensor::ones([n], (Kind::Float, Device::Cpu))
            ));
        }
        let zeros = class_activation_map(&map.zeros_like(), &weight, &Tensor::zeros([n], INT64));
        assert_eq!(zeros.abs().max().double_value(&[]), 0.0, "a map of zeros");
    }
}
