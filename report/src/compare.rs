//! Which numbers stand beside each other: those of one protocol, a table each.

use crate::gather::{Found, Gap, Gathered, Row};
use crate::record::Column;
use crate::stats::{Difference, Over, Summary, paired, summary};
use crate::words;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The method that others are compared with.
pub const BASELINE: &str = "supervised";

/// Rows whose numbers of a task were all measured in the same way.
pub struct Comparison {
    /// From 1.
    pub number: usize,
    /// Indices of columns that have anything here.
    pub columns: Vec<usize>,
    /// How the tasks were measured, and in what that differs from the first table.
    pub protocols: Vec<Protocol>,
    /// The rows.
    pub lines: Vec<Line>,
}

/// How a task was measured.
pub struct Protocol {
    /// The task.
    pub task: String,
    /// `key = value` lines.
    pub settings: Vec<String>,
    /// Against the first table, in words; empty in the first table itself.
    pub difference: Option<String>,
}

/// A row of a table.
pub struct Line {
    /// Index into [`Gathered::rows`].
    pub row: usize,
    /// One for each of [`Gathered::columns`].
    pub entries: Vec<Entry>,
}

impl Line {
    /// What of its backbone was missing, if it was not whole.
    pub fn partial(&self) -> Option<&str> {
        self.entries.iter().find_map(|entry| entry.partial.as_deref())
    }
}

/// What a row has in a column. Numbers are in the column's unit as shown.
#[derive(Default)]
pub struct Entry {
    /// By seed.
    pub values: Vec<(u64, f64)>,
    /// Over the seeds.
    pub summary: Option<Summary>,
    /// Whether it is the largest of a headline column.
    pub best: bool,
    /// The published number.
    pub published: Option<f64>,
    /// Against the row of [`BASELINE`]; none for that row itself.
    pub delta: Option<Difference>,
    /// Seeds without a number.
    pub gaps: Vec<(u64, Gap)>,
    /// What of the backbones behind the values was not there and has been initialised, if so.
    pub partial: Option<String>,
    /// Numbers of the tables that hold this row's other values, of another protocol.
    pub elsewhere: Vec<usize>,
}

/// Protocols of a task by checksum with their settings, the most frequent first.
type Protocols<'a> = Vec<(&'a str, &'a [String])>;

/// Sorts all numbers into tables.
pub fn compare(all: &Gathered) -> Vec<Comparison> {
    let protocols: BTreeMap<&str, Protocols<'_>> =
        all.columns.iter().map(|column| (&column.task[..], protocols(all, &column.task))).collect();
    let count = protocols.values().map(Vec::len).max().unwrap_or(0).max(1);
    (0..count).map(|layer| comparison(all, &protocols, layer, count)).collect()
}

fn protocols<'a>(all: &'a Gathered, task: &'a str) -> Protocols<'a> {
    let mut known: Vec<(usize, (&str, &[String]))> = Vec::new();
    for (_, found) in all.rows.iter().flat_map(|row| row.cells(task)).filter(|(_, found)| found.metrics.is_ok()) {
        match known.iter_mut().find(|(_, (sum, _))| *sum == found.cell.protocol) {
            Some((count, _)) => *count += 1,
            None => known.push((1, (&found.cell.protocol, &found.cell.protocol_settings))),
        }
    }
    known.sort_by_key(|(count, _)| Reverse(*count));
    known.into_iter().map(|(_, protocol)| protocol).collect()
}

