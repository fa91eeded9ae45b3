//! A reader of Python pickles (protocols 2 to 5) that runs nothing.
//!
//! It builds numbers, strings, containers and descriptions of tensors, borrowed from the file's bytes. Whatever else a pickle
//! names is refused by name, before it could mean anything: there is no code here that could call it. Objects live in one table
//! and refer to each other by number, as pickles do, so neither deep nesting nor cycles cost a stack frame, and every
//! allocation is charged to a [`Budget`].

mod callable;
mod dtype;
mod value;

pub use callable::Callable;
pub use dtype::Dtype;
pub use value::{Array, Node, Value};

use crate::error::{Refusal, Told};
use std::collections::HashMap;

/// How much a file may still make us allocate.
#[derive(Debug)]
pub struct Budget(usize);

impl Budget {
    /// `bytes` in all.
    pub fn new(bytes: usize) -> Self {
        Budget(bytes)
    }

    /// Takes `bytes` off.
    pub fn take(&mut self, bytes: usize) -> Told<()> {
        self.0 = self.0.checked_sub(bytes).ok_or_else(|| {
            Refusal::new(
                "describes more objects than its size allows",
                "save the state_dict alone, without other objects",
            )
        })?;
        Ok(())
    }
}

const NODE: usize = size_of::<Node>();
const VALUE: usize = size_of::<Value>();
/// A vector that grows by doubling holds up to three times what was put in while it moves.
const GROWTH: usize = 3;

/// The machine a pickle is written for.
pub struct Machine<'a> {
    bytes: &'a [u8],
    position: usize,
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    nodes: Vec<Node<'a>>,
    deepest: usize,
    most_marks: usize,
    budget: Budget,
}

impl<'a> Machine<'a> {
    /// A machine that reads `bytes` from their start.
    pub fn new(bytes: &'a [u8], budget: Budget) -> Self {
        Machine {
            bytes,
            position: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            nodes: Vec::new(),
            deepest: 0,
            most_marks: 0,
            budget,
        }
    }

    /// What is left to allocate.
    pub fn budget(&mut self) -> &mut Budget {
        &mut self.budget
    }

    /// The objects read so far.
    pub fn nodes(&self) -> &[Node<'a>] {
        &self.nodes
    }

