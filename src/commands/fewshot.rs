//! `camtrast fewshot eval` and `score`.

use super::{Common, metrics_path, tell_origin};
use crate::processes::ProcessArgs;
use crate::protocol::{Protocol, tell_leakage};
use anyhow::Result;
use camtrast_common::checkpoint::load_backbone;
use camtrast_common::device::device_name;
use camtrast_common::files::write_atomically;
use camtrast_common::progress::Progress;
use camtrast_datasets::{Pack, overlap};
use camtrast_fewshot::{
    EpisodeSet, EvalOptions, EvalResult, Protocol as EpisodeProtocol, ScoreOptions, eval, score_files,
};
use camtrast_report::record::EPISODES;
use camtrast_report::table::{Table, percent};
use clap::{Args, Subcommand};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Subcommand)]
pub enum FewshotCommand {
    /// Measure the accuracy of a linear probe on a backbone's features, over random episodes
    Eval(EvalArgs),
    /// Measure the same probe on features of any model, with given episodes
    Score(ScoreArgs),
}

#[derive(Args)]
pub struct EvalArgs {
    /// A backbone.safetensors
    #[arg(long)]
    checkpoint: PathBuf,
    /// Pack of the novel classes
    #[arg(long)]
    data: PathBuf,
    /// Folder for metrics.json and episodes.json (accuracy of every episode), or a .json file for the former
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    protocol: ProtocolArgs,
    #[command(flatten)]
    processes: ProcessArgs,
    #[command(flatten)]
    common: Common,
}

/// The few-shot protocol.
#[derive(Args, Clone)]
pub struct ProtocolArgs {
    /// Classes per episode
    #[arg(long, default_value_t = 5)]
    ways: usize,
    /// Support images per class, such as 1,5
    #[arg(long, default_value = "1,5")]
    shots: ShotList,
    /// Query images per class
    #[arg(long, default_value_t = 15)]
    queries: usize,
    /// Number of episodes
    #[arg(long, default_value_t = 600)]
    episodes_count: usize,
}

#[derive(Debug, Clone)]
struct ShotList(Vec<usize>);

impl std::str::FromStr for ShotList {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let shot = |part: &str| match part.trim().parse() {
            Ok(n) if n > 0 => Ok(n),
            _ => Err(format!("{part:?} is not a number of shots")),
        };
        text.split(',').map(shot).collect::<Result<_, _>>().map(ShotList)
    }
}

#[derive(Args)]
pub struct ScoreArgs {
    /// safetensors file with `features` (f32, N x D) and `labels` (i64, N)
    #[arg(long)]
    features: PathBuf,
    /// JSON file of episodes
    #[arg(long)]
    episodes: PathBuf,
    /// Where to write mean, ci95 and per_episode accuracies
    #[arg(long)]
    out: Option<PathBuf>,
    /// Use the features as they are, not scaled to length 1
    #[arg(long)]
    no_normalise: bool,
    #[command(flatten)]
    common: Common,
}

pub fn run(command: FewshotCommand) -> Result<()> {
    match command {
        FewshotCommand::Eval(args) => run_eval(args),
        FewshotCommand::Score(args) => run_score(args),
    }
}

