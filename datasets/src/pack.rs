//! A pack: one safetensors file with a whole split of a data set, decoded and equally sized.
//!
//! | tensor | type and shape | meaning |
//! |---|---|---|
//! | `pixels` | `u8 [N, H, W, 3]` | RGB |
//! | `labels` | `i64 [N]` | class of each image, `0..C`, classes sorted by name |
//! | `categories` | `i64 [N]` | general category, `0..G`; absent when the layout has none |
//!
//! Metadata: `format` = [`FORMAT`], `version`, `layout`, `split`, `size`, `resize`, `crop`, `source`,
//! `class_names` and `category_names` (JSON lists in label order), `class_titles` and `category_titles`
//! (readable names, when known), and the `checksum` of [`tensor_file`](camtrast_common::tensor_file), which
//! other files call `dataset_sha256`.

use camtrast_common::error::{Error, Result};
use camtrast_common::features::Images;
use camtrast_common::tensor_file::{CHECKSUM, TensorFile};
use std::ops::Range;
use std::path::Path;
use tch::{Kind, Tensor};

/// `format` in the metadata of a pack.
pub const FORMAT: &str = "camtrast-pack";
/// The version this code writes and reads.
pub const VERSION: &str = "1";

const REMAKE: &str = "make it again with `camtrast data prepare`";

/// A memory-mapped pack. Opening is quick whatever its size; pixels are read from disk when they are used.
///
/// ```
/// use camtrast_datasets::{Pack, PackDescription, PackWriter};
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("tiny.pack");
/// let description = PackDescription {
///     height: 1,
///     width: 2,
///     class_names: vec!["black".into(), "white".into()],
///     ..PackDescription::default()
/// };
/// let mut writer = PackWriter::create(&path, description, 2)?;
/// writer.push(&[0; 6])?; // RGB [1, H, W, 3]
/// writer.push(&[255; 6])?;
/// let checksum = writer.finish(&[0, 1], None)?;
///
/// let pack = Pack::open(&path)?;
/// assert_eq!((pack.len(), pack.height(), pack.width()), (2, 1, 2));
/// assert_eq!((pack.labels(), &pack.class_names()[1][..]), (&[0, 1][..], "white"));
/// assert_eq!(pack.sha256(), checksum);
/// pack.verify()?;
/// # Ok::<(), camtrast_common::Error>(())
/// ```
pub struct Pack {
    file: TensorFile,
    shape: [usize; 3],
    pixels: Range<usize>,
    labels: Vec<i64>,
    categories: Option<Vec<i64>>,
    class_names: Vec<String>,
    category_names: Option<Vec<String>>,
}

