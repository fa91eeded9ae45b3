//! Sweeps, correlations and ranks of made-up suites.

mod made_up;

use camtrast_report::compare::compare;
use camtrast_report::gather::gather;
use camtrast_report::order::order;
use camtrast_report::predict::{Prediction, prediction};
use made_up::MadeUp;
use serde_json::Value;
use std::fs;
use tempfile::TempDir;

/// Runs whose accuracy and AP50 grow with their entropy, but for one exchange.
fn suite(runs: usize, seeds: &[u64]) -> (TempDir, MadeUp) {
    let folder = tempfile::tempdir().unwrap();
    let mut made = MadeUp::new(folder.path(), seeds);
    for i in 0..runs {
        let (name, method) = (format!("run <{i}>"), if i == 0 { "supervised" } else { "moco" });
        made.run(&name, Some(method));
        for &seed in seeds {
            let rank = [1, 0, 2, 3, 4, 5, 6][i] as f64 + 0.03 * (seed * i as u64) as f64;
            made.all_done(
                &name,
                seed,
                0.3 + 0.05 * rank,
                0.4 + 0.04 * i as f64 + 0.001 * seed as f64,
            );
            made.done(
                &name,
                seed,
                "representation",
                1,
                &[("representation/entropy", 2.0 + i as f64)],
            );
        }
    }
    made.save();
    (folder, made)
}

fn written(made: &MadeUp, name: &str) -> String {
    camtrast_report::write(std::slice::from_ref(&made.root), &made.root).unwrap();
    fs::read_to_string(made.root.join(name)).unwrap()
}

#[test]
fn correlations_are_over_backbones_and_need_six() {
    let (_folder, made) = suite(6, &[0, 1]);
    let all = gather(std::slice::from_ref(&made.root)).unwrap();
    let Prediction::Said(matrix) = prediction(&all, &compare(&all)) else {
        panic!("six runs of two seeds")
    };
    assert_eq!(
        (matrix.measures.clone(), matrix.numbers.clone()),
        (vec![2], vec![0, 1])
    );
    let [accuracy, ap50] = [0, 1].map(|number| &matrix.pairs[0][number]);
    assert_eq!(accuracy.backbones.len(), 12);
    // 5.5 instead of 1.5 for four of twelve ranks: 1 - 6 * sum(d^2) / (n^3 - n), but for ties.
    let [rho, tau] = accuracy.correlations.unwrap();
    assert!(
        (0.9..1.0).contains(&rho.value) && (0.8..rho.value).contains(&tau.value),
        "{rho:?} {tau:?}"
    );
    let [low, high] = rho.interval.unwrap();
    assert!(low < rho.value && rho.value <= high, "{rho:?}");
    assert!(ap50.correlations.unwrap()[0].value > rho.value);
    // Of 720 orders of the runs one is as good for AP50; for the accuracy, five more.
    let [accuracy, ap50] = [accuracy, ap50].map(|pair| pair.test.unwrap());
    let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
    assert!(
        near(ap50.p, 2.0 / 720.0) && near(ap50.holm, 2.0 * ap50.p),
        "{ap50:?}"
    );
    assert!(
        near(accuracy.p, 12.0 / 720.0) && near(accuracy.holm, accuracy.p),
        "{accuracy:?}"
    );

    let page = written(&made, "report.html");
    assert!(page.contains("id=\"pair-0-1\"") && page.contains("href=\"#pair-0-1\""));
    let csv = written(&made, "correlations.csv");
    assert_eq!(csv.lines().count(), 3);
    assert!(
        csv.starts_with("measure,number,backbones,") && csv.contains(",holm\n"),
        "{csv}"
    );
    assert!(page.contains("<small>p = 0.003, Holm 0.006</small>"));
    assert!(
        csv.contains("representation representation/entropy,fewshot fewshot/5way1shot/mean,12,"),
        "{csv}"
    );
    let json: Value = serde_json::from_str(&written(&made, "report.json")).unwrap();
    let said = &json["findings"]["correlations"][0];
    assert_eq!(
        (said["measure"].as_str(), said["spearman"]["value"].as_f64()),
        (Some("H_R"), Some(rho.value))
    );
    assert!(written(&made, "report.md").contains("| H_R | ρ +0.9"));

    let (_folder, made) = suite(5, &[0]);
    let markdown = written(&made, "report.md");
    let refusal = "cannot be said from 5 backbones: it takes 6 that have both";
    assert!(
        markdown.contains(refusal) && written(&made, "report.html").contains(refusal),
        "{markdown}"
    );
    assert!(!markdown.contains("ρ") && !made.root.join("correlations.csv").exists());
}

#[test]
fn a_given_backbone_is_one_whatever_the_seeds() {
    let (_folder, mut made) = suite(6, &[0, 1]);
    made.suite.runs[5].imported = Some("resnet18.pth".into());
    made.save();
    let all = gather(std::slice::from_ref(&made.root)).unwrap();
    let Prediction::Said(matrix) = prediction(&all, &compare(&all)) else {
        panic!("eleven backbones")
    };
    assert_eq!(matrix.pairs[0][0].backbones.len(), 11);
}

