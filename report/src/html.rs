//! report.html: the values for the template.

mod charts;
mod findings;
mod grid;
mod made;

use crate::compare::{BASELINE, Comparison};
use crate::findings::Findings;
use crate::gallery::{Gallery, galleries};
use crate::record::Suite;
use crate::rows::{Gathered, TaskResult};
use crate::sweeps::Swept;
use crate::{curves, validation, words};
use camtrast_common::error::{Error, Result};
use charts::{Charts, charts};
use findings::{Predicted, Ranked, predicted, ranked};
use grid::{Grid, TableView, costs, table_view};
use made::{Made, made};
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
    sweeps: &'a [Swept],
    predicted: Option<Predicted>,
    ranked: Vec<Ranked>,
    over_x: Option<Charts>,
    losses: Option<Charts>,
    validation: Option<Charts>,
    tested: String,
    galleries: Vec<Gallery>,
    costs: Grid,
    gaps: Vec<[String; 4]>,
    made: Vec<Made>,
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
pub fn page(all: &Gathered, tables: &[Comparison], findings: &Findings) -> Result<String> {
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
        explanation: words::explanation(all, tables),
        sweeps: &findings.sweeps,
        predicted: predicted(all, findings),
        ranked: ranked(all, findings),
        over_x: charts(&curves::over_x(all, tables)),
        losses: charts(&curves::losses(all)),
        validation: charts(&validation::panels(all)),
        tested: validation::tested(all),
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
