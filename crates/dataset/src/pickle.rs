//! Python's pickle format, as far as dicts, lists, strings, integers and NumPy arrays need it.
//!
//! A pickle is a program for a stack machine that may call any function. Here nothing is called: the functions by
//! which NumPy arrays and, in protocol 2, bytes are written are known by name and carried out by this reader; any
//! other, and any instruction that plain data does not need, is refused by its name. Strings and arrays are slices of
//! the file, and containers hold numbers of nodes, so that a small file cannot ask for much memory or deep recursion.

use std::collections::HashMap;

use equipoise_arrays::npy::Array;

/// More instructions than this are damage: CIFAR-100's 50,000 rows take some 200,000.
const MAX_INSTRUCTIONS: usize = 1 << 22;

/// A value. Containers are [`Node`]s, by their number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    /// `None`, and what is read but not kept: floats.
    Nothing,
    Integer(i64),
    /// `bytes`, and Python 2's `str`.
    Bytes(&'a [u8]),
    Text(&'a str),
    Node(usize),
}

#[derive(Debug)]
enum Node<'a> {
    List(Vec<Value<'a>>),
    Tuple(Vec<Value<'a>>),
    Dict(Vec<(Value<'a>, Value<'a>)>),
    Function(Function),
    /// Bytes that were written as text.
    Bytes(Vec<u8>),
    /// A NumPy type: kind and bytes per value, such as `u1`, and the order of the bytes.
    Type {
        kind: String,
        order: char,
    },
    Array {
        of: Value<'a>,
        shape: Value<'a>,
        bytes: Value<'a>,
        fortran_order: bool,
    },
}

/// A function that is known by name.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Function {
    /// `numpy.core.multiarray._reconstruct`: an empty array, whose state follows.
    Reconstruct,
    /// `numpy.core.multiarray.scalar`.
    Scalar,
    /// `numpy.core.numeric._frombuffer`: an array from its bytes (protocol 5).
    FromBuffer,
    /// `numpy.ndarray`, the class.
    Ndarray,
    /// `numpy.dtype`.
    Dtype,
    /// `_codecs.encode`: how Python 3 writes bytes in protocol 2.
    Encode,
}

impl Function {
    fn of(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Self::Reconstruct,
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Self::Scalar,
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Self::FromBuffer,
            ("numpy", "ndarray") => Self::Ndarray,
            ("numpy", "dtype") => Self::Dtype,
            ("_codecs", "encode") => Self::Encode,
            _ => return None,
        })
    }
}

/// A pickle that was read.
#[derive(Debug)]
pub(crate) struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    root: Value<'a>,
}

impl<'a> Pickle<'a> {
    /// Reads a pickle of protocol 2 to 5. The error says what is wrong, and at which byte.
    pub fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let mut machine = Machine {
            bytes,
            at: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            nodes: Vec::new(),
            encoded: 0,
        };
        for _ in 0..MAX_INSTRUCTIONS {
            let at = machine.at;
            match machine.step() {
                Ok(None) => {}
                Ok(Some(root)) => return Ok(Self { nodes: machine.nodes, root }),
                Err(problem) => return Err(format!("not a pickle of plain data: byte {at}: {problem}")),
            }
        }
        Err(format!("not a pickle of plain data: more than {MAX_INSTRUCTIONS} instructions"))
    }

    /// The value of a key, bytes or text, of the dict that the pickle is.
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        let Value::Node(node) = self.root else { return None };
        let Node::Dict(entries) = &self.nodes[node] else { return None };
        let is_key = |&&(found, _): &&(Value<'a>, Value<'a>)| match found {
            Value::Text(text) => text == key,
            found => bytes(&self.nodes, found) == Some(key.as_bytes()),
        };
        // Python keeps the last of equal keys.
        entries.iter().rev().find(is_key).map(|&(_, value)| value)
    }

    /// The values of a list or tuple.
    pub fn list(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        sequence(&self.nodes, value)
    }

    /// An integer, Python's or NumPy's.
    pub fn integer(&self, value: Value<'a>) -> Result<i128, String> {
        match value {
            Value::Integer(value) => Ok(value.into()),
            Value::Node(_) => {
                let array = self.array(value)?;
                match array.to_integers().as_deref() {
                    Some(&[value]) => Ok(value),
                    _ => Err("an array instead of an integer".into()),
                }
            }
            other => Err(format!("{other:?} instead of an integer")),
        }
    }

    /// A NumPy array of numbers.
    pub fn array(&self, value: Value<'a>) -> Result<Array, String> {
        let parts = match value {
            Value::Node(node) => match &self.nodes[node] {
                Node::Array { of: Value::Node(of), shape, bytes: values, fortran_order } => {
                    match &self.nodes[*of] {
                        Node::Type { kind, order } => {
                            Some((format!("{order}{kind}"), shape, values, *fortran_order))
                        }
                        _ => None,
                    }
                }
                _ => None,
            },
            _ => None,
        };
        let Some((kind, shape, values, fortran_order)) = parts else {
            return Err("not a NumPy array".into());
        };
        let side = |value: &Value<'a>| match value {
            Value::Integer(side) => usize::try_from(*side).ok(),
            _ => None,
        };
        let shape = sequence(&self.nodes, *shape).and_then(|sides| sides.iter().map(side).collect());
        let (shape, values) =
            shape.zip(bytes(&self.nodes, *values)).ok_or("its shape or values are missing")?;
        Array::new(&kind, fortran_order, shape, values)
    }
}

