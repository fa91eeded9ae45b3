//! The passes that a method says it makes are those that it makes.

use super::{initialised, labels, moment, views};
use camtrast_common::engine::StepContext;
use camtrast_pretrain::Method;
use clap::ValueEnum;
use serde_json::json;
use tch::{Kind, Tensor, no_grad};

/// Far from any batch's mean.
const START: f64 = 1e9;

/// Counts by the running mean of the first batch norm, of which each pass in training leaves nine tenths.
#[test]
fn passes_are_those_of_one_step() {
    for &method in Method::value_variants() {
        let (mut built, options) = initialised(method, &json!({}));
        let first_means = |variables: Vec<(String, Tensor)>| -> Vec<Tensor> {
            let is_first = |name: &str| name.ends_with("backbone.bn1.running_mean");
            let found = variables.into_iter().filter(|(name, _)| is_first(name));
            found
                .map(|(_, mean)| no_grad(|| mean.shallow_clone().fill_(START)))
                .collect()
        };
        let with_gradient = first_means(built.online().variables().into_iter().collect());
        let without = first_means(built.extra_state().into_iter().collect());
        assert!(with_gradient.len() == 1 && without.len() <= 1, "{method}");

        let views: Vec<Tensor> = views(0, built.views().len())
            .iter()
            .map(|view| view.to_kind(Kind::Float))
            .collect();
        if !views.is_empty() {
            // After the warm-up of a classifier, when all terms of a loss are there.
            let at = StepContext {
                epoch: options.epochs.unwrap() - 1,
                ..moment(0, &options)
            };
            built.loss(&views, &labels(), &at).unwrap();
        }
        let count = |means: &[Tensor]| -> f64 {
            let passes = |mean: &Tensor| (mean.double_value(&[0]) / START).ln() / 0.9f64.ln();
            means.iter().map(passes).sum::<f64>().round()
        };
        let made = count(&with_gradient) + count(&without) / 3.0;
        assert!((method.passes() - made).abs() < 1e-9, "{method} makes {made}");
    }
}
