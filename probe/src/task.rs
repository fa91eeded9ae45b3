//! What a probe is trained and tested on.

use crate::features::Features;
use camtrast_common::{Error, Result};
use std::collections::{BTreeMap, HashSet};

/// Training and test features whose labels are positions in one list of classes.
pub struct ProbeTask {
    /// Features to train on.
    pub train: Features,
    /// Features to test on.
    pub test: Features,
    /// Names of the classes of the training features.
    pub classes: Vec<String>,
}

impl ProbeTask {
    /// Puts training and test features together; `train_name` and `test_name` name every label that occurs.
    /// Classes are in the order of the training labels.
    ///
    /// # Errors
    /// [`Error::Settings`] for features of different dimensions, test classes that are not trained on, a
    /// single class, and test features of which any is among the training features.
    pub fn new(
        mut train: Features,
        mut test: Features,
        train_name: impl Fn(i64) -> String,
        test_name: impl Fn(i64) -> String,
    ) -> Result<Self> {
        let (d, other) = (train.dimension(), test.dimension());
        if d != other {
            return Err(Error::settings(
                format!("the training features have {d} dimensions, the test features {other}"),
                "compute both with one backbone",
            ));
        }
        let mut labels = train.labels.clone();
        labels.sort_unstable();
        labels.dedup();
        let classes: Vec<String> = labels.iter().map(|&label| train_name(label)).collect();
        if classes.len() < 2 {
            return Err(Error::settings(
                format!("the training features are all of one class, {}", classes[0]),
                "give features of two classes and more",
            ));
        }
        let places: BTreeMap<&String, i64> = classes.iter().zip(0..).collect();
        let mut unknown: Vec<String> = test.labels.iter().map(|&label| test_name(label)).collect();
        unknown.sort();
        unknown.dedup();
        unknown.retain(|name| !places.contains_key(name));
        if let [first, ..] = &unknown[..] {
            return Err(Error::settings(
                format!(
                    "{} of the test classes, such as {first}, are not among the training classes",
                    unknown.len()
                ),
                "test on the classes that are trained on, or use `fewshot` for new ones",
            ));
        }
        for label in &mut train.labels {
            *label = labels.binary_search(label).expect("it is one of them") as i64;
        }
        for label in &mut test.labels {
            *label = places[&test_name(*label)];
        }
        Ok(ProbeTask { train, test, classes })
    }

    /// The same for features whose labels are numbers of one list.
    ///
    /// # Errors
    /// As [`ProbeTask::new`].
    pub fn of_numbers(train: Features, test: Features) -> Result<Self> {
        Self::new(train, test, |label| label.to_string(), |label| label.to_string())
    }
}

/// How many of the test items, as bytes, are among the training items.
pub fn repeated<'a>(train: impl Iterator<Item = &'a [u8]>, test: impl Iterator<Item = &'a [u8]>) -> usize {
    let train: HashSet<&[u8]> = train.collect();
    test.filter(|item| train.contains(item)).count()
}
