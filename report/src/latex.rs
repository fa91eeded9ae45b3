//! report.tex: the headline tables, with booktabs.

use crate::compare::Comparison;
use crate::rows::Gathered;
use crate::words;
use std::fmt::Write;

/// One `tabular` for each table.
pub fn page(all: &Gathered, tables: &[Comparison]) -> String {
    let mut page = format!(
        "% {}\n% \\usepackage{{booktabs}}\n",
        words::heading(all).replace('\n', " ")
    );
    for table in tables {
        let columns: Vec<usize> = words::columns(all, table, true).collect();
        if columns.is_empty() {
            continue;
        }
        for words in words::apart(table) {
            let _ = writeln!(page, "% {}", words.replace('\n', " "));
        }
        let titles: String = columns
            .iter()
            .map(|&column| format!(" & {}", escape(&words::title(&all.columns[column]))))
            .collect();
        let _ = writeln!(
            page,
            "\\begin{{tabular}}{{l{}}}\n\\toprule\nrun{titles} \\\\\n\\midrule",
            "r".repeat(columns.len())
        );
        for line in &table.lines {
            let cells = columns.iter().map(|&column| {
                let entry = &line.entries[column];
                let Some(summary) = &entry.summary else {
                    return format!(" & {}", escape(&words::absence(entry)));
                };
                let mean = words::fixed(summary.mean);
                let mean = if entry.best {
                    format!("\\mathbf{{{mean}}}")
                } else {
                    mean
                };
                let half = summary
                    .half
                    .map(|half| format!(" \\pm {half:.2}"))
                    .unwrap_or_default();
                let mark = match (entry.partial.is_some(), entry.leakage.is_some()) {
                    (false, false) => "",
                    (true, false) => "^\\dagger",
                    (false, true) => "^\\ddagger",
                    (true, true) => "^{\\dagger\\ddagger}",
                };
                format!(" & ${mean}{half}{mark}$")
            });
            let _ = writeln!(
                page,
                "{}{} \\\\",
                escape(&all.rows[line.row].run.name),
                cells.collect::<String>()
            );
        }
        let _ = writeln!(page, "\\bottomrule\n\\end{{tabular}}");
    }
    for words in words::bold(all, tables)
        .into_iter()
        .chain(words::marks(all, tables))
    {
        let _ = writeln!(page, "% {}", words.replace('\n', " "));
    }
    page
}

fn escape(text: &str) -> String {
    let one = |c: char| match c {
        '\\' => "\\textbackslash{}".into(),
        '~' => "\\textasciitilde{}".into(),
        '^' => "\\textasciicircum{}".into(),
        '&' | '%' | '$' | '#' | '_' | '{' | '}' => format!("\\{c}"),
        '<' => "\\textless{}".into(),
        '>' => "\\textgreater{}".into(),
        '–' => "--".into(),
        c => c.to_string(),
    };
    text.chars().map(one).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_latex_reads_as_its_own_is_escaped() {
        assert_eq!(
            super::escape("a_b & 5 % <x>"),
            "a\\_b \\& 5 \\% \\textless{}x\\textgreater{}"
        );
    }
}
