//! How processes find each other, notice that one is gone, and part.
//!
//! Every process writes a sign of life into the store twice a second, with the number of exchanges that it
//! has begun. When an exchange fails, the signs tell who is at fault: a process whose signs have stopped, or
//! the one that has not come to the exchange.

use super::c10d::Store;
use super::place::Place;
use crate::error::{Error, Result};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle, park_timeout, sleep};
use std::time::{Duration, Instant};

const BEAT: Duration = Duration::from_millis(500);
/// Beats are at most this far apart while a process lives, also on a busy machine.
const SILENCE: Duration = Duration::from_millis(2500);
/// The last words of a process are waited for as long.
const WORDS: Duration = Duration::from_millis(1500);
const POLL: Duration = Duration::from_millis(50);
const CONTINUE: &str = "run the same command again to go on from the last saved state";

/// This process among the others, and the store that all share.
pub(super) struct Meeting {
    pub(super) place: Place,
    pub(super) store: Store,
    pub(super) timeout: Duration,
    /// Exchanges begun.
    entered: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    heart: Mutex<Option<JoinHandle<()>>>,
}

impl Meeting {
    /// Meets the other processes: all must come within `timeout`, each rank once, for the same number of
    /// processes.
    pub(super) fn join(place: Place, timeout: Duration) -> Result<Self> {
        let store = open_store(&place, timeout)?;
        let meeting = Meeting {
            place,
            store,
            timeout,
            entered: Arc::default(),
            over: Arc::default(),
            heart: Mutex::default(),
        };
        meeting.greet()?;
        meeting.beat()?;
        Ok(meeting)
    }

    // Rank 0 waits for all, and says whether they may begin.
    fn greet(&self) -> Result<()> {
        let Place { rank, world, .. } = self.place;
        if self.store.add(&format!("came/{rank}"), 1)? != 1 {
            return Err(Error::settings(
                format!("two processes are rank {rank} of {world}"),
                "give each process a RANK of its own, and each training a MASTER_PORT",
            ));
        }
        self.store.set(&format!("world/{rank}"), &world.to_string())?;
        let deadline = Instant::now() + self.timeout;
        if rank == 0 {
            let outcome = (1..world).try_for_each(|other| {
                let left = deadline.saturating_duration_since(Instant::now());
                let theirs = self.store.get(&format!("world/{other}"), left.max(POLL));
                let seconds = self.timeout.as_secs();
                let theirs =
                    theirs.map_err(|_| format!("rank {other} of {world} did not come within {seconds} s"))?;
                match theirs == world.to_string() {
                    true => Ok(()),
                    false => Err(format!(
                        "rank {other} was started as one of {theirs} processes, rank 0 as one of {world}"
                    )),
                }
            });
            let verdict = outcome.as_ref().err().cloned().unwrap_or_default();
            self.store.set("verdict", &verdict)?;
            if outcome.is_err() {
                // The store ends with this process: others must have heard.
                sleep(WORDS);
            }
            return outcome.map_err(|problem| {
                Error::settings(
                    problem,
                    "start every rank once, with the same number of processes",
                )
            });
        }
        let first = self.store.get("world/0", self.timeout).map_err(|_| {
            let problem = format!(
                "rank 0 of {world} did not come within {} s",
                self.timeout.as_secs()
            );
            Error::settings(
                problem,
                "start every rank once, with the same number of processes",
            )
        })?;
        // Rank 0 does not wait for a rank that it does not know of.
        if first.parse::<u64>().is_ok_and(|first| rank >= first) {
            return Err(Error::settings(
                format!("rank {rank} was started as one of {world} processes, rank 0 as one of {first}"),
                "start every rank once, with the same number of processes",
            ));
        }
        let verdict = self.store.get("verdict", self.timeout + WORDS)?;
        match verdict.is_empty() {
            true => Ok(()),
            false => Err(reported(verdict)),
        }
    }

    fn beat(&self) -> Result<()> {
        let (store, rank) = (self.store.again()?, self.place.rank);
        let (entered, over) = (self.entered.clone(), self.over.clone());
        let beats = move || {
            for count in 0u64.. {
                let sign = format!("{count} {}", entered.load(Ordering::Relaxed));
                // Whoever serves the store may be gone, which the next exchange finds.
                if over.load(Ordering::Relaxed) || store.set(&format!("beat/{rank}"), &sign).is_err() {
                    break;
                }
                park_timeout(BEAT);
            }
        };
        let heart = Builder::new().spawn(beats).map_err(Error::thread)?;
        *self.heart.lock().expect("nothing panics here") = Some(heart);
        Ok(())
    }

    /// Runs an exchange in which all processes take part; an error becomes one that names who is missing.
    pub(super) fn exchange(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        self.entered.fetch_add(1, Ordering::Relaxed);
        work().map_err(|error| self.explain(&error))
    }

