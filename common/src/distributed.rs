//! Processes that train or evaluate together, one for each device: data parallelism on PyTorch's c10d.
//!
//! A [`Group`] is what a process knows of the others: its rank, their number, and the exchanges of tensors
//! between them (Gloo's; NCCL's between GPUs). Processes are started by torchrun, by Slurm's srun or by
//! `--nproc`, whose variables [`Place::find`] reads. One process alone has [`Group::ALONE`]: nothing is
//! exchanged, no socket is opened, and every operation is the identity.
//!
//! ```
//! use camtrast_common::distributed::Group;
//!
//! let group = Group::ALONE;
//! assert_eq!((group.rank(), group.world(), group.leads()), (0, 1, true));
//! assert_eq!(group.share(10), 0..10);
//! # Ok::<(), camtrast_common::Error>(())
//! ```

mod c10d;
mod collectives;
mod meeting;
mod nccl;
mod place;

pub use place::{Place, in_batch_script};

use crate::device::to_host;
use crate::error::{Error, Result};
use crate::random::torch_seed;
use c10d::Gloo;
use collectives::Collectives;
use meeting::Meeting;
use nccl::Nccl;
use std::ffi::c_void;
use std::fmt;
use std::ops::Range;
use std::ptr::null;
use std::sync::Mutex;
use std::time::Duration;
use tch::{Device, Kind, Tensor};

