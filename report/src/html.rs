//! report.html: the values for the template.

use crate::chart::{self, Panel, Whisker, chart, forest};
use crate::compare::{BASELINE, Comparison, Entry, explanation};
use crate::gallery::{Gallery, galleries};
use crate::gather::{Gathered, Row, TaskResult};
use crate::record::{PRETRAIN, Suite};
use crate::{curves, words};
use camtrast_common::error::{Error, Result};
use minijinja::value::Serde;
use minijinja::{Environment, Error as TemplateError, syntax::SyntaxConfig};
use serde::Serialize;

/// The values of the template.
#[derive(Serialize)]
struct Page<'a> {
    style: &'static str,
    script: &'static str,
    title: String,
    about: Vec<&'a str>,
    commands: Vec<&'a str>,
    published_protocol: Vec<&'a str>,
    baseline: &'static str,
    status: Status,
    several: bool,
    tables: Vec<TableView>,
    explanation: Vec<String>,
    over_x: Option<Charts>,
    losses: Option<Charts>,
    galleries: Vec<Gallery>,
    costs: Grid,
    gaps: Vec<[String; 4]>,
    made: Vec<Made>,
}

/// A table with its differences and other measures.
#[derive(Serialize)]
struct TableView {
    number: usize,
    apart: Vec<String>,
    headline: Grid,
    differences: Option<Grid>,
    forests: Vec<String>,
    others: Grid,
    published: bool,
}

#[derive(Serialize, Default)]
struct Grid {
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

#[derive(Serialize)]
struct Legend {
    name: String,
    colour: String,
    dashes: &'static str,
}

#[derive(Serialize)]
struct Charts {
    svgs: Vec<String>,
    legend: Vec<Legend>,
}

#[derive(Serialize)]
struct Made {
    id: String,
    name: String,
    method: Option<String>,
    imported: bool,
    /// File of a given backbone.
    brought: Option<String>,
    own: Vec<(String, Vec<String>)>,
    tasks: Vec<MadeTask>,
}

#[derive(Serialize)]
struct MadeTask {
    id: String,
    task: String,
    seeds: Vec<MadeSeed>,
}

#[derive(Serialize)]
struct MadeSeed {
    seed: u64,
    gap: Option<String>,
    checkpoint: String,
    command: String,
    program: String,
    seconds: Option<String>,
    folder: String,
    config: Option<String>,
    protocol: Vec<String>,
}

#[derive(Serialize)]
struct Status {
    total: usize,
    finished: usize,
    failed: usize,
}

/// The page, in one file.
///
/// # Errors
/// [`Error::Settings`] when the template cannot be filled.
pub fn page(all: &Gathered, tables: &[Comparison]) -> Result<String> {
    let page = Page {
        style: include_str!("../templates/style.css"),
        script: include_str!("../templates/script.js"),
        title: words::heading(all),
        about: texts(all, |suite| &suite.about),
        commands: texts(all, |suite| &suite.command),
        published_protocol: texts(all, |suite| &suite.published_protocol),
        baseline: BASELINE,
        status: status(all),
        several: tables.len() > 1,
        tables: tables.iter().map(|table| table_view(all, table)).collect(),
        explanation: explanation(all, tables),
        over_x: charts(&curves::over_x(all, tables)),
        losses: charts(&curves::losses(all)),
        galleries: galleries(all),
        costs: costs(all),
        gaps: words::gaps(all),
        made: all
            .rows
            .iter()
            .enumerate()
            .map(|(i, row)| made(all, i, row))
            .collect(),
    };
    laid_out(page).map_err(|e| {
        Error::settings(
            format!("the report's page cannot be made: {e:#}"),
            "report this as a bug of camtrast",
        )
    })
}

/// Everything is escaped, because the names of the templates end in `.html`.
fn laid_out(page: Page<'_>) -> Result<String, TemplateError> {
    let mut templates = Environment::new();
    templates.set_syntax(
        SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()?,
    );
    templates.add_template("parts.html", include_str!("../templates/parts.html"))?;
    templates.add_template("report.html", include_str!("../templates/report.html"))?;
    templates.get_template("report.html")?.render(Serde(page))
}

fn texts(all: &Gathered, text: fn(&Suite) -> &str) -> Vec<&str> {
    all.suites
        .iter()
        .map(text)
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .collect()
}

fn status(all: &Gathered) -> Status {
    let cells = || {
        all.rows
            .iter()
            .flat_map(|row| &row.seeds)
            .flat_map(|seed| &seed.cells)
    };
    let failed = |found: &&TaskResult| found.metrics.as_ref().is_err_and(|gap| gap.what == "failed");
    Status {
        total: cells().count(),
        finished: cells().filter(|found| found.metrics.is_ok()).count(),
        failed: cells().filter(failed).count(),
    }
}

fn anchor(all: &Gathered, row: usize, task: &str) -> String {
    let task = all.tasks().iter().position(|known| *known == task).unwrap_or(0);
    format!("made-{row}-{task}")
}

fn table_view(all: &Gathered, table: &Comparison) -> TableView {
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
        strong: words::significant(delta),
        note: words::significance(delta),
        made,
        ..GridCell::default()
    }
}

