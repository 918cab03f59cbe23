//! A reader of one shape of Python pickle: a dict of number tuples to numpy arrays of numbers.
//!
//! A pickle is a program for a stack machine that may call anything. This machine accepts the opcodes such a dict
//! needs (protocols 2 to 5) and six names, which it treats as markers and never calls. Anything else is an error with
//! its offset in the file. Work and memory stay linear in the size of the file.
mod value;

use std::collections::HashMap;
use std::rc::Rc;

pub(super) use value::Number;
use value::{Array, Bytes, Dtype, Name, Value};

/// Why a pickle is not a table of negatives.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PickleError {
    /// The file ends inside the pickle.
    #[error("the file ends inside the operation at byte {offset}")]
    Truncated {
        /// Where the operation starts.
        offset: usize,
    },
    /// An operation that such a table does not need.
    #[error("opcode 0x{opcode:02x} at byte {offset} is not allowed in a table of negatives")]
    Opcode {
        /// The operation.
        opcode: u8,
        /// Where it is.
        offset: usize,
    },
    /// A name that such a table does not need.
    #[error("`{name}` at byte {offset} is not allowed in a table of negatives")]
    Name {
        /// Module and name, joined by a dot.
        name: String,
        /// Where it is.
        offset: usize,
    },
    /// Allowed operations in an order that does not make such a table.
    #[error("at byte {offset}: {reason}")]
    Meaning {
        /// Where the operation starts.
        offset: usize,
        /// What is wrong.
        reason: String,
    },
}

/// Reads a pickle of a dict.
pub(super) fn read(input: &[u8]) -> Result<Table<'_>, PickleError> {
    let mut machine = Machine { input, ..Machine::default() };
    while !machine.step()? {}
    machine.finish()
}

/// A dict whose keys are tuples of numbers and whose values are arrays of numbers.
pub(super) struct Table<'a> {
    machine: Machine<'a>,
}

impl<'a> Table<'a> {
    /// The keys in the file's order.
    pub(super) fn keys(&self) -> impl Iterator<Item = Result<Vec<Number>, PickleError>> {
        self.machine.items.iter().map(|(key, _)| self.machine.key(key))
    }

    /// The values in the file's order, decoded one at a time.
    pub(super) fn values(&self) -> impl Iterator<Item = Result<Vec<Number>, PickleError>> {
        // An array that is referenced many times would expand to far more than the file.
        let mut budget = self.machine.input.len();
        self.machine.items.iter().map(move |(_, value)| {
            let array = self.machine.array_of(value)?;
            let left = budget.checked_sub(array.bytes.get().len());
            budget = left.ok_or_else(|| self.machine.wrong("arrays larger than the file"))?;
            let elements = array.bytes.get().chunks_exact(array.dtype.width).map(|element| array.dtype.decode(element));
            elements.collect::<Option<_>>().ok_or_else(|| self.machine.wrong("a number beyond 64 bits"))
        })
    }
}

#[derive(Debug, Default)]
struct Machine<'a> {
    input: &'a [u8],
    at: usize,
    /// Offset of the current operation.
    start: usize,
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    dtypes: Vec<Dtype>,
    /// `None` between an array's creation and its BUILD.
    arrays: Vec<Option<Array<'a>>>,
    dict_seen: bool,
    items: Vec<(Value<'a>, Value<'a>)>,
}

