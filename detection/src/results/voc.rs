//! The VOC devkit's result files: `<competition>_det_<split>_<class>.txt`, a line `<id> <score> <x1> <y1> <x2> <y2>` for each
//! detection, 1-based with both ends inside.

use super::{Found, Results, places};
use crate::Dataset;
use crate::image_file::is_plain_name;
use crate::problems::Problems;
use common::files::write_atomically;
use common::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

const REMEDY: &str = "correct the file, or leave such out with --skip-bad";

/// Reads the result files in a folder. A class without a file has no detections; other files are passed over.
///
/// # Errors
/// [`Error::File`] or [`Error::Io`] naming the folder, or the file and line at fault: an unknown class or image, a malformed
/// line, a NaN score or box, several files for one class.
pub fn read_voc(folder: &Path, dataset: &Dataset, skip_bad: bool) -> Result<Results> {
    let mut problems = Problems::new(skip_bad);
    let places = places(dataset);
    let mut found = Vec::new();
    for (class, file) in files(folder, dataset, &mut problems)? {
        let text = std::fs::read_to_string(&file).map_err(Error::io(&file, "read"))?;
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let parsed = parse(line, class, &places)
                .map_err(|problem| Error::file(&file, format!("line {}: {problem}", index + 1), REMEDY));
            found.extend(problems.keep(parsed)?);
        }
    }
    Ok(Results { found, problems: problems.into_lines() })
}

/// Writes `comp4_det_<split>_<class>.txt` for every class into `folder`, with every digit of scores and boxes. Files of
/// detections on other splits that lie there stay.
///
/// # Errors
/// [`Error::Settings`] for a class that cannot be part of a file name; [`Error::Io`] when writing fails.
pub fn write_voc(folder: &Path, split: &str, dataset: &Dataset, results: &Results) -> Result<()> {
    for (class, name) in dataset.classes.iter().enumerate() {
        if !is_plain_name(name) {
            return Err(Error::settings(format!("the class {name:?} cannot be part of a file name"), "rename it"));
        }
        let path = folder.join(format!("comp4_det_{split}_{name}.txt"));
        write_atomically(&path, |out| {
            results.found.iter().filter(|found| found.class == class).try_for_each(|found| {
                let ([x1, y1, x2, y2], id) = (found.bbox, &dataset.images[found.image].id);
                writeln!(out, "{id} {} {} {} {x2} {y2}", found.score, x1 + 1.0, y1 + 1.0)
            })
        })?;
    }
    Ok(())
}

/// The files with the class of each, by class.
fn files(folder: &Path, dataset: &Dataset, problems: &mut Problems) -> Result<BTreeMap<usize, PathBuf>> {
    let mut files: BTreeMap<usize, PathBuf> = BTreeMap::new();
    let entries = std::fs::read_dir(folder).map_err(Error::io(folder, "read"))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
    paths.iter_mut().for_each(|paths| paths.sort());
    let mut any = false;
    for path in paths.map_err(Error::io(folder, "read"))? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some((_, rest)) = name.strip_suffix(".txt").and_then(|name| name.split_once("_det_")) else { continue };
        any = true;
        // Both split and class may hold underscores: the longest class that fits is meant.
        let fits =
            |class: &&usize| rest.strip_suffix(dataset.classes[**class].as_str()).is_some_and(|s| s.ends_with('_'));
        let all: Vec<usize> = (0..dataset.classes.len()).collect();
        let class = all.iter().filter(fits).max_by_key(|class| dataset.classes[**class].len());
        let refuse = |problem: String, remedy| Err(Error::file(&path, problem, remedy));
        let class = match class {
            None => refuse("is of a class that the data set does not have".into(), "remove it, or add it to --classes"),
            Some(class) => match files.get(class) {
                Some(other) => {
                    let problem = format!("is for the same class as {}", other.display());
                    refuse(problem, "keep the results of one split in one folder")
                }
                None => Ok(*class),
            },
        };
        if let Some(class) = problems.keep(class)? {
            files.insert(class, path);
        }
    }
    if any {
        return Ok(files);
    }
    let remedy = "name a folder of files such as comp4_det_test_car.txt, or a COCO results JSON";
    Err(Error::file(folder, "holds no VOC devkit result files (*_det_<split>_<class>.txt)", remedy))
}

fn parse(line: &str, class: usize, places: &HashMap<&str, usize>) -> Result<Found, String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    // From the right: an id may hold blanks.
    let (id, numbers) = fields.split_at(fields.len().saturating_sub(5));
    let numbers: Vec<f64> = numbers.iter().filter_map(|field| field.parse().ok()).collect();
    let &[score, x1, y1, x2, y2] = numbers.as_slice() else { return Err("is not: image score x1 y1 x2 y2".into()) };
    let id = id.join(" ");
    let image = *places.get(id.as_str()).ok_or_else(|| format!("the image {id:?} is not in the data set"))?;
    Found { image, class, score, bbox: [x1 - 1.0, y1 - 1.0, x2, y2] }.checked()
}
