//! Which cheap measure predicts which transfer: rank correlations, over backbones, between measures that need
//! no training of a task and the numbers of tasks.

use crate::compare::Comparison;
use crate::permutation::two_sided;
use crate::ranks::{holm, kendall, spearman};
use crate::record::Column;
use crate::rows::{Gathered, Row};
use camtrast_common::random::generator;
use rand::RngExt;
use serde::Serialize;
use std::collections::BTreeMap;

/// Fewest backbones of which a correlation is said.
pub const FEWEST: usize = 6;
/// Fewest methods of which an interval and a test are said.
const FEWEST_METHODS: usize = 4;
/// Number of times that methods are drawn for an interval.
const RESAMPLES: usize = 1000;

/// All pairs of a measure and a number that both vary in the first table.
pub struct Matrix {
    /// Indices of columns of measures.
    pub measures: Vec<usize>,
    /// Indices of columns of numbers.
    pub numbers: Vec<usize>,
    /// A row for each measure, an entry for each number.
    pub pairs: Vec<Vec<Pair>>,
}

/// A measure and a number.
pub struct Pair {
    /// The backbones that have both.
    pub backbones: Vec<Backbone>,
    /// Spearman's and Kendall's correlation; `None` for fewer than [`FEWEST`] backbones, or if one side does
    /// not vary.
    pub correlations: Option<[Correlation; 2]>,
    /// Test of a correlation between the methods' means; `None` for few methods.
    pub test: Option<Test>,
}

/// A permutation test of Spearman's correlation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Test {
    /// Its two-sided p.
    pub p: f64,
    /// Holm's correction of p for all pairs of the matrix.
    pub holm: f64,
}

impl Test {
    /// Whether there is a correlation beyond chance at 5 % among all pairs.
    pub fn is_significant_among_all(&self) -> bool {
        self.holm < 0.05
    }
}

/// A backbone's measure and number, as shown in tables.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Backbone {
    /// Index into [`Gathered::rows`].
    pub row: usize,
    /// The measure.
    pub x: f64,
    /// The number.
    pub y: f64,
}

/// A correlation in -1..1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Correlation {
    /// Its value.
    pub value: f64,
    /// Percentiles 2.5 and 97.5 over drawn methods; `None` for few methods.
    pub interval: Option<[f64; 2]>,
}

/// What can be said of a report's first table.
pub enum Prediction {
    /// There is nothing to correlate.
    Nothing,
    /// Too few backbones, with the number of them.
    TooFew(usize),
    /// The correlations.
    Said(Matrix),
}

/// A measure that needs no training of a task.
fn is_measure(column: &Column) -> bool {
    let probe = column.metric.starts_with("probe/") && !column.metric.starts_with("probe/finetune");
    probe || column.metric.starts_with("representation/")
}

/// A number of a task that was trained or tested with new classes.
fn is_number(column: &Column) -> bool {
    let tasks = ["fewshot/", "probe/finetune", "detection/", "segmentation/"];
    !column.validation && tasks.iter().any(|task| column.metric.starts_with(task))
}

/// Correlates every measure with every number over the backbones of the first table: each seed of a run is
/// one, and a given backbone is one for all of its seeds.
pub fn prediction(all: &Gathered, tables: &[Comparison]) -> Prediction {
    let Some(table) = tables.first() else {
        return Prediction::Nothing;
    };
    let chosen = |is: fn(&Column) -> bool| -> Vec<usize> {
        let has = |column: usize| {
            table
                .lines
                .iter()
                .any(|line| line.entries[column].summary.is_some())
        };
        let columns = table.columns.iter().copied();
        columns
            .filter(|&column| is(&all.columns[column]) && has(column))
            .collect()
    };
    let (measures, numbers) = (chosen(is_measure), chosen(is_number));
    if measures.is_empty() || numbers.is_empty() {
        return Prediction::Nothing;
    }
    let found: Vec<Vec<Vec<Backbone>>> = measures
        .iter()
        .map(|&x| numbers.iter().map(|&y| backbones(all, table, x, y)).collect())
        .collect();
    let most = found.iter().flatten().map(Vec::len).max().unwrap_or(0);
    if most < FEWEST {
        return Prediction::TooFew(most);
    }
    let mut pairs: Vec<Vec<Pair>> = found
        .into_iter()
        .map(|row| row.into_iter().map(|found| pair(all, found)).collect())
        .collect();
    correct(&mut pairs);
    Prediction::Said(Matrix {
        measures,
        numbers,
        pairs,
    })
}

fn backbones(all: &Gathered, table: &Comparison, x: usize, y: usize) -> Vec<Backbone> {
    let of_line = |line: &crate::compare::Line| {
        let [x, y] = [x, y].map(|column| &line.entries[column].values);
        let both = x.iter().filter_map(|(seed, x)| {
            let y = y.iter().find(|other| other.0 == *seed)?.1;
            Some(Backbone {
                row: line.row,
                x: *x,
                y,
            })
        });
        let both: Vec<Backbone> = both
            .filter(|both| both.x.is_finite() && both.y.is_finite())
            .collect();
        if all.rows[line.row].run.imported.is_none() || both.is_empty() {
            return both;
        }
        let mean = |of: fn(&Backbone) -> f64| both.iter().map(of).sum::<f64>() / both.len() as f64;
        vec![Backbone {
            row: line.row,
            x: mean(|b| b.x),
            y: mean(|b| b.y),
        }]
    };
    table.lines.iter().flat_map(of_line).collect()
}

