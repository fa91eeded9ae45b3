//! A suite's recipe: what is pretrained, on what, and which tasks it is transferred to.

use camtrast_common::Error;
use camtrast_common::run::PLACES;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use toml::Table;

/// A recipe file. The tables `pretrain`, `fewshot`, `probe`, `finetune`, `detection` and `segmentation` hold
/// flags of the commands `pretrain`, `fewshot eval`, `probe eval`, `probe finetune`, `detection train` and
/// `segmentation train`; a task without its table is not run. In the last three, `sweep` names values of a
/// flag to choose from (docs/suites.md).
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SuiteRecipe {
    /// Heading of the report.
    pub title: String,
    /// What the recipe reproduces, and where it differs.
    #[serde(default)]
    pub about: String,
    /// How the published numbers were measured, and how this recipe differs.
    #[serde(default)]
    pub published_protocol: String,
    /// Whether a backbone may be tested on data it was trained on. If not, such a recipe is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_leakage: bool,
    /// Every run is repeated with each seed.
    #[serde(default = "first_seed")]
    pub seeds: Vec<u64>,
    /// The seeds with which the values of sweeps are measured; a run then has one value, the best on average
    /// over them. If there are none, every seed measures and chooses by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sweep_seeds: Vec<u64>,
    /// The packs.
    #[serde(default)]
    pub data: Data,
    /// Flags of `pretrain` for all runs.
    #[serde(default)]
    pub pretrain: Table,
    /// The few-shot probe on every pack of [`Data::test`].
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub fewshot: Table,
    /// Linear probe and nearest neighbours.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub probe: Table,
    /// Fine-tuning of the whole network on a labelled pack.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub finetune: Table,
    /// Faster R-CNN.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub detection: Table,
    /// DeepLab v3+.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub segmentation: Table,
    /// Options of Slurm's `sbatch` for all commands, and in tables named as tasks for those only.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub slurm: Table,
    /// Whether entropy and uniformity are measured on the images trained on.
    #[serde(default)]
    pub representation: bool,
    /// Whether class activation maps are drawn, of images of the first test pack.
    #[serde(default)]
    pub cam: bool,
    /// Label of the figure's x axis.
    #[serde(default)]
    pub x_axis: String,
    /// The rows of the table.
    #[serde(default)]
    pub runs: Vec<Run>,
    /// Expected results by run and column: the mean over seeds and its tolerance, in the units of the table.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expect: BTreeMap<String, BTreeMap<String, [f64; 2]>>,
    /// Files that are not next to the recipe but below the working directory, as the recipe names them.
    #[serde(skip)]
    pub elsewhere: Vec<PathBuf>,
}

fn first_seed() -> Vec<u64> {
    vec![0]
}

/// Packs by role.
#[derive(Deserialize, Serialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    /// Base classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<PathBuf>,
    /// Novel classes, by the name in the table's header.
    pub test: BTreeMap<String, PathBuf>,
}

/// A row of the table: a pretraining, or a given backbone.
#[derive(Deserialize, Serialize, Clone, Default)]
pub struct Run {
    /// Its name, and the name of its folder.
    pub name: String,
    /// A given backbone; then nothing is pretrained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<PathBuf>,
    /// The line of the figure that this run belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<String>,
    /// Its x value on that line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<f64>,
    /// Published numbers by column, accuracies in percent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub published: BTreeMap<String, f64>,
    /// Flags of this run's probe only.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub fewshot: Table,
    /// Flags of this run's detector only: a learning rate shared by all methods can rank them wrongly.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub detection: Table,
    /// Flags of this run's segmentation only.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub segmentation: Table,
    /// All other keys: flags of `camtrast pretrain`.
    #[serde(flatten)]
    pub flags: Table,
}

impl SuiteRecipe {
    /// Whether values of sweeps are measured with a seed.
    pub fn sweeps_with(&self, seed: u64) -> bool {
        self.sweep_seeds.is_empty() || self.sweep_seeds.contains(&seed)
    }

    /// Reads a recipe file. Its paths are relative to its own folder, or, if no such file exists, to the
    /// working directory.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(Error::io(path, "read"))?;
        let mut recipe = Self::parse(&text, path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut elsewhere = Vec::new();
        recipe.each_path(|named| {
            let in_folder = folder.join(&*named);
            if in_folder.exists() || !named.exists() {
                *named = in_folder;
            } else if !elsewhere.contains(named) {
                elsewhere.push(named.clone());
            }
        });
        recipe.elsewhere = elsewhere;
        Ok(recipe)
    }