fn column_forest(all: &Gathered, table: &Comparison, column: usize) -> Option<String> {
    let whisker = |line: &crate::compare::Line| {
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

fn charts(panels: &[Panel]) -> Option<Charts> {
    let drawn = |line: usize| panels.iter().any(|panel| !panel.series[line].1.is_empty());
    let names = panels
        .first()?
        .series
        .iter()
        .enumerate()
        .filter(|(i, _)| drawn(*i));
    let legend = names.map(|(i, (name, _))| Legend {
        name: name.clone(),
        colour: chart::colour(i),
        dashes: chart::dashes(i),
    });
    Some(Charts {
        svgs: panels.iter().map(chart).collect(),
        legend: legend.collect(),
    })
}

/// Seconds of each task and images per second of its training, means over the seeds.
fn costs(all: &Gathered) -> Grid {
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

fn made(all: &Gathered, index: usize, row: &Row) -> Made {
    let task = |task: &&str| {
        let cells: Vec<(u64, &TaskResult)> = row.cells(task).collect();
        (!cells.is_empty()).then(|| MadeTask {
            id: anchor(all, index, task),
            task: (*task).to_owned(),
            seeds: cells
                .iter()
                .map(|(seed, found)| made_seed(*seed, found))
                .collect(),
        })
    };
    let own = row
        .run
        .own_settings
        .iter()
        .filter(|(_, settings)| !settings.is_empty());
    let mut own: Vec<(String, Vec<String>)> = own
        .map(|(task, settings)| (task.clone(), settings.clone()))
        .collect();
    own.sort_by_key(|(task, _)| task != PRETRAIN);
    Made {
        id: format!("made-{index}"),
        name: row.run.name.clone(),
        method: row.run.method.clone(),
        imported: row.is_imported(),
        brought: row.run.imported.as_ref().map(|path| path.display().to_string()),
        own,
        tasks: all.tasks().iter().filter_map(task).collect(),
    }
}

fn made_seed(seed: u64, found: &TaskResult) -> MadeSeed {
    let cell = &found.cell;
    MadeSeed {
        seed,
        gap: found.metrics.as_ref().err().map(|gap| gap.why.clone()),
        checkpoint: cell.checkpoint_sha256.clone(),
        command: cell.command.clone(),
        program: match (&cell.version[..], &cell.commit[..]) {
            ("", "") => String::new(),
            (version, commit) => format!("camtrast {version} ({commit})"),
        },
        seconds: (cell.seconds > 0.0).then(|| words::clock(cell.seconds)),
        folder: found.folder.display().to_string(),
        config: found.config.clone(),
        protocol: cell.protocol_settings.clone(),
    }
}
