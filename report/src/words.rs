//! Numbers and gaps as text, the same in every format.

use crate::compare::{Comparison, Entry};
use crate::gather::Gathered;
use crate::record::Column;
use crate::stats::{Difference, Summary};

/// `55.31`, or `55.31 ± 0.78`.
pub fn number(summary: &Summary) -> String {
    match summary.half {
        Some(half) => format!("{:.2} ± {half:.2}", summary.mean),
        None => format!("{:.2}", summary.mean),
    }
}

/// `+1.20 ± 0.40`.
pub fn difference(difference: &Difference) -> String {
    let mean = format!("{:+.2}", difference.mean).replace('-', "−");
    difference.half.map_or(mean.clone(), |half| format!("{mean} ± {half:.2}"))
}

/// `p = 0.031`, `p < 0.001`.
pub fn significance(difference: &Difference) -> Option<String> {
    let p = difference.p?;
    Some(if p < 0.001 { "p < 0.001".into() } else { format!("p = {p:.3}") })
}

/// Whether a difference is beyond chance at 5 %.
pub fn significant(difference: &Difference) -> bool {
    difference.p.is_some_and(|p| p < 0.05)
}

/// What stands in the place of a number that is not there: where it is, or why it is nowhere.
pub fn absence(entry: &Entry) -> String {
    if let [table, ..] = entry.elsewhere[..] {
        return format!("see table {table}");
    }
    let mut kinds: Vec<&str> = entry.gaps.iter().map(|(_, gap)| gap.what).collect();
    kinds.dedup();
    if kinds.is_empty() { "–".into() } else { kinds.join(", ") }
}

/// `1 of 2 seeds`, where seeds are missing.
pub fn part(entry: &Entry) -> Option<String> {
    let present = entry.values.len();
    (present > 0 && !entry.gaps.is_empty()).then(|| format!("{present} of {} seeds", present + entry.gaps.len()))
}

/// Stands behind every number of a backbone that was not whole, and behind the name of its run in figures.
pub fn mark(entry: &Entry) -> &'static str {
    mark_if(entry.partial.is_some())
}

/// The mark, or nothing.
pub fn mark_if(partial: bool) -> &'static str {
    if partial { " †" } else { "" }
}

/// What the mark means, where it occurs.
pub fn partial(all: &Gathered, tables: &[Comparison]) -> Option<String> {
    let mut told: Vec<String> = Vec::new();
    for line in tables.iter().flat_map(|table| &table.lines) {
        told.extend(line.partial().map(|partial| format!("{} ({partial})", all.rows[line.row].run.name)));
    }
    told.dedup();
    let backbones = told.join(", ");
    (!told.is_empty()).then(|| {
        format!("†: the backbone was not whole when it was imported, and the rest was drawn at random: {backbones}.")
    })
}

/// What seeds are not, of a backbone that was brought along: it is one for all of them.
pub fn brought(all: &Gathered) -> Option<String> {
    let rows = all.rows.iter().filter(|row| row.run.imported.is_some() && row.seeds.len() > 1);
    let names = rows.map(|row| row.run.name.as_str()).collect::<Vec<_>>().join(", ");
    let words = "Brought along, so that seeds differ in the transfer alone, not in the pretraining";
    (!names.is_empty()).then(|| format!("{words}: {names}."))
}

/// A title with its unit.
pub fn title(column: &Column) -> String {
    if column.percent { format!("{} (%)", column.title) } else { column.title.clone() }
}

/// Everything that is missing, once: run, task, seed, why.
pub fn gaps(all: &Gathered) -> Vec<[String; 4]> {
    let mut found = Vec::new();
    for row in &all.rows {
        for seed in &row.seeds {
            for cell in &seed.cells {
                if let Err(gap) = &cell.metrics {
                    found.push([row.run.name.clone(), cell.task.clone(), seed.seed.to_string(), gap.why.clone()]);
                }
            }
        }
    }
    found
}

/// What a table of another protocol than the first's is of.
pub fn apart(table: &Comparison) -> Vec<String> {
    let told = table.protocols.iter().filter_map(|p| Some(format!("{}: {}", p.task, p.difference.as_ref()?)));
    told.collect()
}

/// Heading of the whole.
pub fn heading(all: &Gathered) -> String {
    let titles: Vec<&str> = all.suites.iter().map(|suite| &suite.title[..]).filter(|title| !title.is_empty()).collect();
    if titles.is_empty() { "Which pretraining transfers best?".into() } else { titles.join(" · ") }
}

/// Seconds as people say them.
pub fn clock(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// The columns of a table that are in the headline, or those that are not.
pub fn columns<'a>(all: &'a Gathered, table: &'a Comparison, headline: bool) -> impl Iterator<Item = usize> + 'a {
    table.columns.iter().copied().filter(move |&column| all.columns[column].headline == headline)
}

/// Whether any row has a difference to the baseline in a headline column.
pub fn has_differences(all: &Gathered, table: &Comparison) -> bool {
    table.lines.iter().any(|line| columns(all, table, true).any(|column| line.entries[column].delta.is_some()))
}
