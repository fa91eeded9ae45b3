//! The small comma-separated lists that data sets bring: a header line, fields optionally in double quotes.

use camtrast_common::error::{Error, Result};
use std::path::{Path, PathBuf};

/// A list with its column names.
pub struct Csv {
    path: PathBuf,
    columns: Vec<String>,
    /// Line number (1-based, as editors count) and fields of each row.
    pub rows: Vec<(usize, Vec<String>)>,
}

impl Csv {
    /// Reads a list whose header must begin with the `required` columns; more columns may follow.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read; [`Error::File`] with the line number when it is malformed.
    pub fn read(path: &Path, required: &[&str]) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::file(path, "is not UTF-8 text", "convert it to UTF-8"))?;
        let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate();
        let wanted = format!("the first line must be {}", required.join(","));
        let columns = lines
            .next()
            .and_then(|(_, line)| fields(line))
            .unwrap_or_default();
        if columns.len() < required.len() || columns.iter().zip(required).any(|(have, want)| have != want) {
            return Err(Error::file(path, "has no header that names its columns", wanted));
        }
        let mut rows = Vec::new();
        for (number, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
            let row = fields(line).filter(|row| row.len() == columns.len());
            let Some(row) = row.filter(|row| row[..required.len()].iter().all(|field| !field.is_empty()))
            else {
                let problem = format!("line {} is malformed: {:?}", number + 1, shortened(line));
                return Err(Error::file(
                    path,
                    problem,
                    format!("each row must be {}", columns.join(",")),
                ));
            };
            rows.push((number + 1, row));
        }
        Ok(Csv {
            path: path.to_owned(),
            columns,
            rows,
        })
    }

    /// Position of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }

    /// An error about one line.
    pub fn error(&self, line: usize, problem: impl std::fmt::Display, remedy: &str) -> Error {
        Error::file(&self.path, format!("line {line}: {problem}"), remedy)
    }
}

fn shortened(line: &str) -> String {
    line.chars().take(80).collect()
}

// Fields of one line, without surrounding spaces; `None` when a quote is not closed.
fn fields(line: &str) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let field = fields.last_mut()?;
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => field.push(c),
        }
    }
    (!quoted).then(|| fields.iter().map(|field| field.trim().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::fields;

    #[test]
    fn quotes_keep_commas_and_double_quotes_stand_for_one() {
        assert_eq!(fields("a, b ,").unwrap(), ["a", "b", ""]);
        assert_eq!(
            fields(r#"n1,"stork, ""black""",x"#).unwrap(),
            ["n1", "stork, \"black\"", "x"]
        );
        assert_eq!(fields("a,\"b"), None);
    }
}