fn comparison(all: &Gathered, protocols: &BTreeMap<&str, Protocols<'_>>, layer: usize, count: usize) -> Comparison {
    let measured = |row: &Row, layer: usize| {
        let has = |column: &Column| !values(row, column, &protocols[&column.task[..]], layer).is_empty();
        all.columns.iter().any(has)
    };
    // A row without any number stands where its suite's numbers begin.
    let begins = |suite: usize| {
        let here = |layer: &usize| all.rows.iter().any(|row| row.suite == suite && measured(row, *layer));
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
            Line { row: i, entries: all.columns.iter().map(entry).collect() }
        })
        .collect();
    mark_best(all, &mut lines);
    subtract(all, &mut lines);
    let has = |column: usize| lines.iter().any(|line| line.entries[column].summary.is_some());
    // The first table has a place for everything, so that nothing missing is overlooked.
    let columns: Vec<usize> = (0..all.columns.len()).filter(|&column| layer == 0 || has(column)).collect();
    let told = protocols.iter().filter_map(|(task, known)| {
        let (_, settings) = known.get(layer)?;
        let used = columns.iter().any(|&column| all.columns[column].task == *task);
        let difference = (layer > 0).then(|| difference(settings, known[0].1));
        used.then(|| Protocol { task: (*task).to_owned(), settings: settings.to_vec(), difference })
    });
    Comparison { number: layer + 1, protocols: told.collect(), columns, lines }
}

/// A row's values of a column under the protocol of a layer, by seed, in the unit as shown.
fn values(row: &Row, column: &Column, known: &Protocols<'_>, layer: usize) -> Vec<(u64, f64)> {
    let Some((protocol, _)) = known.get(layer) else { return Vec::new() };
    let cells = row.cells(&column.task).filter(|(_, found)| found.cell.protocol == *protocol);
    let value = |metrics: &BTreeMap<String, f64>| Some(metrics.get(&column.metric)? * scale(column));
    cells.filter_map(|(seed, found)| Some((seed, found.metrics.as_ref().ok().and_then(value)?))).collect()
}

/// 100 where fractions are shown in percent.
pub fn scale(column: &Column) -> f64 {
    if column.percent { 100.0 } else { 1.0 }
}

