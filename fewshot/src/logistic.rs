//! Multinomial logistic regression on few images, at its exact optimum.
//!
//! Symbols: n support images, q query images, c classes (ways), D feature dimensions. With features `x_i`,
//! weights `W` [c, D] and intercept `b` `[c]`, the minimiser of
//!
//! ```text
//! 0.5 ||W||^2 + C sum_i CE(W x_i + b, y_i)
//! ```
//!
//! is a combination of support features, `W = A X` with `A` [c, n], so only the Gram matrix of the features
//! is needed: `K = X X^T`: the work does not depend on D. Newton's method with a line search finds it; its
//! step is found in one of two ways, see `logistic/newton.rs`. Nothing divides by a probability or factors
//! `K` itself, so equal images, zero images and more images than dimensions need no special handling.
//!
//! This is what scikit-learn's `LogisticRegression(C=C)` solves for three classes and more. For two it
//! penalises one weight vector for the difference of the logits, which is this problem at `C / 2`.

mod newton;

use crate::matrix::{Cholesky, Matrix, add_scaled, dot};
use camtrast_common::{Error, Result};

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

/// The optimum, in the span of the support images.
#[derive(Debug)]
pub struct Solution {
    /// Coefficients `A` of the support images, [c, n]; they sum to zero over the classes.
    pub dual: Matrix,
    /// Intercepts `b`, `[c]`; they sum to zero.
    pub intercept: Vec<f64>,
    /// Euclidean norm of the gradient in (W, b).
    pub gradient_norm: f64,
    /// Newton steps taken.
    pub iterations: usize,
}

impl Solution {
    /// Weights `W = A X`, [c, D], from the support features that the Gram matrix was made of, [n, D].
    pub fn weights(&self, support: &Matrix) -> Matrix {
        self.dual.times(support)
    }

    /// Logits [c, q] of queries, from the inner products of the support images with them, [n, q].
    pub fn logits(&self, cross: &Matrix) -> Matrix {
        shifted(self.dual.times(cross), &self.intercept)
    }

    /// Predicted classes `[q]`, the largest logit's, from inner products as for [`Solution::logits`].
    pub fn predict(&self, cross: &Matrix) -> Vec<usize> {
        let logits = self.logits(cross);
        let largest = |query: usize| {
            let of_class = |class: &usize| logits.row(*class)[query];
            let better = |best, class| {
                if of_class(&class) > of_class(&best) {
                    class
                } else {
                    best
                }
            };
            (0..logits.rows()).reduce(better).unwrap_or_default()
        };
        (0..cross.columns()).map(largest).collect()
    }
}

/// Finds the optimum.
///
/// `gram` [n, n] holds the inner products of the support features, `targets` `[n]` their classes in
/// `0..ways`.
///
/// # Errors
/// [`Error::Settings`] when `gram` holds NaN or infinite values, when a class has no support image (its
/// intercept would have no minimum), or when the tolerance is not met within `max_iterations`.
pub fn fit(gram: &Matrix, targets: &[usize], ways: usize, options: &SolverOptions) -> Result<Solution> {
    if !gram.values().iter().all(|product| product.is_finite()) {
        return Err(Error::settings(
            "the support features hold NaN or infinite values",
            "compute the features again",
        ));
    }
    if !(0..ways).all(|class| targets.contains(&class)) {
        return Err(Error::settings(
            "a class has no support image",
            "give every class at least one",
        ));
    }
    let labels = Matrix::from_fn(ways, targets.len(), |k, i| f64::from(u8::from(targets[i] == k)));
    let problem = Problem::new(gram, labels, options.c);
    // The Newton step from zero.
    let labels = &problem.labels;
    let mut point = problem.ridge(&labels.with(labels, |y, _| (y - 1.0 / ways as f64) * options.c));
    let soft = problem.is_soft();
    // Below this a gradient of features so long is rounding in float64.
    let longest = gram.largest_on_diagonal().sqrt();
    let tolerance = options
        .tolerance
        .max(1e-14 * options.c * longest * targets.len() as f64);
    for iterations in 0.. {
        let gradient = problem.gradient(&point);
        if gradient.norm <= tolerance {
            let Point { dual, intercept, .. } = point;
            return Ok(Solution {
                dual,
                intercept,
                gradient_norm: gradient.norm,
                iterations,
            });
        }
        if iterations == options.max_iterations {
            let norm = gradient.norm;
            return Err(Error::settings(
                format!(
                    "a classifier did not reach its optimum in {iterations} steps (gradient norm {norm:.1e})"
                ),
                "normalise the features or lower C",
            ));
        }
        let direction = if soft {
            problem.iterated_direction(&gradient)
        } else {
            problem.factored_direction(&point, &gradient)
        };
        point = problem.line_search(point, &gradient, &direction);
    }
    unreachable!("the loop ends with an answer")
}

/// The problem, and the values that all its Newton steps share.
struct Problem<'a> {
    /// K, [n, n].
    gram: &'a Matrix,
    /// Y, one-hot, [c, n].
    labels: Matrix,
    c: f64,
    /// C / c, what the cross-entropy's Hessian is at equal probabilities on logits that sum to zero over the
    /// classes.
    curvature: f64,
    /// I + C / c K = S^-1, factored.
    smoother: Cholesky,
    /// S 1, `[n]`.
    smooth_ones: Vec<f64>,
}

/// The current point of the minimisation, or a direction: A [c, n] with rows and columns that sum to zero, b
/// `[c]` and f = A K + b [c, n].
struct Point {
    dual: Matrix,
    intercept: Vec<f64>,
    logits: Matrix,
}

