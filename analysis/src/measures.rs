//! Measures of a set of features: entropy, effective rank, uniformity, alignment, nearest neighbours.
//!
//! Symbols: X features [N, D]; Sigma their covariance [D, D]; lambda its eigenvalues. Everything is computed
//! in float64 on the features' device.

use camtrast_common::device::send;
use camtrast_common::nn::unit;
use camtrast_common::random::{generator, permutation};
use camtrast_common::{Error, Result};
use tch::{Kind, Tensor, no_grad};

/// Largest number of features for which [`uniformity`] uses all pairs.
pub const EXACT_PAIRS: i64 = 20_000;

/// Rows of the distance matrix that are computed at a time.
const CHUNK: i64 = 1024;

/// Measures of the eigenvalues of the covariance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spectrum {
    /// `H_R = -sum_j p_j ln p_j`, `p = lambda / sum lambda` (Devijver & Kittler 2012; Sun et al. 2022, eq.
    /// 1), in nats, from 0 (one direction) to ln D (all equal).
    pub entropy: f64,
    /// `exp(-sum_j s_j ln s_j)`, s the singular values of the centred X over their sum (Roy & Vetterli 2007),
    /// from 1 to D.
    pub effective_rank: f64,
}

/// Uniformity and the number of features it is computed from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Uniformity {
    /// `U = -ln mean_{i<j} exp(-2 |x_i - x_j|^2)` (Wang & Isola 2020 with the opposite sign; Sun et al. 2022,
    /// eq. 2).
    pub value: f64,
    /// Number of features whose pairs were used: all, or a sample of [`EXACT_PAIRS`].
    pub features: i64,
}

fn double(features: &Tensor, least: i64) -> Result<Tensor> {
    let n = features.size().first().copied().unwrap_or_default();
    if features.dim() != 2 || n < least {
        let problem = format!("{n} images are too few to measure a representation");
        return Err(Error::settings(
            problem,
            format!("give a pack of at least {least}"),
        ));
    }
    Ok(features.detach().to_kind(Kind::Double))
}

/// Entropy and effective rank of X [N, D]. If all features are equal, entropy is 0 and rank is 1.
///
/// # Errors
/// [`Error::Settings`] for fewer than two features, [`Error::Torch`] when the decomposition fails.
pub fn spectrum(features: &Tensor) -> Result<Spectrum> {
    no_grad(|| {
        let x = double(features, 2)?;
        let centred = &x - x.mean_dim([0i64].as_slice(), true, None);
        let gram = smaller_gram(&centred)? / x.size()[0] as f64;
        let eigenvalues = positive(Vec::<f64>::try_from(gram.f_linalg_eigvalsh("L")?)?);
        let singular: Vec<f64> = eigenvalues.iter().map(|l| l.sqrt()).collect();
        Ok(Spectrum {
            entropy: entropy(&eigenvalues),
            effective_rank: entropy(&singular).exp(),
        })
    })
}

/// The smaller of the Gram matrices X^T X and X X^T, which has all eigenvalues that are not zero.
pub(crate) fn smaller_gram(x: &Tensor) -> Result<Tensor> {
    let (n, d) = x.size2()?;
    Ok(if d <= n {
        x.tr().f_matmul(x)?
    } else {
        x.f_matmul(&x.tr())?
    })
}

/// Eigenvalues without those that are zero: rounding leaves tiny values of either sign in their place.
pub(crate) fn positive(eigenvalues: Vec<f64>) -> Vec<f64> {
    let largest = eigenvalues.iter().fold(0.0, |a: f64, &b| a.max(b));
    let floor = largest * 1e-12;
    eigenvalues.into_iter().filter(|&l| l > floor).collect()
}

// Of weights that need not sum to one; 0 for none.
fn entropy(weights: &[f64]) -> f64 {
    let sum: f64 = weights.iter().sum();
    // Subtracted, for a single weight has an entropy of 0 and not of -0.
    0.0 - weights
        .iter()
        .map(|w| w / sum)
        .filter(|&p| p > 0.0)
        .map(|p| p * p.ln())
        .sum::<f64>()
        .min(0.0)
}

