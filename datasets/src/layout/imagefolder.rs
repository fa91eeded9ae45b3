//! A folder for each class, as torchvision's `ImageFolder`, optionally below a folder for each split.
//!
//! A `categories.csv` (`label,category[,label_name,category_name]`) in the data set's folder or in the
//! split's names general categories; a folder that is a category there, and no label, holds the folders of
//! its classes.

use super::folders::{self, Classes, subfolders};
use super::listing::Listing;
use camtrast_common::error::{Error, Result};
use std::path::{Path, PathBuf};

pub(super) fn list(from: &Path, split: Option<&str>) -> Result<Listing> {
    let root = split.map_or(from.to_owned(), |split| from.join(split));
    if split.is_some_and(|split| split.is_empty() || split.contains(['/', '\\']) || split.starts_with('.')) {
        return Err(Error::settings(
            "--split is not a plain folder name",
            "give the name of a folder, such as train",
        ));
    }
    if !root.is_dir() {
        return Err(Error::file(
            root,
            "is not a folder",
            "give a folder of class folders, or omit --split",
        ));
    }
    let names = subfolders(&root)?;
    let splits: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|n| SPLITS.contains(n))
        .collect();
    if split.is_none() && !splits.is_empty() {
        let remedy = format!("choose one with --split {}", splits.join("|"));
        return Err(Error::file(root, "holds a folder for each split", remedy));
    }
    let list = [&root, from]
        .into_iter()
        .find(|folder| folder.join(folders::CATEGORIES).exists())
        .unwrap_or(from);
    let facts = folders::categories(list)?;
    let mut classes: Vec<(String, PathBuf)> = Vec::new();
    for name in names {
        let folder = root.join(&name);
        if !facts.category.contains_key(&name) && facts.category.values().any(|category| *category == name) {
            classes.extend(
                subfolders(&folder)?
                    .into_iter()
                    .map(|class| (class.clone(), folder.join(class))),
            );
        } else {
            classes.push((name, folder));
        }
    }
    classes.sort();
    if let Some(pair) = classes.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(Error::file(
            &pair[1].1,
            "is a class in two categories",
            "rename one of the two folders",
        ));
    }
    let Classes {
        named,
        ignored,
        empty,
    } = folders::list_classes(classes)?;
    if named.is_empty() && empty.is_empty() {
        return Err(Error::file(
            root,
            "holds no class folders",
            "put the images of each class into a separate folder",
        ));
    }
    let listing = Listing::assemble(
        split.unwrap_or("all"),
        named,
        &facts,
        &list.join(folders::CATEGORIES),
    )?;
    Ok(Listing {
        ignored,
        empty,
        ..listing
    })
}

/// Folder names that are splits, not classes.
pub(super) const SPLITS: [&str; 4] = ["train", "val", "valid", "test"];
