//! The part of the training images that settings are chosen on.

use camtrast_common::random::{generator, permutation};
use camtrast_common::tensor_file::hex;
use camtrast_common::{Error, Result};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Training images for the choice of a setting, and for testing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Whether an image is one to choose on, `[N]`; the others are trained on.
    pub validation: Vec<bool>,
}

impl Split {
    /// Draws a share (in 0..1) of the images of each class, at least one, from `seed`.
    ///
    /// # Errors
    /// [`Error::Settings`] when a class has a single image.
    pub fn stratified(labels: &[i64], share: f64, seed: u64) -> Result<Self> {
        let mut of_class: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        for (row, &label) in labels.iter().enumerate() {
            of_class.entry(label).or_default().push(row);
        }
        let mut validation = vec![false; labels.len()];
        for (&label, rows) in &of_class {
            let most = rows.len() - 1;
            if most == 0 {
                return Err(Error::settings(
                    "a class with a single training image leaves none to choose settings on",
                    "give one value of each (--c, --k), or more images",
                ));
            }
            let count = (share * rows.len() as f64).round().clamp(1.0, most as f64) as usize;
            let order = permutation(rows.len(), &mut generator(seed, "validation", 0, label as u64));
            for &place in &order[..count] {
                validation[rows[place as usize]] = true;
            }
        }
        Ok(Split { validation })
    }

    /// Rows of the images that are trained on, and of those to choose on.
    pub fn rows(&self) -> [Vec<i64>; 2] {
        let of = |wanted: bool| {
            let rows = self.validation.iter().zip(0..);
            rows.filter(|(chosen, _)| **chosen == wanted)
                .map(|(_, row)| row)
                .collect()
        };
        [of(false), of(true)]
    }

    /// Checksum of the choice: 16 hexadecimal digits.
    pub fn sum(&self) -> String {
        let bytes: Vec<u8> = self.validation.iter().map(|&chosen| chosen.into()).collect();
        hex(&Sha256::digest(bytes)[..8])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_split_alike_and_a_seed_always_so() {
        let labels: Vec<i64> = (0..50).map(|i| i % 5).collect();
        let split = Split::stratified(&labels, 0.2, 3).unwrap();
        let [training, validation] = split.rows();
        assert_eq!((training.len(), validation.len()), (40, 10));
        for class in 0..5 {
            let chosen = validation.iter().filter(|&&row| labels[row as usize] == class);
            assert_eq!(chosen.count(), 2);
        }
        assert_eq!(split, Split::stratified(&labels, 0.2, 3).unwrap());
        assert_ne!(split.sum(), Split::stratified(&labels, 0.2, 4).unwrap().sum());
        // Never all of a class, never none.
        let small = Split::stratified(&[0, 0, 1, 1], 0.1, 0).unwrap();
        assert_eq!(small.rows().map(|rows| rows.len()), [2, 2]);
        assert!(Split::stratified(&[0, 0, 1], 0.2, 0).is_err());
    }
}
