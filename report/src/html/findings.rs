//! Choices, correlations and ranks, as the template shows them.

use super::charts::{Charts, charts};
use crate::findings::{self, Findings};
use crate::predict::{Matrix, Pair, Prediction};
use crate::rows::Gathered;
use crate::words;
use serde::Serialize;

/// What predicts what.
#[derive(Serialize, Default)]
pub(super) struct Predicted {
    /// Why nothing is said.
    refusal: Option<String>,
    reading: &'static str,
    columns: Vec<String>,
    rows: Vec<PredictedRow>,
    scatters: Vec<Scatter>,
}

#[derive(Serialize)]
struct PredictedRow {
    name: String,
    cells: Vec<PredictedCell>,
}

#[derive(Serialize)]
struct PredictedCell {
    /// Address of its scatter plot.
    id: String,
    rho: Option<String>,
    tau: Option<String>,
    p: Option<String>,
    backbones: usize,
    /// Whether there is a correlation beyond chance among all pairs.
    strong: bool,
    absent: String,
    sort: Option<f64>,
}

#[derive(Serialize)]
struct Scatter {
    id: String,
    title: String,
    charts: Charts,
}

/// Average ranks of a table.
#[derive(Serialize)]
pub(super) struct Ranked {
    /// Number of the table, if there are several.
    number: usize,
    columns: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
    notes: Vec<String>,
    diagrams: Vec<String>,
}

pub(super) fn predicted(all: &Gathered, findings: &Findings) -> Option<Predicted> {
    match &findings.prediction {
        Prediction::Nothing => None,
        Prediction::TooFew(_) => Some(Predicted {
            refusal: findings::refusal(&findings.prediction),
            ..Predicted::default()
        }),
        Prediction::Said(matrix) => Some(said(all, matrix)),
    }
}

fn said(all: &Gathered, matrix: &Matrix) -> Predicted {
    let title = |&column: &usize| all.columns[column].title.clone();
    let (mut rows, mut scatters) = (Vec::new(), Vec::new());
    for (i, (measure, pairs)) in matrix.measures.iter().zip(&matrix.pairs).enumerate() {
        let cells = pairs
            .iter()
            .enumerate()
            .map(|(j, pair)| cell(format!("pair-{i}-{j}"), pair));
        rows.push(PredictedRow {
            name: title(measure),
            cells: cells.collect(),
        });
        for (j, pair) in pairs
            .iter()
            .enumerate()
            .filter(|(_, pair)| pair.correlations.is_some())
        {
            let title = format!(
                "{} and {}, {} backbones",
                title(measure),
                title(&matrix.numbers[j]),
                pair.backbones.len()
            );
            let charts = charts(&[matrix.scatter(all, i, j)]);
            scatters.extend(charts.map(|charts| Scatter {
                id: format!("pair-{i}-{j}"),
                title,
                charts,
            }));
        }
    }
    Predicted {
        refusal: None,
        reading: findings::READING,
        columns: matrix.numbers.iter().map(title).collect(),
        rows,
        scatters,
    }
}

fn cell(id: String, pair: &Pair) -> PredictedCell {
    let [rho, tau] = [0, 1].map(|i| pair.correlations.map(|both| both[i]));
    PredictedCell {
        id,
        rho: rho.as_ref().map(findings::correlation),
        tau: tau.as_ref().map(findings::correlation),
        p: findings::significance(pair),
        backbones: pair.backbones.len(),
        strong: pair.test.is_some_and(|test| test.is_significant_among_all()),
        absent: findings::absence(pair),
        sort: rho.map(|rho| rho.value),
    }
}

pub(super) fn ranked(all: &Gathered, findings: &Findings) -> Vec<Ranked> {
    let several = findings.orders.len() > 1;
    let one = |(number, order): &(usize, crate::order::Order)| {
        let text = |rank: &Option<f64>| rank.map_or("–".to_owned(), words::fixed);
        let rows = order.runs.iter().map(|(row, ranks, mean)| {
            (
                all.rows[*row].run.name.clone(),
                ranks.iter().chain([mean]).map(text).collect(),
            )
        });
        let titles = order
            .columns
            .iter()
            .map(|&column| all.columns[column].title.clone());
        Ranked {
            number: if several { *number } else { 0 },
            columns: titles.chain(["all".into()]).collect(),
            rows: rows.collect(),
            notes: order.sentences(all),
            diagrams: order.diagrams(all),
        }
    };
    findings.orders.iter().map(one).collect()
}
