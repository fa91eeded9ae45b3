//! A linear head for a backbone without one: self-supervised methods train no classifier, but class
//! activation maps need one (linear evaluation).

use camtrast_common::classifier::Classifier;
use camtrast_common::nn::unit;
use camtrast_common::{Error, Result};
use tch::{Kind, Tensor, no_grad};

/// Largest number of gradient steps.
const STEPS: usize = 500;
/// Gradient norm, relative to the first, at which the fit is good enough for a picture.
const TOLERANCE: f64 = 1e-3;

/// Fits multinomial logistic regression, `|W|^2 / 2 + sum CE` (scikit-learn's C = 1), on unit-length features
/// by Nesterov's accelerated gradient. `features` [N, D], `labels` i64 `[N]` in 0..classes. Also returns the
/// share of images it classifies as labelled. Features of unit length differ from raw ones by one factor per
/// image, which does not change activation maps.
///
/// # Errors
/// [`Error::Settings`] for a single class.
pub fn fit(features: &Tensor, labels: &Tensor, classes: i64) -> Result<(Classifier, f64)> {
    if classes < 2 {
        return Err(Error::settings(
            "a linear head needs at least 2 classes",
            "give a pack with more classes",
        ));
    }
    no_grad(|| {
        let x = unit(&features.to_kind(Kind::Float));
        let n = x.size()[0];
        // The intercept is one more feature, not penalised.
        let x = Tensor::cat(&[x, Tensor::ones([n, 1], (Kind::Float, features.device()))], 1);
        let targets = labels.one_hot(classes).to_kind(Kind::Float); // [N, classes]
        let penalty = Tensor::ones([1, x.size()[1]], (Kind::Float, x.device()));
        let _ = penalty.narrow(1, x.size()[1] - 1, 1).fill_(0.0);
        let gradient = |w: &Tensor| {
            let probabilities = x.f_matmul(&w.tr())?.softmax(1, Kind::Float);
            Ok::<_, Error>((probabilities - &targets).tr().f_matmul(&x)? + w * &penalty)
        };
        // The Hessian of cross-entropy is at most half the Gram matrix.
        let largest = x
            .tr()
            .f_matmul(&x)?
            .f_linalg_eigvalsh("L")?
            .max()
            .double_value(&[]);
        let (smooth, strong) = (1.0 + largest / 2.0, 1.0f64);
        let momentum = (smooth.sqrt() - strong.sqrt()) / (smooth.sqrt() + strong.sqrt());
        let mut w = Tensor::zeros([classes, x.size()[1]], (Kind::Float, x.device()));
        let mut ahead = w.copy();
        let mut first = None;
        for _ in 0..STEPS {
            let slope = gradient(&ahead)?;
            let next = &ahead - &slope / smooth;
            ahead = &next + (&next - &w) * momentum;
            w = next;
            let norm = slope.norm().double_value(&[]);
            if norm <= TOLERANCE * *first.get_or_insert(norm) {
                break;
            }
        }
        let right = x
            .f_matmul(&w.tr())?
            .argmax(1, false)
            .eq_tensor(labels)
            .to_kind(Kind::Double);
        let d = features.size()[1];
        let classifier = Classifier {
            weight: w.narrow(1, 0, d).contiguous(),
            bias: w.select(1, d).contiguous(),
        };
        Ok((classifier, right.mean(None).double_value(&[])))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use camtrast_common::testing::{fill, relative_error};
    use tch::Device;

    // At the optimum the penalty's gradient balances the loss's: an independent check through autograd.
    #[test]
    fn the_fit_is_where_the_gradient_vanishes() {
        let labels = Tensor::arange(60, (Kind::Int64, Device::Cpu)).remainder(3);
        let means = fill("means", &[3, 8]);
        let features = (means.index_select(0, &labels) + fill("noise", &[60, 8]) * 0.8).relu();
        let (Classifier { weight, bias }, accuracy) = fit(&features, &labels, 3).unwrap();
        let (w, b) = (
            weight.copy().set_requires_grad(true),
            bias.copy().set_requires_grad(true),
        );
        let logits = unit(&features).linear(&w, Some(&b));
        let loss = logits.cross_entropy_for_logits(&labels) * 60.0 + w.square().sum(None) / 2.0;
        loss.backward();
        assert!(w.grad().norm().double_value(&[]) < 0.05 && b.grad().norm().double_value(&[]) < 0.05);
        assert!(accuracy > 0.8, "{accuracy}");
        assert!(
            relative_error(&w, &Tensor::zeros_like(&w)).is_infinite(),
            "it learnt something"
        );
    }

    #[test]
    fn one_class_is_refused() {
        assert!(
            fit(
                &fill("x", &[4, 2]),
                &Tensor::zeros([4], (Kind::Int64, Device::Cpu)),
                1
            )
            .is_err()
        );
    }
}
