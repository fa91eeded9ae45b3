//! Accuracy of the linear probe over many episodes.
//!
//! Symbols as in [`logistic`]: E episodes, n support and q query images of c classes, D feature dimensions.
//! Only inner products of an episode's images are needed, so each image is gathered once and no weight vector
//! is ever formed.

use crate::episodes::{EpisodeSet, in_file};
use crate::logistic;
use camtrast_common::progress::Progress;
use camtrast_common::tensor_file::TensorFile;
use camtrast_common::{Error, Result};
use serde::Serialize;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// The probe's settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoreOptions {
    /// Divide every feature vector by its Euclidean norm first; zero vectors stay zero.
    pub normalise: bool,
    /// scikit-learn's C, the weight of the cross-entropy against the penalty.
    pub c: f64,
}

impl Default for ScoreOptions {
    fn default() -> Self {
        ScoreOptions {
            normalise: true,
            c: 1.0,
        }
    }
}

/// Accuracies as fractions in 0..1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    /// Mean over the episodes.
    pub mean: f64,
    /// Half-width of the mean's 95 % confidence interval, `1.96 * std(ddof=1) / sqrt(E)`; NaN (null in JSON)
    /// for one episode.
    pub ci95: f64,
    /// Share of correctly classified queries, `[E]`, in the episodes' order.
    pub per_episode: Vec<f64>,
}

/// Fits every episode's classifier and counts its correct queries.
///
/// `features` [N, D] floating point, on the device to compute on; `labels` `[N]`, the class of every image,
/// against which the episodes are checked. The same as scikit-learn's `LogisticRegression(C=c)` run to
/// convergence in float64. Progress is counted in episodes.
///
/// # Errors
/// [`Error::Settings`] for features of another shape, with NaN or infinite values, episodes that do not fit
/// them ([`EpisodeSet::check`]), or classifiers that do not converge ([`logistic::fit`]).
pub fn score(
    features: &Tensor,
    labels: &[i64],
    episodes: &EpisodeSet,
    options: &ScoreOptions,
    progress: &dyn Progress,
) -> Result<Score> {
    let _no_grad = tch::no_grad_guard();
    check_features(features, labels)?;
    episodes.check(labels)?;
    let norms = row_norms(features)?;
    let scales = if options.normalise {
        inverse_or_zero(&norms)
    } else {
        norms.ones_like()
    };
    let solver = logistic::SolverOptions {
        c: equivalent_c(options.c, episodes.ways),
        ..Default::default()
    };

    let device = features.device();
    let (ways, n) = (episodes.ways as i64, (episodes.ways * episodes.shots) as i64);
    let q = (episodes.ways * episodes.queries) as i64;
    let targets = |each: usize| {
        Tensor::arange(ways, (Kind::Int64, device)).repeat_interleave_self_int(each as i64, 0, None)
    };
    let (support_targets, query_targets) = (targets(episodes.shots), targets(episodes.queries));

    let total = episodes.episodes.len();
    progress.start("few-shot episodes", total as u64, 0);
    let mut per_episode = Vec::with_capacity(total);
    // The solver's matrices, then the inner products, in float64.
    let chunk = fitting(8 * (4 * ways * n * n + (n + q) * n), device);
    for episodes in episodes.episodes.chunks(chunk) {
        let indices: Vec<i64> = episodes
            .iter()
            .flat_map(|e| e.support.iter().chain(&e.query).flatten().copied())
            .collect();
        let rows = Tensor::from_slice(&indices).view([-1, n + q]).to_device(device);
        let products = inner_products(features, &scales, &rows, n);
        let support_targets = support_targets.expand([rows.size()[0], n], false);
        let solution = logistic::fit(
            &products.narrow(2, 0, n).contiguous(),
            &support_targets,
            ways,
            &solver,
        )?;
        let right = solution
            .predict(&products.narrow(2, n, q).transpose(1, 2))
            .eq_tensor(&query_targets)
            .sum_dim_intlist(1, false, None);
        per_episode.extend(
            Vec::<i64>::try_from(&right)?
                .into_iter()
                .map(|right| right as f64 / q as f64),
        );
        progress.advance(
            episodes.len() as u64,
            &format!("accuracy {:.2} %", 100.0 * mean(&per_episode)),
        );
    }
    progress.finish();
    Ok(Score {
        mean: mean(&per_episode),
        ci95: ci95(&per_episode),
        per_episode,
    })
}

