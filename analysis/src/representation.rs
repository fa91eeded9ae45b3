//! The measures of `crate::measures` for a backbone and a pack.

use crate::Compute;
use crate::evidence::logme;
use crate::measures::{Spectrum, Uniformity, alignment, spectrum, uniformity};
use crate::rank::{alpha_req, lidar, rankme};
use camtrast_common::Result;
use camtrast_common::augment::Augment;
use camtrast_common::checkpoint::Backbone;
use camtrast_common::device::send;
use camtrast_common::features::{BATCH, Images, extract_rows, pooled};
use camtrast_common::nn::unit;
use camtrast_common::random::{generator, permutation};
use camtrast_datasets::Pack;
use std::collections::BTreeMap;
use tch::Tensor;

/// Largest number of images whose two views are compared for the alignment.
pub const ALIGNED_IMAGES: usize = 2048;

/// Measures of the features of a set of images.
#[derive(Debug, PartialEq)]
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
    /// Number of images used for the alignment and LiDAR.
    pub aligned_images: usize,
    /// Number of views of each of them.
    pub views: usize,
    /// RankMe.
    pub rankme: f64,
    /// alpha-ReQ; NaN for features that vary in a single direction.
    pub alpha_req: f64,
    /// LiDAR, of the views.
    pub lidar: f64,
    /// LogME with the images' classes.
    pub logme: f64,
    /// Numbers in the backbone: the baseline that measures of transfer must beat (arXiv 2510.06448).
    pub parameters: i64,
    /// The features, f32 [N, D].
    pub features: Tensor,
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
RankMe     exp(-sum p ln p), p the singular values of the features, not centred, over their sum (Garrido et \
al. 2023)
a-ReQ      exponent of the decay of the covariance's eigenvalues, 11th to 50th (Agrawal et al. 2022)
LiDAR      the same as RankMe of the eigenvalues of image means relative to views (Thilak et al. 2023)
LogME      log evidence per image of linear regression on the classes (You et al. 2021)
size       parameters in millions: the baseline that such measures must beat (arXiv 2510.06448)
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
            ("rankme", self.rankme),
            ("alpha_req", self.alpha_req),
            ("lidar", self.lidar),
            ("logme", self.logme),
            ("parameters", self.parameters as f64),
        ]
        .into_iter()
        .filter(|(_, value)| value.is_finite())
        .map(|(name, value)| (format!("representation/{name}"), value))
        .collect()
    }
}

/// Measures the features of some rows of a pack, from `views` augmented views (at least two) where a measure
/// needs them. The seed draws views, and a sample if there are too many images.
///
/// # Errors
/// [`camtrast_common::Error::Settings`] for fewer than two images, [`camtrast_common::Error::Torch`].
pub fn describe(
    backbone: &Backbone,
    pack: &Pack,
    rows: &[i64],
    views: usize,
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
    let seen = seen(backbone, pack, &sample, views, seed, compute)?;
    let labels: Vec<i64> = rows.iter().map(|&row| pack.labels()[row as usize]).collect();
    let parameters = backbone.vs.variables().into_values();
    let parameters = parameters.filter(|tensor| tensor.requires_grad());
    Ok(Representation {
        images: rows.len(),
        dimension: features.size()[1],
        spectrum: spectrum(&features)?,
        uniformity: uniformity(&features, seed)?,
        uniformity_unit: uniformity(&unit(&features), seed)?,
        alignment: alignment(&seen.select(1, 0), &seen.select(1, 1))?,
        aligned_images: sample.len(),
        views,
        rankme: rankme(&features)?,
        alpha_req: alpha_req(&features).unwrap_or(f64::NAN),
        lidar: lidar(&seen)?,
        logme: logme(&features, &labels, pack.class_names().len() as i64)?,
        parameters: parameters.map(|tensor| tensor.numel() as i64).sum(),
        features,
    })
}

// Features of augmented views of each image, [N, views, D].
fn seen(
    backbone: &Backbone,
    pack: &Pack,
    rows: &[i64],
    views: usize,
    seed: u64,
    compute: Compute,
) -> Result<Tensor> {
    let Compute {
        device,
        precision,
        progress,
        ..
    } = compute;
    let augment = Augment::MOCO_V2;
    let mut parts = Vec::new();
    progress.start("augmented views", rows.len() as u64, 0);
    for (batch, rows) in rows.chunks(BATCH).enumerate() {
        let pixels = send(pack.rows(rows)?, device);
        let view = |i: usize| {
            let mut generator = generator(seed, &format!("alignment/view{i}"), 0, batch as u64);
            let input = augment.apply_with(&pixels, &backbone.info.mean, &backbone.info.std, &mut generator);
            pooled(&backbone.net, &input, device, precision)
        };
        let of_batch = (0..views).map(view).collect::<Result<Vec<_>>>()?;
        parts.push(Tensor::stack(&of_batch, 1));
        progress.advance(rows.len() as u64, "");
    }
    progress.finish();
    Ok(Tensor::cat(&parts, 0))
}
