//! The few-shot probe of a backbone on a pack.

use crate::episodes::{EpisodeSet, Protocol};
use crate::features::Features;
use crate::score::{Score, ScoreOptions, score};
use camtrast_common::Result;
use camtrast_common::checkpoint::Backbone;
use camtrast_common::device::{Precision, on_host};
use camtrast_common::distributed::Group;
use camtrast_common::features::extract;
use camtrast_common::progress::Progress;
use camtrast_common::tensor_file::bytes_of;
use camtrast_datasets::Pack;
use tch::{Device, Kind};

/// The protocol of an evaluation.
#[derive(Debug, Clone)]
pub struct EvalOptions {
    /// Classes per episode.
    pub ways: usize,
    /// Support images per class, one result each.
    pub shots: Vec<usize>,
    /// Query images per class.
    pub queries: usize,
    /// Number of episodes.
    pub episodes: usize,
    /// Seed of the episodes.
    pub seed: u64,
    /// Precision of the backbone's forward pass.
    pub precision: Precision,
    /// The probe's own settings.
    pub probe: ScoreOptions,
}

/// The result for one number of shots.
#[derive(Debug, Clone, PartialEq)]
pub struct EvalResult {
    /// Classes per episode.
    pub ways: usize,
    /// Support images per class.
    pub shots: usize,
    /// Accuracies.
    pub score: Score,
    /// [`EpisodeSet::sha256`] of the episodes.
    pub episodes_sha256: String,
}

impl EvalResult {
    /// The metric's name, such as `fewshot/5way1shot`.
    pub fn name(&self) -> String {
        format!("fewshot/{}way{}shot", self.ways, self.shots)
    }
}

/// Extracts each image's feature once, on `device`, the work shared among the processes of `group`, and
/// scores every protocol's episodes on them, on the CPU.
///
/// # Errors
/// [`camtrast_common::Error::Settings`] when the pack has too few classes, or a class too few images;
/// otherwise as [`extract`] and [`score()`].
pub fn eval(
    backbone: &Backbone,
    pack: &Pack,
    device: Device,
    group: Group,
    options: &EvalOptions,
    progress: &dyn Progress,
) -> Result<Vec<EvalResult>> {
    let EvalOptions {
        ways,
        queries,
        episodes,
        seed,
        ..
    } = *options;
    // All episodes are drawn first: a pack that is too small fails before any other work.
    let sample = |&shots: &usize| {
        EpisodeSet::sample(
            pack.labels(),
            &Protocol {
                ways,
                shots,
                queries,
                episodes,
            },
            seed,
        )
    };
    let sets = options.shots.iter().map(sample).collect::<Result<Vec<_>>>()?;
    let features = extract(backbone, pack, device, options.precision, group, progress)?;
    let features = on_host(&features.to_kind(Kind::Float));
    let features = Features::from_bytes(bytes_of(&features), features.size2()?.1 as usize)?;
    let result = |set: &EpisodeSet| {
        let score = score(&features, pack.labels(), set, &options.probe, progress)?;
        Ok(EvalResult {
            ways,
            shots: set.shots,
            score,
            episodes_sha256: set.sha256(pack.sha256()),
        })
    };
    sets.iter().map(result).collect()
}
