//! The opcodes of pickle, protocols 0 to 5.

use super::{Coding, GROWTH, Machine, Node, UNNAMED, VALUE, Value, short_stack, wrong};
use camtrast_common::error::{ReadResult, Refusal};

impl<'a> Machine<'a> {
    pub(super) fn step(&mut self, code: u8) -> ReadResult<()> {
        match code {
            0x80 => {
                let protocol = self.byte()?;
                if protocol > 5 {
                    let problem = format!("is a pickle of protocol {protocol}");
                    return Err(Refusal::new(problem, "save it again with pickle protocol 2"));
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
            b'I' => {
                let value = match self.line()? {
                    b"00" => Value::Bool(false),
                    b"01" => Value::Bool(true),
                    line => decimal(line)?,
                };
                self.push(value)?;
            }
            b'L' => {
                let line = self.line()?;
                self.push(decimal(line.strip_suffix(b"L").unwrap_or(line))?)?;
            }
            b'F' => {
                self.line()?;
                self.push(Value::Float)?;
            }
            b'S' => {
                let text = match self.line()? {
                    [b'\'', text @ .., b'\''] | [b'"', text @ .., b'"'] => text,
                    _ => return Err(wrong("a string has no quotes")),
                };
                self.push(written(Coding::Quoted, text))?;
            }
            b'V' => {
                let text = self.line()?;
                self.push(written(Coding::Escaped, text))?;
            }
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
                let length = if code == 0x8a {
                    self.byte()? as usize
                } else {
                    self.length4()?
                };
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
                let dict = from
                    .checked_sub(1)
                    .map(|i| self.stack[i])
                    .ok_or_else(short_stack)?;
                self.set_items(dict, from)?;
            }
            b'q' | b'r' | b'p' | 0x94 => {
                let number = match code {
                    b'p' => number(self.line()?)?,
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
            b'h' | b'j' | b'g' => {
                let number = match code {
                    b'g' => number(self.line()?)?,
                    b'h' => self.byte()?.into(),
                    _ => u32::from_le_bytes(self.array()?),
                };
                let value = *self
                    .memo
                    .get(&number)
                    .ok_or_else(|| wrong("it refers to an object that it does not have"))?;
                self.push(value)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                let callable = self.callable(module, name)?;
                self.push(callable)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (module, name) else {
                    return Err(wrong("a class has no name"));
                };
                let callable = self.callable(module, name)?;
                self.push(callable)?;
            }
            // A class by its number in Python's registry of extensions.
            0x82..=0x84 => {
                self.take(1 << (code - 0x82))?;
                self.push(Value::Opaque(UNNAMED))?;
            }
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                let callable = self.callable(module, name)?;
                let values = self.collect()?;
                self.make_sequence(values)?;
                let arguments = self.pop()?;
                self.call(callable, arguments)?;
            }
            b'o' => {
                let mut values = self.collect()?;
                if values.is_empty() {
                    return Err(short_stack());
                }
                let callable = values.remove(0);
                self.make_sequence(values)?;
                let arguments = self.pop()?;
                self.call(callable, arguments)?;
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
            b'P' => {
                let id = self.line()?;
                self.persistent_text(id)?;
            }
            // A buffer kept in the pickle is bytes already.
            0x98 => {}
            _ => return Err(wrong(format!("{code:#04x} is not an opcode of pickle"))),
        }
        Ok(())
    }
}

// Text of protocol 0 is plain text mostly, and always where names are concerned.
fn written(coding: Coding, text: &[u8]) -> Value<'_> {
    let is_plain = text.is_ascii() && !text.contains(&b'\\');
    if is_plain {
        Value::Text(text)
    } else {
        Value::Coded(coding, text)
    }
}

fn number(line: &[u8]) -> ReadResult<u32> {
    let text = std::str::from_utf8(line).ok();
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| wrong("a number cannot be parsed"))
}

fn decimal(line: &[u8]) -> ReadResult<Value<'_>> {
    let digits = line.strip_prefix(b"-").unwrap_or(line);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(wrong("a number cannot be parsed"));
    }
    let value = std::str::from_utf8(line).ok().and_then(|text| text.parse().ok());
    Ok(value.map_or(Value::Big(line), Value::Int))
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
