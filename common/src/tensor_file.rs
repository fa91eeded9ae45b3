//! safetensors files with a checksum: named tensors plus text metadata.
//!
//! Reading goes through the `safetensors` crate. Writing is done here because that crate keeps metadata in a
//! hash map, so two writes of the same content differ in bytes; ours are reproducible (sorted keys), which
//! resumed runs are tested on.

use crate::device::on_host;
use crate::error::{Error, Result};
use crate::files::write_atomically;
use memmap2::Mmap;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tch::{Device, Kind, Tensor};

/// Text stored with the tensors, sorted by key.
pub type Metadata = BTreeMap<String, String>;

/// Metadata key under which [`save`] stores the SHA-256 of all tensor names, shapes and bytes.
pub const CHECKSUM: &str = "checksum";

/// Metadata key of the SHA-256 of all other metadata. Separate, so that the same tensors have the same
/// [`CHECKSUM`] whatever their metadata.
const METADATA_CHECKSUM: &str = "metadata_checksum";

/// Saves tensors (moved to the CPU and made contiguous) and metadata, whole or not at all. The same content
/// gives the same bytes.
///
/// # Errors
/// [`Error::Io`] when the file cannot be written, [`Error::File`] for a tensor type that safetensors lacks,
/// [`Error::NotFinite`] for NaN or infinite values; an existing file is then kept.
pub fn save(path: &Path, tensors: &BTreeMap<String, Tensor>, metadata: &Metadata) -> Result<()> {
    let mut plain = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        // Channels-last tensors must be made contiguous: the format has no strides.
        let tensor = on_host(tensor);
        let dtype = dtype_name(tensor.kind()).ok_or_else(|| {
            Error::file(
                path,
                format!("tensor {name} is {:?}", tensor.kind()),
                "store it as f32 or i64",
            )
        })?;
        plain.push((name, dtype, tensor));
    }
    let mut hash = Sha256::new();
    let mut entries = Vec::with_capacity(plain.len());
    for (name, dtype, tensor) in &plain {
        let bytes = bytes_of(tensor);
        if !is_finite(tensor) {
            return Err(Error::NotFinite {
                path: path.to_owned(),
                tensor: name.to_string(),
            });
        }
        absorb(&mut hash, name, dtype, &tensor.size(), bytes);
        entries.push(Entry {
            name,
            dtype,
            shape: tensor.size(),
            bytes: bytes.len(),
        });
    }
    let mut metadata = metadata.clone();
    metadata.insert(CHECKSUM.into(), hex(&hash.finalize()));
    let header = header(&entries, &metadata);
    write_atomically(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        plain
            .iter()
            .try_for_each(|(_, _, tensor)| out.write_all(bytes_of(tensor)))
    })
}

/// One tensor of a header, in file order.
pub struct Entry<'a> {
    /// Its name.
    pub name: &'a str,
    /// The safetensors name of its type, such as `F32`.
    pub dtype: &'a str,
    /// Its shape.
    pub shape: Vec<i64>,
    /// Its length.
    pub bytes: usize,
}

/// The JSON header for tensors that lie one after the other, with a checksum of the metadata, padded with
/// spaces to a multiple of 8 bytes.
pub fn header(entries: &[Entry], metadata: &Metadata) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut offset = 0;
    for entry in entries {
        let end = offset + entry.bytes;
        let value =
            serde_json::json!({"dtype": entry.dtype, "shape": entry.shape, "data_offsets": [offset, end]});
        header.insert(entry.name.to_owned(), value);
        offset = end;
    }
    let mut metadata = metadata.clone();
    metadata.insert(METADATA_CHECKSUM.into(), metadata_checksum(&metadata));
    header.insert("__metadata__".into(), serde_json::json!(metadata));
    let mut header = serde_json::to_vec(&header).expect("a JSON map of strings serialises");
    header.resize(header.len().next_multiple_of(8), b' ');
    header
}

/// A memory-mapped safetensors file.
pub struct TensorFile {
    path: PathBuf,
    map: Mmap,
    metadata: Metadata,
}

