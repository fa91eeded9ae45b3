//! Sorts numbers into tables, one for each protocol: only numbers of the same protocol are compared.

use crate::protocol::difference;
use crate::ranks::holm;
use crate::record::Column;
use crate::rows::{Gap, Gathered, Row, TaskResult};
use crate::stats::{Difference, Over, Summary, paired, summary};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The method that other methods are compared with.
pub const BASELINE: &str = "supervised";

/// A table: rows whose numbers of each task were all measured with the same protocol.
pub struct Comparison {
    /// Number of the table, from 1.
    pub number: usize,
    /// Indices of columns that have values in this table.
    pub columns: Vec<usize>,
    /// The protocols of the tasks, and their differences from the first table.
    pub protocols: Vec<Protocol>,
    /// The rows.
    pub lines: Vec<Line>,
}

/// The protocol of a task.
pub struct Protocol {
    /// The task.
    pub task: String,
    /// `key = value` lines.
    pub settings: Vec<String>,
    /// Difference from the first table, as a text; `None` in the first table.
    pub difference: Option<String>,
    /// Whether the protocol is recorded. Numbers without a recorded protocol are not compared.
    pub recorded: bool,
}

/// A row of a table.
pub struct Line {
    /// Index into [`Gathered::rows`].
    pub row: usize,
    /// One for each of [`Gathered::columns`].
    pub entries: Vec<Entry>,
}

impl Line {
    /// What was missing in its backbone, if it was incomplete.
    pub fn partial(&self) -> Option<&str> {
        self.entries.iter().find_map(|entry| entry.partial.as_deref())
    }

    /// Which test data its networks were trained on, if any.
    pub fn leakage(&self) -> Option<&str> {
        self.entries.iter().find_map(|entry| entry.leakage.as_deref())
    }
}

/// The value of a row in a column. Numbers are in the column's unit as shown.
#[derive(Default)]
pub struct Entry {
    /// Values by seed.
    pub values: Vec<(u64, f64)>,
    /// Summary over the seeds.
    pub summary: Option<Summary>,
    /// Whether it is the largest of a headline column, and significantly larger than the second.
    pub best: bool,
    /// The published number.
    pub published: Option<f64>,
    /// Difference to the row of [`BASELINE`]; `None` for that row itself.
    pub delta: Option<Difference>,
    /// Seeds without a number.
    pub gaps: Vec<(u64, Gap)>,
    /// What was missing in the backbones behind the values and was initialised, if anything.
    pub partial: Option<String>,
    /// Which test data the networks behind the values were trained on, if any.
    pub leakage: Option<String>,
    /// Whether the protocol is recorded.
    pub recorded: bool,
    /// Numbers of the tables with this row's values of other protocols.
    pub elsewhere: Vec<usize>,
}

/// Protocols of a task, each with a cell as example: the most frequent first, unrecorded ones last.
type Protocols<'a> = Vec<&'a TaskResult>;

/// Sorts all numbers into tables.
pub fn compare(all: &Gathered) -> Vec<Comparison> {
    let protocols: BTreeMap<&str, Protocols<'_>> = all
        .columns
        .iter()
        .map(|column| (&column.task[..], protocols(all, &column.task)))
        .collect();
    let count = protocols.values().map(Vec::len).max().unwrap_or(0).max(1);
    (0..count)
        .map(|layer| comparison(all, &protocols, layer, count))
        .collect()
}

fn protocols<'a>(all: &'a Gathered, task: &'a str) -> Protocols<'a> {
    let mut known: Vec<(usize, &TaskResult)> = Vec::new();
    for (_, found) in all
        .rows
        .iter()
        .flat_map(|row| row.cells(task))
        .filter(|(_, found)| found.metrics.is_ok())
    {
        match known
            .iter_mut()
            .find(|(_, like)| like.cell.protocol == found.cell.protocol)
        {
            Some((count, _)) => *count += 1,
            None => known.push((1, found)),
        }
    }
    known.sort_by_key(|(count, found)| (!is_recorded(found), Reverse(*count)));
    known.into_iter().map(|(_, found)| found).collect()
}

fn is_recorded(found: &TaskResult) -> bool {
    !found.cell.protocol.is_empty()
}

