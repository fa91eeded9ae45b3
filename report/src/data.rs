//! report.csv and report.json: the numbers in machine-readable form.

use crate::compare::{Comparison, Entry};
use crate::findings::{self, Findings};
use crate::predict::{Matrix, Pair, Prediction};
use crate::rows::Gathered;
use crate::words;
use serde_json::{Map, Value, json};

/// One line per run, seed and column, without values that change when the same suite is run again. Values are
/// as in metrics.json; empty where there is none.
pub fn csv(all: &Gathered) -> String {
    let mut text =
        "run,method,seed,task,metric,value,checkpoint_sha256,protocol,leakage,partial\n".to_owned();
    for row in &all.rows {
        for column in &all.columns {
            for (seed, found) in row.cells(&column.task) {
                let value = found
                    .metrics
                    .as_ref()
                    .ok()
                    .and_then(|metrics| metrics.get(&column.metric));
                // A cell without a value may be in any state.
                let known = |text: &str| {
                    if value.is_some() {
                        csv_field(text)
                    } else {
                        String::new()
                    }
                };
                let fields = [
                    csv_field(&row.run.name),
                    csv_field(row.run.method.as_deref().unwrap_or_default()),
                    seed.to_string(),
                    csv_field(&column.task),
                    csv_field(&column.metric),
                    value.map(f64::to_string).unwrap_or_default(),
                    known(&found.cell.checkpoint_sha256),
                    known(&found.cell.protocol),
                    known(found.leakage.as_deref().unwrap_or_default()),
                    known(found.origin.partial.as_deref().unwrap_or_default()),
                ];
                text += &(fields.join(",") + "\n");
            }
        }
    }
    text
}

/// A text as a field of CSV: in quotes where it has to be.
pub fn csv_field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// Each pair of a measure and a number with its correlations, a line each; `None` where none are said.
pub fn correlations(all: &Gathered, findings: &Findings) -> Option<String> {
    let Prediction::Said(matrix) = &findings.prediction else {
        return None;
    };
    let mut text = "measure,number,backbones,spearman,spearman_low,spearman_high,kendall,kendall_low,\
                    kendall_high,p,holm\n"
        .to_owned();
    for (measure, number, pair) in pairs(matrix) {
        let names = [measure, number].map(|column| {
            let column = &all.columns[column];
            csv_field(&format!("{} {}", column.task, column.metric))
        });
        let values = pair.correlations.iter().flatten().flat_map(|of| {
            let [low, high] = of.interval.map_or([None; 2], |interval| interval.map(Some));
            [Some(of.value), low, high]
        });
        let mut values: Vec<String> = values
            .map(|v| v.map(|v| v.to_string()).unwrap_or_default())
            .collect();
        values.resize(6, String::new());
        let [p, holm] = [pair.test.map(|t| t.p), pair.test.map(|t| t.holm)];
        values.extend([p, holm].map(|p| p.map(|p| p.to_string()).unwrap_or_default()));
        text += &format!(
            "{},{},{}\n",
            names.join(","),
            pair.backbones.len(),
            values.join(",")
        );
    }
    Some(text)
}

/// The mean rank of each run in each column, and over all columns; `None` where there are none.
pub fn ranks(all: &Gathered, findings: &Findings) -> Option<String> {
    let mut text = "table,run,task,metric,rank\n".to_owned();
    for (number, order) in &findings.orders {
        for (row, ranks, mean) in &order.runs {
            let name = csv_field(&all.rows[*row].run.name);
            let columns = order.columns.iter().map(|&column| &all.columns[column]);
            let named =
                columns.map(|column| format!("{},{}", csv_field(&column.task), csv_field(&column.metric)));
            for (of, rank) in named.chain(["all,".into()]).zip(ranks.iter().chain([mean])) {
                let rank = rank.map(|rank| rank.to_string()).unwrap_or_default();
                text += &format!("{number},{name},{of},{rank}\n");
            }
        }
    }
    (!findings.orders.is_empty()).then_some(text)
}

fn pairs(matrix: &Matrix) -> impl Iterator<Item = (usize, usize, &Pair)> {
    let rows = matrix.measures.iter().zip(&matrix.pairs);
    rows.flat_map(|(&measure, pairs)| {
        let numbers = matrix.numbers.iter().zip(pairs);
        numbers.map(move |(&number, pair)| (measure, number, pair))
    })
}

