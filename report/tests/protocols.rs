//! Numbers that may not stand beside each other, and marks of those that are not what they seem.

mod made_up;

use camtrast_report::compare::{Comparison, compare};
use camtrast_report::gather::gather;
use camtrast_report::rows::Gathered;
use camtrast_report::stats::Over;
use made_up::MadeUp;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A folder of `fewshot eval --out`: a mean, its episodes, and what config.toml records, if it does.
fn evaluation(root: &Path, name: &str, method: &str, mean: f64, config: Option<&str>, more: Value) {
    let folder = root.join(name);
    fs::create_dir_all(&folder).unwrap();
    let mut metrics = json!({
        "fewshot/5way1shot/mean": mean, "fewshot/5way1shot/ci95": 0.01, "method": method,
        "backbone_sha256": format!("sum of {name}"), "seconds": 1.0,
    });
    metrics
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    fs::write(folder.join("metrics.json"), metrics.to_string()).unwrap();
    let accuracies: Vec<f64> = (0..50)
        .map(|i| mean + 0.01 * f64::from(i % 7) + mean * 0.02 * f64::from(i % 3))
        .collect();
    fs::write(
        folder.join("episodes.json"),
        json!({"fewshot/5way1shot": accuracies}).to_string(),
    )
    .unwrap();
    if let Some(config) = config {
        fs::write(folder.join("config.toml"), config).unwrap();
    }
}

/// The record of an evaluation.
fn config(queries: u32, pack: &str) -> String {
    format!(
        "checkpoint = \"x\"\ndata = \"{pack}.pack\"\nqueries = {queries}\nseed = \
         0\n\n[dataset]\nbackbone_sha256 = \"x\"\n\
         sha256 = \"{pack}\"\n\n[build]\ncommand = \"fewshot eval\"\nversion = \"0.1.0\"\n"
    )
}

/// The same with episodes of a checksum.
fn with_episodes(queries: u32, pack: &str, sum: &str) -> String {
    config(queries, pack) + &format!("\n[episodes]\n5way1shot = \"{sum}\"\n")
}

fn tables(root: &Path) -> (Gathered, Vec<Comparison>) {
    let all = gather(&[root.to_owned()]).unwrap();
    let tables = compare(&all);
    (all, tables)
}

fn names(all: &Gathered, table: &Comparison) -> Vec<String> {
    table
        .lines
        .iter()
        .map(|line| all.rows[line.row].run.name.clone())
        .collect()
}

fn written(root: &Path, name: &str) -> String {
    camtrast_report::write(&[root.to_owned()], root).unwrap();
    fs::read_to_string(root.join(name)).unwrap()
}

#[test]
fn what_is_not_recorded_is_neither_compared_nor_tested() {
    let folder = TempDir::new().unwrap();
    for (name, method, mean) in [("old-a", "supervised", 0.4), ("old-b", "moco", 0.5)] {
        evaluation(folder.path(), name, method, mean, None, json!({}));
    }
    for (name, method, mean) in [("new-a", "supervised", 0.4), ("new-b", "moco", 0.5)] {
        evaluation(
            folder.path(),
            name,
            method,
            mean,
            Some(&with_episodes(15, "p", "e")),
            json!({}),
        );
    }
    let (all, tables) = tables(folder.path());
    let found: Vec<_> = tables.iter().map(|table| names(&all, table)).collect();
    assert_eq!(
        found,
        [["new-a", "new-b"], ["old-a", "old-b"]],
        "the unrecorded ones are last"
    );
    let [new, old] = [0, 1].map(|table| &tables[table].lines[1].entries[0]);
    assert!(
        new.best && new.delta.unwrap().p.unwrap() < 0.05,
        "{:?}",
        new.delta
    );
    assert!(
        !old.best && old.delta.is_none() && old.summary.is_some(),
        "{:?}",
        old.delta
    );
    let said = "how it was measured is not recorded";
    for page in ["report.md", "report.html", "report.json"] {
        assert!(written(folder.path(), page).contains(said), "{page}");
    }
    assert!(!written(folder.path(), "report.md").contains("unset"));

    // Also where there is nothing else.
    let alone = TempDir::new().unwrap();
    evaluation(alone.path(), "old", "moco", 0.5, None, json!({}));
    assert!(written(alone.path(), "report.md").contains(said));
}

