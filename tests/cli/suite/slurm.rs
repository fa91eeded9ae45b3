//! Suites as job arrays, with programs that stand in for Slurm's: `sbatch` runs all elements at once and in
//! order. `make slurm-test` does the same with Slurm itself.

use super::RECIPE;
use super::sweep::recipe;
use crate::world::{Done, Place};
use std::fs;
use std::os::unix::fs::PermissionsExt;

const SBATCH: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
job=$(($(cat last 2>/dev/null || echo 40) + 1))
echo $job > last
for word; do case $word in -*) flags="$flags $word" ;; *) script=$word ;; esac; done
echo "$job$flags $(basename "$script")" >> submitted
echo $job
[ "$lost" ] && exit
elements=$(sed -n 's/^#SBATCH --array=//p' "$script" | sed 's/%.*//' | tr , '\n')
for element in $(for range in $elements; do seq "${range%-*}" "${range#*-}"; done); do
  SLURM_ARRAY_JOB_ID=$job SLURM_ARRAY_TASK_ID=$element sh "$script" >> log 2>&1
done
true
"#;

fn place() -> Place {
    let place = Place::new();
    place.write("r.toml", RECIPE);
    fs::create_dir(place.path("bin")).unwrap();
    let squeue = "#!/bin/sh\ncat \"$(dirname \"$0\")/queue\" 2>/dev/null\ntrue\n";
    let scancel = "#!/bin/sh\necho \"$@\" >> \"$(dirname \"$0\")/cancelled\"\n";
    for (name, text) in [("sbatch", SBATCH), ("squeue", squeue), ("scancel", scancel)] {
        place.write(&format!("bin/{name}"), text);
        fs::set_permissions(
            place.path(&format!("bin/{name}")),
            fs::Permissions::from_mode(0o755),
        )
        .unwrap();
    }
    place
}

fn run(place: &Place, arguments: &str, variables: &[(&str, &str)]) -> Done {
    let bin = place.path("bin");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = place.command(arguments);
    Done::of(
        command
            .env("PATH", path)
            .envs(variables.iter().copied())
            .output()
            .unwrap(),
    )
}

const SLURM: &str = "--device cpu --executor slurm";

