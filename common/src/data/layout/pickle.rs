//! Just enough of Python's pickle format to read CIFAR-100, without ever running anything.
//!
//! Understood are the protocol 2 opcodes for dictionaries, lists, tuples, integers and strings, and numpy arrays of unsigned
//! bytes. Every other opcode and every other class is refused by name.

use std::collections::HashMap;
use std::fmt;

/// Why a pickle was refused.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused(pub String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pickled value; strings and arrays borrow from the file's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A string, bytes as they are.
    Bytes(&'a [u8]),
    /// A list or tuple.
    List(Vec<Value<'a>>),
    /// A dictionary in file order.
    Dict(Vec<(Value<'a>, Value<'a>)>),
    /// A numpy array of unsigned bytes: shape and elements, last axis fastest.
    Array(Vec<usize>, &'a [u8]),
    /// The name of a class or function; only numpy's own get this far.
    Global(Numpy),
    /// An array or type that BUILD has yet to fill.
    Unbuilt(Numpy),
}

/// The names of numpy that a pickled array of bytes needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numpy {
    /// `numpy.core.multiarray._reconstruct`
    Reconstruct,
    /// `numpy.ndarray`
    Array,
    /// `numpy.dtype`
    Type,
}

impl<'a> Value<'a> {
    /// The value under a string key of a dictionary.
    pub fn get(&self, key: &str) -> Option<&Value<'a>> {
        let Value::Dict(pairs) = self else { return None };
        pairs.iter().find(|(k, _)| *k == Value::Bytes(key.as_bytes())).map(|(_, value)| value)
    }

    /// A list of whole numbers.
    pub fn ints(&self) -> Option<Vec<i64>> {
        let Value::List(items) = self else { return None };
        items.iter().map(|item| if let Value::Int(i) = item { Some(*i) } else { None }).collect()
    }

    /// A list of strings.
    pub fn strings(&self) -> Option<Vec<String>> {
        let Value::List(items) = self else { return None };
        let string = |item: &Value| if let Value::Bytes(b) = item { String::from_utf8(b.to_vec()).ok() } else { None };
        items.iter().map(string).collect()
    }

    fn is_container(&self) -> bool {
        matches!(self, Value::List(_) | Value::Dict(_))
    }
}

