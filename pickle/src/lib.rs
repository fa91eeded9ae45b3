//! A reader of Python pickles (protocols 0 to 5) that never runs code.
//!
//! It builds numbers, strings, containers and descriptions of tensors, borrowed from the file's bytes. Any
//! other call in a pickle becomes an opaque object that only holds the name of the called function: no code
//! here can call it. Objects live in one table and refer to each other by number, as pickles do, so deep
//! nesting and cycles need no recursion, and every allocation is charged to a [`Budget`].
//!
//! [`Machine`] reads a pickle, [`Value`] and [`Node`] are what it builds.
//!
//! ```
//! use camtrast_pickle::{Budget, Machine, Value};
//!
//! // What Python's `pickle.dumps({"labels": [3, 5]}, 0)` writes.
//! let bytes = b"(dp0\nVlabels\np1\n(lp2\nI3\naI5\nas.";
//! let mut machine = Machine::new(bytes, Budget::new(1 << 20));
//! let dict = machine.read()?;
//! let labels = machine.get(dict, "labels").expect("it has labels");
//! assert!(matches!(machine.sequence(labels)?, [Value::Int(3), Value::Int(5)]));
//!
//! // What would call `os.system` is an object of that name, and nothing is run.
//! let mut machine = Machine::new(b"cos\nsystem\n(S'ls'\ntR.", Budget::new(1 << 20));
//! let object = machine.read()?;
//! let Value::Opaque(number) = object else { panic!("it is a number: {object:?}") };
//! assert_eq!(machine.foreign_name(number), "os.system");
//! # Ok::<(), camtrast_common::error::Refusal>(())
//! ```

mod callable;
mod codes;
mod coding;
mod dtype;
mod objects;
mod value;

pub use callable::Callable;
pub use coding::Coding;
pub use dtype::Dtype;
pub use value::{Array, Node, Value};

use camtrast_common::error::{ReadResult, Refusal};
use std::collections::HashMap;

/// How much memory a file may still make us allocate.
#[derive(Debug)]
pub struct Budget(usize);

impl Budget {
    /// A budget of `bytes`.
    pub fn new(bytes: usize) -> Self {
        Budget(bytes)
    }

