//! Files of named tensors, whatever tool wrote them: zip and older `torch.save`, plain pickles of numpy
//! arrays, safetensors. A file is memory-mapped. The memory allocated to inspect it, and to extract one
//! backbone, never exceeds twice its size plus [`SLACK`].

use crate::archive::{Archive, Entry};
use camtrast_common::error::{ReadResult, Refusal};
use camtrast_common::{Error, Result};
use camtrast_pickle::{Budget, Coding, Dtype, Machine, Node, Value};
use memmap2::Mmap;
use safetensors::SafeTensors;
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};

/// Memory that any file may make us allocate in addition to twice its size.
pub const SLACK: usize = 4 << 20;

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
    stride: Vec<usize>,
    /// First byte of the first element in the file.
    start: usize,
    /// How the elements are written.
    coding: Coding,
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

    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.stride).rev().all(|(&size, &stride)| {
            let fits = size == 1 || stride == expected;
            expected *= size;
            fits
        })
    }
}

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

/// The content of a file.
#[derive(Default)]
struct Content {
    author: Option<String>,
    model: Option<String>,
    tensors: Vec<Stored>,
    unread: Vec<Unread>,
    foreign: Vec<String>,
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

fn read(bytes: &[u8]) -> ReadResult<(Container, Content)> {
    if bytes.starts_with(b"PK\x03\x04") {
        zip(bytes)
    } else if bytes.first() == Some(&0x80) && bytes.get(1).is_some_and(|&protocol| protocol < 16)
        || is_old(bytes)
    {
        pickles(bytes)
    } else if bytes.get(8) == Some(&b'{') {
        safetensors(bytes)
    } else {
        Err(Refusal::new(
            "is not a file of weights in a known format (torch.save, pickle, safetensors)",
            "save it with torch.save(model.state_dict(), path) or as safetensors",
        ))
    }
}

// Pickles of protocols 0 and 1 have no magic number: they begin with a dict, a list or a class, and end with
// a stop.
fn is_old(bytes: &[u8]) -> bool {
    let length_of_header = bytes.get(4..8) == Some(&[0; 4]);
    bytes.starts_with(b"L119547037146038801333356L\n.")
        || !length_of_header && bytes.last() == Some(&b'.') && b"(}]c".contains(&bytes[0])
}

// The pickle's own objects; tensors need twice the file at most.
fn budget(bytes: &[u8]) -> Budget {
    Budget::new(bytes.len() / 16 + SLACK / 4 * 3)
}

fn zip<'a>(bytes: &'a [u8]) -> ReadResult<(Container, Content)> {
    let archive = Archive::open(bytes)?;
    // Overlapping entries could make reading endless.
    let mut left = bytes.len();
    let mut content = |entry: &Entry<'a>| {
        let content = archive.content(entry)?;
        left = left
            .checked_sub(content.len())
            .ok_or_else(|| Refusal::new("is a zip file whose entries overlap", "save it again with torch"))?;
        Ok(content)
    };
    let mut pickle = None;
    for entry in archive.entries() {
        let entry = entry?;
        if let Some(folder) = entry
            .name
            .strip_suffix(b"data.pkl")
            .filter(|f| f.is_empty() || f.ends_with(b"/"))
        {
            pickle = Some((folder, content(&entry)?));
        }
        if entry.name.ends_with(b"/constants.pkl") {
            let remedy = "load it with torch.jit.load and save its state_dict()";
            return Err(Refusal::new("is a TorchScript archive, which holds code", remedy));
        }
    }
    let Some((folder, pickle)) = pickle else {
        return Err(Refusal::new(
            "is a zip file without data.pkl",
            "give a file that torch.save wrote",
        ));
    };
    let mut machine = Machine::new(pickle, budget(bytes));
    let root = machine.read()?;
    let mut storages: HashMap<&[u8], &[u8]> = HashMap::new();
    for entry in archive.entries() {
        let entry = entry?;
        let Some(name) = entry.name.strip_prefix(folder) else {
            continue;
        };
        if name == b"byteorder" && content(&entry)? != b"little" {
            return Err(Refusal::new(
                "was written on a big-endian machine",
                "save it again on a little-endian machine",
            ));
        }
        if let Some(key) = name.strip_prefix(b"data/") {
            machine.budget().take(size_of::<(&[u8], &[u8])>() * 6)?;
            storages.insert(key, content(&entry)?);
        }
    }
    Ok((
        Container::TorchZip,
        content_of(bytes, machine, root, &|key| storages.get(key).copied())?,
    ))
}

// 0x1950a86a20f9469cfc6c, the magic number of torch before 1.6.
const MAGIC: [&[u8]; 2] = [
    &[0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19],
    b"119547037146038801333356",
];

