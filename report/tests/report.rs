//! Reports over made-up suites.

mod made_up;

use camtrast_report::compare::{Comparison, compare};
use camtrast_report::gather::gather;
use camtrast_report::record::{self, CELL, CellRecord, PRETRAIN, SUITE, State};
use camtrast_report::rows::Gathered;
use camtrast_report::stats::Over;
use made_up::{MadeUp, ODD_NAME};
use serde_json::Value;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn made(seeds: &[u64], runs: &[&str]) -> (TempDir, MadeUp) {
    let folder = tempfile::tempdir().unwrap();
    let mut made = MadeUp::new(folder.path(), seeds);
    for (i, run) in runs.iter().enumerate() {
        made.run(run, Some(run));
        for &seed in seeds {
            let number = 0.3 + 0.1 * i as f64 + 0.01 * seed as f64 * (i + 1) as f64;
            made.all_done(run, seed, number, number);
        }
    }
    made.save();
    (folder, made)
}

fn tables(root: &Path) -> (Gathered, Vec<Comparison>) {
    let all = gather(&[root.to_owned()]).unwrap();
    let tables = compare(&all);
    (all, tables)
}

fn written(root: &Path, name: &str) -> String {
    camtrast_report::write(&[root.to_owned()], root).unwrap();
    fs::read_to_string(root.join(name)).unwrap()
}

fn change(made: &MadeUp, run: &str, task: &str, change: impl FnOnce(&mut CellRecord)) {
    let path = made.folder(run, 0, task).join(CELL);
    let mut cell = record::read(&path).unwrap().unwrap();
    change(&mut cell);
    record::write(&path, &cell).unwrap();
}

#[test]
fn several_seeds_are_averaged_and_held_against_supervised() {
    let (folder, _) = made(&[0, 1, 2], &["supervised", "moco"]);
    let (all, tables) = tables(folder.path());
    assert_eq!(tables.len(), 1);
    let [baseline, moco] = [0, 1].map(|i| &tables[0].lines[i].entries[0]);
    let summary = moco.summary.unwrap();
    assert!(
        (summary.mean - 42.0).abs() < 1e-9 && summary.over == Some(Over::Seeds),
        "{summary:?}"
    );
    let delta = moco.delta.unwrap();
    assert!(
        (delta.mean - 11.0).abs() < 1e-9 && delta.pairs == 3 && delta.p.unwrap() < 0.05,
        "{delta:?}"
    );
    assert!(moco.best && !baseline.best && baseline.delta.is_none());
    assert!(
        !all.columns[2].headline && !tables[0].lines[1].entries[2].best,
        "an entropy is not the better for being larger"
    );
}

#[test]
fn one_seed_has_its_episodes() {
    let (folder, made) = made(&[0], &["supervised", "moco"]);
    made.episodes("supervised", 0, 0.3, "the same");
    made.episodes("moco", 0, 0.4, "the same");
    let (_, tables) = tables(folder.path());
    let entries = &tables[0].lines[1].entries;
    assert_eq!(entries[0].summary.unwrap().half, Some(1.0));
    let delta = entries[0].delta.unwrap();
    assert!(
        delta.over == Over::Episodes && delta.pairs == 50 && delta.p.unwrap() < 1e-6,
        "{delta:?}"
    );
    assert_eq!(
        (entries[1].summary.unwrap().half, entries[1].delta.unwrap().p),
        (None, None),
        "AP50 has no episodes"
    );
}

#[test]
fn protocols_stand_in_tables_of_their_own() {
    let (folder, made) = made(&[0, 1], &["supervised", "moco", "byol"]);
    made.done("byol", 0, "detection", 900, &[("detection/AP50", 0.9)]);
    made.done("moco", 1, "detection", 900, &[("detection/AP50", 0.9)]);
    let (_, tables) = tables(folder.path());
    assert_eq!(tables.len(), 2);
    let rows = |table: usize| {
        tables[table]
            .lines
            .iter()
            .map(|line| line.row)
            .collect::<Vec<_>>()
    };
    assert_eq!((rows(0), rows(1)), (vec![0, 1, 2], vec![1, 2]));
    let ap50 = |table: usize, line: usize| &tables[table].lines[line].entries[1];
    assert_eq!(
        ap50(0, 1).values,
        [(0, 40.0)],
        "the seed of the other protocol is not averaged in"
    );
    assert_eq!(
        (ap50(0, 1).elsewhere.clone(), ap50(1, 0).values.clone()),
        (vec![2], vec![(1, 90.0)])
    );
    assert!(ap50(1, 1).delta.is_none(), "nothing to compare with");
    let detection = tables[1]
        .protocols
        .iter()
        .find(|p| p.task == "detection")
        .unwrap();
    assert_eq!(detection.difference.as_deref(), Some("steps is 900, not 100"));
    let page = written(folder.path(), "report.html");
    assert!(page.contains("Table 2") && page.contains("steps is 900, not 100"));
    assert!(written(folder.path(), "report.md").contains("steps is 900, not 100"));
}

