//! Annotated images: the data type shared by readers, training and evaluation.

use camtrast_common::Result;
use camtrast_common::leakage::Prints;
use camtrast_common::tensor_file::hex;
use sha2::{Digest, Sha256};
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// One annotated image. Boxes are 0-based half-open [x1, y1, x2, y2] in pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct Annotated {
    /// Name of the image within its data set, as in VOC's image sets and result files.
    pub id: String,
    /// The image file.
    pub image: PathBuf,
    /// Width in pixels of the upright image, unless it was annotated as stored; the same holds for the
    /// height.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Its annotated objects.
    pub objects: Vec<Object>,
}

/// One annotated object.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Index into [`Dataset::classes`].
    pub class: usize,
    /// 0-based half-open [x1, y1, x2, y2] in pixels.
    pub bbox: [f64; 4],
    /// Whether it is difficult: never counted, and trained on only on request.
    pub difficult: bool,
    /// Area in square pixels, if it is not the box's: COCO gives the area of the object's mask, and groups
    /// objects by it.
    pub area: Option<f64>,
}

/// Images with their annotations.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Dataset {
    /// Names of the classes, without background.
    pub classes: Vec<String>,
    /// Numbers of the classes in COCO files; 1, 2, .. unless such a file gave others.
    pub category_ids: Vec<u64>,
    /// The images.
    pub images: Vec<Annotated>,
    /// Entries that were skipped because they are wrong, one line each.
    pub problems: Vec<String>,
    /// Changed or ignored entries that are not wrong, one line for each kind.
    pub notes: Vec<String>,
    /// Whether difficult objects are COCO's crowds: several objects in one box, which are never trained on.
    pub crowds: bool,
}

impl Dataset {
    /// Checksum of this data set's annotations: 16 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("{:?}", self.classes));
        for Annotated {
            id,
            width,
            height,
            objects,
            ..
        } in &self.images
        {
            hash.update(format!("{id} {width} {height} {objects:?}"));
        }
        hex(&hash.finalize()[..8])
    }

    /// Prints of its image files, see [`camtrast_common::leakage`].
    ///
    /// # Errors
    /// [`camtrast_common::Error::Io`] naming the first that cannot be read.
    pub fn prints(&self) -> Result<Prints> {
        Prints::of(&self.images.iter().map(|image| &image.image).collect::<Vec<_>>())
    }
}

/// Areas of the objects that pycocotools counts, in square pixels: it ignores others without a message.
pub(crate) const COUNTED_AREAS: RangeInclusive<f64> = 0.0..=1e10;

/// Square pixels, by which COCO groups objects into small, medium and large.
pub(crate) fn area(object: &Object) -> f64 {
    let [x1, y1, x2, y2] = object.bbox;
    object.area.unwrap_or((x2 - x1) * (y2 - y1))
}
