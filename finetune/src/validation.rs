//! Validation while training: scores in the log, and the best network in a file of its own.

use camtrast_common::leakage::Prints;
use camtrast_common::progress::Progress;
use camtrast_common::run::RunFolder;
use camtrast_common::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;

/// File of the network that was the best on the validation images.
pub const BEST: &str = "best.safetensors";
/// Key in metrics.json of which network was tested: `last` or `best`.
pub const TESTED: &str = "tested";

/// When a network is validated, and what follows from it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, clap::Args)]
#[serde(rename_all = "kebab-case")]
pub struct Validation {
    /// Steps between evaluations on the validation images while training; the best network is kept in
    /// best.safetensors
    #[arg(long, help_heading = "Validation", value_parser = clap::value_parser!(u64).range(1..))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_every: Option<u64>,
    /// Test the network that was the best on the validation images, in place of the last
    #[arg(long, help_heading = "Validation", requires = "val_every")]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub test_best: bool,
}

impl Validation {
    /// Refuses settings and images that do not fit each other, and warns of images that are trained on or
    /// tested on, too; `flag` names validation images.
    ///
    /// # Errors
    /// [`Error::Settings`].
    pub(crate) fn check(
        &self,
        [trained, tested]: [&Prints; 2],
        images: Option<&Prints>,
        flag: &str,
        progress: &dyn Progress,
    ) -> Result<()> {
        let images = match (self.val_every, images) {
            (None, None) => return Ok(()),
            (Some(_), Some(images)) => images,
            (Some(every), None) => {
                let problem = format!("--val-every {every} has no images to validate on");
                return Err(Error::settings(problem, format!("name them by {flag}")));
            }
            (None, Some(_)) => {
                let problem = format!("{flag} names images to validate on, but not when");
                return Err(Error::settings(problem, "give --val-every, in steps"));
            }
        };
        if let Some(seen) = trained.seen(images) {
            progress.note(&format!(
                "warning: {}",
                seen.replace("test images", "validation images")
            ));
        }
        if let Some(seen) = images.seen(tested) {
            let seen = seen.replace("training images", "validation images");
            if self.test_best {
                let remedy = "validate on other images, or leave --test-best out";
                return Err(Error::settings(format!("--test-best: {seen}"), remedy));
            }
            progress.note(&format!("warning: {seen}"));
        }
        Ok(())
    }
}

/// Scores of a run on validation images, each with its step, from its log.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn scores(run: &RunFolder, name: &str) -> Result<Vec<(u64, f64)>> {
    let path = run.file("log.jsonl");
    let text = fs::read_to_string(&path).map_err(Error::io(&path, "read"))?;
    let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
    let of_validation = lines.filter(|line: &Value| line["kind"] == "validation");
    Ok(of_validation
        .filter_map(|line| Some((line["step"].as_u64()?, line[name].as_f64()?)))
        .collect())
}

/// The first of the best.
pub(crate) fn best(scores: &[(u64, f64)]) -> Option<(u64, f64)> {
    let better = |best: Option<(u64, f64)>, &one: &(u64, f64)| match best {
        Some(best) if best.1 >= one.1 => Some(best),
        _ => Some(one),
    };
    scores.iter().fold(None, better)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_scores_is_the_best() {
        assert_eq!(
            best(&[(5, 0.1), (10, 0.3), (15, 0.3), (20, 0.2)]),
            Some((10, 0.3))
        );
        assert_eq!(best(&[]), None);
    }
}
