//! The linear probe: a classifier on frozen features, its setting chosen on a part of the training images.

use crate::accuracy::{Accuracy, Tally};
use crate::features::Normalisation;
use crate::logistic::{Classifier, Problem, ROUGH, TOLERANCE};
use crate::sgd;
use crate::split::Split;
use crate::task::ProbeTask;
use camtrast_common::Result;
use camtrast_common::device::send;
use camtrast_common::progress::Progress;
use tch::{Kind, Tensor};

/// How the classifier is found.
#[derive(Debug, Clone)]
pub enum Protocol {
    /// At the optimum of scikit-learn's `LogisticRegression`, for the best of these C.
    Exact(Vec<f64>),
    /// By SGD, for the best of these learning rates.
    Sgd(Vec<f64>, sgd::Course),
}

impl Protocol {
    /// The values of C, or the learning rates.
    pub fn settings(&self) -> &[f64] {
        let (Protocol::Exact(settings) | Protocol::Sgd(settings, _)) = self;
        settings
    }

    /// What they are called: `C` or `lr`.
    pub fn setting(&self) -> &'static str {
        match self {
            Protocol::Exact(_) => "C",
            Protocol::Sgd(..) => "lr",
        }
    }
}

/// The values of C that are tried unless others are given.
pub const GRID: [f64; 8] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0];

/// The linear probe's result.
#[derive(Debug, Clone)]
pub struct Linear {
    /// What the settings are called: [`Protocol::setting`].
    pub setting: &'static str,
    /// The setting chosen.
    pub chosen: f64,
    /// Each setting and its accuracy on the validation images in 0..1; empty when there was no choice.
    pub grid: Vec<(f64, f64)>,
    /// On the test images.
    pub accuracy: Accuracy,
}

impl Linear {
    /// Whether the best setting is the first or the last of several, so that a better one may lie outside.
    pub fn at_the_end(&self) -> bool {
        let ends = [self.grid.first(), self.grid.last()];
        ends.into_iter().flatten().any(|(value, _)| *value == self.chosen)
    }
}

/// Chooses the setting on the validation images of `split`, trains with it on all training images and tests.
/// Without a split the first setting is used.
///
/// # Errors
/// Those of [`Problem::new`] and [`Problem::fit`].
pub fn run(
    task: &ProbeTask,
    normalisation: &Normalisation,
    protocol: &Protocol,
    split: Option<&Split>,
    progress: &dyn Progress,
) -> Result<Linear> {
    let (train, test, classes) = (&task.train, &task.test, task.classes.len());
    let problem = Problem::new(&train.x, normalisation, &train.labels, classes as i64)?;
    let settings = protocol.settings();
    let by_sgd = |settings: &[f64], rows: &[i64], course| {
        sgd::train(task, normalisation, rows, settings, course, progress)
    };
    let mut grid = Vec::new();
    let mut best = (f64::NEG_INFINITY, settings[0], problem.zero());
    if let Some(split) = split.filter(|_| settings.len() > 1) {
        let [training, validation] = split.rows();
        let rows = send(Tensor::from_slice(&validation), train.x.device());
        let held = train.x.index_select(0, &rows);
        let labels: Vec<i64> = validation.iter().map(|&row| train.labels[row as usize]).collect();
        let used: Vec<f32> = split.validation.iter().map(|&held| f32::from(!held)).collect();
        let used = send(Tensor::from_slice(&used), train.x.device()).unsqueeze(1);
        let mut trained = match protocol {
            Protocol::Exact(_) => Vec::new(),
            Protocol::Sgd(settings, course) => by_sgd(settings, &training, *course),
        }
        .into_iter();
        progress.start("settings of the linear classifier", settings.len() as u64, 0);
        let mut last = problem.zero();
        for &setting in settings {
            // Each optimum is near the last one.
            last = match trained.next() {
                Some(classifier) => classifier,
                None => problem.fit(setting, &used, &last, ROUGH)?,
            };
            let accuracy = tally(&problem, &held, &labels, &last).top1();
            grid.push((setting, accuracy));
            if accuracy > best.0 {
                best = (accuracy, setting, Classifier(last.0.copy()));
            }
            progress.advance(1, "");
        }
        progress.finish();
    }
    let (_, chosen, start) = best;
    let classifier = match protocol {
        Protocol::Exact(_) => {
            let used = Tensor::ones([train.count(), 1], (Kind::Float, train.x.device()));
            problem.fit(chosen, &used, &start, TOLERANCE)?
        }
        Protocol::Sgd(_, course) => {
            let all: Vec<i64> = (0..train.count()).collect();
            by_sgd(&[chosen], &all, *course).swap_remove(0)
        }
    };
    Ok(Linear {
        setting: protocol.setting(),
        chosen,
        grid,
        accuracy: tally(&problem, &test.x, &test.labels, &classifier).accuracy(&test.labels, classes),
    })
}

fn tally(problem: &Problem, x: &Tensor, labels: &[i64], classifier: &Classifier) -> Tally {
    let targets = send(Tensor::from_slice(labels), x.device());
    let mut tally = Tally::default();
    for (start, logits) in problem.logits(x, classifier) {
        tally.add(&logits, &targets.narrow(0, start, logits.size()[0]));
    }
    tally
}