fn comparison(
    all: &Gathered,
    protocols: &BTreeMap<&str, Protocols<'_>>,
    layer: usize,
    count: usize,
) -> Comparison {
    let measured = |row: &Row, layer: usize| {
        let has = |column: &Column| !values(row, column, &protocols[&column.task[..]], layer).is_empty();
        all.columns.iter().any(has)
    };
    // A row without any number is put into the first table with numbers of its suite.
    let begins = |suite: usize| {
        let here = |layer: &usize| {
            all.rows
                .iter()
                .any(|row| row.suite == suite && measured(row, *layer))
        };
        (0..count).find(here).unwrap_or(0)
    };
    let is_here = |row: &Row| match (0..count).any(|layer| measured(row, layer)) {
        true => measured(row, layer),
        false => begins(row.suite) == layer,
    };
    let rows = all.rows.iter().enumerate().filter(|(_, row)| is_here(row));
    let mut lines: Vec<Line> = rows
        .map(|(i, row)| {
            let entry = |column| entry(row, column, &protocols[&column.task[..]], layer);
            Line {
                row: i,
                entries: all.columns.iter().map(entry).collect(),
            }
        })
        .collect();
    mark_best(all, &mut lines);
    subtract(all, &mut lines);
    let has = |column: usize| lines.iter().any(|line| line.entries[column].summary.is_some());
    // The first table has all columns and rows, so that missing numbers are visible.
    let columns: Vec<usize> = (0..all.columns.len())
        .filter(|&column| layer == 0 || has(column))
        .collect();
    let in_table = protocols.iter().filter_map(|(task, known)| {
        let found = known.get(layer)?;
        let used = columns.iter().any(|&column| all.columns[column].task == *task);
        used.then(|| Protocol {
            task: (*task).to_owned(),
            settings: found.cell.protocol_settings.clone(),
            difference: (layer > 0 && is_recorded(found)).then(|| difference(found, known[0])),
            recorded: is_recorded(found),
        })
    });
    Comparison {
        number: layer + 1,
        protocols: in_table.collect(),
        columns,
        lines,
    }
}

/// A row's values of a column under the protocol of a layer, by seed, in the unit as shown.
fn values(row: &Row, column: &Column, known: &Protocols<'_>, layer: usize) -> Vec<(u64, f64)> {
    let Some(like) = known.get(layer) else {
        return Vec::new();
    };
    let cells = row
        .cells(&column.task)
        .filter(|(_, found)| found.cell.protocol == like.cell.protocol);
    let value = |metrics: &BTreeMap<String, f64>| Some(metrics.get(&column.metric)? * scale(column));
    cells
        .filter_map(|(seed, found)| Some((seed, found.metrics.as_ref().ok().and_then(value)?)))
        .collect()
}

/// 100 if fractions are shown in percent.
pub fn scale(column: &Column) -> f64 {
    if column.percent { 100.0 } else { 1.0 }
}

fn entry(row: &Row, column: &Column, known: &Protocols<'_>, layer: usize) -> Entry {
    let found = values(row, column, known, layer);
    let numbers: Vec<f64> = found.iter().map(|v| v.1).collect();
    let over_episodes = || {
        let metrics = row
            .cells(&column.task)
            .find(|(seed, _)| found.first().is_some_and(|v| v.0 == *seed))?
            .1;
        Some(metrics.metrics.as_ref().ok()?.get(column.ci95.as_ref()?)? * scale(column))
    };
    let gap = |(seed, cell): (u64, &TaskResult)| {
        let gap = match &cell.metrics {
            Err(gap) => gap.clone(),
            Ok(metrics) if metrics.contains_key(&column.metric) => return None,
            Ok(_) => Gap {
                what: "not measured",
                why: format!("metrics.json has no {}", column.metric),
            },
        };
        Some((seed, gap))
    };
    let behind = || {
        row.cells(&column.task)
            .filter(|(seed, _)| found.iter().any(|v| v.0 == *seed))
            .map(|(_, cell)| cell)
    };
    Entry {
        partial: behind().find_map(|cell| cell.origin.partial.clone()),
        leakage: behind().find_map(|cell| cell.leakage.clone()),
        recorded: known.get(layer).is_some_and(|found| is_recorded(found)),
        summary: summary(&numbers, over_episodes()),
        published: row.run.published.get(&column.title).copied(),
        gaps: row.cells(&column.task).filter_map(gap).collect(),
        elsewhere: (0..known.len())
            .filter(|&i| i != layer && !values(row, column, known, i).is_empty())
            .map(|i| i + 1)
            .collect(),
        values: found,
        ..Entry::default()
    }
}

