//! report.csv and report.json: the numbers in machine-readable form.

use crate::compare::{Comparison, Entry};
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
                        quoted(text)
                    } else {
                        String::new()
                    }
                };
                let fields = [
                    quoted(&row.run.name),
                    quoted(row.run.method.as_deref().unwrap_or_default()),
                    seed.to_string(),
                    quoted(&column.task),
                    quoted(&column.metric),
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

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// All content of the tables, and how it was made. Timings are only under `seconds` and `throughput`.
pub fn json(all: &Gathered, tables: &[Comparison]) -> Value {
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
        assert_eq!(super::quoted("a, \"b\""), "\"a, \"\"b\"\"\"");
        assert_eq!(super::quoted("moco"), "moco");
    }
}
