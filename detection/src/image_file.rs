//! Image files of a data set: their paths and sizes, without decoding them.

use camtrast_common::{Error, Result};
use camtrast_images::decode::{self, EXTENSIONS};
use camtrast_images::orientation::orientation;
use std::fs::File;
use std::io::BufReader;
use std::path::{Component, Path, PathBuf};

/// The image of an id in a folder, whatever its extension. `list` is the file that names the id.
///
/// # Errors
/// [`Error::File`] naming `list` when there is none.
pub(crate) fn find(folder: &Path, id: &str, list: &Path) -> Result<PathBuf> {
    // Appended, not replaced: an id may contain a dot.
    let candidates = EXTENSIONS.iter().flat_map(|e| [e.to_string(), e.to_uppercase()]);
    candidates
        .map(|extension| folder.join(format!("{id}.{extension}")))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            let remedy = "add the image, remove it from the list, or skip such images with --skip-bad";
            Error::file(
                list,
                format!("names {id:?}, which has no image in {}", folder.display()),
                remedy,
            )
        })
}

/// Width and height of an image in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// Size of the image turned as the camera's orientation tag says.
    pub upright: (usize, usize),
    /// Size of the image as stored.
    pub stored: (usize, usize),
}

impl Size {
    /// The size that an annotation refers to, to be given to [`read_upright`](decode::read_upright): the
    /// first that `fits`; `None` when neither does.
    pub fn annotated(self, fits: impl Fn((usize, usize)) -> bool) -> Option<(usize, usize)> {
        [self.upright, self.stored].into_iter().find(|&size| fits(size))
    }
}

/// The size of an image, from the file's first bytes; with `whole`, the end of the file is checked too.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read, [`Error::File`] when it is not an image.
pub(crate) fn size(path: &Path, whole: bool) -> Result<Size> {
    let header = match imagesize::size(path) {
        Ok(size) if size.width > 0 && size.height > 0 => (size.width, size.height),
        Err(imagesize::ImageError::IoError(error)) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
            return Err(Error::io(path, "read")(error));
        }
        _ => {
            let remedy = "replace it, or skip such images with --skip-bad";
            return Err(Error::file(path, "is empty, cut off or not an image", remedy));
        }
    };
    if whole {
        decode::check(path)?;
    }
    let file = File::open(path).map_err(Error::io(path, "read"))?;
    let orientation = orientation(BufReader::new(file));
    Ok(Size {
        upright: orientation.upright(header),
        stored: orientation.decoded(header),
    })
}

/// Whether a relative path stays below its folder.
pub(crate) fn stays_inside(path: &Path) -> bool {
    // A backslash separates folders on the machines that some annotations come from.
    !path.to_string_lossy().contains('\\')
        && path
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// Whether it is the name of one file or folder.
pub(crate) fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && stays_inside(Path::new(name))
}
