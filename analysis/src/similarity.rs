//! Similarity of the representations of two backbones.

use camtrast_common::{Error, Result};
use tch::{Kind, Tensor, no_grad};

/// Linear CKA (Kornblith et al. 2019, arXiv 1905.00414, eq. 3 with the linear kernel):
/// `|Y^T X|^2 / (|X^T X| |Y^T Y|)` in Frobenius norms, of centred features X [N, D] and Y [N, E] of the same
/// images, in float64: from 0 to 1, where 1 means equal up to rotation and one factor.
///
/// # Errors
/// [`Error::Settings`] for different numbers of images, or features that do not vary.
pub fn cka(x: &Tensor, y: &Tensor) -> Result<f64> {
    no_grad(|| {
        let [x, y] = [x, y].map(|features| {
            let features = features.to_kind(Kind::Double);
            &features - features.mean_dim(0, true, None)
        });
        if x.size()[0] != y.size()[0] {
            return Err(Error::settings(
                format!("features are of {} and of {} images", x.size()[0], y.size()[0]),
                "compute both on the same images",
            ));
        }
        let norm = |a: &Tensor, b: &Tensor| Ok::<_, Error>(a.tr().f_matmul(b)?.norm().double_value(&[]));
        let own = norm(&x, &x)? * norm(&y, &y)?;
        if own == 0.0 {
            return Err(Error::settings(
                "the features of all images are equal",
                "check for a collapsed backbone",
            ));
        }
        Ok(norm(&y, &x)?.powi(2) / own)
    })
}
