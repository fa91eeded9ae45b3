//! How libraries tell their caller how far long work has come, without printing.

/// Receives progress. The command line draws bars from it; tests pass [`Silent`].
pub trait Progress: Sync {
    /// Work of `total` units begins, `done` of them finished already by an earlier run. A unit is an image, a
    /// step, an episode or a megabyte.
    fn start(&self, what: &str, total: u64, done: u64);
    /// `amount` more units are done; `detail` says how it goes, such as `loss 2.31 · 512 images/s`.
    fn advance(&self, amount: u64, detail: &str);
    /// The work begun last is done.
    fn finish(&self);
    /// One line worth keeping on the screen.
    fn note(&self, line: &str);
}

/// Tells nobody.
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _: &str, _: u64, _: u64) {}
    fn advance(&self, _: u64, _: &str) {}
    fn finish(&self) {}
    fn note(&self, _: &str) {}
}
