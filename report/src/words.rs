//! Numbers and gaps as text, the same in all formats.

use crate::compare::{Comparison, Entry, Line};
use crate::record::Column;
use crate::rows::Gathered;
use crate::stats::{Difference, Over, Summary};

/// `55.31`, or `55.31 ± 0.78`.
pub fn number(summary: &Summary) -> String {
    match summary.half {
        Some(half) => format!("{} ± {half:.2}", fixed(summary.mean)),
        None => fixed(summary.mean),
    }
}

/// Two decimal places; zero has no sign.
pub fn fixed(value: f64) -> String {
    let text = format!("{value:.2}");
    if text == "-0.00" { "0.00".into() } else { text }
}

/// The same with a sign, except for zero.
pub fn signed(value: f64) -> String {
    let text = fixed(value);
    if text == "0.00" {
        text
    } else {
        format!("{value:+.2}").replace('-', "−")
    }
}

/// `+1.20 ± 0.40`.
pub fn difference(difference: &Difference) -> String {
    let mean = signed(difference.mean);
    difference
        .half
        .map_or(mean.clone(), |half| format!("{mean} ± {half:.2}"))
}

/// `p = 0.031, Holm 0.124`: p by itself, and corrected for all tests of the same table.
pub fn significance(difference: &Difference) -> Option<String> {
    Some(both_p(difference.p?, difference.holm?))
}

/// The same of two values of p.
pub fn both_p(p: f64, holm: f64) -> String {
    let text = |p: f64, equals: &str| match p < 0.001 {
        true => "< 0.001".to_owned(),
        false => format!("{equals}{p:.3}"),
    };
    format!("p {}, Holm {}", text(p, "= "), text(holm, ""))
}

/// Text in place of a missing number: the table that has it, or why it is missing.
pub fn absence(entry: &Entry) -> String {
    if let [table, ..] = entry.elsewhere[..] {
        return format!("see table {table}");
    }
    let mut kinds: Vec<&str> = entry.gaps.iter().map(|(_, gap)| gap.what).collect();
    kinds.dedup();
    if kinds.is_empty() {
        "–".into()
    } else {
        kinds.join(", ")
    }
}

/// `1 of 2 seeds`, if seeds are missing.
pub fn part(entry: &Entry) -> Option<String> {
    let present = entry.values.len();
    (present > 0 && !entry.gaps.is_empty())
        .then(|| format!("{present} of {} seeds", present + entry.gaps.len()))
}

/// The mark after every number of a partial backbone (†) or of a network that was trained on test data (‡).
pub fn mark(entry: &Entry) -> &'static str {
    mark_if(entry.partial.is_some(), entry.leakage.is_some())
}

/// The marks for these two properties.
pub fn mark_if(partial: bool, leakage: bool) -> &'static str {
    match (partial, leakage) {
        (false, false) => "",
        (true, false) => " †",
        (false, true) => " ‡",
        (true, true) => " † ‡",
    }
}

/// The meaning of the marks that occur.
pub fn marks(all: &Gathered, tables: &[Comparison]) -> Vec<String> {
    let named = |of: fn(&Line) -> Option<&str>| {
        let lines = tables.iter().flat_map(|table| &table.lines);
        let mut names: Vec<String> = Vec::new();
        names.extend(
            lines.filter_map(|line| Some(format!("{} ({})", all.rows[line.row].run.name, of(line)?))),
        );
        names.dedup();
        names.join(", ")
    };
    [
        (
            "†: the backbone was incomplete when it was imported, and the missing tensors were initialised \
             at random",
            named(Line::partial),
        ),
        (
            "‡: the network, or the classifier on it, was trained on some of the test images or classes, \
             so the number does not measure performance on new ones",
            named(Line::leakage),
        ),
    ]
    .into_iter()
    .filter(|(_, runs)| !runs.is_empty())
    .map(|(words, runs)| format!("{words}: {runs}."))
    .collect()
}

/// The meaning of bold numbers, if a column has several numbers.
pub fn bold(all: &Gathered, tables: &[Comparison]) -> Option<String> {
    let numbers = |table: &Comparison, column: usize| {
        table
            .lines
            .iter()
            .filter(|l| l.entries[column].summary.is_some())
            .count()
    };
    let ranked = tables
        .iter()
        .any(|table| columns(all, table, true).any(|column| numbers(table, column) > 1));
    ranked.then(|| {
        "Bold: significantly better than the second best (paired t-test over seeds, or over the same \
         episodes of \
         a single seed; p < 0.05). \
         If no number is bold, no run is."
            .into()
    })
}