impl<'a> Machine<'a> {
    /// Runs one operation; true after the last.
    fn step(&mut self) -> Result<bool, PickleError> {
        self.start = self.at;
        let [opcode] = self.array()?;
        match opcode {
            b'.' => return Ok(true),
            0x80 => self.protocol()?,
            0x95 => {
                self.take(8)?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b'}' => self.dict()?,
            b'N' => self.stack.push(Value::None),
            0x88 | 0x89 => self.stack.push(Value::Flag),
            b'K' | b'M' | b'J' | 0x8a | b'G' => self.number(opcode)?,
            0x8c | b'X' | 0x8d => self.text(opcode)?,
            b'C' | b'B' | 0x8e | 0x96 => self.bytes(opcode)?,
            b')' => self.tuple(0)?,
            0x85..=0x87 => self.tuple(usize::from(opcode - 0x84))?,
            b't' => {
                let count = self.stack.len() - self.mark()?;
                self.tuple(count)?;
            }
            b'q' | b'r' | 0x94 => self.put(opcode)?,
            b'h' | b'j' => self.get(opcode)?,
            b'c' | 0x93 => self.name(opcode)?,
            b'R' => self.reduce()?,
            b'b' => self.build()?,
            b's' | b'u' => self.set_items(opcode)?,
            _ => return Err(PickleError::Opcode { opcode, offset: self.start }),
        }
        Ok(false)
    }

    fn wrong(&self, reason: impl Into<String>) -> PickleError {
        PickleError::Meaning { offset: self.start, reason: reason.into() }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], PickleError> {
        let rest = &self.input[self.at..];
        let taken = rest.get(..count).ok_or(PickleError::Truncated { offset: self.start })?;
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let offset = self.start;
        self.take(N)?.try_into().map_err(|_| PickleError::Truncated { offset })
    }

    /// A string of bytes preceded by its length in `width` bytes.
    fn counted(&mut self, width: usize) -> Result<&'a [u8], PickleError> {
        let length = self.take(width)?.iter().rev().fold(0u64, |length, &byte| length << 8 | u64::from(byte));
        let length = usize::try_from(length).map_err(|_| PickleError::Truncated { offset: self.start })?;
        self.take(length)
    }

