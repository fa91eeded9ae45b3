//! Confidence intervals of means and differences: Student's t over seeds, or over the episodes of one seed.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// The samples of an interval.
#[derive(Serialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Over {
    /// Runs that differ in the seed.
    Seeds,
    /// The episodes of one few-shot evaluation.
    Episodes,
}

/// A mean over seeds.
#[derive(Serialize, Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// The mean.
    pub mean: f64,
    /// Half the 95 % confidence interval, if there is one.
    pub half: Option<f64>,
    /// Number of seeds.
    pub seeds: usize,
    /// The samples of the interval.
    pub over: Option<Over>,
}

/// A paired difference of two runs.
#[derive(Serialize, Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// Mean of the differences.
    pub mean: f64,
    /// Half its 95 % confidence interval; `None` for a single pair.
    pub half: Option<f64>,
    /// Two-sided p of the paired t-test; `None` for a single pair, and when all differences are equal.
    pub p: Option<f64>,
    /// Holm's correction of p for all tests that are shown in the same table.
    pub holm: Option<f64>,
    /// Number of pairs.
    pub pairs: usize,
    /// The kind of pairs.
    pub over: Over,
}

impl Difference {
    /// Whether it is beyond chance at 5 % by itself.
    pub fn is_significant(&self) -> bool {
        self.p.is_some_and(|p| p < 0.05)
    }

    /// Whether it is beyond chance at 5 % among all tests of its table.
    pub fn is_significant_among_all(&self) -> bool {
        self.holm.is_some_and(|p| p < 0.05)
    }
}

/// Mean of the seeds' values, with Student's t interval over them; for a single seed, with `episodes`, half
/// the interval over its episodes. `None` without values.
pub fn summary(values: &[f64], episodes: Option<f64>) -> Option<Summary> {
    let seeds = values.len();
    match values {
        [] => None,
        [mean] => Some(Summary {
            mean: *mean,
            half: episodes,
            seeds,
            over: episodes.map(|_| Over::Episodes),
        }),
        many => {
            let (mean, error) = mean_and_error(many);
            Some(Summary {
                mean,
                half: Some(error * t(seeds).inverse_cdf(0.975)),
                seeds,
                over: Some(Over::Seeds),
            })
        }
    }
}

/// `ours - theirs`, pair by pair; `None` without pairs.
pub fn paired(pairs: &[(f64, f64)], over: Over) -> Option<Difference> {
    let differences: Vec<f64> = pairs.iter().map(|(ours, theirs)| ours - theirs).collect();
    match &differences[..] {
        [] => None,
        [mean] => Some(Difference {
            mean: *mean,
            half: None,
            p: None,
            holm: None,
            pairs: 1,
            over,
        }),
        many => {
            let (mean, error) = mean_and_error(many);
            let t = t(many.len());
            let half = Some(error * t.inverse_cdf(0.975));
            // Without any spread a test is not possible.
            let p = (error > 1e-12 * mean.abs()).then(|| 2.0 * t.sf((mean / error).abs()));
            Some(Difference {
                mean,
                half,
                p,
                holm: None,
                pairs: many.len(),
                over,
            })
        }
    }
}

/// Mean, and its standard error.
fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (mean, (squares / (n - 1.0) / n).sqrt())
}

fn t(count: usize) -> StudentsT {
    StudentsT::new(0.0, 1.0, count as f64 - 1.0).expect("two values at least")
}

#[cfg(test)]
mod tests {
    use super::*;
    use camtrast_common::testing::{golden_path, numbers};
    use serde_json::Value;

    fn near(ours: Option<f64>, truth: &Value) -> bool {
        let truth = truth.as_f64().unwrap();
        (ours.unwrap() - truth).abs() <= 1e-9 * truth.abs()
    }

    #[test]
    fn intervals_and_p_values_are_scipys() {
        let text = std::fs::read_to_string(golden_path("report_stats").join("case.json")).unwrap();
        let cases: Value = serde_json::from_str(&text).unwrap();
        let cases = cases["cases"].as_array().unwrap();
        assert!(cases.len() >= 5);
        for case in cases {
            let (ours, theirs) = (numbers(&case["ours"]), numbers(&case["theirs"]));
            let one = summary(&ours, None).unwrap();
            assert!(
                near(Some(one.mean), &case["mean"]) && near(one.half, &case["half"]),
                "{one:?} {case}"
            );
            let pairs: Vec<(f64, f64)> = ours.into_iter().zip(theirs).collect();
            let two = paired(&pairs, Over::Seeds).unwrap();
            assert!(
                near(Some(two.mean), &case["difference"]) && near(two.half, &case["difference_half"]),
                "{two:?} {case}"
            );
            assert!(near(two.p, &case["p"]), "{two:?} {case}");
        }
    }

    #[test]
    fn one_seed_has_the_interval_of_its_episodes_or_none() {
        let one = summary(&[0.5], Some(0.1)).unwrap();
        assert_eq!((one.half, one.over), (Some(0.1), Some(Over::Episodes)));
        assert_eq!(summary(&[0.5], None).unwrap().half, None);
        assert_eq!(summary(&[], None), None);
        assert_eq!(summary(&[0.4, 0.6], Some(0.1)).unwrap().over, Some(Over::Seeds));
    }

    #[test]
    fn differences_without_spread_have_no_p() {
        let none = paired(&[(2.0, 1.0), (3.0, 2.0)], Over::Seeds).unwrap();
        assert_eq!((none.mean, none.half, none.p), (1.0, Some(0.0), None));
        assert_eq!(paired(&[(2.0, 1.0)], Over::Seeds).unwrap().half, None);
        assert_eq!(paired(&[], Over::Seeds), None);
    }
}
