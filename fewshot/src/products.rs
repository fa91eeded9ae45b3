//! Inner products of a few rows of features with many, which are most of the work of an episode.
//!
//! Rows are read where they are, in tiles of [`ROWS`] x [`COLUMNS`] products over a part of the features at a
//! time that fits the processor's caches. A product of two float32 is exact in float64, so a fused
//! multiply-add rounds as a multiplication and an addition do: every processor gives the same bits.

use crate::features::Features;
use crate::matrix::Matrix;

/// Rows of a tile, and columns: 9 sums, 3 rows and a column fit the 16 registers of AVX2.
const ROWS: usize = 3;
const COLUMNS: usize = 3;
/// Numbers in a register.
const LANES: usize = 4;
/// Features of a row in one pass: 100 rows of them fit a cache of 512 KB.
const PART: usize = 1024;

type Sums = [[[f64; LANES]; COLUMNS]; ROWS];

/// Inner products [n, E] float64 of the first n images of `rows` `[E]` with all of them.
pub(crate) fn inner_products(features: &Features, rows: &[usize], n: usize) -> Matrix {
    let mut products = Matrix::zeros(n, rows.len());
    let all: Vec<&[f32]> = rows.iter().map(|&row| features.row(row)).collect();
    let tile = fastest();
    for start in (0..features.dimensions()).step_by(PART) {
        let part = |index: usize| {
            let row = all[index.min(all.len() - 1)];
            &row[start..row.len().min(start + PART)]
        };
        for top in (0..n).step_by(ROWS) {
            let above: [&[f32]; ROWS] = std::array::from_fn(|i| part(top + i));
            // Below the diagonal the products are known by symmetry.
            for left in (top / COLUMNS * COLUMNS..all.len()).step_by(COLUMNS) {
                let beside: [&[f32]; COLUMNS] = std::array::from_fn(|j| part(left + j));
                let sums = tile(above, beside);
                for (i, of_row) in sums.iter().enumerate().take(n - top) {
                    for (j, lanes) in of_row.iter().enumerate().take(all.len() - left) {
                        let sum = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
                        products.row_mut(top + i)[left + j] += sum + rest(above[i], beside[j]);
                    }
                }
            }
        }
    }
    for i in 1..n {
        for j in 0..i {
            products.row_mut(i)[j] = products.row(j)[i];
        }
    }
    products
}

// What is left over after whole registers.
fn rest(a: &[f32], b: &[f32]) -> f64 {
    let (a, b) = (a.as_chunks::<LANES>().1, b.as_chunks::<LANES>().1);
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// Computes the products of a tile.
type Tile = fn([&[f32]; ROWS], [&[f32]; COLUMNS]) -> Sums;

fn fastest() -> Tile {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor has what it needs.
        return |rows, columns| unsafe { with_avx2(rows, columns) };
    }
    plain
}

fn plain(rows: [&[f32]; ROWS], columns: [&[f32]; COLUMNS]) -> Sums {
    let mut sums = Sums::default();
    let chunks = rows[0].len() / LANES;
    for at in (0..chunks).map(|chunk| chunk * LANES) {
        for (row, of_row) in rows.iter().zip(&mut sums) {
            for (column, lanes) in columns.iter().zip(of_row) {
                for (lane, sum) in lanes.iter_mut().enumerate() {
                    *sum += f64::from(row[at + lane]) * f64::from(column[at + lane]);
                }
            }
        }
    }
    sums
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn with_avx2(rows: [&[f32]; ROWS], columns: [&[f32]; COLUMNS]) -> Sums {
    use std::arch::x86_64::*;
    let length = rows[0].len() / LANES * LANES;
    assert!(rows.iter().chain(&columns).all(|row| row.len() >= length));
    // SAFETY: `at` is below the length of every row by at least a register.
    let load = |row: &[f32], at: usize| _mm256_cvtps_pd(unsafe { _mm_loadu_ps(row.as_ptr().add(at)) });
    let mut sums = [[_mm256_setzero_pd(); COLUMNS]; ROWS];
    for at in (0..length).step_by(LANES) {
        let above = rows.map(|row| load(row, at));
        for (j, column) in columns.iter().enumerate() {
            let column = load(column, at);
            for (row, of_row) in above.iter().zip(&mut sums) {
                of_row[j] = _mm256_fmadd_pd(*row, column, of_row[j]);
            }
        }
    }
    let mut result = Sums::default();
    for (of_row, result) in sums.iter().zip(&mut result) {
        for (lanes, result) in of_row.iter().zip(result) {
            // SAFETY: a register is four numbers.
            unsafe { _mm256_storeu_pd(result.as_mut_ptr(), *lanes) };
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize) -> Vec<f32> {
        (0..count)
            .map(|i| (i as f32 * 0.754_877_7).fract() - 0.3)
            .collect()
    }

    #[test]
    fn equal_to_plain_sums_whatever_the_sizes() {
        for (dimensions, images, n) in [(1, 2, 2), (7, 9, 4), (1030, 12, 5), (2048, 10, 3)] {
            let features = Features::new(numbers(30 * dimensions), dimensions).unwrap();
            let rows: Vec<usize> = (0..images).map(|i| i * 7 % 30).collect();
            let products = inner_products(&features, &rows, n);
            for i in 0..n {
                for j in 0..images {
                    let (a, b) = (features.row(rows[i]), features.row(rows[j]));
                    let sum: f64 = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                    let apart = (products.row(i)[j] - sum).abs();
                    assert!(
                        apart < 1e-13 * dimensions as f64,
                        "{apart:e} at {i}, {j} of {dimensions}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_processor_gives_the_same_bits() {
        let numbers = numbers(6 * 101);
        let rows: Vec<&[f32]> = numbers.chunks(101).collect();
        let (above, beside) = ([rows[0], rows[1], rows[2]], [rows[3], rows[4], rows[5]]);
        assert_eq!(fastest()(above, beside), plain(above, beside));
    }
}
