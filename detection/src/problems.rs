//! `--skip-bad`: what is wrong with a data set's parts fails at once, or is listed while the parts are left
//! out.

use camtrast_common::Result;

/// The problems met so far, when they may be skipped.
#[derive(Debug)]
pub(crate) struct Problems {
    skip: bool,
    lines: Vec<String>,
}

impl Problems {
    /// With `skip`, [`Problems::keep`] lists what it meets.
    pub fn new(skip: bool) -> Self {
        Problems {
            skip,
            lines: Vec::new(),
        }
    }

    /// The value, or `None` with the problem listed.
    ///
    /// # Errors
    /// The part's own, when problems may not be skipped.
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