fn pickles(bytes: &[u8]) -> ReadResult<(Container, Content)> {
    let mut machine = Machine::new(bytes, budget(bytes));
    let root = machine.read()?;
    if !matches!(root, Value::Big(magic) if MAGIC.contains(&magic)) {
        return Ok((Container::Pickle, content_of(bytes, machine, root, &|_| None)?));
    }
    // Protocol, system, content, keys of the storages; then each storage: its length and its elements.
    machine.read()?;
    machine.read()?;
    let root = machine.read()?;
    let keys = machine.read()?;
    let count = machine
        .nodes()
        .iter()
        .filter(|node| matches!(node, Node::Storage { .. }))
        .count();
    machine.budget().take(count * 256)?;
    let mut sizes: HashMap<&[u8], usize> = HashMap::new();
    for node in machine.nodes() {
        if let Node::Storage { key, dtype, .. } = node {
            sizes.insert(key, dtype.size());
        }
    }
    let count = machine.sequence(keys)?.len();
    let mut storages: HashMap<&[u8], &[u8]> = HashMap::new();
    for i in 0..count {
        let Value::Text(key) = machine.sequence(keys)?[i] else {
            continue;
        };
        let length = machine.take(8)?.try_into().expect("8 bytes");
        let size = sizes.get(key).copied().unwrap_or(0);
        if size == 0 {
            let remedy = "save the state_dict alone, in float32";
            return Err(Refusal::new(
                "has a storage of a type that camtrast does not read",
                remedy,
            ));
        }
        let length = usize::try_from(u64::from_le_bytes(length))
            .ok()
            .and_then(|l| l.checked_mul(size));
        let content = machine.take(length.unwrap_or(usize::MAX))?;
        storages.insert(key, content);
    }
    Ok((
        Container::TorchLegacy,
        content_of(bytes, machine, root, &|key| storages.get(key).copied())?,
    ))
}

/// Keys of the name of the network in a file, timm's first.
const MODEL: [&str; 3] = ["arch", "architecture", "model_name"];

fn short(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(80)]).into_owned()
}

fn text_of(machine: &Machine, root: Value, key: &str) -> Option<String> {
    match machine.get(root, key)? {
        Value::Text(text) => Some(short(text)),
        _ => None,
    }
}

/// Depth to which nested dicts are searched. Lightning's and VISSL's files have four levels.
const DEPTH: usize = 8;
/// Longer names do not occur in real files.
const NAME: usize = 400;
/// Dimensions of a tensor.
const DIMENSIONS: usize = 8;

/// Number of foreign names that are kept for messages.
const FOREIGN: usize = 32;

fn content_of<'a>(
    file: &'a [u8],
    mut machine: Machine<'a>,
    root: Value<'a>,
    storage: &dyn Fn(&[u8]) -> Option<&'a [u8]>,
) -> ReadResult<Content> {
    let mut budget = std::mem::replace(machine.budget(), Budget::new(0));
    let machine = &machine;
    budget.take(machine.nodes().len())?;
    let seen = vec![false; machine.nodes().len()];
    let mut walk = Walk {
        machine,
        budget,
        seen,
        found: Vec::new(),
        unread: Vec::new(),
    };
    walk.dict(root, "", DEPTH)?;
    let mut content = Content {
        author: text_of(machine, root, "__author__"),
        model: MODEL.iter().find_map(|key| text_of(machine, root, key)),
        tensors: Vec::with_capacity(walk.found.len()),
        unread: walk.unread,
        foreign: Vec::new(),
    };
    // Arrays that are written as text must be read to find their length, but only up to a limit.
    let mut text = file.len().saturating_mul(4);
    for (name, node) in walk.found {
        content.tensors.push(match &machine.nodes()[node as usize] {
            Node::Tensor { .. } => torch_tensor(file, machine, node, storage, name)?,
            _ => numpy_tensor(file, machine, node, name, &mut text)?,
        });
    }
    for number in machine.foreign_calls() {
        let name = machine.foreign_name(number);
        if content.foreign.len() < FOREIGN && !content.foreign.contains(&name) {
            content.foreign.push(name);
        }
    }
    if let (true, [name, ..]) = (content.tensors.is_empty(), &content.foreign[..]) {
        let problem = format!(
            "holds no tensors, and wants to call {name}, which camtrast never does because it would run code"
        );
        return Err(Refusal::new(
            problem,
            "save plain tensors, as torch.save(model.state_dict(), path) does",
        ));
    }
    Ok(content)
}

