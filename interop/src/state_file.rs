//! Files of named tensors, whatever tool wrote them: zip and older `torch.save`, plain pickles of numpy
//! arrays, safetensors. A file is memory-mapped. The memory allocated to inspect it, and to extract one
//! backbone, never exceeds twice its size plus [`SLACK`].

mod container;
mod pickled;
mod stored;

pub use container::SLACK;
pub use stored::{Container, Stored, Unread};

use camtrast_common::error::Refusal;
use camtrast_common::{Error, Result};
use camtrast_pickle::Coding;
use container::read;
use memmap2::Mmap;
use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use stored::Content;

enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

/// A file of named tensors.
pub struct StateFile {
    path: PathBuf,
    bytes: Bytes,
    container: Container,
    content: Content,
}

impl StateFile {
    /// Maps a file and reads the description of its tensors; their bytes are not copied.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be opened, [`Error::File`] when it has none of these formats, is damaged,
    /// or needs code to be run.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Err(Error::file(path, "is a folder", "give a file of weights"));
        }
        let file = File::open(path).map_err(Error::io(path, "read"))?;
        // SAFETY: a checkpoint must not be changed in place while it is read; if a file is truncated
        // meanwhile, the program ends.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path, "read"))?;
        Self::of(path, Bytes::Mapped(map))
    }

    /// As [`StateFile::open`], for bytes in memory; `path` is their name in errors.
    ///
    /// # Errors
    /// As [`StateFile::open`].
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self> {
        Self::of(path, Bytes::Owned(bytes))
    }

    fn of(path: &Path, bytes: Bytes) -> Result<Self> {
        let (container, content) = read(&bytes).map_err(Refusal::at(path))?;
        Ok(StateFile {
            path: path.to_owned(),
            bytes,
            container,
            content,
        })
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its format.
    pub fn container(&self) -> Container {
        self.container
    }

    /// Its author, as stated in detectron2's files.
    pub fn author(&self) -> Option<&str> {
        self.content.author.as_deref()
    }

    /// The name of the network, as stated in timm's files.
    pub fn model(&self) -> Option<&str> {
        self.content.model.as_deref()
    }

    /// Objects with the name of a weight that only a call could create, or that have an unsupported type.
    pub fn unread(&self) -> &[Unread] {
        &self.content.unread
    }

    /// Unknown classes and functions that the file calls, which are not called here: each once, at most 32.
    pub fn foreign(&self) -> &[String] {
        &self.content.foreign
    }

    /// Its tensors, in the order of the file.
    pub fn tensors(&self) -> &[Stored] {
        &self.content.tensors
    }

    /// Names of its tensors, and of unreadable objects with the name of a weight.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let unread = self.content.unread.iter().map(|unread| unread.name.as_str());
        self.content
            .tensors
            .iter()
            .map(|tensor| tensor.name.as_str())
            .chain(unread)
    }

    /// Size in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// All of its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Copies a tensor's elements, in C order, as float32: exact for all but doubles, which are rounded.
    ///
    /// # Panics
    /// When `out` is not as long as the tensor.
    pub fn floats(&self, tensor: &Stored, out: &mut [f32]) {
        let dtype = tensor.dtype;
        self.elements(tensor, out, |bytes| dtype.float(bytes));
    }

    /// Copies a tensor's elements, in C order, as integers; zeros for a tensor of another type.
    ///
    /// # Panics
    /// When `out` is not as long as the tensor.
    pub fn integers(&self, tensor: &Stored, out: &mut [i64]) {
        let dtype = tensor.dtype;
        self.elements(tensor, out, |bytes| dtype.integer(bytes));
    }

    fn elements<T>(&self, tensor: &Stored, out: &mut [T], convert: impl Fn(&[u8]) -> T) {
        assert_eq!(out.len(), tensor.elements(), "{}", tensor.name);
        let size = tensor.dtype.size();
        if size == 0 || out.is_empty() {
            return;
        }
        let bytes = &self.bytes[tensor.start..];
        if tensor.coding != Coding::Plain {
            return coded(tensor, bytes, out, convert);
        }
        if tensor.is_contiguous() {
            out.iter_mut()
                .zip(bytes.chunks_exact(size))
                .for_each(|(out, element)| *out = convert(element));
            return;
        }
        let mut index = vec![0; tensor.shape.len()];
        let mut place = 0;
        for out in out {
            *out = convert(&bytes[place * size..(place + 1) * size]);
            for d in (0..index.len()).rev() {
                index[d] += 1;
                place += tensor.stride[d];
                if index[d] < tensor.shape[d] {
                    break;
                }
                place -= tensor.stride[d] * index[d];
                index[d] = 0;
            }
        }
    }
}

// Elements that are written as text can only be read in order; numpy's have no gaps, so each is put at its
// position.
fn coded<T>(tensor: &Stored, text: &[u8], out: &mut [T], convert: impl Fn(&[u8]) -> T) {
    let mut bytes = tensor.coding.bytes(text);
    let size = tensor.dtype.size();
    let mut element = [0; 8];
    let mut order: Vec<usize> = (0..tensor.shape.len()).collect();
    order.sort_by_key(|&d| tensor.stride[d]);
    let mut index = vec![0; order.len()];
    let step = |d: usize| tensor.shape[d + 1..].iter().product::<usize>();
    let steps: Vec<usize> = (0..order.len()).map(step).collect();
    let mut place = 0;
    for _ in 0..out.len() {
        element[..size]
            .iter_mut()
            .zip(&mut bytes)
            .for_each(|(out, byte)| *out = byte);
        out[place] = convert(&element[..size]);
        for &d in &order {
            index[d] += 1;
            place += steps[d];
            if index[d] < tensor.shape[d] {
                break;
            }
            place -= steps[d] * index[d];
            index[d] = 0;
        }
    }
}