    fn pop(&mut self) -> Result<Value<'a>, PickleError> {
        self.last(1)?;
        self.stack.pop().ok_or_else(|| self.wrong("nothing to take"))
    }

    /// Position of the last `count` values. Values below the last mark are not accessible, so a mark never points past
    /// the stack's end.
    fn last(&self, count: usize) -> Result<usize, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let start = self.stack.len().checked_sub(count).filter(|&start| start >= floor);
        start.ok_or_else(|| self.wrong(format!("{count} values are needed and fewer are there")))
    }

    fn mark(&mut self) -> Result<usize, PickleError> {
        self.marks.pop().ok_or_else(|| self.wrong("there is no mark"))
    }

    fn protocol(&mut self) -> Result<(), PickleError> {
        let [protocol] = self.array()?;
        if (2..=5).contains(&protocol) {
            Ok(())
        } else {
            Err(self.wrong(format!("pickle protocol {protocol} is not one of 2 to 5")))
        }
    }

    fn dict(&mut self) -> Result<(), PickleError> {
        if self.dict_seen {
            return Err(self.wrong("a second dict; a table of negatives is one"));
        }
        self.dict_seen = true;
        self.stack.push(Value::Dict);
        Ok(())
    }

    fn number(&mut self, opcode: u8) -> Result<(), PickleError> {
        let number = match opcode {
            b'K' => Number::Whole(i64::from(u8::from_le_bytes(self.array()?))),
            b'M' => Number::Whole(i64::from(u16::from_le_bytes(self.array()?))),
            b'J' => Number::Whole(i64::from(i32::from_le_bytes(self.array()?))),
            b'G' => Number::Real(f64::from_be_bytes(self.array()?)),
            _ => self.long()?,
        };
        self.stack.push(Value::Number(number));
        Ok(())
    }

    /// A Python integer of up to eight bytes, little-endian two's complement.
    fn long(&mut self) -> Result<Number, PickleError> {
        let bytes = self.counted(1)?;
        match bytes.len() {
            0 => Ok(Number::Whole(0)),
            width @ 1..=8 => {
                Dtype { kind: b'i', width }.decode(bytes).ok_or_else(|| self.wrong("an integer beyond 64 bits"))
            }
            width => Err(self.wrong(format!("an integer of {width} bytes"))),
        }
    }

    fn text(&mut self, opcode: u8) -> Result<(), PickleError> {
        let bytes = self.counted(match opcode {
            0x8c => 1,
            b'X' => 4,
            _ => 8,
        })?;
        let text = std::str::from_utf8(bytes).map_err(|_| self.wrong("text that is not UTF-8"))?;
        self.stack.push(Value::Text(text));
        Ok(())
    }

    fn bytes(&mut self, opcode: u8) -> Result<(), PickleError> {
        let bytes = self.counted(match opcode {
            b'C' => 1,
            b'B' => 4,
            _ => 8,
        })?;
        self.stack.push(Value::Bytes(Bytes::Borrowed(bytes)));
        Ok(())
    }

    fn tuple(&mut self, count: usize) -> Result<(), PickleError> {
        let start = self.last(count)?;
        let items: Rc<[Value<'a>]> = self.stack.split_off(start).into();
        // Arguments hold a shape and no table nests deeper; a tuple of any depth would be dropped by recursion of that
        // depth.
        let too_deep = |item: &Value<'_>| matches!(item, Value::Tuple(inner) if inner.iter().any(|value| matches!(value, Value::Tuple(_))));
        if items.iter().any(too_deep) {
            return Err(self.wrong("tuples nested three deep"));
        }
        self.stack.push(Value::Tuple(items));
        Ok(())
    }

    fn put(&mut self, opcode: u8) -> Result<(), PickleError> {
        let place = match opcode {
            b'q' => u32::from(u8::from_le_bytes(self.array()?)),
            b'r' => u32::from_le_bytes(self.array()?),
            _ => self.memo.len() as u32,
        };
        let value = self.pop()?;
        self.memo.insert(place, value.clone());
        self.stack.push(value);
        Ok(())
    }

    fn get(&mut self, opcode: u8) -> Result<(), PickleError> {
        let place = match opcode {
            b'h' => u32::from(u8::from_le_bytes(self.array()?)),
            _ => u32::from_le_bytes(self.array()?),
        };
        let value =
            self.memo.get(&place).cloned().ok_or_else(|| self.wrong(format!("nothing was kept under {place}")))?;
        self.stack.push(value);
        Ok(())
    }

    fn name(&mut self, opcode: u8) -> Result<(), PickleError> {
        let (module, name) = if opcode == b'c' {
            (self.line()?, self.line()?)
        } else {
            match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => (module, name),
                _ => return Err(self.wrong("a name that is not text")),
            }
        };
        let unknown = || PickleError::Name { name: format!("{module}.{name}"), offset: self.start };
        let name = Name::parse(module, name).ok_or_else(unknown)?;
        self.stack.push(Value::Name(name));
        Ok(())
    }

    /// Text up to the next line feed.
    fn line(&mut self) -> Result<&'a str, PickleError> {
        let length = self.input[self.at..]
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or(PickleError::Truncated { offset: self.start })?;
        let line = std::str::from_utf8(self.take(length + 1)?).map_err(|_| self.wrong("a name that is not UTF-8"))?;
        Ok(line.trim_end_matches('\n'))
    }

    /// Computes the result of calling a name with arguments, without calling anything.
    fn reduce(&mut self) -> Result<(), PickleError> {
        let (arguments, name) = (self.pop()?, self.pop()?);
        let (Value::Tuple(arguments), Value::Name(name)) = (arguments, name) else {
            return Err(self.wrong("a call of what is no name"));
        };
        let value = match (name, &*arguments) {
            (Name::Dtype, [Value::Text(code), Value::Flag, Value::Flag]) => {
                let dtype =
                    Dtype::parse(code).ok_or_else(|| self.wrong(format!("numpy type `{code}` is not a number")))?;
                self.dtypes.push(dtype);
                Value::Dtype(self.dtypes.len() - 1)
            }
            (Name::Scalar, [Value::Dtype(dtype), Value::Bytes(bytes)]) => {
                let dtype = self.dtypes[*dtype];
                let number = (bytes.get().len() == dtype.width).then(|| dtype.decode(bytes.get())).flatten();
                Value::Number(number.ok_or_else(|| self.wrong("a numpy number of the wrong size"))?)
            }
            (Name::Reconstruct, [Value::Name(Name::Ndarray), Value::Tuple(_), Value::Bytes(_)]) => {
                self.arrays.push(None);
                Value::Array(self.arrays.len() - 1)
            }
            (Name::FromBuffer, [Value::Bytes(bytes), Value::Dtype(dtype), Value::Tuple(shape), Value::Text(_)]) => {
                let array = self.checked_array(shape, *dtype, bytes)?;
                self.arrays.push(Some(array));
                Value::Array(self.arrays.len() - 1)
            }
            (Name::Encode, [Value::Text(text), Value::Text("latin1")]) => {
                let bytes: Result<Rc<[u8]>, _> = text.chars().map(|char| u8::try_from(u32::from(char))).collect();
                Value::Bytes(Bytes::Owned(bytes.map_err(|_| self.wrong("text that is not Latin-1"))?))
            }
            _ => return Err(self.wrong(format!("arguments that {name:?} does not take"))),
        };
        self.stack.push(value);
        Ok(())
    }

    /// Completes the type or array on top of the stack.
    fn build(&mut self) -> Result<(), PickleError> {
        let (state, target) = (self.pop()?, self.pop()?);
        let Value::Tuple(state) = state else { return Err(self.wrong("a state that is no tuple")) };
        match (&target, &*state) {
            (Value::Dtype(_), [Value::Number(_), Value::Text("<" | "|"), ..]) => {}
            (Value::Dtype(_), [Value::Number(_), Value::Text(order), ..]) => {
                return Err(self.wrong(format!("byte order `{order}`")));
            }
            (
                &Value::Array(place),
                [Value::Number(_), Value::Tuple(shape), Value::Dtype(dtype), Value::Flag, Value::Bytes(bytes)],
            ) => {
                self.arrays[place] = Some(self.checked_array(shape, *dtype, bytes)?);
            }
            _ => return Err(self.wrong("a state that neither a numpy type nor an array has")),
        }
        self.stack.push(target);
        Ok(())
    }

    fn checked_array(&self, shape: &[Value<'a>], dtype: usize, bytes: &Bytes<'a>) -> Result<Array<'a>, PickleError> {
        let dtype = self.dtypes[dtype];
        let &[Value::Number(Number::Whole(length))] = shape else {
            return Err(self.wrong("an array of other than one axis"));
        };
        let fits =
            usize::try_from(length).ok().and_then(|length| length.checked_mul(dtype.width)) == Some(bytes.get().len());
        if !fits {
            return Err(self.wrong(format!(
                "an array of {length} elements of {} bytes in {} bytes",
                dtype.width,
                bytes.get().len()
            )));
        }
        Ok(Array { dtype, bytes: bytes.clone() })
    }

    fn set_items(&mut self, opcode: u8) -> Result<(), PickleError> {
        let start = match opcode {
            b'u' => self.mark()?,
            _ => self.last(2)?,
        };
        let items = self.stack.split_off(start);
        if !items.len().is_multiple_of(2) || !matches!(self.stack.last(), Some(Value::Dict)) {
            return Err(self.wrong("entries without a dict, or a key without a value"));
        }
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            self.items.push((key, value));
        }
        Ok(())
    }

    /// The finished dict.
    fn finish(mut self) -> Result<Table<'a>, PickleError> {
        if !matches!(self.stack[..], [Value::Dict]) {
            return Err(self.wrong("what is stored is not one dict"));
        }
        // What the dict does not hold is not needed any more.
        self.memo.clear();
        self.memo.shrink_to_fit();
        Ok(Table { machine: self })
    }

    fn key(&self, key: &Value<'a>) -> Result<Vec<Number>, PickleError> {
        let Value::Tuple(parts) = key else { return Err(self.wrong("a key that is no tuple")) };
        let number = |part: &Value<'_>| if let Value::Number(number) = part { Some(*number) } else { None };
        parts.iter().map(number).collect::<Option<_>>().ok_or_else(|| self.wrong("a key that is not all numbers"))
    }

    fn array_of(&self, value: &Value<'a>) -> Result<&Array<'a>, PickleError> {
        let Value::Array(place) = value else { return Err(self.wrong("a value that is no array")) };
        self.arrays[*place].as_ref().ok_or_else(|| self.wrong("an array that was never filled"))
    }
}