#[test]
fn other_data_and_other_settings_stand_apart_and_say_so() {
    let folder = TempDir::new().unwrap();
    let differing = [
        ("a", 15, "p"),
        ("b", 15, "p"),
        ("other-pack", 15, "q"),
        ("other-queries", 5, "p"),
    ];
    for (name, queries, pack) in differing {
        evaluation(
            folder.path(),
            name,
            "moco",
            0.4,
            Some(&with_episodes(queries, pack, name)),
            json!({}),
        );
    }
    let (all, tables) = tables(folder.path());
    let found: Vec<_> = tables.iter().map(|table| names(&all, table)).collect();
    assert_eq!(found, [vec!["a", "b"], vec!["other-pack"], vec!["other-queries"]]);
    let difference = |table: usize| tables[table].protocols[0].difference.clone().unwrap();
    assert_eq!(difference(1), "other data (sha256 is q, not p)");
    assert_eq!(difference(2), "queries is 5, not 15");
    let csv = written(folder.path(), "report.csv");
    assert!(
        csv.lines().skip(1).all(|line| line.contains(",x,")),
        "the backbone's checksum is there: {csv}"
    );
    let made = written(folder.path(), "report.html");
    assert!(made.contains("camtrast fewshot eval --config"), "{made}");
}

#[test]
fn episodes_are_paired_by_their_checksum() {
    let p = |first: String, second: String| {
        let folder = TempDir::new().unwrap();
        evaluation(folder.path(), "a", "supervised", 0.4, Some(&first), json!({}));
        evaluation(folder.path(), "b", "moco", 0.5, Some(&second), json!({}));
        let (_, tables) = tables(folder.path());
        assert_eq!(tables.len(), 1);
        let entry = &tables[0].lines[1].entries[0];
        let delta = entry.delta.unwrap();
        assert_eq!(delta.p.is_some(), delta.over == Over::Episodes);
        assert_eq!(entry.best, delta.p.is_some(), "what is not tested is not bold");
        delta.p
    };
    let of = |sum: &str| with_episodes(15, "p", sum);
    assert!(p(of("e"), of("e")).unwrap() < 1e-6);
    assert_eq!(p(of("e"), of("f")), None, "other episodes");
    assert_eq!(p(config(15, "p"), config(15, "p")), None, "nobody knows which");
    assert_eq!(p(of("e"), config(15, "p")), None);
}

#[test]
fn seeds_are_paired_on_the_same_episodes_only() {
    let folder = TempDir::new().unwrap();
    let mut made = MadeUp::new(folder.path(), &[0, 1, 2]);
    for (i, run) in ["supervised", "moco"].into_iter().enumerate() {
        made.run(run, Some(run));
        for seed in 0..3 {
            let number = 0.3 + 0.1 * i as f64 + 0.01 * seed as f64 * (i + 1) as f64;
            made.all_done(run, seed, number, number);
            made.episodes(run, seed, number, &format!("{run} {seed}"));
        }
    }
    made.save();
    let (_, tables) = tables(folder.path());
    let entries = &tables[0].lines[1].entries;
    let delta = entries[0].delta.unwrap();
    assert!(
        delta.p.is_none() && (delta.mean - 11.0).abs() < 1e-9 && !entries[0].best,
        "{delta:?}"
    );
    assert!(entries[1].delta.unwrap().p.is_some(), "AP50 knows no episodes");
}

#[test]
fn a_setting_left_to_its_default_is_not_called_unset() {
    let folder = TempDir::new().unwrap();
    let mut made = MadeUp::new(folder.path(), &[0]);
    for run in ["a", "b", "c"] {
        made.run(run, Some(run));
        made.all_done(run, 0, 0.4, 0.4);
    }
    // A recipe that does not say steps; the command's own record does.
    made.cell("c", 0, "detection", |cell| {
        let bytes = fs::read(made.folder("c", 0, "detection").join("metrics.json")).unwrap();
        cell.metrics_sha256 = made_up::sha256(&bytes);
        (cell.state, cell.protocol) = (camtrast_report::record::State::Done, "other".into());
        (cell.protocol_settings, cell.checkpoint_sha256) = (vec!["shared = yes".into()], "c 0".into());
    });
    fs::write(
        made.folder("c", 0, "detection").join("config.toml"),
        "steps = 900\n",
    )
    .unwrap();
    made.save();
    let difference = |root: &Path| tables(root).1[1].protocols[0].difference.clone().unwrap();
    assert_eq!(difference(folder.path()), "steps is 900, not 100");
    fs::write(
        made.folder("c", 0, "detection").join("config.toml"),
        "steps = 100\n",
    )
    .unwrap();
    assert_eq!(
        difference(folder.path()),
        "no recorded setting differs: the data differ, or the same setting is written in another way"
    );
    for (run, sum) in [("a", "one"), ("c", "two")] {
        let path = made.folder(run, 0, "detection").join("config.toml");
        let config = format!("steps = 100\n[dataset]\ntest_files = \"{sum}\"\nbackbone_sha256 = \"{run}\"\n");
        fs::write(path, config).unwrap();
    }
    assert_eq!(
        difference(folder.path()),
        "other data (test_files is two, not one)"
    );
    fs::remove_file(made.folder("a", 0, "detection").join("config.toml")).unwrap();
    fs::remove_file(made.folder("c", 0, "detection").join("config.toml")).unwrap();
    assert_eq!(difference(folder.path()), "steps is not recorded, there 100");
}

