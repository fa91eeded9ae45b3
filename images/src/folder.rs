//! A folder of somebody's own images, without annotations.

use crate::decode::is_image;
use crate::size::size;
use camtrast_common::error::{Error, Result};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

/// One image of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Photo {
    /// Path below the folder, with `/`.
    pub file_name: String,
    /// The same without its extension.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// The image's number in COCO's files, see [`numbers`].
    pub number: u64,
    /// Width and height in pixels of the upright image.
    pub size: (usize, usize),
}

/// The images of a folder and of the folders in it, sorted by name.
#[derive(Debug)]
pub struct Photos {
    /// Those whose file begins like an image and is not cut off.
    pub images: Vec<Photo>,
    /// What is wrong with the others, each with its file.
    pub problems: Vec<Error>,
    /// Files that do not have an image's extension.
    pub others: Vec<PathBuf>,
}

impl Photos {
    /// Lists a folder and looks at the size of every image; hidden files are passed over.
    ///
    /// # Errors
    /// [`Error::File`] for a folder that does not exist or holds no image, and for two images whose names
    /// differ only in their extensions; [`Error::Io`].
    pub fn read(folder: &Path) -> Result<Self> {
        let (files, others): (Vec<_>, Vec<_>) = files_below(folder)?
            .into_iter()
            .partition(|(name, _)| is_image(Path::new(name)));
        let others = others.into_iter().map(|(_, path)| path).collect();
        if files.is_empty() {
            let remedy = "give the folder that holds your images (jpg, png, bmp, webp, tif, ppm)";
            return Err(Error::file(folder, "holds no image", remedy));
        }
        let named = files
            .iter()
            .map(|(name, path)| (without_extension(name), path))
            .collect::<Vec<_>>();
        let mut first: BTreeMap<&str, &PathBuf> = BTreeMap::new();
        for (name, path) in &named {
            if let Some(other) = first.insert(name, path) {
                let problem = format!("has the name of {} but for the extension", other.display());
                return Err(Error::file(path, problem, "rename one of them"));
            }
        }
        let names: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
        let numbers = numbers(&names).unwrap_or_else(|| (1..=names.len() as u64).collect());
        let photos = files.par_iter().zip(&names).zip(&numbers);
        let looked_at: Vec<Result<Photo>> = photos
            .map(|(((file_name, path), name), &number)| {
                Ok(Photo {
                    file_name: file_name.clone(),
                    name: (*name).to_owned(),
                    path: path.clone(),
                    number,
                    size: size(path, true).map_err(replace)?.upright,
                })
            })
            .collect();
        let (mut images, mut problems) = (Vec::new(), Vec::new());
        for photo in looked_at {
            match photo {
                Ok(photo) => images.push(photo),
                Err(problem) => problems.push(problem),
            }
        }
        Ok(Photos {
            images,
            problems,
            others,
        })
    }
}

/// The error of an image of a folder, with a remedy that fits there.
pub fn replace(error: Error) -> Error {
    match error {
        Error::File { path, problem, .. } => Error::file(path, problem, "replace or remove it"),
        error => error,
    }
}

/// Numbers of images in COCO's files: the digits of their names, as in `5` for `000005` and `2007000645` for
/// `2007_000645` (so does the public JSON of PASCAL VOC); `None` unless these are distinct numbers.
pub fn numbers(names: &[&str]) -> Option<Vec<u64>> {
    let digits = |name: &&str| -> Option<u64> {
        let plain = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
        name.replace('_', "").parse().ok().filter(|_| plain)
    };
    let numbers: Vec<u64> = names.iter().map(digits).collect::<Option<_>>()?;
    let distinct = numbers.iter().collect::<HashSet<_>>().len() == numbers.len();
    distinct.then_some(numbers)
}

/// All files below a folder but hidden ones, as path below it (with `/`) and path, sorted.
///
/// # Errors
/// [`Error::File`] when it is not a folder, [`Error::Io`].
pub fn files_below(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    if !folder.is_dir() {
        let problem = if folder.exists() {
            "is not a folder"
        } else {
            "no such folder"
        };
        return Err(Error::file(folder, problem, "give an existing folder"));
    }
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(&below).map_err(Error::io(&below, "read"))? {
            let path = entry.map_err(Error::io(&below, "read"))?.path();
            let hidden = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b".");
            if path.file_name().is_some_and(hidden) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy();
                found.push((name.into_owned(), path));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn without_extension(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::encoded;

    #[test]
    fn images_are_listed_and_what_is_wrong_with_the_others_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        let png = encoded(".png", 20, 30, 1);
        put("b.png", &png);
        put("a/z.PNG", &png);
        put("cut.png", &png[..png.len() - 9]);
        put("text.jpg", b"text");
        put("notes.txt", b"text");
        put(".hidden.png", b"text");
        let Photos {
            images,
            problems,
            others,
        } = Photos::read(folder.path()).unwrap();
        let names: Vec<&str> = images.iter().map(|photo| &photo.file_name[..]).collect();
        assert_eq!(names, ["a/z.PNG", "b.png"]);
        // Those that cannot be read keep their numbers.
        let facts: Vec<_> = images
            .iter()
            .map(|photo| (&photo.name[..], photo.number, photo.size))
            .collect();
        assert_eq!(facts, [("a/z", 1, (30, 20)), ("b", 2, (30, 20))]);
        assert_eq!(others, [folder.path().join("notes.txt")]);
        let lines: Vec<String> = problems.iter().map(Error::to_string).collect();
        assert!(
            lines[0].contains("cut.png: is cut off before its end; replace or remove it"),
            "{lines:?}"
        );
        assert!(
            lines[1].contains("text.jpg: is empty, cut off or not an image;"),
            "{lines:?}"
        );

        put("b.jpg", &png);
        let error = Photos::read(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("b.png: has the name of") && error.contains("b.jpg"),
            "{error}"
        );
        let empty = folder.path().join("empty");
        fs::create_dir(&empty).unwrap();
        for (path, problem) in [
            (&empty, "holds no image"),
            (&folder.path().join("no"), "no such folder"),
        ] {
            let error = Photos::read(path).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn names_of_digits_are_numbers_if_they_are_distinct() {
        assert_eq!(numbers(&["000005", "2007_000645"]), Some(vec![5, 2_007_000_645]));
        assert_eq!(numbers(&["5", "05"]), None);
        assert_eq!(numbers(&["5", "b6"]), None);
    }
}