#[test]
fn arrays_give_the_report_of_a_local_suite_and_do_nothing_twice() {
    let place = place();
    place.ok("suite run r.toml --out here --device cpu");
    let command = format!("suite run r.toml --out there {SLURM} --jobs 3 --slurm partition=short,mem=2G");
    let done = run(&place, &command, &[]);
    assert_eq!(done.code, Some(0), "{}\n{}", done.stderr, place.text("bin/log"));
    assert_eq!(place.text("there/report.csv"), place.text("here/report.csv"));
    let submitted = "41 --parsable 0-pretrain.sh\n\
                     42 --parsable --dependency=aftercorr:41 1-fewshot.sh\n\
                     43 --parsable --dependency=aftercorr:41 2-representation.sh\n";
    assert_eq!(place.text("bin/submitted"), submitted);
    let script = place.text("there/slurm/0-pretrain.sh");
    for line in [
        "--array=0-5%3",
        "--partition=short",
        "--mem=2G",
        "--requeue",
        "--signal=B:USR1@90",
    ] {
        assert!(
            script.contains(&format!("\n#SBATCH {line}\n")),
            "{line}\n{script}"
        );
    }
    assert!(
        place
            .text("there/slurm/1-fewshot.cells")
            .starts_with("0 runs/scratch-s0/fewshot\n")
    );

    let again = run(&place, &command, &[]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert_eq!(place.text("bin/submitted"), submitted);
    // Only a result that is gone is submitted again, and waits for nobody.
    fs::remove_dir_all(place.path("there/runs/supervised-8-s1/fewshot")).unwrap();
    let again = run(&place, &command, &[]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert_eq!(
        place.text("bin/submitted"),
        format!("{submitted}44 --parsable 3-fewshot.sh\n")
    );
    assert_eq!(place.text("there/report.csv"), place.text("here/report.csv"));
}

#[test]
fn a_choice_is_made_when_all_values_are_measured() {
    let place = place();
    place.write(
        "r.toml",
        recipe("[0.02, 0.005]") + "[slurm.detection]\ntime = \"2:00:00\"\n",
    );
    let command = format!("suite run r.toml --out there {SLURM} --only method=scratch,task=detection");
    let done = run(&place, &command, &[]);
    assert_eq!(done.code, Some(0), "{}\n{}", done.stderr, place.text("bin/log"));
    let submitted = "41 --parsable 0-pretrain.sh\n\
                     42 --parsable --dependency=aftercorr:41 1-detection-lr-0.005.sh\n\
                     43 --parsable --dependency=aftercorr:41 2-detection-lr-0.02.sh\n\
                     44 --parsable --dependency=afterany:41:42:43 3-detection.sh\n";
    assert_eq!(place.text("bin/submitted"), submitted);
    let script = place.text("there/slurm/1-detection-lr-0.005.sh");
    assert!(script.contains("#SBATCH --time=2:00:00\n"), "{script}");
    let status = run(&place, "suite status there", &[]).stdout;
    assert!(
        status.contains("chosen: scratch s0 detection: lr 0.0"),
        "{status}"
    );
    let again = run(&place, &command, &[]);
    assert_eq!(
        (again.code, place.text("bin/submitted")),
        (Some(0), submitted.to_owned())
    );
}

#[test]
fn a_job_that_ends_without_a_result_is_a_failure_of_its_cell() {
    let place = place();
    let done = run(
        &place,
        &format!("suite run r.toml --out there {SLURM}"),
        &[("lost", "yes")],
    );
    let done = place.ends(done, 1, "suite run", &["all 18 commands failed"]);
    assert!(
        done.stderr.contains("0 of 18 done, 0 running, 0 queued"),
        "{}",
        done.stderr
    );
    let cell = |name: &str| place.json(&format!("there/runs/{name}/cell.json"))["error"].to_string();
    assert!(
        cell("scratch-s0").contains("its Slurm job (41_0) ended without a result"),
        "{}",
        cell("scratch-s0")
    );
    assert!(cell("scratch-s0/fewshot").contains("its pretraining failed"));
}

#[test]
fn status_shows_the_queue_and_cancel_empties_it() {
    let place = place();
    run(
        &place,
        &format!("suite run r.toml --out there {SLURM}"),
        &[("lost", "yes")],
    );
    for name in ["scratch-s0", "scratch-s0/fewshot"] {
        fs::remove_file(place.path(&format!("there/runs/{name}/cell.json"))).unwrap();
    }
    place.write("bin/queue", "41_0 RUNNING\n42_0 PENDING\n99_1 RUNNING\n");
    let status = run(&place, "suite status there", &[]).stdout;
    assert!(
        status.contains("running, job 41_0") && status.contains("pending, job 42_0"),
        "{status}"
    );
    let cancelled = run(&place, "suite cancel there", &[]);
    assert!(
        cancelled.stdout.starts_with("2 jobs cancelled"),
        "{}",
        cancelled.stdout
    );
    assert_eq!(place.text("bin/cancelled"), "41_0 42_0\n");
    place.write("bin/queue", "99_1 RUNNING\n");
    assert!(
        run(&place, "suite cancel there", &[])
            .stdout
            .starts_with("no job of this suite")
    );
}

#[test]
fn print_writes_scripts_and_submits_nothing() {
    let place = place();
    let recipe = format!("{RECIPE}\n[slurm]\ntime = \"1:00:00\"\n[slurm.fewshot]\ntime = \"0:10:00\"\n");
    place.write("r.toml", recipe);
    let done = place.ok("suite run r.toml --out there --device cpu --executor print --slurm partition=long");
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert!(lines[0] == "#!/bin/sh" && lines.len() == 5, "{}", done.stdout);
    assert!(
        lines[2].starts_with("array0=$(sbatch --parsable /"),
        "{}",
        lines[2]
    );
    assert!(
        lines[3].contains("--dependency=aftercorr:$array0 "),
        "{}",
        lines[3]
    );
    assert_eq!(
        place.text("there/slurm/submit.sh").trim_end(),
        done.stdout.trim_end()
    );
    let time = |task: &str| {
        let script = place.text(&format!("there/slurm/print-{task}.sh"));
        script
            .lines()
            .find(|line| line.contains("--time"))
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        [time("0-pretrain"), time("1-fewshot")],
        ["#SBATCH --time=1:00:00", "#SBATCH --time=0:10:00"]
    );
    assert!(!place.path("there/slurm/jobs.json").exists() && !place.path("bin/submitted").exists());
    // What it printed submits them.
    let path = format!(
        "{}:{}",
        place.path("bin").display(),
        std::env::var("PATH").unwrap()
    );
    let script = place.path("there/slurm/submit.sh");
    let done = std::process::Command::new(script)
        .env("PATH", path)
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    place.ok("suite run r.toml --out there --device cpu --dry-run");
    assert!(place.ok("suite status there").stdout.contains("18 of 18 done"));
}

#[test]
fn what_slurm_cannot_do_is_said_in_one_line() {
    let place = place();
    place.misused(
        "suite run r.toml --out x --slurm time=1",
        &["--slurm has no effect", "--executor slurm"],
    );
    let refused = |options: &str, saying: &[&str]| {
        let what = format!("suite run r.toml --out x {SLURM} {options}");
        place.ends(run(&place, &what, &[]), 2, &what, saying);
    };
    refused("--slurm fast", &["\"fast\" is not key=value"]);
    refused("--slurm array=1-3", &["array is set by the suite itself"]);
    place.write(
        "bin/sbatch",
        "#!/bin/sh\necho 'sbatch: error: invalid partition specified: x' >&2\nexit 1\n",
    );
    let what = format!("suite run r.toml --out x {SLURM} --slurm partition=x");
    place.ends(
        run(&place, &what, &[]),
        1,
        &what,
        &["sbatch: ", "invalid partition specified: x"],
    );
    let mut command = place.command(&format!("suite run r.toml --out y {SLURM}"));
    let done = Done::of(command.env("PATH", place.path("none")).output().unwrap());
    place.ends(
        done,
        1,
        "suite run",
        &["squeue cannot be started", "--executor print"],
    );
    // What was never submitted is known without Slurm.
    place.fails("suite cancel none", &["none: is not the folder of a suite"]);
    place.ok("suite run r.toml --out here --device cpu --executor print");
    let cancelled = place.ok("suite cancel here").stdout;
    assert!(cancelled.starts_with("no job of this suite"), "{cancelled}");
    place.fails(
        "suite cell x runs/none",
        &["is not a cell of this suite's recipe"],
    );
}
