//! Statistics of ranks: correlations, Friedman's test with Nemenyi's critical difference, and Holm's
//! correction of several values of p.

use statrs::distribution::{ChiSquared, ContinuousCDF};

/// Ranks 1, 2, .. of values from the smallest, equal ones sharing the mean of their ranks, where value `i`
/// stands for `weights[i]` equal ones. Not finite values are not ranked in any meaningful way.
fn weighted_ranks(values: &[f64], weights: &[u32]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0.0;
    for group in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let size: f64 = group.iter().map(|&i| f64::from(weights[i])).sum();
        group.iter().for_each(|&i| ranks[i] = before + (size + 1.0) / 2.0);
        before += size;
    }
    ranks
}

/// Ranks 1, 2, .. from the smallest value; equal values share the mean of their ranks.
pub fn ranks(values: &[f64]) -> Vec<f64> {
    weighted_ranks(values, &vec![1; values.len()])
}

/// Ranks from the largest value, which has rank 1; equal values share the mean of their ranks.
pub fn from_largest(values: &[f64]) -> Vec<f64> {
    ranks(&values.iter().map(|value| -value).collect::<Vec<f64>>())
}

/// Spearman's correlation of points that occur `weights[i]` times each; `None` if one side does not vary.
pub fn spearman(points: &[[f64; 2]], weights: &[u32]) -> Option<f64> {
    let side = |i: usize| points.iter().map(|point| point[i]).collect::<Vec<f64>>();
    let [x, y] = [0, 1].map(|i| weighted_ranks(&side(i), weights));
    let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
    let middle = (total + 1.0) / 2.0;
    let sum = |a: &[f64], b: &[f64]| -> f64 {
        let products = a.iter().zip(b).zip(weights);
        products
            .map(|((a, b), &w)| f64::from(w) * (a - middle) * (b - middle))
            .sum()
    };
    let spread = sum(&x, &x) * sum(&y, &y);
    (spread > 0.0).then(|| sum(&x, &y) / spread.sqrt())
}

/// Kendall's tau-b of such points; `None` if one side does not vary.
pub fn kendall(points: &[[f64; 2]], weights: &[u32]) -> Option<f64> {
    let pairs = |n: f64| n * (n - 1.0) / 2.0;
    let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
    // Copies of a point are tied on both sides.
    let copies: f64 = weights.iter().map(|&w| pairs(f64::from(w))).sum();
    let (mut ahead, mut tied) = (0.0, [copies, copies]);
    for (i, (a, &weight)) in points.iter().zip(weights).enumerate() {
        for (b, &other) in points[..i].iter().zip(weights) {
            let both = f64::from(weight) * f64::from(other);
            let [x, y] = [0, 1].map(|side| (a[side] - b[side]).partial_cmp(&0.0).map_or(0, |o| o as i8));
            ahead += both * f64::from(x * y);
            tied[0] += if x == 0 { both } else { 0.0 };
            tied[1] += if y == 0 { both } else { 0.0 };
        }
    }
    let [x, y] = tied.map(|tied| pairs(total) - tied);
    (x > 0.0 && y > 0.0).then(|| ahead / (x * y).sqrt())
}

/// Friedman's test of methods in blocks.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Friedman {
    /// Mean rank of each method over the blocks; 1 is the largest value.
    pub ranks: Vec<f64>,
    /// Chi-squared, corrected for ties; 0 if all values of each block are equal.
    pub statistic: f64,
    /// Its p, by the chi-squared distribution of one degree of freedom less than there are methods.
    pub p: f64,
    /// Difference of mean ranks beyond which two methods differ at 5 % (Nemenyi's test).
    pub critical_difference: f64,
}

/// The 5 % points of the studentized range of infinitely many degrees of freedom divided by the root of two,
/// for 2, 3, .. methods: `q` of Demsar 2006 ("Statistical comparisons of classifiers over multiple data
/// sets", JMLR 7), Table 5(a), with more digits and methods by `scipy.stats.studentized_range`.
const Q: [f64; 19] = [
    1.959964, 2.343701, 2.569032, 2.727774, 2.849705, 2.948320, 3.030878, 3.101730, 3.163684, 3.218654,
    3.268004, 3.312739, 3.353618, 3.391230, 3.426041, 3.458425, 3.488685, 3.517073, 3.543799,
];

/// Fewest and most methods of [`friedman`].
pub const METHODS: [usize; 2] = [3, Q.len() + 1];

/// Friedman's test of the values of each block, one for each method; `None` for less than two blocks, or
/// another number of methods than [`METHODS`] allows.
pub fn friedman(blocks: &[Vec<f64>]) -> Option<Friedman> {
    let (n, k) = (blocks.len(), blocks.first()?.len());
    if n < 2 || !(METHODS[0]..=METHODS[1]).contains(&k) || blocks.iter().any(|block| block.len() != k) {
        return None;
    }
    let ranked: Vec<Vec<f64>> = blocks.iter().map(|block| from_largest(block)).collect();
    let (blocks_count, methods) = (n as f64, k as f64);
    let ranks: Vec<f64> = (0..k)
        .map(|method| ranked.iter().map(|block| block[method]).sum::<f64>() / blocks_count)
        .collect();
    let cubes = methods.powi(3) - methods;
    let ties: f64 = blocks.iter().map(|block| tied(block)).sum();
    let correction = 1.0 - ties / (blocks_count * cubes);
    let squares: f64 = ranks.iter().map(|rank| rank * rank).sum();
    let plain = 12.0 * blocks_count / (methods * (methods + 1.0))
        * (squares - methods * (methods + 1.0).powi(2) / 4.0);
    let statistic = if correction > 1e-12 {
        plain / correction
    } else {
        0.0
    };
    let chi = ChiSquared::new(methods - 1.0).expect("two methods at least");
    Some(Friedman {
        ranks,
        statistic,
        p: chi.sf(statistic),
        critical_difference: Q[k - 2] * (methods * (methods + 1.0) / (6.0 * blocks_count)).sqrt(),
    })
}

