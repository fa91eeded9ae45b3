//! Shared parts of several layouts: folders of classes and `categories.csv`.

use super::csv::Csv;
use super::listing::{Facts, Source};
use camtrast_common::error::{Error, Result};
use camtrast_images::decode::is_image;
use std::fs;
use std::path::{Path, PathBuf};

/// The name of the list of general categories.
pub const CATEGORIES: &str = "categories.csv";

/// Names of the folders in `path`, sorted, without hidden ones.
pub fn subfolders(path: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(Error::io(path, "read"))? {
        let entry = entry.map_err(Error::io(path, "read"))?;
        let name = entry.file_name().into_string();
        let name =
            name.map_err(|name| Error::file(path.join(name), "has a name that is not UTF-8", "rename it"))?;
        // Follows links: ImageNet is often a link.
        if !name.starts_with('.') && entry.path().is_dir() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Image files of one class folder, sorted by name, and the number of other things in it.
///
/// # Errors
/// [`Error::Io`] when the folder cannot be read.
pub fn images_of_class(folder: &Path) -> Result<(Vec<PathBuf>, usize)> {
    let (mut images, mut ignored) = (Vec::new(), 0);
    for entry in fs::read_dir(folder).map_err(Error::io(folder, "read"))? {
        let entry = entry.map_err(Error::io(folder, "read"))?;
        let path = entry.path();
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_image(&path) && !hidden && !is_folder {
            images.push(path);
        } else {
            ignored += 1;
        }
    }
    images.sort();
    Ok((images, ignored))
}

/// The content of folders of classes.
#[derive(Debug, Default)]
pub struct Classes {
    /// The images with their class.
    pub named: Vec<(Source, String)>,
    /// Number of files that are not images.
    pub ignored: usize,
    /// Folders without an image.
    pub empty: Vec<PathBuf>,
}

/// Lists `(class, folder)` pairs, in that order.
pub fn list_classes(classes: impl IntoIterator<Item = (String, PathBuf)>) -> Result<Classes> {
    let mut all = Classes::default();
    for (class, folder) in classes {
        let (images, others) = images_of_class(&folder)?;
        all.ignored += others;
        if images.is_empty() {
            all.empty.push(folder);
        }
        all.named.extend(
            images
                .into_iter()
                .map(|image| (Source::File(image), class.clone())),
        );
    }
    Ok(all)
}

/// Reads `categories.csv` in `folder`: `label,category[,label_name,category_name]`. Without the file there
/// are no categories.
///
/// # Errors
/// [`Error::File`] with the line number when it is malformed or names a label twice.
pub fn categories(folder: &Path) -> Result<Facts> {
    let path = folder.join(CATEGORIES);
    let mut facts = Facts::default();
    if !path.exists() {
        return Ok(facts);
    }
    let list = Csv::read(&path, &["label", "category"])?;
    let (label_name, category_name) = (list.column("label_name"), list.column("category_name"));
    for (line, row) in &list.rows {
        let (label, category) = (&row[0], &row[1]);
        if facts.category.insert(label.clone(), category.clone()).is_some() {
            return Err(list.error(
                *line,
                format!("label {label} is listed before"),
                "remove one of the lines",
            ));
        }
        if let Some(column) = label_name {
            facts.class_titles.insert(label.clone(), row[column].clone());
        }
        if let Some(column) = category_name {
            facts
                .category_titles
                .insert(category.clone(), row[column].clone());
        }
    }
    Ok(facts)
}

/// The official classes of a split that have a folder in `root`, and a note when some are missing.
pub fn official_folders(
    root: &Path,
    official: &[&str],
    split: &str,
) -> (Vec<(String, PathBuf)>, Vec<String>) {
    let mut classes: Vec<_> = official
        .iter()
        .map(|&class| (class.to_owned(), root.join(class)))
        .collect();
    classes.retain(|(_, folder)| folder.is_dir());
    let note = format!(
        "{} of the {} official {split} classes are present",
        classes.len(),
        official.len()
    );
    let notes = if classes.len() < official.len() {
        vec![note]
    } else {
        Vec::new()
    };
    (classes, notes)
}
