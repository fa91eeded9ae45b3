//! Commands whose work several processes share: which of them this one is, and how they begin and end.

use crate::launch::launch;
use crate::screen::CHILD;
use anyhow::Result;
use camtrast_common::distributed::{Group, Place};
use camtrast_common::{Error, device::DeviceChoice};
use clap::Args;
use std::sync::OnceLock;
use std::time::Duration;
use tch::Device;

/// Flags of the commands that several processes share.
#[derive(Args, Debug, Clone)]
pub struct ProcessArgs {
    /// Start this many processes on this machine that share the work, one for each GPU
    #[arg(long, help_heading = "Several processes", value_parser = clap::value_parser!(u64).range(1..=1024))]
    nproc: Option<u64>,
    /// Numbers of the GPUs to use, such as 0,1, one process for each
    #[arg(long, help_heading = "Several processes", value_delimiter = ',')]
    devices: Vec<u64>,
    /// Seconds after which a process that does not answer is given up, and with it the others
    #[arg(
        long,
        help_heading = "Several processes",
        default_value_t = 600,
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    process_timeout: u64,
}

/// The group of this process, once it has one.
static GROUP: OnceLock<Group> = OnceLock::new();

/// What a process does at its end that has joined others. Pointers, which only [`ProcessArgs::join`] sets:
/// the program without libtorch reaches none of their code.
static END: OnceLock<End> = OnceLock::new();

struct End {
    rank: u64,
    fail: fn(&str) -> bool,
    leave: fn(),
}

impl ProcessArgs {
    /// The place of this process, as torchrun, srun or a parent of our own says. With `--nproc` or
    /// `--devices` and no such place, this is the parent: it starts the processes and ends with them.
    pub fn place(&self) -> Result<Option<Place>> {
        let place = Place::find(|name| std::env::var(name).ok())?;
        let counted = self.devices.len() as u64;
        if let Some(nproc) = self.nproc.filter(|nproc| counted > 0 && *nproc != counted) {
            return Err(Error::Usage {
                problem: format!("--nproc {nproc} does not fit the {counted} numbers of --devices"),
                remedy: "give one of the two".into(),
            }
            .into());
        }
        let wanted = if counted > 0 {
            counted
        } else {
            self.nproc.unwrap_or(1)
        };
        if place.is_none() && std::env::var_os("WORLD_SIZE").is_none() && (wanted > 1 || counted > 0) {
            std::process::exit(launch(wanted, &self.devices)?);
        }
        Ok(place)
    }

    /// Joins the other processes.
    pub fn join(&self, place: Option<Place>, device: Device) -> Result<Group> {
        let Some(place) = place else {
            return Ok(Group::ALONE);
        };
        let group = Group::join(place, device, Duration::from_secs(self.process_timeout))?;
        let end = End {
            rank: group.rank(),
            fail: |words| GROUP.get().is_none_or(|group| group.fail(words)),
            leave: || GROUP.get().into_iter().for_each(|group| group.leave()),
        };
        let once = GROUP.set(group).is_ok() && END.set(end).is_ok();
        assert!(once, "a process joins once");
        Ok(group)
    }
}

/// The device of a process: `auto` and `cuda` take the GPU of its number on its machine, `cuda:N` counts from
/// N on.
pub fn device_of(choice: DeviceChoice, place: Option<&Place>) -> DeviceChoice {
    match (choice, place.map_or(0, |place| place.local_rank as usize)) {
        (DeviceChoice::Cuda(first), local) => DeviceChoice::Cuda(first + local),
        (DeviceChoice::Auto, local) if local > 0 && DeviceChoice::has_gpu() => DeviceChoice::Cuda(local),
        (choice, _) => choice,
    }
}

/// Parts from the other processes at the end of a command that worked.
pub fn leave() {
    if let Some(end) = END.get() {
        (end.leave)();
    }
}

/// A process that `--nproc` started waits a moment before it says that another one is lost: if that was
/// killed, the parent says so, and ends this one.
pub fn let_parent_speak() {
    if std::env::var_os(CHILD).is_some() && std::env::var_os("WORLD_SIZE").is_some() {
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// The words of an error for the user; `None` when another process says them.
pub fn words(error: &anyhow::Error) -> Option<String> {
    let known = error.downcast_ref::<Error>();
    // The message of ours includes that of its source.
    let text = known.map_or_else(|| format!("{error:#}"), Error::to_string);
    if let Some(Error::Lost { reported, .. }) = known {
        return (!reported).then_some(text).inspect(|_| let_parent_speak());
    }
    match END.get() {
        Some(end) if !(end.fail)(&text) => None,
        Some(end) if end.rank > 0 => Some(format!("rank {}: {text}", end.rank)),
        _ => Some(text),
    }
}
