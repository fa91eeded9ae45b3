//! Element types of tensors in foreign files.

use half::{bf16, f16};

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// 16-bit float (IEEE half).
    F16,
    /// bfloat16: the upper half of a float32.
    Bf16,
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// Signed, 8 bytes.
    I64,
    /// Signed, 4 bytes.
    I32,
    /// Signed, 2 bytes.
    I16,
    /// Unsigned, 1 byte.
    U8,
    /// Signed or boolean, 1 byte.
    Byte,
    /// Anything else; no backbone has it.
    Other,
}

impl Dtype {
    /// Bytes of an element; 0 when unknown.
    pub fn size(self) -> usize {
        match self {
            Dtype::F64 | Dtype::I64 => 8,
            Dtype::F32 | Dtype::I32 => 4,
            Dtype::F16 | Dtype::Bf16 | Dtype::I16 => 2,
            Dtype::U8 | Dtype::Byte => 1,
            Dtype::Other => 0,
        }
    }

    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F16 => "float16",
            Dtype::Bf16 => "bfloat16",
            Dtype::F32 => "float32",
            Dtype::F64 => "float64",
            Dtype::I64 => "int64",
            Dtype::I32 => "int32",
            Dtype::I16 => "int16",
            Dtype::U8 | Dtype::Byte => "8 bits",
            Dtype::Other => "another type",
        }
    }

    /// Whether it is a type of weights.
    pub fn is_float(self) -> bool {
        matches!(self, Dtype::F16 | Dtype::Bf16 | Dtype::F32 | Dtype::F64)
    }

    /// The type of a torch storage class, such as `FloatStorage`; `None` when there is no such class.
    pub fn of_storage(class: &str) -> Option<Dtype> {
        Some(match class {
            "FloatStorage" => Dtype::F32,
            "DoubleStorage" => Dtype::F64,
            "HalfStorage" => Dtype::F16,
            "BFloat16Storage" => Dtype::Bf16,
            "LongStorage" => Dtype::I64,
            "IntStorage" => Dtype::I32,
            "ShortStorage" => Dtype::I16,
            "ByteStorage" => Dtype::U8,
            "CharStorage" | "BoolStorage" | "UntypedStorage" => Dtype::Byte,
            "ComplexFloatStorage"
            | "ComplexDoubleStorage"
            | "QInt8Storage"
            | "QUInt8Storage"
            | "QInt32Storage" => Dtype::Other,
            _ => return None,
        })
    }

    /// The type of numpy's short name, such as `f4`.
    pub fn of_numpy(name: &[u8]) -> Dtype {
        match name {
            b"f4" => Dtype::F32,
            b"f8" => Dtype::F64,
            b"f2" => Dtype::F16,
            b"i8" => Dtype::I64,
            b"i4" => Dtype::I32,
            b"i2" => Dtype::I16,
            b"u1" => Dtype::U8,
            b"i1" | b"b1" => Dtype::Byte,
            _ => Dtype::Other,
        }
    }

    /// The type of a safetensors type.
    pub fn of_safetensors(dtype: safetensors::Dtype) -> Dtype {
        use safetensors::Dtype as D;
        match dtype {
            D::F32 => Dtype::F32,
            D::F64 => Dtype::F64,
            D::F16 => Dtype::F16,
            D::BF16 => Dtype::Bf16,
            D::I64 => Dtype::I64,
            D::I32 => Dtype::I32,
            D::I16 => Dtype::I16,
            D::U8 => Dtype::U8,
            D::I8 | D::BOOL => Dtype::Byte,
            _ => Dtype::Other,
        }
    }

    /// One little-endian element as float32; 0 for [`Dtype::Other`]. A double is rounded to the nearest.
    pub fn float(self, bytes: &[u8]) -> f32 {
        match self {
            Dtype::F32 => f32::from_le_bytes(fixed(bytes)),
            Dtype::F64 => f64::from_le_bytes(fixed(bytes)) as f32,
            Dtype::F16 => f16::from_le_bytes(fixed(bytes)).to_f32(),
            Dtype::Bf16 => bf16::from_le_bytes(fixed(bytes)).to_f32(),
            _ => self.integer(bytes) as f32,
        }
    }

    /// One little-endian element as an integer; 0 unless it is one.
    pub fn integer(self, bytes: &[u8]) -> i64 {
        match self {
            Dtype::I64 => i64::from_le_bytes(fixed(bytes)),
            Dtype::I32 => i32::from_le_bytes(fixed(bytes)).into(),
            Dtype::I16 => i16::from_le_bytes(fixed(bytes)).into(),
            Dtype::U8 | Dtype::Byte => bytes[0].into(),
            _ => 0,
        }
    }
}

fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes[..N].try_into().expect("elements are as long as their type")
}