/// Every dict is visited once, so that dicts that share dicts cost no more than their size.
struct Walk<'m, 'a> {
    machine: &'m Machine<'a>,
    budget: Budget,
    seen: Vec<bool>,
    found: Vec<(String, u32)>,
    unread: Vec<Unread>,
}

// Only possible weights are stored, so that the number of other objects is not limited.
fn is_weight(key: &str) -> bool {
    ["weight", "bias", "running_mean", "running_var"]
        .iter()
        .any(|end| key.ends_with(end))
}

impl<'a> Walk<'_, 'a> {
    fn dict(&mut self, dict: Value<'a>, prefix: &str, depth: usize) -> ReadResult<()> {
        let Value::Node(number) = dict else { return Ok(()) };
        if depth == 0 || std::mem::replace(&mut self.seen[number as usize], true) {
            return Ok(());
        }
        let machine = self.machine;
        for &(key, value) in machine.entries(dict) {
            let Value::Text(key) = key else { continue };
            let Some(key) = std::str::from_utf8(key)
                .ok()
                .filter(|key| prefix.len() + key.len() <= NAME)
            else {
                continue;
            };
            if let Some(Node::Dict(_)) = machine.node(value) {
                self.dict(value, &format!("{prefix}{key}."), depth - 1)?;
                continue;
            }
            let name = 2 * (prefix.len() + key.len());
            if let Some(what) = self.unread(value) {
                if is_weight(key) {
                    self.budget.take(name + what.len() + 3 * size_of::<Unread>())?;
                    self.unread.push(Unread {
                        name: format!("{prefix}{key}"),
                        what,
                    });
                }
            } else if let (Value::Node(node), Some(Node::Tensor { .. } | Node::Array(_))) =
                (value, machine.node(value))
            {
                let entries = 3 * size_of::<(String, u32)>() + size_of::<Stored>();
                self.budget
                    .take(name + entries + 2 * DIMENSIONS * size_of::<usize>())?;
                self.found.push((format!("{prefix}{key}"), node));
            }
        }
        Ok(())
    }

    // The description of a value that might be a tensor and cannot be read.
    fn unread(&self, value: Value<'a>) -> Option<String> {
        match (value, self.machine.node(value)) {
            (Value::Opaque(by), _) => Some(format!(
                "that {} must make, which is not called",
                self.machine.foreign_name(by)
            )),
            (_, Some(Node::Array(None))) => Some("as a numpy array of Python objects".into()),
            (_, Some(Node::Array(Some(array)))) => match self.machine.nodes()[array.dtype as usize] {
                Node::NumpyType { big_endian: true, .. } => Some("in big-endian order".into()),
                Node::NumpyType { .. } => None,
                _ => Some("as an array of an unknown type".into()),
            },
            _ => None,
        }
    }
}

fn torch_tensor<'a>(
    file: &'a [u8],
    machine: &Machine<'a>,
    node: u32,
    content: &dyn Fn(&[u8]) -> Option<&'a [u8]>,
    name: String,
) -> ReadResult<Stored> {
    let Node::Tensor {
        storage,
        offset,
        shape,
        stride,
    } = machine.nodes()[node as usize]
    else {
        return Err(odd(&name, "is not a tensor"));
    };
    let Node::Storage { key, dtype, length } = machine.nodes()[storage as usize] else {
        return Err(odd(&name, "has no storage"));
    };
    let (shape, stride) = (sizes(machine, shape, &name)?, sizes(machine, stride, &name)?);
    let offset = usize::try_from(offset).map_err(|_| odd(&name, "begins before its storage"))?;
    let content = content(key).ok_or_else(|| odd(&name, "has its elements in a storage that is missing"))?;
    if u64::try_from(content.len() / dtype.size().max(1)).is_ok_and(|there| there < length) {
        return Err(odd(&name, "has a storage that is cut off"));
    }
    let start = position(file, content) + dtype.size().saturating_mul(offset);
    let tensor = Stored {
        name,
        dtype,
        shape,
        stride,
        start,
        coding: Coding::Plain,
    };
    checked(tensor, content.len(), offset)
}

