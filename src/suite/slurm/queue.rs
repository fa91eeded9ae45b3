//! Slurm's queue: what was submitted, what of it is still there.

use super::arrays::Place;
use anyhow::{Context, Result, bail};
use camtrast_common::Error;
use camtrast_common::files::write_atomically;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The jobs that a suite submitted.
pub struct Jobs {
    out: PathBuf,
    all: Vec<Job>,
}

/// A job array.
#[derive(Serialize, Deserialize)]
struct Job {
    job: String,
    /// Folders of cells in the suite's, by element.
    cells: BTreeMap<usize, PathBuf>,
}

/// The user's elements in the queue, by `JOB_ELEMENT`, and the state of each.
pub struct Queue(BTreeMap<String, String>);

impl Queue {
    /// Asks Slurm.
    ///
    /// # Errors
    /// A line with Slurm's message.
    pub fn look() -> Result<Self> {
        let text = slurm("squeue", &["--me", "--noheader", "--array", "--format=%F_%K %T"])?;
        let pairs = text.lines().filter_map(|line| line.trim().split_once(' '));
        Ok(Queue(
            pairs
                .map(|(job, state)| (job.to_owned(), state.to_owned()))
                .collect(),
        ))
    }

    fn state(&self, job: &str, index: usize) -> Option<&str> {
        self.0.get(&format!("{job}_{index}")).map(String::as_str)
    }
}

impl Jobs {
    /// Of a suite's folder.
    ///
    /// # Errors
    /// [`Error::File`] for a damaged list.
    pub fn read(out: &Path) -> Result<Self> {
        let file = list(out);
        let all = match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                let remedy = "cancel the jobs of this suite by scancel, then remove the file";
                Error::file(&file, format!("is not a list of jobs ({error})"), remedy)
            })?,
            Err(_) => Vec::new(),
        };
        Ok(Jobs {
            out: out.to_owned(),
            all,
        })
    }

    /// Number of arrays.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Adds a job array, and keeps the list.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn add(&mut self, job: &str, cells: BTreeMap<usize, PathBuf>) -> Result<()> {
        let job = job.to_owned();
        let cells = cells
            .into_iter()
            .map(|(index, cell)| (index, self.relative(&cell).to_owned()))
            .collect();
        self.all.push(Job { job, cells });
        let text = serde_json::to_vec_pretty(&self.all)?;
        Ok(write_atomically(&list(&self.out), |file| file.write_all(&text))?)
    }

    /// The element that a cell waits for in the queue.
    pub fn waiting(&self, folder: &Path, queue: &Queue) -> Option<Place> {
        let mut places = self.places(folder);
        places.find(|place| queue.state(&place.job, place.index).is_some())
    }

    /// The state of a cell in the queue, such as `pending, job 12_3`.
    pub fn state(&self, folder: &Path, queue: &Queue) -> Option<String> {
        let Place { job, index } = self.waiting(folder, queue)?;
        let state = queue.state(&job, index)?.to_lowercase();
        Some(format!("{state}, job {job}_{index}"))
    }

    /// The last element that a cell was given.
    pub fn last_of(&self, folder: &Path) -> Option<String> {
        self.places(folder)
            .last()
            .map(|place| format!("{}_{}", place.job, place.index))
    }

    /// Elements that run, and those that wait.
    pub fn count(&self, queue: &Queue) -> (usize, usize) {
        let elements = self
            .all
            .iter()
            .flat_map(|job| job.cells.keys().map(|index| (&job.job, *index)));
        let states: Vec<&str> = elements
            .filter_map(|(job, index)| queue.state(job, index))
            .collect();
        let queued = states.iter().filter(|state| **state == "PENDING").count();
        (states.len() - queued, queued)
    }

    fn relative<'a>(&self, cell: &'a Path) -> &'a Path {
        cell.strip_prefix(&self.out).unwrap_or(cell)
    }

    fn places(&self, folder: &Path) -> impl Iterator<Item = Place> {
        let folder = self.relative(folder);
        let of = |job: &Job| {
            let cell = job.cells.iter().find(|(_, cell)| **cell == folder);
            cell.map(|(index, _)| Place {
                job: job.job.clone(),
                index: *index,
            })
        };
        self.all.iter().filter_map(of).collect::<Vec<_>>().into_iter()
    }
}

/// The list of a suite's jobs.
fn list(out: &Path) -> PathBuf {
    out.join("slurm").join("jobs.json")
}

/// Submits a script, which waits for what `dependency` says; returns the job's number.
///
/// # Errors
/// A line with Slurm's message.
pub fn submit(script: &Path, dependency: Option<&str>) -> Result<String> {
    let script = script.to_string_lossy();
    let mut words = vec!["--parsable"];
    words.extend(dependency);
    words.push(&script);
    let text = slurm("sbatch", &words)?;
    let job = text.trim().split(';').next().unwrap_or_default();
    if job.is_empty() {
        bail!("sbatch named no job for {script}");
    }
    Ok(job.to_owned())
}

/// Cancels a suite's jobs; returns the number of elements that were in the queue.
///
/// # Errors
/// [`Error::File`]; a line with Slurm's message.
pub fn cancel(out: &Path) -> Result<usize> {
    let jobs = Jobs::read(out)?;
    if jobs.is_empty() {
        return Ok(0);
    }
    let queue = Queue::look()?;
    let elements = jobs
        .all
        .iter()
        .flat_map(|job| job.cells.keys().map(|index| (&job.job, *index)));
    let there: Vec<String> = elements
        .filter(|(job, index)| queue.state(job, *index).is_some())
        .map(|(job, index)| format!("{job}_{index}"))
        .collect();
    // A command line has a limit.
    for some in there.chunks(500) {
        slurm("scancel", &some.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    Ok(there.len())
}

/// Runs one of Slurm's commands; returns what it prints.
fn slurm(program: &str, words: &[&str]) -> Result<String> {
    let done = Command::new(program).args(words).output();
    let done = done.map_err(|error| {
        let remedy = "run the suite where Slurm's commands are, or write the scripts by --executor print";
        Error::settings(format!("{program} cannot be started ({error})"), remedy)
    })?;
    let line = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().replace('\n', "; ");
    if !done.status.success() {
        bail!("{program}: {}", line(&done.stderr));
    }
    String::from_utf8(done.stdout).with_context(|| format!("{program} printed something that is not text"))
}
