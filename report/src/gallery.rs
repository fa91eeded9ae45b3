//! Pictures of runs, small enough for one page, side by side for the same image.

use crate::rows::{Gathered, Row};
use base64::{Engine, prelude::BASE64_STANDARD};
use camtrast_common::error::Result;
use camtrast_images::resample::resize;
use camtrast_images::thumbnail::{jpeg, read_png};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Pictures of one kind.
#[derive(Serialize)]
pub struct Gallery {
    /// Heading.
    pub title: String,
    /// Explanation of the pictures.
    pub about: &'static str,
    /// The pictures, in groups that are shown side by side.
    pub groups: Vec<Group>,
}

/// The same picture of several rows.
#[derive(Serialize)]
pub struct Group {
    /// Name of the image, if it has one.
    pub name: String,
    /// One picture per row.
    pub pictures: Vec<Picture>,
}

/// A picture of a row.
#[derive(Serialize)]
pub struct Picture {
    /// Name of the row.
    pub run: String,
    /// `data:` address, or why it cannot be shown.
    pub source: Result<String, String>,
    /// Size in pixels.
    pub width: usize,
    /// Size in pixels.
    pub height: usize,
}

/// Number of images of detections and masks shown for each row.
const SHOWN: usize = 3;

struct Kind {
    title: &'static str,
    about: &'static str,
    /// File or folder below that of the task.
    path: &'static str,
    /// Longest width and height in pixels.
    width: usize,
    height: usize,
}

const CAM: Kind = Kind {
    title: "Class activation maps",
    about: "The same images for all backbones: red where the activation is highest.",
    path: "cam/cam.png",
    width: 440,
    height: 1100,
};

const OF_TASKS: [Kind; 3] = [
    Kind {
        title: "precision over recall",
        about: "A line per class, the mean in black.",
        path: "curves/pr_curves.png",
        width: 560,
        height: 460,
    },
    Kind {
        title: "confusion",
        about: "Rows: truth; columns: prediction; percent of the truth.",
        path: "confusion.png",
        width: 640,
        height: 640,
    },
    Kind {
        title: "examples",
        about: "The same test images for every run.",
        path: "pictures",
        width: 380,
        height: 560,
    },
];

/// All galleries with pictures; for several seeds, those of the first that has them.
pub fn galleries(all: &Gathered) -> Vec<Gallery> {
    let single = |kind: &Kind, title: String, find: &dyn Fn(&Row) -> Option<PathBuf>| {
        let pictures = all
            .rows
            .iter()
            .filter_map(|row| Some(picture(row, &find(row)?, kind)))
            .collect();
        Gallery {
            title,
            about: kind.about,
            groups: vec![Group {
                name: String::new(),
                pictures,
            }],
        }
    };
    let cam = |row: &Row| {
        row.seeds
            .iter()
            .map(|seed| seed.folder.join(CAM.path))
            .find(|path| path.exists())
    };
    let mut galleries = vec![single(&CAM, CAM.title.into(), &cam)];
    for task in all.tasks() {
        for kind in &OF_TASKS {
            let find = |row: &Row| {
                row.cells(task)
                    .map(|(_, found)| found.folder.join(kind.path))
                    .find(|path| path.exists())
            };
            let title = format!("{task}: {}", kind.title);
            galleries.push(match kind.path.ends_with(".png") {
                true => single(kind, title, &find),
                false => Gallery {
                    title,
                    about: kind.about,
                    groups: groups(all, kind, &find),
                },
            });
        }
    }
    galleries
        .iter_mut()
        .for_each(|gallery| gallery.groups.retain(|group| !group.pictures.is_empty()));
    galleries.retain(|gallery| !gallery.groups.is_empty());
    galleries
}

/// The images that most rows have, by name.
fn groups(all: &Gathered, kind: &Kind, find: &dyn Fn(&Row) -> Option<PathBuf>) -> Vec<Group> {
    let mut images: BTreeMap<String, Vec<(&Row, PathBuf)>> = BTreeMap::new();
    for row in &all.rows {
        for path in find(row)
            .iter()
            .flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten())
            .map(|e| e.path())
        {
            if path.extension().is_some_and(|e| e == "png") {
                images
                    .entry(
                        path.file_stem()
                            .unwrap_or_default()
                            .to_string_lossy()
                            .into_owned(),
                    )
                    .or_default()
                    .push((row, path));
            }
        }
    }
    let mut images: Vec<_> = images.into_iter().collect();
    images.sort_by_key(|(_, rows)| std::cmp::Reverse(rows.len()));
    images.truncate(SHOWN);
    let group = |(name, rows): (String, Vec<(&Row, PathBuf)>)| Group {
        name,
        pictures: rows.iter().map(|(row, path)| picture(row, path, kind)).collect(),
    };
    images.into_iter().map(group).collect()
}

fn picture(row: &Row, path: &Path, kind: &Kind) -> Picture {
    let run = row.run.name.clone();
    match shrunk(path, kind) {
        Ok((width, height, bytes)) => {
            let source = format!("data:image/jpeg;base64,{}", BASE64_STANDARD.encode(bytes));
            Picture {
                run,
                source: Ok(source),
                width,
                height,
            }
        }
        Err(error) => Picture {
            run,
            source: Err(error.to_string()),
            width: 0,
            height: 0,
        },
    }
}

fn shrunk(path: &Path, kind: &Kind) -> Result<(usize, usize, Vec<u8>)> {
    let image = read_png(path)?;
    let (width, height) = (image.width as f64, image.height as f64);
    let scale = (kind.width as f64 / width)
        .min(kind.height as f64 / height)
        .min(1.0);
    let side = |length: f64| ((length * scale).round() as usize).max(1);
    let image = resize(image, side(height), side(width));
    Ok((image.width, image.height, jpeg(&image, 82)?))
}
