//! What a category of objects is made of, and which split it belongs to.

use crate::setting::Taste;
use crate::shapes::{Piece, Place};

/// One of the three parts of a few-shot data set; their categories are disjoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Base classes, for pretraining.
    Train,
    /// Validation classes, for choosing settings.
    Val,
    /// Novel classes.
    Test,
}

impl Split {
    /// All three, in the order of the files.
    pub const ALL: [Split; 3] = [Split::Train, Split::Val, Split::Test];

    /// As in the file names: `train`, `val`, `test`.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Val => "val",
            Split::Test => "test",
        }
    }
}

/// The part that distinguishes a class within its category.
pub struct Variant {
    /// Text after the category's name, such as "with a forked tail".
    pub name: &'static str,
    /// The part.
    pub pieces: &'static [Piece],
    /// Where the part is drawn; several places for spots and fruits.
    pub places: &'static [Place],
}

/// A kind of object. Its five classes share everything but the part.
pub struct Category {
    /// Such as "fish".
    pub name: &'static str,
    /// Which split all its classes belong to.
    pub split: Split,
    /// The pieces that the classes share, from back to front.
    pub pieces: &'static [Piece],
    /// Whether the part is drawn before the rest, so that the body overlaps its root.
    pub part_behind: bool,
    /// Usual appearance.
    pub taste: Taste,
    /// The classes.
    pub variants: [Variant; CLASSES_PER_CATEGORY],
}

/// Classes in every category.
pub const CLASSES_PER_CATEGORY: usize = 5;
