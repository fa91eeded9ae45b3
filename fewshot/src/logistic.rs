//! Multinomial logistic regression, many small problems at once, each at its exact optimum.
//!
//! Symbols: E problems (episodes), n support images, q query images, c classes (ways), D feature dimensions.
//! For every problem, with features `x_i`, weights `W` [c, D] and intercept `b` `[c]`, the minimiser of
//!
//! ```text
//! 0.5 ||W||^2 + C sum_i CE(W x_i + b, y_i)
//! ```
//!
//! is a combination of support features, `W = A^T X` with `A` [n, c], so only the Gram matrix of the features
//! is needed: `K = X X^T`: the work does not depend on D. Newton's method with a line search runs on all
//! problems at once; its step is found in one of two ways, see `logistic/newton.rs`. Nothing divides by a
//! probability or factors `K` itself, so equal images, zero images and more images than dimensions need no
//! special handling.
//!
//! This is what scikit-learn's `LogisticRegression(C=C)` solves for three classes and more. For two it
//! penalises one weight vector for the difference of the logits, which is this problem at `C / 2`.

mod newton;

use camtrast_common::{Error, Result};
use tch::{Kind, Tensor};

/// The objective and the tolerance of its minimisation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SolverOptions {
    /// Weight C of the cross-entropy against the penalty; positive.
    pub c: f64,
    /// Largest Euclidean norm of the gradient in (W, b) that counts as the optimum.
    pub tolerance: f64,
    /// Largest number of Newton steps. Unit-length features need about four.
    pub max_iterations: usize,
}

impl Default for SolverOptions {
    fn default() -> Self {
        SolverOptions {
            c: 1.0,
            tolerance: 1e-8,
            max_iterations: 100,
        }
    }
}

/// The optimum of E problems, in the span of their support images.
#[derive(Debug)]
pub struct Solution {
    /// Coefficients `A` of the support images, [E, n, c] float64; each row sums to zero.
    pub dual: Tensor,
    /// Intercepts `b`, [E, c] float64; they sum to zero over the classes.
    pub intercept: Tensor,
    /// Euclidean norm of the gradient in (W, b), `[E]` float64.
    pub gradient_norm: Tensor,
    /// Newton steps taken by the slowest problem.
    pub iterations: usize,
}

impl Solution {
    /// Weights `W = A^T X`, [E, c, D] float64, from the support features that the Gram matrices were made of,
    /// [E, n, D].
    pub fn weights(&self, support: &Tensor) -> Tensor {
        self.dual.transpose(1, 2).bmm(&support.to_kind(Kind::Double))
    }

    /// Logits [E, q, c] of queries, from their inner products with the support images, [E, q, n] float64.
    pub fn logits(&self, cross: &Tensor) -> Tensor {
        cross.bmm(&self.dual) + self.intercept.unsqueeze(1)
    }

    /// Predicted classes [E, q] int64, the largest logit's, from inner products as for [`Solution::logits`].
    pub fn predict(&self, cross: &Tensor) -> Tensor {
        self.logits(cross).argmax(-1, false)
    }
}

/// Solves E problems together.
///
/// `gram` [E, n, n] float64 holds the inner products of each problem's support features, `targets` [E, n]
/// int64 their classes in `0..ways`, on the same device. Memory peaks at about `32 E c n^2` bytes.
///
/// # Errors
/// [`Error::Settings`] when `gram` holds NaN or infinite values, when a class has no support image (its
/// intercept would have no minimum), or when a problem misses the tolerance within `max_iterations`.
pub fn fit(gram: &Tensor, targets: &Tensor, ways: i64, options: &SolverOptions) -> Result<Solution> {
    if !all(&gram.isfinite()) {
        return Err(Error::settings(
            "the support features hold NaN or infinite values",
            "compute the features again",
        ));
    }
    let labels = targets.f_one_hot(ways)?.to_kind(Kind::Double);
    if !all(&labels.sum_dim_intlist(1, false, None).gt(0.0)) {
        return Err(Error::settings(
            "a class has no support image",
            "give every class at least one",
        ));
    }
    let problem = Problem::new(gram, labels, options.c);
    let soft = problem.is_soft();
    // The Newton step from zero.
    let mut point = problem.ridge(&((&problem.labels - 1.0 / ways as f64) * options.c));
    let mut iterations = 0;
    loop {
        let gradient = problem.gradient(&point);
        let done = gradient.norm.le(options.tolerance);
        if all(&done) {
            let Point { dual, intercept, .. } = point;
            return Ok(Solution {
                dual,
                intercept: intercept.squeeze_dim(1),
                gradient_norm: gradient.norm,
                iterations,
            });
        }
        if iterations == options.max_iterations {
            return Err(missed(&done, &gradient.norm, iterations));
        }
        // A problem at its optimum is not changed while others continue.
        let active = done.logical_not().view([-1, 1, 1]);
        let direction = if soft {
            problem.iterated_direction(&gradient, &active)
        } else {
            problem.factored_direction(&point, &gradient)
        };
        point = problem.line_search(&point, &gradient, &direction, active.to_kind(Kind::Double));
        iterations += 1;
    }
}

fn missed(done: &Tensor, norm: &Tensor, iterations: usize) -> Error {
    let missed = done.logical_not().sum(Kind::Int64).int64_value(&[]);
    Error::settings(
        format!(
            "{missed} of {} classifiers did not reach their optimum in {iterations} steps (gradient norm \
             {:.1e})",
            norm.size()[0],
            norm.max().double_value(&[])
        ),
        "normalise the features or lower C",
    )
}

