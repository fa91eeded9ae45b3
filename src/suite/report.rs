//! A suite's table, figure and pages.

use super::cell::{Cell, Results};
use super::recipe::{Run, SuiteRecipe};
use report::chart::{Axis, Panel, Point, figure};
use crate::screen::clock;
use report::table::Table;
use anyhow::Result;
use common::files::write_atomically;
use std::path::Path;

/// Mean over seeds, and how sure it is.
struct Summary {
    mean: f64,
    /// One seed: half the 95 % interval over episodes. Several: the standard deviation over seeds.
    spread: Option<f64>,
}

fn summary(run: &Run, column: &str, done: &[(&Cell, Results)]) -> Option<Summary> {
    let found = done.iter().filter(|(cell, _)| cell.run.name == run.name);
    // Accuracies in percent, as everywhere in tables.
    let scale = if is_accuracy(column) { 100.0 } else { 1.0 };
    let values: Vec<(f64, Option<f64>)> = found
        .filter_map(|(_, results)| results.values.get(column))
        .map(|(mean, ci)| (mean * scale, ci.map(|c| c * scale)))
        .collect();
    let n = values.len() as f64;
    let mean = values.iter().map(|v| v.0).sum::<f64>() / n;
    match &values[..] {
        [] => None,
        [(mean, ci)] => Some(Summary { mean: *mean, spread: *ci }),
        many => {
            let squares = many.iter().map(|v| (v.0 - mean).powi(2)).sum::<f64>();
            Some(Summary { mean, spread: Some((squares / (n - 1.0)).sqrt()) })
        }
    }
}

fn is_accuracy(column: &str) -> bool {
    column.ends_with("-shot")
}

/// A row a run, and under it the published numbers if there are any.
pub fn table(recipe: &SuiteRecipe, done: &[(&Cell, Results)]) -> Table {
    let columns = recipe.columns();
    let mut table =
        Table::new(["run".to_owned()].into_iter().chain(columns.iter().cloned()).chain(["trained in".into()]));
    for run in &recipe.runs {
        let cells = columns.iter().map(|column| match summary(run, column, done) {
            Some(Summary { mean, spread: Some(spread) }) => format!("{mean:.2} ± {spread:.2}"),
            Some(Summary { mean, .. }) => format!("{mean:.2}"),
            None => "–".into(),
        });
        let seconds: f64 = done.iter().filter(|(cell, _)| cell.run.name == run.name).map(|(_, r)| r.seconds).sum();
        table.row([run.name.clone()].into_iter().chain(cells).chain([clock(seconds)]));
        if !run.published.is_empty() {
            let number = |c: &String| run.published.get(c).map_or(String::new(), |v| format!("{v:.2}"));
            table.row(["  published".to_owned()].into_iter().chain(columns.iter().map(number)).chain([String::new()]));
        }
    }
    table
}

/// Writes report.md, results.csv and, where runs have places on lines, figure.svg.
pub fn write(
    out: &Path,
    recipe_path: &Path,
    recipe: &SuiteRecipe,
    done: &[(&Cell, Results)],
    failed: &[(&Cell, String)],
    seconds: f64,
) -> Result<()> {
    let columns = recipe.columns();
    let mut csv = format!("run,seed,{},seconds,backbone\n", columns.join(","));
    for (cell, results) in done {
        let values = columns.iter().map(|c| results.values.get(c).map_or(String::new(), |v| v.0.to_string()));
        let values = values.collect::<Vec<_>>().join(",");
        csv += &format!("\"{}\",{},{values},{:.1},{}\n", cell.run.name, cell.seed, results.seconds, results.backbone);
    }
    write_atomically(&out.join("results.csv"), |file| file.write_all(csv.as_bytes()))?;

    let panels = panels(recipe, done);
    let has_figure = panels.iter().any(|panel| panel.series.iter().any(|(_, points)| !points.is_empty()));
    if has_figure {
        let svg = figure(&panels);
        write_atomically(&out.join("figure.svg"), |file| file.write_all(svg.as_bytes()))?;
    }
    let spread = match recipe.seeds.len() {
        1 => format!("± half the 95 % confidence interval over {} episodes", recipe.fewshot.episodes),
        n => format!("mean ± standard deviation over {n} seeds, {} episodes each", recipe.fewshot.episodes),
    };
    let runs = done.iter().map(|(cell, results)| {
        let folder = cell.out.strip_prefix(out).unwrap_or(&cell.out).display().to_string();
        format!(
            "- {}, seed {}: [settings]({folder}/config.toml), [log]({folder}/log.jsonl), backbone {}\n",
            cell.run.name,
            cell.seed,
            &results.backbone[..12]
        )
    });
    let failures =
        failed.iter().map(|(cell, why)| format!("- **failed**: {}, seed {}: {why}\n", cell.run.name, cell.seed));
    let page = format!(
        "# {title}\n\n{about}\n\n{table}\n\nAccuracies in percent, {spread}. H_R: representation entropy in nats; U: uniformity; both on the \
         images trained on.\n{figure}\n## Runs\n\n{runs}{failures}\nMade by `camtrast suite run {recipe}`, camtrast {version} ({commit}), in {time}.\n",
        title = recipe.title,
        about = recipe.about.trim(),
        table = table(recipe, done).to_markdown(),
        figure = if has_figure { "\n![figure](figure.svg)\n" } else { "" },
        runs = runs.collect::<String>(),
        failures = failures.collect::<String>(),
        recipe = recipe_path.display(),
        version = env!("CARGO_PKG_VERSION"),
        commit = env!("CAMTRAST_COMMIT"),
        time = clock(seconds),
    );
    write_atomically(&out.join("report.md"), |file| file.write_all(page.as_bytes()))?;
    Ok(())
}

fn panels(recipe: &SuiteRecipe, done: &[(&Cell, Results)]) -> Vec<Panel> {
    let mut series: Vec<&str> = Vec::new();
    for name in recipe.runs.iter().filter_map(|run| run.series.as_deref()) {
        if !series.contains(&name) {
            series.push(name);
        }
    }
    let panel = |column: &String| {
        let line = |name: &&str| {
            let points = recipe.runs.iter().filter(|run| run.series.as_deref() == Some(*name)).filter_map(|run| {
                let Summary { mean, spread } = summary(run, column, done)?;
                Some(Point { x: run.x?, y: mean, spread: spread.unwrap_or(0.0) })
            });
            (name.to_string(), points.collect())
        };
        let title = if is_accuracy(column) { format!("{column} accuracy (%)") } else { column.clone() };
        Panel { title, x_axis: recipe.x_axis.clone(), axis: Axis::Places, series: series.iter().map(line).collect() }
    };
    recipe.columns().iter().map(panel).collect()
}
