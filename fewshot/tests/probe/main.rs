//! The few-shot probe against scikit-learn's stored answers, and on inputs that are barely inputs at all.

mod degenerate;
mod golden;
mod sampling;

use camtrast_common::Result;
use camtrast_common::progress::Silent;
use camtrast_common::tensor_file::bytes_of;
use camtrast_fewshot::{EpisodeSet, Features, Score, ScoreOptions};
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

/// The score of features [N, D].
fn score(features: &Tensor, labels: &[i64], episodes: &EpisodeSet, options: &ScoreOptions) -> Result<Score> {
    let features = features.to_kind(Kind::Float).contiguous();
    let dimensions = features.size()[1] as usize;
    let rows = Features::from_bytes(bytes_of(&features), dimensions)?;
    camtrast_fewshot::score(&rows, labels, episodes, options, &Silent)
}

/// `classes` clusters of `each` images, [classes * each, dimensions] f32, and their labels: the first
/// dimension of a class's images is raised at its own place, the rest is a fixed quasi-random pattern.
fn clusters(classes: i64, each: i64, dimensions: i64) -> (Tensor, Vec<i64>) {
    let count = classes * each;
    let noise = ((Tensor::arange(count * dimensions, (Kind::Double, tch::Device::Cpu)) * 0.754_877_666)
        .frac())
    .view([count, -1]);
    let labels: Vec<i64> = (0..count).map(|i| i / each).collect();
    let centres = Tensor::from_slice(&labels)
        .one_hot(dimensions)
        .to_kind(Kind::Double);
    ((noise + centres).to_kind(Kind::Float), labels)
}

/// Writes a features file for `score_files`.
fn write_features(folder: &Path, features: &Tensor, labels: &[i64]) -> PathBuf {
    let path = folder.join("features.safetensors");
    // As other programs write them, NaN included.
    let tensors = [
        ("features", features.shallow_clone()),
        ("labels", Tensor::from_slice(labels)),
    ];
    Tensor::write_safetensors(&tensors, &path).unwrap();
    path
}