    /// The object a value refers to.
    pub fn node(&self, value: Value<'a>) -> Option<&Node<'a>> {
        match value {
            Value::Node(number) => self.nodes.get(number as usize),
            _ => None,
        }
    }

    /// The entries of a dict; none for anything else.
    pub fn entries(&self, value: Value<'a>) -> &[(Value<'a>, Value<'a>)] {
        match self.node(value) {
            Some(Node::Dict(entries)) => entries,
            _ => &[],
        }
    }

    /// The value under a key of a dict.
    pub fn get(&self, dict: Value<'a>, key: &str) -> Option<Value<'a>> {
        // Python 2's text is Python 3's bytes.
        let is_it = |known: &Value| matches!(known, Value::Text(k) | Value::Bytes(k) if *k == key.as_bytes());
        self.entries(dict).iter().find(|(known, _)| is_it(known)).map(|(_, value)| *value)
    }

    /// The elements of a tuple or list.
    pub fn sequence(&self, value: Value<'a>) -> Told<&[Value<'a>]> {
        match self.node(value) {
            Some(Node::Sequence(values)) => Ok(values),
            _ => Err(wrong("a tuple is something else")),
        }
    }

    /// Reads one pickle, from the current position to its end.
    pub fn read(&mut self) -> Told<Value<'a>> {
        self.stack.clear();
        self.marks.clear();
        self.memo.clear();
        loop {
            let code = self.byte()?;
            if code == b'.' {
                return self.pop();
            }
            self.step(code)?;
        }
    }

    fn step(&mut self, code: u8) -> Told<()> {
        match code {
            0x80 => {
                let protocol = self.byte()?;
                if !(2..=5).contains(&protocol) {
                    let problem = format!("is a pickle of protocol {protocol}");
                    return Err(Refusal::new(problem, "save it again with a current torch"));
                }
            }
            // A frame: only a hint of how much to read at once.
            0x95 => {
                self.take(8)?;
            }
            b'(' => {
                if self.marks.len() == self.most_marks {
                    self.most_marks += 1;
                    self.budget.take(size_of::<usize>() * GROWTH)?;
                }
                self.marks.push(self.stack.len());
            }
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                let from = self.pop_mark()?;
                self.stack.truncate(from);
            }
            b'2' => {
                let top = self.top()?;
                self.push(top)?;
            }
            b'N' => self.push(Value::None)?,
            0x88 | 0x89 => self.push(Value::Bool(code == 0x88))?,
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))?;
            }
            b'K' => {
                let value = self.byte()?;
                self.push(Value::Int(value.into()))?;
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))?;
            }
            0x8a | 0x8b => {
                let length = if code == 0x8a { self.byte()? as usize } else { self.length4()? };
                let bytes = self.take(length)?;
                self.push(integer(bytes))?;
            }
            b'G' => {
                self.take(8)?;
                self.push(Value::Float)?;
            }
            b'X' | 0x8c | 0x8d | b'T' | b'U' => {
                let length = match code {
                    b'X' | b'T' => self.length4()?,
                    0x8d => self.length8()?,
                    _ => self.byte()? as usize,
                };
                let text = self.take(length)?;
                self.push(Value::Text(text))?;
            }
            b'B' | b'C' | 0x8e | 0x96 => {
                let length = match code {
                    b'B' => self.length4()?,
                    b'C' => self.byte()? as usize,
                    _ => self.length8()?,
                };
                let bytes = self.take(length)?;
                self.push(Value::Bytes(bytes))?;
            }
            b')' => self.make_sequence(Vec::new())?,
            b']' | 0x8f => self.make_sequence(Vec::new())?,
            b't' | b'l' | 0x91 => {
                let values = self.collect()?;
                self.make_sequence(values)?;
            }
            0x85..=0x87 => {
                let count = (code - 0x84) as usize;
                let from = self.stack.len().checked_sub(count).ok_or_else(short_stack)?;
                self.budget.take(count * VALUE)?;
                let values = self.stack.drain(from..).collect();
                self.make_sequence(values)?;
            }
            b'}' => self.make(Node::Dict(Vec::new()))?,
            b'd' => {
                let from = self.pop_mark()?;
                self.make(Node::Dict(Vec::new()))?;
                let dict = self.pop()?;
                self.set_items(dict, from)?;
                self.push(dict)?;
            }
            b'a' => {
                let from = self.stack.len().checked_sub(1).ok_or_else(short_stack)?;
                self.append(from)?;
            }
            b'e' | 0x90 => {
                let from = self.pop_mark()?;
                self.append(from)?;
            }
            b's' | b'u' => {
                let from = if code == b'u' {
                    self.pop_mark()?
                } else {
                    self.stack.len().checked_sub(2).ok_or_else(short_stack)?
                };
                let dict = from.checked_sub(1).map(|i| self.stack[i]).ok_or_else(short_stack)?;
                self.set_items(dict, from)?;
            }
            b'q' | b'r' | 0x94 => {
                let number = match code {
                    b'q' => self.byte()?.into(),
                    b'r' => u32::from_le_bytes(self.array()?),
                    _ => self.memo.len() as u32,
                };
                let top = self.top()?;
                if !self.memo.contains_key(&number) {
                    self.budget.take((size_of::<(u32, Value)>() + 1) * 4)?;
                }
                self.memo.insert(number, top);
            }
            b'h' | b'j' => {
                let number = if code == b'h' { self.byte()?.into() } else { u32::from_le_bytes(self.array()?) };
                let value =
                    *self.memo.get(&number).ok_or_else(|| wrong("it refers to an object that it does not have"))?;
                self.push(value)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push_callable(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (module, name) else {
                    return Err(wrong("a class has no name"));
                };
                self.push_callable(module, name)?;
            }
            b'R' | 0x81 => {
                let arguments = self.pop()?;
                let callable = self.pop()?;
                self.call(callable, arguments)?;
            }
            0x92 => {
                self.pop()?;
                let arguments = self.pop()?;
                let callable = self.pop()?;
                self.call(callable, arguments)?;
            }
            b'b' => self.build()?,
            b'Q' => {
                let id = self.pop()?;
                self.persistent(id)?;
            }
            // A buffer kept in the pickle is bytes already.
            0x98 => {}
            b'I' | b'L' | b'F' | b'S' | b'V' | b'p' | b'g' | b'i' | b'o' | b'P' => {
                return Err(Refusal::new("is a pickle of protocol 0 or 1", "save it again with a current torch"));
            }
            _ => return Err(wrong(format!("no pickle has the code {code:#04x}"))),
        }
        Ok(())
    }

    // What the few functions do that torch and numpy write, as descriptions.
    fn call(&mut self, callable: Value<'a>, arguments: Value<'a>) -> Told<()> {
        let callable = match callable {
            Value::Callable(callable) => callable,
            // A class of the list, made by one of the list.
            Value::Opaque => Callable::Inert,
            _ => return Err(wrong("it calls what is no function")),
        };
        let given = |machine: &Self, i: usize| -> Told<Value<'a>> {
            machine.sequence(arguments)?.get(i).copied().ok_or_else(|| wrong("a call lacks arguments"))
        };
        match callable {
            Callable::Inert | Callable::Storage(_) => self.push(Value::Opaque),
            Callable::OrderedDict => {
                self.make(Node::Dict(Vec::new()))?;
                // Python 2 gives the pairs as a list.
                let pairs = self.sequence(arguments)?.first().copied().unwrap_or(Value::None);
                let Some(Node::Sequence(pairs)) = self.node(pairs) else { return Ok(()) };
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
                let node = |value| match value {
                    Value::Node(number) => Ok(number),
                    _ => Err(wrong("a tensor is described wrongly")),
                };
                let Value::Int(offset) = given(self, 1)? else { return Err(wrong("a tensor's offset is no number")) };
                let storage = given(self, 0)?;
                if !matches!(self.node(storage), Some(Node::Storage { .. })) {
                    return Err(wrong("a tensor has no storage"));
                }
                let (shape, stride) = (node(given(self, 2)?)?, node(given(self, 3)?)?);
                self.make(Node::Tensor { storage: node(storage)?, offset, shape, stride })
            }
            Callable::RebuildParameter => {
                let tensor = given(self, 0)?;
                self.push(tensor)
            }
            Callable::RebuildFromType => {
                let (function, arguments) = (given(self, 0)?, given(self, 2)?);
                match function {
                    // No further than one level: torch nests no deeper, and a pickle could for ever.
                    Value::Callable(Callable::RebuildTensor | Callable::RebuildParameter) => {
                        self.call(function, arguments)
                    }
                    _ => self.push(Value::Opaque),
                }
            }
            Callable::NumpyReconstruct => self.make(Node::Array(None)),
            Callable::NumpyType => {
                let dtype = match given(self, 0)? {
                    Value::Text(name) => Dtype::of_numpy(name),
                    _ => Dtype::Other,
                };
                self.make(Node::NumpyType { dtype, big_endian: false })
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

    fn build(&mut self) -> Told<()> {
        let state = self.pop()?;
        let Value::Node(target) = self.top()? else { return Ok(()) };
        let parts = self.sequence(state).unwrap_or_default();
        let changed = match &self.nodes[target as usize] {
            Node::Array(_) => match *parts {
                // (version, shape, dtype, whether in Fortran's order, bytes)
                [_, shape, dtype, order, bytes] => {
                    Some(Node::Array(array((shape, dtype, bytes), matches!(order, Value::Bool(true)))))
                }
                _ => return Err(wrong("a numpy array has no content")),
            },
            Node::NumpyType { dtype, .. } => {
                let big_endian = matches!(parts.get(1), Some(Value::Text(b">")));
                Some(Node::NumpyType { dtype: *dtype, big_endian })
            }
            // An OrderedDict's attributes (torch's `_metadata`), a parameter's: nothing we need.
            _ => None,
        };
        if let Some(changed) = changed {
            self.nodes[target as usize] = changed;
        }
        Ok(())
    }

    // What torch keeps outside the pickle: ("storage", type, key, device, length[, view]).
    fn persistent(&mut self, id: Value<'a>) -> Told<()> {
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
            _ => return Err(wrong("what lies outside it is no torch storage")),
        };
        self.make(node)
    }

    fn push_callable(&mut self, module: &'a [u8], name: &'a [u8]) -> Told<()> {
        let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).ok().filter(|text| text.len() <= 200);
        let callable = match (text(module), text(name)) {
            (Some(module), Some(name)) => Callable::named(module, name),
            _ => None,
        };
        let Some(callable) = callable else {
            let said =
                |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).escape_default().to_string();
            let problem = format!("wants to call {}.{}; not read: a file that runs code", said(module), said(name));
            return Err(Refusal::new(problem, "save plain tensors, as torch.save(model.state_dict(), path) does"));
        };
        self.push(Value::Callable(callable))
    }

    fn make_sequence(&mut self, values: Vec<Value<'a>>) -> Told<()> {
        self.make(Node::Sequence(values))
    }

    fn make(&mut self, node: Node<'a>) -> Told<()> {
        self.budget.take(NODE * GROWTH)?;
        let number = u32::try_from(self.nodes.len()).map_err(|_| wrong("it has too many objects"))?;
        self.nodes.push(node);
        self.push(Value::Node(number))
    }

    // The values from place `from` of the stack on go to the list below them.
    fn append(&mut self, from: usize) -> Told<()> {
        let list = from.checked_sub(1).and_then(|i| self.stack.get(i)).copied().ok_or_else(short_stack)?;
        self.budget.take((self.stack.len() - from) * VALUE * GROWTH)?;
        let values = self.stack.drain(from..);
        match list {
            Value::Node(number) => match &mut self.nodes[number as usize] {
                Node::Sequence(list) => list.extend(values),
                _ => return Err(wrong("it appends to what is no list")),
            },
            Value::Opaque => {}
            _ => return Err(wrong("it appends to what is no list")),
        }
        Ok(())
    }

    // The keys and values from place `from` of the stack on go to `dict`.
    fn set_items(&mut self, dict: Value<'a>, from: usize) -> Told<()> {
        let given = self.stack.len() - from;
        if !given.is_multiple_of(2) {
            return Err(wrong("a key has no value"));
        }
        self.budget.take(given * VALUE * GROWTH)?;
        match dict {
            Value::Node(number) => match &mut self.nodes[number as usize] {
                Node::Dict(entries) => {
                    entries.extend(self.stack[from..].chunks_exact(2).map(|pair| (pair[0], pair[1])))
                }
                _ => return Err(wrong("it sets a key of what is no dict")),
            },
            Value::Opaque => {}
            _ => return Err(wrong("it sets a key of what is no dict")),
        }
        self.stack.truncate(from);
        Ok(())
    }

    fn collect(&mut self) -> Told<Vec<Value<'a>>> {
        let from = self.pop_mark()?;
        self.budget.take((self.stack.len() - from) * VALUE)?;
        Ok(self.stack.drain(from..).collect())
    }

    fn push(&mut self, value: Value<'a>) -> Told<()> {
        if self.stack.len() == self.deepest {
            self.deepest += 1;
            self.budget.take(VALUE * GROWTH)?;
        }
        self.stack.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Told<Value<'a>> {
        self.stack.pop().ok_or_else(short_stack)
    }

    fn top(&self) -> Told<Value<'a>> {
        self.stack.last().copied().ok_or_else(short_stack)
    }

    fn pop_mark(&mut self) -> Told<usize> {
        let mark = self.marks.pop().ok_or_else(short_stack)?;
        if mark <= self.stack.len() { Ok(mark) } else { Err(short_stack()) }
    }

    fn byte(&mut self) -> Told<u8> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Told<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("as many as asked for"))
    }

    fn length4(&mut self) -> Told<usize> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    fn length8(&mut self) -> Told<usize> {
        usize::try_from(u64::from_le_bytes(self.array()?)).map_err(|_| cut_off())
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: usize) -> Told<&'a [u8]> {
        let rest = &self.bytes[self.position..];
        let taken = rest.get(..length).ok_or_else(cut_off)?;
        self.position += length;
        Ok(taken)
    }

    fn line(&mut self) -> Told<&'a [u8]> {
        let rest = &self.bytes[self.position..];
        let length = rest.iter().take(400).position(|&b| b == b'\n').ok_or_else(|| wrong("a class has no name"))?;
        let line = self.take(length)?;
        self.take(1)?;
        Ok(line)
    }
}