    /// Every file and folder that the recipe names.
    fn each_path(&mut self, mut change: impl FnMut(&mut PathBuf)) {
        let mut in_table = |table: &mut Table, keys: &[&str]| {
            for key in keys {
                if let Some(toml::Value::String(text)) = table.get_mut(*key) {
                    let mut path = PathBuf::from(&*text);
                    change(&mut path);
                    *text = path.display().to_string();
                }
            }
        };
        in_table(&mut self.pretrain, &["data", "init"]);
        in_table(&mut self.probe, &["train", "test"]);
        in_table(&mut self.finetune, &["train", "test"]);
        in_table(&mut self.detection, &PLACES);
        in_table(&mut self.segmentation, &PLACES);
        for run in &mut self.runs {
            in_table(&mut run.flags, &["data", "init"]);
            in_table(&mut run.detection, &PLACES);
            in_table(&mut run.segmentation, &PLACES);
        }
        self.data
            .train
            .iter_mut()
            .chain(self.data.test.values_mut())
            .for_each(&mut change);
        self.runs
            .iter_mut()
            .filter_map(|run| run.checkpoint.as_mut())
            .for_each(change);
    }

    /// Makes every path absolute, so that the recipe has the same meaning wherever it is stored.
    pub fn absolute(&mut self) {
        self.each_path(|path| *path = std::path::absolute(&*path).unwrap_or_else(|_| path.clone()));
    }

    /// Reads a recipe; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let mut recipe: SuiteRecipe = toml::from_str(text).map_err(|e| {
            let line = e
                .span()
                .map_or(0, |span| text[..span.start].lines().count().max(1));
            usage(path, format!("line {line}: {}", e.message()))
        })?;
        for table in [&mut recipe.fewshot]
            .into_iter()
            .chain(recipe.runs.iter_mut().map(|run| &mut run.fewshot))
        {
            // `--episodes` is a file in `fewshot score`, so the flag has a longer name.
            if let Some(count) = table.remove("episodes") {
                table.insert("episodes-count".into(), count);
            }
        }
        if let Some((_, seed)) = recipe
            .seeds
            .iter()
            .enumerate()
            .find(|(i, seed)| recipe.seeds[..*i].contains(seed))
        {
            return Err(usage(
                path,
                format!("names seed {seed} twice, which would count its results twice"),
            ));
        }
        let packs: Vec<&String> = recipe.data.test.keys().collect();
        if let Some((i, name)) = packs.iter().enumerate().find(|(i, name)| {
            packs[..*i].iter().any(|other| slug(other) == slug(name))
                || packs.len() > 1 && slug(name).is_empty()
        }) {
            let problem = format!(
                "names test pack {name:?}, whose folder is that of {:?}",
                packs[..i].last()
            );
            return Err(usage(path, problem));
        }
        for (of, table) in [("", &recipe.fewshot)]
            .into_iter()
            .chain(recipe.runs.iter().map(|r| (&r.name[..], &r.fewshot)))
        {
            if table.contains_key("data") {
                let place = if of.is_empty() {
                    "[fewshot]".into()
                } else {
                    format!("run {of:?}: fewshot")
                };
                return Err(usage(
                    path,
                    format!("{place} names data, but the packs to probe are those of [data] test"),
                ));
            }
        }
        if recipe.data.train.is_some() && recipe.pretrain.contains_key("data") {
            return Err(usage(
                path,
                "names the pack to train on twice, as [data] train and as [pretrain] data".into(),
            ));
        }
        for (i, run) in recipe.runs.iter().enumerate() {
            if recipe.runs[..i]
                .iter()
                .any(|other| slug(&other.name) == slug(&run.name))
            {
                return Err(usage(path, format!("has two runs named {:?}", run.name)));
            }
            if slug(&run.name).is_empty() {
                return Err(usage(
                    path,
                    format!("names a run {:?}, which cannot be the name of a folder", run.name),
                ));
            }
            if run.checkpoint.is_some() && !run.flags.is_empty() {
                let keys: Vec<&String> = run.flags.keys().collect();
                let problem = format!("run {:?} has a checkpoint, so {keys:?} have no effect", run.name);
                return Err(usage(path, problem));
            }
        }
        Ok(recipe)
    }

    /// The recipe as a file.
    pub fn to_toml(&self) -> String {
        // Through a table, because in TOML values must come before tables.
        let table = Table::try_from(self).expect("keys are strings");
        toml::to_string(&table).expect("what was read can be written")
    }

    /// Replaces the recipe's packs.
    pub fn replace_packs(
        &mut self,
        train: Option<PathBuf>,
        test: Option<PathBuf>,
        path: &Path,
    ) -> Result<(), Error> {
        self.data.train = train.or(self.data.train.take());
        if let Some(test) = test {
            if self.data.test.len() > 1 {
                let problem = "names several test packs, so it is not clear which one --test replaces";
                return Err(usage(path, problem.into()));
            }
            self.data.test.values_mut().for_each(|pack| *pack = test.clone());
        }
        Ok(())
    }
}

/// A name turned into the name of a folder.
pub fn slug(name: &str) -> String {
    let mapped: String = name
        .chars()
        .map(|c| {
            if c.is_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    mapped
        .split('-')
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("-")
}

/// An error in a recipe.
pub fn usage(path: &Path, problem: String) -> Error {
    Error::Usage {
        problem: format!("{}: {problem}", path.display()),
        remedy: "correct the recipe, or the flags given with it".into(),
    }
}
