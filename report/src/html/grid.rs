//! Tables of numbers, differences and costs, as the template shows them.

use super::made::anchor;
use crate::chart::{Whisker, forest};
use crate::compare::{Comparison, Entry, Line};
use crate::rows::{Gathered, Row};
use crate::words;
use serde::Serialize;

/// A table with its differences and other measures.
#[derive(Serialize)]
pub(super) struct TableView {
    number: usize,
    apart: Vec<String>,
    headline: Grid,
    differences: Option<Grid>,
    forests: Vec<String>,
    others: Grid,
    published: bool,
}

#[derive(Serialize, Default)]
pub(super) struct Grid {
    columns: Vec<String>,
    rows: Vec<GridRow>,
}

#[derive(Serialize)]
struct GridRow {
    name: String,
    made: String,
    method: Option<String>,
    imported: bool,
    own: bool,
    cells: Vec<GridCell>,
}

/// The content of a cell of a table.
#[derive(Serialize, Default)]
struct GridCell {
    /// The number, if there is one.
    text: Option<String>,
    half: Option<String>,
    /// The value to sort by.
    sort: Option<f64>,
    /// Link to how it was made.
    made: String,
    /// Mark after the number.
    mark: &'static str,
    best: bool,
    strong: bool,
    published: Option<String>,
    /// Small text below the number: number of seeds, p.
    note: Option<String>,
    /// The reason for a missing number, short and as a sentence.
    absent: Option<String>,
    why: String,
    /// The table that has it, if it is another one.
    elsewhere: Option<usize>,
}

pub(super) fn table_view(all: &Gathered, table: &Comparison) -> TableView {
    let headline: Vec<usize> = words::columns(all, table, true).collect();
    let others: Vec<usize> = words::columns(all, table, false).collect();
    let titles = |columns: &[usize]| {
        columns
            .iter()
            .map(|&column| words::title(&all.columns[column]))
            .collect()
    };
    let grid = |columns: &[usize], cell: &dyn Fn(usize, usize, &Entry) -> GridCell| Grid {
        columns: titles(columns),
        rows: table
            .lines
            .iter()
            .map(|line| {
                let cells = columns
                    .iter()
                    .map(|&column| cell(line.row, column, &line.entries[column]))
                    .collect();
                grid_row(all, line.row, cells)
            })
            .collect(),
    };
    let number = |row: usize, column: usize, entry: &Entry| {
        number_cell(anchor(all, row, &all.columns[column].task), entry)
    };
    let difference = |row: usize, column: usize, entry: &Entry| {
        difference_cell(anchor(all, row, &all.columns[column].task), entry)
    };
    TableView {
        number: table.number,
        apart: words::apart(table),
        headline: grid(&headline, &number),
        differences: words::has_differences(all, table).then(|| {
            let mut grid = grid(&headline, &difference);
            grid.rows
                .retain(|row| row.cells.iter().any(|cell| cell.text.is_some()));
            grid
        }),
        forests: headline
            .iter()
            .filter_map(|&column| column_forest(all, table, column))
            .collect(),
        others: grid(&others, &number),
        published: table.lines.iter().any(|line| {
            headline
                .iter()
                .any(|&column| line.entries[column].published.is_some())
        }),
    }
}

fn grid_row(all: &Gathered, row: usize, cells: Vec<GridCell>) -> GridRow {
    let (run, imported) = (&all.rows[row].run, all.rows[row].is_imported());
    GridRow {
        name: run.name.clone(),
        made: format!("made-{row}"),
        // The method is not shown if the run has the same name.
        method: run
            .method
            .clone()
            .filter(|method| !run.name.to_lowercase().contains(method)),
        imported,
        own: run.own_settings.values().any(|settings| !settings.is_empty()),
        cells,
    }
}

