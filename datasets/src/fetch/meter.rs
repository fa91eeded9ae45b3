//! How far reading, writing or loading a file has come.

use camtrast_common::progress::Progress;
use std::path::Path;
use std::time::Instant;

/// Reports bytes as progress in megabytes.
pub(super) struct Meter<'a> {
    progress: &'a dyn Progress,
    what: String,
    bytes: u64,
    fresh: u64,
    begun: Instant,
}

const MEGA: u64 = 1_000_000;

impl<'a> Meter<'a> {
    pub(super) fn new(
        progress: &'a dyn Progress,
        verb: &str,
        what: &str,
        total: Option<u64>,
        done: u64,
    ) -> Self {
        progress.start(
            &format!("MB {verb}"),
            total.unwrap_or(0).div_ceil(MEGA),
            done / MEGA,
        );
        Meter {
            progress,
            what: what.to_owned(),
            bytes: done,
            fresh: 0,
            begun: Instant::now(),
        }
    }

    pub(super) fn add(&mut self, bytes: usize) {
        let before = self.bytes / MEGA;
        self.bytes += bytes as u64;
        self.fresh += bytes as u64;
        if self.bytes / MEGA > before {
            let rate = self.fresh as f64 / MEGA as f64 / self.begun.elapsed().as_secs_f64().max(1e-3);
            self.progress.advance(
                self.bytes / MEGA - before,
                &format!("{} · {rate:.1} MB/s", self.what),
            );
        }
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        // The last, begun megabyte.
        self.progress
            .advance(u64::from(!self.bytes.is_multiple_of(MEGA)), &self.what);
        self.progress.finish();
    }
}

/// What a file is called in messages and bars.
pub(super) fn shown(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