// `text` is the number of bytes that may still be read from arrays that are written as text.
fn numpy_tensor<'a>(
    file: &'a [u8],
    machine: &Machine<'a>,
    node: u32,
    name: String,
    text: &mut usize,
) -> ReadResult<Stored> {
    let Node::Array(Some(array)) = machine.nodes()[node as usize] else {
        return Err(odd(&name, "has no elements"));
    };
    let Node::NumpyType { dtype, .. } = machine.nodes()[array.dtype as usize] else {
        return Err(odd(&name, "has no element type"));
    };
    let shape = sizes(machine, array.shape, &name)?;
    let mut stride = vec![0; shape.len()];
    let mut next = 1usize;
    let mut place = |d: usize| {
        stride[d] = next;
        next = next.saturating_mul(shape[d]);
    };
    if array.fortran {
        (0..shape.len()).for_each(&mut place)
    } else {
        (0..shape.len()).rev().for_each(&mut place)
    }
    let coding = array.coding;
    let length = if coding == Coding::Plain {
        array.bytes.len()
    } else {
        *text = text.checked_sub(array.bytes.len()).ok_or_else(|| {
            Refusal::new(
                "holds arrays that share elements",
                "save each array separately (array.copy())",
            )
        })?;
        coding.bytes(array.bytes).count()
    };
    let start = position(file, array.bytes);
    checked(
        Stored {
            name,
            dtype,
            shape,
            stride,
            start,
            coding,
        },
        length,
        0,
    )
}

fn sizes(machine: &Machine, node: u32, name: &str) -> ReadResult<Vec<usize>> {
    let values = machine.sequence(Value::Node(node))?;
    if values.len() > DIMENSIONS {
        return Err(odd(name, "has too many dimensions"));
    }
    let size = |value: &Value| match value {
        Value::Int(size) => usize::try_from(*size).ok(),
        _ => None,
    };
    values
        .iter()
        .map(|value| size(value).ok_or_else(|| odd(name, "has an invalid shape")))
        .collect()
}

// Every element must be inside the `length` bytes of its storage, and no element may be used twice: a storage
// of one number must not become a tensor of a billion.
fn checked(tensor: Stored, length: usize, offset: usize) -> ReadResult<Stored> {
    let there = length.checked_div(tensor.dtype.size()).unwrap_or(usize::MAX);
    let outside = || odd(&tensor.name, "does not fit into its storage");
    if tensor.shape.len() != tensor.stride.len() {
        return Err(odd(&tensor.name, "has a shape and strides that differ in length"));
    }
    let elements = tensor
        .shape
        .iter()
        .try_fold(1usize, |n, &size| n.checked_mul(size))
        .ok_or_else(outside)?;
    if elements > 0 {
        let mut last = offset;
        for (&size, &stride) in tensor.shape.iter().zip(&tensor.stride) {
            last = (size - 1)
                .checked_mul(stride)
                .and_then(|step| last.checked_add(step))
                .ok_or_else(outside)?;
        }
        if last >= there || elements > there {
            return Err(outside());
        }
    } else if tensor.shape.iter().any(|&size| size > isize::MAX as usize) {
        return Err(outside());
    }
    Ok(tensor)
}

// The start of a part of the file.
fn position(file: &[u8], part: &[u8]) -> usize {
    part.as_ptr() as usize - file.as_ptr() as usize
}

fn odd(name: &str, what: &str) -> Refusal {
    Refusal::new(
        format!("is damaged: tensor {name:?} {what}"),
        "copy or download it again",
    )
}

fn safetensors(bytes: &[u8]) -> ReadResult<(Container, Content)> {
    let damaged = |reason| {
        Refusal::new(
            format!("is not a whole safetensors file ({reason})"),
            "copy or download it again",
        )
    };
    // In memory a header needs up to ten times its length.
    let header = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes"));
    if header > (bytes.len() / 16 + SLACK / 16) as u64 {
        return Err(damaged("its header is too long for its tensors".to_owned()));
    }
    let model = {
        // Only one copy of the header is in memory at a time.
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(e.to_string()))?;
        let metadata = header.metadata().as_ref();
        metadata.and_then(|metadata| {
            MODEL
                .iter()
                .find_map(|key| Some(short(metadata.get(*key)?.as_bytes())))
        })
    };
    let file = SafeTensors::deserialize(bytes).map_err(|e| damaged(e.to_string()))?;
    let mut tensors = Vec::new();
    for (name, view) in file.iter() {
        if name.len() > NAME || view.shape().len() > DIMENSIONS {
            continue;
        }
        let shape = view.shape().to_vec();
        let stride = (0..shape.len())
            .map(|d| shape[d + 1..].iter().fold(1, |n: usize, &s| n.saturating_mul(s)))
            .collect();
        let (dtype, start) = (Dtype::of_safetensors(view.dtype()), position(bytes, view.data()));
        tensors.push(Stored {
            name: name.to_owned(),
            dtype,
            shape,
            stride,
            start,
            coding: Coding::Plain,
        });
    }
    tensors.sort_by_key(|tensor| tensor.start);
    Ok((
        Container::Safetensors,
        Content {
            model,
            tensors,
            ..Content::default()
        },
    ))
}
