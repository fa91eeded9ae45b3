//! The VOC devkit's result files: `<competition>_det_<split>_<class>.txt`, a line `<id> <score> <x1> <y1>
//! <x2> <y2>` for each detection, 1-based with both ends inside.

use super::found::{Detection, Results, places};
use crate::Dataset;
use crate::image_file::is_plain_name;
use crate::problems::Problems;
use camtrast_common::files::write_atomically;
use camtrast_common::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

const REMEDY: &str = "correct the file, or skip such lines with --skip-bad";

/// Reads the result files in a folder. A class without a file has no detections; this is noted, and so are
/// files of other classes. Files with other names are ignored.
///
/// # Errors
/// [`Error::File`] or [`Error::Io`] naming the folder, or the file and line at fault: an unknown image, a
/// malformed line, a NaN or infinite score or box, several files for one class, files of several splits.
/// Also, even with `skip_bad`, the folder when nothing in it can be used.
pub fn read_voc(folder: &Path, dataset: &Dataset, skip_bad: bool) -> Result<Results> {
    let mut problems = Problems::new(skip_bad);
    let places = places(dataset);
    let mut found = Vec::new();
    let (files, notes) = files(folder, dataset, &mut problems)?;
    for (class, file) in files {
        let text = std::fs::read_to_string(&file).map_err(Error::io(&file, "read"))?;
        for (index, line) in text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
        {
            let parsed = parse(line, class, &places)
                .map_err(|problem| Error::file(&file, format!("line {}: {problem}", index + 1), REMEDY));
            found.extend(problems.keep(parsed)?);
        }
    }
    Results::new(folder, dataset, found, problems.into_lines(), notes)
}

/// Writes `comp4_det_<split>_<class>.txt` for every class into `folder`, with every digit of scores and
/// boxes. Existing files of other splits are kept.
///
/// # Errors
/// [`Error::Settings`] for a class that cannot be part of a file name; [`Error::Io`] when writing fails.
pub fn write_voc(folder: &Path, split: &str, dataset: &Dataset, results: &Results) -> Result<()> {
    for (class, name) in dataset.classes.iter().enumerate() {
        if !is_plain_name(name) {
            return Err(Error::settings(
                format!("the class {name:?} cannot be part of a file name"),
                "rename it",
            ));
        }
        let path = folder.join(format!("comp4_det_{split}_{name}.txt"));
        write_atomically(&path, |out| {
            results
                .found
                .iter()
                .filter(|found| found.class == class)
                .try_for_each(|found| {
                    let ([x1, y1, x2, y2], id) = (found.bbox, &dataset.images[found.image].id);
                    writeln!(out, "{id} {} {} {} {x2} {y2}", found.score, x1 + 1.0, y1 + 1.0)
                })
        })?;
    }
    Ok(())
}

/// The files with the class of each, sorted by class, and notes about them.
fn files(
    folder: &Path,
    dataset: &Dataset,
    problems: &mut Problems,
) -> Result<(BTreeMap<usize, PathBuf>, Vec<String>)> {
    let mut files: BTreeMap<usize, PathBuf> = BTreeMap::new();
    let (mut split_of_all, mut others) = (None::<(String, PathBuf)>, Vec::new());
    let entries = std::fs::read_dir(folder).map_err(Error::io(folder, "read"))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<_>>>();
    paths.iter_mut().for_each(|paths| paths.sort());
    let mut any = false;
    for path in paths.map_err(Error::io(folder, "read"))? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some((_, rest)) = name
            .strip_suffix(".txt")
            .and_then(|name| name.split_once("_det_"))
        else {
            continue;
        };
        any = true;
        // Both split and class may contain underscores: the longest matching class is used.
        let fits = |class: &&usize| {
            rest.strip_suffix(dataset.classes[**class].as_str())
                .is_some_and(|s| s.ends_with('_'))
        };
        let all: Vec<usize> = (0..dataset.classes.len()).collect();
        let class = all
            .iter()
            .filter(fits)
            .max_by_key(|class| dataset.classes[**class].len());
        let Some(&class) = class else {
            others.push(name.into_owned());
            continue;
        };
        let split = rest[..rest.len() - dataset.classes[class].len()].trim_end_matches('_');
        let (first_split, first) = split_of_all.get_or_insert_with(|| (split.to_owned(), path.clone()));
        let problem = match files.get(&class) {
            Some(other) => Some(format!("is for the same class as {}", other.display())),
            None if split != first_split => Some(format!(
                "is of the split {split:?}, but {} of {first_split:?}",
                first.display()
            )),
            None => None,
        };
        let remedy = "keep the results of each split in a separate folder";
        let class = problem.map_or(Ok(class), |problem| Err(Error::file(&path, problem, remedy)));
        if let Some(class) = problems.keep(class)? {
            files.insert(class, path);
        }
    }
    if any {
        let missing = dataset
            .classes
            .iter()
            .enumerate()
            .filter(|(class, _)| !files.contains_key(class));
        let missing: Vec<&str> = missing.map(|(_, name)| name.as_str()).collect();
        let mut notes = Vec::new();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            notes.push(format!(
                "{}: no file for {missing}: these classes count as without detections",
                folder.display()
            ));
        }
        if let Some(first) = others.first() {
            let count = others.len();
            notes.push(format!(
                "{}: {count} files of other classes than the data set's are ignored, such as {first}",
                folder.display()
            ));
        }
        return Ok((files, notes));
    }
    let remedy = "give a folder of files such as comp4_det_test_car.txt, or a COCO results JSON";
    Err(Error::file(
        folder,
        "holds no VOC devkit result files (*_det_<split>_<class>.txt)",
        remedy,
    ))
}

fn parse(line: &str, class: usize, places: &HashMap<&str, usize>) -> Result<Detection, String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    // From the right: an id may contain spaces.
    let (id, numbers) = fields.split_at(fields.len().saturating_sub(5));
    let numbers: Vec<f64> = numbers.iter().filter_map(|field| field.parse().ok()).collect();
    let &[score, x1, y1, x2, y2] = numbers.as_slice() else {
        return Err("is not: image score x1 y1 x2 y2".into());
    };
    let id = id.join(" ");
    let image = *places
        .get(id.as_str())
        .ok_or_else(|| format!("the image {id:?} is not in the data set"))?;
    Detection {
        image,
        class,
        score,
        bbox: [x1 - 1.0, y1 - 1.0, x2, y2],
    }
    .checked()
}
