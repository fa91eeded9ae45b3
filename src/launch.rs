//! `--nproc`: starts the processes that share the work on this machine, and ends with them.

use crate::screen::{CHILD, STOP, catch_interrupts};
use anyhow::{Context, Result};
use std::net::TcpListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(20);
/// Time for the others to end by themselves after one has failed.
const GRACE: Duration = Duration::from_secs(8);

/// Starts `count` processes with the arguments of this one, which see the GPUs `devices`, if any. Returns the
/// exit code when all have ended. One that dies ends all others. On an interrupt, and should this process
/// die, all save their state and end.
pub fn launch(count: u64, devices: &[u64]) -> Result<i32> {
    catch_interrupts()?;
    let port = {
        let free = TcpListener::bind(("127.0.0.1", 0)).context("cannot find a free port")?;
        free.local_addr().context("cannot find a free port")?.port()
    };
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let start = |rank: u64| -> Result<Child> {
        let mut command = Command::new(&program);
        let numbers = [
            ("RANK", rank),
            ("LOCAL_RANK", rank),
            ("WORLD_SIZE", count),
            ("LOCAL_WORLD_SIZE", count),
            ("MASTER_PORT", u64::from(port)),
        ];
        // Ctrl-C goes to this process only; the others end when their standard input is closed.
        command
            .args(std::env::args_os().skip(1))
            .arg0("camtrast")
            .envs(numbers.map(|(name, number)| (name, number.to_string())))
            .env("MASTER_ADDR", "127.0.0.1")
            .env("GLOO_SOCKET_IFNAME", "lo")
            .env(CHILD, "1")
            .process_group(0)
            .stdin(Stdio::piped());
        if !devices.is_empty() {
            let list: Vec<String> = devices.iter().map(u64::to_string).collect();
            command.env("CUDA_VISIBLE_DEVICES", list.join(","));
        }
        command.spawn().context("cannot start a process")
    };
    let mut children = Vec::new();
    for rank in 0..count {
        match start(rank) {
            Ok(child) => children.push(child),
            Err(error) => {
                end_all(&mut children);
                return Err(error);
            }
        }
    }
    supervise(children)
}

fn supervise(mut children: Vec<Child>) -> Result<i32> {
    let mut ended: Vec<Option<ExitStatus>> = vec![None; children.len()];
    let mut failed: Option<(i32, Instant)> = None;
    while ended.iter().any(Option::is_none) {
        if STOP.load(Ordering::Relaxed) {
            children.iter_mut().for_each(|child| drop(child.stdin.take()));
        }
        for (rank, (child, ended)) in children.iter_mut().zip(&mut ended).enumerate() {
            if ended.is_some() {
                continue;
            }
            *ended = child.try_wait().context("cannot wait for a process")?;
            match *ended {
                Some(status) if !status.success() && failed.is_none() => {
                    failed = Some((status.code().unwrap_or(1), Instant::now()));
                    if let Some(signal) = status.signal() {
                        eprintln!(
                            "camtrast: rank {rank} was killed (signal {signal}), and ends all others; run \
                             the same command again to go on from the last saved state"
                        );
                        failed = Some((1, Instant::now() - GRACE));
                    }
                }
                _ => {}
            }
        }
        if failed.is_some_and(|(_, since)| since.elapsed() >= GRACE) {
            end_all(&mut children);
        }
        sleep(POLL);
    }
    Ok(failed.map_or(0, |(code, _)| code))
}

fn end_all(children: &mut [Child]) {
    for child in children {
        // It may have ended by itself.
        let _ = child.kill();
    }
}
