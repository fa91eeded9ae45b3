//! Multinomial logistic regression on many images at its exact optimum.
//!
//! Symbols: N images, c classes, D dimensions, features `x_i` (normalised), weights `W` [c, D], intercept `b`
//! `[c]`, image weights `s_i` of 0 or 1. The minimiser of
//!
//! ```text
//! 0.5 ||W||^2 + C sum_i s_i CE(W x_i + b, y_i)
//! ```
//!
//! is what scikit-learn's `LogisticRegression(C=C)` approaches; for two classes it penalises one weight
//! vector for the difference of the logits, which is this problem at `C / 2`.
//!
//! Features are read in parts and never copied: their normalisation is folded into the weights before a
//! product, and into the gradient after it. Products are float32, sums over parts float64, until the distance
//! from the optimum is that of rounding; the last steps are float64 throughout. The method, L-BFGS in the
//! coordinates in which the features have unit covariance, is in `logistic/minimise.rs`.

mod minimise;

use crate::features::{Normalisation, chunks};
use camtrast_common::device::send;
use camtrast_common::{Error, Result};
use minimise::{Minimiser, Value};
pub use minimise::{ROUGH, TOLERANCE};
use tch::{Kind, Tensor, no_grad};

/// A linear classifier of normalised features, with intercepts as the last column: [c, D + 1] float64.
#[derive(Debug)]
pub struct Classifier(pub Tensor);

/// The images that classifiers are fitted to.
pub struct Problem<'a> {
    x: &'a Tensor,
    normalisation: &'a Normalisation,
    /// Factors [N, 1] that make them of unit length, where the normalisation asks for it.
    lengths: Option<Tensor>,
    /// i64 [N, 1].
    targets: Tensor,
    classes: i64,
    /// Covariance of the normalised features [D, D], float64.
    covariance: Tensor,
}

impl<'a> Problem<'a> {
    /// Features f32 [N, D] whose classes are `targets` in `0..classes`.
    ///
    /// # Errors
    /// [`Error::Settings`] for fewer than two classes.
    pub fn new(
        x: &'a Tensor,
        normalisation: &'a Normalisation,
        targets: &[i64],
        classes: i64,
    ) -> Result<Self> {
        if classes < 2 {
            return Err(Error::settings(
                "the training features are all of one class",
                "give features of two classes and more",
            ));
        }
        Ok(no_grad(|| Problem {
            x,
            normalisation,
            lengths: normalisation.inverse_lengths(x),
            targets: send(Tensor::from_slice(targets), x.device()).view([-1, 1]),
            classes,
            covariance: covariance(x, normalisation),
        }))
    }

    /// The classifier that predicts every class alike.
    pub fn zero(&self) -> Classifier {
        let columns = self.x.size()[1] + 1;
        Classifier(Tensor::zeros(
            [self.classes, columns],
            (Kind::Double, self.x.device()),
        ))
    }

    /// The optimum for scikit-learn's C, over the images whose weight in `used` f32 [N, 1] is 1, reached from
    /// `start`; `tolerance` is [`TOLERANCE`] or [`ROUGH`].
    ///
    /// # Errors
    /// [`Error::Settings`] when it is not reached.
    pub fn fit(&self, c: f64, used: &Tensor, start: &Classifier, tolerance: f64) -> Result<Classifier> {
        let c = if self.classes == 2 { c / 2.0 } else { c };
        let count = used.sum(Kind::Double).double_value(&[]);
        no_grad(|| {
            let minimiser = Minimiser {
                objective: |at: &Tensor, kind| self.objective(at, c, used, kind),
                covariance: &self.covariance,
                weight: c * count,
            };
            minimiser.run(&start.0, tolerance).map(Classifier)
        })
    }

