//! Progress of a suite: a line for every running command, and one for all of them.

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

    /// Adds the line of a command that begins.
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

    /// Prints a line that stays. Warnings are printed even with `--quiet`.
    pub fn note(&self, text: &str) {
        match &self.bars {
            _ if self.quiet && !text.starts_with("warning") => {}
            Some((all, _)) => drop(all.println(text)),
            None => note(text),
        }
    }

    /// Removes the moving lines.
    pub fn close(&self) {
        if let Some((all, _)) = &self.bars {
            drop(all.clear());
        }
    }
}

/// Prints a line on standard error. A failure to print is ignored.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints a line on standard output. A closed reader is ignored.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

impl Line<'_> {
    /// Shows a line that the command printed.
    pub fn show(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => self.board.note(&format!("[{}] {text}", self.name)),
        }
    }

    /// Shows how the command ended.
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
