//! Resolves a cell before anything is run: its settings with every default filled in, and the content of the
//! files it reads. Errors that its command would report at its start are reported here.

use super::cell::{SuiteCell, parse, subcommand};
use super::content::{Contents, sha256};
use super::plan::SuitePlan;
use super::recipe::usage;
use crate::commands::detection::TrainArgs as DetectionArgs;
use crate::commands::fewshot::EvalArgs;
use crate::commands::pretrain::PretrainArgs;
use crate::commands::probe::FinetuneArgs;
use crate::commands::segmentation::TrainArgs as SegmentationArgs;
use anyhow::Result;
use camtrast_common::Error;
use camtrast_common::checkpoint::BackboneInfo;
use camtrast_common::distributed::Group;
use camtrast_datasets::Pack;
use camtrast_report::record::{COURSE, PLACES, PRETRAIN, Sweep};
use clap::{ArgMatches, Command, FromArgMatches};
use serde::Serialize;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tch::Device;
use toml::{Table, Value};

/// A resolved cell.
pub struct Settled {
    /// Checksum of the version of the program, settings and data; together with the checksum of the backbone
    /// it is the cell's key. One for each value that can be chosen.
    own_keys: Vec<String>,
    /// The same of the cells that a choice is made from ([`super::cell::Pick::among`]).
    pub among: Vec<String>,
    /// The data that the first of these reads.
    pub validation: Option<Data>,
    /// See [`camtrast_report::record::CellRecord::protocol`].
    pub protocol: String,
    /// The protocol as text.
    pub protocol_settings: Vec<String>,
    /// The data that the cell reads.
    pub data: Data,
}

/// The data that a cell reads.
#[derive(Clone)]
pub enum Data {
    /// A pack: its checksum, and the names of the classes that are used.
    Pack {
        path: PathBuf,
        sha256: String,
        classes: Vec<String>,
    },
    /// Files to train on and to test on.
    Splits(Arc<Splits>),
}

/// Images of the two splits, with their checksums, and a checksum of all that is read.
pub struct Splits {
    pub training: Vec<(PathBuf, String)>,
    pub test: Vec<(PathBuf, String)>,
    sha256: String,
}

/// Settings by flag.
type Settings = BTreeMap<String, String>;

/// Resolves cells; packs and splits that several cells share are read once.
pub struct Settler<'a> {
    pub contents: Contents,
    root: &'a Command,
    device: Device,
    packs: BTreeMap<PathBuf, Arc<Pack>>,
    splits: BTreeMap<String, Arc<Splits>>,
}

impl Settled {
    /// Checksum of everything that the result depends on.
    pub fn key(&self, backbone_sha256: &str) -> String {
        self.key_with(0, backbone_sha256)
    }

    /// The same with one of the values that can be chosen.
    pub fn key_with(&self, value: usize, backbone_sha256: &str) -> String {
        Settled::joined(&self.own_keys[value], backbone_sha256)
    }

    /// A cell's key from its own part and the backbone.
    pub fn joined(own_key: &str, backbone_sha256: &str) -> String {
        sha256(&[own_key.to_owned(), backbone_sha256.to_owned()])
    }
}

impl Data {
    fn sha256(&self) -> &str {
        match self {
            Data::Pack { sha256, .. } => sha256,
            Data::Splits(splits) => &splits.sha256,
        }
    }
}

impl<'a> Settler<'a> {
    /// For a command line, a device, and a cache of file checksums.
    pub fn new(root: &'a Command, device: Device, contents: Contents) -> Self {
        Settler {
            contents,
            root,
            device,
            packs: BTreeMap::new(),
            splits: BTreeMap::new(),
        }
    }