/// E problems, and the values that all their Newton steps share.
struct Problem<'a> {
    /// K, [E, n, n].
    gram: &'a Tensor,
    /// Y, one-hot, [E, n, c].
    labels: Tensor,
    c: f64,
    /// C / c, what the cross-entropy's Hessian is at equal probabilities on logits that sum to zero over the
    /// classes.
    curvature: f64,
    /// S = (I + C / c K)^-1, [E, n, n].
    smoother: Tensor,
    /// S 1, [E, n, 1].
    smooth_ones: Tensor,
}

/// The current point of the minimisation, or a direction: A [E, n, c] with columns and rows that sum to zero,
/// b [E, 1, c] and f = K A + b [E, n, c].
struct Point {
    dual: Tensor,
    intercept: Tensor,
    logits: Tensor,
}

/// The gradient in (W, b) is `(G^T X, 1^T G)`, so that its product with a direction is that of G with the
/// direction's logits.
struct Gradient {
    /// P, softmax of the logits, [E, n, c].
    probabilities: Tensor,
    /// G = A + C (P - Y), [E, n, c]; its rows sum to zero.
    residual: Tensor,
    /// K G, [E, n, c].
    gram_residual: Tensor,
    /// Euclidean norm of the gradient in (W, b), `[E]`.
    norm: Tensor,
}

impl<'a> Problem<'a> {
    fn new(gram: &'a Tensor, labels: Tensor, c: f64) -> Self {
        let curvature = c / labels.size()[2] as f64;
        let smoother = cholesky(&add_to_diagonal(gram * curvature, 1.0)).cholesky_inverse(false);
        let smooth_ones = smoother.sum_dim_intlist(-1, true, None);
        Problem {
            gram,
            labels,
            c,
            curvature,
            smoother,
            smooth_ones,
        }
    }

    fn point(&self, dual: Tensor, intercept: Tensor) -> Point {
        let logits = self.gram.bmm(&dual) + &intercept;
        Point {
            dual,
            intercept,
            logits,
        }
    }

    /// The direction d that solves `Hessian d = (R^T X, 1^T R)` for the Hessian at equal probabilities; R [E,
    /// n, c].
    fn ridge(&self, right: &Tensor) -> Point {
        let solved = self.smoother.bmm(right);
        // The intercept is what makes each column of A sum to zero.
        let shift = sum_images(&solved) / sum_images(&self.smooth_ones);
        self.point(solved - &self.smooth_ones * &shift, shift / self.curvature)
    }

    fn gradient(&self, at: &Point) -> Gradient {
        let probabilities = at.logits.softmax(-1, Kind::Double);
        let residual = &at.dual + (&probabilities - &self.labels) * self.c;
        let (intercept, gram_residual) = (sum_images(&residual), self.gram.bmm(&residual));
        // Rounding can leave a singular K's quadratic form just below zero.
        let squared = dot(&residual, &gram_residual).clamp_min(0.0) + dot(&intercept, &intercept);
        Gradient {
            probabilities,
            residual,
            gram_residual,
            norm: squared.sqrt().view([-1]),
        }
    }

    /// Halves the step, from `longest` [E, 1, 1], until the objective falls by a fraction of the decrease
    /// that the slope predicts. With a convex objective and Newton directions this makes the method converge
    /// from anywhere.
    fn line_search(&self, from: &Point, gradient: &Gradient, direction: &Point, longest: Tensor) -> Point {
        const PART: f64 = 1e-4;
        const HALVINGS: usize = 50;
        let before = self.objective(from);
        let slope = dot(&gradient.residual, &direction.logits);
        // Near the optimum the decrease is smaller than the objective's rounding error.
        let rounding = (before.abs() + 1.0) * 1e-13;
        let mut step = longest;
        for _ in 0..HALVINGS {
            let there = from.moved(direction, &step);
            let enough = self
                .objective(&there)
                .le_tensor(&(&before + &slope * &step * PART + &rounding));
            if all(&enough) {
                break;
            }
            step = step.where_self(&enough, &(&step * 0.5));
        }
        let Point { dual, intercept, .. } = from.moved(direction, &step);
        self.point(dual, intercept)
    }

    /// [E, 1, 1].
    fn objective(&self, at: &Point) -> Tensor {
        let penalty = dot(&at.dual, &(&at.logits - &at.intercept)) * 0.5;
        let entropy =
            at.logits.logsumexp(-1, true) - (&at.logits * &self.labels).sum_dim_intlist(-1, true, None);
        penalty + sum_images(&entropy) * self.c
    }
}

impl Point {
    fn moved(&self, direction: &Point, step: &Tensor) -> Point {
        Point {
            dual: &self.dual + &direction.dual * step,
            intercept: &self.intercept + &direction.intercept * step,
            logits: &self.logits + &direction.logits * step,
        }
    }
}

fn all(condition: &Tensor) -> bool {
    condition.all().int64_value(&[]) != 0
}

/// Lower factors. Unchecked: where rounding leaves a matrix indefinite, no step is good and [`fit`] reports
/// it.
fn cholesky(matrices: &Tensor) -> Tensor {
    matrices.linalg_cholesky_ex(false, false).0
}

fn add_to_diagonal(matrices: Tensor, value: f64) -> Tensor {
    let _ = matrices.diagonal(0, -2, -1).g_add_scalar_(value);
    matrices
}

/// Inner products of [E, ., .] with [E, ., .]: [E, 1, 1].
fn dot(a: &Tensor, b: &Tensor) -> Tensor {
    (a * b).sum_dim_intlist([1, 2].as_slice(), true, None)
}

/// [E, n, .] to [E, 1, .].
fn sum_images(values: &Tensor) -> Tensor {
    values.sum_dim_intlist(1, true, None)
}
