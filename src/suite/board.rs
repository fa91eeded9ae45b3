//! What one sees of a suite at work: a line for every command that runs, and one for all of them.

use crate::screen::clock;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Lines that move on a terminal, plain ones elsewhere, none with `--quiet`.
pub struct Board {
    quiet: bool,
    bars: Option<(MultiProgress, ProgressBar)>,
    begun: Instant,
}

/// The line of one command.
pub struct Line<'a> {
    board: &'a Board,
    bar: Option<ProgressBar>,
    name: String,
}

impl Board {
    /// For `total` commands.
    pub fn new(quiet: bool, total: usize) -> Self {
        let bars = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template(
                "{prefix:>14} {bar:28.cyan/238} {pos}/{len} · {elapsed} of {duration}",
            );
            let style = style.expect("a fixed template").progress_chars("━━─");
            let all = MultiProgress::new();
            let bar = all.add(
                ProgressBar::new(total as u64)
                    .with_style(style)
                    .with_prefix("suite"),
            );
            bar.enable_steady_tick(Duration::from_millis(500));
            (all, bar)
        });
        Board {
            quiet,
            bars,
            begun: Instant::now(),
        }
    }

    /// A command begins.
    pub fn begin(&self, name: String) -> Line<'_> {
        let bar = self.bars.as_ref().map(|(all, _)| {
            let style = ProgressStyle::with_template("{spinner} {prefix} · {elapsed} · {msg}")
                .expect("a fixed template");
            let bar = all.add(
                ProgressBar::new_spinner()
                    .with_style(style)
                    .with_prefix(name.clone()),
            );
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Line {
            board: self,
            bar,
            name,
        }
    }

    /// A line for good. Warnings are told even when quiet.
    pub fn note(&self, text: &str) {
        match &self.bars {
            _ if self.quiet && !text.starts_with("warning") => {}
            Some((all, _)) => drop(all.println(text)),
            None => tell(text),
        }
    }

    /// Takes the moving lines away.
    pub fn close(&self) {
        if let Some((all, _)) = &self.bars {
            drop(all.clear());
        }
    }
}

/// A line on standard error. That nobody can read it is no reason to stop.
pub fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A line on standard output; a reader that has gone is not missed.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

impl Line<'_> {
    /// What the command says of itself.
    pub fn show(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => self.board.note(&format!("[{}] {text}", self.name)),
        }
    }

    /// How it ended.
    pub fn end(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if let Some((_, bar)) = &self.board.bars {
            bar.inc(1);
        }
        let since = clock(self.board.begun.elapsed().as_secs_f64());
        self.board
            .note(&format!("{} {text} ({since} since the start)", self.name));
    }
}
