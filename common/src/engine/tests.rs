//! A run whose device runs out of memory.

use super::*;
use crate::engine::{Loss, Source, StepContext, Task, TrainPlan};
use crate::optim::{Algorithm, OptimizerConfig, ParamGroup};
use crate::progress::Silent;
use crate::schedule::{Decay, Schedule};
use tch::nn::VarStore;
use tch::{Device, Kind};

struct Numbers;

impl Source for Numbers {
    type Batch = Tensor;

    fn batch(&mut self, epoch: u64, index: u64) -> Result<Tensor> {
        Ok(Tensor::from_slice(&[epoch as f32, index as f32]))
    }
}

/// Has memory for the steps before `room`.
struct Line {
    vs: VarStore,
    slope: Tensor,
    room: u64,
}

impl Task for Line {
    type Batch = Tensor;

    fn forward(&mut self, x: Tensor, at: &StepContext) -> Result<Loss> {
        if at.step >= self.room {
            let made_up =
                "CUDA out of memory. Tried to allocate 392.00 MiB. GPU 0 has a total capacity of 79 GiB";
            // As tch does it.
            panic!("{:?}", tch::TchError::Torch(made_up.into()));
        }
        let error: Tensor = &self.slope * &x - 3.0 * &x;
        Ok(Loss {
            total: error.square().mean(Kind::Float),
            parts: vec![],
        })
    }

    fn after_step(&mut self, _: &StepContext) -> Result<()> {
        Ok(())
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        self.vs.variables().into_iter().collect()
    }

    fn export(&self, _: &RunFolder, _: u64, _: u64) -> Result<()> {
        Ok(())
    }
}

// Ten steps in a folder, and the slope they end with.
fn run(folder: &std::path::Path, room: u64) -> Result<f64> {
    let vs = VarStore::new(Device::Cpu);
    let slope = vs.root().zeros("slope", &[1]);
    let config = OptimizerConfig {
        algorithm: Algorithm::Sgd,
        momentum: 0.9,
        nesterov: false,
        weight_decay: 0.0,
    };
    let schedule = Schedule {
        base_lr: 0.1,
        floor: 0.0,
        decay: Decay::Constant,
        milestones: vec![],
        gamma: 1.0,
        warmup_steps: 0,
        warmup_factor: 0.0,
        steps_per_epoch: 2,
        total_steps: 10,
    };
    let plan = TrainPlan {
        group: crate::distributed::Group::ALONE,
        seed: 0,
        device: Device::Cpu,
        epochs: 5,
        batches_per_epoch: 2,
        accumulate: 1,
        batch_size: 256,
        clip_norm: None,
        log_every: 5,
        save_every: Some(2),
        profile_step: None,
        keep_epochs: vec![],
        validate_every: None,
        earlier: vec![],
    };
    let mut optimizer = Optimizer::new(config, vec![ParamGroup::all(&vs)]);
    let mut line = Line { vs, slope, room };
    let run = RunFolder::begin(folder)?;
    let stop = AtomicBool::new(false);
    train(
        &mut line,
        Numbers,
        &mut optimizer,
        &schedule,
        &plan,
        &run,
        &Silent,
        &stop,
    )?;
    Ok(line.slope.double_value(&[0]))
}

#[test]
fn out_of_memory_names_the_batch_and_keeps_the_state() {
    let folder = tempfile::tempdir().unwrap();
    let error = run(folder.path(), 5).unwrap_err().to_string();
    for part in [
        "out of memory on cpu with 256 images in a batch (tried to allocate 392.00 MiB)",
        "the last good state (step 4) is kept in",
        "lower --batch-size",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let whole = tempfile::tempdir().unwrap();
    assert_eq!(run(folder.path(), 10).unwrap(), run(whole.path(), 10).unwrap());
    let nothing = tempfile::tempdir().unwrap();
    let error = run(nothing.path(), 0).unwrap_err().to_string();
    assert!(
        error.contains("no state had been saved before this step"),
        "{error}"
    );
}
