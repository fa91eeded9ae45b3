//! One file per command: its flags, and the plan that they make.

pub mod analyze;
pub mod checkpoint;
pub mod data;
pub mod detection;
pub mod fewshot;
pub mod finetune;
mod markdown;
pub mod predict;
pub mod pretrain;
pub mod probe;
pub mod report;
pub mod segmentation;
pub mod shell;
pub mod track;
pub mod transfer;

pub use crate::protocol::{is_json, metrics_path};

use crate::processes::{ProcessArgs, device_of};
use crate::protocol::Protocol;
use crate::screen::{Screen, clock};
use crate::track::{Target, tracking};
use anyhow::{Result, bail};
use camtrast_common::arithmetic::{self, Arithmetic};
use camtrast_common::checkpoint::Origin;
use camtrast_common::device::{DeviceChoice, device_name};
use camtrast_common::distributed::{Group, Place};
use camtrast_common::engine::Outcome;
use camtrast_common::progress::Progress;
use camtrast_common::run::{Build, RunOptions};
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once};
use std::thread::available_parallelism;
use tch::Device;

/// Does `work`, which makes the run, and tracks it where that is asked for; of several processes, one tracks.
pub fn tracked<T>(
    track: Option<&Target>,
    run: &RunOptions,
    screen: &Screen,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    tracking(track.filter(|_| run.group.leads()), &run.out, screen, work)
}

/// Prints how a training ended. An interrupted training is an error.
pub fn tell_outcome(what: &str, outcome: &Outcome, screen: &Screen) -> Result<()> {
    if outcome.interrupted {
        bail!(
            "interrupted at step {}; the state is saved, run the same command again to continue",
            outcome.step
        );
    }
    let loss = outcome.last_epoch[0]
        .map(|loss| format!(", loss {loss:.3}"))
        .unwrap_or_default();
    screen.note(&format!(
        "{what} done: {} steps in {}{loss}",
        outcome.step,
        clock(outcome.seconds)
    ));
    Ok(())
}

/// Prints settings with every default filled in, as a run's config.toml begins with them.
pub fn print_config(recipe: &impl Serialize) -> Result<()> {
    println!("{}", toml::to_string(recipe)?.trim_end());
    Ok(())
}

/// The name of a backbone: the folder's name for one in a run, the file's name for others.
pub fn checkpoint_name(path: &Path) -> String {
    let stem = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let folder = path
        .parent()
        .and_then(Path::file_name)
        .map(|n| n.to_string_lossy().into_owned());
    if stem == "backbone" {
        folder.unwrap_or(stem)
    } else {
        stem
    }
}

/// Warns when results come from a partial backbone.
pub fn tell_origin(origin: &Origin, screen: &Screen) {
    if let Some(partial) = &origin.partial {
        screen.note(&format!(
            "warning: the backbone was imported with {partial}; these numbers are marked with it"
        ));
    }
}

/// Flags that every command takes.
#[derive(Args, Debug, Clone)]
pub struct Common {
    /// TOML file whose keys are this command's flags; flags given here win
    #[arg(long, help_heading = "Common")]
    pub config: Option<PathBuf>,
    /// Seed of everything random
    #[arg(long, default_value_t = 0, help_heading = "Common")]
    pub seed: u64,
    /// cpu, cuda, cuda:N or auto
    #[arg(long, default_value = "auto", help_heading = "Common")]
    pub device: DeviceChoice,
    /// Precision of networks: fp32 or bf16
    #[arg(long, default_value = "fp32", help_heading = "Common")]
    pub precision: camtrast_common::device::Precision,
    /// CPU threads (default: all cores, shared by the processes on a machine)
    #[arg(long, help_heading = "Common", value_parser = thread_count)]
    pub threads: Option<usize>,
    /// Print results and errors only
    #[arg(long, help_heading = "Common")]
    pub quiet: bool,
}

/// Flags of the commands that train.
#[derive(Args, Debug, Clone)]
pub struct RunArgs {
    /// Folder of the run; the same command resumes an interrupted run
    #[arg(long, required_unless_present = "print_config")]
    out: Option<PathBuf>,
    /// Delete the run in the folder, if any, and start again
    #[arg(long)]
    overwrite: bool,
    /// Steps between log lines
    #[arg(long, default_value_t = 20)]
    log_every: u64,
    /// Steps between saved states (also saved every two minutes and at the end)
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    save_every: Option<u64>,
    /// Write a trace of this step (from 0) to profile.json, for chrome://tracing or ui.perfetto.dev
    #[arg(long)]
    profile_step: Option<u64>,
    /// Copy the run, while it is made, to mlflow:DIR (MLflow's file store), mlflow:http://HOST:PORT (a
    /// server) or csv:DIR
    #[arg(long, value_name = "TARGET")]
    pub track: Option<Target>,
    /// Print all settings, defaults included, as TOML that --config reads, and train nothing
    #[arg(long)]
    pub print_config: bool,
    #[command(flatten)]
    pub arithmetic: Arithmetic,
    #[command(flatten)]
    pub processes: ProcessArgs,
}

