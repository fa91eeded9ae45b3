//! Parts of a pack for the control experiments (paper, Tables 1, 2 and 5, Figures 1 and 3).
//!
//! Subsets of one seed are nested: the 8 classes of `--classes 8` are among those of 16, and the first 75
//! images of a class among its first 150, so that a curve over C or K compares more data with less, not with
//! different data.

use crate::Pack;
use camtrast_common::error::{Error, Result};
use camtrast_common::random::{generator, permutation};
use serde::{Deserialize, Serialize};

/// Which labels a supervised method sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LabelKind {
    /// The classes.
    #[default]
    Fine,
    /// The general categories.
    Coarse,
}

impl std::str::FromStr for LabelKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "fine" => Ok(LabelKind::Fine),
            "coarse" => Ok(LabelKind::Coarse),
            _ => Err(format!("{text:?} is not one of fine, coarse")),
        }
    }
}

/// Which part of a pack. The default is all of it with its classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubsetOptions {
    /// Number of classes C; all when `None`.
    pub classes: Option<usize>,
    /// Number of general categories from which the classes are drawn, the same number from each (paper, Table
    /// 2); any when `None`.
    pub categories: Option<usize>,
    /// Number of images K of each class; all when `None`.
    pub images_per_class: Option<usize>,
    /// Total number of images, spread over the classes as evenly as possible (paper, Figures 1 and 3);
    /// excludes `images_per_class`.
    pub total_images: Option<usize>,
    /// Whether labels are classes or general categories.
    pub labels: LabelKind,
    /// Seed of the permutations of categories, classes and images.
    pub seed: u64,
}

/// A part of a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Rows of the pack, ascending.
    pub indices: Vec<i64>,
    /// Label of each of these rows, dense: `0..classes`, in the pack's order.
    pub labels: Vec<i64>,
    /// Number of distinct labels.
    pub classes: usize,
    /// Name of each label.
    pub class_names: Vec<String>,
}

/// Chooses classes and images by seeded permutations.
///
/// # Errors
/// [`Error::Settings`] when the pack has fewer classes, categories or images than asked for, or no general
/// categories.
pub fn select_subset(pack: &Pack, options: &SubsetOptions) -> Result<Selection> {
    let mut rows = vec![Vec::new(); pack.class_names().len()];
    for (row, &label) in pack.labels().iter().enumerate() {
        rows[label as usize].push(row as i64);
    }
    let chosen = choose_classes(pack, options, &rows)?;
    let mut indices = Vec::new();
    for (place, &class) in chosen.iter().enumerate() {
        let available = &rows[class];
        let wanted = match (options.images_per_class, options.total_images) {
            (Some(_), Some(_)) => {
                let problem = "--images-per-class and --total-images exclude each other";
                return Err(Error::settings(problem, "give one of them"));
            }
            // The first classes take one more image when the total does not divide evenly.
            (None, Some(total)) => total / chosen.len() + usize::from(place < total % chosen.len()),
            (wanted, None) => wanted.unwrap_or(available.len()),
        };
        if wanted == 0 || wanted > available.len() {
            let (class, most) = (&pack.class_names()[class], available.len());
            let remedy = match options.total_images {
                Some(_) => format!("set --total-images to {}..{}", chosen.len(), chosen.len() * most),
                None => format!("set --images-per-class to 1..{most}"),
            };
            return Err(Error::settings(
                format!("{wanted} images per class are wanted, but class {class} has {most}"),
                remedy,
            ));
        }
        let order = permutation(
            available.len(),
            &mut generator(options.seed, "subset/images", class as u64, 0),
        );
        indices.extend(order[..wanted].iter().map(|&i| available[i as usize]));
    }
    indices.sort_unstable();
    let (all_labels, names) = match options.labels {
        LabelKind::Fine => (pack.labels(), pack.class_names()),
        LabelKind::Coarse => general(pack, "--labels coarse")?,
    };
    let mut dense = vec![-1; names.len()];
    for &row in &indices {
        dense[all_labels[row as usize] as usize] = 0;
    }
    let mut class_names = Vec::new();
    for (label, name) in dense.iter_mut().zip(names).filter(|(label, _)| **label == 0) {
        *label = class_names.len() as i64;
        class_names.push(name.clone());
    }
    let labels = indices
        .iter()
        .map(|&row| dense[all_labels[row as usize] as usize])
        .collect();
    Ok(Selection {
        indices,
        labels,
        classes: class_names.len(),
        class_names,
    })
}

// The first C classes of one permutation; with G categories, of the classes of the first G categories taken
// in turn.
fn choose_classes(pack: &Pack, options: &SubsetOptions, rows: &[Vec<i64>]) -> Result<Vec<usize>> {
    let shuffled = |n, purpose| permutation(n, &mut generator(options.seed, purpose, 0, 0));
    let mut order: Vec<usize> = shuffled(rows.len(), "subset/classes")
        .into_iter()
        .map(|class| class as usize)
        .collect();
    let mut within = String::new();
    if let Some(wanted) = options.categories {
        let (categories, names) = general(pack, "--categories")?;
        if wanted == 0 || wanted > names.len() {
            return Err(Error::settings(
                format!(
                    "{wanted} categories are wanted, but {} has {}",
                    pack.path().display(),
                    names.len()
                ),
                format!("set --categories to 1..{}", names.len()),
            ));
        }
        let rank = shuffled(names.len(), "subset/categories");
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); wanted];
        for &class in &order {
            let category = categories[rows[class][0] as usize];
            if let Some(place) = rank[..wanted].iter().position(|&r| r == category) {
                members[place].push(class);
            }
        }
        let rounds = members.iter().map(Vec::len).max().unwrap_or(0);
        order = (0..rounds)
            .flat_map(|round| members.iter().filter_map(move |m| m.get(round).copied()))
            .collect();
        within = format!(" in {wanted} categories");
    }
    let wanted = options.classes.unwrap_or(order.len());
    let least = options.categories.unwrap_or(1);
    if wanted < least || wanted > order.len() {
        return Err(Error::settings(
            format!(
                "{wanted} classes are wanted, but {} has {}{within}",
                pack.path().display(),
                order.len()
            ),
            format!("set --classes to {least}..{}", order.len()),
        ));
    }
    order.truncate(wanted);
    Ok(order)
}

fn general<'a>(pack: &'a Pack, flag: &str) -> Result<(&'a [i64], &'a [String])> {
    pack.categories().zip(pack.category_names()).ok_or_else(|| {
        Error::settings(
            format!(
                "{} has no general categories, which {flag} needs",
                pack.path().display()
            ),
            "pack a data set with categories (tieredimagenet, cifar-fs, or a categories.csv next to the \
             images)",
        )
    })
}
