//! Two ways to the Newton step `Hessian d = -gradient`, symbols as in [`super`]. If no probability saturates,
//! as with unit-length features at C = 1, the Hessian is close to the one at equal probabilities. That one is
//! ridge regression, a single n x n factorisation for all classes and steps, and conjugate gradients
//! preconditioned by it need a few products of [c, n] with [n, n]. If they saturate, conjugate gradients
//! become slow and inaccurate in directions that are in the null space of a singular K. Then the structure of
//! the softmax Hessian gives an exact step with c + 1 factorisations (Rasmussen & Williams, Gaussian
//! Processes for Machine Learning, algorithm 3.3), extended here by the unpenalised intercept: a bordered c x
//! c system.

use super::{Gradient, Point, Problem, inner};
use crate::matrix::{Cholesky, Matrix, eliminate};

impl Problem<'_> {
    /// Whether conjugate gradients suit this problem: the longest feature decides how far probabilities can
    /// saturate.
    pub(super) fn is_soft(&self) -> bool {
        const LARGEST: f64 = 10.0;
        self.c * self.gram.largest_on_diagonal() <= LARGEST
    }

    /// Solves `Hessian d = -gradient` by preconditioned conjugate gradients. Stopped early, it is still a
    /// descent direction.
    pub(super) fn iterated_direction(&self, gradient: &Gradient) -> Point {
        const REDUCTION: f64 = 1e-3;
        const STEPS: usize = 500;
        let p = &gradient.probabilities;
        let (ways, n) = (p.rows(), p.columns());
        let mut remaining = gradient.residual.with(p, |g, _| -g);
        let mut along = self.ridge(&remaining);
        let mut size = inner(&remaining, &along.logits);
        let enough = size * (REDUCTION * REDUCTION);
        let mut found = Point {
            dual: Matrix::zeros(ways, n),
            intercept: vec![0.0; ways],
            logits: Matrix::zeros(ways, n),
        };
        for _ in 0..STEPS {
            let mut curved = self.curved(p, &along.logits);
            curved.add(1.0, &along.dual);
            let curvature = inner(&curved, &along.logits);
            // The search ends where rounding leaves the Hessian without curvature.
            if curvature.is_nan() || curvature <= 0.0 {
                break;
            }
            let length = size / curvature;
            found = found.moved(&along, length);
            remaining.add(-length, &curved);
            let next = self.ridge(&remaining);
            let next_size = inner(&remaining, &next.logits);
            if next_size.is_nan() || next_size <= enough {
                break;
            }
            along = next.moved(&along, next_size / size);
            size = next_size;
        }
        found
    }

    /// The Hessian of the cross-entropy in the logits, times `logits`: C (P f - P sum_classes(P f)).
    fn curved(&self, p: &Matrix, logits: &Matrix) -> Matrix {
        let mut weighted = p.with(logits, |p, f| p * f * self.c);
        let sums = class_sums(&weighted);
        for class in 0..p.rows() {
            let pairs = p.row(class).iter().zip(&sums);
            let row = weighted.row_mut(class);
            row.iter_mut()
                .zip(pairs)
                .for_each(|(own, (p, sum))| *own -= p * sum);
        }
        weighted
    }

    /// Solves the Newton system `dA + H (dA K + db) = -G`, with dA's rows making A's sum to zero; H, the
    /// Hessian of the cross-entropy in the logits, is `D - D R (R^T D R)^-1 R^T D` with `D = C diag(P)` and R
    /// summing over classes.
    ///
    /// With Q = (K + H^+)^-1 on logits that sum to zero, `dA = Q (G K - db) - G`, and
    /// `Q v = E v - E R (R^T E R)^-1 R^T E v` with `E_k = (D_k^-1 + K)^-1` for class k.
    pub(super) fn factored_direction(&self, at: &Point, gradient: &Gradient) -> Point {
        let (ways, n) = (self.labels.rows(), self.labels.columns());
        // E_k = V_k^T V_k: D_k^1/2 (I + D_k^1/2 K D_k^1/2)^-1 D_k^1/2. Never multiplied out for a vector,
        // which loses digits where features are long.
        let halves: Vec<[Matrix; 2]> = gradient
            .probabilities
            .each_row()
            .map(|p| self.halves(p))
            .collect();
        let mut sum = Matrix::zeros(n, n);
        halves
            .iter()
            .for_each(|[transposed, half]| sum.add(1.0, &transposed.times(half)));
        let sum = Cholesky::new(sum);
        let each = |vector: &dyn Fn(usize) -> Matrix| {
            let mut result = Matrix::zeros(ways, n);
            for (class, [transposed, half]) in halves.iter().enumerate() {
                let product = vector(class).times(transposed).times(half);
                result.row_mut(class).copy_from_slice(product.values());
            }
            result
        };
        let row = |values: &[f64]| Matrix::from_fn(1, n, |_, i| values[i]);
        let q = |v: &Matrix| {
            let mut pulled = each(&|class| row(v.row(class)));
            let mut shared = class_sums(&pulled);
            sum.solve(&mut shared);
            pulled.add(-1.0, &each(&|_| row(&shared)));
            pulled
        };

        let mut free = q(&gradient.gram_residual);
        free.add(-1.0, &gradient.residual);
        // Q applied to the intercept of each class: how the sums of dA's rows answer to db.
        let of_class = |class: usize| Matrix::from_fn(ways, n, |k, _| f64::from(u8::from(k == class)));
        let answers: Vec<Matrix> = (0..ways).map(|class| q(&of_class(class))).collect();
        let sums: Vec<Vec<f64>> = answers.iter().map(Matrix::row_sums).collect();
        // Equal intercepts change nothing: fill that null direction at the matrix's own scale, so that db
        // sums to zero.
        let scale = (0..ways).map(|k| sums[k][k]).sum::<f64>() / (ways * ways) as f64;
        let border = Matrix::from_fn(ways, ways, |j, k| sums[k][j] + scale);
        let wanted = free.row_sums().into_iter().zip(at.dual.row_sums());
        let mut intercept: Vec<f64> = wanted.map(|(free, own)| free + own).collect();
        eliminate(border, &mut intercept);
        answers
            .iter()
            .zip(&intercept)
            .for_each(|(answer, b)| free.add(-b, answer));
        self.point(free, intercept)
    }

    /// V^T and V, whose product is E of a class with these probabilities.
    fn halves(&self, probabilities: &[f64]) -> [Matrix; 2] {
        let root: Vec<f64> = probabilities.iter().map(|p| (p * self.c).sqrt()).collect();
        let n = root.len();
        let scaled = |i: usize, j: usize| root[i] * root[j] * self.gram.row(i)[j];
        let matrix = Matrix::from_fn(n, n, |i, j| scaled(i, j) + f64::from(u8::from(i == j)));
        let mut half = Cholesky::new(matrix).inverse_factor();
        for row in 0..n {
            half.row_mut(row)
                .iter_mut()
                .zip(&root)
                .for_each(|(value, root)| *value *= root);
        }
        [Matrix::from_fn(n, n, |i, j| half.row(j)[i]), half]
    }
}

/// Sums over the classes, [c, n] to `[n]`.
fn class_sums(matrix: &Matrix) -> Vec<f64> {
    let mut sums = vec![0.0; matrix.columns()];
    for row in matrix.each_row() {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    sums
}