    /// Subtracts `bytes`.
    pub fn take(&mut self, bytes: usize) -> ReadResult<()> {
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
/// The number of an opaque object whose class has no name.
const UNNAMED: u32 = u32::MAX;
/// A vector that grows by doubling holds up to three times its content while it is copied.
const GROWTH: usize = 3;

/// A class or function that is unknown here.
struct Foreign<'a> {
    module: &'a [u8],
    name: &'a [u8],
    called: bool,
}

/// The machine a pickle is written for.
pub struct Machine<'a> {
    bytes: &'a [u8],
    position: usize,
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    nodes: Vec<Node<'a>>,
    foreign: Vec<Foreign<'a>>,
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
            foreign: Vec::new(),
            deepest: 0,
            most_marks: 0,
            budget,
        }
    }

    /// The memory that may still be allocated.
    pub fn budget(&mut self) -> &mut Budget {
        &mut self.budget
    }

    /// The objects read so far.
    pub fn nodes(&self) -> &[Node<'a>] {
        &self.nodes
    }

    /// The classes and functions unknown here that the pickle would have called, by number.
    pub fn foreign_calls(&self) -> impl Iterator<Item = u32> + '_ {
        (0..)
            .zip(&self.foreign)
            .filter(|(_, foreign)| foreign.called)
            .map(|(number, _)| number)
    }

    /// The name of one of them, as stored in opaque objects: `module.name`, in ASCII, the first 80 bytes of
    /// each.
    pub fn foreign_name(&self, number: u32) -> String {
        let shown = |bytes: &[u8]| {
            String::from_utf8_lossy(&bytes[..bytes.len().min(80)])
                .escape_default()
                .to_string()
        };
        match self.foreign.get(number as usize) {
            Some(Foreign { module, name, .. }) => format!("{}.{}", shown(module), shown(name)),
            None => "something without a name".into(),
        }
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
        self.entries(dict)
            .iter()
            .find(|(known, _)| is_it(known))
            .map(|(_, value)| *value)
    }

    /// The elements of a tuple or list.
    pub fn sequence(&self, value: Value<'a>) -> ReadResult<&[Value<'a>]> {
        match self.node(value) {
            Some(Node::Sequence(values)) => Ok(values),
            _ => Err(wrong("a tuple or list is expected")),
        }
    }

    /// Reads one pickle, from the current position to its end.
    pub fn read(&mut self) -> ReadResult<Value<'a>> {
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

    fn make_sequence(&mut self, values: Vec<Value<'a>>) -> ReadResult<()> {
        self.make(Node::Sequence(values))
    }

    fn make(&mut self, node: Node<'a>) -> ReadResult<()> {
        self.budget.take(NODE * GROWTH)?;
        let number = u32::try_from(self.nodes.len()).map_err(|_| wrong("it has too many objects"))?;
        self.nodes.push(node);
        self.push(Value::Node(number))
    }

    // Appends the values from position `from` of the stack to the list below them.
    fn append(&mut self, from: usize) -> ReadResult<()> {
        let list = from
            .checked_sub(1)
            .and_then(|i| self.stack.get(i))
            .copied()
            .ok_or_else(short_stack)?;
        self.budget.take((self.stack.len() - from) * VALUE * GROWTH)?;
        let values = self.stack.drain(from..);
        match list {
            Value::Node(number) => match &mut self.nodes[number as usize] {
                Node::Sequence(list) => list.extend(values),
                _ => return Err(wrong("it appends to an object that is not a list")),
            },
            Value::Opaque(_) => {}
            _ => return Err(wrong("it appends to an object that is not a list")),
        }
        Ok(())
    }

    // Adds the keys and values from position `from` of the stack to `dict`.
    fn set_items(&mut self, dict: Value<'a>, from: usize) -> ReadResult<()> {
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
                _ => return Err(wrong("it sets a key of an object that is not a dict")),
            },
            Value::Opaque(_) => {}
            _ => return Err(wrong("it sets a key of an object that is not a dict")),
        }
        self.stack.truncate(from);
        Ok(())
    }

    fn collect(&mut self) -> ReadResult<Vec<Value<'a>>> {
        let from = self.pop_mark()?;
        self.budget.take((self.stack.len() - from) * VALUE)?;
        Ok(self.stack.drain(from..).collect())
    }

    fn push(&mut self, value: Value<'a>) -> ReadResult<()> {
        if self.stack.len() == self.deepest {
            self.deepest += 1;
            self.budget.take(VALUE * GROWTH)?;
        }
        self.stack.push(value);
        Ok(())
    }

    fn pop(&mut self) -> ReadResult<Value<'a>> {
        self.stack.pop().ok_or_else(short_stack)
    }

    fn top(&self) -> ReadResult<Value<'a>> {
        self.stack.last().copied().ok_or_else(short_stack)
    }

    fn pop_mark(&mut self) -> ReadResult<usize> {
        let mark = self.marks.pop().ok_or_else(short_stack)?;
        if mark <= self.stack.len() {
            Ok(mark)
        } else {
            Err(short_stack())
        }
    }

    fn byte(&mut self) -> ReadResult<u8> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> ReadResult<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("as many as asked for"))
    }

    fn length4(&mut self) -> ReadResult<usize> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    fn length8(&mut self) -> ReadResult<usize> {
        usize::try_from(u64::from_le_bytes(self.array()?)).map_err(|_| cut_off())
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: usize) -> ReadResult<&'a [u8]> {
        let rest = &self.bytes[self.position..];
        let taken = rest.get(..length).ok_or_else(cut_off)?;
        self.position += length;
        Ok(taken)
    }

    // The rest of the line, without its end.
    fn line(&mut self) -> ReadResult<&'a [u8]> {
        let rest = &self.bytes[self.position..];
        let length = rest.iter().position(|&b| b == b'\n').ok_or_else(cut_off)?;
        let line = self.take(length)?;
        self.take(1)?;
        Ok(line)
    }
}

fn wrong(what: impl Into<String>) -> Refusal {
    Refusal::new(
        format!("is a damaged pickle ({})", what.into()),
        "copy or download it again",
    )
}