fn run_eval(args: EvalArgs) -> Result<()> {
    let (device, screen, group) = args.common.open_shared(&args.processes)?;
    let mut protocol = Protocol::begin("fewshot eval", args.out.as_deref())?;
    let options = args.protocol.options(&args.common);
    let pack = Pack::open(&args.data)?;
    let backbone = load_backbone(&args.checkpoint, device)?;
    let (trained, given) = (backbone.info.image_size, pack.height() as i64);
    if trained != given {
        screen.note(&format!(
            "note: the backbone was trained at {trained} pixels, this pack has {given}"
        ));
    }
    let origin = backbone.origin();
    let mut texts = origin.texts();
    tell_leakage(overlap::of_backbone(&backbone.info, &pack), &mut texts, &screen);
    let results = eval(&backbone, &pack, device, group, &options, &screen)?;
    let mut table = Table::new(["task", "accuracy (%, 95 % CI)"]);
    for result in &results {
        table.row([
            format!("{}-way {}-shot", result.ways, result.shots),
            percent(result.score.mean, result.score.ci95),
        ]);
    }
    println!("{}", table.to_text());
    if let Some(out) = args.out.filter(|_| group.leads()) {
        let path = metrics_path(&out)?;
        if path != out {
            // Results of an earlier evaluation must not be left next to the new episodes.
            let _ = std::fs::remove_file(&path);
            let episodes: BTreeMap<String, &[f64]> = results
                .iter()
                .map(|r| (r.name(), &r.score.per_episode[..]))
                .collect();
            write_atomically(&out.join(EPISODES), |file| {
                writeln!(file, "{}", serde_json::json!(episodes))
            })?;
        }
        protocol.set("checkpoint", args.checkpoint.display().to_string());
        protocol.set("data", args.data.display().to_string());
        args.protocol.record(&mut protocol);
        args.common.record(&mut protocol);
        protocol.note("dataset", "backbone_sha256", &origin.backbone_sha256[..]);
        protocol.note("dataset", "sha256", pack.sha256());
        protocol.note("dataset", "split", pack.split());
        protocol.note("dataset", "fit", pack.fit());
        for result in &results {
            let sum = &result.episodes_sha256;
            protocol.note(
                "episodes",
                &format!("{}way{}shot", result.ways, result.shots),
                &sum[..],
            );
        }
        let named = |r: &EvalResult| {
            [("mean", r.score.mean), ("ci95", r.score.ci95)].map(|(k, v)| (format!("{}/{k}", r.name()), v))
        };
        let metrics = results.iter().flat_map(named).collect();
        protocol.write(&out, &metrics, texts, &device_name(device))?;
    }
    tell_origin(&origin, &screen);
    Ok(())
}

impl EvalArgs {
    /// Refuses a pack that has too few classes or images for the episodes.
    pub fn check(&self, pack: &Pack) -> Result<()> {
        let ProtocolArgs {
            ways,
            queries,
            episodes_count,
            ..
        } = self.protocol;
        let episodes = episodes_count.min(1);
        for &shots in &self.protocol.shots.0 {
            EpisodeSet::sample(
                pack.labels(),
                &EpisodeProtocol {
                    ways,
                    shots,
                    queries,
                    episodes,
                },
                self.common.seed,
            )?;
        }
        Ok(())
    }
}

impl ProtocolArgs {
    fn record(&self, protocol: &mut Protocol) {
        protocol.set("ways", self.ways as i64);
        protocol.set(
            "shots",
            self.shots
                .0
                .iter()
                .map(usize::to_string)
                .collect::<Vec<_>>()
                .join(","),
        );
        protocol.set("queries", self.queries as i64);
        protocol.set("episodes-count", self.episodes_count as i64);
    }

    /// The paper's protocol: 5-way 1- and 5-shot, 15 queries, 600 episodes.
    pub fn options(&self, common: &Common) -> EvalOptions {
        EvalOptions {
            ways: self.ways,
            shots: self.shots.0.clone(),
            queries: self.queries,
            episodes: self.episodes_count,
            seed: common.seed,
            precision: common.precision,
            probe: ScoreOptions::default(),
        }
    }
}

/// `fewshot score`.
pub fn run_score(args: ScoreArgs) -> Result<()> {
    let screen = args.common.screen()?;
    let options = ScoreOptions {
        normalise: !args.no_normalise,
        ..ScoreOptions::default()
    };
    let score = score_files(&args.features, &args.episodes, &options, &screen)?;
    println!(
        "accuracy {} % over {} episodes",
        percent(score.mean, score.ci95),
        score.per_episode.len()
    );
    if let Some(out) = args.out {
        let mut answer = serde_json::json!(score);
        answer["episodes_sha256"] = EpisodeSet::load(&args.episodes)?.sha256("").into();
        write_atomically(&out, |file| writeln!(file, "{answer}"))?;
    }
    Ok(())
}