#[test]
fn seeds_pretrained_in_two_ways_are_two_rows() {
    let (folder, made) = made(&[0, 1], &["supervised"]);
    made.done("supervised", 1, PRETRAIN, 77, &[("pretrain/loss", 1.0)]);
    let (all, _) = tables(folder.path());
    let names: Vec<&str> = all.rows.iter().map(|row| &row.run.name[..]).collect();
    assert_eq!(
        names,
        ["supervised", "supervised, other pretraining settings (seed 1)"]
    );
    assert_eq!(
        compare(&all).len(),
        1,
        "how a backbone was made is what is compared"
    );
}

#[test]
fn every_gap_says_why() {
    let (folder, made) = made(
        &[0],
        &["done", "failed", "edited", "removed", "outdated", "unmeasured"],
    );
    let mut made = made;
    made.cell("failed", 0, "detection", |cell| {
        (cell.state, cell.error) = (State::Failed, Some("no <memory>".into()))
    });
    fs::write(
        made.folder("edited", 0, "detection").join("metrics.json"),
        "{\"detection/AP50\": 0.99}",
    )
    .unwrap();
    fs::remove_file(made.folder("removed", 0, "detection").join("metrics.json")).unwrap();
    made.done("unmeasured", 0, "detection", 100, &[("detection/AP", 0.5)]);
    made.run("interrupted", Some("moco"));
    made.log("interrupted", 0, PRETRAIN, 12);
    made.run("begun", Some("moco"));
    made.cell("begun", 0, PRETRAIN, |_| ());
    made.run("to do", Some("moco"));
    made.save();
    change(&made, "outdated", "detection", |cell| {
        cell.checkpoint_sha256 = "older".into()
    });

    let (all, tables) = tables(folder.path());
    let why = |row: usize| {
        let entry = &tables[0].lines[row].entries[1];
        assert_eq!(
            (all.rows[row].run.name.as_str() == "done", entry.summary.is_some()),
            (row == 0, row == 0)
        );
        entry
            .gaps
            .first()
            .map(|(_, gap)| gap.why.clone())
            .unwrap_or_default()
    };
    let expected = [
        "",
        "failed: no <memory>",
        "metrics.json was edited after the run",
        "metrics.json was removed after the run",
        "measured with an older backbone than the one in the folder now",
        "metrics.json has no detection/AP50",
        "not started; pretraining: interrupted after step 12",
        "not started; pretraining: interrupted before its first log line",
        "not started, and its pretraining is not started either",
    ];
    assert_eq!(std::array::from_fn(why), expected);
    let page = written(folder.path(), "report.html");
    assert!(page.contains("no &lt;memory&gt;") && !page.contains("no <memory>"));
    let json: Value = serde_json::from_str(&written(folder.path(), "report.json")).unwrap();
    assert_eq!(
        json["tables"][0]["rows"][1]["numbers"]["AP50"]["missing"]["0"],
        "failed: no <memory>"
    );
}

#[test]
fn nothing_finished_is_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut made = MadeUp::new(folder.path(), &[0]);
    made.run("moco", Some("moco"));
    made.save();
    let refusal = |path: &Path| gather(&[path.to_owned()]).err().unwrap().to_string();
    let error = refusal(folder.path());
    assert!(
        error.contains(folder.path().to_str().unwrap()) && error.contains("no finished run"),
        "{error}"
    );
    let empty = tempfile::tempdir().unwrap();
    assert!(refusal(empty.path()).contains("holds no runs"));
    assert!(refusal(&empty.path().join("none")).contains("is not a folder"));
}

#[test]
fn damaged_records_are_named() {
    let (folder, made) = made(&[0], &["moco"]);
    let cell = made.folder("moco", 0, "fewshot").join(CELL);
    fs::write(&cell, "{\"state\": ").unwrap();
    let error = gather(&[folder.path().to_owned()]).err().unwrap().to_string();
    assert!(
        error.contains(cell.to_str().unwrap()) && error.contains("damaged"),
        "{error}"
    );
    fs::write(folder.path().join(SUITE), "[").unwrap();
    assert!(
        gather(&[folder.path().to_owned()])
            .err()
            .unwrap()
            .to_string()
            .contains(SUITE)
    );
}

#[test]
fn csv_is_the_same_after_an_interruption() {
    let (one, _) = made(&[0, 1], &["supervised", "moco"]);
    let (two, again) = made(&[0, 1], &["supervised", "moco"]);
    // Another course: other times, other logs, and a command that was done twice.
    again.log("moco", 0, PRETRAIN, 40);
    change(&again, "moco", "fewshot", |cell| cell.seconds = 9999.0);
    let csv = written(one.path(), "report.csv");
    assert_eq!(csv, written(two.path(), "report.csv"));
    assert_eq!(csv.lines().count(), 1 + 2 * 2 * 3);
    assert_eq!(
        csv.lines().nth(1),
        Some("supervised,supervised,0,fewshot,fewshot/5way1shot/mean,0.3,supervised 0,fewshot 600,,")
    );
}