/// [`score()`] on the features of any model: a safetensors file with `features` (f32, N x D) and `labels`
/// (i64, N), and an episodes file.
///
/// # Errors
/// As [`score()`], naming the file at fault, and those of [`TensorFile::open`] and [`EpisodeSet::load`].
pub fn score_files(
    features: &Path,
    episodes: &Path,
    options: &ScoreOptions,
    device: Device,
    progress: &dyn Progress,
) -> Result<Score> {
    let file = TensorFile::open(features)?;
    // Asking for the bytes checks the types.
    file.bytes("features", Kind::Float)?;
    file.bytes("labels", Kind::Int64)?;
    let labels = Vec::<i64>::try_from(file.tensor("labels")?.view([-1]))?;
    let set = EpisodeSet::load(episodes)?;
    set.check(&labels).map_err(in_file(episodes))?;
    // The error about rows that are not finite follows below.
    let tensor = file.any_tensor("features")?.to_device(device);
    score(&tensor, &labels, &set, options, progress).map_err(in_file(features))
}

fn check_features(features: &Tensor, labels: &[i64]) -> Result<()> {
    let shape = features.size();
    if shape.len() != 2 || shape[0] != labels.len() as i64 || shape[1] == 0 || !features.is_floating_point() {
        return Err(Error::settings(
            format!(
                "features are {:?} {shape:?} for {} labels",
                features.kind(),
                labels.len()
            ),
            "there must be one row of floating-point features for every label",
        ));
    }
    Ok(())
}

/// The C of the multinomial problem that equals scikit-learn's: for two classes it fits a single weight
/// vector, whose penalty is twice that of two opposite ones.
fn equivalent_c(c: f64, ways: usize) -> f64 {
    if ways == 2 { c / 2.0 } else { c }
}

/// Euclidean norms of the rows, `[N]` float64.
fn row_norms(features: &Tensor) -> Result<Tensor> {
    let (rows, dimensions) = features.size2()?;
    let norms: Vec<Tensor> = spans(rows, fitting(8 * dimensions, features.device()) as i64)
        .map(|(start, length)| {
            features
                .narrow(0, start, length)
                .to_kind(Kind::Double)
                .norm_scalaropt_dim(2, 1, false)
        })
        .collect();
    let norms = Tensor::cat(&norms, 0);
    let broken = norms.isfinite().logical_not();
    if broken.any().int64_value(&[]) != 0 {
        let row = broken.to_kind(Kind::Int64).argmax(0, false).int64_value(&[]);
        let count = broken.sum(Kind::Int64).int64_value(&[]);
        return Err(Error::settings(
            format!("{count} feature rows hold NaN or infinite values, the first is row {row}"),
            "check for a diverged backbone or broken images, then compute the features again",
        ));
    }
    Ok(norms)
}

fn inverse_or_zero(norms: &Tensor) -> Tensor {
    norms.reciprocal().where_self(&norms.gt(0.0), &norms.zeros_like())
}

/// Inner products [E, n, n + q] float64 of the first n images of each episode with all of `rows` [E, n + q],
/// scaled.
fn inner_products(features: &Tensor, scales: &Tensor, rows: &Tensor, n: i64) -> Tensor {
    let ((episodes, images), dimensions) = (rows.size2().expect("rows are [E, n + q]"), features.size()[1]);
    let chunk = fitting(12 * images * dimensions, features.device()) as i64;
    let products: Vec<Tensor> = spans(episodes, chunk)
        .map(|(start, length)| {
            let rows = rows.narrow(0, start, length).reshape([-1]);
            let gathered = features
                .index_select(0, &rows)
                .to_kind(Kind::Double)
                .view([length, images, dimensions]);
            gathered.narrow(1, 0, n).bmm(&gathered.transpose(1, 2))
        })
        .collect();
    // Scaling products instead of features touches D times fewer numbers.
    let scales = scales
        .index_select(0, &rows.reshape([-1]))
        .view([episodes, images, 1]);
    Tensor::cat(&products, 0) * scales.narrow(1, 0, n) * scales.transpose(1, 2)
}

/// How many units of this many bytes to process at once: as many as fit a CPU's cache, or fill a GPU.
fn fitting(unit_bytes: i64, device: Device) -> usize {
    let budget: i64 = if device.is_cuda() { 1 << 30 } else { 16 << 20 };
    (budget / unit_bytes.max(1)).max(1) as usize
}

/// Pieces (start, length) of `0..total`.
fn spans(total: i64, piece: i64) -> impl Iterator<Item = (i64, i64)> {
    (0..total)
        .step_by(piece as usize)
        .map(move |start| (start, piece.min(total - start)))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn ci95(values: &[f64]) -> f64 {
    let (mean, count) = (mean(values), values.len() as f64);
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (count - 1.0);
    1.96 * (variance / count).sqrt()
}
