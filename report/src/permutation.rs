//! Permutation test of Spearman's correlation.

use crate::ranks::ranks;
use camtrast_common::random::generator;
use rand::seq::SliceRandom;

/// Most points of which all permutations are tried: 40,320 of them.
pub const EXACT: usize = 8;
/// Number of permutations drawn for more points.
pub const DRAWS: usize = 10_000;

/// Two-sided p of the correlation of points: twice the share of permutations of one side in which it is as
/// large, or as small, whichever is less, at most 1. Equals `scipy.stats.permutation_test` of kind `pairings`
/// exactly up to [`EXACT`] points; for more, [`DRAWS`] permutations are drawn, always the same, and
/// the permutation of the data counts as one of them.
pub fn two_sided(points: &[[f64; 2]]) -> f64 {
    // From the middle and doubled, so that products and sums are whole numbers.
    let side = |i: usize| -> Vec<f64> {
        let values: Vec<f64> = points.iter().map(|point| point[i]).collect();
        let middle = values.len() as f64 + 1.0;
        ranks(&values).iter().map(|rank| 2.0 * rank - middle).collect()
    };
    let (x, mut y) = (side(0), side(1));
    let agreement = |y: &[f64]| -> f64 { x.iter().zip(y).map(|(x, y)| x * y).sum() };
    let found = agreement(&y);
    let (mut larger, mut smaller, mut all) = (0usize, 0usize, 0usize);
    let mut count = |y: &[f64]| {
        let value = agreement(y);
        larger += usize::from(value >= found);
        smaller += usize::from(value <= found);
        all += 1;
    };
    if points.len() <= EXACT {
        each_permutation(&mut y, &mut count);
    } else {
        count(&y);
        let mut random = generator(0, "permutations", 0, 0);
        for _ in 0..DRAWS {
            y.shuffle(&mut random);
            count(&y);
        }
    }
    (2.0 * larger.min(smaller) as f64 / all as f64).min(1.0)
}

/// Calls `with` for each order of values, by Heap's algorithm (1963).
fn each_permutation(values: &mut [f64], with: &mut impl FnMut(&[f64])) {
    fn of_first(count: usize, values: &mut [f64], with: &mut impl FnMut(&[f64])) {
        if count <= 1 {
            return with(values);
        }
        for i in 0..count {
            of_first(count - 1, values, with);
            if i + 1 < count {
                values.swap(if count.is_multiple_of(2) { i } else { 0 }, count - 1);
            }
        }
    }
    of_first(values.len(), values, with);
}

#[cfg(test)]
mod tests {
    use super::*;
    use camtrast_common::testing::{golden_path, numbers};
    use serde_json::Value;

    #[test]
    fn p_is_scipys() {
        let text = std::fs::read_to_string(golden_path("report_ranks").join("case.json")).unwrap();
        let cases: Value = serde_json::from_str(&text).unwrap();
        let cases = cases["permutations"].as_array().unwrap();
        assert_eq!(cases.len(), 6);
        for case in cases {
            let [x, y] = ["x", "y"].map(|side| numbers(&case[side]));
            let points: Vec<[f64; 2]> = x.into_iter().zip(y).map(|(x, y)| [x, y]).collect();
            let (ours, truth) = (two_sided(&points), case["p"].as_f64().unwrap());
            // Two standard errors of either side's draws.
            let bound = if points.len() <= EXACT { 1e-12 } else { 0.003 };
            assert!((ours - truth).abs() < bound, "{ours} {case}");
        }
    }

    #[test]
    fn each_order_is_tried_once() {
        let mut seen = std::collections::BTreeSet::new();
        each_permutation(&mut [1.0, 2.0, 3.0, 4.0, 5.0], &mut |values| {
            seen.insert(values.iter().map(|&v| v as u8).collect::<Vec<u8>>());
        });
        assert_eq!(seen.len(), 120);
    }
}
