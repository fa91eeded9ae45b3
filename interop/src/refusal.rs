//! Why a file is not read, before it is known which file that is.

use common::Error;
use std::path::Path;

/// What is wrong with a file, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong.
    pub problem: String,
    /// What the user can do.
    pub remedy: String,
}

/// What readers of bytes return.
pub type Told<T> = Result<T, Refusal>;

impl Refusal {
    /// A problem and its remedy.
    pub fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Refusal { problem: problem.into(), remedy: remedy.into() }
    }

    /// For `map_err`: the error that names the file.
    pub fn at(path: &Path) -> impl FnOnce(Refusal) -> Error {
        let path = path.to_owned();
        move |refusal| Error::file(path, refusal.problem, refusal.remedy)
    }
}