fn pair(all: &Gathered, backbones: Vec<Backbone>) -> Pair {
    let points: Vec<[f64; 2]> = backbones.iter().map(|b| [b.x, b.y]).collect();
    let methods: Vec<usize> = backbones.iter().map(|b| pretraining(all, b.row)).collect();
    let said = points.len() >= FEWEST;
    let correlations = said.then(|| correlations(&points, &methods)).flatten();
    let test = correlations.and_then(|_| test(&points, &methods));
    Pair {
        backbones,
        correlations,
        test,
    }
}

/// Tests whether methods, each with the means of its points, are correlated. Its `holm` is `p` as yet.
fn test(points: &[[f64; 2]], methods: &[usize]) -> Option<Test> {
    let mut sums: BTreeMap<usize, ([f64; 2], f64)> = BTreeMap::new();
    for ([x, y], &method) in points.iter().zip(methods) {
        let (sum, count) = sums.entry(method).or_default();
        *sum = [sum[0] + x, sum[1] + y];
        *count += 1.0;
    }
    let means: Vec<[f64; 2]> = sums.values().map(|(sum, count)| sum.map(|s| s / count)).collect();
    let varies = spearman(&means, &vec![1; means.len()]).is_some();
    (means.len() >= FEWEST_METHODS && varies)
        .then(|| two_sided(&means))
        .map(|p| Test { p, holm: p })
}

/// Fills in Holm's correction for all tests.
fn correct(pairs: &mut [Vec<Pair>]) {
    let mut tests: Vec<&mut Test> = pairs
        .iter_mut()
        .flatten()
        .filter_map(|pair| pair.test.as_mut())
        .collect();
    let p: Vec<f64> = tests.iter().map(|test| test.p).collect();
    for (test, holm) in tests.iter_mut().zip(holm(&p)) {
        test.holm = holm;
    }
}

/// The row of the whole pretraining whose epoch a row may be: its epochs are alike, as its seeds are.
fn pretraining(all: &Gathered, row: usize) -> usize {
    let own = &all.rows[row];
    let whole = own.run.kept.as_ref().and_then(|kept| {
        let same = |other: &Row| other.suite == own.suite && other.run.slug == kept.run;
        all.rows.iter().position(same)
    });
    whole.unwrap_or(row)
}

/// Both correlations of points, each of a method, with intervals over methods: they are drawn with
/// replacement, all points of one together, because the seeds of a method are alike.
fn correlations(points: &[[f64; 2]], methods: &[usize]) -> Option<[Correlation; 2]> {
    let once = vec![1; points.len()];
    let values = [spearman(points, &once)?, kendall(points, &once)?];
    let mut names = methods.to_vec();
    names.sort_unstable();
    names.dedup();
    let mut drawn: [Vec<f64>; 2] = Default::default();
    let mut random = generator(0, "correlations", 0, 0);
    for _ in 0..RESAMPLES {
        let mut times = vec![0; names.len()];
        names
            .iter()
            .for_each(|_| times[random.random_range(0..names.len())] += 1);
        let of = |method: &usize| times[names.binary_search(method).expect("it is one of them")];
        let weights: Vec<u32> = methods.iter().map(of).collect();
        for (values, of) in drawn.iter_mut().zip([spearman, kendall]) {
            values.extend(of(points, &weights));
        }
    }
    let enough = names.len() >= FEWEST_METHODS;
    let [rho, tau] = drawn.map(|mut values| {
        values.sort_by(f64::total_cmp);
        // Draws of one method with one seed have no correlation.
        (enough && values.len() > RESAMPLES / 2)
            .then(|| [0.025, 0.975].map(|share| percentile(&values, share)))
    });
    Some([
        Correlation {
            value: values[0],
            interval: rho,
        },
        Correlation {
            value: values[1],
            interval: tau,
        },
    ])
}

/// A percentile of sorted values, interpolated as numpy does.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, rest) = (place.floor() as usize, place.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + rest * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_numpys() {
        let values = [0.0, 1.0, 2.0, 3.0, 10.0];
        let ours = [0.0, 0.5, 0.975, 1.0].map(|share| percentile(&values, share));
        let theirs = [0.0, 2.0, 9.3, 10.0];
        assert!(
            ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() < 1e-12),
            "{ours:?}"
        );
    }

    #[test]
    fn seeds_do_not_narrow_an_interval_and_methods_do() {
        // Six methods whose order is disturbed, then the same with five seeds that say nothing new.
        let order = [2.0, 1.0, 3.0, 5.0, 4.0, 6.0];
        let points: Vec<[f64; 2]> = order.iter().zip(1..).map(|(&y, x)| [f64::from(x), y]).collect();
        let methods: Vec<usize> = (0..6).collect();
        let width = |points: &[[f64; 2]], methods: &[usize]| {
            let [low, high] = correlations(points, methods).unwrap()[0].interval.unwrap();
            assert!(-1.0 <= low && low < high && high <= 1.0);
            high - low
        };
        let copied: Vec<[f64; 2]> = points.iter().flat_map(|&p| [p; 5]).collect();
        let of: Vec<usize> = methods.iter().flat_map(|&m| [m; 5]).collect();
        let one = width(&points, &methods);
        assert!((width(&copied, &of) - one).abs() < 0.1);
        let apart: Vec<usize> = (0..30).collect();
        assert!(width(&copied, &apart) < 0.7 * one);
        assert!(
            correlations(&points, &[0, 0, 0, 1, 1, 2]).unwrap()[0]
                .interval
                .is_none()
        );
        let straight: Vec<[f64; 2]> = (0..6).map(|i| [f64::from(i), f64::from(2 * i)]).collect();
        let [rho, tau] = correlations(&straight, &methods).unwrap();
        assert_eq!((rho.value, rho.interval, tau.value), (1.0, Some([1.0, 1.0]), 1.0));
    }
}