#[test]
fn names_are_escaped_and_the_page_is_whole_in_itself() {
    let folder = tempfile::tempdir().unwrap();
    MadeUp::of_everything(folder.path());
    let page = written(folder.path(), "report.html");
    assert!(page.contains("a&lt;b &amp; &quot;c&quot; | $d_e") && !page.contains("a<b"));
    assert!(!page.contains("<script>alert"), "settings are escaped too");
    for outside in ["http://", "https://", "src=\"/", "url(", "@import"] {
        let namespaced = page.matches("http://www.w3.org/2000/svg").count();
        let found = page.matches(outside).count();
        assert_eq!(
            found,
            if outside == "http://" { namespaced } else { 0 },
            "{outside}"
        );
    }
    for address in page
        .split("href=\"#")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
    {
        assert!(
            page.contains(&format!("id=\"{address}\"")),
            "#{address} leads nowhere"
        );
    }
    assert!(
        page.contains("imported") && page.contains("own settings") && page.contains("data:image/jpeg;base64")
    );
    assert!(page.contains("seeds differ only in the transfer, not in the pretraining: torchvision."));
    assert!(page.contains("the disk is full") && page.contains("published 55.31"));
    let markdown = fs::read_to_string(folder.path().join("report.md")).unwrap();
    assert!(markdown.contains("a&lt;b & \"c\" \\| $d_e"), "{markdown}");
    assert!(
        fs::read_to_string(folder.path().join("report.tex"))
            .unwrap()
            .contains("\\$d\\_e")
    );
    assert!(
        fs::read_to_string(folder.path().join("report.csv"))
            .unwrap()
            .contains("\"a<b & \"\"c\"\" | $d_e\"")
    );
    assert!(folder.path().join("figure.svg").exists() && ODD_NAME.contains('<'));
}

#[test]
fn two_folders_are_two_groups_of_rows() {
    let (one, _) = made(&[0], &["supervised", "moco"]);
    let (two, _) = made(&[0], &["supervised"]);
    let all = gather(&[one.path().to_owned(), two.path().to_owned()]).unwrap();
    let names: Vec<&str> = all.rows.iter().map(|row| &row.run.name[..]).collect();
    assert!(
        names[0].starts_with("supervised (") && names[1] == "moco" && names[2].starts_with("supervised ("),
        "{names:?}"
    );
    assert_eq!(all.columns.len(), 3);
    let tables = compare(&all);
    assert!(
        tables[0]
            .lines
            .iter()
            .all(|line| line.row == 1 || line.entries[0].delta.is_none())
    );
}

#[test]
fn what_has_no_number_yet_stands_with_its_suite() {
    let (one, _) = made(&[0], &["supervised", "moco"]);
    let (two, mut other) = made(&[0], &["supervised"]);
    other.run("to do", None);
    other.save();
    for (task, metric) in [
        ("fewshot", "fewshot/5way1shot/mean"),
        ("detection", "detection/AP50"),
        ("representation", "representation/entropy"),
    ] {
        other.done("supervised", 0, task, 900, &[(metric, 0.5)]);
    }
    let all = gather(&[one.path().to_owned(), two.path().to_owned()]).unwrap();
    let rows = |table: &Comparison| table.lines.iter().map(|line| line.row).collect::<Vec<_>>();
    assert_eq!(
        compare(&all).iter().map(rows).collect::<Vec<_>>(),
        [vec![0, 1], vec![2, 3]]
    );
}

#[test]
fn plain_run_folders_are_rows() {
    let folder = tempfile::tempdir().unwrap();
    for (name, steps) in [("moco", 100), ("scratch", 100), ("longer", 900)] {
        let run = folder.path().join(name);
        fs::create_dir(&run).unwrap();
        let config = format!(
            "checkpoint = \"{name}.safetensors\"\nseed = 4\nvoc = \"/{name}\"\nsteps = \
             {steps}\n\n[dataset]\nbackbone_sha256 = \"{name}\"\ntest_annotations = \"the same\"\n"
        );
        fs::write(run.join("config.toml"), config).unwrap();
        fs::write(
            run.join("metrics.json"),
            "{\"detection/AP50\": 0.5, \"device\": \"cpu\", \"seconds\": 2.0}",
        )
        .unwrap();
    }
    let half = folder.path().join("half");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("config.toml"), "anchor-sizes = [8.0]\nseed = 4\n").unwrap();
    let (all, tables) = tables(folder.path());
    let rows = |table: &Comparison| {
        table
            .lines
            .iter()
            .map(|line| all.rows[line.row].run.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        tables.iter().map(rows).collect::<Vec<_>>(),
        [vec!["half", "moco", "scratch"], vec!["longer"]]
    );
    assert_eq!(
        tables[1].protocols[0].difference.as_deref(),
        Some("steps is 900, not 100")
    );
    assert_eq!(all.columns[0].title, "AP50");
    assert!(
        tables[0].lines[0].entries[0].gaps[0]
            .1
            .why
            .starts_with("interrupted")
    );
}