/// Makes the largest of a column bold if it is significantly larger than the second.
fn mark_best(all: &Gathered, lines: &mut [Line]) {
    for (i, column) in all
        .columns
        .iter()
        .enumerate()
        .filter(|(_, column)| column.headline)
    {
        let mut ranked: Vec<(f64, usize)> = lines
            .iter()
            .enumerate()
            .filter_map(|(n, line)| Some((line.entries[i].summary?.mean, n)))
            .collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        let [(_, best), (_, next), ..] = ranked[..] else {
            continue;
        };
        let of = |line: usize| (&all.rows[lines[line].row], &lines[line].entries[i]);
        lines[best].entries[i].best = difference_of(column, of(best), of(next))
            .is_some_and(|ahead| ahead.mean > 0.0 && ahead.is_significant());
    }
}

/// Differences to the baseline of the same folder, or otherwise to the first baseline of the table.
fn subtract(all: &Gathered, lines: &mut [Line]) {
    let is_baseline = |line: &&Line| all.rows[line.row].run.method.as_deref() == Some(BASELINE);
    for i in 0..lines.len() {
        let row = &all.rows[lines[i].row];
        let same_suite = lines
            .iter()
            .filter(is_baseline)
            .find(|line| all.rows[line.row].suite == row.suite);
        let Some(baseline) = same_suite
            .or(lines.iter().find(is_baseline))
            .filter(|line| line.row != lines[i].row)
        else {
            continue;
        };
        let deltas: Vec<Option<Difference>> = all
            .columns
            .iter()
            .enumerate()
            .map(|(c, column)| {
                difference_of(
                    column,
                    (row, &lines[i].entries[c]),
                    (&all.rows[baseline.row], &baseline.entries[c]),
                )
            })
            .collect();
        for (entry, delta) in lines[i].entries.iter_mut().zip(deltas) {
            entry.delta = delta;
        }
    }
    correct(all, lines);
}

/// Holm's correction of the tests of a table: those of differences in headline columns.
fn correct(all: &Gathered, lines: &mut [Line]) {
    let entries = lines
        .iter_mut()
        .flat_map(|line| line.entries.iter_mut().zip(&all.columns));
    let shown = entries.filter(|(_, column)| column.headline);
    let mut tested: Vec<&mut Difference> = shown.filter_map(|(entry, _)| entry.delta.as_mut()).collect();
    tested.retain(|delta| delta.p.is_some());
    let p: Vec<f64> = tested.iter().filter_map(|delta| delta.p).collect();
    tested
        .into_iter()
        .zip(holm(&p))
        .for_each(|(delta, p)| delta.holm = Some(p));
}

/// Difference over the seeds that both have; for a single seed, over its episodes. Without a test if the
/// episodes are not the same, and `None` if the protocol is not recorded.
fn difference_of(column: &Column, ours: (&Row, &Entry), theirs: (&Row, &Entry)) -> Option<Difference> {
    if !(ours.1.recorded && theirs.1.recorded) {
        return None;
    }
    let common: Vec<(u64, (f64, f64))> = ours
        .1
        .values
        .iter()
        .filter_map(|(seed, value)| Some((*seed, (*value, theirs.1.values.iter().find(|v| v.0 == *seed)?.1))))
        .collect();
    let prefix = column.metric.trim_end_matches("/mean");
    let both = |seed: u64| {
        Some((
            cell(ours.0, &column.task, seed)?,
            cell(theirs.0, &column.task, seed)?,
        ))
    };
    // `None` if neither records its episodes: then only the protocol, with the same data, shows that they are
    // the same.
    let same = |seed: u64| {
        let (ours, theirs) = both(seed)?;
        let sums = [ours, theirs].map(|found| found.episodes_sha256.get(prefix));
        sums.iter().any(Option::is_some).then(|| sums[0] == sums[1])
    };
    if let [(seed, _)] = common[..]
        && same(seed) == Some(true)
        && let Some((a, b)) =
            both(seed).and_then(|(a, b)| Some((a.episodes.get(prefix)?, b.episodes.get(prefix)?)))
        && a.len() == b.len()
        && a.len() > 1
    {
        let pairs: Vec<(f64, f64)> = a
            .iter()
            .zip(b)
            .map(|(a, b)| (a * scale(column), b * scale(column)))
            .collect();
        return paired(&pairs, Over::Episodes);
    }
    let difference = paired(&common.iter().map(|c| c.1).collect::<Vec<_>>(), Over::Seeds)?;
    let untested = common.iter().any(|(seed, _)| same(*seed) == Some(false));
    Some(if untested {
        Difference {
            half: None,
            p: None,
            ..difference
        }
    } else {
        difference
    })
}

fn cell<'a>(row: &'a Row, task: &'a str, seed: u64) -> Option<&'a TaskResult> {
    row.cells(task)
        .find(|(own, _)| *own == seed)
        .map(|(_, found)| found)
}