/// Sum of t^3 - t over groups of t equal values.
fn tied(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let groups = sorted.chunk_by(|a, b| a == b).map(|group| group.len() as f64);
    groups.map(|size| size.powi(3) - size).sum()
}

/// Holm's correction (1979): values of p for which 5 % is the chance of any false discovery among them all.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let (mut corrected, mut most) = (vec![0.0; p.len()], 0.0f64);
    for (i, &place) in order.iter().enumerate() {
        most = most.max((p[place] * (p.len() - i) as f64).min(1.0));
        corrected[place] = most;
    }
    corrected
}

#[cfg(test)]
mod tests {
    use super::*;
    use camtrast_common::testing::{golden_path, numbers};
    use serde_json::Value;

    fn cases() -> Value {
        let text = std::fs::read_to_string(golden_path("report_ranks").join("case.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn near(ours: f64, truth: &Value) -> bool {
        (ours - truth.as_f64().unwrap()).abs() <= 1e-9
    }

    fn points(case: &Value) -> Vec<[f64; 2]> {
        let (x, y) = (numbers(&case["x"]), numbers(&case["y"]));
        x.into_iter().zip(y).map(|(x, y)| [x, y]).collect()
    }

    #[test]
    fn correlations_are_scipys() {
        let cases = cases();
        let cases = cases["correlations"].as_array().unwrap();
        assert!(cases.len() >= 6);
        for case in cases {
            let points = points(case);
            let once = vec![1; points.len()];
            let [rho, tau] = [spearman, kendall].map(|of| of(&points, &once).unwrap());
            assert!(
                near(rho, &case["spearman"]) && near(tau, &case["kendall"]),
                "{rho} {tau} {case}"
            );
        }
    }

    #[test]
    fn weights_are_copies() {
        let points = points(&cases()["correlations"][2]);
        let weights: Vec<u32> = (0..points.len() as u32).map(|i| i % 4).collect();
        let copies = points.iter().zip(&weights);
        let copies: Vec<[f64; 2]> = copies.flat_map(|(&p, &w)| vec![p; w as usize]).collect();
        for of in [spearman, kendall] {
            let [ours, theirs] = [of(&points, &weights), of(&copies, &vec![1; copies.len()])];
            assert!((ours.unwrap() - theirs.unwrap()).abs() < 1e-12);
        }
    }

    #[test]
    fn what_does_not_vary_has_no_correlation() {
        let flat = [[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]];
        assert_eq!([spearman, kendall].map(|of| of(&flat, &[1; 3])), [None; 2]);
        let two = [[1.0, 1.0], [2.0, 2.0]];
        assert_eq!([spearman, kendall].map(|of| of(&two, &[3, 0])), [None; 2]);
    }

    #[test]
    fn friedmans_test_is_scipys() {
        for case in cases()["friedman"].as_array().unwrap() {
            let blocks: Vec<Vec<f64>> = case["blocks"].as_array().unwrap().iter().map(numbers).collect();
            let test = friedman(&blocks).unwrap();
            assert!(
                near(test.statistic, &case["statistic"]) && near(test.p, &case["p"]),
                "{test:?} {case}"
            );
            let ranks = case["ranks"].as_array().unwrap();
            assert!(
                test.ranks
                    .iter()
                    .zip(ranks)
                    .all(|(ours, truth)| near(*ours, truth)),
                "{test:?}"
            );
        }
        // All alike: nothing to tell apart.
        let alike = friedman(&[vec![1.0; 3], vec![2.0; 3]]).unwrap();
        assert_eq!((alike.statistic, alike.p, alike.ranks), (0.0, 1.0, vec![2.0; 3]));
        assert!(friedman(&[vec![1.0, 2.0, 3.0]]).is_none() && friedman(&[]).is_none());
        assert!(friedman(&[vec![1.0, 2.0], vec![1.0, 2.0]]).is_none());
        assert!(friedman(&vec![vec![1.0; 21]; 2]).is_none());
    }

    #[test]
    fn critical_differences_are_demsars() {
        for (ours, truth) in Q.iter().zip(cases()["nemenyi"].as_array().unwrap()) {
            assert!((ours - truth.as_f64().unwrap()).abs() < 1e-6, "{ours} {truth}");
        }
        // His example: four methods on 14 data sets, critical difference 1.25 (at 5 %).
        let blocks: Vec<Vec<f64>> = (0..14)
            .map(|i| (0..4).map(|j| f64::from(i * j % 5)).collect())
            .collect();
        let difference = friedman(&blocks).unwrap().critical_difference;
        assert!((difference - 1.25).abs() < 0.005, "{difference}");
    }

    #[test]
    fn holms_correction_is_that_of_the_script() {
        for case in cases()["holm"].as_array().unwrap() {
            let (ours, truth) = (
                holm(&numbers(&case["p"])),
                case["holm"].as_array().unwrap().clone(),
            );
            assert!(
                ours.iter().zip(&truth).all(|(ours, truth)| near(*ours, truth)),
                "{ours:?} {case}"
            );
        }
        assert!(holm(&[]).is_empty());
    }
}