fn bytes<'s, 'a: 's>(nodes: &'s [Node<'a>], value: Value<'a>) -> Option<&'s [u8]> {
    match value {
        Value::Bytes(bytes) => Some(bytes),
        Value::Node(node) => match &nodes[node] {
            Node::Bytes(bytes) => Some(bytes),
            _ => None,
        },
        _ => None,
    }
}

fn sequence<'s, 'a>(nodes: &'s [Node<'a>], value: Value<'a>) -> Option<&'s [Value<'a>]> {
    let Value::Node(node) = value else { return None };
    match &nodes[node] {
        Node::List(values) | Node::Tuple(values) => Some(values),
        _ => None,
    }
}

/// A sequence as short as arguments and states are.
fn few<'a>(nodes: &[Node<'a>], value: Value<'a>) -> Option<Vec<Value<'a>>> {
    sequence(nodes, value).filter(|values| values.len() < 16).map(<[_]>::to_vec)
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<usize, Value<'a>>,
    nodes: Vec<Node<'a>>,
    /// How many bytes were made of text so far.
    encoded: usize,
}

impl<'a> Machine<'a> {
    /// One instruction; the root after the last.
    fn step(&mut self) -> Result<Option<Value<'a>>, String> {
        let instruction = self.take(1)?[0];
        match instruction {
            // PROTO, FRAME: how what follows is written.
            0x80 => match self.take(1)?[0] {
                2..=5 => {}
                protocol => return Err(format!("protocol {protocol} is not read, only 2 to 5")),
            },
            0x95 => drop(self.take(8)?),
            b'.' => return Ok(Some(self.pop()?)),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            // NONE, NEWTRUE, NEWFALSE, BININT1, BININT2, BININT, LONG1, BINFLOAT.
            b'N' => self.stack.push(Value::Nothing),
            0x88 => self.stack.push(Value::Integer(1)),
            0x89 => self.stack.push(Value::Integer(0)),
            b'K' | b'M' => {
                let value = self.length(if instruction == b'K' { 1 } else { 2 })?;
                self.stack.push(Value::Integer(value as i64));
            }
            b'J' => self.integer(4)?,
            0x8a => {
                let width = self.length(1)?;
                self.integer(width)?;
            }
            b'G' => {
                self.take(8)?;
                self.stack.push(Value::Nothing);
            }
            // SHORT_BINSTRING, BINSTRING, SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8.
            b'U' | b'C' => self.string(1)?,
            b'T' | b'B' => self.string(4)?,
            0x8e | 0x96 => self.string(8)?,
            // SHORT_BINUNICODE, BINUNICODE, BINUNICODE8.
            0x8c => self.text(1)?,
            b'X' => self.text(4)?,
            0x8d => self.text(8)?,
            // EMPTY_LIST, EMPTY_TUPLE, EMPTY_DICT, LIST, TUPLE, DICT, TUPLE1, TUPLE2, TUPLE3.
            b']' => self.push(Node::List(Vec::new())),
            b')' => self.push(Node::Tuple(Vec::new())),
            b'}' => self.push(Node::Dict(Vec::new())),
            b'l' => {
                let values = self.above_mark()?;
                self.push(Node::List(values));
            }
            b't' => {
                let values = self.above_mark()?;
                self.push(Node::Tuple(values));
            }
            b'd' => {
                let values = self.above_mark()?;
                self.push(Node::Dict(pairs(&values)?));
            }
            0x85..=0x87 => {
                let length = usize::from(instruction - 0x84);
                let first = self.stack.len().checked_sub(length).ok_or("the stack is empty")?;
                let values = self.stack.split_off(first);
                self.push(Node::Tuple(values));
            }
            // APPEND, APPENDS, SETITEM, SETITEMS.
            b'a' => {
                let value = self.pop()?;
                self.extend_list(&[value])?;
            }
            b'e' => {
                let values = self.above_mark()?;
                self.extend_list(&values)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.extend_dict(vec![(key, value)])?;
            }
            b'u' => {
                let values = self.above_mark()?;
                self.extend_dict(pairs(&values)?)?;
            }
            // BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET.
            b'q' | b'r' | 0x94 => {
                let key = match instruction {
                    b'q' => self.length(1)?,
                    b'r' => self.length(4)?,
                    _ => self.memo.len(),
                };
                let value = *self.stack.last().ok_or("the stack is empty")?;
                self.memo.insert(key, value);
            }
            b'h' | b'j' => {
                let key = self.length(if instruction == b'h' { 1 } else { 4 })?;
                self.stack.push(*self.memo.get(&key).ok_or("nothing was stored under this number")?);
            }
            // GLOBAL, STACK_GLOBAL.
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.function(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (module, name) else {
                    return Err("a function without a name".into());
                };
                self.function(module, name)?;
            }
            b'R' => self.call()?,
            b'b' => self.build()?,
            other => {
                let name = match name(other) {
                    Some(name) => {
                        format!("the instruction {name} is not needed for plain data and not carried out")
                    }
                    None => format!("{other:#04x} is no instruction"),
                };
                return Err(name);
            }
        }
        Ok(None)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| "the file ends too early".to_owned())?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// An unsigned number of so many bytes, little-endian.
    fn length(&mut self, width: usize) -> Result<usize, String> {
        let number = self.take(width)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte));
        usize::try_from(number).map_err(|error| error.to_string())
    }

    /// Pushes an integer in two's complement.
    fn integer(&mut self, width: usize) -> Result<(), String> {
        if width > 8 {
            return Err(format!("an integer of {width} bytes"));
        }
        // From the highest byte down, the sign first.
        let value = self.take(width)?.iter().rev().fold(None, |value: Option<i64>, &byte| {
            Some(value.map_or(i64::from(byte as i8), |value| value << 8 | i64::from(byte)))
        });
        self.stack.push(Value::Integer(value.unwrap_or(0)));
        Ok(())
    }

    fn string(&mut self, width: usize) -> Result<(), String> {
        let length = self.length(width)?;
        let bytes = self.take(length)?;
        self.stack.push(Value::Bytes(bytes));
        Ok(())
    }

    fn text(&mut self, width: usize) -> Result<(), String> {
        let length = self.length(width)?;
        let text = std::str::from_utf8(self.take(length)?).map_err(|error| error.to_string())?;
        self.stack.push(Value::Text(text));
        Ok(())
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or("the file ends too early")?;
        self.at += length + 1;
        std::str::from_utf8(&rest[..length]).map_err(|error| error.to_string())
    }

    fn push(&mut self, node: Node<'a>) {
        self.stack.push(Value::Node(self.nodes.len()));
        self.nodes.push(node);
    }

    fn pop(&mut self) -> Result<Value<'a>, String> {
        // What is below a mark is only reached after the mark.
        match self.stack.len() > self.marks.last().copied().unwrap_or(0) {
            true => self.stack.pop().ok_or_else(|| "the stack is empty".into()),
            false => Err("the stack is empty".into()),
        }
    }

    fn above_mark(&mut self) -> Result<Vec<Value<'a>>, String> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len()).ok_or("there is no mark")?;
        Ok(self.stack.split_off(mark))
    }

    /// The node on top of the stack, which stays there.
    fn top(&mut self) -> Result<&mut Node<'a>, String> {
        match self.stack.last() {
            Some(&Value::Node(node)) => Ok(&mut self.nodes[node]),
            _ => Err("there is nothing to put this into".into()),
        }
    }

    fn extend_list(&mut self, more: &[Value<'a>]) -> Result<(), String> {
        match self.top()? {
            Node::List(values) => values.extend_from_slice(more),
            _ => return Err("there is no list to put this into".into()),
        }
        Ok(())
    }

    fn extend_dict(&mut self, more: Vec<(Value<'a>, Value<'a>)>) -> Result<(), String> {
        match self.top()? {
            Node::Dict(entries) => entries.extend(more),
            _ => return Err("there is no dict to put this into".into()),
        }
        Ok(())
    }

    fn function(&mut self, module: &str, name: &str) -> Result<(), String> {
        let function = Function::of(module, name)
            .ok_or_else(|| format!("it asks for {module}.{name}, and nothing of a pickle is run"))?;
        self.push(Node::Function(function));
        Ok(())
    }

    /// REDUCE: what calling the function below its arguments would give.
    fn call(&mut self) -> Result<(), String> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let function = match function {
            Value::Node(node) => match self.nodes[node] {
                Node::Function(function) => Some(function),
                _ => None,
            },
            _ => None,
        };
        let arguments = few(&self.nodes, arguments).ok_or("a call without arguments")?;
        let node = match (function, arguments.as_slice()) {
            (Some(Function::Reconstruct), [..]) => Node::Array {
                of: Value::Nothing,
                shape: Value::Nothing,
                bytes: Value::Nothing,
                fortran_order: false,
            },
            (Some(Function::Scalar), &[of, bytes]) => {
                let shape = Value::Node(self.nodes.len());
                self.nodes.push(Node::Tuple(Vec::new()));
                Node::Array { of, shape, bytes, fortran_order: false }
            }
            (Some(Function::FromBuffer), &[bytes, of, shape, order]) => {
                let fortran_order = match order {
                    Value::Text("C") => false,
                    Value::Text("F") => true,
                    _ => return Err("an array in an unknown order".into()),
                };
                Node::Array { of, shape, bytes, fortran_order }
            }
            (Some(Function::Dtype), &[kind, ..]) => {
                let kind = match kind {
                    Value::Text(kind) => kind.to_owned(),
                    kind => {
                        String::from_utf8_lossy(bytes(&self.nodes, kind).unwrap_or_default()).into_owned()
                    }
                };
                Node::Type { kind, order: '|' }
            }
            (Some(Function::Encode), &[Value::Text(text), Value::Text("latin1" | "latin-1")]) => {
                // A text may be encoded again and again; the file pays for each.
                self.encoded += text.len();
                if self.encoded > self.bytes.len() {
                    return Err("more bytes than the file has".into());
                }
                let bytes = text.chars().map(|char| u8::try_from(u32::from(char))).collect::<Result<_, _>>();
                Node::Bytes(bytes.map_err(|_| "text that is not Latin-1")?)
            }
            _ => return Err("a call that no array and no string is written by".into()),
        };
        self.push(node);
        Ok(())
    }

    /// BUILD: the state of a type or an array.
    fn build(&mut self) -> Result<(), String> {
        let state = self.pop()?;
        let state = few(&self.nodes, state).ok_or("a state that is no short tuple")?;
        let order_of_bytes = match state.get(1) {
            Some(Value::Text(text)) => text.chars().next(),
            Some(&value) => {
                bytes(&self.nodes, value).and_then(|bytes| bytes.first()).map(|&byte| byte.into())
            }
            None => None,
        };
        match (self.top()?, state.as_slice()) {
            // Version, order, ..
            (Node::Type { order, .. }, [_, _, ..]) => {
                *order = order_of_bytes.ok_or("a type without an order of bytes")?;
            }
            (
                Node::Array { of, shape, bytes, fortran_order },
                &[_version, shape_, of_, Value::Integer(fortran_order_), bytes_],
            ) => {
                (*of, *shape, *bytes, *fortran_order) = (of_, shape_, bytes_, fortran_order_ != 0);
            }
            _ => return Err("a state that no array is written with".into()),
        }
        Ok(())
    }
}