fn json_findings(all: &Gathered, findings: &Findings) -> Value {
    let title = |column: usize| &all.columns[column].title;
    let correlations: Vec<Value> = match &findings.prediction {
        Prediction::Said(matrix) => pairs(matrix)
            .map(|(measure, number, pair)| {
                let [rho, tau] = [0, 1].map(|i| pair.correlations.map(|both| both[i]));
                json!({
                    "measure": title(measure),
                    "number": title(number),
                    "backbones": pair.backbones.len(),
                    "spearman": rho,
                    "kendall": tau,
                    "test": pair.test,
                })
            })
            .collect(),
        _ => Vec::new(),
    };
    let orders = findings.orders.iter().map(|(number, order)| {
        let runs = order
            .runs
            .iter()
            .map(|(row, ranks, mean)| json!({"run": all.rows[*row].run.name, "ranks": ranks, "mean": mean}));
        let tests = order.tests.iter().map(|tested| {
            let runs: Vec<&String> = tested.rows.iter().map(|&row| &all.rows[row].run.name).collect();
            json!({
                "over": tested.title(all),
                "runs": runs,
                "ranks": tested.test.ranks,
                "statistic": tested.test.statistic,
                "p": tested.test.p,
                "holm": tested.holm,
                "critical_difference": tested.test.critical_difference,
            })
        });
        json!({
            "table": number,
            "columns": order.columns.iter().map(|&column| title(column)).collect::<Vec<_>>(),
            "runs": runs.collect::<Vec<_>>(),
            "tests": tests.collect::<Vec<_>>(),
        })
    });
    json!({
        "sweeps": findings.sweeps,
        "correlations": correlations,
        "correlations_refused": findings::refusal(&findings.prediction),
        "ranks": orders.collect::<Vec<_>>(),
    })
}

/// All content of the tables, and how it was made. Timings are only under `seconds` and `throughput`.
pub fn json(all: &Gathered, tables: &[Comparison], findings: &Findings) -> Value {
    let suites = all.suites.iter().map(|suite| {
        json!({
            "title": suite.title,
            "about": suite.about,
            "command": suite.command,
            "published_protocol": suite.published_protocol,
        })
    });
    json!({
        "title": words::heading(all),
        "suites": suites.collect::<Vec<_>>(),
        "columns": all.columns,
        "tables": tables.iter().map(|table| json_table(all, table)).collect::<Vec<_>>(),
        "findings": json_findings(all, findings),
        "intervals": words::explanation(all, tables),
        "runs": runs(all),
    })
}

fn json_table(all: &Gathered, table: &Comparison) -> Value {
    let rows = table.lines.iter().map(|line| {
        let entries = table.columns.iter().map(|&column| {
            (
                all.columns[column].title.clone(),
                json_entry(&line.entries[column]),
            )
        });
        json!({"run": all.rows[line.row].run.name, "numbers": entries.collect::<Map<_, _>>()})
    });
    let protocols = table.protocols.iter().map(|p| {
        (
            p.task.clone(),
            json!({"settings": p.settings, "difference": p.difference, "recorded": p.recorded}),
        )
    });
    json!({
        "table": table.number,
        "measured": words::apart(table),
        "protocols": protocols.collect::<Map<_, _>>(),
        "rows": rows.collect::<Vec<_>>(),
    })
}

fn json_entry(entry: &Entry) -> Value {
    let values = entry
        .values
        .iter()
        .map(|(seed, value)| (seed.to_string(), json!(value)));
    let gaps = entry
        .gaps
        .iter()
        .map(|(seed, gap)| (seed.to_string(), json!(gap.why)));
    json!({
        "by_seed": values.collect::<Map<_, _>>(),
        "summary": entry.summary,
        "best": entry.best,
        "partial": entry.partial,
        "leakage": entry.leakage,
        "published": entry.published,
        "difference": entry.delta,
        "missing": gaps.collect::<Map<_, _>>(),
        "other_tables": entry.elsewhere,
    })
}

fn runs(all: &Gathered) -> Vec<Value> {
    let run = |row: &crate::rows::Row| {
        let cells = row.seeds.iter().flat_map(|seed| &seed.cells).map(|found| {
            let cell = &found.cell;
            json!({
                "seed": cell.seed,
                "task": found.task,
                "missing": found.metrics.as_ref().err().map(|gap| &gap.why),
                "checkpoint_sha256": cell.checkpoint_sha256,
                "protocol": cell.protocol,
                "protocol_settings": cell.protocol_settings,
                "command": cell.command,
                "choice": cell.choice,
                "version": cell.version,
                "commit": cell.commit,
                "seconds": cell.seconds,
                "throughput": found.course.images_per_second,
            })
        });
        json!({
            "name": row.run.name,
            "method": row.run.method,
            "imported": row.is_imported(),
            "brought_along": row.run.imported,
            "own_settings": row.run.own_settings,
            "cells": cells.collect::<Vec<_>>(),
        })
    };
    all.rows.iter().map(run).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn fields_with_commas_and_quotes_are_quoted() {
        assert_eq!(super::csv_field("a, \"b\""), "\"a, \"\"b\"\"\"");
        assert_eq!(super::csv_field("moco"), "moco");
    }
}
