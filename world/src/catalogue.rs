//! The content of the drawn world: 16 categories of 5 classes, and their splits.

mod category;
mod creatures;
mod emblems;
mod household;
mod outdoors;
mod vehicles;

pub use category::{CLASSES_PER_CATEGORY, Category, Split, Variant};

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
