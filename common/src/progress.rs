//! How libraries report progress to their caller, without printing.

/// Receives progress. The command line draws bars from it; tests pass [`Silent`].
pub trait Progress: Sync {
    /// Work of `total` units begins, of which an earlier run has finished `done`. A unit is an image, a step,
    /// an episode or a megabyte.
    fn start(&self, what: &str, total: u64, done: u64);
    /// `amount` more units are done; `detail` is a short status, such as `loss 2.31 · 512 images/s`.
    fn advance(&self, amount: u64, detail: &str);
    /// The current work is done.
    fn finish(&self);
    /// A line that stays on the screen.
    fn note(&self, line: &str);
}

/// Ignores all progress.
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _: &str, _: u64, _: u64) {}
    fn advance(&self, _: u64, _: &str) {}
    fn finish(&self) {}
    fn note(&self, _: &str) {}
}
