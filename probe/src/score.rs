//! All probes of one set of features.

use crate::accuracy::Accuracy;
use crate::features::{Normalisation, Normalize};
use crate::linear::{self, Linear, Protocol};
use crate::neighbours::{Neighbours, TEMPERATURE};
use crate::split::Split;
use crate::task::ProbeTask;
use camtrast_common::Result;
use camtrast_common::device::send;
use camtrast_common::progress::Progress;
use camtrast_common::run::Metrics;
use tch::Tensor;

/// The settings of the probes.
#[derive(Debug, Clone)]
pub struct ScoreOptions {
    /// What is done to the features first.
    pub normalize: Normalize,
    /// How the linear classifier is found; `None`: it is not.
    pub linear: Option<Protocol>,
    /// Numbers of neighbours; none: they are not looked for.
    pub ks: Vec<usize>,
    /// Temperature of the neighbours' votes; `None`: plain majority.
    pub temperature: Option<f64>,
    /// Whether to vote with [`TEMPERATURE`], too.
    pub weighted: bool,
    /// Share of each class's training images that settings are chosen on.
    pub validation: f64,
    /// Seed of this choice.
    pub seed: u64,
}

/// The results of the probes.
#[derive(Debug, Clone)]
pub struct Score {
    /// Of the linear classifier.
    pub linear: Option<Linear>,
    /// Of neighbours, for each way of voting.
    pub neighbours: Vec<Vote>,
    /// The part of the training images that settings were chosen on, if there was a choice.
    pub split: Option<Split>,
}

/// Accuracy of nearest neighbours.
#[derive(Debug, Clone)]
pub struct Vote {
    /// `knn`, or `knn_weighted`.
    pub name: &'static str,
    /// The k chosen.
    pub chosen: usize,
    /// Each k, its accuracy on the validation images if there was a choice, and on the test images.
    pub each: Vec<(usize, Option<f64>, Accuracy)>,
}

impl ScoreOptions {
    /// Whether any setting has several values to choose from.
    pub fn has_choice(&self) -> bool {
        let settings = self
            .linear
            .as_ref()
            .map_or(0, |protocol| protocol.settings().len());
        settings > 1 || self.ks.len() > 1
    }
}

/// Runs all probes.
///
/// # Errors
/// Those of [`linear::run`], [`Neighbours::classify`] and [`Split::stratified`].
pub fn score(task: &ProbeTask, options: &ScoreOptions, progress: &dyn Progress) -> Result<Score> {
    let choice = || Split::stratified(&task.train.labels, options.validation, options.seed);
    let split = options.has_choice().then(choice).transpose()?;
    let normalisation = Normalisation::of(options.normalize, &task.train.x);
    let mut ways = vec![("knn", options.temperature)];
    if options.weighted && options.temperature.is_none() {
        ways.push(("knn_weighted", Some(TEMPERATURE)));
    }
    ways.retain(|_| !options.ks.is_empty());
    let vote = |(name, temperature)| {
        votes(
            task,
            &normalisation,
            &options.ks,
            name,
            temperature,
            split.as_ref(),
        )
    };
    let neighbours = ways.into_iter().map(vote).collect::<Result<_>>()?;
    let linear = |protocol| linear::run(task, &normalisation, protocol, split.as_ref(), progress);
    Ok(Score {
        linear: options.linear.as_ref().map(linear).transpose()?,
        neighbours,
        split,
    })
}

fn votes(
    task: &ProbeTask,
    normalisation: &Normalisation,
    ks: &[usize],
    name: &'static str,
    temperature: Option<f64>,
    split: Option<&Split>,
) -> Result<Vote> {
    let (train, test, classes) = (&task.train, &task.test, task.classes.len());
    let validation = match split.filter(|_| ks.len() > 1) {
        None => vec![None; ks.len()],
        Some(split) => {
            let parts = split.rows().map(|rows| {
                let labels: Vec<i64> = rows.iter().map(|&row| train.labels[row as usize]).collect();
                let rows = send(Tensor::from_slice(&rows), train.x.device());
                (train.x.index_select(0, &rows), labels)
            });
            let [(x, labels), (held, of_held)] = &parts;
            // A k above the number of images that are left is as good as all of them.
            let fitting: Vec<usize> = ks.iter().map(|&k| k.min(labels.len())).collect();
            Neighbours::new(x, labels, classes, normalisation, temperature)
                .classify(held, of_held, &fitting)?
                .into_iter()
                .map(|tally| Some(tally.top1()))
                .collect()
        }
    };
    let tallies = Neighbours::new(&train.x, &train.labels, classes, normalisation, temperature).classify(
        &test.x,
        &test.labels,
        ks,
    )?;
    let accuracies = tallies.iter().map(|tally| tally.accuracy(&test.labels, classes));
    let mut best = 0;
    for place in 1..ks.len() {
        if validation[place] > validation[best] {
            best = place;
        }
    }
    Ok(Vote {
        name,
        chosen: ks[best],
        each: ks
            .iter()
            .zip(validation)
            .zip(accuracies)
            .map(|((&k, v), a)| (k, v, a))
            .collect(),
    })
}

impl Vote {
    /// The accuracy with the k chosen.
    pub fn accuracy(&self) -> &Accuracy {
        let chosen = self.each.iter().find(|(k, ..)| *k == self.chosen);
        &chosen.expect("it is one of them").2
    }
}

impl Score {
    /// The numbers by their names in metrics.json; `names` are those of the classes.
    pub fn metrics(&self, names: &[String]) -> Metrics {
        let mut metrics = Metrics::new();
        if let Some(linear) = &self.linear {
            let setting = linear.setting;
            metrics.extend(linear.accuracy.metrics("probe/linear", names));
            metrics.insert(format!("probe/linear/{setting}"), linear.chosen);
            for (value, accuracy) in &linear.grid {
                metrics.insert(format!("probe/linear/validation/{setting}={value}"), *accuracy);
            }
        }
        for vote in &self.neighbours {
            let prefix = format!("probe/{}", vote.name);
            metrics.extend(vote.accuracy().metrics(&prefix, names));
            metrics.insert(format!("{prefix}/k"), vote.chosen as f64);
            for (k, validation, accuracy) in &vote.each {
                metrics.insert(format!("{prefix}/k={k}/top1"), accuracy.top1);
                if let Some(validation) = validation {
                    metrics.insert(format!("{prefix}/validation/k={k}"), *validation);
                }
            }
        }
        metrics
    }
}
