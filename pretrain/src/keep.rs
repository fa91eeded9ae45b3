//! `--keep-epochs`: backbones of epochs on the way.

use camtrast_common::checkpoint::kept_file;
use camtrast_common::engine::TrainPlan;
use camtrast_common::run::RunFolder;
use camtrast_common::{Error, Result};
use std::collections::BTreeMap;
use tch::nn::VarStore;
use tch::{Tensor, no_grad};

/// Refuses epochs that a run does not have.
///
/// # Errors
/// [`Error::Settings`].
pub(crate) fn check(plan: &TrainPlan) -> Result<()> {
    let all = 1..=plan.epochs;
    match plan.keep_epochs.iter().find(|epoch| !all.contains(epoch)) {
        None => Ok(()),
        Some(epoch) => Err(Error::settings(
            format!(
                "--keep-epochs {epoch} is not one of this run's {} epochs",
                plan.epochs
            ),
            "epochs are counted from 1",
        )),
    }
}

/// Refuses epochs that are over without having been kept; `saved` is the step of the run's state.
///
/// # Errors
/// [`Error::Settings`].
pub(crate) fn check_kept(run: &RunFolder, plan: &TrainPlan, saved: u64) -> Result<()> {
    let over = epochs_by_step(plan).into_iter().filter(|(step, _)| *step < saved);
    match over
        .map(|(_, epoch)| epoch)
        .find(|epoch| !run.file(&kept_file(*epoch)).exists())
    {
        None => Ok(()),
        Some(epoch) => Err(Error::settings(
            format!(
                "epoch {epoch} of {} is over and was not kept",
                run.path().display()
            ),
            "leave it out of --keep-epochs, or --overwrite to start again",
        )),
    }
}

/// Kept epochs by the step that ends them.
pub(crate) fn epochs_by_step(plan: &TrainPlan) -> BTreeMap<u64, u64> {
    let step = |&epoch: &u64| (epoch * plan.steps_per_epoch(), epoch);
    plan.keep_epochs.iter().map(step).collect()
}

/// Running statistics of batch norm, with copies of their values.
pub(crate) struct Statistics(Vec<(Tensor, Tensor)>);

impl Statistics {
    /// Of all variables.
    pub fn of(vs: &VarStore) -> Self {
        let statistic = |name: &str| name.contains("running_") || name.ends_with("num_batches_tracked");
        let all = vs.variables().into_iter();
        let own = all.filter(|(name, _)| statistic(name));
        Statistics(own.map(|(_, tensor)| (tensor.copy(), tensor)).collect())
    }

    /// Gives them their values again.
    pub fn restore(self) {
        for (value, mut tensor) in self.0 {
            no_grad(|| tensor.copy_(&value));
        }
    }
}
