//! SimSiam beside its authors' model and training loop.

use super::{build, compare, gradients, labels, moment, state, training, views};
use camtrast_common::device::Precision;
use camtrast_common::distributed::Group;
use camtrast_common::random::generator;
use camtrast_common::testing::{Case, Worst, fill, relative_error, uniform};
use camtrast_pretrain::simsiam::negative_cosine;
use camtrast_pretrain::{Method, PretrainOptions, Setting};
use serde_json::json;
use tch::{Device, Kind, Tensor};

#[test]
fn negative_cosine_and_its_gradients_are_the_references() {
    let case = Case::open("simsiam");
    for stop_gradient in [true, false] {
        let [p, z] =
            ["p", "z"].map(|name| fill(name, &[8, 16]).to_kind(Kind::Double).set_requires_grad(true));
        let target = if stop_gradient {
            z.detach()
        } else {
            z.shallow_clone()
        };
        let loss = negative_cosine(&p, &target);
        loss.backward();
        let mut worst = Worst::default();
        worst.add(
            "loss",
            relative_error(&loss.view([1]), &case.tensor("cosine.loss")),
        );
        worst.add("grad_p", relative_error(&p.grad(), &case.tensor("cosine.grad_p")));
        if stop_gradient {
            assert!(!z.grad().defined());
        } else {
            worst.add("grad_z", relative_error(&z.grad(), &case.tensor("cosine.grad_z")));
        }
        worst.check(&format!("negative cosine, stop-gradient {stop_gradient}"), 1e-12);
    }
}

// `base_encoder(zero_init_residual=True)` in the authors' code.
#[test]
fn blocks_begin_as_the_identity() {
    let setting = Setting {
        arch: "resnet50-w4".parse().unwrap(),
        classes: 1,
        images: 8,
        image_size: 32,
        device: Device::Cpu,
        group: Group::ALONE,
        precision: Precision::Fp32,
        seed: 0,
    };
    let method = Method::Simsiam
        .build(
            &setting,
            &Method::Simsiam.defaults(&setting, &PretrainOptions::default()),
        )
        .unwrap();
    let scales = |kind: &str| {
        let variables = method.online().variables().into_iter();
        let ours = variables.filter(|(name, _)| name.starts_with("backbone.layer") && name.ends_with(kind));
        ours.map(|(_, scale)| scale.abs().sum(Kind::Float).double_value(&[]))
            .collect::<Vec<f64>>()
    };
    assert_eq!(scales("bn3.weight"), [0.0; 16]);
    assert!(scales("bn2.weight").iter().all(|&sum| sum >= 4.0));
}

#[test]
fn three_steps_are_the_references() {
    let case = Case::open("simsiam");
    let (mut method, options) = build(Method::Simsiam, &case.json("options"), "");
    let (mut optimizer, schedule) = training(method.as_ref(), &options);
    let mut worst = Worst::default();
    for step in 0..3 {
        let loss = method
            .loss(&views(step, 2), &labels(), &moment(step, &options))
            .unwrap();
        let [(_, spread)] = loss.parts.as_slice() else {
            panic!("one part, the spread")
        };
        let truth = |name: &str| case.tensor(name).get(step as i64);
        worst.add(
            &format!("loss of step {step}"),
            relative_error(&loss.total, &truth("loss")),
        );
        worst.add(
            &format!("spread of step {step}"),
            relative_error(spread, &truth("output_std")),
        );
        optimizer.zero_grad();
        loss.total.backward();
        let grads = format!("grads{step}");
        compare(
            &mut worst,
            &grads,
            &gradients(method.as_ref()),
            &case.tensor(&grads),
        );
        optimizer.step(schedule.base_lr, schedule.lr(step)).unwrap();
        method.after_step(&moment(step, &options)).unwrap();
    }
    compare(
        &mut worst,
        "state",
        &state(method.online().variables()),
        &case.tensor("state"),
    );
    worst.check("simsiam", 1e-8);
}

#[test]
fn without_stop_gradient_the_targets_learn_too() {
    let case = Case::open("simsiam");
    let mut options = case.json("options");
    options["stop-gradient"] = json!(false);
    let (mut method, options) = build(Method::Simsiam, &options, "");
    method
        .loss(&views(0, 2), &Tensor::new(), &moment(0, &options))
        .unwrap()
        .total
        .backward();
    let mut worst = Worst::default();
    compare(
        &mut worst,
        "gradient",
        &gradients(method.as_ref()),
        &case.tensor("attached.grads"),
    );
    worst.check("simsiam without stop-gradient", 1e-10);
}

// Chen & He 2021, Figure 2: unit outputs that spread over the sphere have a standard deviation of 1/sqrt(P)
// per channel, collapsed ones hardly any.
#[test]
fn outputs_collapse_without_stop_gradient_and_only_then() {
    tch::set_num_threads(1); // so small a network is much slower on several
    let spread = |stop_gradient: bool| {
        let setting = Setting {
            arch: "resnet18-w8-small".parse().unwrap(),
            classes: 1,
            images: 256,
            image_size: 16,
            device: Device::Cpu,
            group: Group::ALONE,
            precision: Precision::Fp32,
            seed: 0,
        };
        let settings = json!({
            "epochs": 1, "batch-size": 32, "lr": 0.3, "schedule": "constant", "stop-gradient": stop_gradient,
            "projection-dim": 64, "projector-hidden": 64, "predictor-hidden": 16,
        });
        let given: PretrainOptions = serde_json::from_value(settings).unwrap();
        let options = given
            .resolve(
                Method::Simsiam.defaults(&setting, &PretrainOptions::default()),
                "simsiam",
            )
            .unwrap();
        let mut method = Method::Simsiam.build(&setting, &options).unwrap();
        let (mut optimizer, schedule) = training(method.as_ref(), &options);
        // Patches of few colours, so that an image and its views have something in common.
        let images = uniform("images", 256 * 4 * 4 * 3)
            .map(|u| (u * 256.0) as u8)
            .collect::<Vec<u8>>();
        let images = Tensor::from_slice(&images)
            .view([256, 4, 1, 4, 1, 3])
            .expand([256, 4, 4, 4, 4, 3], false);
        let images = images.reshape([256, 16, 16, 3]);
        let mut spreads = Vec::new();
        for step in 0..100 {
            let batch = images.narrow(0, step % 8 * 32, 32);
            let views: Vec<Tensor> = (method.views().iter().enumerate())
                .map(|(i, view)| view.apply(&batch, &mut generator(0, "view", i as u64, step as u64)))
                .collect();
            let loss = method.loss(&views, &Tensor::new(), &moment(0, &options)).unwrap();
            optimizer.zero_grad();
            loss.total.backward();
            optimizer.step(schedule.base_lr, schedule.base_lr).unwrap();
            spreads.push(loss.parts[0].1.double_value(&[]) * 64f64.sqrt());
        }
        spreads[50..].iter().copied().fold(f64::INFINITY, f64::min)
    };
    let (with, without) = (spread(true), spread(false));
    println!("spread over 1/sqrt(P): {with:.3} with stop-gradient, {without:.3} without");
    assert!(with > 0.5, "{with}");
    // The last batch norm keeps the batch's mean at zero: all images but one meet in a point, that one
    // opposite, which leaves 2/sqrt(N) = 0.354 of N = 32.
    assert!(without < 0.4, "{without}");
}