/// Uniformity of X [N, D], not normalised; give unit vectors for Wang & Isola's measure. Above
/// [`EXACT_PAIRS`] features, of that many drawn from `seed`.
///
/// # Errors
/// [`Error::Settings`] for fewer than two features.
pub fn uniformity(features: &Tensor, seed: u64) -> Result<Uniformity> {
    no_grad(|| {
        let mut x = double(features, 2)?;
        if x.size()[0] > EXACT_PAIRS {
            let order = permutation(x.size()[0] as usize, &mut generator(seed, "uniformity", 0, 0));
            x = x.index_select(
                0,
                &send(Tensor::from_slice(&order[..EXACT_PAIRS as usize]), x.device()),
            );
        }
        // Centring does not change distances, and reduces cancellation.
        x = &x - x.mean_dim([0i64].as_slice(), true, None);
        let n = x.size()[0];
        let squares = x.square().sum_dim_intlist([1i64].as_slice(), false, None); // [N]
        let mut parts = Vec::new();
        for start in (0..n).step_by(CHUNK as usize) {
            let rows = CHUNK.min(n - start);
            // Pairs (i, j) with j > i: columns from this chunk's own on, above the diagonal.
            let (a, b) = (x.narrow(0, start, rows), x.narrow(0, start, n - start));
            let products = a.f_matmul(&b.tr())?;
            let distances = squares.narrow(0, start, rows).unsqueeze(1) + squares.narrow(0, start, n - start)
                - products * 2.0;
            let twice = Tensor::ones_like(&distances).tril(0).to_kind(Kind::Bool);
            let exponents = (distances.clamp_min(0.0) * -2.0).masked_fill(&twice, f64::NEG_INFINITY);
            parts.push(exponents.logsumexp([0i64, 1].as_slice(), false));
        }
        let sum = Tensor::stack(&parts, 0)
            .logsumexp([0i64].as_slice(), false)
            .double_value(&[]);
        let pairs = (n as f64) * (n - 1) as f64 / 2.0;
        Ok(Uniformity {
            value: pairs.ln() - sum,
            features: n,
        })
    })
}

/// `mean_i |x_i - y_i|^2` of unit vectors of two views of the same images, [N, D] each (Wang & Isola 2020,
/// alpha = 2): from 0 (equal features of both views) to 4.
///
/// # Errors
/// [`Error::Settings`] for no features.
pub fn alignment(x: &Tensor, y: &Tensor) -> Result<f64> {
    let difference = unit(&double(x, 1)?) - unit(&double(y, 1)?);
    Ok(difference
        .square()
        .sum_dim_intlist([1i64].as_slice(), false, None)
        .mean(None)
        .double_value(&[]))
}

