//! The tensors that a pickle names, found in its dicts.

use super::stored::{Content, DIMENSIONS, MODEL, NAME, Stored, Unread, position, short};
use camtrast_common::error::{ReadResult, Refusal};
use camtrast_pickle::{Budget, Coding, Machine, Node, Value};

fn text_of(machine: &Machine, root: Value, key: &str) -> Option<String> {
    match machine.get(root, key)? {
        Value::Text(text) => Some(short(text)),
        _ => None,
    }
}

/// Depth to which nested dicts are searched. Lightning's and VISSL's files have four levels.
const DEPTH: usize = 8;

/// Number of foreign names that are kept for messages.
const FOREIGN: usize = 32;

/// What the pickle `root` of a file says; `storage` gives the bytes of a storage by its key.
pub(super) fn content_of<'a>(
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

fn odd(name: &str, what: &str) -> Refusal {
    Refusal::new(
        format!("is damaged: tensor {name:?} {what}"),
        "copy or download it again",
    )
}
