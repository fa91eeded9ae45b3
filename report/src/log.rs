//! The progress of a training, from its log.jsonl.

use camtrast_common::error::{Error, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The content of a log.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Course {
    /// Steps and losses, at most [`POINTS`], each the mean of its neighbourhood.
    pub losses: Vec<(f64, f64)>,
    /// Steps and measures on validation images, by the measures' names.
    pub validation: BTreeMap<String, Vec<(f64, f64)>>,
    /// The last step that was logged.
    pub last_step: Option<u64>,
    /// Median over the log.
    pub images_per_second: Option<f64>,
}

/// Largest number of points of a curve.
pub const POINTS: usize = 200;

impl Course {
    /// Reads a folder's log; empty if there is none. An incomplete last line is ignored.
    ///
    /// # Errors
    /// [`Error::File`] when another line is damaged, [`Error::Io`].
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("log.jsonl");
        let text = match fs::read_to_string(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Course::default()),
            text => text.map_err(Error::io(&path, "read"))?,
        };
        let mut lines: Vec<Value> = Vec::new();
        let count = text.lines().count();
        for (i, line) in text.lines().enumerate() {
            match serde_json::from_str(line) {
                Ok(line) => lines.push(line),
                Err(_) if i + 1 == count => {}
                Err(e) => {
                    let remedy = "restore that line, or remove the file; the curve is then left out";
                    return Err(Error::file(
                        &path,
                        format!("line {} is damaged: {e}", i + 1),
                        remedy,
                    ));
                }
            }
        }
        let steps = || lines.iter().filter(|line| line["kind"] == "step");
        let losses: Vec<(f64, f64)> = steps()
            .filter_map(|line| Some((line["step"].as_f64()?, line["loss"].as_f64()?)))
            .collect();
        let mut rates: Vec<f64> = steps()
            .filter_map(|line| line["images_per_second"].as_f64())
            .collect();
        rates.sort_by(f64::total_cmp);
        let mut validation: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        for line in lines.iter().filter(|line| line["kind"] == "validation") {
            let measures = line.as_object().into_iter().flatten();
            for (name, value) in measures.filter(|(name, _)| name.contains('/')) {
                if let (Some(step), Some(value)) = (line["step"].as_f64(), value.as_f64()) {
                    validation.entry(name.clone()).or_default().push((step, value));
                }
            }
        }
        Ok(Course {
            validation,
            losses: thinned(&losses),
            last_step: lines.iter().filter_map(|line| line["step"].as_u64()).max(),
            images_per_second: rates.get(rates.len() / 2).copied(),
        })
    }
}

fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(POINTS).max(1);
    let mean = |part: &[(f64, f64)]| {
        let n = part.len() as f64;
        (
            part.iter().map(|p| p.0).sum::<f64>() / n,
            part.iter().map(|p| p.1).sum::<f64>() / n,
        )
    };
    points.chunks(size).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(text: &str) -> Result<Course> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("log.jsonl"), text).unwrap();
        Course::read(folder.path())
    }

    #[test]
    fn a_cut_off_last_line_is_left_out_and_a_damaged_one_named() {
        let line = r#"{"kind":"step","step":3,"loss":2.0,"images_per_second":10}"#;
        let cut = course(&format!("{line}\n{{\"kind\":\"st")).unwrap();
        assert_eq!(
            (cut.last_step, cut.losses.len(), cut.images_per_second),
            (Some(3), 1, Some(10.0))
        );
        let error = course(&format!("{line}\n{{\n{line}\n")).unwrap_err().to_string();
        assert!(error.contains("log.jsonl") && error.contains("line 2"), "{error}");
        assert_eq!(course("").unwrap(), Course::default());
    }

    #[test]
    fn long_curves_are_thinned_to_means() {
        let points: Vec<(f64, f64)> = (0..1000).map(|i| (f64::from(i), 1.0)).collect();
        let thin = thinned(&points);
        assert_eq!((thin.len(), thin[0]), (200, (2.0, 1.0)));
    }
}
