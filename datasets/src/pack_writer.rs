//! Writing a pack as a stream: ImageNet at 84 pixels is 27 GB, so only a chunk of it is ever in memory.
//!
//! The header holds the checksum and the labels lie before the pixels, both known only at the end (images may
//! be skipped). So space is reserved at the front: pixels begin where they would if no row were skipped, and
//! the header is padded up to them.

use crate::pack::{FORMAT, VERSION};
use camtrast_common::error::{Error, Result};
use camtrast_common::files::WholeFile;
use camtrast_common::tensor_file::{CHECKSUM, Entry, Metadata, absorb, header, hex};
use memmap2::MmapOptions;
use sha2::{Digest, Sha256};
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// The metadata of a pack.
#[derive(Clone, Debug, Default)]
pub struct PackDescription {
    /// Height of every image in pixels.
    pub height: usize,
    /// Width of every image in pixels.
    pub width: usize,
    /// Names of the classes in label order.
    pub class_names: Vec<String>,
    /// Names of the general categories in label order, when there are any.
    pub category_names: Option<Vec<String>>,
    /// More metadata: `layout`, `split`, `size`, `resize`, `crop`, `source`, `class_titles`, ...
    pub more: Metadata,
}

/// Writes one pack, whole or not at all: dropped before [`PackWriter::finish`] it leaves nothing.
pub struct PackWriter {
    path: PathBuf,
    whole: WholeFile,
    description: PackDescription,
    pixel_start: usize,
    rows_at_most: usize,
    bytes: usize,
}

impl PackWriter {
    /// Begins a pack of at most `rows` images and reserves its space on the disk.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be created or the disk has too little space.
    pub fn create(path: &Path, description: PackDescription, rows: usize) -> Result<Self> {
        let mut whole = WholeFile::create(path)?;
        let front = front(&description, rows, &"0".repeat(64));
        let pixel_start = 8 + front.len() + label_bytes(&description, rows);
        reserve(
            &mut whole,
            pixel_start + rows * description.height * description.width * 3,
        )
        .and_then(|()| whole.file().seek(SeekFrom::Start(pixel_start as u64)))
        .map_err(Error::io(path, "write"))?;
        Ok(PackWriter {
            path: path.to_owned(),
            whole,
            description,
            pixel_start,
            rows_at_most: rows,
            bytes: 0,
        })
    }

    /// Replaces the metadata; it must not take more space than before (with fewer classes, for example).
    pub fn describe(&mut self, description: PackDescription) {
        self.description = description;
    }

    /// Appends the pixels of any number of whole images, RGB, [n, H, W, 3].
    ///
    /// # Errors
    /// [`Error::Io`] when they cannot be written.
    ///
    /// # Panics
    /// When they are not whole images, or more than announced.
    pub fn push(&mut self, pixels: &[u8]) -> Result<()> {
        let image = self.description.height * self.description.width * 3;
        assert_eq!(pixels.len() % image, 0, "whole images");
        self.bytes += pixels.len();
        assert!(
            self.bytes <= self.rows_at_most * image,
            "no more images than announced"
        );
        self.whole
            .file()
            .write_all(pixels)
            .map_err(Error::io(&self.path, "write"))
    }

    /// Writes labels (and categories), the header and the checksum, and publishes the file. Returns the
    /// checksum.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be written.
    ///
    /// # Panics
    /// When the number of labels or categories is not the number of images pushed, or categories come without
    /// names.
    pub fn finish(mut self, labels: &[i64], categories: Option<&[i64]>) -> Result<String> {
        let image = self.description.height * self.description.width * 3;
        let rows = self.bytes / image;
        assert_eq!(labels.len(), rows, "a label for each image");
        assert_eq!(
            categories.map(<[i64]>::len),
            self.description.category_names.as_ref().map(|_| rows)
        );
        let checksum = self
            .write_front(labels, categories, rows)
            .map_err(Error::io(&self.path, "write"))?;
        self.whole.publish()?;
        Ok(checksum)
    }

    fn write_front(
        &mut self,
        labels: &[i64],
        categories: Option<&[i64]>,
        rows: usize,
    ) -> std::io::Result<String> {
        let [labels, categories] = [Some(labels), categories].map(|values| values.map(little_endian));
        let file = self.whole.file();
        file.set_len((self.pixel_start + self.bytes) as u64)?;
        // SAFETY: no other process writes the temporary file.
        let pixels = unsafe {
            MmapOptions::new()
                .offset(self.pixel_start as u64)
                .len(self.bytes)
                .map(&*file)
        }?;
        let mut hash = Sha256::new();
        if let Some(categories) = &categories {
            absorb(&mut hash, "categories", "I64", &[rows as i64], categories);
        }
        absorb(
            &mut hash,
            "labels",
            "I64",
            &[rows as i64],
            labels.as_deref().unwrap_or_default(),
        );
        absorb(
            &mut hash,
            "pixels",
            "U8",
            &pixel_shape(&self.description, rows),
            &pixels,
        );
        let checksum = hex(&hash.finalize());

        let mut front = front(&self.description, rows, &checksum);
        front.resize(self.pixel_start - 8 - label_bytes(&self.description, rows), b' ');
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&(front.len() as u64).to_le_bytes())?;
        file.write_all(&front)?;
        for values in [categories, labels].into_iter().flatten() {
            file.write_all(&values)?;
        }
        Ok(checksum)
    }
}

// The header of a pack with that many rows, padded to 8 bytes.
fn front(description: &PackDescription, rows: usize, checksum: &str) -> Vec<u8> {
    let json = |names: &[String]| serde_json::to_string(names).expect("strings serialise");
    let mut metadata = description.more.clone();
    metadata.insert("format".into(), FORMAT.into());
    metadata.insert("version".into(), VERSION.into());
    metadata.insert("class_names".into(), json(&description.class_names));
    metadata.insert(CHECKSUM.into(), checksum.into());
    let mut entries = Vec::new();
    let integers = |name| Entry {
        name,
        dtype: "I64",
        shape: vec![rows as i64],
        bytes: rows * 8,
    };
    if let Some(names) = &description.category_names {
        metadata.insert("category_names".into(), json(names));
        entries.push(integers("categories"));
    }
    entries.push(integers("labels"));
    let bytes = rows * description.height * description.width * 3;
    entries.push(Entry {
        name: "pixels",
        dtype: "U8",
        shape: pixel_shape(description, rows).into(),
        bytes,
    });
    header(&entries, &metadata)
}

fn label_bytes(description: &PackDescription, rows: usize) -> usize {
    rows * 8
        * if description.category_names.is_some() {
            2
        } else {
            1
        }
}

fn pixel_shape(description: &PackDescription, rows: usize) -> [i64; 4] {
    [
        rows as i64,
        description.height as i64,
        description.width as i64,
        3,
    ]
}

fn little_endian(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

// A full disk should be found now, not after half an hour of decoding. File systems that cannot reserve space
// are accepted.
fn reserve(whole: &mut WholeFile, bytes: usize) -> std::io::Result<()> {
    // SAFETY: a plain system call on a descriptor that is open.
    if unsafe { libc::fallocate(whole.file().as_raw_fd(), 0, 0, bytes as libc::off_t) } == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    if error.kind() == std::io::ErrorKind::StorageFull {
        Err(error)
    } else {
        Ok(())
    }
}
