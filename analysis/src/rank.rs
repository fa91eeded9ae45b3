//! Measures of how many directions features fill, proposed to predict transfer without labels: RankMe,
//! alpha-ReQ, LiDAR.
//!
//! Symbols: X features [N, D]; sigma its singular values; lambda the eigenvalues of its covariance, the
//! largest first. Everything is computed in float64 on the features' device.

use crate::measures::{positive, smaller_gram};
use camtrast_common::{Error, Result};
use tch::{Kind, Tensor, no_grad};

/// Added to every share of RankMe and LiDAR.
const EPSILON: f64 = 1e-7;
/// LiDAR's addition to the scatter within images.
const DELTA: f64 = 1e-4;
/// Eigenvalues that alpha-ReQ's line is fitted to, counted from 1.
const FITTED: std::ops::RangeInclusive<usize> = 11..=50;

/// RankMe (Garrido et al. 2023, arXiv 2210.02885, eq. 1): `exp(-sum p ln p)`, `p = sigma / sum sigma + 1e-7`,
/// sigma of X as it is, not centred; from 1 to about min(N, D).
///
/// # Errors
/// [`Error::Torch`] when the decomposition fails.
pub fn rankme(x: &Tensor) -> Result<f64> {
    no_grad(|| {
        let x = x.to_kind(Kind::Double);
        let eigenvalues = Vec::<f64>::try_from(smaller_gram(&x)?.f_linalg_eigvalsh("L")?)?;
        let singular: Vec<f64> = eigenvalues.into_iter().map(|l| l.max(0.0).sqrt()).collect();
        Ok(smooth_rank(&singular))
    })
}

/// `exp(-sum p ln p)` of shares with [`EPSILON`].
fn smooth_rank(weights: &[f64]) -> f64 {
    let sum: f64 = weights.iter().sum();
    let shares = weights.iter().map(|weight| weight / sum + EPSILON);
    shares.map(|p| -p * p.ln()).sum::<f64>().exp()
}

/// alpha-ReQ (Agrawal et al. 2022, arXiv 2202.05808): the exponent of `lambda_j ~ j^-alpha`, by least squares
/// of `ln lambda_j` on `ln j`, j from 11 to 50, each weighted 1/j as by Stringer et al. 2019; of all j where
/// there are fewer than 14 eigenvalues. About 1 is called best: larger, few directions hold all; smaller,
/// noise fills them.
///
/// # Errors
/// [`Error::Settings`] for features that vary in fewer than two directions, [`Error::Torch`].
pub fn alpha_req(x: &Tensor) -> Result<f64> {
    no_grad(|| {
        let x = x.to_kind(Kind::Double);
        let centred = &x - x.mean_dim(0, true, None);
        let mut eigenvalues = positive(Vec::<f64>::try_from(
            smaller_gram(&centred)?.f_linalg_eigvalsh("L")?,
        )?);
        eigenvalues.sort_by(|a, b| b.total_cmp(a));
        let count = eigenvalues.len();
        if count < 2 {
            return Err(Error::settings(
                "the features vary in a single direction, which has no decay",
                "check for a collapsed backbone",
            ));
        }
        let first = if count < FITTED.start() + 3 {
            1
        } else {
            *FITTED.start()
        };
        let points: Vec<[f64; 3]> = (first..=count.min(*FITTED.end()))
            .map(|j| [1.0 / j as f64, (j as f64).ln(), eigenvalues[j - 1].ln()])
            .collect();
        let mean = |of: fn(&[f64; 3]) -> f64| {
            let weights: f64 = points.iter().map(|point| point[0]).sum();
            points.iter().map(|point| point[0] * of(point)).sum::<f64>() / weights
        };
        let (x, y) = (mean(|p| p[1]), mean(|p| p[2]));
        let (xy, xx) = (mean(|p| p[1] * p[2]), mean(|p| p[1] * p[1]));
        Ok(-(xy - x * y) / (xx - x * x))
    })
}

/// LiDAR (Thilak et al. 2023, arXiv 2312.04000): `exp(-sum p ln p)` of the eigenvalues of
/// `W^-1/2 B W^-1/2` over their sum, plus 1e-7, where B is the scatter of the images' means and W that of
/// views around their image's mean, plus 1e-4 I. `views` [N, q, D] are features of q augmented views of N
/// images.
///
/// # Errors
/// [`Error::Settings`] for fewer than two images or views, [`Error::Torch`].
pub fn lidar(views: &Tensor) -> Result<f64> {
    let (n, q, d) = views.size3()?;
    if n < 2 || q < 2 {
        return Err(Error::settings(
            format!("{q} views of {n} images have no scatter"),
            "give at least two of each",
        ));
    }
    no_grad(|| {
        let views = views.to_kind(Kind::Double);
        let means = views.mean_dim(1, true, None); // [N, 1, D]
        let around = (&views - &means).view([n * q, d]);
        let between = (&means - means.mean_dim(0, true, None)).view([n, d]);
        let within = around.tr().f_matmul(&around)? / (n * (q - 1)) as f64
            + Tensor::eye(d, (Kind::Double, views.device())) * DELTA;
        // With W = L L^T the eigenvalues are those of L^-1 B L^-T: of M M^T with M = L^-1 (means)^T.
        let factor = within.f_linalg_cholesky(false)?;
        let whitened = factor
            .f_linalg_solve_triangular(&between.tr(), false, true, false)?
            .tr();
        let gram = smaller_gram(&whitened)? / (n - 1) as f64;
        let mut eigenvalues = Vec::<f64>::try_from(gram.f_linalg_eigvalsh("L")?.clamp_min(0.0))?;
        eigenvalues.resize(d as usize, 0.0);
        Ok(smooth_rank(&eigenvalues))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn a_rank_is_the_number_of_equal_directions() {
        let x = Tensor::eye(8, (Kind::Double, Device::Cpu));
        assert!((rankme(&x).unwrap() - 8.0).abs() < 1e-4);
        let (n, q, d) = (400, 3, 6);
        tch::manual_seed(0);
        let signal = Tensor::randn([n, 1, d], (Kind::Double, Device::Cpu));
        // Three of six directions are the same in all views, the others are noise.
        let kept = Tensor::from_slice(&[1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
        let views = signal * 10.0 * kept + Tensor::randn([n, q, d], (Kind::Double, Device::Cpu)) * 0.1;
        let rank = lidar(&views).unwrap();
        assert!((2.9..3.2).contains(&rank), "{rank}");
    }

    #[test]
    fn a_power_law_is_found() {
        // Orthogonal columns of squared length j^-1.5.
        let (n, d) = (128i64, 64);
        let angle = |i: i64, j: i64| (2 * i + 1) as f64 * j as f64 * std::f64::consts::PI / (2 * n) as f64;
        let cosines: Vec<f64> = (0..n)
            .flat_map(|i| (1..=d).map(move |j| angle(i, j).cos() * (j as f64).powf(-0.75)))
            .collect();
        let x = Tensor::from_slice(&cosines).view([n, d]);
        let alpha = alpha_req(&x).unwrap();
        assert!((alpha - 1.5).abs() < 1e-9, "{alpha}");
        assert!(alpha_req(&Tensor::ones([4, 3], (Kind::Double, Device::Cpu))).is_err());
    }
}
