//! `--skip-bad`: an error in a part of a data set fails at once, or is listed and the part is skipped.

use camtrast_common::Result;

/// The problems found so far, if they may be skipped.
#[derive(Debug)]
pub(crate) struct Problems {
    skip: bool,
    lines: Vec<String>,
}

impl Problems {
    /// With `skip`, [`Problems::keep`] lists problems instead of failing.
    pub fn new(skip: bool) -> Self {
        Problems {
            skip,
            lines: Vec::new(),
        }
    }

    /// The value, or `None` with the problem listed.
    ///
    /// # Errors
    /// The error of the part, when problems may not be skipped.
    pub fn keep<T>(&mut self, part: Result<T>) -> Result<Option<T>> {
        match part {
            Err(error) if self.skip => {
                self.lines.push(error.to_string());
                Ok(None)
            }
            part => part.map(Some),
        }
    }

    /// One line each.
    pub fn into_lines(self) -> Vec<String> {
        self.lines
    }
}
