//! Accuracy of the linear probe over many episodes.
//!
//! Symbols as in [`logistic`]: n support and q query images of c classes, D feature dimensions. Only inner
//! products of an episode's images are needed, so features are read in place and no weight vector is ever
//! formed.

use crate::episodes::{Episode, EpisodeSet, in_file};
use crate::features::Features;
use crate::logistic;
use crate::matrix::Matrix;
use crate::products::inner_products;
use camtrast_common::progress::Progress;
use camtrast_common::tensor_file::TensorFile;
use camtrast_common::{Error, Result};
use rayon::prelude::*;
use serde::Serialize;
use std::path::Path;
use tch::Kind;

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

/// Fits every episode's classifier and counts its correct queries, on all threads.
///
/// `features` [N, D]; `labels` `[N]`, the class of every image, against which the episodes are checked. The
/// same as scikit-learn's `LogisticRegression(C=c)` run to convergence in float64. Progress is counted in
/// episodes.
///
/// # Errors
/// [`Error::Settings`] for features of another number than labels, with NaN or infinite values, episodes that
/// do not fit them ([`EpisodeSet::check`]), or classifiers that do not converge ([`logistic::fit`]).
pub fn score(
    features: &Features,
    labels: &[i64],
    episodes: &EpisodeSet,
    options: &ScoreOptions,
    progress: &dyn Progress,
) -> Result<Score> {
    if features.count() != labels.len() {
        return Err(Error::settings(
            format!(
                "there are {} rows of features for {} labels",
                features.count(),
                labels.len()
            ),
            "there must be one row of features for every label",
        ));
    }
    episodes.check(labels)?;
    let norms = features.norms()?;
    let scales: Vec<f64> = match options.normalise {
        true => norms
            .iter()
            .map(|&norm| if norm > 0.0 { 1.0 / norm } else { 0.0 })
            .collect(),
        false => vec![1.0; norms.len()],
    };
    let solver = logistic::SolverOptions {
        c: equivalent_c(options.c, episodes.ways),
        ..Default::default()
    };
    progress.start("few-shot episodes", episodes.episodes.len() as u64, 0);
    let accuracies = episodes.episodes.par_iter().map(|episode| {
        let accuracy = accuracy(features, &scales, episode, &solver);
        progress.advance(1, "");
        accuracy
    });
    let accuracies: Vec<Result<f64>> = accuracies.collect();
    progress.finish();
    let per_episode: Vec<f64> = accuracies.into_iter().collect::<Result<_>>()?;
    Ok(Score {
        mean: mean(&per_episode),
        ci95: ci95(&per_episode),
        per_episode,
    })
}

/// The share of an episode's queries that its classifier gets right.
fn accuracy(
    features: &Features,
    scales: &[f64],
    episode: &Episode,
    solver: &logistic::SolverOptions,
) -> Result<f64> {
    let classes = |groups: &[Vec<i64>]| -> Vec<usize> {
        let class = |(class, images): (usize, &Vec<i64>)| vec![class; images.len()];
        groups.iter().enumerate().flat_map(class).collect()
    };
    let (support, query) = (classes(&episode.support), classes(&episode.query));
    let images = episode.support.iter().chain(&episode.query).flatten();
    let rows: Vec<usize> = images.map(|&index| index as usize).collect();
    let n = support.len();
    // Scaling products instead of features touches D times fewer numbers.
    let products = inner_products(features, &rows, n);
    let scaled = |i: usize, j: usize| products.row(i)[j] * scales[rows[i]] * scales[rows[j]];
    let solution = logistic::fit(
        &Matrix::from_fn(n, n, scaled),
        &support,
        episode.support.len(),
        solver,
    )?;
    let predicted = solution.predict(&Matrix::from_fn(n, query.len(), |i, j| scaled(i, n + j)));
    let right = predicted
        .iter()
        .zip(&query)
        .filter(|(predicted, class)| predicted == class);
    Ok(right.count() as f64 / query.len() as f64)
}

/// [`score()`] on the features of any model: a safetensors file with `features` (f32, N x D) and `labels`
/// (i64, N), and an episodes file. The features are read where the system maps the file, without a copy.
///
/// # Errors
/// As [`score()`], naming the file at fault, and those of [`TensorFile::open`] and [`EpisodeSet::load`].
pub fn score_files(
    features: &Path,
    episodes: &Path,
    options: &ScoreOptions,
    progress: &dyn Progress,
) -> Result<Score> {
    let file = TensorFile::open(features)?;
    let (shape, values) = file.bytes("features", Kind::Float)?;
    let labels = file.bytes("labels", Kind::Int64)?.1.as_chunks().0;
    let labels: Vec<i64> = labels.iter().map(|&label| i64::from_le_bytes(label)).collect();
    let set = EpisodeSet::load(episodes)?;
    set.check(&labels).map_err(in_file(episodes))?;
    let [_, dimensions] = shape[..] else {
        let problem = format!("features have the shape {shape:?}");
        return Err(Error::file(
            features,
            problem,
            "give one row of features for every label",
        ));
    };
    let rows = Features::from_bytes(values, dimensions as usize).map_err(in_file(features))?;
    score(&rows, &labels, &set, options, progress).map_err(in_file(features))
}

/// The C of the multinomial problem that equals scikit-learn's: for two classes it fits a single weight
/// vector, whose penalty is twice that of two opposite ones.
fn equivalent_c(c: f64, ways: usize) -> f64 {
    if ways == 2 { c / 2.0 } else { c }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn ci95(values: &[f64]) -> f64 {
    let (mean, count) = (mean(values), values.len() as f64);
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (count - 1.0);
    1.96 * (variance / count).sqrt()
}
