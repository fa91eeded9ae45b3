//! BYOL beside its equations.

use super::{build, compare, gradients, labels, moment, second_network, state, training, views};
use camtrast_common::testing::{Case, Worst, relative_error};
use camtrast_pretrain::Method;
use camtrast_pretrain::byol::momentum;

#[test]
fn three_steps_are_the_references() {
    let case = Case::open("byol");
    for (variant, options) in case.json("options").as_object().unwrap() {
        let (mut method, options) = build(Method::Byol, options, "target");
        let (mut optimizer, schedule) = training(method.as_ref(), &options);
        let named = |name: &str| case.tensor(&format!("{variant}.{name}"));
        let mut worst = Worst::default();
        for step in 0..3 {
            let at = moment(step, &options);
            let loss = method.loss(&views(step, 2), &labels(), &at).unwrap().total;
            worst.add(
                &format!("loss of step {step}"),
                relative_error(&loss, &named("loss").get(step as i64)),
            );
            optimizer.zero_grad();
            loss.backward();
            if variant == "sgd" && step != 1 {
                let grads = format!("grads{step}");
                compare(&mut worst, &grads, &gradients(method.as_ref()), &named(&grads));
            }
            optimizer.step(schedule.base_lr, schedule.lr(step)).unwrap();
            method.after_step(&at).unwrap();
        }
        compare(
            &mut worst,
            "state",
            &state(method.online().variables()),
            &named("state"),
        );
        if variant == "sgd" {
            compare(
                &mut worst,
                "target",
                &state(second_network(method.as_ref(), "target")),
                &named("target"),
            );
        }
        worst.check(&format!("byol {variant}"), 1e-9);
    }
}

#[test]
fn target_momentum_rises_as_a_cosine() {
    let case = Case::open("schedules");
    let parameters = &case.json("parameters")["byol_momentum"];
    let (base, steps) = (
        parameters["base"].as_f64().unwrap(),
        parameters["steps"].as_u64().unwrap(),
    );
    let truth = Vec::<f64>::try_from(case.tensor("byol_momentum")).unwrap();
    assert_eq!(truth.len() as u64, steps);
    for (step, truth) in truth.iter().enumerate() {
        // The same operations in the same order; a cosine may differ in its last bit.
        assert!(
            (momentum(base, step as u64, steps) - truth).abs() < 1e-15,
            "step {step}"
        );
    }
    assert_eq!(momentum(base, steps, steps), 1.0);
}
