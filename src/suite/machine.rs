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
    /// Precision of networks, in place of the recipe's: fp32 or bf16
    #[arg(long, help_heading = "Common")]
    precision: Option<Precision>,
    /// Threads of each command on the CPU, in place of the recipe's
    #[arg(long, help_heading = "Common", value_parser = thread_count)]
    threads: Option<usize>,
    /// Print results and errors only
    #[arg(long, help_heading = "Common")]
    pub quiet: bool,
}

impl MachineArgs {
    /// Puts what is asked for here in the place of what a recipe says.
    pub fn replace(&self, recipe: &mut SuiteRecipe) {
        if let Some(precision) = self.precision {
            recipe
                .pretrain
                .insert("precision".into(), precision.to_string().into());
        }
    }

    /// The machine as asked for, with so many commands at a time. Must come before anything else touches
    /// libtorch.
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
    /// Commands at a time.
    pub jobs: usize,
    /// What each command computes on.
    pub device: tch::Device,
    /// Threads of each command, in place of the recipe's.
    pub threads: Option<usize>,
    /// Threads of a command where neither says any: what libtorch takes here by itself.
    pub default_threads: usize,
    pub quiet: bool,
    /// Suites whose results of the same key are taken over.
    pub reuse: Vec<PathBuf>,
}

impl Machine {
    /// Threads of a command for which its recipe asks for `recipe`.
    pub fn threads(&self, recipe: Option<usize>) -> usize {
        self.threads.or(recipe).unwrap_or(self.default_threads)
    }
}