#[test]
fn bold_is_what_is_significantly_ahead_of_the_runner_up() {
    let best = |numbers: [[f64; 3]; 3]| {
        let folder = TempDir::new().unwrap();
        let mut made = MadeUp::new(folder.path(), &[0, 1, 2]);
        for (run, numbers) in ["a", "b", "c"].into_iter().zip(numbers) {
            made.run(run, Some(run));
            (0..3).for_each(|seed| made.all_done(run, seed, numbers[seed as usize], 0.5));
        }
        made.save();
        let page = written(folder.path(), "report.md");
        assert!(
            page.contains("Bold: significantly better than the second best"),
            "{page}"
        );
        let (_, tables) = tables(folder.path());
        tables[0]
            .lines
            .iter()
            .map(|line| line.entries[0].best)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        best([[0.10, 0.25, 0.39], [0.24, 0.10, 0.20], [0.1, 0.1, 0.1]]),
        [false; 3],
        "ahead by chance"
    );
    assert_eq!(
        best([[0.30, 0.41, 0.50], [0.20, 0.30, 0.41], [0.1, 0.1, 0.1]]),
        [true, false, false]
    );
    assert_eq!(
        best([[0.3, 0.4, 0.5], [0.3, 0.4, 0.5], [0.1, 0.1, 0.1]]),
        [false; 3],
        "two at one height"
    );
}

#[test]
fn every_number_of_a_network_that_saw_the_test_data_is_marked() {
    let folder = TempDir::new().unwrap();
    let leak = "the backbone was trained on this pack";
    evaluation(
        folder.path(),
        "clean",
        "moco",
        0.4,
        Some(&config(15, "p")),
        json!({}),
    );
    evaluation(
        folder.path(),
        "leaky",
        "byol",
        0.9,
        Some(&config(15, "p")),
        json!({"leakage": leak}),
    );
    for (page, mark) in [
        ("report.md", "90.00 ± 1.00 ‡"),
        ("report.tex", "^\\ddagger"),
        ("report.html", " ‡</td>"),
    ] {
        let page = written(folder.path(), page);
        assert!(page.contains(mark) && page.contains(leak), "{mark} {page}");
    }
    let csv = written(folder.path(), "report.csv");
    assert!(csv.lines().next().unwrap().ends_with(",leakage,partial"), "{csv}");
    let marked = |line: &str| line.ends_with(&format!(",{leak},"));
    assert!(
        csv.lines()
            .skip(1)
            .all(|line| marked(line) == line.starts_with("leaky")),
        "{csv}"
    );
    let json: Value = serde_json::from_str(&written(folder.path(), "report.json")).unwrap();
    let rows = &json["tables"][0]["rows"];
    assert_eq!(
        (
            &rows[0]["numbers"]["1-shot"]["leakage"],
            &rows[1]["numbers"]["1-shot"]["leakage"]
        ),
        (&Value::Null, &leak.into())
    );
    let text = camtrast_report::write(&[folder.path().to_owned()], folder.path())
        .unwrap()
        .table;
    assert!(text.contains("‡") && text.contains(leak), "{text}");
}

#[test]
fn a_difference_of_nothing_has_no_sign() {
    let folder = TempDir::new().unwrap();
    evaluation(
        folder.path(),
        "a",
        "supervised",
        0.4,
        Some(&with_episodes(15, "p", "e")),
        json!({}),
    );
    evaluation(
        folder.path(),
        "b",
        "moco",
        0.39999999,
        Some(&with_episodes(15, "p", "e")),
        json!({}),
    );
    let page = written(folder.path(), "report.md");
    assert!(
        page.contains("| 0.00 ± ") && !page.contains("−0.00") && !page.contains("-0.00"),
        "{page}"
    );
}