impl TensorFile {
    /// Maps a file and reads its header. Tensor bytes are not touched.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be opened, [`Error::File`] when it is not a whole safetensors file.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Err(Error::file(path, "is a folder", "name a safetensors file"));
        }
        let file = File::open(path).map_err(Error::io(path, "read"))?;
        // SAFETY: our own files are replaced by rename, never changed in place.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path, "read"))?;
        let header = SafeTensors::read_metadata(&map).and_then(|(_, header)| {
            SafeTensors::deserialize(&map)?; // checks that the offsets cover the file exactly
            Ok(header)
        });
        let header = header.map_err(|e| {
            Error::file(
                path,
                format!("not a whole safetensors file ({e})"),
                "make or copy it again",
            )
        })?;
        let metadata = header
            .metadata()
            .clone()
            .unwrap_or_default()
            .into_iter()
            .collect();
        Ok(TensorFile {
            path: path.to_owned(),
            map,
            metadata,
        })
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The checksum stored in the file; see [`TensorFile::verify`].
    ///
    /// # Errors
    /// [`Error::File`] when it has none.
    pub fn checksum(&self) -> Result<&str> {
        self.carried(CHECKSUM)
    }

    fn carried(&self, key: &str) -> Result<&str> {
        let remedy = "convert other tools' files with `camtrast checkpoint import`";
        let none = || Error::file(&self.path, "has no checksum", remedy);
        self.metadata.get(key).map(String::as_str).ok_or_else(none)
    }

    /// Tensor names, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.view().names().into_iter().map(String::from).collect();
        names.sort();
        names
    }

    fn view_of(&self, name: &str) -> Result<TensorView<'_>> {
        self.view().tensor(name).map_err(|_| {
            Error::file(
                &self.path,
                format!("holds no tensor {name:?}"),
                "is it the right kind of file?",
            )
        })
    }

    /// Shape and bytes (as in the file, little-endian) of a tensor of the wanted type, without copying.
    ///
    /// # Errors
    /// [`Error::File`] when there is no such tensor or its type is another.
    pub fn bytes(&self, name: &str, wanted: Kind) -> Result<(Vec<i64>, &[u8])> {
        let view = self.view_of(name)?;
        if kind_of(view.dtype()) != Some(wanted) {
            let problem = format!("tensor {name:?} is {:?}, not {wanted:?}", view.dtype());
            return Err(Error::file(&self.path, problem, "convert it to the type named"));
        }
        Ok((view.shape().iter().map(|&d| d as i64).collect(), view.data()))
    }

    /// Refuses a file of a later version of its format than `newest`, the latest known.
    ///
    /// # Errors
    /// [`Error::File`]; also when its metadata has no version.
    pub fn check_version(&self, newest: u64) -> Result<()> {
        let version = self.number::<u64>("version")?;
        if version > newest {
            let problem = format!("is of version {version} of its format, this program reads up to {newest}");
            return Err(Error::file(&self.path, problem, "use a newer camtrast"));
        }
        Ok(())
    }

    /// A number of the metadata.
    ///
    /// # Errors
    /// [`Error::File`] when it is missing or not such a number.
    pub fn number<T: FromStr>(&self, key: &str) -> Result<T> {
        let text = self.metadata.get(key).map_or("", String::as_str);
        let wrong = |_| {
            Error::file(
                &self.path,
                format!("its metadata {key:?} is {text:?}"),
                "copy or make it again",
            )
        };
        text.parse().map_err(wrong)
    }

    /// Copies one tensor to the CPU.
    ///
    /// # Errors
    /// [`Error::File`] when there is no such tensor, libtorch does not have its type, or it holds NaN or
    /// infinite values.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let tensor = self.any_tensor(name)?;
        if !is_finite(&tensor) {
            let problem = format!("tensor {name:?} holds NaN or infinite values");
            return Err(Error::file(
                &self.path,
                problem,
                "use a file from before its training diverged",
            ));
        }
        Ok(tensor)
    }

    /// The same for a tensor that may hold any values.
    ///
    /// # Errors
    /// As [`TensorFile::tensor`], except for the values.
    pub fn any_tensor(&self, name: &str) -> Result<Tensor> {
        let view = self.view_of(name)?;
        let kind = kind_of(view.dtype()).ok_or_else(|| {
            Error::file(
                &self.path,
                format!("tensor {name:?} is {:?}", view.dtype()),
                "convert it to f32",
            )
        })?;
        let shape: Vec<i64> = view.shape().iter().map(|&d| d as i64).collect();
        Ok(Tensor::f_from_data_size(view.data(), &shape, kind)?)
    }

    /// Copies every tensor to the CPU.
    ///
    /// # Errors
    /// As [`TensorFile::tensor`].
    pub fn tensors(&self) -> Result<BTreeMap<String, Tensor>> {
        self.names()
            .into_iter()
            .map(|name| self.tensor(&name).map(|t| (name, t)))
            .collect()
    }

    /// Compares tensors and metadata with the checksums that [`save`] stored.
    ///
    /// # Errors
    /// [`Error::File`] when the file has no checksum or another content.
    pub fn verify(&self) -> Result<()> {
        let (stored, said) = (self.checksum()?, self.carried(METADATA_CHECKSUM)?);
        let mut hash = Sha256::new();
        let file = self.view();
        for name in self.names() {
            let view = file.tensor(&name).expect("names come from this file");
            let shape: Vec<i64> = view.shape().iter().map(|&d| d as i64).collect();
            let dtype = kind_of(view.dtype()).and_then(dtype_name).unwrap_or_default();
            absorb(&mut hash, &name, dtype, &shape, view.data());
        }
        if hex(&hash.finalize()) != stored || metadata_checksum(&self.metadata) != said {
            return Err(Error::file(
                &self.path,
                "is damaged (its checksum does not match its content)",
                "copy or make it again",
            ));
        }
        Ok(())
    }

    /// The bytes of the whole file.
    pub fn map(&self) -> &[u8] {
        &self.map
    }

    fn view(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.map).expect("checked when opened")
    }
}

