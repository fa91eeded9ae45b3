//! Feature vectors in memory, one row per image.

use camtrast_common::{Error, Result};
use rayon::prelude::*;
use std::borrow::Cow;

/// Features [N, D] float32.
#[derive(Debug, Clone)]
pub struct Features<'a> {
    values: Cow<'a, [f32]>,
    dimensions: usize,
}

impl<'a> Features<'a> {
    /// `values` row by row, `dimensions` of them each.
    ///
    /// # Errors
    /// [`Error::Settings`] when that is not a whole number of rows.
    pub fn new(values: impl Into<Cow<'a, [f32]>>, dimensions: usize) -> Result<Self> {
        let values = values.into();
        if dimensions == 0 || !values.len().is_multiple_of(dimensions) {
            return Err(Error::settings(
                format!("{} values are not rows of {dimensions} features", values.len()),
                "there must be one row of features for every label",
            ));
        }
        Ok(Features { values, dimensions })
    }

    /// The same from the bytes of a tensor or file, which are copied only if they are not aligned.
    ///
    /// # Errors
    /// As [`Features::new`].
    pub fn from_bytes(bytes: &'a [u8], dimensions: usize) -> Result<Self> {
        // SAFETY: any four bytes are a float32.
        let (before, values, after) = unsafe { bytes.align_to::<f32>() };
        if before.is_empty() && after.is_empty() {
            return Self::new(values, dimensions);
        }
        let numbers = bytes.as_chunks().0.iter();
        let copied: Vec<f32> = numbers.map(|&number| f32::from_ne_bytes(number)).collect();
        Self::new(copied, dimensions)
    }

    /// Number of rows, N.
    pub fn count(&self) -> usize {
        self.values.len() / self.dimensions
    }

    /// Length of a row, D.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The features of an image.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dimensions..][..self.dimensions]
    }

    /// Euclidean norms of all rows, `[N]`.
    ///
    /// # Errors
    /// [`Error::Settings`] naming the first row with a NaN or infinite value.
    pub fn norms(&self) -> Result<Vec<f64>> {
        let norm = |row: &[f32]| {
            // Several sums at a time, because a single one waits for every addition.
            let mut sums = [0.0; 8];
            let (chunks, rest) = row.as_chunks::<8>();
            for chunk in chunks {
                for (sum, &value) in sums.iter_mut().zip(chunk) {
                    *sum += f64::from(value) * f64::from(value);
                }
            }
            let rest: f64 = rest
                .iter()
                .map(|&value| f64::from(value) * f64::from(value))
                .sum();
            (sums.iter().sum::<f64>() + rest).sqrt()
        };
        let norms: Vec<f64> = self.values.par_chunks(self.dimensions).map(norm).collect();
        if let Some(first) = norms.iter().position(|norm| !norm.is_finite()) {
            let count = norms.iter().filter(|norm| !norm.is_finite()).count();
            return Err(Error::settings(
                format!("{count} feature rows hold NaN or infinite values, the first is row {first}"),
                "check for a diverged backbone or broken images, then compute the features again",
            ));
        }
        Ok(norms)
    }
}
