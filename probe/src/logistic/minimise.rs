//! L-BFGS (Nocedal & Wright, Numerical Optimization, algorithm 7.4) that begins every step from the Hessian
//! `I + C N p (S x I)`, S the covariance of the features and p the mean curvature of the loss, instead of a
//! multiple of the identity. It is exact where all images are equally certain, takes one factorisation of a
//! [D, D] matrix, and leaves tens of steps where plain L-BFGS takes hundreds.

use camtrast_common::{Error, Result};
use std::collections::VecDeque;
use tch::{Kind, Tensor};

/// How close to the optimum is close enough: the root mean square, over images, of the error of logits,
/// weighted with the curvature of the loss.
pub const TOLERANCE: f64 = 1e-6;
/// The same where only a choice depends on it: an image whose two best logits are closer is one in thousands.
pub const ROUGH: f64 = 1e-4;

/// Pairs of steps and gradient changes that are remembered.
const MEMORY: usize = 20;
/// Evaluations after which the search has failed.
const EVALUATIONS: usize = 20_000;
/// Part of the decrease predicted by the slope that a step must reach.
const PART: f64 = 1e-4;

/// An objective at a point.
pub(super) struct Value {
    pub(super) objective: f64,
    /// [c, D + 1] float64.
    pub(super) gradient: Tensor,
    /// p.
    pub(super) curvature: f64,
}

/// What is minimised over [c, D + 1].
pub(super) struct Minimiser<'a, F> {
    /// The objective, with its products in the precision given.
    pub(super) objective: F,
    /// S.
    pub(super) covariance: &'a Tensor,
    /// C N.
    pub(super) weight: f64,
}

struct Pair {
    step: Tensor,
    change: Tensor,
    /// Inverse of their inner product.
    inverse: f64,
}

impl<F: Fn(&Tensor, Kind) -> Value> Minimiser<'_, F> {
    pub(super) fn run(&self, start: &Tensor, tolerance: f64) -> Result<Tensor> {
        let mut at = start.copy();
        let mut kind = Kind::Float;
        let mut value = (self.objective)(&at, kind);
        let factor = self.factor(value.curvature);
        let precondition = |gradient: &Tensor| gradient.tr().cholesky_solve(&factor, false).tr();
        let mut pairs = VecDeque::with_capacity(MEMORY);
        let mut evaluations = 1;
        loop {
            let direction = direction(&value.gradient, &pairs, precondition);
            let slope = dot(&value.gradient, &direction);
            let rough = if kind == Kind::Float {
                tolerance.max(ROUGH)
            } else {
                tolerance
            };
            // Minus the slope is about twice what the objective is above its minimum.
            let near = -slope <= rough * rough * self.weight;
            if near && (kind == Kind::Double || tolerance >= ROUGH) {
                return Ok(at);
            }
            let next = match near {
                true => None,
                false => self.search(&at, &value, &direction, slope, kind, &mut evaluations),
            };
            if evaluations > EVALUATIONS || next.is_none() && kind == Kind::Double {
                return Err(Error::settings(
                    format!("the linear classifier did not reach its optimum in {evaluations} evaluations"),
                    "normalise the features (--normalize batch-norm) or lower --c",
                ));
            }
            let Some((there, found)) = next else {
                // As far as float32 goes.
                kind = Kind::Double;
                value = (self.objective)(&at, kind);
                continue;
            };
            let (step, change) = (&there - &at, &found.gradient - &value.gradient);
            let product = dot(&step, &change);
            if product > 0.0 {
                if pairs.len() == MEMORY {
                    pairs.pop_front();
                }
                pairs.push_back(Pair {
                    step,
                    change,
                    inverse: 1.0 / product,
                });
            }
            (at, value) = (there, found);
        }
    }

    /// Lower factor of the first Hessian, [D + 1, D + 1]; the intercept is not penalised and features are
    /// centred.
    fn factor(&self, curvature: f64) -> Tensor {
        let weight = self.weight * curvature.max(1e-6);
        let d = self.covariance.size()[0];
        let hessian = Tensor::zeros([d + 1, d + 1], (Kind::Double, self.covariance.device()));
        let mut corner = hessian.narrow(0, 0, d).narrow(1, 0, d);
        corner.copy_(&(self.covariance * weight));
        let mut diagonal = hessian.diagonal(0, 0, 1);
        diagonal += 1.0 + 1e-6 * self.covariance.diagonal(0, 0, 1).max().double_value(&[]) * weight;
        let _ = diagonal.narrow(0, d, 1).fill_(weight);
        hessian.linalg_cholesky_ex(false, false).0
    }

    /// Halves the step until the objective falls enough; `None` when it does not, as rounding forbids.
    fn search(
        &self,
        at: &Tensor,
        value: &Value,
        direction: &Tensor,
        slope: f64,
        kind: Kind,
        evaluations: &mut usize,
    ) -> Option<(Tensor, Value)> {
        let rounding = value.objective.abs() * if kind == Kind::Float { 1e-7 } else { 1e-13 };
        if -slope < rounding {
            return None;
        }
        let mut length = 1.0;
        for _ in 0..30 {
            let there = at + direction * length;
            let found = (self.objective)(&there, kind);
            *evaluations += 1;
            if found.objective <= value.objective + PART * length * slope + rounding {
                return Some((there, found));
            }
            length /= 2.0;
        }
        None
    }
}

/// The two-loop recursion.
fn direction(gradient: &Tensor, pairs: &VecDeque<Pair>, precondition: impl Fn(&Tensor) -> Tensor) -> Tensor {
    let mut left = gradient.copy();
    let mut shares = Vec::with_capacity(pairs.len());
    for pair in pairs.iter().rev() {
        let share = pair.inverse * dot(&pair.step, &left);
        left -= &pair.change * share;
        shares.push(share);
    }
    let mut found = precondition(&left);
    if let Some(last) = pairs.back() {
        found *= 1.0 / (last.inverse * dot(&last.change, &precondition(&last.change)));
    }
    for (pair, share) in pairs.iter().zip(shares.into_iter().rev()) {
        let other = pair.inverse * dot(&pair.change, &found);
        found += &pair.step * (share - other);
    }
    -found
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    (a * b).sum(Kind::Double).double_value(&[])
}
