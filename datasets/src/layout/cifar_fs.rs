//! CIFAR-FS: CIFAR-100's 100 classes, 600 images each, split 64/16/20 by class (Bertinetto et al., 2019). The
//! coarse names are the general categories.
//!
//! Read from the official archives, packed (`cifar-100-python.tar.gz`, `cifar-100-binary.tar.gz`) or
//! unpacked: `cifar-100-python/{train,test,meta}` (pickles) or
//! `cifar-100-binary/{train.bin,test.bin,*_label_names.txt}` (rows of coarse label, fine label, 3072 pixels).
//! Rows keep the archive's order, `train` before `test`.

use super::listing::{Facts, Listing, RawImages, Source};
use camtrast_common::error::{Error, Result};
use camtrast_pickle::{Budget, Coding, Dtype, Machine, Node, Value};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

const SIDE: usize = 32;
/// Bytes of one image: three planes of 32 x 32.
const IMAGE: usize = 3 * SIDE * SIDE;
const REMEDY: &str = "unpack or download the CIFAR-100 archive again";
const PYTHON: [&str; 3] = ["train", "test", "meta"];
const BINARY: [&str; 4] = [
    "train.bin",
    "test.bin",
    "fine_label_names.txt",
    "coarse_label_names.txt",
];

type Files = HashMap<String, Vec<u8>>;

pub(super) fn list(from: &Path, split: &str) -> Result<Listing> {
    let files = if from.is_dir() {
        read_folder(from)?
    } else {
        read_archive(from)?
    };
    let archive = if files.contains_key("meta") {
        from_python(&files)
    } else {
        from_binary(&files)
    };
    let archive = archive.map_err(|problem| Error::file(from, problem, REMEDY))?;
    select(archive, split, from)
}

/// The content of either version of the archive.
struct Archive {
    fine_names: Vec<String>,
    coarse_names: Vec<String>,
    /// Fine and coarse label and planar pixels of each image.
    rows: Vec<(usize, usize, Vec<u8>)>,
}

// Keeps the images of the split's classes.
fn select(archive: Archive, split: &str, from: &Path) -> Result<Listing> {
    let official = match split {
        "train" => include_str!("../splits/cifarfs_train.json"),
        "val" => include_str!("../splits/cifarfs_val.json"),
        _ => include_str!("../splits/cifarfs_test.json"),
    };
    let official: Vec<(String, String)> =
        serde_json::from_str(official).expect("the split is part of the program");
    let category: std::collections::BTreeMap<String, String> =
        official.into_iter().map(|(c, f)| (f, c)).collect();
    let (mut named, mut raw) = (
        Vec::new(),
        RawImages {
            height: SIDE,
            width: SIDE,
            pixels: Vec::new(),
        },
    );
    for (fine, coarse, planes) in &archive.rows {
        let (Some(class), Some(coarse)) = (archive.fine_names.get(*fine), archive.coarse_names.get(*coarse))
        else {
            return Err(Error::file(
                from,
                format!("labels an image {fine} of {coarse}, which has no name"),
                REMEDY,
            ));
        };
        let Some(expected) = category.get(class) else {
            continue;
        };
        if expected != coarse {
            return Err(Error::file(
                from,
                format!("puts {class} into {coarse} instead of {expected}"),
                REMEDY,
            ));
        }
        named.push((Source::Row(named.len()), class.clone()));
        raw.pixels.extend(
            (0..SIDE * SIDE).flat_map(|i| [0, 1, 2].map(|channel| planes[channel * SIDE * SIDE + i])),
        );
    }
    let official = category.len();
    let listing = Listing::assemble(
        split,
        named,
        &Facts {
            category,
            ..Facts::default()
        },
        from,
    )?;
    let classes = listing.class_names.len();
    let images = listing.images.len();
    let mut notes = Vec::new();
    if images != official * 600 {
        notes.push(format!(
            "{images} images of {classes} classes instead of 600 of each of {official}"
        ));
    }
    Ok(Listing {
        raw,
        notes,
        ..listing
    })
}

fn from_python(files: &Files) -> Result<Archive, String> {
    let read = |name| Pickle::read(files, name);
    let (meta, train, test) = (read("meta")?, read("train")?, read("test")?);
    let (fine_names, coarse_names) = (
        meta.strings("fine_label_names")?,
        meta.strings("coarse_label_names")?,
    );
    let mut rows = Vec::new();
    for part in [train, test] {
        let (fine, coarse) = (part.ints("fine_labels")?, part.ints("coarse_labels")?);
        let (shape, pixels) = part.pixels("data")?;
        if shape[..] != [fine.len() as i64, IMAGE as i64] || coarse.len() != fine.len() {
            return Err(format!(
                "file {:?} has {} labels for pixels of shape {shape:?}",
                part.name,
                fine.len()
            ));
        }
        for ((fine, coarse), planes) in fine.into_iter().zip(coarse).zip(pixels.chunks_exact(IMAGE)) {
            // A negative label becomes an index without a name.
            let label = |value: i64| usize::try_from(value).unwrap_or(usize::MAX);
            rows.push((label(fine), label(coarse), planes.to_vec()));
        }
    }
    Ok(Archive {
        fine_names,
        coarse_names,
        rows,
    })
}

/// A file of the python archive: a dict, read without running anything.
struct Pickle<'a> {
    name: &'static str,
    machine: Machine<'a>,
    root: Value<'a>,
}

impl<'a> Pickle<'a> {
    fn read(files: &'a Files, name: &'static str) -> Result<Self, String> {
        let bytes = files.get(name).ok_or_else(|| format!("holds no file {name:?}"))?;
        let mut machine = Machine::new(bytes, Budget::new(bytes.len() + (1 << 20)));
        let root = machine
            .read()
            .map_err(|refusal| format!("file {name:?} {}", refusal.problem))?;
        Ok(Pickle { name, machine, root })
    }