fn absent(made: String, entry: &Entry) -> GridCell {
    let why: Vec<String> = entry
        .gaps
        .iter()
        .map(|(seed, gap)| format!("seed {seed}: {}", gap.why))
        .collect();
    GridCell {
        made,
        absent: Some(words::absence(entry)),
        why: why.join("; "),
        elsewhere: entry.elsewhere.first().copied(),
        ..GridCell::default()
    }
}

fn number_cell(made: String, entry: &Entry) -> GridCell {
    let published = entry.published.map(|p| format!("{p:.2}"));
    let Some(summary) = &entry.summary else {
        return GridCell {
            published,
            ..absent(made, entry)
        };
    };
    GridCell {
        text: Some(words::fixed(summary.mean)),
        mark: words::mark(entry),
        half: summary.half.map(|half| format!("{half:.2}")),
        sort: Some(summary.mean),
        best: entry.best,
        published,
        note: words::part(entry),
        why: entry
            .gaps
            .iter()
            .map(|(seed, gap)| format!("seed {seed}: {}", gap.why))
            .collect::<Vec<_>>()
            .join("; "),
        made,
        ..GridCell::default()
    }
}

fn difference_cell(made: String, entry: &Entry) -> GridCell {
    let Some(delta) = &entry.delta else {
        return GridCell {
            absent: Some(if entry.summary.is_some() {
                "–".into()
            } else {
                words::absence(entry)
            }),
            ..GridCell::default()
        };
    };
    GridCell {
        text: Some(words::signed(delta.mean)),
        mark: words::mark(entry),
        half: delta.half.map(|half| format!("{half:.2}")),
        sort: Some(delta.mean),
        strong: delta.is_significant_among_all(),
        note: words::significance(delta),
        made,
        ..GridCell::default()
    }
}

fn column_forest(all: &Gathered, table: &Comparison, column: usize) -> Option<String> {
    let whisker = |line: &Line| {
        let delta = line.entries[column].delta?;
        let name = all.rows[line.row].run.name.clone() + words::mark(&line.entries[column]);
        Some(Whisker {
            name,
            mean: delta.mean,
            half: delta.half,
        })
    };
    let whiskers: Vec<Whisker> = table.lines.iter().filter_map(whisker).collect();
    (!whiskers.is_empty()).then(|| forest(&all.columns[column].title, &whiskers))
}

/// Seconds of each task and images per second of its training, means over the seeds.
pub(super) fn costs(all: &Gathered) -> Grid {
    let timed: Vec<&str> = all
        .tasks()
        .into_iter()
        .filter(|task| seconds(all.rows.iter(), task).is_some())
        .collect();
    let cell = |i: usize, row: &Row, task: &str| {
        let Some(mean) = seconds([row], task) else {
            return GridCell {
                absent: Some("–".into()),
                ..GridCell::default()
            };
        };
        let rates: Vec<f64> = row
            .cells(task)
            .filter_map(|(_, found)| found.course.images_per_second)
            .collect();
        let rate = rates.iter().sum::<f64>() / rates.len() as f64;
        GridCell {
            text: Some(words::clock(mean)),
            sort: Some(mean),
            note: (!rates.is_empty()).then(|| format!("{rate:.0} images/s")),
            made: anchor(all, i, task),
            ..GridCell::default()
        }
    };
    let rows = all
        .rows
        .iter()
        .enumerate()
        .map(|(i, row)| grid_row(all, i, timed.iter().map(|task| cell(i, row, task)).collect()));
    Grid {
        rows: rows.collect(),
        columns: timed.iter().map(|task| (*task).to_owned()).collect(),
    }
}

fn seconds<'a>(rows: impl IntoIterator<Item = &'a Row>, task: &str) -> Option<f64> {
    let found = rows
        .into_iter()
        .flat_map(|row| &row.seeds)
        .flat_map(|seed| &seed.cells);
    let times: Vec<f64> = found
        .filter(|f| f.task == task && f.metrics.is_ok())
        .map(|f| f.cell.seconds)
        .filter(|s| *s > 0.0)
        .collect();
    (!times.is_empty()).then(|| times.iter().sum::<f64>() / times.len() as f64)
}
