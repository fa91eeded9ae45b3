//! Two ways to the Newton step `Hessian d = -gradient`, symbols as in [`super`]. If no probability saturates,
//! as with unit-length features at C = 1, the Hessian is close to the one at equal probabilities. That one is
//! ridge regression, a single n x n factorisation for all classes and steps, and conjugate gradients
//! preconditioned by it need a few products of [n, n] with [n, c]. If they saturate, conjugate gradients
//! become slow and inaccurate in directions that are in the null space of a singular K. Then the structure of
//! the softmax Hessian gives an exact step with c + 1 factorisations (Rasmussen & Williams, Gaussian
//! Processes for Machine Learning, algorithm 3.3), extended here by the unpenalised intercept: a bordered c x
//! c system.

use super::{Gradient, Point, Problem, add_to_diagonal, cholesky, dot, sum_images};
use tch::Tensor;

impl Problem<'_> {
    /// Whether conjugate gradients suit these problems: the longest feature decides how far probabilities can
    /// saturate.
    pub(super) fn is_soft(&self) -> bool {
        const LARGEST: f64 = 10.0;
        self.c * self.gram.diagonal(0, -2, -1).max().double_value(&[]) <= LARGEST
    }

    /// Solves `Hessian d = -gradient` by preconditioned conjugate gradients, for the problems in `active` [E,
    /// 1, 1]; zero for the others. Stopped early, it is still a descent direction.
    pub(super) fn iterated_direction(&self, gradient: &Gradient, active: &Tensor) -> Point {
        const REDUCTION: f64 = 1e-3;
        const STEPS: usize = 500;
        let p = &gradient.probabilities;
        let mut active = active.shallow_clone();
        let mut remaining = -&gradient.residual;
        let mut along = self.ridge(&remaining);
        let mut size = dot(&remaining, &along.logits);
        let enough = &size * (REDUCTION * REDUCTION);
        let zero = remaining.zeros_like();
        let mut found = Point {
            dual: zero.copy(),
            intercept: sum_images(&zero),
            logits: zero,
        };
        for _ in 0..STEPS {
            let weighted = p * &along.logits;
            let curved = (&weighted - p * weighted.sum_dim_intlist(-1, true, None)) * self.c + &along.dual;
            let curvature = dot(&curved, &along.logits);
            // The search ends where rounding leaves the Hessian without curvature.
            active = active.logical_and(&curvature.gt(0.0));
            let length = only(&active, &size / curvature);
            found = found.moved(&along, &length);
            remaining -= curved * &length;
            let next = self.ridge(&remaining);
            let next_size = dot(&remaining, &next.logits);
            active = active.logical_and(&next_size.gt_tensor(&enough));
            if !any(&active) {
                break;
            }
            along = next.moved(&along, &only(&active, &next_size / &size));
            size = next_size;
        }
        found
    }

    /// Solves the Newton system `dA + H (K dA + db) = -G`, with dA's columns making A's sum to zero; H, the
    /// Hessian of the cross-entropy in the logits, is `D - D R (R^T D R)^-1 R^T D` with `D = C diag(P)` and R
    /// summing over classes.
    ///
    /// With Q = (K + H^+)^-1 on logits that sum to zero, `dA = Q (K G - db) - G`, and
    /// `Q v = E v - E R (R^T E R)^-1 R^T E v` with `E_k = (D_k^-1 + K)^-1` for class k.
    pub(super) fn factored_direction(&self, at: &Point, gradient: &Gradient) -> Point {
        let (n, ways) = (self.labels.size()[1], self.labels.size()[2]);
        // E_k = V_k^T V_k with V_k = L_k^-1 D_k^1/2, L_k L_k^T = I + D_k^1/2 K D_k^1/2.
        let root = (&gradient.probabilities * self.c)
            .sqrt()
            .transpose(1, 2)
            .contiguous();
        let scaled = self.gram.unsqueeze(1) * root.unsqueeze(3) * root.unsqueeze(2);
        let factor = cholesky(&add_to_diagonal(scaled, 1.0));
        let v = factor.linalg_solve_triangular(&root.diag_embed(0, -2, -1), false, true, false);
        let apply = |columns: &Tensor| v.transpose(2, 3).matmul(&v.matmul(columns));
        let stacked = v.reshape([-1, ways * n, n]);
        let sum = cholesky(&stacked.transpose(1, 2).bmm(&stacked));

        // Q applied to K G, and to the intercept's columns: [E, n, c] each.
        let columns = Tensor::stack(&[gradient.gram_residual.transpose(1, 2), root.ones_like()], -1);
        let blocks = apply(&columns).transpose(1, 2);
        let (pulled, ones) = (blocks.select(3, 0), blocks.select(3, 1));
        let summed = Tensor::cat(&[&pulled.sum_dim_intlist(-1, true, None), &ones], 2);
        let shared = summed.cholesky_solve(&sum, false);
        let (shared_pulled, shared_ones) = (shared.narrow(2, 0, 1), shared.narrow(2, 1, ways));

        // R^T E of a [E, n, 1] vector that all classes share, laid out [E, n, c].
        let spread = |vector: &Tensor| apply(&vector.unsqueeze(1)).squeeze_dim(3).transpose(1, 2);
        let free = pulled - spread(&shared_pulled) - &gradient.residual;
        let border =
            sum_images(&ones).squeeze_dim(1).diag_embed(0, -2, -1) - ones.transpose(1, 2).bmm(&shared_ones);
        // Equal intercepts change nothing: fill that null direction at the matrix's own scale, so that db
        // sums to zero.
        let scale = border
            .diagonal(0, -2, -1)
            .sum_dim_intlist(-1, false, None)
            .view([-1, 1, 1])
            / (ways * ways) as f64;
        let wanted = (sum_images(&free) + sum_images(&at.dual)).transpose(1, 2);
        let (intercept, _) = Tensor::linalg_solve_ex(&(border + scale), &wanted, true, false);
        let held = &ones * intercept.transpose(1, 2) - spread(&shared_ones.bmm(&intercept));
        self.point(free - held, intercept.transpose(1, 2).contiguous())
    }
}

fn any(condition: &Tensor) -> bool {
    condition.any().int64_value(&[]) != 0
}

/// The values of the problems in `active`, zero (in place of a meaningless quotient) for others.
fn only(active: &Tensor, values: Tensor) -> Tensor {
    values.where_self(active, &values.zeros_like())
}
