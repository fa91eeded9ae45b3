//! Classification by the nearest training images.
//!
//! By plain majority, an image has the most frequent class among its k nearest training images by Euclidean
//! distance (scikit-learn's `KNeighborsClassifier`). With a temperature T the neighbours are those of largest
//! cosine similarity s, and each votes with the weight `exp(s / T)` (Wu et al. 2018; T = 0.07, k = 20 in the
//! literature on self-supervision). Of classes with equal votes the lower one counts, as in scikit-learn.

use crate::accuracy::Tally;
use crate::features::{Normalisation, chunks};
use camtrast_common::device::send;
use camtrast_common::nn::unit;
use camtrast_common::{Error, Result};
use tch::{Kind, Tensor, no_grad};

/// Values of k that the literature on self-supervision uses.
pub const USUAL: [usize; 4] = [1, 5, 20, 200];
/// The temperature of that literature.
pub const TEMPERATURE: f64 = 0.07;
/// Distances that are held at a time.
const DISTANCES: i64 = 4 << 20;

/// Training images and their votes.
pub struct Neighbours<'a> {
    x: &'a Tensor,
    targets: Tensor,
    classes: i64,
    normalisation: &'a Normalisation,
    temperature: Option<f64>,
}

impl<'a> Neighbours<'a> {
    /// Training features f32 [N, D] with their classes `[N]` in `0..classes`.
    pub fn new(
        x: &'a Tensor,
        targets: &[i64],
        classes: usize,
        normalisation: &'a Normalisation,
        temperature: Option<f64>,
    ) -> Self {
        Neighbours {
            x,
            targets: send(Tensor::from_slice(targets), x.device()),
            classes: classes as i64,
            normalisation,
            temperature,
        }
    }

    /// A tally of test features [M, D] with their classes `[M]` for each k.
    ///
    /// # Errors
    /// [`Error::Settings`] for a k above the number of training images.
    pub fn classify(&self, test: &Tensor, targets: &[i64], ks: &[usize]) -> Result<Vec<Tally>> {
        let (n, most) = (self.x.size()[0], ks.iter().copied().max().unwrap_or(1) as i64);
        if most > n {
            return Err(Error::settings(
                format!("--k {most} is more than the {n} training images"),
                "lower --k",
            ));
        }
        no_grad(|| {
            let targets = send(Tensor::from_slice(targets), self.x.device());
            let mut tallies = vec![Tally::default(); ks.len()];
            let piece = (DISTANCES / n).clamp(1, 2048);
            for start in (0..test.size()[0]).step_by(piece as usize) {
                let length = piece.min(test.size()[0] - start);
                let (closeness, places) = self.nearest(&test.narrow(0, start, length), most);
                let votes = match self.temperature {
                    Some(temperature) => ((closeness - 1.0) / temperature).exp(),
                    None => closeness.ones_like(),
                };
                let of = self.targets.take(&places); // [m, most]
                for (tally, &k) in tallies.iter_mut().zip(ks) {
                    let (of, votes) = (of.narrow(1, 0, k as i64), votes.narrow(1, 0, k as i64));
                    let scores = Tensor::zeros([length, self.classes], (votes.kind(), votes.device()))
                        .scatter_add(1, &of, &votes);
                    tally.add(&scores, &targets.narrow(0, start, length));
                }
            }
            Ok(tallies)
        })
    }

    /// Closeness and rows of the nearest training images, [m, k], the nearest first: cosine similarity, or
    /// minus half the squared distance up to a constant for each test image.
    fn nearest(&self, test: &Tensor, k: i64) -> (Tensor, Tensor) {
        let prepared = |rows: &Tensor| match self.temperature {
            Some(_) => unit(&self.normalisation.apply(rows)),
            None => self.normalisation.centred(rows),
        };
        let test = prepared(test);
        let parts: Vec<Tensor> = chunks(self.x)
            .map(|(_, rows)| {
                let rows = prepared(&rows);
                match self.temperature {
                    Some(_) => test.matmul(&rows.tr()),
                    None => {
                        let half = rows.square().sum_dim_intlist(1, false, Kind::Float) * -0.5;
                        half.addmm(&test, &rows.tr())
                    }
                }
            })
            .collect();
        Tensor::cat(&parts, 1).topk(k, 1, true, true)
    }
}