/// A note on given backbones: one backbone is used for all seeds.
pub fn imported_seeds(all: &Gathered) -> Option<String> {
    let rows = all
        .rows
        .iter()
        .filter(|row| row.run.imported.is_some() && row.seeds.len() > 1);
    let names = rows
        .map(|row| row.run.name.as_str())
        .collect::<Vec<_>>()
        .join(", ");
    let words = "Given backbones, for which seeds differ only in the transfer, not in the pretraining";
    (!names.is_empty()).then(|| format!("{words}: {names}."))
}

/// A title with its unit.
pub fn title(column: &Column) -> String {
    if column.percent {
        format!("{} (%)", column.title)
    } else {
        column.title.clone()
    }
}

/// All missing results: run, task, seed, reason.
pub fn gaps(all: &Gathered) -> Vec<[String; 4]> {
    let mut found = Vec::new();
    for row in &all.rows {
        for seed in &row.seeds {
            for cell in &seed.cells {
                if let Err(gap) = &cell.metrics {
                    found.push([
                        row.run.name.clone(),
                        cell.task.clone(),
                        seed.seed.to_string(),
                        gap.why.clone(),
                    ]);
                }
            }
        }
    }
    found
}

/// How a table's protocols differ from those of the first table, and which are not recorded.
pub fn apart(table: &Comparison) -> Vec<String> {
    let texts = table.protocols.iter().filter_map(|protocol| match (&protocol.difference, protocol.recorded) {
        (Some(difference), _) => Some(format!("Not measured as in table 1. {}: \
            {difference}", protocol.task)),
        (None, false) => Some(format!(
            "{}: how it was measured is not recorded (older versions left no record), so these numbers are \
             not compared.",
            protocol.task
        )),
        (None, true) => None,
    });
    texts.collect()
}

/// Heading of the report.
pub fn heading(all: &Gathered) -> String {
    let titles: Vec<&str> = all
        .suites
        .iter()
        .map(|suite| &suite.title[..])
        .filter(|title| !title.is_empty())
        .collect();
    if titles.is_empty() {
        "Which pretraining transfers best?".into()
    } else {
        titles.join(" · ")
    }
}

/// A duration as readable text.
pub fn clock(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// The columns of a table that are in the headline tables, or those that are not.
pub fn columns<'a>(
    all: &'a Gathered,
    table: &'a Comparison,
    headline: bool,
) -> impl Iterator<Item = usize> + 'a {
    table
        .columns
        .iter()
        .copied()
        .filter(move |&column| all.columns[column].headline == headline && !all.columns[column].validation)
}

/// Whether any row has a difference to the baseline in a headline column.
pub fn has_differences(all: &Gathered, table: &Comparison) -> bool {
    table
        .lines
        .iter()
        .any(|line| columns(all, table, true).any(|column| line.entries[column].delta.is_some()))
}

/// Sentences on how intervals and differences were computed, and on marks, if they occur.
pub fn explanation(all: &Gathered, tables: &[Comparison]) -> Vec<String> {
    let entries = || {
        tables
            .iter()
            .flat_map(|table| &table.lines)
            .flat_map(|line| &line.entries)
    };
    let spans = |over| entries().any(|entry| entry.summary.is_some_and(|s| s.over == Some(over)));
    let pairs = |over| entries().any(|entry| entry.delta.is_some_and(|d| d.over == over && d.p.is_some()));
    let lone = entries().any(|entry| entry.summary.is_some_and(|s| s.half.is_none()));
    [
        (
            spans(Over::Seeds),
            "± of several seeds: half the 95 % confidence interval of their mean \
            (Student's t).",
        ),
        (
            spans(Over::Episodes),
            "± of a single seed: half the 95 % confidence interval over its episodes or test images; \
            it does not include the variation between seeds.",
        ),
        (lone, "No ±: a single seed, without any measure of uncertainty."),
        (
            pairs(Over::Seeds),
            "p: two-sided paired t-test over the seeds that both runs have.",
        ),
        (
            pairs(Over::Episodes),
            "p of a single seed: two-sided paired t-test over the same episodes.",
        ),
        (
            pairs(Over::Seeds) || pairs(Over::Episodes),
            "Holm: the same p, corrected for all tests of the table (Holm 1979); differences are bold by it.",
        ),
    ]
    .into_iter()
    .filter(|(occurs, _)| *occurs)
    .map(|(_, words)| words.to_owned())
    .chain(bold(all, tables))
    .chain(imported_seeds(all))
    .chain(marks(all, tables))
    .collect()
}
