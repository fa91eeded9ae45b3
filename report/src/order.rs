//! The order of runs: their average ranks over seeds and over tasks, with Friedman's test and Nemenyi's
//! critical difference.

use crate::compare::Comparison;
use crate::ranks::{Friedman, friedman, from_largest, holm};
use crate::record::PRETRAIN;
use crate::rows::Gathered;

/// Average ranks of the runs of a table, 1 the best.
pub struct Order {
    /// Indices of the columns, the first one of each task.
    pub columns: Vec<usize>,
    /// Each run that has a rank in some column: its index into [`Gathered::rows`], its mean rank over the
    /// seeds in each column, and the mean of these if it has all of them.
    pub runs: Vec<(usize, Vec<Option<f64>>, Option<f64>)>,
    /// The tests of the columns, then that of all tasks, as far as there is enough for one.
    pub tests: Vec<Tested>,
}

/// Friedman's test over the seeds of a column, or over tasks.
pub struct Tested {
    /// Index of the column; `None` over tasks.
    pub column: Option<usize>,
    /// Number of blocks: seeds, or tasks.
    pub blocks: usize,
    /// Indices of the runs that have a number in every block.
    pub rows: Vec<usize>,
    /// The test; its ranks are those of [`Tested::rows`].
    pub test: Friedman,
    /// Holm's p among the tests of the table.
    pub holm: f64,
}

/// The order in a table; `None` if fewer than three runs have numbers, or fewer than two ranks could be
/// averaged.
pub fn order(all: &Gathered, table: &Comparison) -> Option<Order> {
    let mut columns: Vec<usize> = Vec::new();
    let shared = |task: &str| {
        all.suites
            .iter()
            .flat_map(|s| &s.sweeps)
            .any(|s| s.shared_task == task)
    };
    for &column in &table.columns {
        let (task, headline) = (&all.columns[column].task, all.columns[column].headline);
        let known = columns.iter().any(|&other| all.columns[other].task == *task);
        if headline && !known && task != PRETRAIN && !shared(task) {
            columns.push(column);
        }
    }
    let mut tests: Vec<Tested> = Vec::new();
    // Mean ranks by column and line.
    let mut ranks: Vec<Vec<Option<f64>>> = Vec::new();
    for &column in &columns {
        let (lines, blocks) = over_seeds(table, column);
        let mut mean = vec![None; table.lines.len()];
        for (place, &line) in lines.iter().enumerate() {
            let own = blocks.iter().map(|block| from_largest(block)[place]).sum::<f64>();
            mean[line] = Some(own / blocks.len() as f64);
        }
        ranks.push(mean);
        tests.extend(tested(table, Some(column), &lines, &blocks));
    }
    columns = retain(columns, &ranks);
    ranks.retain(|ranks| ranks.iter().flatten().count() > 2);
    let (lines, blocks) = over_tasks(table, &columns, &ranks);
    tests.extend(tested(table, None, &lines, &blocks));
    if columns.is_empty() || tests.is_empty() && columns.len() < 2 {
        return None;
    }
    let p: Vec<f64> = tests.iter().map(|tested| tested.test.p).collect();
    tests
        .iter_mut()
        .zip(holm(&p))
        .for_each(|(tested, p)| tested.holm = p);
    let runs = table.lines.iter().enumerate().map(|(line, own)| {
        let ranks: Vec<Option<f64>> = ranks.iter().map(|ranks| ranks[line]).collect();
        let every: Option<Vec<f64>> = ranks.iter().copied().collect();
        let mean = every.map(|ranks| ranks.iter().sum::<f64>() / ranks.len() as f64);
        (own.row, ranks, mean)
    });
    let mut runs: Vec<_> = runs
        .filter(|(_, ranks, _)| ranks.iter().any(Option::is_some))
        .collect();
    runs.sort_by(|a, b| a.2.unwrap_or(f64::MAX).total_cmp(&b.2.unwrap_or(f64::MAX)));
    Some(Order { columns, runs, tests })
}

/// Columns in which more than two runs have ranks.
fn retain(columns: Vec<usize>, ranks: &[Vec<Option<f64>>]) -> Vec<usize> {
    let kept = columns.into_iter().zip(ranks);
    kept.filter(|(_, ranks)| ranks.iter().flatten().count() > 2)
        .map(|(column, _)| column)
        .collect()
}

/// Lines with a number for every seed that any line has, and their numbers by seed.
fn over_seeds(table: &Comparison, column: usize) -> (Vec<usize>, Vec<Vec<f64>>) {
    let values = |line: usize| &table.lines[line].entries[column].values;
    let mut seeds: Vec<u64> = Vec::new();
    seeds.extend((0..table.lines.len()).flat_map(|line| values(line).iter().map(|value| value.0)));
    seeds.sort_unstable();
    seeds.dedup();
    let of = |line: usize, seed: u64| Some(values(line).iter().find(|value| value.0 == seed)?.1);
    let whole = |&line: &usize| !seeds.is_empty() && seeds.iter().all(|&seed| of(line, seed).is_some());
    let lines: Vec<usize> = (0..table.lines.len()).filter(whole).collect();
    let block = |&seed: &u64| lines.iter().filter_map(|&line| of(line, seed)).collect();
    let blocks = seeds.iter().map(block).collect();
    (lines, blocks)
}

/// Lines with a rank in every column, and their means by column.
fn over_tasks(
    table: &Comparison,
    columns: &[usize],
    ranks: &[Vec<Option<f64>>],
) -> (Vec<usize>, Vec<Vec<f64>>) {
    let mean = |line: usize, column: usize| Some(table.lines[line].entries[column].summary?.mean);
    let whole = |&line: &usize| ranks.iter().all(|ranks| ranks[line].is_some());
    let lines: Vec<usize> = (0..table.lines.len()).filter(whole).collect();
    let block = |&column: &usize| lines.iter().filter_map(|&line| mean(line, column)).collect();
    let blocks = columns.iter().map(block).collect();
    (lines, blocks)
}

fn tested(table: &Comparison, column: Option<usize>, lines: &[usize], blocks: &[Vec<f64>]) -> Option<Tested> {
    Some(Tested {
        column,
        blocks: blocks.len(),
        rows: lines.iter().map(|&line| table.lines[line].row).collect(),
        test: friedman(blocks)?,
        holm: 1.0,
    })
}
