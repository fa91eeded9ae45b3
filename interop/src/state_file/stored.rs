//! What a file says of its tensors, whatever its container.

use camtrast_pickle::{Coding, Dtype};
use std::fmt;

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// `torch.save` since 1.6.
    TorchZip,
    /// `torch.save` before 1.6.
    TorchLegacy,
    /// `pickle.dump`, as detectron2's `.pkl`.
    Pickle,
    /// safetensors.
    Safetensors,
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Container::TorchZip => "torch.save (zip)",
            Container::TorchLegacy => "torch.save (before torch 1.6)",
            Container::Pickle => "pickle",
            Container::Safetensors => "safetensors",
        })
    }
}

/// A tensor of a file, with the position of its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The keys that lead to it, joined by dots.
    pub name: String,
    /// Type of its elements.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Elements between neighbours of each dimension.
    pub(super) stride: Vec<usize>,
    /// First byte of the first element in the file.
    pub(super) start: usize,
    /// How the elements are written.
    pub(super) coding: Coding,
}

/// An object with the name of a weight that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// The keys that lead to it, joined by dots.
    pub name: String,
    /// Its description, which follows its name in a message.
    pub what: String,
}

impl Stored {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    pub(super) fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.stride).rev().all(|(&size, &stride)| {
            let fits = size == 1 || stride == expected;
            expected *= size;
            fits
        })
    }
}

/// The content of a file.
#[derive(Default)]
pub(super) struct Content {
    pub author: Option<String>,
    pub model: Option<String>,
    pub tensors: Vec<Stored>,
    pub unread: Vec<Unread>,
    pub foreign: Vec<String>,
}

/// Keys of the name of the network in a file, timm's first.
pub(super) const MODEL: [&str; 3] = ["arch", "architecture", "model_name"];

/// Longer names do not occur in real files.
pub(super) const NAME: usize = 400;

/// Dimensions of a tensor.
pub(super) const DIMENSIONS: usize = 8;

/// The beginning of a text of the file, for messages.
pub(super) fn short(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(80)]).into_owned()
}

/// The start of a part of the file.
pub(super) fn position(file: &[u8], part: &[u8]) -> usize {
    part.as_ptr() as usize - file.as_ptr() as usize
}
