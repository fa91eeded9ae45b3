//! LogME: how well labels follow linearly from features, without training a classifier (You et al. 2021,
//! arXiv 2102.11005).
//!
//! Symbols: F features [N, D], y one-hot labels `[N]` of one class, s the eigenvalues of F^T F, t =
//! alpha/beta.

use crate::measures::smaller_gram;
use camtrast_common::device::send;
use camtrast_common::{Error, Result};
use std::f64::consts::PI;
use tch::{Kind, Tensor, no_grad};

/// Rounds of the fixed point at most; it settles in a few.
const ROUNDS: usize = 100;

/// The mean over classes of `ln p(y | F) / N`, the evidence of Bayesian linear regression maximised over its
/// two precisions; larger is better. F [N, D], labels `[N]` in `0..classes`.
///
/// # Errors
/// [`Error::Settings`] for another number of labels, [`Error::Torch`] when the decomposition fails.
pub fn logme(features: &Tensor, labels: &[i64], classes: i64) -> Result<f64> {
    no_grad(|| {
        let f = features.to_kind(Kind::Double);
        let (n, d) = f.size2()?;
        if labels.len() as i64 != n {
            return Err(Error::settings(
                format!("{n} features have {} labels", labels.len()),
                "give one for each",
            ));
        }
        let y = send(Tensor::from_slice(labels), f.device()).one_hot(classes);
        let y = y.to_kind(Kind::Double); // [N, classes]
        // Left singular vectors U [N, k] of F, k = min(N, D), times y.
        let (s, vectors) = smaller_gram(&f)?.f_linalg_eigh("L")?;
        let s = s.clamp_min(0.0);
        let projected = if d <= n {
            let least = s.max() * 1e-12;
            let inverse = s.rsqrt().where_self(&s.gt_tensor(&least), &s.zeros_like());
            vectors.tr().f_matmul(&f.tr().f_matmul(&y)?)? * inverse.unsqueeze(1)
        } else {
            vectors.tr().f_matmul(&y)?
        };
        let s = Vec::<f64>::try_from(s)?;
        let mut sum = 0.0;
        for class in 0..classes {
            let x2 = Vec::<f64>::try_from(projected.select(1, class).square())?;
            let all = y.select(1, class).sum(Kind::Double).double_value(&[]);
            sum += evidence(&s, &x2, all, n as f64, d as f64);
        }
        Ok(sum / classes as f64)
    })
}

/// Of one class: `x2` are the squares of U^T y, `all` is |y|^2.
fn evidence(s: &[f64], x2: &[f64], all: f64, n: f64, d: f64) -> f64 {
    let outside = (all - x2.iter().sum::<f64>()).max(0.0);
    let (mut alpha, mut beta) = (1.0f64, 1.0f64);
    let moments = |t: f64| {
        let each = || s.iter().zip(x2);
        let gamma: f64 = s.iter().map(|s| s / (s + t)).sum();
        let weights: f64 = each().map(|(s, x2)| s * x2 / (t + s).powi(2)).sum();
        let residual: f64 = each().map(|(s, x2)| x2 / (1.0 + s / t).powi(2)).sum();
        (gamma, weights, residual + outside)
    };
    for _ in 0..ROUNDS {
        let t = alpha / beta;
        let (gamma, weights, residual) = moments(t);
        alpha = gamma / (weights + 1e-5);
        beta = (n - gamma) / (residual + 1e-5);
        if (alpha / beta - t).abs() <= 1e-3 * t {
            break;
        }
    }
    let (_, weights, residual) = moments(alpha / beta);
    let zeros = d - s.len() as f64;
    let determinant = s.iter().map(|s| (alpha + beta * s).ln()).sum::<f64>() + zeros * alpha.ln();
    let logarithm = 0.5
        * (d * alpha.ln() + n * beta.ln()
            - determinant
            - beta * residual
            - alpha * weights
            - n * (2.0 * PI).ln());
    logarithm / n
}
