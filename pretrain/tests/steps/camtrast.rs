//! The sum that CAMtrast and each of its ablations minimise.

use super::{build, compare, gradients, labels, moment, views};
use camtrast_common::testing::{Case, Worst, relative_error};
use camtrast_pretrain::Method;
use std::collections::HashMap;
use tch::Kind;

#[test]
fn every_objective_is_the_references() {
    let case = Case::open("camtrast_losses");
    for (name, variant) in case.json("variants").as_object().unwrap() {
        let method = match variant["options"]["contrast"].as_str().unwrap() {
            "simsiam" => Method::CamtrastSimsiam,
            _ => Method::CamtrastMoco,
        };
        let (mut method, options) = build(method, &variant["options"], "key");
        let views = views(0, method.views().len());
        let loss = method
            .loss(
                &views,
                &labels(),
                &moment(variant["epoch"].as_u64().unwrap(), &options),
            )
            .unwrap();
        loss.total.backward();

        let truth = case.tensor(&format!("{name}.parts"));
        let parts: HashMap<_, _> = loss.parts.into_iter().collect();
        let ours: Vec<f64> = ["loss_original", "loss_suppressed", "loss_contrast"]
            .iter()
            .filter_map(|part| Some(parts.get(part)?.double_value(&[])))
            .collect();
        let mut worst = Worst::default();
        assert_eq!(ours.len() as i64, truth.size()[0], "{name} has other terms");
        for (i, ours) in ours.iter().enumerate() {
            let truth = truth.double_value(&[i as i64]);
            worst.add(&format!("term {i}"), ((ours - truth) / truth).abs());
        }
        worst.add("total", relative_error(&loss.total, &truth.sum(Kind::Double)));
        compare(
            &mut worst,
            "gradient",
            &gradients(method.as_ref()),
            &case.tensor(&format!("{name}.grads")),
        );
        // The map is float32, and a bias before a cosine has a gradient of small differences.
        worst.check(&format!("camtrast {name}"), 2e-5);
    }
}