#[test]
fn ranks_are_averaged_over_seeds_and_tasks() {
    let (_folder, made) = suite(4, &[0, 1, 2]);
    let all = gather(std::slice::from_ref(&made.root)).unwrap();
    let tables = compare(&all);
    let order = order(&all, &tables[0]).unwrap();
    assert_eq!(order.columns, [0, 1]);
    // By accuracy the first two are exchanged; AP50 has the opposite order of the indices.
    let of = |row: usize| order.runs.iter().find(|run| run.0 == row).unwrap();
    assert_eq!(of(0).1, [Some(3.0), Some(4.0)]);
    assert_eq!(
        (of(1).1.clone(), of(1).2),
        (vec![Some(4.0), Some(3.0)], Some(3.5))
    );
    assert_eq!(order.runs[0].0, 3, "the best one is the first");
    let blocks: Vec<(usize, usize)> = order.tests.iter().map(|t| (t.blocks, t.rows.len())).collect();
    assert_eq!(blocks, [(3, 4), (3, 4), (2, 4)]);
    // The same order in three seeds: chi-squared 9 of 3 degrees of freedom.
    let [accuracy, ap50, tasks] = &order.tests[..] else {
        panic!("{blocks:?}")
    };
    assert!((accuracy.test.statistic - 9.0).abs() < 1e-9 && (accuracy.test.p - 0.029_290_9).abs() < 1e-6);
    assert!((accuracy.holm - 3.0 * accuracy.test.p).abs() < 1e-12 && ap50.holm == accuracy.holm);
    assert_eq!(tasks.holm, tasks.holm.max(tasks.test.p));
    let page = written(&made, "report.html");
    assert!(
        page.contains("critical difference 2.71") && page.contains("Holm 0.088"),
        "{page}"
    );
    let csv = written(&made, "ranks.csv");
    assert!(
        csv.contains("1,run <3>,all,,1\n") && csv.lines().count() == 1 + 4 * 3,
        "{csv}"
    );

    // A run that lacks a seed is not ranked, and nobody is tested by a single seed.
    let (_folder, made) = suite(4, &[0]);
    let all = gather(std::slice::from_ref(&made.root)).unwrap();
    let single = camtrast_report::order::order(&all, &compare(&all)[0]).unwrap();
    assert_eq!(
        single.tests.iter().map(|t| t.column).collect::<Vec<_>>(),
        [None],
        "only over tasks"
    );
    let (_folder, mut made) = suite(2, &[0, 1]);
    assert!(!written(&made, "report.md").contains("Average ranks"));
    // Nor are runs that have not begun, in columns without a number.
    ["one", "two"]
        .iter()
        .for_each(|name| drop(made.run(name, Some("byol")).name.clone()));
    for run in 0..2 {
        for seed in 0..2 {
            for task in ["fewshot", "detection"] {
                fs::remove_dir_all(made.folder(&format!("run <{run}>"), seed, task)).unwrap();
            }
        }
    }
    made.save();
    assert!(!written(&made, "report.md").contains("Average ranks") && !made.root.join("ranks.csv").exists());
}

#[test]
fn p_is_shown_with_its_correction() {
    let (_folder, made) = suite(4, &[0, 1, 2]);
    let all = gather(std::slice::from_ref(&made.root)).unwrap();
    let table = &compare(&all)[0];
    let deltas = table
        .lines
        .iter()
        .flat_map(|line| &line.entries[..2])
        .filter_map(|entry| entry.delta);
    let tested: Vec<_> = deltas.filter(|delta| delta.p.is_some()).collect();
    assert!(!tested.is_empty());
    for delta in &tested {
        let (p, holm) = (delta.p.unwrap(), delta.holm.unwrap());
        assert!(
            p <= holm && holm <= (p * tested.len() as f64).min(1.0),
            "{p} {holm}"
        );
    }
    assert!(written(&made, "report.md").contains(", Holm "));
}

#[test]
fn values_that_are_measured_with_one_seed_are_not_missing_for_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut made = MadeUp::swept(folder.path());
    for run in ["supervised", "moco"] {
        for value in ["0.01", "0.02", "0.05"] {
            fs::remove_dir_all(made.folder(run, 0, &format!("detection-lr-{value}"))).unwrap();
        }
    }
    let missing = |made: &MadeUp| written(made, "report.md").contains("not started");
    assert!(missing(&made));
    made.suite.sweep_seeds = vec![1];
    made.save();
    assert!(!missing(&made));
    // The cells of both seeds have a choice of their own here.
    let markdown = written(&made, "report.md");
    assert!(
        markdown.contains("| moco | 40.00 | 50.00 | 60.00 | 0.02 (seed 0), 0.05 (seed 1) |"),
        "{markdown}"
    );
}

#[test]
fn a_sweep_shows_grid_scores_and_choice() {
    let folder = tempfile::tempdir().unwrap();
    let made = MadeUp::swept(folder.path());
    let page = written(&made, "report.html");
    for said in [
        "detection: lr",
        "validated on 2007:val",
        "0.02 (seed 0), 0.05 (seed 1)",
        "at the end of the grid",
        "moco (seed 1, 0.05)",
        "all backbones",
        "diverged",
    ] {
        assert!(page.contains(said), "{said}");
    }
    let markdown = fs::read_to_string(made.root.join("report.md")).unwrap();
    assert!(
        markdown.contains("| moco |") && markdown.contains("AP50, shared lr (%)"),
        "{markdown}"
    );
    let other = markdown.split("Other measures").nth(1).unwrap_or_default();
    assert!(
        !other.lines().take(3).any(|line| line.contains("validation")),
        "{other}"
    );
    let csv = fs::read_to_string(made.root.join("report.csv")).unwrap();
    assert!(
        csv.contains("moco,moco,0,detection-lr-0.02,detection/AP50,0.5,"),
        "{csv}"
    );
    let json: Value =
        serde_json::from_str(&fs::read_to_string(made.root.join("report.json")).unwrap()).unwrap();
    let cells = json["runs"][1]["cells"].as_array().unwrap();
    let own = cells
        .iter()
        .find(|cell| cell["task"] == "detection" && cell["seed"] == 1)
        .unwrap();
    assert_eq!(own["choice"]["value"], "0.05");
}