fn short_stack() -> Refusal {
    wrong("it uses objects that it has not created")
}

fn cut_off() -> Refusal {
    wrong("it is cut off")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> ReadResult<Value<'_>> {
        Machine::new(bytes, Budget::new(1 << 20)).read()
    }

    #[test]
    fn calls_become_opaque_objects_of_their_name() {
        for bytes in [
            &b"\x80\x02cos\nsystem\nq\x01U\x02lsq\x02\x85q\x03Rq\x04."[..],
            b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85R.",
            b"\x80\x02cos\nsystem\nU\x02ls\x85\x81.",
            b"(S'ls'\nios\nsystem\n.",
            b"(cos\nsystem\nS'ls'\no.",
            // With a state, with elements and with items, and called again.
            b"cos\nsystem\n)R}bNaNNs)R.",
        ] {
            let mut machine = Machine::new(bytes, Budget::new(1 << 20));
            let Value::Opaque(by) = machine.read().unwrap() else {
                panic!("{bytes:?}")
            };
            assert_eq!(machine.foreign_name(by), "os.system");
            assert_eq!(machine.foreign_calls().collect::<Vec<_>>(), [by]);
        }
        let mut machine = Machine::new(b"\x82\x07)R.", Budget::new(1 << 20));
        let Value::Opaque(by) = machine.read().unwrap() else {
            panic!()
        };
        assert!(machine.foreign_name(by).contains("without a name"));
        assert!(read(b"\x80\x06N.").unwrap_err().problem.contains("protocol 6"));
    }

    #[test]
    fn protocol_0_is_text() {
        let whole = b"(dp0\nVa\np1\n(lp2\nI1\naI01\naL-7L\naF1.5\nasS'b'\ng1\nsV\\u0100\nNs.";
        let mut machine = Machine::new(whole, Budget::new(1 << 20));
        let dict = machine.read().unwrap();
        let list = machine.sequence(machine.get(dict, "a").unwrap()).unwrap();
        assert!(
            matches!(
                list,
                [Value::Int(1), Value::Bool(true), Value::Int(-7), Value::Float]
            ),
            "{list:?}"
        );
        assert!(matches!(machine.get(dict, "b"), Some(Value::Text(b"a"))));
        let [.., (last, _)] = machine.entries(dict) else {
            panic!()
        };
        assert!(
            matches!(last, Value::Coded(Coding::Escaped, b"\\u0100")),
            "{last:?}"
        );
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{length}");
        }
        for bad in [
            &b"Ix\n."[..],
            b"Lx\n.",
            b"S'a\n.",
            b"Sa\n.",
            b"S'\n.",
            b"p-1\n.",
            b"g9\n.",
            b"Px\n(",
            b"o.",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        let mut machine = Machine::new(b"L119547037146038801333356L\n.", Budget::new(1 << 20));
        assert!(matches!(
            machine.read(),
            Ok(Value::Big(b"119547037146038801333356"))
        ));
    }

    #[test]
    fn any_cut_is_an_error() {
        let whole = b"\x80\x02}q\x01(U\x01aq\x02]q\x03(K\x01M\x02\x00J\x03\x00\x00\x00eU\x01bq\x04h\x02u.";
        let mut machine = Machine::new(whole, Budget::new(1 << 20));
        let dict = machine.read().unwrap();
        let list = machine.sequence(machine.get(dict, "a").unwrap()).unwrap();
        assert!(
            matches!(list, [Value::Int(1), Value::Int(2), Value::Int(3)]),
            "{list:?}"
        );
        assert!(
            matches!(machine.get(dict, "b"), Some(Value::Text(b"a"))) && machine.get(dict, "c").is_none()
        );
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn nesting_costs_no_stack_but_budget() {
        let nested = |depth: usize| [b"\x80\x02)".to_vec(), vec![0x85; depth], b".".to_vec()].concat();
        assert!(read(&nested(1000)).is_ok());
        assert!(
            read(&nested(100_000))
                .unwrap_err()
                .problem
                .contains("more objects than its size allows")
        );
    }
}
