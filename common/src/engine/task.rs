//! What the engine asks of a task and its data, and what it answers.

use crate::distributed::Group;
use crate::error::Result;
use crate::log::Picture;
use crate::run::RunFolder;
use crate::schedule::Schedule;
use std::collections::BTreeMap;
use tch::{Device, Tensor};

/// The position in a training; all randomness is derived from it.
#[derive(Debug, Clone, Copy)]
pub struct StepContext {
    /// The run's seed.
    pub seed: u64,
    /// Epoch, from 0.
    pub epoch: u64,
    /// Optimiser step over the whole run, from 0.
    pub step: u64,
    /// Batch within the epoch, from 0. With gradient accumulation several batches make a step.
    pub batch: u64,
    /// Optimiser steps in the whole run.
    pub total_steps: u64,
}

/// The loss of one batch.
pub struct Loss {
    /// What is minimised: a scalar with gradient.
    pub total: Tensor,
    /// Scalars worth logging.
    pub parts: Vec<(&'static str, Tensor)>,
}

/// What was seen on validation data.
#[derive(Debug, Clone, Default)]
pub struct Validated {
    /// Numbers by name.
    pub measures: BTreeMap<String, f64>,
    /// Pictures for TensorBoard.
    pub pictures: Vec<Picture>,
}

/// Prepares batches, on the loader thread.
pub trait Source: Send {
    /// What a step trains on.
    type Batch: Send;
    /// The batch of this index in this epoch. Must depend only on its arguments.
    ///
    /// # Errors
    /// Any error stops the run.
    fn batch(&mut self, epoch: u64, index: u64) -> Result<Self::Batch>;
}

/// What is trained.
pub trait Task {
    /// What a step trains on.
    type Batch: Send;
    /// Forward pass and loss of one batch, in whatever precision the task runs its network.
    ///
    /// # Errors
    /// Any error stops the run.
    fn forward(&mut self, batch: Self::Batch, at: &StepContext) -> Result<Loss>;
    /// Runs after the optimiser's step, such as the update of a momentum encoder.
    ///
    /// # Errors
    /// Any error stops the run.
    fn after_step(&mut self, at: &StepContext) -> Result<()>;
    /// Measures to log at the end of an epoch (from 0), by name; must not change any state.
    ///
    /// # Errors
    /// Any error stops the run.
    fn epoch_measures(&mut self, _epoch: u64) -> Result<Vec<(&'static str, f64)>> {
        Ok(Vec::new())
    }
    /// Measures and pictures of validation data after `step` steps, which go to the log; called where the
    /// plan asks for it, in all processes. Must not change any state, but may write a file of its own.
    ///
    /// # Errors
    /// Any error stops the run.
    fn validate(&mut self, _run: &RunFolder, _step: u64) -> Result<Validated> {
        Ok(Validated::default())
    }
    /// All tensors that training changes, by name; states are saved from them and restored into them.
    fn state(&self) -> BTreeMap<String, Tensor>;
    /// Those of the state that each process changes by its own part of the batch: running statistics of batch
    /// norm. They are averaged over the processes in every step.
    fn statistics(&self) -> Vec<Tensor> {
        let own = |name: &str| name.ends_with(".running_mean") || name.ends_with(".running_var");
        let state = self.state().into_iter();
        state
            .filter(|(name, _)| own(name))
            .map(|(_, tensor)| tensor)
            .collect()
    }
    /// Writes the result of the run (a backbone, for example) after `step` steps.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    fn export(&self, run: &RunFolder, epoch: u64, step: u64) -> Result<()>;
}

/// How to train.
pub struct TrainPlan {
    /// The run's seed.
    pub seed: u64,
    /// Where tensors live.
    pub device: Device,
    /// The processes that train together, each on its part of every batch.
    pub group: Group,
    /// Epochs in all.
    pub epochs: u64,
    /// Batches per epoch; a multiple of `accumulate`.
    pub batches_per_epoch: u64,
    /// Batches whose gradients make one step.
    pub accumulate: u64,
    /// Images in a batch, over all processes; a multiple of their number.
    pub batch_size: u64,
    /// Joint gradient norm above which gradients are scaled down.
    pub clip_norm: Option<f64>,
    /// Steps between log lines.
    pub log_every: u64,
    /// Steps between saved states; one is also saved every few minutes and at the end.
    pub save_every: Option<u64>,
    /// The step, from 0, that is recorded in [`PROFILE`].
    pub profile_step: Option<u64>,
    /// Epochs, counted from 1, at whose end state and result are saved, too.
    pub keep_epochs: Vec<u64>,
    /// Steps between measures on validation data, which are also taken after the last step.
    pub validate_every: Option<u64>,
    /// Of a run that was extended: the schedules that held before, each with the step at which it ended.
    pub earlier: Vec<(u64, Schedule)>,
}

impl TrainPlan {
    /// Optimiser steps in an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        self.batches_per_epoch / self.accumulate
    }

    // Whether a kept epoch ends with these steps.
    pub(super) fn keeps(&self, done: u64) -> bool {
        let steps = self.steps_per_epoch();
        self.keep_epochs.iter().any(|epoch| epoch * steps == done)
    }

    pub(super) fn validates(&self, done: u64) -> bool {
        let last = done == self.epochs * self.steps_per_epoch();
        self.validate_every
            .is_some_and(|every| last || done.is_multiple_of(every))
    }

    // The schedule of a step.
    pub(super) fn schedule_at<'a>(&'a self, step: u64, last: &'a Schedule) -> &'a Schedule {
        let earlier = self.earlier.iter().find(|(end, _)| step < *end);
        earlier.map_or(last, |(_, schedule)| schedule)
    }
}

/// File of a step's trace in the run's folder.
pub const PROFILE: &str = "profile.json";

/// How training ended.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Optimiser steps done in all.
    pub step: u64,
    /// Seconds of training in all, over all resumptions.
    pub seconds: f64,
    /// Whether `stop` ended it early; the state is saved.
    pub interrupted: bool,
    /// Whether an earlier call had done all steps already.
    pub was_done: bool,
    /// Means over the last epoch of the loss and, where it is among the loss's parts, the accuracy.
    pub last_epoch: [Option<f64>; 2],
}
