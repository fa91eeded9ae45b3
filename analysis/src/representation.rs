//! The measures of `crate::measures` for a backbone and a pack.

use crate::Compute;
use crate::measures::{Spectrum, Uniformity, alignment, spectrum, uniformity};
use camtrast_common::Result;
use camtrast_common::augment::Augment;
use camtrast_common::checkpoint::Backbone;
use camtrast_common::features::{BATCH, Images, extract_rows, pooled};
use camtrast_common::nn::unit;
use camtrast_common::random::{generator, permutation};
use camtrast_datasets::Pack;
use std::collections::BTreeMap;
use tch::Tensor;

/// Largest number of images whose two views are compared for the alignment.
pub const ALIGNED_IMAGES: usize = 2048;

/// Measures of the features of a set of images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Representation {
    /// Number of images.
    pub images: usize,
    /// D, features of an image.
    pub dimension: i64,
    /// Entropy H_R and effective rank.
    pub spectrum: Spectrum,
    /// U of the features without normalisation, as in the paper.
    pub uniformity: Uniformity,
    /// U of unit vectors, as in Wang & Isola.
    pub uniformity_unit: Uniformity,
    /// Mean squared distance between the unit vectors of two augmented views.
    pub alignment: f64,
    /// Number of images used for the alignment.
    pub aligned_images: usize,
}

impl Representation {
    /// The definitions, one line each.
    pub const DEFINITIONS: &str = "\
H_R        -sum p ln p, p the eigenvalues of the features' covariance over their sum (Sun et al. 2022, eq. \
1), 0 to ln D
rank       exp(-sum s ln s), s the singular values of the centred features over their sum (Roy & Vetterli \
2007), 1 to D
U          -ln mean over pairs i < j of exp(-2 |x_i - x_j|^2), features as they are (eq. 2; the paper's \
Figure 3 and tables)
U unit     the same of unit vectors x / |x| (Wang & Isola 2020 with its sign turned), 0 to about 4
alignment  mean |x - y|^2 of unit vectors of two views under MoCo v2's augmentation (Wang & Isola 2020), 0 \
to 4
Features are globally average-pooled; everything is computed in float64.";

    /// The measures by their names in metrics.json.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        [
            ("images", self.images as f64),
            ("entropy", self.spectrum.entropy),
            ("effective_rank", self.spectrum.effective_rank),
            ("uniformity", self.uniformity.value),
            ("uniformity_unit", self.uniformity_unit.value),
            ("alignment", self.alignment),
        ]
        .map(|(name, value)| (format!("representation/{name}"), value))
        .into()
    }
}

/// Measures the features of some rows of a pack. The seed draws views, and a sample if there are too many
/// images.
///
/// # Errors
/// [`camtrast_common::Error::Settings`] for fewer than two images, [`camtrast_common::Error::Torch`].
pub fn describe(
    backbone: &Backbone,
    pack: &Pack,
    rows: &[i64],
    seed: u64,
    compute: Compute,
) -> Result<Representation> {
    let features = extract_rows(
        backbone,
        pack,
        rows,
        compute.device,
        compute.precision,
        compute.group,
        compute.progress,
    )?;
    let order = permutation(rows.len(), &mut generator(seed, "alignment/images", 0, 0));
    let sample: Vec<i64> = order
        .iter()
        .take(ALIGNED_IMAGES)
        .map(|&i| rows[i as usize])
        .collect();
    let [first, second] = views(backbone, pack, &sample, seed, compute)?;
    Ok(Representation {
        images: rows.len(),
        dimension: features.size()[1],
        spectrum: spectrum(&features)?,
        uniformity: uniformity(&features, seed)?,
        uniformity_unit: uniformity(&unit(&features), seed)?,
        alignment: alignment(&first, &second)?,
        aligned_images: sample.len(),
    })
}

// Features of two augmented views of each image.
fn views(backbone: &Backbone, pack: &Pack, rows: &[i64], seed: u64, compute: Compute) -> Result<[Tensor; 2]> {
    let Compute {
        device,
        precision,
        progress,
        ..
    } = compute;
    let augment = Augment::MOCO_V2;
    let mut views = [Vec::new(), Vec::new()];
    progress.start("two views", rows.len() as u64, 0);
    for (batch, rows) in rows.chunks(BATCH).enumerate() {
        let pixels = pack.rows(rows)?.to_device(device);
        for (i, features) in views.iter_mut().enumerate() {
            let mut generator = generator(seed, &format!("alignment/view{i}"), 0, batch as u64);
            let input = augment.apply_with(&pixels, &backbone.info.mean, &backbone.info.std, &mut generator);
            features.push(pooled(&backbone.net, &input, device, precision)?);
        }
        progress.advance(rows.len() as u64, "");
    }
    progress.finish();
    Ok(views.map(|parts| Tensor::cat(&parts, 0)))
}
