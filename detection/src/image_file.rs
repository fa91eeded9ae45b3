//! The paths of a data set's image files.

use camtrast_common::{Error, Result};
use camtrast_images::decode::EXTENSIONS;
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