fn array<'a>((shape, dtype, bytes): (Value<'a>, Value<'a>, Value<'a>), fortran: bool) -> Option<Array<'a>> {
    match (shape, dtype, bytes) {
        // Python 2 writes bytes as text. What was encoded otherwise stays unread, and is refused where it is needed.
        (Value::Node(shape), Value::Node(dtype), Value::Bytes(bytes) | Value::Text(bytes)) => {
            Some(Array { shape, dtype, fortran, bytes })
        }
        _ => None,
    }
}

fn integer(bytes: &[u8]) -> Value<'_> {
    if bytes.len() > 8 {
        return Value::Big(bytes);
    }
    let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
    let mut whole = [if negative { 0xff } else { 0 }; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(whole))
}

fn wrong(what: impl Into<String>) -> Refusal {
    Refusal::new(format!("is a damaged pickle ({})", what.into()), "copy or download it again")
}

fn short_stack() -> Refusal {
    wrong("it uses objects that it has not made")
}

fn cut_off() -> Refusal {
    wrong("it ends too soon")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Told<Value<'_>> {
        Machine::new(bytes, Budget::new(1 << 20)).read()
    }

    #[test]
    fn calls_are_refused_by_name() {
        let refused = read(b"\x80\x02cos\nsystem\nq\x01U\x02lsq\x02\x85q\x03Rq\x04.").unwrap_err();
        assert!(refused.problem.contains("os.system"), "{refused:?}");
        assert!(read(b"\x80\x00.").unwrap_err().problem.contains("protocol 0"));
        assert!(read(b"\x80\x02(i__main__\nX\n.").unwrap_err().problem.contains("protocol 0 or 1"));
    }

    #[test]
    fn any_cut_is_an_error() {
        let whole = b"\x80\x02}q\x01(U\x01aq\x02]q\x03(K\x01M\x02\x00J\x03\x00\x00\x00eU\x01bq\x04h\x02u.";
        let mut machine = Machine::new(whole, Budget::new(1 << 20));
        let dict = machine.read().unwrap();
        let list = machine.sequence(machine.get(dict, "a").unwrap()).unwrap();
        assert!(matches!(list, [Value::Int(1), Value::Int(2), Value::Int(3)]), "{list:?}");
        assert!(matches!(machine.get(dict, "b"), Some(Value::Text(b"a"))) && machine.get(dict, "c").is_none());
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn nesting_costs_no_stack_but_budget() {
        let nested = |depth: usize| [b"\x80\x02)".to_vec(), vec![0x85; depth], b".".to_vec()].concat();
        assert!(read(&nested(1000)).is_ok());
        assert!(read(&nested(100_000)).unwrap_err().problem.contains("more objects than its size allows"));
    }
}