/// The gradient in (W, b) is `(G X, G 1)`, so that its product with a direction is that of G with the
/// direction's logits.
struct Gradient {
    /// P, softmax of the logits, [c, n].
    probabilities: Matrix,
    /// G = A + C (P - Y), [c, n]; its columns sum to zero.
    residual: Matrix,
    /// G K, [c, n].
    gram_residual: Matrix,
    /// Euclidean norm of the gradient in (W, b).
    norm: f64,
}

impl<'a> Problem<'a> {
    fn new(gram: &'a Matrix, labels: Matrix, c: f64) -> Self {
        let curvature = c / labels.rows() as f64;
        let identity = |i, j| f64::from(u8::from(i == j));
        let n = gram.rows();
        let smoother = Cholesky::new(Matrix::from_fn(n, n, |i, j| {
            identity(i, j) + curvature * gram.row(i)[j]
        }));
        let mut smooth_ones = vec![1.0; n];
        smoother.solve(&mut smooth_ones);
        Problem {
            gram,
            labels,
            c,
            curvature,
            smoother,
            smooth_ones,
        }
    }

    fn point(&self, dual: Matrix, intercept: Vec<f64>) -> Point {
        let logits = shifted(dual.times(self.gram), &intercept);
        Point {
            dual,
            intercept,
            logits,
        }
    }

    /// The direction d that solves `Hessian d = (R X, R 1)` for the Hessian at equal probabilities; R [c, n].
    fn ridge(&self, right: &Matrix) -> Point {
        let (mut solved, mut intercept) = (right.clone(), Vec::with_capacity(right.rows()));
        let sum_of_ones: f64 = self.smooth_ones.iter().sum();
        for class in 0..solved.rows() {
            let row = solved.row_mut(class);
            self.smoother.solve(row);
            // The intercept is what makes each row of A sum to zero.
            let shift = row.iter().sum::<f64>() / sum_of_ones;
            add_scaled(row, -shift, &self.smooth_ones);
            intercept.push(shift / self.curvature);
        }
        self.point(solved, intercept)
    }

    fn gradient(&self, at: &Point) -> Gradient {
        let entropies = log_sum_exp(&at.logits);
        let (ways, n) = (at.logits.rows(), entropies.len());
        let probabilities = Matrix::from_fn(ways, n, |k, i| (at.logits.row(k)[i] - entropies[i]).exp());
        let mut residual = probabilities.with(&self.labels, |p, y| (p - y) * self.c);
        residual.add(1.0, &at.dual);
        let gram_residual = residual.times(self.gram);
        let intercept = residual.row_sums();
        // Rounding can leave a singular K's quadratic form just below zero.
        let squared = inner(&residual, &gram_residual).max(0.0) + dot(&intercept, &intercept);
        Gradient {
            probabilities,
            residual,
            gram_residual,
            norm: squared.sqrt(),
        }
    }

    /// Halves the step until the objective falls by a fraction of the decrease that the slope predicts. With
    /// a convex objective and Newton directions this makes the method converge from anywhere.
    fn line_search(&self, from: Point, gradient: &Gradient, direction: &Point) -> Point {
        const PART: f64 = 1e-4;
        const HALVINGS: i32 = 50;
        let before = self.objective(&from);
        let slope = inner(&gradient.residual, &direction.logits);
        // Near the optimum the decrease is smaller than the objective's rounding error.
        let rounding = (before.abs() + 1.0) * 1e-13;
        let falls = |step: &f64| {
            self.objective(&from.moved(direction, *step)) <= before + slope * step * PART + rounding
        };
        let mut steps = (0..HALVINGS).map(|halvings| 0.5f64.powi(halvings));
        let step = steps.find(falls).unwrap_or(0.5f64.powi(HALVINGS));
        let Point { dual, intercept, .. } = from.moved(direction, step);
        self.point(dual, intercept)
    }

    fn objective(&self, at: &Point) -> f64 {
        let without_intercept: f64 = at
            .dual
            .row_sums()
            .iter()
            .zip(&at.intercept)
            .map(|(a, b)| a * b)
            .sum();
        let penalty = (inner(&at.dual, &at.logits) - without_intercept) * 0.5;
        let entropy: f64 = log_sum_exp(&at.logits).iter().sum();
        penalty + (entropy - inner(&at.logits, &self.labels)) * self.c
    }
}

impl Point {
    fn moved(&self, direction: &Point, step: f64) -> Point {
        let (mut dual, mut logits) = (self.dual.clone(), self.logits.clone());
        let mut intercept = self.intercept.clone();
        dual.add(step, &direction.dual);
        logits.add(step, &direction.logits);
        add_scaled(&mut intercept, step, &direction.intercept);
        Point {
            dual,
            intercept,
            logits,
        }
    }
}

/// Adds to each row its value.
fn shifted(mut matrix: Matrix, values: &[f64]) -> Matrix {
    for (class, value) in values.iter().enumerate() {
        matrix.row_mut(class).iter_mut().for_each(|v| *v += value);
    }
    matrix
}

/// log sum exp over the classes: [c, n] to `[n]`.
fn log_sum_exp(logits: &Matrix) -> Vec<f64> {
    let mut largest = vec![f64::NEG_INFINITY; logits.columns()];
    for row in logits.each_row() {
        largest
            .iter_mut()
            .zip(row)
            .for_each(|(most, logit)| *most = logit.max(*most));
    }
    let mut sums = vec![0.0; largest.len()];
    for row in logits.each_row() {
        let terms = row.iter().zip(&largest).map(|(logit, most)| (logit - most).exp());
        sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
    }
    sums.iter()
        .zip(&largest)
        .map(|(sum, most)| sum.ln() + most)
        .collect()
}

/// The sum of the products at every place.
fn inner(a: &Matrix, b: &Matrix) -> f64 {
    dot(a.values(), b.values())
}
