//! The machine that a suite runs on.

use super::recipe::SuiteRecipe;
use crate::commands::thread_count;
use anyhow::Result;
use camtrast_common::device::{DeviceChoice, Precision};
use clap::Args;
use std::path::PathBuf;

/// Flags of the machine that a suite runs on.
#[derive(Args)]
pub struct MachineArgs {
    /// cpu, cuda, cuda:N or auto
    #[arg(long, default_value = "auto", help_heading = "Common")]
    device: DeviceChoice,
    /// Precision of networks, fp32 or bf16; replaces the recipe's
    #[arg(long, help_heading = "Common")]
    precision: Option<Precision>,
    /// CPU threads of each command; replaces the recipe's
    #[arg(long, help_heading = "Common", value_parser = thread_count)]
    threads: Option<usize>,
    /// Print results and errors only
    #[arg(long, help_heading = "Common")]
    pub quiet: bool,
}

impl MachineArgs {
    /// Replaces settings of a recipe by those given here.
    pub fn replace(&self, recipe: &mut SuiteRecipe) {
        if let Some(precision) = self.precision {
            recipe
                .pretrain
                .insert("precision".into(), precision.to_string().into());
        }
    }

    /// The same flags for a command on another machine.
    pub fn flags(&self) -> Vec<String> {
        let threads = self.threads.map(|threads| format!("--threads={threads}"));
        [format!("--device={}", self.device)]
            .into_iter()
            .chain(threads)
            .collect()
    }

    /// The machine that plans what jobs on other machines run.
    pub fn of_jobs(&self) -> Machine {
        Machine {
            jobs: 1,
            device: tch::Device::Cpu,
            threads: self.threads,
            default_threads: 1,
            quiet: self.quiet,
            reuse: Vec::new(),
        }
    }

    /// The machine as these flags describe it, with `jobs` commands in parallel. Must come before anything
    /// else touches libtorch.
    pub fn open(&self, jobs: u64) -> Result<Machine> {
        let device = self.device.open()?;
        self.threads
            .inspect(|threads| tch::set_num_threads(*threads as i32));
        Ok(Machine {
            jobs: jobs as usize,
            device,
            threads: self.threads,
            default_threads: tch::get_num_threads().max(1) as usize,
            quiet: self.quiet,
            reuse: Vec::new(),
        })
    }
}

/// How commands are run on this machine.
pub struct Machine {
    /// Commands to run in parallel.
    pub jobs: usize,
    /// Device of each command.
    pub device: tch::Device,
    /// Threads of each command; replaces the recipe's.
    pub threads: Option<usize>,
    /// Threads of a command when neither sets any: libtorch's default on this machine.
    pub default_threads: usize,
    pub quiet: bool,
    /// Suites whose results with the same key are copied.
    pub reuse: Vec<PathBuf>,
}

impl Machine {
    /// Threads of a command for which its recipe asks for `recipe`.
    pub fn threads(&self, recipe: Option<usize>) -> usize {
        self.threads.or(recipe).unwrap_or(self.default_threads)
    }
}