/// Adds one tensor to a checksum; tensors go in by sorted name.
pub fn absorb(hash: &mut Sha256, name: &str, dtype: &str, shape: &[i64], bytes: &[u8]) {
    hash.update(format!("{name}\0{dtype}\0{shape:?}\0"));
    hash.update(bytes);
}

fn metadata_checksum(metadata: &Metadata) -> String {
    let mut hash = Sha256::new();
    for (key, value) in metadata.iter().filter(|(key, _)| *key != METADATA_CHECKSUM) {
        hash.update(format!("{key}\0{value}\0"));
    }
    hex(&hash.finalize())
}

/// The bytes of a tensor that is contiguous and on the CPU.
pub fn bytes_of(tensor: &Tensor) -> &[u8] {
    assert!(
        tensor.is_contiguous() && tensor.device() == Device::Cpu,
        "moved and laid out before"
    );
    let length = tensor.numel() * tensor.kind().elt_size_in_bytes();
    if length == 0 {
        return &[];
    }
    // SAFETY: the tensor is contiguous, on the CPU, and outlives the slice.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr() as *const u8, length) }
}

/// Whether a tensor that is contiguous and on the CPU holds no NaN and no infinite value.
pub fn is_finite(tensor: &Tensor) -> bool {
    // Such numbers have all bits of the exponent set.
    fn none<const N: usize>(bytes: &[u8], exponent: u64) -> bool {
        bytes.as_chunks::<N>().0.iter().all(|number| {
            let mut wide = [0; 8];
            wide[..N].copy_from_slice(number);
            u64::from_le_bytes(wide) & exponent != exponent
        })
    }
    let bytes = bytes_of(tensor);
    match tensor.kind() {
        Kind::Float => none::<4>(bytes, 0x7f80_0000),
        Kind::Double => none::<8>(bytes, 0x7ff0_0000_0000_0000),
        Kind::Half => none::<2>(bytes, 0x7c00),
        Kind::BFloat16 => none::<2>(bytes, 0x7f80),
        _ => true,
    }
}

fn dtype_name(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::Float => "F32",
        Kind::Double => "F64",
        Kind::Half => "F16",
        Kind::BFloat16 => "BF16",
        Kind::Int64 => "I64",
        Kind::Int => "I32",
        Kind::Uint8 => "U8",
        Kind::Bool => "BOOL",
        _ => return None,
    })
}

fn kind_of(dtype: Dtype) -> Option<Kind> {
    Some(match dtype {
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::U8 => Kind::Uint8,
        Dtype::BOOL => Kind::Bool,
        _ => return None,
    })
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
