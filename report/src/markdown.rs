//! report.md, and the table for the terminal.

use crate::compare::{BASELINE, Comparison, Entry};
use crate::findings::{self, Findings};
use crate::predict::Prediction;
use crate::record::PRETRAIN;
use crate::rows::Gathered;
use crate::table::Table;
use crate::words;
use std::fmt::Write;

/// The headline tables as text for a terminal.
pub fn text(all: &Gathered, tables: &[Comparison]) -> String {
    let one = |table: &Comparison| {
        let heading = if tables.len() > 1 {
            format!("Table {}\n", table.number)
        } else {
            String::new()
        };
        let apart = words::apart(table).into_iter().map(|words| format!("\n{words}"));
        let headline = words::columns(all, table, true).next().is_some();
        heading + &grid(all, table, headline, |_, text| text).to_text() + &apart.collect::<String>()
    };
    tables
        .iter()
        .map(one)
        .chain(words::marks(all, tables))
        .collect::<Vec<_>>()
        .join("\n\n")
}

/// The page.
pub fn page(all: &Gathered, tables: &[Comparison], findings: &Findings, figure: Option<&str>) -> String {
    let mut page = format!("# {}\n\n", words::heading(all));
    for about in all
        .suites
        .iter()
        .map(|suite| suite.about.trim())
        .filter(|about| !about.is_empty())
    {
        let _ = writeln!(page, "{about}\n");
    }
    for table in tables {
        if tables.len() > 1 {
            let _ = writeln!(page, "## Table {}\n", table.number);
        }
        for words in words::apart(table) {
            let _ = writeln!(page, "{}\n", escape(&words));
        }
        if words::columns(all, table, true).next().is_some() {
            let _ = writeln!(page, "{}\n", grid(all, table, true, marked).to_markdown());
        }
        if words::has_differences(all, table) {
            let _ = writeln!(
                page,
                "Differences to {BASELINE}:\n\n{}\n",
                differences(all, table).to_markdown()
            );
        }
        if words::columns(all, table, false).next().is_some() {
            let _ = writeln!(
                page,
                "Other measures, not ranked:\n\n{}\n",
                grid(all, table, false, marked).to_markdown()
            );
        }
    }
    for words in words::explanation(all, tables) {
        let _ = writeln!(page, "- {words}");
    }
    for words in all
        .suites
        .iter()
        .map(|suite| suite.published_protocol.trim())
        .filter(|words| !words.is_empty())
    {
        let _ = writeln!(page, "- Published numbers in brackets: {words}");
    }
    said(&mut page, all, findings);
    if let Some(figure) = figure {
        let _ = writeln!(page, "\n![{}]({figure})", escape(&all.suites[0].x_axis));
    }
    let gaps = words::gaps(all);
    if !gaps.is_empty() {
        let mut table = Table::new(["run", "task", "seed", "why"]);
        gaps.into_iter().for_each(|gap| table.row(gap));
        let _ = writeln!(page, "\n## Missing\n\n{}", table.to_markdown());
    }
    let _ = writeln!(page, "\n## Runs\n");
    for row in &all.rows {
        let imported = if row.is_imported() { ", imported" } else { "" };
        let place = row
            .run
            .imported
            .as_ref()
            .filter(|path| !path.as_os_str().is_empty());
        let place = place
            .map(|path| format!(" from {}", path.display()))
            .unwrap_or_default();
        let _ = writeln!(page, "- {}{imported}{}", escape(&row.run.name), escape(&place));
        for (task, settings) in row
            .run
            .own_settings
            .iter()
            .filter(|(_, settings)| !settings.is_empty())
        {
            let _ = writeln!(page, "  - own settings, {task}: `{}`", settings.join("`, `"));
        }
        for (seed, found) in row
            .seeds
            .iter()
            .filter_map(|seed| Some((seed.seed, seed.cells.first()?)))
        {
            let what = if found.task == PRETRAIN {
                "backbone"
            } else {
                "used backbone"
            };
            let checkpoint: String = found.cell.checkpoint_sha256.chars().take(12).collect();
            if !checkpoint.is_empty() {
                let _ = writeln!(
                    page,
                    "  - seed {seed}: {what} {checkpoint}, {} ({})",
                    found.cell.version, found.cell.commit
                );
            }
        }
    }
    for command in all
        .suites
        .iter()
        .map(|suite| &suite.command)
        .filter(|command| !command.is_empty())
    {
        let _ = writeln!(page, "\nMade by `{command}`.");
    }
    page
}

