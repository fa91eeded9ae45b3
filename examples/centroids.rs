//! A classifier of your own on the episodes of the few-shot probe: the nearest mean of the support features
//! against the exact logistic regression, on the same episodes.
//!
//!     cargo run --example centroids -- features.safetensors

use camtrast_common::progress::Silent;
use camtrast_common::tensor_file::TensorFile;
use camtrast_fewshot::{EpisodeSet, Features, Protocol, ScoreOptions, score};
use std::path::Path;
use tch::Kind;

fn main() -> anyhow::Result<()> {
    let Some(path) = std::env::args().nth(1) else {
        anyhow::bail!("usage: centroids FEATURES");
    };
    let file = TensorFile::open(Path::new(&path))?;
    let labels: Vec<i64> = Vec::try_from(file.tensor("labels")?)?;
    let (shape, bytes) = file.bytes("features", Kind::Float)?; // [N, D]
    let features = Features::from_bytes(bytes, shape[1] as usize)?;

    let protocol = Protocol {
        shots: 5,
        episodes: 100,
        ..Protocol::default()
    };
    let episodes = EpisodeSet::sample(&labels, &protocol, 0)?;
    let exact = score(&features, &labels, &episodes, &ScoreOptions::default(), &Silent)?;

    let mean = |rows: &[i64]| -> Vec<f32> {
        let of = |d| rows.iter().map(|&row| features.row(row as usize)[d]).sum::<f32>();
        (0..features.dimensions())
            .map(|d| of(d) / rows.len() as f32)
            .collect()
    };
    let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
    let correct = |episode: &camtrast_fewshot::Episode| {
        let centres: Vec<Vec<f32>> = episode.support.iter().map(|rows| mean(rows)).collect();
        let nearest = |row: i64| {
            let far = |class: &usize| distance(features.row(row as usize), &centres[*class]);
            (0..centres.len())
                .min_by(|a, b| far(a).total_cmp(&far(b)))
                .unwrap()
        };
        let queries = episode.query.iter().enumerate();
        let hits = queries.flat_map(|(class, rows)| rows.iter().map(move |&row| (class, row)));
        hits.filter(|&(class, row)| nearest(row) == class).count()
    };
    let hits: usize = episodes.episodes.iter().map(correct).sum();
    let queries = protocol.ways * protocol.queries * episodes.episodes.len();
    let percent = |share: f64| format!("{:.2}", 100.0 * share);
    println!(
        "logistic regression {} ± {}",
        percent(exact.mean),
        percent(exact.ci95)
    );
    println!("nearest centroid {}", percent(hits as f64 / queries as f64));
    Ok(())
}