/// Share of images, in 0..1, whose label is predicted correctly by their `neighbours` nearest other images: a
/// vote with cosine similarity s has the weight `exp(s / 0.07)` (Wu et al. 2018). X [N, D], labels i64 `[N]`
/// in 0..classes.
///
/// # Errors
/// [`Error::Settings`] for fewer than two features.
pub fn nearest_neighbours(features: &Tensor, labels: &Tensor, classes: i64, neighbours: i64) -> Result<f64> {
    no_grad(|| {
        let x = unit(&double(features, 2)?);
        let (n, device) = (x.size()[0], x.device());
        let labels = send(labels.shallow_clone(), device);
        let mut right = 0;
        for start in (0..n).step_by(CHUNK as usize) {
            let rows = CHUNK.min(n - start);
            let similarities = x.narrow(0, start, rows).f_matmul(&x.tr())?;
            let own = Tensor::arange_start(start, start + rows, (Kind::Int64, device)).unsqueeze(1);
            let similarities = similarities.scatter_value(1, &own, f64::NEG_INFINITY);
            let (nearest, places) = similarities.topk(neighbours.min(n - 1), 1, true, false);
            let votes = Tensor::zeros([rows, classes], (Kind::Double, device)).scatter_add(
                1,
                &labels.take(&places),
                &((nearest - 1.0) / 0.07).exp(),
            );
            right += votes
                .argmax(1, false)
                .eq_tensor(&labels.narrow(0, start, rows))
                .sum(Kind::Int64)
                .int64_value(&[]);
        }
        Ok(right as f64 / n as f64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use camtrast_common::testing::{Case, Worst, fill};
    use tch::Device;

    const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

    fn close(ours: f64, truth: f64, tolerance: f64) {
        assert!(
            (ours - truth).abs() <= tolerance * truth.abs().max(1.0),
            "{ours} is not {truth}"
        );
    }

    #[test]
    fn isotropic_features_hold_all_directions() {
        tch::manual_seed(0);
        let x = Tensor::randn([200_000, 16], F64);
        let Spectrum {
            entropy,
            effective_rank,
        } = spectrum(&x).unwrap();
        close(entropy, 16f64.ln(), 1e-4);
        close(effective_rank, 16.0, 1e-3);
        // |x - y|^2 / 2 of normal vectors is chi-squared with D degrees: E exp(-4 c) = (1 + 8)^(-D/2).
        let small = Tensor::randn([6000, 2], F64);
        close(uniformity(&small, 0).unwrap().value, 9f64.ln(), 0.02);
    }

    #[test]
    fn features_on_a_line_hold_one_direction() {
        let x = Tensor::arange(50, F64)
            .unsqueeze(1)
            .matmul(&fill("direction", &[1, 8]).to_kind(Kind::Double));
        let Spectrum {
            entropy,
            effective_rank,
        } = spectrum(&x).unwrap();
        close(entropy, 0.0, 1e-9);
        close(effective_rank, 1.0, 1e-6);
    }

    #[test]
    fn a_simplex_has_equal_distances() {
        // D + 1 corners, as the rows of the identity: D directions of equal weight, all distances sqrt(2).
        let x = Tensor::eye(9, F64);
        let Spectrum {
            entropy,
            effective_rank,
        } = spectrum(&x).unwrap();
        close(entropy, 8f64.ln(), 1e-12);
        close(effective_rank, 8.0, 1e-12);
        close(uniformity(&x, 0).unwrap().value, 4.0, 1e-12);
        close(alignment(&x, &x.roll([1], [0])).unwrap(), 2.0, 1e-12);
        close(alignment(&(&x * 3.0), &x).unwrap(), 0.0, 1e-12);
    }

    #[test]
    fn one_point_holds_nothing_and_far_points_do_not_underflow() {
        let x = Tensor::ones([5, 4], F64);
        assert_eq!(
            spectrum(&x).unwrap(),
            Spectrum {
                entropy: 0.0,
                effective_rank: 1.0
            }
        );
        assert_eq!(uniformity(&x, 0).unwrap().value, 0.0);
        let far = Tensor::from_slice(&[0.0, 100.0]).view([2, 1]);
        close(uniformity(&far, 0).unwrap().value, 20_000.0, 1e-12);
        assert!(spectrum(&Tensor::ones([1, 4], F64)).is_err());
    }

    #[test]
    fn large_sets_are_sampled_and_say_so() {
        tch::manual_seed(1);
        let x = Tensor::randn([EXACT_PAIRS + 1, 1], F64);
        let sampled = uniformity(&x, 3).unwrap();
        assert_eq!(sampled.features, EXACT_PAIRS);
        close(sampled.value, 3f64.ln(), 0.01); // (1 + 8)^(1/2)
    }

    #[test]
    fn neighbours_vote() {
        let x = Tensor::from_slice(&[1.0, 0.0, 0.9, 0.1, 0.0, 1.0, 0.1, 0.9]).view([4, 2]);
        let labels = |l: [i64; 4]| Tensor::from_slice(&l);
        assert_eq!(nearest_neighbours(&x, &labels([0, 0, 1, 1]), 2, 1).unwrap(), 1.0);
        assert_eq!(nearest_neighbours(&x, &labels([0, 1, 0, 1]), 2, 1).unwrap(), 0.0);
        assert_eq!(nearest_neighbours(&x, &labels([0, 0, 1, 0]), 2, 20).unwrap(), 0.5);
    }

    #[test]
    fn numpy_agrees() {
        let case = Case::open("representation");
        let mut worst = Worst::default();
        for name in ["wide", "tall", "relu"] {
            let shape: Vec<i64> = camtrast_common::testing::numbers(&case.json(name))
                .iter()
                .map(|&v| v as i64)
                .collect();
            let x = fill(name, &shape);
            let x = if name == "relu" { x.relu() } else { x } * case.json("scale").as_f64().unwrap();
            let truth = case.tensor(&format!("{name}.result"));
            let Spectrum {
                entropy,
                effective_rank,
            } = spectrum(&x).unwrap();
            let second = fill(&format!("{name}/second"), &shape);
            let ours = [
                entropy,
                effective_rank,
                uniformity(&x, 0).unwrap().value,
                uniformity(&unit(&x.to_kind(Kind::Double)), 0).unwrap().value,
                alignment(&x, &second).unwrap(),
                nearest_neighbours(
                    &x,
                    &Tensor::arange(shape[0], (Kind::Int64, Device::Cpu)).remainder(3),
                    3,
                    5,
                )
                .unwrap(),
            ];
            for (i, what) in ["H_R", "rank", "U", "U unit", "alignment", "kNN"]
                .into_iter()
                .enumerate()
            {
                let truth = truth.double_value(&[i as i64]);
                worst.add(&format!("{name} {what}"), (ours[i] - truth).abs() / truth.abs());
            }
        }
        worst.check("representation", 1e-9);
    }

    // torch 2.11: `(F.normalize(x) * upstream).sum().backward()`.
    #[test]
    fn unit_has_the_gradient_of_torchs_normalize() {
        let x = Tensor::from_slice2(&[[0f32, 0.0, 0.0], [3.0, 0.0, 4.0]]).set_requires_grad(true);
        let upstream = Tensor::from_slice2(&[[1f32, -2.0, 0.5], [1.0, 2.0, 3.0]]);
        let y = unit(&x);
        assert!(y.isfinite().all().int64_value(&[]) == 1 && y.get(0).abs().max().double_value(&[]) == 0.0);
        (y * upstream).sum(Kind::Float).backward();
        let truth = Tensor::from_slice2(&[[1e12f32, -2e12, 5e11], [-0.16, 0.4, 0.12]]);
        for row in 0..2 {
            assert!(
                camtrast_common::testing::relative_error(&x.grad().get(row), &truth.get(row)) < 1e-6,
                "row {row}: {}",
                x.grad().get(row)
            );
        }
    }
}
