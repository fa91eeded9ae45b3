//! The data set on disk: which folders may be written, in which order, and when it counts as complete.

use super::catalogue::{Class, Split};
use super::options::SynthOptions;
use super::scene::Scene;
use camtrast_common::error::{Error, Result};
use camtrast_common::files::{write_atomically, write_renamed};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Marks a folder as ours before anything else is written, so that an unfinished set is distinguished from
/// the user's files.
const MARKER: &str = "synth.json";
const FORMAT: &str = "camtrast-synth";
const CATEGORIES: &str = "categories.csv";

/// The folder of the scenes.
const VOC: &str = "VOCdevkit/VOC2007";
const LISTS: [&str; 2] = ["trainval", "test"];

/// One picture to be drawn.
pub(super) struct Job {
    pub class: Class,
    pub index: usize,
}

impl Job {
    pub fn file_name(&self) -> String {
        format!("{}_{:05}.jpg", self.class.label(), self.index)
    }
}

/// An output folder that is ready for pictures.
pub(super) struct Folder {
    root: PathBuf,
    images: PathBuf,
    voc: PathBuf,
}

impl Folder {
    /// Makes or clears the folder. Only files that an earlier run wrote are deleted.
    pub fn open(options: &SynthOptions) -> Result<Self> {
        let root = options.out.clone();
        let (images, voc) = (root.join("images"), root.join(VOC));
        fs::create_dir_all(&root).map_err(Error::io(&root, "create"))?;
        if is_ours(&root) {
            // The split files are removed first: from here on the old set no longer looks complete.
            for name in Split::ALL
                .map(split_file)
                .iter()
                .map(String::as_str)
                .chain([CATEGORIES])
            {
                remove(&root.join(name))?;
            }
            LISTS.iter().try_for_each(|list| remove(&voc_list(&voc, list)))?;
            for folder in [&images, &voc.join("JPEGImages"), &voc.join("Annotations")] {
                if folder.is_dir() {
                    for file in entries(folder)?
                        .iter()
                        .filter(|file| is_picture(file) || is_of_scene(file))
                    {
                        remove(file)?;
                    }
                }
            }
        } else if entries(&root)?.iter().any(|file| !is_marker_in_the_making(file)) {
            let problem = "the folder is not empty and holds no earlier synthetic set";
            return Err(Error::file(
                &root,
                problem,
                "choose another --out or empty the folder",
            ));
        }
        let settings = serde_json::json!({
            "format": FORMAT,
            "version": 1,
            "seed": options.seed,
            "size": options.size,
            "images_per_class": options.images_per_class,
            "evaluation_images_per_class": options.evaluation_images_per_class,
            "scenes": options.scenes,
            "scene_size": options.scene_size,
            "streets": options.streets,
            "street_size": options.street_size,
            "quality": options.quality,
        });
        write_atomically(&root.join(MARKER), |file| writeln!(file, "{settings:#}"))?;
        let mut folders = vec![images.clone()];
        if options.scenes != [0, 0] {
            folders.extend(["JPEGImages", "Annotations", "ImageSets/Main"].map(|name| voc.join(name)));
        }
        folders
            .iter()
            .try_for_each(|folder| fs::create_dir_all(folder).map_err(Error::io(folder, "create")))?;
        Ok(Folder { root, images, voc })
    }

    /// Writes one picture. Not synced: thousands of small files are synced together by [`Folder::finish`].
    pub fn write_image(&self, name: &str, bytes: &[u8]) -> Result<()> {
        write_renamed(&self.images.join(name), bytes)
    }

    /// Writes one scene with its annotation, not synced either.
    pub fn write_scene(&self, index: usize, scene: &Scene, jpeg: &[u8]) -> Result<()> {
        let id = scene_id(index);
        let annotation = scene.annotation(&format!("{id}.jpg"));
        let files = [
            (format!("JPEGImages/{id}.jpg"), jpeg),
            (format!("Annotations/{id}.xml"), annotation.as_bytes()),
        ];
        let write = |(name, bytes): &(String, &[u8])| write_renamed(&self.voc.join(name), bytes);
        files.iter().try_for_each(write)
    }

    /// Makes sure that the pictures are on the disk, then writes the tables that complete the set,
    /// `train.csv` last.
    pub fn finish(&self, jobs: &[Job], scenes: [usize; 2]) -> Result<()> {
        sync_disk(&self.images).map_err(Error::io(&self.images, "write"))?;
        write_atomically(&self.root.join(CATEGORIES), |file| {
            writeln!(file, "label,category,label_name,category_name")?;
            Class::all().try_for_each(|class| {
                let (label, category) = (class.label(), class.category_label());
                writeln!(
                    file,
                    "{label},{category},{},{}",
                    class.name(),
                    class.category().name
                )
            })
        })?;
        let ranges = [0..scenes[0], scenes[0]..scenes[0] + scenes[1]];
        for (list, range) in LISTS.iter().zip(ranges).filter(|_| scenes != [0, 0]) {
            write_atomically(&voc_list(&self.voc, list), |file| {
                range
                    .clone()
                    .try_for_each(|index| writeln!(file, "{}", scene_id(index)))
            })?;
        }
        Split::ALL.into_iter().rev().try_for_each(|split| {
            write_atomically(&self.root.join(split_file(split)), |file| {
                writeln!(file, "filename,label")?;
                let mut jobs = jobs.iter().filter(|job| job.class.category().split == split);
                jobs.try_for_each(|job| writeln!(file, "{},{}", job.file_name(), job.class.label()))
            })
        })
    }
}

fn voc_list(voc: &Path, name: &str) -> PathBuf {
    voc.join("ImageSets/Main").join(format!("{name}.txt"))
}

// From 000001 on, as VOC2007's.
fn scene_id(index: usize) -> String {
    format!("{:06}", index + 1)
}

fn is_ours(root: &Path) -> bool {
    let marker = fs::read(root.join(MARKER))
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok());
    marker.is_some_and(|marker: serde_json::Value| marker["format"] == FORMAT)
}

fn split_file(split: Split) -> String {
    format!("{}.csv", split.name())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = || {
        fs::read_dir(folder)?
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<Vec<_>>>()
    };
    list().map_err(Error::io(folder, "read"))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(path, "delete")(error)),
        _ => Ok(()),
    }
}

// `s00000103_00042.jpg`, nothing else in `images/` is ours.
fn is_picture(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts = name
        .strip_prefix('s')
        .and_then(|name| name.strip_suffix(".jpg"))
        .and_then(|name| name.split_once('_'));
    parts.is_some_and(|(label, index)| label.len() == 8 && digits(label) && digits(index))
}

// `000042.jpg` and `000042.xml` of a scene.
fn is_of_scene(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let id = name
        .strip_suffix(".jpg")
        .or(name.strip_suffix(".xml"))
        .unwrap_or_default();
    id.len() == 6 && id.bytes().all(|byte| byte.is_ascii_digit())
}

// Left by a run that was killed while it wrote its marker.
fn is_marker_in_the_making(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(&format!(".{MARKER}.")) && name.ends_with(".part")
}

fn sync_disk(folder: &Path) -> io::Result<()> {
    let folder = File::open(folder)?;
    // SAFETY: the descriptor is open for the whole call, and syncfs does not access our memory.
    match unsafe { libc::syncfs(folder.as_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