impl Pack {
    /// Maps a pack and checks everything but the pixels: shapes, label ranges, that every class has an image
    /// and a name.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read; [`Error::File`] when it is another kind of file or not
    /// consistent.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            let remedy = "pack it first with `camtrast data prepare LAYOUT --from FOLDER --out PACK`";
            return Err(Error::file(path, "is a folder, not a data pack", remedy));
        }
        let file = TensorFile::open(path)?;
        let format = file
            .metadata()
            .get("format")
            .map_or("a file of another tool", String::as_str);
        if format != FORMAT {
            let remedy = "give a file made by `camtrast data prepare`";
            return Err(Error::file(path, format!("is {format}, not a data pack"), remedy));
        }
        let version = file.metadata().get("version").map_or("", String::as_str);
        if version != VERSION {
            return Err(Error::file(
                path,
                format!("is a pack of version {version:?}, this program reads {VERSION}"),
                REMAKE,
            ));
        }
        let (shape, pixels) = file.bytes("pixels", Kind::Uint8)?;
        let [n, h, w, 3] = shape[..] else {
            return Err(Error::file(
                path,
                format!("pixels are {shape:?}, not [N, H, W, 3]"),
                REMAKE,
            ));
        };
        if n == 0 || h == 0 || w == 0 {
            return Err(Error::file(path, "holds no images", REMAKE));
        }
        let start = pixels.as_ptr() as usize - file.map().as_ptr() as usize;
        let pixels = start..start + pixels.len();
        let class_names = names(&file, "class_names")?;
        let labels = integers(&file, "labels", n, class_names.len())?;
        let (mut categories, mut category_names) = (None, None);
        if file.names().iter().any(|name| name == "categories") {
            let named = names(&file, "category_names")?;
            categories = Some(integers(&file, "categories", n, named.len())?);
            category_names = Some(named);
        }
        let shape = [n as usize, h as usize, w as usize];
        Ok(Pack {
            file,
            shape,
            pixels,
            labels,
            categories,
            class_names,
            category_names,
        })
    }

    /// Number of images, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a pack without images does not open")]
    pub fn len(&self) -> usize {
        self.shape[0]
    }

    /// Height of every image in pixels.
    pub fn height(&self) -> usize {
        self.shape[1]
    }

    /// Width of every image in pixels.
    pub fn width(&self) -> usize {
        self.shape[2]
    }

    /// All images, RGB, [N, H, W, 3], straight from the mapped file.
    pub fn pixels(&self) -> &[u8] {
        &self.file.map()[self.pixels.clone()]
    }

    /// Class of each image, `0..class_names().len()`, each class at least once.
    pub fn labels(&self) -> &[i64] {
        &self.labels
    }

    /// General category of each image, `0..category_names().len()`; `None` when the data set has none.
    pub fn categories(&self) -> Option<&[i64]> {
        self.categories.as_deref()
    }

    /// Names of the classes in label order, as the data set writes them (WordNet ids for ImageNet's
    /// children).
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// Names of the general categories in label order.
    pub fn category_names(&self) -> Option<&[String]> {
        self.category_names.as_deref()
    }

    /// Readable class names where the data set has them, otherwise [`Pack::class_names`].
    pub fn class_titles(&self) -> Vec<String> {
        let titles = self
            .file
            .metadata()
            .get("class_titles")
            .and_then(|t| serde_json::from_str(t).ok());
        titles
            .filter(|t: &Vec<String>| t.len() == self.class_names.len())
            .unwrap_or_else(|| self.class_names.clone())
    }

    /// The layout it was made from, such as `miniimagenet`.
    pub fn layout(&self) -> &str {
        self.text("layout")
    }

    /// The split it holds, such as `train`.
    pub fn split(&self) -> &str {
        self.text("split")
    }

    /// How images were resized: `84x84` (plain), or `92 (shorter side), centre 84`.
    pub fn fit(&self) -> String {
        match (self.text("resize"), self.text("crop")) {
            (resize, "none" | "") => resize.to_owned(),
            (resize, crop) => format!("{resize}, centre {crop}"),
        }
    }

    /// The checksum stored in the file (SHA-256 of names, shapes and bytes): the `dataset_sha256` of
    /// checkpoints. Empty when the file has none; [`Pack::verify`] checks it.
    pub fn sha256(&self) -> &str {
        self.text(CHECKSUM)
    }

    /// Path of the pack.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// All metadata of the file.
    pub fn metadata(&self) -> &camtrast_common::tensor_file::Metadata {
        self.file.metadata()
    }

    /// Reads the whole file and compares it with its checksum.
    ///
    /// # Errors
    /// [`Error::File`] when it is damaged.
    pub fn verify(&self) -> Result<()> {
        self.file.verify()
    }

    fn text(&self, key: &str) -> &str {
        self.file.metadata().get(key).map_or("", String::as_str)
    }
}

fn names(file: &TensorFile, key: &str) -> Result<Vec<String>> {
    let text = file.metadata().get(key).map_or("", String::as_str);
    serde_json::from_str(text).map_err(|_| Error::file(file.path(), format!("has no list of {key}"), REMAKE))
}

// An [N] tensor whose values are 0..names, each at least once.
fn integers(file: &TensorFile, name: &str, n: i64, names: usize) -> Result<Vec<i64>> {
    let (shape, bytes) = file.bytes(name, Kind::Int64)?;
    if shape != [n] {
        return Err(Error::file(
            file.path(),
            format!("has {n} images but {name} of shape {shape:?}"),
            REMAKE,
        ));
    }
    // Copied, because another program may have written them at an offset that is not a multiple of 8.
    let values: Vec<i64> = bytes
        .chunks_exact(8)
        .map(|b| i64::from_le_bytes(b.try_into().expect("chunks are 8 bytes")))
        .collect();
    let mut seen = vec![false; names];
    for &value in &values {
        let Some(flag) = usize::try_from(value).ok().and_then(|v| seen.get_mut(v)) else {
            return Err(Error::file(
                file.path(),
                format!("{name} contain {value}, but only {names} have a name"),
                REMAKE,
            ));
        };
        *flag = true;
    }
    match seen.iter().position(|seen| !seen) {
        Some(missing) => Err(Error::file(
            file.path(),
            format!("{name} do not contain {missing}, which has a name"),
            REMAKE,
        )),
        None => Ok(values),
    }
}

impl Images for Pack {
    fn count(&self) -> usize {
        self.len()
    }

    fn rows(&self, rows: &[i64]) -> Result<Tensor> {
        let (height, width) = (self.height(), self.width());
        let image = height * width * 3;
        let mut bytes: Vec<u8> = Vec::with_capacity(rows.len() * image);
        rows.iter()
            .for_each(|&row| bytes.extend(&self.pixels()[row as usize * image..][..image]));
        Ok(Tensor::f_from_data_size(
            &bytes,
            &[rows.len() as i64, height as i64, width as i64, 3],
            Kind::Uint8,
        )?)
    }
}
