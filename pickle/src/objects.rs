//! The results of calls: descriptions for the few functions that torch and numpy write, opaque objects for
//! all others.

use super::{Array, Callable, Coding, Dtype, Foreign, GROWTH, Machine, Node, UNNAMED, VALUE, Value, wrong};
use camtrast_common::error::{ReadResult, Refusal};

impl<'a> Machine<'a> {
    pub(super) fn call(&mut self, callable: Value<'a>, arguments: Value<'a>) -> ReadResult<()> {
        let callable = match callable {
            Value::Callable(callable) => callable,
            Value::Opaque(by) => Callable::Foreign(by),
            _ => return Err(wrong("it calls an object that is not a function")),
        };
        let given = |machine: &Self, i: usize| -> ReadResult<Value<'a>> {
            machine
                .sequence(arguments)?
                .get(i)
                .copied()
                .ok_or_else(|| wrong("a call lacks arguments"))
        };
        match callable {
            Callable::Foreign(by) => {
                if let Some(foreign) = self.foreign.get_mut(by as usize) {
                    foreign.called = true;
                }
                self.push(Value::Opaque(by))
            }
            Callable::Storage(_) => self.push(Value::Opaque(UNNAMED)),
            Callable::Encode => {
                let encoded = match given(self, 0)? {
                    Value::Text(text) => Value::Coded(Coding::Latin1, text),
                    coded @ Value::Coded(Coding::Escaped, _) => coded,
                    _ => Value::Opaque(UNNAMED),
                };
                self.push(encoded)
            }
            Callable::OrderedDict => {
                self.make(Node::Dict(Vec::new()))?;
                // Python 2 gives the pairs as a list.
                let pairs = self.sequence(arguments)?.first().copied().unwrap_or(Value::None);
                let Some(Node::Sequence(pairs)) = self.node(pairs) else {
                    return Ok(());
                };
                self.budget.take(pairs.len() * 2 * VALUE * GROWTH)?;
                let mut entries = Vec::new();
                for &pair in self.sequence(given(self, 0)?)? {
                    if let [key, value] = *self.sequence(pair)? {
                        entries.push((key, value));
                    }
                }
                *self.nodes.last_mut().expect("just made") = Node::Dict(entries);
                Ok(())
            }
            Callable::Sequence => match given(self, 0) {
                Ok(values) if matches!(self.node(values), Some(Node::Sequence(_))) => self.push(values),
                _ => self.make_sequence(Vec::new()),
            },
            Callable::RebuildTensor => {
                let parts = self.sequence(arguments)?.iter().take(4);
                if let Some(unknown) = parts.copied().find(|part| matches!(part, Value::Opaque(_))) {
                    return self.push(unknown);
                }
                let node = |value| match value {
                    Value::Node(number) => Ok(number),
                    _ => Err(wrong("the description of a tensor is wrong")),
                };
                let Value::Int(offset) = given(self, 1)? else {
                    return Err(wrong("the offset of a tensor is not a number"));
                };
                let storage = given(self, 0)?;
                if !matches!(self.node(storage), Some(Node::Storage { .. })) {
                    return Err(wrong("a tensor has no storage"));
                }
                let (shape, stride) = (node(given(self, 2)?)?, node(given(self, 3)?)?);
                self.make(Node::Tensor {
                    storage: node(storage)?,
                    offset,
                    shape,
                    stride,
                })
            }
            Callable::RebuildParameter => {
                let tensor = given(self, 0)?;
                self.push(tensor)
            }
            Callable::RebuildFromType => {
                let (function, arguments) = (given(self, 0)?, given(self, 2)?);
                match function {
                    // One level only: torch does not nest deeper, and a pickle could nest endlessly.
                    Value::Callable(
                        Callable::RebuildTensor | Callable::RebuildParameter | Callable::Foreign(_),
                    ) => self.call(function, arguments),
                    _ => self.push(Value::Opaque(UNNAMED)),
                }
            }
            Callable::NumpyReconstruct => self.make(Node::Array(None)),
            Callable::NumpyType => {
                let dtype = match given(self, 0)? {
                    Value::Text(name) => Dtype::of_numpy(name),
                    _ => Dtype::Other,
                };
                self.make(Node::NumpyType {
                    dtype,
                    big_endian: false,
                })
            }
            Callable::NumpyFromBuffer => {
                let order = given(self, 3)?;
                let state = (given(self, 2)?, given(self, 1)?, given(self, 0)?);
                let fortran = matches!(order, Value::Text(b"F"));
                let array = array(state, fortran);
                self.make(Node::Array(array))
            }
        }
    }

    pub(super) fn build(&mut self) -> ReadResult<()> {
        let state = self.pop()?;
        let Value::Node(target) = self.top()? else {
            return Ok(());
        };
        let parts = self.sequence(state).unwrap_or_default();
        let changed = match &self.nodes[target as usize] {
            Node::Array(_) => match *parts {
                // (version, shape, dtype, whether in Fortran's order, bytes)
                [_, shape, dtype, order, bytes] => {
                    let fortran = matches!(order, Value::Bool(true));
                    Some(Node::Array(array((shape, dtype, bytes), fortran)))
                }
                _ => Some(Node::Array(None)),
            },
            Node::NumpyType { dtype, .. } => {
                let big_endian = matches!(parts.get(1), Some(Value::Text(b">")));
                Some(Node::NumpyType {
                    dtype: *dtype,
                    big_endian,
                })
            }
            // Attributes of an OrderedDict (torch's `_metadata`) or a parameter are not needed.
            _ => None,
        };
        if let Some(changed) = changed {
            self.nodes[target as usize] = changed;
        }
        Ok(())
    }

    // Data that torch stores outside the pickle: ("storage", type, key, device, length[, view]), and in its
    // older files ("module", class, source...).
    pub(super) fn persistent(&mut self, id: Value<'a>) -> ReadResult<()> {
        let node = match *self.sequence(id)? {
            [
                Value::Text(b"storage"),
                Value::Callable(Callable::Storage(dtype)),
                Value::Text(key),
                _,
                Value::Int(length),
                ref rest @ ..,
            ] => {
                if matches!(rest, [Value::Node(_), ..]) {
                    return Err(Refusal::new(
                        "has storages that are views of others",
                        "save it again with a current torch",
                    ));
                }
                let length = u64::try_from(length).map_err(|_| wrong("a storage has a negative length"))?;
                Node::Storage { key, dtype, length }
            }
            [_, Value::Callable(Callable::Foreign(by)), ..] => return self.push(Value::Opaque(by)),
            _ => return self.push(Value::Opaque(UNNAMED)),
        };
        self.make(node)
    }

    // Protocol 0 writes the same as Python prints it: ('storage', <class 'torch.FloatStorage'>, '0', 'cpu',
    // 9[, None])
    pub(super) fn persistent_text(&mut self, id: &'a [u8]) -> ReadResult<()> {
        let storage = || {
            let id = std::str::from_utf8(id)
                .ok()?
                .strip_prefix("('storage', <class '")?
                .strip_suffix(')')?;
            let (class, id) = id.split_once("'>, '")?;
            let (key, id) = id.split_once("', '")?;
            let (_, length) = id.strip_suffix(", None").unwrap_or(id).split_once("', ")?;
            let dtype = Dtype::of_storage(class.rsplit_once('.')?.1)?;
            Some(Node::Storage {
                key: key.as_bytes(),
                dtype,
                length: length.parse().ok()?,
            })
        };
        match storage() {
            Some(node) => self.make(node),
            None => self.push(Value::Opaque(UNNAMED)),
        }
    }

    pub(super) fn callable(&mut self, module: &'a [u8], name: &'a [u8]) -> ReadResult<Value<'a>> {
        let known = match (std::str::from_utf8(module), std::str::from_utf8(name)) {
            (Ok(module), Ok(name)) => Callable::named(module, name),
            _ => None,
        };
        let foreign = || -> ReadResult<Callable> {
            self.budget.take(size_of::<Foreign>() * GROWTH)?;
            self.foreign.push(Foreign {
                module,
                name,
                called: false,
            });
            Ok(Callable::Foreign(self.foreign.len() as u32 - 1))
        };
        known.map_or_else(foreign, Ok).map(Value::Callable)
    }
}

fn array<'a>((shape, dtype, bytes): (Value<'a>, Value<'a>, Value<'a>), fortran: bool) -> Option<Array<'a>> {
    let (Value::Node(shape), Value::Node(dtype)) = (shape, dtype) else {
        return None;
    };
    // Python 2 writes bytes as text.
    let (coding, bytes) = match bytes {
        Value::Bytes(bytes) | Value::Text(bytes) => (Coding::Plain, bytes),
        Value::Coded(coding, text) => (coding, text),
        _ => return None,
    };
    Some(Array {
        shape,
        dtype,
        fortran,
        coding,
        bytes,
    })
}
