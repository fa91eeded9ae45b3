//! `--extend`: a run goes on to more epochs than it was begun with.
//!
//! From the step at which a run is extended, its learning rate, and whatever else depends on the length of
//! training, are those of a run of the new length; before that step they stay what they were. config.toml
//! holds every extension as a table `[[extended]]`: the run can be resumed, and differs from one that was as
//! long from its start.

use crate::options::set;
use crate::recipe::PretrainRecipe;
use camtrast_common::distributed::Group;
use camtrast_common::files::write_atomically;
use camtrast_common::progress::Progress;
use camtrast_common::run::RunFolder;
use camtrast_common::settings::Numbers;
use camtrast_common::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use toml::{Table, Value};

/// What a run was until it was extended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Extension {
    /// The step at which the new length took over.
    pub from_step: u64,
    /// Epochs in all, before.
    pub epochs: u64,
    /// Milestones of the learning rate, before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub milestones: Option<Numbers>,
}

impl Extension {
    /// The recipe as it was.
    pub fn before(&self, recipe: &PretrainRecipe) -> PretrainRecipe {
        let mut recipe = recipe.clone();
        recipe.options.epochs = Some(self.epochs);
        recipe.options.milestones = self.milestones.clone();
        recipe
    }
}

/// The extensions of a run, and whether the last of them is new.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Extensions {
    /// In their order.
    pub all: Vec<Extension>,
    /// Whether the last is not in config.toml yet.
    pub fresh: bool,
}

impl Extensions {
    /// Reads what config.toml says, for all processes; with `extend`, adds an extension where `recipe` has
    /// more epochs than the run. `saved` is the step of its state.
    ///
    /// # Errors
    /// [`Error::File`] when there is no run to extend, [`Error::Settings`] when it is longer already.
    pub fn of(
        run: &RunFolder,
        recipe: &PretrainRecipe,
        extend: bool,
        saved: u64,
        group: Group,
    ) -> Result<Self> {
        let mut text = String::new();
        if group.leads() {
            let own = Self::read(run, recipe, extend, saved)?;
            text = serde_json::to_string(&own).expect("numbers serialise");
        }
        Ok(serde_json::from_str(&group.text_of_first(&text)?).expect("rank 0 wrote it"))
    }

    fn read(run: &RunFolder, recipe: &PretrainRecipe, extend: bool, saved: u64) -> Result<Self> {
        let path = run.file("config.toml");
        let Ok(text) = fs::read_to_string(&path) else {
            if extend {
                let remedy = "give the --out of a run, or leave --extend out";
                return Err(Error::file(run.path(), "holds no run to extend", remedy));
            }
            return Ok(Extensions::default());
        };
        // What is wrong with it otherwise is found when it is compared.
        let table: Table = text.parse().unwrap_or_default();
        let get = |key: &str| table.get(key).cloned();
        let all: Vec<Extension> = get("extended")
            .and_then(|all| all.try_into().ok())
            .unwrap_or_default();
        let (before, epochs) = (
            get("epochs").and_then(|n| n.as_integer()),
            set(&recipe.options.epochs),
        );
        let known = Extensions { all, fresh: false };
        let Some(before) = before
            .map(|epochs| epochs as u64)
            .filter(|before| extend && *before != epochs)
        else {
            return Ok(known);
        };
        if before > epochs {
            let problem = format!(
                "--extend: {} is a run of {before} epochs already",
                run.path().display()
            );
            return Err(Error::settings(
                problem,
                format!("give more than these, not --epochs {epochs}"),
            ));
        }
        let mut all = known.all;
        all.push(Extension {
            from_step: saved,
            epochs: before,
            milestones: get("milestones").and_then(|list: Value| list.try_into().ok()),
        });
        Ok(Extensions { all, fresh: true })
    }

    /// Those that config.toml holds already.
    pub fn recorded(&self) -> &[Extension] {
        let fresh = usize::from(self.fresh);
        &self.all[..self.all.len() - fresh]
    }

    /// Puts new settings into config.toml, and removes the metrics of the shorter run.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(run: &RunFolder, described: &str, progress: &dyn Progress) -> Result<()> {
        let path = run.file("config.toml");
        let old = fs::read_to_string(&path).map_err(Error::io(&path, "read"))?;
        let build = old.split_once("\n[build]\n").map_or("", |(_, build)| build);
        write_atomically(&path, |out| write!(out, "{described}\n[build]\n{build}"))?;
        run.remove_metrics()?;
        progress.note("extended: from here on, the learning rate is that of a run of the new length");
        Ok(())
    }
}

/// Extensions as config.toml holds them.
pub(crate) fn described(extensions: &[Extension]) -> String {
    let one = |extension: &Extension| {
        format!(
            "\n[[extended]]\n{}",
            toml::to_string(extension).expect("an extension serialises")
        )
    };
    extensions.iter().map(one).collect()
}
