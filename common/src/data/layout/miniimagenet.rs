//! miniImageNet: `images/` with `train.csv val.csv test.csv`, columns `filename,label`.

use super::csv::Csv;
use super::folders;
use super::{Listing, Source};
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::path::{Component, Path};

pub(super) fn list(from: &Path, split: &str) -> Result<Listing> {
    from_csv(from, split)
}

fn from_csv(from: &Path, split: &str) -> Result<Listing> {
    let path = from.join(format!("{split}.csv"));
    let list = Csv::read(&path, &["filename", "label"])?;
    let folder = from.join("images");
    let mut seen = HashMap::new();
    let mut named = Vec::with_capacity(list.rows.len());
    for (line, row) in &list.rows {
        let (name, label) = (&row[0], &row[1]);
        // A list from elsewhere must not make us read other files of this machine.
        let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if !inside || name.contains('\\') {
            return Err(list.error(*line, format!("{name:?} leads out of images/"), "use plain file names"));
        }
        if let Some(before) = seen.insert(name, *line) {
            return Err(list.error(
                *line,
                format!("{name:?} is listed in line {before} too"),
                "remove one of the lines",
            ));
        }
        let image = folder.join(name);
        if !image.is_file() {
            let problem = format!("{name:?} is not in {}", folder.display());
            return Err(list.error(*line, problem, "unpack the images again, or remove the line"));
        }
        named.push((Source::File(image), label.clone()));
    }
    if named.is_empty() {
        return Err(Error::file(path, "lists no images", "check that the data set is complete"));
    }
    Listing::assemble(split, named, &folders::categories(from)?, &from.join(folders::CATEGORIES))
}
