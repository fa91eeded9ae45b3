//! Small dense matrices in float64, row by row, and Cholesky's factorisation.

/// A matrix [rows, columns].
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    columns: usize,
    values: Vec<f64>,
}

impl Matrix {
    /// Zeros.
    pub fn zeros(rows: usize, columns: usize) -> Self {
        Matrix {
            columns,
            values: vec![0.0; rows * columns],
        }
    }

    /// From the value at every row and column.
    pub fn from_fn(rows: usize, columns: usize, value: impl Fn(usize, usize) -> f64) -> Self {
        let values = (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j)));
        Matrix {
            columns,
            values: values.map(|(i, j)| value(i, j)).collect(),
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.columns
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// A row.
    pub fn row(&self, index: usize) -> &[f64] {
        &self.values[index * self.columns..][..self.columns]
    }

    /// A row, to be changed.
    pub fn row_mut(&mut self, index: usize) -> &mut [f64] {
        &mut self.values[index * self.columns..][..self.columns]
    }

    /// All rows.
    pub fn each_row(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.columns)
    }

    /// The largest value on the diagonal.
    pub fn largest_on_diagonal(&self) -> f64 {
        let diagonal = self.values.iter().step_by(self.columns + 1);
        diagonal.copied().fold(f64::NEG_INFINITY, f64::max)
    }

    /// The sum of each row.
    pub fn row_sums(&self) -> Vec<f64> {
        self.each_row().map(|row| row.iter().sum()).collect()
    }

    /// The value of `combine` for the two values at every place.
    pub fn with(&self, other: &Matrix, combine: impl Fn(f64, f64) -> f64) -> Matrix {
        let pairs = self.values.iter().zip(&other.values);
        Matrix {
            columns: self.columns,
            values: pairs.map(|(a, b)| combine(*a, *b)).collect(),
        }
    }

    /// Adds `factor` times another matrix.
    pub fn add(&mut self, factor: f64, other: &Matrix) {
        add_scaled(&mut self.values, factor, &other.values);
    }

    /// The product with another matrix.
    pub fn times(&self, right: &Matrix) -> Matrix {
        let mut product = Matrix::zeros(self.rows(), right.columns);
        for (i, factors) in self.each_row().enumerate() {
            for (factor, row) in factors.iter().zip(right.each_row()) {
                add_scaled(product.row_mut(i), *factor, row);
            }
        }
        product
    }
}

/// Adds `factor` times `b` to `a`.
pub fn add_scaled(a: &mut [f64], factor: f64, b: &[f64]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += factor * b);
}

/// The inner product.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    // Several sums at a time, because a single one waits for every addition.
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        (0..8).for_each(|i| sums[i] += a[i] * b[i]);
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

/// The lower factor L of a positive definite matrix L L^T.
pub struct Cholesky {
    lower: Matrix,
}

impl Cholesky {
    /// Reads the lower half of `matrix`. Unchecked: where rounding leaves a matrix indefinite, the factor
    /// holds NaN.
    pub fn new(mut matrix: Matrix) -> Self {
        for i in 0..matrix.rows() {
            let (above, own) = matrix.values.split_at_mut(i * matrix.columns);
            for j in 0..i {
                let row = &above[j * matrix.columns..][..=j];
                own[j] = (own[j] - dot(&own[..j], &row[..j])) / row[j];
            }
            own[i] = (own[i] - dot(&own[..i], &own[..i])).sqrt();
        }
        Cholesky { lower: matrix }
    }

    /// Replaces `right` by the solution x of L L^T x = right.
    pub fn solve(&self, right: &mut [f64]) {
        for i in 0..right.len() {
            let row = self.lower.row(i);
            right[i] = (right[i] - dot(&row[..i], &right[..i])) / row[i];
        }
        for i in (0..right.len()).rev() {
            let row = self.lower.row(i);
            right[i] /= row[i];
            let (before, own) = right.split_at_mut(i);
            add_scaled(before, -own[0], &row[..i]);
        }
    }

    /// The inverse of the factor L.
    pub fn inverse_factor(&self) -> Matrix {
        let side = self.lower.rows();
        let mut inverse = Matrix::zeros(side, side);
        for i in 0..side {
            let (above, own) = inverse.values.split_at_mut(i * side);
            let row = self.lower.row(i);
            for (factor, before) in row[..i].iter().zip(above.chunks_exact(side)) {
                add_scaled(&mut own[..side], -factor, before);
            }
            own[i] += 1.0;
            own[..side].iter_mut().for_each(|value| *value /= row[i]);
        }
        inverse
    }
}

/// Replaces `right` by the solution x of `matrix x = right`, by elimination with partial pivoting: for small
/// matrices that rounding may have left indefinite.
pub fn eliminate(mut matrix: Matrix, right: &mut [f64]) {
    let side = right.len();
    for column in 0..side {
        let size = |row: &usize| matrix.row(*row)[column].abs();
        let pivot = (column..side).max_by(|a, b| size(a).total_cmp(&size(b)));
        let pivot = pivot.expect("a column that is left");
        for at in 0..side {
            let own = matrix.row(column)[at];
            matrix.row_mut(column)[at] = matrix.row(pivot)[at];
            matrix.row_mut(pivot)[at] = own;
        }
        right.swap(column, pivot);
        for row in column + 1..side {
            let factor = matrix.row(row)[column] / matrix.row(column)[column];
            for at in column..side {
                let above = matrix.row(column)[at];
                matrix.row_mut(row)[at] -= factor * above;
            }
            right[row] -= factor * right[column];
        }
    }
    for row in (0..side).rev() {
        let known = dot(&matrix.row(row)[row + 1..], &right[row + 1..]);
        right[row] = (right[row] - known) / matrix.row(row)[row];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elimination_solves_what_needs_pivots() {
        let matrix = Matrix::from_fn(3, 3, |i, j| {
            [[0.0, 2.0, 1.0], [1.0, 0.0, -1.0], [3.0, 1.0, 0.0]][i][j]
        });
        let x = [0.5, -2.0, 4.0];
        let mut right: Vec<f64> = (0..3).map(|i| dot(matrix.row(i), &x)).collect();
        eliminate(matrix, &mut right);
        right
            .iter()
            .zip(x)
            .for_each(|(found, x)| assert!((found - x).abs() < 1e-14));
    }

    #[test]
    fn a_factored_matrix_times_its_inverse_is_one() {
        let side = 19;
        let half = Matrix::from_fn(side, side, |i, j| {
            ((i * 7 + j * 3) as f64 * 0.754_877_666).fract()
        });
        let transposed = Matrix::from_fn(side, side, |i, j| half.row(j)[i]);
        let mut matrix = half.times(&transposed);
        (0..side).for_each(|i| matrix.row_mut(i)[i] += 1.0);
        let factored = Cholesky::new(matrix.clone());
        let mut inverse = Matrix::from_fn(side, side, |i, j| f64::from(u8::from(i == j)));
        (0..side).for_each(|i| factored.solve(inverse.row_mut(i)));
        let one = inverse.times(&matrix);
        for i in 0..side {
            for j in 0..side {
                let expected = f64::from(u8::from(i == j));
                assert!((one.row(i)[j] - expected).abs() < 1e-12, "{i} {j}");
            }
        }
        let indefinite = Matrix::from_fn(2, 2, |i, j| if i == j { 1.0 } else { 2.0 });
        assert!(Cholesky::new(indefinite).lower.row(1)[1].is_nan());
    }
}