/// The processes that work together, seen by one of them. Copies are the same group.
#[derive(Clone, Copy)]
pub struct Group(Option<&'static Member>);

struct Member {
    meeting: Meeting,
    /// `None` after [`Group::leave`].
    links: Mutex<Option<Links>>,
}

struct Links {
    host: Gloo,
    /// Of gradients, which are exchanged while a backward pass exchanges other things. `None` between GPUs.
    gradients: Option<Gloo>,
    /// `None` where tensors are on the host.
    gpu: Option<Nccl>,
}

impl Links {
    fn of(&self, tensor: &Tensor) -> &dyn Collectives {
        match &self.gpu {
            Some(gpu) if tensor.device().is_cuda() => gpu,
            _ => &self.host,
        }
    }
}

impl Group {
    /// One process.
    pub const ALONE: Group = Group(None);

    /// Joins the other processes, which must all come and answer within `timeout`. Tensors on `device`, if it
    /// is a GPU, are exchanged by NCCL, others by Gloo. The group lives as long as the process.
    ///
    /// # Errors
    /// [`Error::Settings`] when the port is in use, a process is missing, two disagree about their
    /// number, or NCCL cannot be loaded.
    pub fn join(place: Place, device: Device, timeout: Duration) -> Result<Group> {
        let meeting = Meeting::join(place, timeout)?;
        let Place { rank, world, .. } = meeting.place;
        let gloo = |name| Gloo::open(&meeting.store, name, (rank, world), timeout);
        let host = gloo("host")?;
        let gradients = (!device.is_cuda()).then(|| gloo("gradients")).transpose()?;
        let nccl = || {
            let like = Tensor::zeros([1], (Kind::Float, device));
            Nccl::open(nccl::LIBRARY, (rank, world), &like, timeout, |own| {
                own.map_or(Ok(()), |id| meeting.store.set("nccl", &id))?;
                meeting.wait("nccl")
            })
        };
        let gpu = device.is_cuda().then(nccl).transpose()?;
        let links = Mutex::new(Some(Links { host, gradients, gpu }));
        Ok(Group(Some(Box::leak(Box::new(Member { meeting, links })))))
    }

    /// Number of this process, from 0.
    pub fn rank(self) -> u64 {
        self.0.map_or(0, |member| member.meeting.place.rank)
    }

    /// Number of processes.
    pub fn world(self) -> u64 {
        self.0.map_or(1, |member| member.meeting.place.world)
    }

    /// Whether this is the process that writes files and speaks to the user: rank 0.
    pub fn leads(self) -> bool {
        self.rank() == 0
    }

    /// Whether there is no other process.
    pub fn is_alone(self) -> bool {
        self.world() == 1
    }

    /// This process's part of `count` things: contiguous, in the order of ranks, of equal size up to one.
    pub fn share(self, count: usize) -> Range<usize> {
        self.share_of(self.rank(), count)
    }

    /// The part of another process; see [`Group::share`].
    pub fn share_of(self, rank: u64, count: usize) -> Range<usize> {
        let (rank, world) = (rank as usize, self.world() as usize);
        count * rank / world..count * (rank + 1) / world
    }

    /// This process's share of the first dimension of a tensor.
    pub fn part(self, tensor: &Tensor) -> Tensor {
        let share = self.share(tensor.size()[0] as usize);
        tensor.narrow(0, share.start as i64, share.len() as i64)
    }

    /// A seed for numbers that processes draw independently of each other: rank 0's is `seed` itself.
    pub fn seed(self, seed: u64) -> u64 {
        match self.rank() {
            0 => seed,
            rank => torch_seed(seed, "process", rank, 0) as u64,
        }
    }

    /// The sum of all processes' tensors takes the place of each.
    ///
    /// # Errors
    /// [`Error::Lost`] naming the process that has ended or does not answer; likewise below.
    pub fn all_reduce(self, tensor: &Tensor) -> Result<()> {
        self.exchange(tensor, |link| link.all_reduce(tensor))
    }

    /// All processes get rank 0's tensor.
    ///
    /// # Errors
    /// As [`Group::all_reduce`].
    pub fn broadcast(self, tensor: &Tensor) -> Result<()> {
        self.exchange(tensor, |link| link.broadcast(tensor))
    }

    /// The tensors [n, ..] of all processes, one after the other: [world n, ..]. All have one shape.
    ///
    /// # Errors
    /// As [`Group::all_reduce`].
    pub fn all_gather(self, tensor: &Tensor) -> Result<Tensor> {
        if self.is_alone() {
            return Ok(tensor.shallow_clone());
        }
        let shape = [&[self.world() as i64], &tensor.size()[..]].concat();
        let all = Tensor::zeros(shape, (tensor.kind(), tensor.device()));
        self.exchange(tensor, |link| link.all_gather(tensor, &all))?;
        Ok(all.flatten(0, 1))
    }

    /// The same for tensors [n, ..] whose n differs between processes, and may be 0.
    ///
    /// # Errors
    /// As [`Group::all_reduce`].
    pub fn gather_rows(self, tensor: &Tensor) -> Result<Tensor> {
        if self.is_alone() {
            return Ok(tensor.shallow_clone());
        }
        let own = tensor.size()[0];
        let counts = Vec::<i64>::try_from(self.all_gather(&Tensor::from_slice(&[own]))?)?;
        let most = counts.iter().copied().max().unwrap_or_default();
        let padding = [&[most - own], &tensor.size()[1..]].concat();
        let padding = Tensor::zeros(padding, (tensor.kind(), tensor.device()));
        let all = self.all_gather(&Tensor::cat(&[tensor, &padding], 0))?;
        let parts =
            (counts.iter().enumerate()).map(|(rank, &count)| all.narrow(0, rank as i64 * most, count));
        Ok(Tensor::cat(&parts.collect::<Vec<_>>(), 0))
    }

    /// What rank 0 says about a question.
    ///
    /// # Errors
    /// As [`Group::all_reduce`].
    pub fn first_says(self, own: bool) -> Result<bool> {
        let answer = Tensor::from_slice(&[i64::from(own)]);
        self.broadcast(&answer)?;
        Ok(answer.int64_value(&[0]) != 0)
    }

    /// The text that rank 0 has.
    ///
    /// # Errors
    /// As [`Group::all_reduce`].
    pub fn text_of_first(self, own: &str) -> Result<String> {
        if self.is_alone() {
            return Ok(own.to_owned());
        }
        let length = Tensor::from_slice(&[own.len() as i64]);
        self.broadcast(&length)?;
        let mut bytes = own.as_bytes().to_vec();
        bytes.resize(length.int64_value(&[0]) as usize, 0);
        let text = Tensor::from_slice(&bytes);
        self.broadcast(&text)?;
        Ok(String::from_utf8_lossy(&to_host::<u8>(&text)?).into_owned())
    }

    /// Waits for all processes.
    ///
    /// # Errors
    /// As [`Group::all_reduce`].
    pub fn barrier(self) -> Result<()> {
        self.all_reduce(&Tensor::zeros([1], (Kind::Float, Device::Cpu)))
    }

    /// Refuses processes whose `text` about one thing, such as their settings, differs from rank 0's.
    /// `difference` describes two different texts, rank 0's first, as what one has and what the other has.
    ///
    /// # Errors
    /// [`Error::Settings`], the same in every process; otherwise as [`Group::all_reduce`].
    pub fn agree(
        self,
        thing: &str,
        text: &str,
        difference: impl Fn(&str, &str) -> Option<(String, String)>,
    ) -> Result<()> {
        let Some(Member { meeting, .. }) = self.0 else {
            return Ok(());
        };
        meeting.store.set(&format!("{thing}/{}", self.rank()), text)?;
        let first = meeting.wait(&format!("{thing}/0"))?;
        for rank in 1..self.world() {
            let other = meeting.wait(&format!("{thing}/{rank}"))?;
            if let Some((held, wanted)) = difference(&first, &other) {
                return Err(Error::settings(
                    format!("rank {rank} has {wanted}, but rank 0 has {held}"),
                    "start all processes with the same program, settings and data",
                ));
            }
        }
        Ok(())
    }

    /// Leaves the last words of this process, which has failed. Returns whether the user must get them from
    /// it; otherwise rank 0 says the same.
    pub fn fail(self, words: &str) -> bool {
        self.0.is_none_or(|member| member.meeting.fail(words))
    }

    /// Ends the exchanges, rank 0 last. Afterwards the group can no longer be used.
    pub fn leave(self) {
        if let Some(member) = self.0 {
            member.meeting.part();
            drop(member.links.lock().expect("nothing panics here").take());
        }
    }

    /// For native code, which returns it to [`Group::from_pointer`].
    pub(crate) fn as_pointer(self) -> *const c_void {
        self.0.map_or(null(), |member| std::ptr::from_ref(member).cast())
    }

    /// # Safety
    /// The pointer must come from [`Group::as_pointer`].
    pub(crate) unsafe fn from_pointer(pointer: *const c_void) -> Group {
        // SAFETY: members are never freed.
        Group(unsafe { pointer.cast::<Member>().as_ref() })
    }

    // The connections; `None` in one process.
    fn with_links<T>(self, work: impl FnOnce(&Links) -> T) -> Option<T> {
        let member = self.0?;
        let links = member.links.lock().expect("nothing panics here");
        Some(work(links.as_ref().expect("the group has not been left")))
    }

    fn exchange(self, like: &Tensor, work: impl FnOnce(&dyn Collectives) -> Result<()>) -> Result<()> {
        let exchange = |links: &Links| self.waiting(|| work(links.of(like)));
        self.with_links(exchange).unwrap_or(Ok(()))
    }

    /// Runs `work`, for which all processes are needed; an error becomes one that names who is missing.
    pub(crate) fn waiting(self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        self.0.map_or(Ok(()), |member| member.meeting.exchange(work))
    }

    /// Where gradients are exchanged, for native code; `None` in one process and between GPUs.
    pub(crate) fn gloo_of_gradients(self) -> Option<*mut c_void> {
        self.with_links(|links| links.gradients.as_ref().map(Gloo::as_pointer))
            .flatten()
    }
}

impl PartialEq for Group {
    fn eq(&self, other: &Group) -> bool {
        match (self.0, other.0) {
            (Some(one), Some(other)) => std::ptr::eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }
}

impl Eq for Group {}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {}", self.rank(), self.world())
    }
}
