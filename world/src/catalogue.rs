//! The content of the drawn world: 16 categories of 5 classes, and their splits.

mod creatures;
mod emblems;
mod household;
mod outdoors;
mod vehicles;

use super::setting::Taste;
use super::shapes::{Piece, Place};

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

/// All categories; a category's index is part of its label, so new ones are added at the end.
pub static CATEGORIES: [&Category; 16] = [
    &creatures::FISH,
    &vehicles::CAR,
    &outdoors::HOUSE,
    &creatures::BIRD,
    &outdoors::FLOWER,
    &household::CUP,
    &household::ROBOT,
    &creatures::BUTTERFLY,
    &vehicles::BOAT,
    &vehicles::ROCKET,
    &household::LAMP,
    &outdoors::KITE,
    &outdoors::TREE,
    &household::CLOCK,
    &outdoors::MUSHROOM,
    &household::CHAIR,
];

/// One class: a category and one of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    category: usize,
    variant: usize,
}

impl Class {
    /// All classes, category by category.
    pub fn all() -> impl Iterator<Item = Class> {
        (0..CATEGORIES.len())
            .flat_map(|category| (0..CLASSES_PER_CATEGORY).map(move |variant| Class { category, variant }))
    }

    /// Its category.
    pub fn category(self) -> &'static Category {
        CATEGORIES[self.category]
    }

    /// Its part.
    pub fn variant(self) -> &'static Variant {
        &self.category().variants[self.variant]
    }

    /// A label similar to WordNet ids: `s00000103` is the third class of the first category.
    pub fn label(self) -> String {
        format!("s{:08}", (self.category + 1) * 100 + self.variant + 1)
    }

    /// The category's label: `s00000100`.
    pub fn category_label(self) -> String {
        format!("s{:08}", (self.category + 1) * 100)
    }

    /// Such as "fish with a forked tail".
    pub fn name(self) -> String {
        format!("{} {}", self.category().name, self.variant().name)
    }

    /// The classes of the other categories of the same split.
    pub fn strangers(self) -> Vec<Class> {
        let split = self.category().split;
        Class::all()
            .filter(|other| other.category().split == split && other.category != self.category)
            .collect()
    }
}
