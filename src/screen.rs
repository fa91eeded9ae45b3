//! Progress: a bar on a terminal, a line now and then elsewhere, nothing with `--quiet`.

use camtrast_common::progress::Progress;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Seconds between lines when standard error is not a terminal.
const LINE_SECONDS: f64 = 10.0;

/// Set in the environment by a program that shows the lines in another way, a notebook: seconds between them.
const LINE_SECONDS_VARIABLE: &str = "CAMTRAST_LINE_SECONDS";

/// Progress on standard error.
pub struct Screen {
    quiet: bool,
    /// Not even warnings: another process prints them.
    silent: bool,
    terminal: bool,
    line_seconds: f64,
    work: Mutex<Option<Work>>,
}

struct Work {
    bar: Option<ProgressBar>,
    what: String,
    detail: String,
    total: u64,
    before: u64,
    done: u64,
    begun: Instant,
    last_line: Instant,
}

impl Screen {
    /// For one command.
    pub fn new(quiet: bool) -> Self {
        Screen {
            quiet,
            silent: false,
            terminal: std::io::stderr().is_terminal(),
            line_seconds: std::env::var(LINE_SECONDS_VARIABLE)
                .ok()
                .and_then(|seconds| seconds.parse().ok())
                .unwrap_or(LINE_SECONDS),
            work: Mutex::new(None),
        }
    }

    /// For one of several processes, of which another speaks to the user.
    pub fn silent() -> Self {
        Screen {
            silent: true,
            ..Screen::new(true)
        }
    }

    fn line(work: &Work) -> String {
        let seconds = work.begun.elapsed().as_secs_f64();
        let rest = match work.done - work.before {
            0 => String::new(),
            n => format!(
                ", {} left",
                clock(seconds / n as f64 * (work.total - work.done) as f64)
            ),
        };
        let detail = if work.detail.is_empty() {
            String::new()
        } else {
            format!(" · {}", work.detail)
        };
        format!(
            "{}: {}/{} in {}{rest}{detail}",
            work.what,
            work.done,
            work.total,
            clock(seconds)
        )
    }
}

impl Progress for Screen {
    fn start(&self, what: &str, total: u64, done: u64) {
        if self.quiet {
            return;
        }
        let bar = self.terminal.then(|| {
            let style = "{prefix:>14} {bar:28.cyan/238} {pos}/{len} · {elapsed} of {duration} · {msg}";
            let style = ProgressStyle::with_template(style)
                .expect("a fixed template")
                .progress_chars("━━─");
            let bar = ProgressBar::new(total)
                .with_style(style)
                .with_prefix(what.to_owned())
                .with_position(done);
            bar.reset_eta();
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        let (what, now) = (what.to_owned(), Instant::now());
        let work = Work {
            bar,
            what,
            detail: String::new(),
            total,
            before: done,
            done,
            begun: now,
            last_line: now,
        };
        *self.work.lock().expect("no panic while drawing") = Some(work);
    }

    fn advance(&self, amount: u64, detail: &str) {
        let mut guard = self.work.lock().expect("no panic while drawing");
        let Some(work) = guard.as_mut() else { return };
        work.done = (work.done + amount).min(work.total);
        if work.detail != detail {
            work.detail = detail.to_owned();
        }
        match &work.bar {
            Some(bar) => {
                bar.set_position(work.done);
                bar.set_message(work.detail.clone());
            }
            None if work.last_line.elapsed().as_secs_f64() > self.line_seconds => {
                eprintln!("{}", Self::line(work));
                work.last_line = Instant::now();
            }
            None => {}
        }
    }

    fn finish(&self) {
        let Some(work) = self.work.lock().expect("no panic while drawing").take() else {
            return;
        };
        match &work.bar {
            Some(bar) => bar.finish_and_clear(),
            None => eprintln!("{}", Self::line(&work)),
        }
    }

    fn note(&self, line: &str) {
        // Warnings are printed even then.
        if self.silent || self.quiet && !line.starts_with("warning") {
            return;
        }
        match self
            .work
            .lock()
            .expect("no panic while drawing")
            .as_ref()
            .and_then(|w| w.bar.as_ref())
        {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }
}

/// Seconds as `4m08s`.
pub fn clock(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, m, _) => format!("{h}h{m:02}m"),
    }
}

/// Set by Ctrl-C or SIGTERM: training saves its state and ends. A second Ctrl-C ends at once.
pub static STOP: AtomicBool = AtomicBool::new(false);

/// Set in the environment of a command that a suite runs: such a command ends when its standard input is
/// closed.
pub const CHILD: &str = "CAMTRAST_CHILD";

/// Whether the running command checks [`STOP`].
static CATCHES: AtomicBool = AtomicBool::new(false);

/// Ends a suite's command when its standard input is closed: by [`STOP`] if the command checks it, otherwise
/// at once.
///
/// # Errors
/// When no thread can be started.
pub fn end_with_input() -> camtrast_common::Result<()> {
    if std::env::var_os(CHILD).is_none() {
        return Ok(());
    }
    let watch = || {
        // Nothing is ever written; reading returns when the suite closes it or has died.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        if !CATCHES.load(Ordering::Relaxed) {
            std::process::exit(130);
        }
        STOP.store(true, Ordering::Relaxed);
    };
    std::thread::Builder::new()
        .spawn(watch)
        .map(drop)
        .map_err(camtrast_common::Error::thread)
}

/// Makes Ctrl-C set [`STOP`].
pub fn catch_interrupts() -> anyhow::Result<()> {
    CATCHES.store(true, Ordering::Relaxed);
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })?;
    Ok(())
}
