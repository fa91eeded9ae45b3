//! Comparison of two backbones.

use crate::import::{find, tensors};
use crate::state_file::StateFile;
use camtrast_common::Result;
use camtrast_common::resnet::Arch;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Tensor};

/// A tensor that two backbones have with different values.
#[derive(Debug, Clone)]
pub struct Difference {
    /// torchvision's name.
    pub name: String,
    /// Largest absolute difference of an element; infinite when the shapes differ.
    pub largest: f64,
    /// Euclidean norm of the difference over that of the first backbone's tensor.
    pub relative: f64,
}

/// The result of [`diff`].
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The architectures.
    pub archs: [Arch; 2],
    /// Number of tensors that both have.
    pub common: usize,
    /// Tensors that only one has, without counters.
    pub alone: [Vec<String>; 2],
    /// Tensors that differ, the largest relative difference first.
    pub different: Vec<Difference>,
}

impl Comparison {
    /// Whether both compute the same function.
    pub fn equal(&self) -> bool {
        self.archs[0] == self.archs[1] && self.alone.iter().all(Vec::is_empty) && self.different.is_empty()
    }
}

/// Compares two backbones, ours or another tool's, as float32. Batch counters are ignored: they do not change
/// the features.
///
/// # Errors
/// As [`StateFile::open`] and [`find`].
pub fn diff(a: &Path, b: &Path, prefixes: [Option<&str>; 2]) -> Result<Comparison> {
    let read = |path: &Path, prefix| -> Result<(Arch, BTreeMap<String, Tensor>)> {
        let file = StateFile::open(path)?;
        let found = find(&file, prefix)?;
        let mut tensors = tensors(&file, &found);
        tensors.retain(|name, _| !name.ends_with("num_batches_tracked"));
        Ok((found.arch, tensors))
    };
    let (a, b) = (read(a, prefixes[0])?, read(b, prefixes[1])?);
    let lacking = |from: &BTreeMap<String, Tensor>, other: &BTreeMap<String, Tensor>| -> Vec<String> {
        from.keys()
            .filter(|name| !other.contains_key(*name))
            .cloned()
            .collect()
    };
    let alone = [lacking(&a.1, &b.1), lacking(&b.1, &a.1)];
    let mut different = Vec::new();
    for (name, ours) in &a.1 {
        let Some(theirs) = b.1.get(name) else { continue };
        if ours.size() != theirs.size() {
            different.push(Difference {
                name: name.clone(),
                largest: f64::INFINITY,
                relative: f64::INFINITY,
            });
        } else if !ours.equal(theirs) {
            let (ours, theirs) = (ours.to_kind(Kind::Double), theirs.to_kind(Kind::Double));
            let apart = &ours - &theirs;
            let largest = apart.abs().max().double_value(&[]);
            let relative = (apart.norm() / ours.norm()).double_value(&[]);
            different.push(Difference {
                name: name.clone(),
                largest,
                relative,
            });
        }
    }
    // NaN (from weights that are NaN) comes first.
    different.sort_by(|x, y| y.relative.total_cmp(&x.relative));
    Ok(Comparison {
        archs: [a.0, b.0],
        common: a.1.len() - alone[0].len(),
        alone,
        different,
    })
}
