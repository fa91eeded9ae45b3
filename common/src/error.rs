//! The one error type of the libraries: what went wrong, with which file, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// What the libraries return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every failure a user can meet. Each message is one line that names the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder whose content cannot be used.
    #[error("{}: {problem}; {remedy}", path.display())]
    File {
        /// The file or folder at fault.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What the user can do.
        remedy: String,
    },
    /// The operating system refused to read or write a file.
    #[error("{}: cannot {action}: {}", path.display(), io_reason(source))]
    Io {
        /// The file or folder concerned.
        path: PathBuf,
        /// What was tried, as in "read" or "write".
        action: &'static str,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// Settings that do not fit each other or the data.
    #[error("{problem}; {remedy}")]
    Settings {
        /// What is wrong.
        problem: String,
        /// What the user can do.
        remedy: String,
    },
    /// A command line that is invalid whatever the data.
    #[error("{problem}; {remedy}")]
    Usage {
        /// What is wrong.
        problem: String,
        /// What the user can do.
        remedy: String,
    },
    /// A tensor to be written holds NaN or infinite values.
    #[error("{}: tensor {tensor:?} holds NaN or infinite values and was not written", path.display())]
    NotFinite {
        /// The file that was to be written.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
    },
    /// The loss or the updated weights became NaN or infinite.
    #[error(
        "{what} at step {step} (epoch {epoch}); {}: lower --lr, lengthen the warm-up or use --precision \
         fp32, \
         then run again with --overwrite", state_kept(*kept, run)
    )]
    Diverged {
        /// Step (0-based, counted over the whole run) that was at fault.
        step: u64,
        /// Epoch (0-based) of that step.
        epoch: u64,
        /// What is not finite, as "the loss became NaN".
        what: String,
        /// Step of the newest state on disk, if there is one.
        kept: Option<u64>,
        /// The run's folder.
        run: PathBuf,
    },
    /// A device, or the host, has no memory left for a step of a training.
    #[error(
        "out of memory on {device} with {batch_size} images in a batch ({wanted}); {}: lower --batch-size, \
         use --precision bf16 or smaller images, and start again with --overwrite, or free the device and \
         run the same command again", state_kept(*kept, run)
    )]
    OutOfMemory {
        /// The device.
        device: String,
        /// Images in one batch.
        batch_size: u64,
        /// What could not be had, as "tried to allocate 2.00 GiB".
        wanted: String,
        /// Step of the newest state on disk, if there is one.
        kept: Option<u64>,
        /// The run's folder.
        run: PathBuf,
    },
    /// Other processes of a training or evaluation have ended or do not answer.
    #[error("{problem}; {remedy}")]
    Lost {
        /// What happened, with the rank of the process at fault.
        problem: String,
        /// What the user can do.
        remedy: String,
        /// Whether another process tells the user.
        reported: bool,
    },
    /// libtorch refused an operation.
    #[error("libtorch: {}", first_line(.0))]
    Torch(#[from] tch::TchError),
}

/// What is wrong with a file, before it is known which file that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong.
    pub problem: String,
    /// What the user can do.
    pub remedy: String,
}

/// Result of readers that do not know the file's name.
pub type ReadResult<T> = Result<T, Refusal>;

impl Refusal {
    /// A problem and its remedy.
    pub fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Refusal {
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// For `map_err`: adds the name of the file.
    pub fn at(path: &Path) -> impl FnOnce(Refusal) -> Error {
        let path = path.to_owned();
        move |refusal| Error::file(path, refusal.problem, refusal.remedy)
    }
}

impl Error {
    /// A file or folder whose content cannot be used.
    pub fn file(path: impl AsRef<Path>, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Error::File {
            path: path.as_ref().to_owned(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// Settings that do not fit each other or the data.
    pub fn settings(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Error::Settings {
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// For `map_err` where a thread could not be started.
    pub fn thread(source: io::Error) -> Self {
        let remedy = "lower --threads, end other programs, or raise the limit of processes (ulimit -u)";
        Error::settings(format!("cannot start a thread ({source})"), remedy)
    }

    /// For `map_err` after a file operation: `fs::read(p).map_err(Error::io(p, "read"))`.
    pub fn io(path: impl AsRef<Path>, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Error::Io { path, action, source }
    }
}

/// Whether a command's message is that of [`Error::Diverged`].
pub fn says_diverged(message: &str) -> bool {
    message.contains("lower --lr, lengthen the warm-up or use --precision")
}

fn state_kept(kept: Option<u64>, run: &Path) -> String {
    match kept {
        Some(step) => format!("the last good state (step {step}) is kept in {}", run.display()),
        None => "no state had been saved before this step".into(),
    }
}

fn io_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or folder".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        io::ErrorKind::StorageFull => {
            "the disk is full; free some space and run the same command again".into()
        }
        _ => error.to_string(),
    }
}

// libtorch's messages carry a C++ backtrace after the first line.
fn first_line(error: &tch::TchError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_divergence_is_known_by_its_message() {
        let run = PathBuf::from("run");
        let what = "the loss became NaN".to_owned();
        let diverged = Error::Diverged {
            step: 3,
            epoch: 0,
            what,
            kept: None,
            run,
        };
        assert!(says_diverged(&diverged.to_string()));
        assert!(!says_diverged(
            &Error::settings("the disk is full", "lower --batch-size").to_string()
        ));
    }
}
