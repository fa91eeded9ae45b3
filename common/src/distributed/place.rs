//! Which process of how many this is, as whoever started it says.

use crate::error::{Error, Result};

/// The place of a process among those that work together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its number, from 0.
    pub rank: u64,
    /// Number of processes.
    pub world: u64,
    /// Its number on its machine, from 0: the GPU that it takes.
    pub local_rank: u64,
    /// Host and port of the store in which the processes find each other.
    pub store: (String, u16),
    /// Whether whoever started the processes serves the store; otherwise rank 0 does.
    pub store_is_served: bool,
    /// Distinguishes this attempt from others that used the same store.
    pub attempt: String,
}

impl Place {
    /// The place that the variables of torchrun give (`RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `MASTER_ADDR`,
    /// `MASTER_PORT`), else those of Slurm's srun (`SLURM_PROCID`, `SLURM_NTASKS`, `SLURM_LOCALID`, the first
    /// host of the node list, a port made of the job's number); `None` for one process. `variable` looks a
    /// variable up.
    ///
    /// # Errors
    /// [`Error::Settings`] naming the variable that is missing or no number.
    pub fn find(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Place>> {
        let wrong = |name: &str, what: &str| {
            let remedy = "start the processes with torchrun, srun or --nproc, which set it";
            Error::settings(format!("the environment variable {name} is {what}"), remedy)
        };
        let given = |name: &str| variable(name).ok_or_else(|| wrong(name, "not set"));
        let number = |name: &str| {
            let text = given(name)?;
            let number = text.trim().parse::<u64>();
            number.map_err(|_| wrong(name, &format!("{text:?}, no number")))
        };
        let place = if variable("RANK").is_some() || variable("WORLD_SIZE").is_some() {
            let world = number("WORLD_SIZE")?;
            if world == 1 {
                return Ok(None);
            }
            Place {
                rank: number("RANK")?,
                world,
                local_rank: number("LOCAL_RANK")?,
                store: (given("MASTER_ADDR")?, port(number("MASTER_PORT")?)?),
                store_is_served: variable("TORCHELASTIC_USE_AGENT_STORE").as_deref() == Some("True"),
                attempt: ["TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"]
                    .map(|name| variable(name).unwrap_or_default())
                    .join("/"),
            }
        } else if variable("SLURM_PROCID").is_some()
            && variable("SLURM_NTASKS").is_some()
            && !in_batch_script(&variable)
        {
            let world = number("SLURM_NTASKS")?;
            if world == 1 {
                return Ok(None);
            }
            let nodes = ["SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"]
                .into_iter()
                .find_map(&variable);
            Place {
                rank: number("SLURM_PROCID")?,
                world,
                local_rank: number("SLURM_LOCALID")?,
                store: (
                    match variable("MASTER_ADDR") {
                        Some(host) => host,
                        None => first_host(&nodes.unwrap_or_else(|| "127.0.0.1".into())),
                    },
                    match variable("MASTER_PORT") {
                        Some(_) => port(number("MASTER_PORT")?)?,
                        None => job_port(number("SLURM_JOB_ID").unwrap_or_default()),
                    },
                ),
                store_is_served: false,
                attempt: ["SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT"]
                    .map(|name| variable(name).unwrap_or_default())
                    .join("/"),
            }
        } else {
            return Ok(None);
        };
        let Place { rank, world, .. } = place;
        if rank >= world {
            let problem = format!(
                "process {rank} of {world} cannot be: ranks go from 0 to {}",
                world.max(1) - 1
            );
            return Err(Error::settings(problem, "correct RANK or WORLD_SIZE"));
        }
        Ok(Some(place))
    }
}

/// Whether this is Slurm's batch script itself, which has the variables of one of several tasks but is alone:
/// srun has not started them.
pub fn in_batch_script(variable: impl Fn(&str) -> Option<String>) -> bool {
    variable("ENVIRONMENT").as_deref() == Some("BATCH") && variable("SLURM_STEP_ID").is_none()
}

fn port(number: u64) -> Result<u16> {
    let problem = format!("{number} is no port");
    u16::try_from(number)
        .map_err(|_| Error::settings(problem, "set MASTER_PORT to a number from 1024 to 65535"))
}

/// Jobs that share a machine get different ports; below those that the system gives to connections.
fn job_port(job: u64) -> u16 {
    15_000 + (job % 15_000) as u16
}

/// The first host of a Slurm node list: `n[07-09,12],m1` begins with `n07`.
fn first_host(nodes: &str) -> String {
    let end = nodes.find([',', '[']).unwrap_or(nodes.len());
    let (name, rest) = nodes.split_at(end);
    match rest.strip_prefix('[') {
        Some(range) => {
            let digits: String = range.chars().take_while(char::is_ascii_digit).collect();
            let after = range.split_once(']').map_or("", |(_, after)| after);
            // A name may go on behind its numbers: n[1-2]-ib.
            let suffix = after.split([',', '[']).next().unwrap_or_default();
            format!("{name}{digits}{suffix}")
        }
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn find(variables: &str) -> Result<Option<Place>> {
        let pairs: BTreeMap<&str, &str> = variables
            .split_whitespace()
            .map(|pair| pair.split_once('=').unwrap())
            .collect();
        Place::find(|name| pairs.get(name).map(|value| value.to_string()))
    }

    #[test]
    fn without_variables_or_with_one_process_there_is_no_group() {
        assert_eq!(find("").unwrap(), None);
        assert_eq!(find("RANK=0 WORLD_SIZE=1").unwrap(), None);
        assert_eq!(
            find("SLURM_PROCID=0 SLURM_NTASKS=1 SLURM_LOCALID=0").unwrap(),
            None
        );
        // An allocation without srun.
        assert_eq!(find("SLURM_JOB_ID=7").unwrap(), None);
    }

    #[test]
    fn torchrun_comes_before_slurm() {
        let slurm =
            "SLURM_PROCID=5 SLURM_NTASKS=8 SLURM_LOCALID=1 SLURM_JOB_ID=31234 SLURM_STEP_NODELIST=n[07-09]";
        let torchrun = "RANK=3 WORLD_SIZE=4 LOCAL_RANK=1 MASTER_ADDR=h MASTER_PORT=29500";
        let place = find(&format!("{slurm} {torchrun}")).unwrap().unwrap();
        assert_eq!((place.rank, place.world, place.local_rank), (3, 4, 1));
        assert_eq!((place.store, place.store_is_served), (("h".into(), 29500), false));
        let served = find(&format!("{torchrun} TORCHELASTIC_USE_AGENT_STORE=True")).unwrap();
        assert!(served.unwrap().store_is_served);
        let place = find(slurm).unwrap().unwrap();
        assert_eq!((place.rank, place.world, place.local_rank), (5, 8, 1));
        assert_eq!(place.store, ("n07".into(), 15_000 + 1_234));
    }

    #[test]
    fn a_batch_script_is_alone_until_srun_starts_its_tasks() {
        let batch = "SLURM_PROCID=0 SLURM_NTASKS=2 SLURM_LOCALID=0 SLURM_JOB_ID=7 ENVIRONMENT=BATCH";
        assert_eq!(find(batch).unwrap(), None);
        assert_eq!(
            find(&format!("{batch} SLURM_STEP_ID=0")).unwrap().unwrap().world,
            2
        );
    }

    #[test]
    fn node_lists_begin_with_their_first_host() {
        for (nodes, first) in [
            ("node1", "node1"),
            ("a,b", "a"),
            ("n[3,7-9],m", "n3"),
            ("gpu[001-004]-ib,x", "gpu001-ib"),
        ] {
            assert_eq!(first_host(nodes), first);
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (variables, name) in [
            ("RANK=0", "WORLD_SIZE is not set"),
            ("WORLD_SIZE=2", "RANK is not set"),
            (
                "RANK=0 WORLD_SIZE=2 LOCAL_RANK=0 MASTER_PORT=1",
                "MASTER_ADDR is not set",
            ),
            ("RANK=x WORLD_SIZE=2", "RANK is \"x\", no number"),
            (
                "RANK=2 WORLD_SIZE=2 LOCAL_RANK=0 MASTER_ADDR=h MASTER_PORT=1",
                "process 2 of 2 cannot be",
            ),
            (
                "RANK=0 WORLD_SIZE=0 LOCAL_RANK=0 MASTER_ADDR=h MASTER_PORT=1",
                "process 0 of 0 cannot be",
            ),
            (
                "RANK=0 WORLD_SIZE=2 LOCAL_RANK=0 MASTER_ADDR=h MASTER_PORT=99999",
                "99999 is no port",
            ),
        ] {
            let error = find(variables).unwrap_err().to_string();
            assert!(error.contains(name), "{variables}: {error}");
        }
    }
}
