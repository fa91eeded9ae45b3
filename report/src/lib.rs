//! One page with all results: which pretraining transfers best, how certain that is, and how to reproduce it.
//!
//! Folders are read ([`gather`]), their numbers sorted into tables of one protocol each ([`compare`]) with
//! intervals and tests ([`stats`]), and the tables written in every format by [`write()`].
//!
//! ```
//! use camtrast_common::run::{RunFolder, Texts};
//! use camtrast_report::write;
//!
//! // What a command leaves: metrics.json in its folder.
//! let folder = tempfile::tempdir().unwrap();
//! let run = RunFolder::create(&folder.path().join("moco"))?;
//! let metrics = [("fewshot/5way1shot/mean".to_owned(), 0.5)].into();
//! run.write_metrics(&metrics, Texts::new(), 1.0, "cpu")?;
//!
//! let written = write(&[run.path().to_owned()], &folder.path().join("report"))?;
//! assert!(written.table.contains("moco"));
//! assert!(written.files.iter().all(|file| file.exists()));
//! # Ok::<(), camtrast_common::Error>(())
//! ```

pub mod chart;
pub mod compare;
pub mod gather;
pub mod log;
pub mod order;
pub mod permutation;
pub mod predict;
pub mod ranks;
pub mod record;
pub mod rows;
pub mod stats;
pub mod sweeps;
pub mod table;

mod curves;
mod data;
mod diagram;
mod findings;
mod folder;
mod gallery;
mod html;
mod latex;
mod markdown;
mod measured;
mod protocol;
mod validation;
mod words;

pub use data::csv_field;

use camtrast_common::error::Result;
use camtrast_common::files::write_atomically;
use std::path::{Path, PathBuf};

/// The result of [`write()`].
pub struct Written {
    /// report.html, report.md, report.csv, report.json, report.tex; correlations.csv and ranks.csv where
    /// there are enough backbones and runs for them, and figure.svg where runs are points of a figure.
    pub files: Vec<PathBuf>,
    /// The headline tables as text for a terminal.
    pub table: String,
}

/// Reads result folders and writes their report into the folder `out`. The same results give the same bytes,
/// except for measured times in report.html and report.json.
///
/// # Errors
/// [`camtrast_common::Error::File`] naming the file that is damaged, or the folder without finished runs;
/// [`camtrast_common::Error::Io`].
pub fn write(folders: &[PathBuf], out: &Path) -> Result<Written> {
    let all = gather::gather(folders)?;
    let tables = compare::compare(&all);
    let findings = findings::Findings::of(&all, &tables);
    let panels = curves::over_x(&all, &tables);
    let figure = (!panels.is_empty()).then(|| chart::figure(&panels));
    let pages = [
        ("report.html", Some(html::page(&all, &tables, &findings)?)),
        (
            "report.md",
            Some(markdown::page(
                &all,
                &tables,
                &findings,
                figure.as_ref().map(|_| "figure.svg"),
            )),
        ),
        ("report.csv", Some(data::csv(&all))),
        (
            "report.json",
            Some(format!("{:#}\n", data::json(&all, &tables, &findings))),
        ),
        ("correlations.csv", data::correlations(&all, &findings)),
        ("ranks.csv", data::ranks(&all, &findings)),
        ("report.tex", Some(latex::page(&all, &tables))),
        ("figure.svg", figure),
    ];
    let mut files = Vec::new();
    for (name, page) in pages.into_iter().filter_map(|(name, page)| Some((name, page?))) {
        let path = out.join(name);
        write_atomically(&path, |file| file.write_all(page.as_bytes()))?;
        files.push(path);
    }
    Ok(Written {
        files,
        table: markdown::text(&all, &tables),
    })
}