    /// The value of a key that all processes set, waited for.
    pub(super) fn wait(&self, key: &str) -> Result<String> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let (asked, patience) = (Instant::now(), Duration::from_secs(1));
            match self.store.get(key, patience) {
                Ok(value) => return Ok(value),
                // Whoever serves the store is gone, if it does not even wait.
                Err(error) if asked.elapsed() < patience || Instant::now() > deadline => {
                    return Err(self.explain(&error));
                }
                Err(_) if self.others().any(|rank| self.last_words(rank).is_some()) => {
                    return Err(reported("another process has failed".into()));
                }
                Err(_) => {}
            }
        }
    }

    fn others(&self) -> impl Iterator<Item = u64> {
        let own = self.place.rank;
        (0..self.place.world).filter(move |rank| *rank != own)
    }

    fn last_words(&self, rank: u64) -> Option<String> {
        self.store.look(&format!("failed/{rank}")).ok().flatten()
    }

    // Count and exchanges of every process's last sign of life.
    fn signs(&self) -> Result<Vec<(u64, u64)>> {
        let sign = |rank| {
            let text = self.store.look(&format!("beat/{rank}"))?.unwrap_or_default();
            let mut numbers = text.split(' ').map(|number| number.parse().unwrap_or_default());
            Ok((
                numbers.next().unwrap_or_default(),
                numbers.next().unwrap_or_default(),
            ))
        };
        (0..self.place.world).map(sign).collect()
    }

    fn explain(&self, error: &Error) -> Error {
        if self.others().any(|rank| self.last_words(rank).is_some()) {
            return reported(error.to_string());
        }
        let observed = self.signs().and_then(|before| {
            sleep(SILENCE);
            Ok((before, self.signs()?))
        });
        let Ok((before, after)) = observed else {
            let keeper = match self.place.store_is_served {
                true => "the starter of the processes",
                false => "rank 0",
            };
            let state = match self.store.is_silent() {
                true => "does not answer",
                false => "has ended",
            };
            return lost(format!("{keeper}, which keeps the store, {state}"), false);
        };
        let own = self.place.rank;
        let silent = |rank: &u64| *rank != own && before[*rank as usize].0 == after[*rank as usize].0;
        let entered = self.entered.load(Ordering::Relaxed);
        let late = |rank: &u64| after[*rank as usize].1 < entered;
        let speaker = (0..self.place.world).find(|rank| !silent(rank));
        let slow = error.to_string().to_lowercase().contains("timed out");
        let problem = match (self.others().find(silent), self.others().find(late)) {
            (Some(rank), _) if slow => {
                format!(
                    "rank {rank} does not answer (waited {} s)",
                    self.timeout.as_secs()
                )
            }
            (Some(rank), _) => format!("rank {rank} has ended"),
            (None, Some(rank)) if slow => format!(
                "rank {rank} has not come to an exchange within {} s",
                self.timeout.as_secs()
            ),
            _ => format!("the connection between the processes broke ({error})"),
        };
        lost(problem, speaker != Some(own))
    }

    /// Leaves this process's last words; returns whether it must say them itself, because rank 0 does not.
    pub(super) fn fail(&self, words: &str) -> bool {
        let rank = self.place.rank;
        if self.store.set(&format!("failed/{rank}"), words).is_err() {
            return true;
        }
        let begun = Instant::now();
        while begun.elapsed() < WORDS {
            match rank {
                // The store ends with rank 0: others must have heard.
                0 if self.others().all(|rank| self.last_words(rank).is_some()) => return true,
                0 => {}
                _ if self.last_words(0).as_deref() == Some(words) => return false,
                _ => {}
            }
            sleep(POLL);
        }
        true
    }

    /// Parts from the others: rank 0, which may serve the store, goes last.
    pub(super) fn part(&self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(heart) = self.heart.lock().expect("nothing panics here").take() {
            heart.thread().unpark();
            let _ = heart.join();
        }
        let rank = self.place.rank;
        if rank != 0 {
            let _ = self.store.set(&format!("left/{rank}"), "");
            return;
        }
        for other in self.others() {
            let _ = self.wait(&format!("left/{other}"));
        }
    }
}

fn lost(problem: String, reported: bool) -> Error {
    let remedy = CONTINUE.into();
    Error::Lost {
        problem,
        remedy,
        reported,
    }
}

fn reported(problem: String) -> Error {
    lost(problem, true)
}

fn open_store(place: &Place, timeout: Duration) -> Result<Store> {
    let (host, port) = (&place.store.0[..], place.store.1);
    let serves = place.rank == 0 && !place.store_is_served;
    let listener = serves.then(|| listen(host, port)).transpose()?;
    let prefix = format!("camtrast/{}", place.attempt);
    Store::open((host, port), listener, &prefix, timeout).map_err(|_| {
        let problem = format!(
            "rank {} found no store of rank 0 at {host}:{port} within {} s",
            place.rank,
            timeout.as_secs()
        );
        Error::settings(
            problem,
            "start rank 0 there, or correct MASTER_ADDR and MASTER_PORT",
        )
    })
}

// On the machine's own address only where no other machine takes part.
fn listen(host: &str, port: u16) -> Result<TcpListener> {
    let listener = match host {
        "127.0.0.1" | "localhost" => TcpListener::bind(("127.0.0.1", port)),
        _ => TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port))),
    };
    listener.map_err(|error| {
        Error::settings(
            format!("cannot listen on port {port} ({error})"),
            "set MASTER_PORT to a port that is free on the machine of rank 0",
        )
    })
}