fn pairs<'a>(values: &[Value<'a>]) -> Result<Vec<(Value<'a>, Value<'a>)>, String> {
    match values.as_chunks::<2>() {
        (pairs, []) => Ok(pairs.iter().map(|&[key, value]| (key, value)).collect()),
        _ => Err("a key without a value".into()),
    }
}

/// The names, by Python's `pickletools`, of the instructions that are not carried out.
fn name(instruction: u8) -> Option<&'static str> {
    Some(match instruction {
        b'I' => "INT",
        b'L' => "LONG",
        b'F' => "FLOAT",
        b'S' => "STRING",
        b'V' => "UNICODE",
        b'1' => "POP_MARK",
        b'2' => "DUP",
        b'g' => "GET",
        b'p' => "PUT",
        b'i' => "INST",
        b'o' => "OBJ",
        b'P' => "PERSID",
        b'Q' => "BINPERSID",
        0x81 => "NEWOBJ",
        0x82 => "EXT1",
        0x83 => "EXT2",
        0x84 => "EXT4",
        0x8b => "LONG4",
        0x8f => "EMPTY_SET",
        0x90 => "ADDITEMS",
        0x91 => "FROZENSET",
        0x92 => "NEWOBJ_EX",
        0x97 => "NEXT_BUFFER",
        0x98 => "READONLY_BUFFER",
        _ => return None,
    })
}