/// Reads one pickle.
///
/// # Errors
/// [`Refused`] for anything that a CIFAR archive does not hold, and for a cut-off file.
pub fn read(bytes: &[u8]) -> Result<Value<'_>, Refused> {
    let mut reader = Reader { bytes, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    loop {
        let [opcode] = reader.take::<1>()?;
        if opcode == b'.' {
            return reader.pop();
        }
        reader.step(opcode)?;
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
}

type Step = Result<(), Refused>;

impl<'a> Reader<'a> {
    fn step(&mut self, opcode: u8) -> Step {
        match opcode {
            0x80 => {
                let [protocol] = self.take()?;
                if protocol != 2 {
                    return refuse(format!("pickle protocol {protocol}"));
                }
            }
            b'(' => self.marks.push(self.stack.len()),
            b'}' => self.stack.push(Value::Dict(Vec::new())),
            b']' | b')' => self.stack.push(Value::List(Vec::new())),
            b'N' => self.stack.push(Value::None),
            0x88 | 0x89 => self.stack.push(Value::Bool(opcode == 0x88)),
            b'K' => {
                let [value] = self.take()?;
                self.stack.push(Value::Int(value.into()));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.take()?);
                self.stack.push(Value::Int(value.into()));
            }
            b'J' => {
                let value = i32::from_le_bytes(self.take()?);
                self.stack.push(Value::Int(value.into()));
            }
            b'U' => {
                let [length] = self.take()?;
                self.push_bytes(length.into())?;
            }
            b'T' | b'X' => {
                let length = u32::from_le_bytes(self.take()?);
                self.push_bytes(length as usize)?;
            }
            b'q' => {
                let [key] = self.take()?;
                self.remember(key.into())?;
            }
            b'r' => {
                let key = u32::from_le_bytes(self.take()?);
                self.remember(key)?;
            }
            b'h' => {
                let [key] = self.take()?;
                self.recall(key.into())?;
            }
            b'j' => {
                let key = u32::from_le_bytes(self.take()?);
                self.recall(key)?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set(vec![key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set(items)?;
            }
            b't' => {
                let items = self.pop_to_mark()?;
                self.tuple(items)?;
            }
            0x85..=0x87 => {
                let from = self.stack.len().checked_sub(usize::from(opcode - 0x84)).ok_or_else(damaged)?;
                let items = self.stack.split_off(from);
                self.tuple(items)?;
            }
            b'c' => self.global()?,
            b'R' => self.reduce()?,
            b'b' => self.build()?,
            other => return refuse(format!("pickle opcode {:?}", other as char)),
        }
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Refused> {
        let (head, rest) = self.bytes.split_first_chunk().ok_or_else(damaged)?;
        self.bytes = rest;
        Ok(*head)
    }

    fn push_bytes(&mut self, length: usize) -> Step {
        let (head, rest) = self.bytes.split_at_checked(length).ok_or_else(damaged)?;
        self.bytes = rest;
        self.stack.push(Value::Bytes(head));
        Ok(())
    }

    fn line(&mut self) -> Result<&'a str, Refused> {
        let end = self.bytes.iter().position(|&b| b == b'\n').ok_or_else(damaged)?;
        let (line, rest) = self.bytes.split_at(end);
        self.bytes = &rest[1..];
        std::str::from_utf8(line).map_err(|_| damaged())
    }

    // Never below the newest mark.
    fn pop(&mut self) -> Result<Value<'a>, Refused> {
        if self.stack.len() <= self.marks.last().copied().unwrap_or(0) {
            return Err(damaged());
        }
        self.stack.pop().ok_or_else(damaged)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value<'a>>, Refused> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len()).ok_or_else(damaged)?;
        Ok(self.stack.split_off(mark))
    }

    // Containers are filled after they are remembered, so recalling one would need sharing; CIFAR only recalls strings and types.
    fn remember(&mut self, key: u32) -> Step {
        let value = self.stack.last().ok_or_else(damaged)?;
        if !value.is_container() && !matches!(value, Value::Unbuilt(_)) {
            self.memo.insert(key, value.clone());
        }
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Step {
        match self.memo.get(&key) {
            Some(value) => self.stack.push(value.clone()),
            None => return refuse("a shared list or dictionary"),
        }
        Ok(())
    }

    fn append(&mut self, new: Vec<Value<'a>>) -> Step {
        check_depth(&new)?;
        match self.stack.last_mut() {
            Some(Value::List(items)) => items.extend(new),
            _ => return Err(damaged()),
        }
        Ok(())
    }

    fn set(&mut self, new: Vec<Value<'a>>) -> Step {
        check_depth(&new)?;
        let Some(Value::Dict(pairs)) = self.stack.last_mut() else { return Err(damaged()) };
        let mut new = new.into_iter();
        while let Some(key) = new.next() {
            pairs.push((key, new.next().ok_or_else(damaged)?));
        }
        Ok(())
    }

    fn tuple(&mut self, items: Vec<Value<'a>>) -> Step {
        check_depth(&items)?;
        self.stack.push(Value::List(items));
        Ok(())
    }

    fn global(&mut self) -> Step {
        let (module, name) = (self.line()?, self.line()?);
        let known = match (module, name) {
            ("numpy.core.multiarray", "_reconstruct") => Numpy::Reconstruct,
            ("numpy", "ndarray") => Numpy::Array,
            ("numpy", "dtype") => Numpy::Type,
            _ => return refuse(format!("the Python object {module}.{name}")),
        };
        self.stack.push(Value::Global(known));
        Ok(())
    }

    // `_reconstruct(ndarray, (0,), 'b')` or `dtype('u1', 0, 1)`: nothing is called, an empty place is made.
    fn reduce(&mut self) -> Step {
        let Value::List(arguments) = self.pop()? else { return Err(damaged()) };
        let made = match (self.pop()?, &arguments[..]) {
            (Value::Global(Numpy::Reconstruct), [Value::Global(Numpy::Array), ..]) => Numpy::Array,
            (Value::Global(Numpy::Type), [Value::Bytes(b"u1"), ..]) => Numpy::Type,
            (Value::Global(Numpy::Type), [Value::Bytes(other), ..]) => {
                return refuse(format!("a numpy array of type {:?}", String::from_utf8_lossy(other)));
            }
            _ => return refuse("a call of an unknown function"),
        };
        self.stack.push(Value::Unbuilt(made));
        Ok(())
    }

    // A dtype's state is (3, '|', ...); an array's is (1, shape, dtype, is Fortran order, bytes).
    fn build(&mut self) -> Step {
        let Value::List(state) = self.pop()? else { return Err(damaged()) };
        match (self.pop()?, &state[..]) {
            (Value::Unbuilt(Numpy::Type), _) => self.stack.push(Value::Global(Numpy::Type)),
            (
                Value::Unbuilt(Numpy::Array),
                [_, shape, Value::Global(Numpy::Type), Value::Bool(false), Value::Bytes(bytes)],
            ) => {
                let shape = shape.ints().ok_or_else(damaged)?;
                let shape: Vec<usize> = shape.into_iter().filter_map(|d| usize::try_from(d).ok()).collect();
                let count = shape.iter().try_fold(1usize, |product, &d| product.checked_mul(d));
                if count != Some(bytes.len()) {
                    return Err(damaged());
                }
                self.stack.push(Value::Array(shape, bytes));
            }
            _ => return refuse("an object that is no array of bytes in C order"),
        }
        Ok(())
    }
}

// Deep nesting would overflow the stack when dropped; CIFAR nests three deep.
fn check_depth(items: &[Value]) -> Step {
    fn depth(value: &Value) -> usize {
        match value {
            Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
            Value::Dict(pairs) => 1 + pairs.iter().map(|(k, v)| depth(k).max(depth(v))).max().unwrap_or(0),
            _ => 0,
        }
    }
    if items.iter().any(|item| depth(item) > 8) { refuse("lists nested more than 8 deep") } else { Ok(()) }
}

fn refuse<T>(what: impl fmt::Display) -> Result<T, Refused> {
    Err(Refused(format!("holds {what}, which a CIFAR archive does not")))
}

fn damaged() -> Refused {
    Refused("is cut off or damaged".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_refused_by_name() {
        let refused = read(b"\x80\x02cos\nsystem\nq\x01U\x02lsq\x02\x85q\x03Rq\x04.").unwrap_err();
        assert!(refused.0.contains("os.system"), "{refused}");
        assert!(read(b"\x80\x04.").unwrap_err().0.contains("protocol 4"));
        assert!(read(b"\x80\x02(i__main__\nX\n.").unwrap_err().0.contains("opcode 'i'"));
    }

    #[test]
    fn any_cut_is_an_error_and_never_a_panic() {
        let whole = b"\x80\x02}q\x01(U\x01aq\x02]q\x03(K\x01M\x02\x00J\x03\x00\x00\x00eU\x01bq\x04h\x02u.";
        let value = read(whole).unwrap();
        assert_eq!(value.get("a").unwrap().ints().unwrap(), [1, 2, 3]);
        assert_eq!(value.get("b"), Some(&Value::Bytes(b"a")));
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        let mut bytes = b"\x80\x02)".to_vec();
        bytes.extend(std::iter::repeat_n(0x85, 100_000));
        bytes.push(b'.');
        assert!(read(&bytes).unwrap_err().0.contains("nested"));
    }
}
