//! Tables for the terminal and for Markdown.

/// Rows under a header; the first column is text, the others are numbers.
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Column titles.
    pub fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Self {
        Table {
            header: header.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, one cell per column.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    fn width(&self, column: usize) -> usize {
        let cells = self
            .rows
            .iter()
            .filter_map(|r| r.get(column))
            .chain(self.header.get(column));
        cells.map(|c| c.chars().count()).max().unwrap_or(0)
    }

    fn padded(&self, cells: &[String]) -> Vec<String> {
        let pad = |(i, cell): (usize, &String)| {
            let width = self.width(i);
            if i == 0 {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            }
        };
        cells.iter().enumerate().map(pad).collect()
    }

    /// The table as text for a terminal.
    pub fn to_text(&self) -> String {
        let rule: Vec<String> = (0..self.header.len())
            .map(|i| "─".repeat(self.width(i)))
            .collect();
        let mut lines = vec![self.padded(&self.header).join("  "), rule.join("──")];
        lines.extend(self.rows.iter().map(|row| self.padded(row).join("  ")));
        lines.join("\n")
    }

    /// The table in Markdown.
    pub fn to_markdown(&self) -> String {
        let escape = |cell: &String| cell.replace('|', "\\|").replace('<', "&lt;").replace('\n', " ");
        let line =
            |cells: Vec<String>| format!("| {} |", cells.iter().map(escape).collect::<Vec<_>>().join(" | "));
        let rule = (0..self.header.len())
            .map(|i| if i == 0 { "---" } else { "---:" }.to_owned())
            .collect();
        let mut lines = vec![line(self.header.clone()), line(rule)];
        lines.extend(self.rows.iter().map(|row| line(row.clone())));
        lines.join("\n")
    }
}

/// `55.31 ± 0.78` from fractions.
pub fn percent(mean: f64, ci95: f64) -> String {
    if ci95.is_finite() {
        format!("{:.2} ± {:.2}", 100.0 * mean, 100.0 * ci95)
    } else {
        format!("{:.2}", 100.0 * mean)
    }
}