impl RunArgs {
    /// These flags as run settings, with the device, the processes and this program's version.
    pub fn options(self, device: Device, group: Group) -> RunOptions {
        let RunArgs {
            out,
            overwrite,
            log_every,
            save_every,
            profile_step,
            track: _,
            print_config: _,
            arithmetic: _,
            processes: _,
        } = self;
        let build = Build {
            version: env!("CARGO_PKG_VERSION").into(),
            commit: env!("CAMTRAST_COMMIT").into(),
        };
        RunOptions {
            out: out.expect("a run that is more than printed has a folder"),
            overwrite,
            device,
            group,
            log_every,
            save_every,
            profile_step,
            build,
        }
    }
}

impl Common {
    /// Opens the device and the screen. Must come before anything else touches libtorch.
    pub fn open(&self) -> Result<(Device, Screen)> {
        self.open_at(None)
    }

    /// The same for a command whose work several processes share, and joins them.
    pub fn open_shared(&self, processes: &ProcessArgs) -> Result<(Device, Screen, Group)> {
        let place = processes.place()?;
        let (device, screen) = self.open_at(place.as_ref())?;
        Ok((device, screen, processes.join(place, device)?))
    }

    fn open_at(&self, place: Option<&Place>) -> Result<(Device, Screen)> {
        let found = device_of(self.device, place).find()?;
        let cores = || available_parallelism().map_or(1, |n| n.get());
        let shared = place.map(|_| (cores() / processes_here()).max(1));
        let threads = self.threads.or(shared);
        let screen = self.screen_with(threads, place.is_some_and(|place| place.rank > 0))?;
        try_threads(threads.unwrap_or_else(cores))?;
        if let Some(threads) = threads {
            tch::set_num_threads(threads as i32);
        }
        arithmetic::check_precision(self.precision, found.device)?;
        // What a GPU calls float32 by default has TF32's ten bits in convolutions.
        Arithmetic::default().begin(found.device, false)?;
        let device = device_name(found.device);
        screen.note(&match found.unused_gpu {
            true => format!(
                "warning: computing on {device}, though this machine has an NVIDIA GPU: {}",
                found.why
            ),
            false => format!("computing on {device} ({})", found.why),
        });
        if arithmetic::is_slow(self.precision, found.device) {
            screen.note(
                "warning: this processor has no AVX-512, without which bf16 is several times slower than \
                 fp32; use --precision fp32",
            );
        }
        Ok((found.device, screen))
    }

    /// Adds the common settings that change results to the record of an evaluation.
    pub fn record(&self, protocol: &mut Protocol) {
        protocol.set("seed", self.seed as i64);
        protocol.set_if("threads", self.threads.map(|threads| threads as i64));
        protocol.set(
            "precision",
            toml::Value::try_from(self.precision).expect("a name serialises"),
        );
    }

    /// The screen, for commands that process images without libtorch.
    pub fn screen(&self) -> Result<Screen> {
        self.screen_with(self.threads, false)
    }

    fn screen_with(&self, threads: Option<usize>, silent: bool) -> Result<Screen> {
        static POOL: Once = Once::new();
        let mut built = Ok(());
        // 0: one per core.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0));
        POOL.call_once(|| built = pool.build_global());
        built.map_err(|error| camtrast_common::Error::thread(std::io::Error::other(error)))?;
        if silent {
            crate::output::silence();
            return Ok(Screen::silent());
        }
        Ok(Screen::new(self.quiet))
    }
}

/// Processes of a group on this machine, as torchrun and `--nproc` say; srun gives each its own cores.
fn processes_here() -> usize {
    let text = std::env::var("LOCAL_WORLD_SIZE").unwrap_or_default();
    text.parse().ok().filter(|count| *count > 0).unwrap_or(1)
}

/// The value of `--threads`.
pub fn thread_count(text: &str) -> Result<usize, String> {
    let count = text
        .parse()
        .ok()
        .filter(|count| (1..=MOST_THREADS).contains(count));
    count.ok_or_else(|| format!("give a number from 1 to {MOST_THREADS}"))
}

/// More threads than any machine has cores; starting many more than it has takes minutes and makes nothing
/// faster.
const MOST_THREADS: usize = 1024;

// libtorch starts two thread pools, and hangs or aborts when the system refuses a thread. A few are ours.
fn try_threads(each: usize) -> camtrast_common::Result<()> {
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    std::thread::scope(|scope| {
        // Moved in, so that all threads end with this function, whatever it returns.
        let _release = release;
        for _ in 0..2 * each + 4 {
            let idle = || drop(wait.lock().map(|wait| wait.recv()));
            std::thread::Builder::new()
                .spawn_scoped(scope, idle)
                .map_err(camtrast_common::Error::thread)?;
        }
        Ok(())
    })
}
