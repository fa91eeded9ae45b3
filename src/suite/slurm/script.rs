//! Job scripts.

use super::super::cell::quoted;
use super::super::executor::TaskOptions;
use super::super::plan::SuitePlan;
use super::arrays::{Array, ranges};
use anyhow::{Context, Result};
use camtrast_common::Error;
use camtrast_common::files::write_atomically;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// How a suite's cells become jobs.
pub struct Submission<'a> {
    /// Options of `sbatch` by task.
    pub options: &'a TaskOptions,
    /// Flags of `camtrast suite cell` that describe the machine of a job.
    pub machine_flags: Vec<String>,
    /// Elements of one array that may run at the same time.
    pub at_once: Option<u64>,
}

/// Seconds before the time limit at which an element saves its state and is queued again.
const WARNING_SECONDS: u32 = 90;

/// Writes the script of an array, and beside it the list of its cells; returns the script's path.
pub fn write(
    plan: &SuitePlan,
    out: &Path,
    name: &str,
    array: &Array,
    submission: &Submission,
) -> Result<PathBuf> {
    let folder = folder(out)?;
    let list = folder.join(format!("{name}.cells"));
    let cell = |cell: usize| {
        let folder = &plan.cells[cell].folder;
        folder.strip_prefix(out).unwrap_or(folder).display().to_string()
    };
    let lines = array
        .cells
        .iter()
        .map(|(index, number)| format!("{index} {}\n", cell(*number)));
    let lines: String = lines.collect();
    write_atomically(&list, |file| file.write_all(lines.as_bytes()))?;
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let log = folder.join(format!("{name}-%A_%a.log"));
    let at_once = submission.at_once.map_or(String::new(), |n| format!("%{n}"));
    let own = [
        ("job-name", Some(format!("camtrast-{}", array.task))),
        ("array", Some(format!("{}{at_once}", ranges(array)))),
        ("output", Some(log.display().to_string())),
        ("open-mode", Some("append".into())),
        ("requeue", None),
        ("signal", Some(format!("B:USR1@{WARNING_SECONDS}"))),
        ("kill-on-invalid-dep", Some("yes".into())),
    ];
    let own = own.into_iter().map(|(key, value)| (key.to_owned(), value));
    let given = submission
        .options
        .of(plan.table_of(&array.task), &array.task)
        .into_iter();
    let options: String = own
        .chain(given.map(|(key, value)| (key, Some(value))))
        .map(|(key, value)| match value {
            // sbatch removes quotes as a shell does.
            Some(value) => format!("#SBATCH --{key}={}\n", quoted(&value)),
            None => format!("#SBATCH --{key}\n"),
        })
        .collect();
    let words = [program.display().to_string(), "suite".into(), "cell".into()];
    let place = std::path::absolute(out)?.display().to_string();
    let command: Vec<String> = words.iter().chain([&place]).map(|word| quoted(word)).collect();
    let flags: Vec<String> = submission.machine_flags.iter().map(|flag| quoted(flag)).collect();
    let text = format!(
        "#!/bin/sh\n\
         # Each element of the array runs the cell in its line of {name}.cells.\n\
         {options}\
         cell=$(sed -n \"s/^$SLURM_ARRAY_TASK_ID //p\" {list})\n\
         # Slurm's warning before the time limit: the state is saved, and the element is queued again.\n\
         trap 'again=yes; kill -TERM \"$run\"' USR1\n\
         {command} \"$cell\" {flags} &\n\
         run=$!\n\
         wait \"$run\"\n\
         status=$?\n\
         if [ \"$again\" ]; then\n\
         \x20 wait \"$run\"\n\
         \x20 scontrol requeue \"${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID\"\n\
         fi\n\
         exit \"$status\"\n",
        list = quoted(&list.display().to_string()),
        command = command.join(" "),
        flags = flags.join(" "),
    );
    let path = folder.join(format!("{name}.sh"));
    write_program(&path, &text)?;
    Ok(path)
}

/// The folder of a suite's scripts and logs, made if need be.
fn folder(out: &Path) -> Result<PathBuf> {
    let folder = out.join("slurm");
    fs::create_dir_all(&folder).map_err(Error::io(&folder, "create"))?;
    Ok(std::path::absolute(&folder)?)
}

/// Writes a shell script that can be started.
pub fn write_program(path: &Path, text: &str) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::io(parent, "create"))?;
    }
    write_atomically(path, |file| file.write_all(text.as_bytes()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(Error::io(path, "write"))?;
    Ok(())
}