/// Sweeps, correlations and ranks.
fn said(page: &mut String, all: &Gathered, findings: &Findings) {
    let mut part = |title: &str, table: Option<String>, notes: &[String]| {
        let _ = write!(page, "\n## {title}\n\n");
        if let Some(table) = table {
            let _ = write!(page, "{table}\n\n");
        }
        for note in notes {
            let _ = writeln!(page, "- {}", escape(note));
        }
    };
    for sweep in &findings.sweeps {
        let notes = [&[sweep.about.clone()][..], &sweep.notes].concat();
        part(
            &format!("Sweep of {}", escape(&sweep.title)),
            Some(sweep.table().to_markdown()),
            &notes,
        );
    }
    for (number, order) in &findings.orders {
        let of = if findings.orders.len() > 1 {
            format!(", table {number}")
        } else {
            String::new()
        };
        let table = order.table(all).to_markdown();
        part(&format!("Average ranks{of}"), Some(table), &order.sentences(all));
    }
    let title = "Which cheap measure predicts which transfer?";
    if let Prediction::Said(matrix) = &findings.prediction {
        part(
            title,
            Some(matrix.table(all).to_markdown()),
            &[findings::READING.to_owned()],
        );
    } else if let Some(refusal) = findings::refusal(&findings.prediction) {
        part(title, None, &[refusal]);
    }
}

fn marked(entry: &Entry, text: String) -> String {
    let text = if entry.best { format!("**{text}**") } else { text };
    let published = entry.published.map(|p| format!(" ({p:.2})"));
    text + &published.unwrap_or_default()
}

fn grid(
    all: &Gathered,
    table: &Comparison,
    headline: bool,
    mark: impl Fn(&Entry, String) -> String,
) -> Table {
    let columns: Vec<usize> = words::columns(all, table, headline).collect();
    let titles = columns.iter().map(|&column| words::title(&all.columns[column]));
    let mut grid = Table::new(["run".to_owned()].into_iter().chain(titles));
    for line in &table.lines {
        let cells = columns.iter().map(|&column| {
            let entry = &line.entries[column];
            let number = |summary| words::number(summary) + words::mark(entry);
            let text = entry
                .summary
                .as_ref()
                .map_or_else(|| words::absence(entry), number);
            mark(entry, text)
                + &words::part(entry)
                    .map(|part| format!(" [{part}]"))
                    .unwrap_or_default()
        });
        grid.row([all.rows[line.row].run.name.clone()].into_iter().chain(cells));
    }
    grid
}

fn differences(all: &Gathered, table: &Comparison) -> Table {
    let columns: Vec<usize> = words::columns(all, table, true).collect();
    let titles = columns.iter().map(|&column| all.columns[column].title.clone());
    let mut grid = Table::new(["run".to_owned()].into_iter().chain(titles));
    for line in table
        .lines
        .iter()
        .filter(|line| line.entries.iter().any(|entry| entry.delta.is_some()))
    {
        let cells = columns.iter().map(|&column| {
            let entry = &line.entries[column];
            let Some(delta) = &entry.delta else {
                return "–".into();
            };
            let p = words::significance(delta)
                .map(|p| format!(" ({p})"))
                .unwrap_or_default();
            words::difference(delta) + words::mark(entry) + &p
        });
        grid.row([all.rows[line.row].run.name.clone()].into_iter().chain(cells));
    }
    grid
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('<', "&lt;")
        .replace('*', "\\*")
        .replace('\n', " ")
}
