//! The values in a pickle.

use super::{Callable, Coding, Dtype};

/// A Python object.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// `None`.
    None,
    /// A boolean.
    Bool(bool),
    /// An integer of up to 8 bytes.
    Int(i64),
    /// A float; its value is not needed.
    Float,
    /// An integer of more than 8 bytes: little-endian, or in protocols 0 and 1 its decimal digits.
    Big(&'a [u8]),
    /// Text in UTF-8; of Python 2, bytes.
    Text(&'a [u8]),
    /// Bytes.
    Bytes(&'a [u8]),
    /// Bytes that are written as text, and how.
    Coded(Coding, &'a [u8]),
    /// A class or function.
    Callable(Callable),
    /// An object that only a call could create: the number of the called function, for
    /// [`Machine::foreign_name`].
    ///
    /// [`Machine::foreign_name`]: super::Machine::foreign_name
    Opaque(u32),
    /// An object of the table, by number.
    Node(u32),
}

/// An object that others can refer to.
#[derive(Debug)]
pub enum Node<'a> {
    /// A tuple, list or set.
    Sequence(Vec<Value<'a>>),
    /// Keys and values, in the order of the file.
    Dict(Vec<(Value<'a>, Value<'a>)>),
    /// A torch storage.
    Storage {
        /// The key of its bytes, which lie elsewhere in the file.
        key: &'a [u8],
        /// Type of its elements.
        dtype: Dtype,
        /// Number of elements.
        length: u64,
    },
    /// A torch tensor.
    Tensor {
        /// Number of the storage's node.
        storage: u32,
        /// First element in the storage.
        offset: i64,
        /// Number of the node that holds its shape.
        shape: u32,
        /// Number of the node that holds its strides, in elements.
        stride: u32,
    },
    /// A numpy element type.
    NumpyType {
        /// Which.
        dtype: Dtype,
        /// Whether the most significant byte comes first.
        big_endian: bool,
    },
    /// A numpy array; `None` until its state has been read, and when it holds objects.
    Array(Option<Array<'a>>),
}

/// State of a numpy array.
#[derive(Debug, Clone, Copy)]
pub struct Array<'a> {
    /// Number of the node that holds its shape.
    pub shape: u32,
    /// Number of its element type's node.
    pub dtype: u32,
    /// Whether the first axis runs fastest.
    pub fortran: bool,
    /// How the elements are written.
    pub coding: Coding,
    /// Its elements; their number has not been checked against the shape.
    pub bytes: &'a [u8],
}
