//! One run with one seed: pretrained, probed, measured.

use super::recipe::{Run, SuiteRecipe};
use crate::commands::fewshot::evaluate;
use crate::commands::pretrain::pretrain_run;
use crate::screen::Screen;
use analysis::Compute;
use analysis::representation::describe;
use anyhow::Result;
use common::checkpoint::load_backbone;
use common::data::Pack;
use common::files::write_atomically;
use fewshot::EvalOptions;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use tch::Device;

/// One run with one seed.
pub struct Cell {
    pub run: Run,
    pub seed: u64,
    /// Its folder.
    pub out: PathBuf,
}

/// What was measured, kept in the run's folder.
#[derive(Serialize, Deserialize, Clone)]
pub struct Results {
    /// What the numbers were measured on and how; other numbers are measured anew.
    key: String,
    /// Mean of each column and, for accuracies, half the width of its 95 % interval over episodes; fractions, nats.
    pub values: BTreeMap<String, (f64, Option<f64>)>,
    /// Seconds of pretraining.
    pub seconds: f64,
    /// Checksum of the backbone.
    pub backbone: String,
}

/// The suite's packs.
pub struct Packs {
    train: Pack,
    test: BTreeMap<String, Pack>,
}

impl Packs {
    /// Opens all of them.
    pub fn open(recipe: &SuiteRecipe) -> Result<Self> {
        let test = recipe.data.test.iter().map(|(name, path)| Ok((name.clone(), Pack::open(path)?)));
        Ok(Packs { train: Pack::open(&recipe.data.train)?, test: test.collect::<Result<_>>()? })
    }
}

impl Cell {
    /// `done`, `begun` or `to do`.
    pub fn state(&self) -> &'static str {
        match (self.out.join(RESULTS).exists(), self.out.join("state.safetensors").exists()) {
            (true, _) => "done",
            (_, true) => "begun",
            _ => "to do",
        }
    }

    /// Does what is left to do.
    pub fn work(&self, recipe: &SuiteRecipe, packs: &Packs, device: Device, screen: &Screen) -> Result<Results> {
        let arguments = recipe.arguments(&self.run, self.seed, &self.out).map_err(anyhow::Error::msg)?;
        let (pretraining, settings) = arguments.recipe()?;
        let (precision, subset) = (pretraining.precision, pretraining.subset.clone());
        let report = pretrain_run(pretraining, settings, device, screen)?;

        let backbone = load_backbone(&report.backbone, device)?;
        let fewshot = &recipe.fewshot;
        let options = EvalOptions {
            ways: fewshot.ways,
            shots: fewshot.shots.clone(),
            queries: fewshot.queries,
            episodes: fewshot.episodes,
            seed: self.seed,
            precision,
            probe: Default::default(),
        };
        let tests: Vec<&str> = packs.test.values().map(Pack::sha256).collect();
        let key = format!("{} {tests:?} {options:?} {}", backbone.sha256, recipe.representation);
        let path = self.out.join(RESULTS);
        let kept = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Results>(&bytes).ok());
        if let Some(kept) = kept.filter(|kept| kept.key == key) {
            return Ok(kept);
        }
        let mut values = BTreeMap::new();
        for (name, pack) in &recipe.data.test {
            for result in evaluate(&report.backbone, pack, device, &options, screen)? {
                let score = (result.score.mean, Some(result.score.ci95));
                values.insert(recipe.column(name, result.shots), score);
            }
        }
        if recipe.representation {
            let rows = subset.select(&packs.train, self.seed)?.indices;
            let compute = Compute { device, precision, progress: screen };
            let found = describe(&backbone, &packs.train, &rows, self.seed, compute)?;
            values.insert("H_R".into(), (found.spectrum.entropy, None));
            values.insert("U".into(), (found.uniformity.value, None));
            values.insert("U unit".into(), (found.uniformity_unit.value, None));
        }
        let results = Results { key, values, seconds: report.outcome.seconds, backbone: backbone.sha256.clone() };
        write_atomically(&path, |file| writeln!(file, "{}", serde_json::json!(results)))?;
        Ok(results)
    }
}

const RESULTS: &str = "results.json";
