//! The containers, recognised by their first bytes: zip and older `torch.save`, plain pickles, safetensors.

use super::pickled::content_of;
use super::stored::{Container, Content, DIMENSIONS, MODEL, NAME, Stored, position, short};
use crate::archive::{Archive, Entry};
use camtrast_common::error::{ReadResult, Refusal};
use camtrast_pickle::{Budget, Coding, Dtype, Machine, Node, Value};
use safetensors::SafeTensors;
use std::collections::HashMap;

/// Memory that any file may make us allocate in addition to twice its size.
pub const SLACK: usize = 4 << 20;

/// Which container it is, and what it says.
pub(super) fn read(bytes: &[u8]) -> ReadResult<(Container, Content)> {
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