    fn objective(&self, at: &Tensor, c: f64, used: &Tensor, kind: Kind) -> Value {
        let weights = at.narrow(1, 0, at.size()[1] - 1);
        let folded = Folded::new(at, self.normalisation, kind);
        let mut loss = send(Tensor::from(0f64), at.device());
        let mut curvature = loss.zeros_like();
        let (mut pulled, mut sums) = (weights.zeros_like(), at.select(1, -1).zeros_like());
        for (start, rows) in chunks(self.x) {
            let of_rows = |all: &Tensor| all.narrow(0, start, rows.size()[0]);
            let (rows_used, targets) = (of_rows(used), of_rows(&self.targets));
            let lengths = self.lengths.as_ref().map(of_rows);
            let rows = rows.to_kind(kind);
            let logits = folded.logits(&rows, lengths.as_ref()); // [n, c]
            let total = logits.logsumexp(1, true);
            let own = logits.gather(1, &targets, false);
            loss += ((&total - own) * &rows_used).sum(Kind::Double);
            let mut residual = (logits - total).exp(); // probabilities
            curvature += (&rows_used * residual.square()).sum(Kind::Double);
            let minus_one = Tensor::full_like(&targets, -1).to_kind(kind);
            let _ = residual.scatter_add_(1, &targets, &minus_one);
            residual *= rows_used.to_kind(kind);
            sums += residual.sum_dim_intlist(0, false, None).to_kind(Kind::Double);
            if let Some(lengths) = lengths {
                residual *= lengths.to_kind(kind);
            }
            pulled += residual.tr().matmul(&rows).to_kind(Kind::Double);
        }
        let Normalisation { mean, scale, .. } = self.normalisation;
        let gradient = (pulled - sums.outer(mean)) * scale;
        let gradient = Tensor::cat(&[gradient * c + &weights, (sums * c).unsqueeze(1)], 1);
        let count = used.sum(Kind::Double);
        let classes = self.classes as f64;
        Value {
            objective: (loss * c + weights.square().sum(Kind::Double) * 0.5).double_value(&[]),
            gradient,
            // The mean of p (1 - p) over images and classes.
            curvature: ((&count - curvature) / count / classes).double_value(&[]),
        }
    }

    /// Logits of features normalised alike, f32 [M, c], in parts, each with the row it begins at.
    pub fn logits<'b>(
        &'b self,
        of: &'b Tensor,
        classifier: &Classifier,
    ) -> impl Iterator<Item = (i64, Tensor)> + 'b {
        let folded = Folded::new(&classifier.0, self.normalisation, Kind::Float);
        chunks(of).map(move |(start, rows)| {
            let lengths = self.normalisation.inverse_lengths(&rows);
            (start, folded.logits(&rows, lengths.as_ref()))
        })
    }
}

/// A classifier of features that are not normalised yet, other than in length.
struct Folded {
    /// [D, c].
    weights: Tensor,
    /// `[c]`.
    intercept: Tensor,
}

impl Folded {
    fn new(classifier: &Tensor, normalisation: &Normalisation, kind: Kind) -> Self {
        let last = classifier.size()[1] - 1;
        let weights = classifier.narrow(1, 0, last) * &normalisation.scale;
        let intercept = classifier.select(1, last) - weights.mv(&normalisation.mean);
        Folded {
            weights: weights.to_kind(kind).tr(),
            intercept: intercept.to_kind(kind),
        }
    }

    fn logits(&self, rows: &Tensor, lengths: Option<&Tensor>) -> Tensor {
        match lengths {
            Some(lengths) => rows.matmul(&self.weights) * lengths.to_kind(rows.kind()) + &self.intercept,
            None => self.intercept.addmm(rows, &self.weights),
        }
    }
}

/// Covariance [D, D] of the normalised features, of at most 16 D rows spread over all of them: it only sets
/// the coordinates of the search.
fn covariance(x: &Tensor, normalisation: &Normalisation) -> Tensor {
    let (n, d) = (x.size()[0], x.size()[1]);
    let every = (n / (16 * d)).max(1);
    let mut sum = Tensor::zeros([d, d], (Kind::Double, x.device()));
    let mut count = 0;
    for (_, rows) in chunks(x) {
        let rows = normalisation.centred(&rows.slice(0, 0, i64::MAX, every));
        count += rows.size()[0];
        sum += rows.tr().matmul(&rows).to_kind(Kind::Double);
    }
    sum / count as f64
}