    fn list<T>(&self, key: &str, item: impl Fn(&Value) -> Option<T>) -> Result<Vec<T>, String> {
        let items = self
            .machine
            .get(self.root, key)
            .and_then(|list| self.machine.sequence(list).ok());
        let items = items.and_then(|items| items.iter().map(item).collect());
        items.ok_or_else(|| format!("file {:?} has no {key}", self.name))
    }

    fn ints(&self, key: &str) -> Result<Vec<i64>, String> {
        self.list(key, int)
    }

    fn strings(&self, key: &str) -> Result<Vec<String>, String> {
        self.list(key, |item| match item {
            Value::Text(text) | Value::Bytes(text) => String::from_utf8(text.to_vec()).ok(),
            _ => None,
        })
    }

    /// Shape and elements of an array of unsigned bytes, the last axis fastest.
    fn pixels(&self, key: &str) -> Result<(Vec<i64>, &'a [u8]), String> {
        let machine = &self.machine;
        let found = || {
            let Node::Array(Some(array)) = machine.node(machine.get(self.root, key)?)? else {
                return None;
            };
            let dtype = machine.node(Value::Node(array.dtype))?;
            let shape = machine
                .sequence(Value::Node(array.shape))
                .ok()?
                .iter()
                .map(int)
                .collect::<Option<Vec<i64>>>()?;
            let count = shape
                .iter()
                .try_fold(1i64, |count, side| count.checked_mul(*side))?;
            let plain = !array.fortran
                && array.coding == Coding::Plain
                && matches!(dtype, Node::NumpyType { dtype: Dtype::U8, .. });
            (plain && count == array.bytes.len() as i64).then_some((shape, array.bytes))
        };
        found().ok_or_else(|| {
            format!(
                "file {:?} has no complete array of bytes as its pixels",
                self.name
            )
        })
    }
}

fn int(value: &Value) -> Option<i64> {
    if let Value::Int(i) = value { Some(*i) } else { None }
}

fn from_binary(files: &Files) -> Result<Archive, String> {
    let file = |name: &str| files.get(name).ok_or_else(|| format!("holds no file {name:?}"));
    let names = |name: &str| -> Result<Vec<String>, String> {
        let text = String::from_utf8_lossy(file(name)?);
        Ok(text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(String::from)
            .collect())
    };
    let (fine_names, coarse_names) = (names("fine_label_names.txt")?, names("coarse_label_names.txt")?);
    let mut rows = Vec::new();
    for part in ["train.bin", "test.bin"] {
        let bytes = file(part)?;
        if bytes.len() % (2 + IMAGE) != 0 {
            return Err(format!(
                "file {part:?} is cut off: {} bytes are not whole rows of {}",
                bytes.len(),
                2 + IMAGE
            ));
        }
        rows.extend(
            bytes
                .chunks_exact(2 + IMAGE)
                .map(|row| (row[1].into(), row[0].into(), row[2..].to_vec())),
        );
    }
    Ok(Archive {
        fine_names,
        coarse_names,
        rows,
    })
}

fn wanted(name: &str) -> bool {
    PYTHON.contains(&name) || BINARY.contains(&name)
}

// The folder itself or the one of that name in it.
fn read_folder(from: &Path) -> Result<Files> {
    let places = [
        from.to_owned(),
        from.join("cifar-100-python"),
        from.join("cifar-100-binary"),
    ];
    let complete = |names: &[&str], place: &Path| names.iter().all(|name| place.join(name).is_file());
    let found = places.iter().find_map(|place| {
        [&PYTHON[..], &BINARY[..]]
            .into_iter()
            .find(|names| complete(names, place))
            .map(|names| (place, names))
    });
    let Some((place, names)) = found else {
        let problem =
            "holds neither cifar-100-python/{train,test,meta} nor cifar-100-binary/{train.bin,test.bin,...}";
        return Err(Error::file(
            from,
            problem,
            "give the folder or the .tar.gz of CIFAR-100",
        ));
    };
    let read = |name: &&str| {
        let path = place.join(name);
        fs::read(&path)
            .map(|bytes| ((*name).to_owned(), bytes))
            .map_err(Error::io(&path, "read"))
    };
    names.iter().map(read).collect()
}

fn read_archive(from: &Path) -> Result<Files> {
    let mut file = File::open(from).map_err(Error::io(from, "read"))?;
    let mut magic = [0; 2];
    let compressed = file.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
    let file = File::open(from).map_err(Error::io(from, "read"))?;
    let stream: Box<dyn Read> = if compressed {
        Box::new(flate2::read::GzDecoder::new(file))
    } else {
        Box::new(file)
    };
    unpack(stream).map_err(|e| {
        Error::file(
            from,
            format!("is not a complete CIFAR-100 archive ({e})"),
            "give the folder or the .tar.gz of CIFAR-100",
        )
    })
}

// Only known files are read, and only into memory, so names in the archive cannot cause a write.
fn unpack(stream: impl Read) -> io::Result<Files> {
    // The largest real file has 155 MB.
    const LARGEST: u64 = 1 << 30;
    let mut files = Files::new();
    for entry in tar::Archive::new(stream).entries()? {
        let entry = entry?;
        let path = entry.path()?.into_owned();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .to_owned();
        if wanted(&name) && entry.header().entry_type().is_file() {
            let size = entry.size();
            let mut bytes = Vec::new();
            entry.take(LARGEST).read_to_end(&mut bytes)?;
            if bytes.len() as u64 != size {
                return Err(io::Error::other(format!("{name} is cut off")));
            }
            files.insert(name, bytes);
        }
    }
    Ok(files)
}
