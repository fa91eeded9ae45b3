//! miniImageNet: `images/` with `train.csv val.csv test.csv`, columns `filename,label`; or, without these
//! lists, a folder for each class (`train/<wnid>`, `images/<wnid>` or `<wnid>`) and the official split of
//! Ravi and Larochelle.

use super::csv::Csv;
use super::folders::{self, Classes, official_folders};
use super::listing::{Listing, Source};
use camtrast_common::error::{Error, Result};
use std::collections::HashMap;
use std::path::{Component, Path};

pub(super) fn list(from: &Path, split: &str) -> Result<Listing> {
    let list = from.join(format!("{split}.csv"));
    if list.exists() || from.join("train.csv").exists() {
        from_csv(from, &list, split)
    } else {
        from_folders(from, split)
    }
}

fn from_csv(from: &Path, path: &Path, split: &str) -> Result<Listing> {
    let list = Csv::read(path, &["filename", "label"])?;
    let folder = from.join("images");
    let mut seen = HashMap::new();
    let mut named = Vec::with_capacity(list.rows.len());
    for (line, row) in &list.rows {
        let (name, label) = (&row[0], &row[1]);
        // A downloaded list must not make us read other files of this machine.
        let inside = Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if !inside || name.contains('\\') {
            return Err(list.error(
                *line,
                format!("{name:?} leads out of images/"),
                "use plain file names",
            ));
        }
        if let Some(before) = seen.insert(name, *line) {
            let problem = format!("{name:?} is listed in line {before} too");
            return Err(list.error(*line, problem, "remove one of the lines"));
        }
        let image = folder.join(name);
        if !image.is_file() {
            let problem = format!("{name:?} is not in {}", folder.display());
            return Err(list.error(*line, problem, "unpack the images again, or remove the line"));
        }
        named.push((Source::File(image), label.clone()));
    }
    if named.is_empty() {
        return Err(Error::file(
            path,
            "lists no images",
            "check that the data set is complete",
        ));
    }
    Listing::assemble(
        split,
        named,
        &folders::categories(from)?,
        &from.join(folders::CATEGORIES),
    )
}

fn from_folders(from: &Path, split: &str) -> Result<Listing> {
    let official: Vec<&str> = match split {
        "train" => include_str!("../splits/miniimagenet_train.txt"),
        "val" => include_str!("../splits/miniimagenet_val.txt"),
        _ => include_str!("../splits/miniimagenet_test.txt"),
    }
    .lines()
    .collect();
    let places = [from.join(split), from.join("images"), from.to_owned()];
    let Some(root) = places
        .iter()
        .find(|root| official.iter().any(|class| root.join(class).is_dir()))
    else {
        let remedy = "give the folder that holds images/ and train.csv, or a folder for each class";
        return Err(Error::file(
            from,
            format!("holds neither {split}.csv nor folders of the {split} classes"),
            remedy,
        ));
    };
    let (classes, notes) = official_folders(root, &official, split);
    let Classes {
        named,
        ignored,
        empty,
    } = folders::list_classes(classes)?;
    let facts = folders::categories(from)?;
    let listing = Listing::assemble(split, named, &facts, &from.join(folders::CATEGORIES))?;
    Ok(Listing {
        ignored,
        empty,
        notes,
        ..listing
    })
}