    /// Resolves the wanted cells of a plan, and the given backbones that they start from.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the run, the task and the setting that cannot work; [`Error::File`] and
    /// [`Error::Io`] for data.
    pub fn all(&mut self, plan: &SuitePlan, wanted: &[bool]) -> Result<Vec<Option<Settled>>> {
        let mut settled: Vec<Option<Settled>> = Vec::new();
        // Own keys and data of cells that choices are made from.
        let mut measured: BTreeMap<usize, (String, Data)> = BTreeMap::new();
        for (cell, wanted) in plan.cells.iter().zip(wanted) {
            if !wanted {
                settled.push(None);
                continue;
            }
            if let (Some(path), None) = (&cell.checkpoint, cell.after) {
                self.contents.tensors(path)?;
            }
            let mut one = self.blamed(plan, cell)?;
            for &i in cell.pick.iter().flat_map(|pick| &pick.among) {
                let (key, data) = match measured.entry(i) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(place) => place.insert(match settled.get(i).and_then(Option::as_ref) {
                        Some(known) => (known.own_keys[0].clone(), known.data.clone()),
                        None => {
                            let mut other = self.blamed(plan, &plan.cells[i])?;
                            (other.own_keys.swap_remove(0), other.data)
                        }
                    }),
                };
                one.among.push(key.clone());
                one.validation.get_or_insert_with(|| data.clone());
            }
            settled.push(Some(one));
        }
        self.contents.keep();
        Ok(settled)
    }

    fn blamed(&mut self, plan: &SuitePlan, cell: &SuiteCell) -> Result<Settled> {
        let sweep = cell.pick.as_ref().map(|pick| &plan.suite.sweeps[pick.sweep]);
        self.one(cell, sweep)
            .map_err(|error| blame(error, cell, &plan.recipe))
    }

    /// Settings and data of a cell, and its own key.
    fn keyed(&mut self, cell: &SuiteCell) -> Result<(Settings, Data, String)> {
        let matches = self.parse(cell, &cell.flags)?;
        let (settings, data) = self.settings(cell, &matches)?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let mut parts = vec![version, cell.command.to_owned(), data.sha256().to_owned()];
        parts.extend(lines(&settings));
        Ok((settings, data, sha256(&parts)))
    }

    fn one(&mut self, cell: &SuiteCell, sweep: Option<&Sweep>) -> Result<Settled> {
        let mut own_keys = Vec::new();
        for value in sweep.iter().flat_map(|sweep| &sweep.values) {
            let flag = sweep.map(|sweep| &sweep.flag[..]).unwrap_or_default();
            own_keys.push(self.keyed(&cell.with(flag, value))?.2);
        }
        let (_, data, own_key) = self.keyed(cell)?;
        if own_keys.is_empty() {
            own_keys.push(own_key);
        }
        // The shared settings alone may be incomplete without the run's own; then the recipe's text is the
        // protocol.
        let shared = if cell.task == PRETRAIN {
            None
        } else {
            parse(self.root, cell.command, &cell.shared).ok()
        };
        let protocol_settings: Vec<String> = match shared.map(|matches| self.settings(cell, &matches)) {
            Some(Ok((mut shared, _))) => {
                shared.remove("seed");
                if let Some(sweep) = sweep {
                    shared.remove(&sweep.flag);
                }
                lines(&shared)
            }
            _ => cell.protocol.clone(),
        };
        let protocol_settings: Vec<String> = protocol_settings
            .into_iter()
            .chain(sweep.map(|sweep| {
                let shared = cell.pick.as_ref().is_some_and(|pick| pick.shared);
                let of = if shared { "on average" } else { "for each backbone" };
                let Sweep {
                    flag,
                    values,
                    validation,
                    ..
                } = sweep;
                format!("{flag} = best {of} of {} ({validation})", values.join(", "))
            }))
            .collect();
        let mut protocol = vec![cell.command.to_owned(), data.sha256().to_owned()];
        protocol.extend(protocol_settings.iter().cloned());
        Ok(Settled {
            own_keys,
            among: Vec::new(),
            validation: None,
            protocol: sha256(&protocol),
            protocol_settings,
            data,
        })
    }

    fn parse(&self, cell: &SuiteCell, flags: &[std::ffi::OsString]) -> Result<ArgMatches> {
        parse(self.root, cell.command, flags).map_err(anyhow::Error::msg)
    }

    /// Every setting that decides the result, with its default where it is not given, and the data.
    fn settings(&mut self, cell: &SuiteCell, matches: &ArgMatches) -> Result<(Settings, Data)> {
        let mut settings = plain(&subcommand(self.root, cell.command), matches, cell.command);
        let data = match cell.command {
            "pretrain" => {
                let recipe = PretrainArgs::from_arg_matches(matches)?.recipe()?;
                let init = recipe.init.clone();
                let pack = self.pack(&recipe.data)?;
                let settled = recipe.settle(&pack, self.device, Group::ALONE)?;
                // They are part of the architecture.
                settings.retain(|key, _| !["width", "stem", "init"].contains(&&key[..]));
                fill(&mut settings, &settled.recipe, &["data", "init"]);
                let mut classes = settled.selection.class_names;
                if let Some(init) = init {
                    settings.insert("init_sha256".into(), self.contents.tensors(&init)?);
                    classes.extend(BackboneInfo::read(&init)?.class_names);
                }
                Data::of(&pack, classes)
            }
            "detection train" => {
                let args = DetectionArgs::from_arg_matches(matches)?;
                fill(&mut settings, &args.resolved()?, &PLACES);
                Data::Splits(self.detection(&args)?)
            }
            "segmentation train" => {
                let args = SegmentationArgs::from_arg_matches(matches)?;
                fill(&mut settings, &args.resolved()?, &PLACES);
                Data::Splits(self.segmentation(&args)?)
            }
            "probe eval" => {
                let path = |name: &str| matches.get_one::<PathBuf>(name).cloned().unwrap_or_default();
                let (train, test) = (self.pack(&path("train"))?, self.pack(&path("test"))?);
                settings.retain(|key, _| !["train", "test"].contains(&&key[..]));
                settings.insert("train_sha256".into(), train.sha256().to_owned());
                Data::of(&test, test.class_names().to_vec())
            }
            "probe finetune" => {
                let args = FinetuneArgs::from_arg_matches(matches)?;
                fill(&mut settings, &args.resolved()?, &[]);
                let [train, test] = args.packs();
                let (train, test) = (self.pack(train)?, self.pack(test)?);
                settings.retain(|key, _| !["train", "test", "val"].contains(&&key[..]));
                settings.insert("train_sha256".into(), train.sha256().to_owned());
                if let Some(val) = args.validation_pack() {
                    settings.insert("val_sha256".into(), self.pack(val)?.sha256().to_owned());
                }
                let tested = if settings.contains_key("holdout") {
                    train
                } else {
                    test
                };
                Data::of(&tested, tested.class_names().to_vec())
            }
            command => {
                let path = matches.get_one::<PathBuf>("data").cloned().unwrap_or_default();
                let pack = self.pack(&path)?;
                if command == "fewshot eval" {
                    EvalArgs::from_arg_matches(matches)?.check(&pack)?;
                }
                Data::of(&pack, pack.class_names().to_vec())
            }
        };
        Ok((settings, data))
    }

    fn pack(&mut self, path: &Path) -> Result<Arc<Pack>> {
        if !self.packs.contains_key(path) {
            self.packs
                .insert(path.to_owned(), Arc::new(self.contents.pack(path)?));
        }
        Ok(self.packs[path].clone())
    }

    fn detection(&mut self, args: &DetectionArgs) -> Result<Arc<Splits>> {
        let name = format!("detection {:?}", args.data());
        if let Some(known) = self.splits.get(&name) {
            return Ok(known.clone());
        }
        let (training, test, validation) = args.datasets()?;
        let mut parts = vec![training.fingerprint()];
        parts.extend(test.as_ref().map(camtrast_detection::Dataset::fingerprint));
        let images = |dataset: &camtrast_detection::Dataset| -> Vec<PathBuf> {
            dataset.images.iter().map(|image| image.image.clone()).collect()
        };
        if let Some(validation) = &validation {
            parts.extend(["validation".into(), validation.fingerprint()]);
            parts.extend(self.contents.files(&images(validation))?);
        }
        let training = self.summed(images(&training))?;
        let test = self.summed(test.as_ref().map(images).unwrap_or_default())?;
        self.keep_splits(name, training, test, parts)
    }

    fn segmentation(&mut self, args: &SegmentationArgs) -> Result<Arc<Splits>> {
        let name = format!("segmentation {:?}", args.data());
        if let Some(known) = self.splits.get(&name) {
            return Ok(known.clone());
        }
        let (training, validation) = (args.data().training()?, args.data().validation()?);
        let mut parts = vec![serde_json::to_string(&training.classes)?];
        let mut splits = Vec::new();
        for dataset in [training, validation] {
            let (images, labels) = dataset
                .samples
                .into_iter()
                .map(|sample| (sample.image, sample.label))
                .unzip();
            parts.extend(self.contents.files(&Vec::<PathBuf>::clone(&labels))?);
            splits.push(self.summed(images)?);
        }
        let [training, validation] =
            <[_; 2]>::try_from(splits).unwrap_or_else(|_| unreachable!("two were pushed"));
        if let Some(development) = args.data().development()? {
            parts.push("validation".into());
            for sample in development.samples {
                parts.extend(self.contents.files(&[sample.image, sample.label])?);
            }
        }
        self.keep_splits(name, training, validation, parts)
    }

    fn summed(&mut self, paths: Vec<PathBuf>) -> Result<Vec<(PathBuf, String)>> {
        let sums = self.contents.files(&paths)?;
        Ok(paths.into_iter().zip(sums).collect())
    }

    fn keep_splits(
        &mut self,
        name: String,
        training: Vec<(PathBuf, String)>,
        test: Vec<(PathBuf, String)>,
        mut parts: Vec<String>,
    ) -> Result<Arc<Splits>> {
        for (role, images) in [("train", &training), ("test", &test)] {
            parts.push(role.to_owned());
            parts.extend(images.iter().map(|(path, sum)| {
                format!("{} {sum}", path.file_name().unwrap_or_default().to_string_lossy())
            }));
        }
        let splits = Arc::new(Splits {
            training,
            test,
            sha256: sha256(&parts),
        });
        self.splits.insert(name, splits.clone());
        Ok(splits)
    }
}