fn entry(row: &Row, column: &Column, known: &Protocols<'_>, layer: usize) -> Entry {
    let found = values(row, column, known, layer);
    let numbers: Vec<f64> = found.iter().map(|v| v.1).collect();
    let over_episodes = || {
        let metrics = row.cells(&column.task).find(|(seed, _)| found.first().is_some_and(|v| v.0 == *seed))?.1;
        Some(metrics.metrics.as_ref().ok()?.get(column.ci95.as_ref()?)? * scale(column))
    };
    let gap = |(seed, cell): (u64, &Found)| {
        let gap = match &cell.metrics {
            Err(gap) => gap.clone(),
            Ok(metrics) if metrics.contains_key(&column.metric) => return None,
            Ok(_) => Gap { what: "not measured", why: format!("metrics.json has no {}", column.metric) },
        };
        Some((seed, gap))
    };
    let partial =
        |(seed, cell): (u64, &Found)| found.iter().any(|v| v.0 == seed).then(|| cell.origin.partial.clone()).flatten();
    Entry {
        partial: row.cells(&column.task).find_map(partial),
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

fn mark_best(all: &Gathered, lines: &mut [Line]) {
    for (i, _) in all.columns.iter().enumerate().filter(|(_, column)| column.headline) {
        let mean = |line: &Line| line.entries[i].summary.map(|s| s.mean);
        let means: Vec<f64> = lines.iter().filter_map(mean).collect();
        let best = means.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        for line in lines.iter_mut().filter(|line| means.len() > 1 && mean(line) == Some(best)) {
            line.entries[i].best = true;
        }
    }
}

/// Differences to the baseline of the same folder, or else to the first of the table.
fn subtract(all: &Gathered, lines: &mut [Line]) {
    let is_baseline = |line: &&Line| all.rows[line.row].run.method.as_deref() == Some(BASELINE);
    for i in 0..lines.len() {
        let row = &all.rows[lines[i].row];
        let same_suite = lines.iter().filter(is_baseline).find(|line| all.rows[line.row].suite == row.suite);
        let Some(baseline) = same_suite.or(lines.iter().find(is_baseline)).filter(|line| line.row != lines[i].row)
        else {
            continue;
        };
        let deltas: Vec<Option<Difference>> = all
            .columns
            .iter()
            .enumerate()
            .map(|(c, column)| {
                difference_of(column, (row, &lines[i].entries[c]), (&all.rows[baseline.row], &baseline.entries[c]))
            })
            .collect();
        for (entry, delta) in lines[i].entries.iter_mut().zip(deltas) {
            entry.delta = delta;
        }
    }
}

/// Over the seeds that both have; where that is a single one, over its episodes.
fn difference_of(column: &Column, ours: (&Row, &Entry), theirs: (&Row, &Entry)) -> Option<Difference> {
    let common: Vec<(u64, (f64, f64))> = ours
        .1
        .values
        .iter()
        .filter_map(|(seed, value)| Some((*seed, (*value, theirs.1.values.iter().find(|v| v.0 == *seed)?.1))))
        .collect();
    if let [(seed, _)] = common[..] {
        let prefix = column.metric.trim_end_matches("/mean");
        let episodes = |row: &Row| row.cells(&column.task).find(|c| c.0 == seed)?.1.episodes.get(prefix).cloned();
        if let (Some(a), Some(b)) = (episodes(ours.0), episodes(theirs.0))
            && a.len() == b.len()
            && a.len() > 1
        {
            let pairs: Vec<(f64, f64)> =
                a.iter().zip(&b).map(|(a, b)| (a * scale(column), b * scale(column))).collect();
            return paired(&pairs, Over::Episodes);
        }
    }
    paired(&common.iter().map(|c| c.1).collect::<Vec<_>>(), Over::Seeds)
}

/// In what a protocol differs from another, in words.
fn difference(here: &[String], there: &[String]) -> String {
    let split = |line: &String| {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        (key.trim().to_owned(), value.trim().to_owned())
    };
    let [here, there]: [Vec<(String, String)>; 2] = [here, there].map(|lines| lines.iter().map(split).collect());
    let value = |of: &[(String, String)], key: &str| {
        of.iter().find(|(k, _)| k == key).map_or("unset".to_owned(), |kv| kv.1.clone())
    };
    let mut keys: Vec<&String> =
        here.iter().chain(&there).filter(|kv| !(here.contains(kv) && there.contains(kv))).map(|kv| &kv.0).collect();
    keys.sort();
    keys.dedup();
    match keys.len() {
        0 => "the same settings on other data".into(),
        _ => keys
            .iter()
            .map(|key| format!("{key} is {}, not {}", value(&here, key), value(&there, key)))
            .collect::<Vec<_>>()
            .join("; "),
    }
}

/// Words on how intervals and differences were computed, and on marks, as far as they occur.
pub fn explanation(all: &Gathered, tables: &[Comparison]) -> Vec<String> {
    let entries = || tables.iter().flat_map(|table| &table.lines).flat_map(|line| &line.entries);
    let spans = |over| entries().any(|entry| entry.summary.is_some_and(|s| s.over == Some(over)));
    let pairs = |over| entries().any(|entry| entry.delta.is_some_and(|d| d.over == over && d.p.is_some()));
    let lone = entries().any(|entry| entry.summary.is_some_and(|s| s.half.is_none()));
    [
        (spans(Over::Seeds), "± of several seeds: half the 95 % confidence interval of their mean (Student's t)."),
        (spans(Over::Episodes), "± of a single seed: half the 95 % confidence interval over its episodes; what another seed would change is not in it."),
        (lone, "No ±: a single seed, and nothing that tells how sure it is."),
        (pairs(Over::Seeds), "p: two-sided paired t-test over the seeds that both runs have."),
        (pairs(Over::Episodes), "p of a single seed: two-sided paired t-test over the same episodes."),
        (pairs(Over::Seeds) || pairs(Over::Episodes), "Values of p are not corrected for the number of comparisons."),
    ]
    .into_iter()
    .filter(|(occurs, _)| *occurs)
    .map(|(_, words)| words.to_owned())
    .chain(words::brought(all))
    .chain(words::partial(all, tables))
    .collect()
}