impl Data {
    fn of(pack: &Pack, classes: Vec<String>) -> Self {
        Data::Pack {
            path: pack.path().to_owned(),
            sha256: pack.sha256().to_owned(),
            classes,
        }
    }
}

/// Flags that say where and how a command runs, and the backbone, whose content is part of the key
/// separately.
const MACHINE: [&str; 8] = [
    "extend",
    "out",
    "overwrite",
    "quiet",
    "device",
    "config",
    "checkpoint",
    "print-config",
];

/// Every flag of a command with its value or its default, without file paths and flags that do not change the
/// result.
fn plain(command: &Command, matches: &ArgMatches, name: &str) -> Settings {
    // Names that are paths in other commands are settings here: `labels` of `pretrain`, `images` of
    // `analyze cam`.
    let places = if name.ends_with(" train") {
        &PLACES[..]
    } else {
        &["data"]
    };
    let decides = |key: &str| ![places, &COURSE, &MACHINE].iter().any(|keys| keys.contains(&key));
    // What is asked for only where it is given does not distinguish the others.
    let given = |key: &str, value: &str| key != "test-best" || value != "false";
    let values = command.get_arguments().filter_map(|argument| {
        let key = argument.get_long().filter(|key| decides(key))?;
        let values = matches.try_get_raw(argument.get_id().as_str()).ok()??;
        let values: Vec<_> = values.map(|value| value.to_string_lossy()).collect();
        Some((key.to_owned(), values.join(",")))
    });
    values.filter(|(key, value)| given(key, value)).collect()
}

/// Overwrites the given settings with the resolved ones.
fn fill(settings: &mut Settings, resolved: &impl Serialize, places: &[&str]) {
    let resolved = Table::try_from(resolved).expect("settings serialise");
    for (key, value) in resolved
        .into_iter()
        .filter(|(key, _)| !places.contains(&&key[..]))
    {
        settings.insert(key, text(value));
    }
}

fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Array(items) => items.into_iter().map(text).collect::<Vec<_>>().join(","),
        // As a user writes it: 1, not 1.0.
        Value::Float(number) => number.to_string(),
        other => other.to_string(),
    }
}

fn lines(settings: &Settings) -> Vec<String> {
    settings
        .iter()
        .map(|(key, value)| format!("{key} = {value}"))
        .collect()
}

/// An error in settings names the recipe; an error in data names the data.
fn blame(error: anyhow::Error, cell: &SuiteCell, recipe: &Path) -> anyhow::Error {
    match error.downcast_ref::<Error>() {
        Some(Error::Settings { .. } | Error::Usage { .. }) | None => {
            usage(recipe, format!("run {:?}: {}: {error:#}", cell.run, cell.task)).into()
        }
        Some(_) => error,
    }
}
