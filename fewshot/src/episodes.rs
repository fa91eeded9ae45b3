//! Few-shot tasks (episodes): the support and query images of each class.

use camtrast_common::files::write_atomically;
use camtrast_common::random::{generator, permutation};
use camtrast_common::tensor_file::hex;
use camtrast_common::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// How episodes are drawn. The default is the paper's 5-way 1-shot protocol; set `shots` to 5 for 5-shot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocol {
    /// Classes in each episode, at least 2.
    pub ways: usize,
    /// Support images of each class, at least 1.
    pub shots: usize,
    /// Query images of each class, at least 1.
    pub queries: usize,
    /// Number of episodes, at least 1.
    pub episodes: usize,
}

impl Default for Protocol {
    fn default() -> Self {
        Protocol {
            ways: 5,
            shots: 1,
            queries: 15,
            episodes: 600,
        }
    }
}

/// One task. Indices are rows of the features; the outer position is the class within the episode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Episode {
    /// Support indices, `[ways][shots]`.
    pub support: Vec<Vec<i64>>,
    /// Query indices, `[ways][queries]`, in the same class order.
    pub query: Vec<Vec<i64>>,
}

/// Tasks of one shape, as in the JSON file
/// `{"ways":5,"shots":1,"queries":15,"episodes":[{"support":[[idx...]...],"query":[[idx...]...]}...]}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpisodeSet {
    /// Classes in each episode.
    pub ways: usize,
    /// Support images of each class.
    pub shots: usize,
    /// Query images of each class.
    pub queries: usize,
    /// The tasks.
    pub episodes: Vec<Episode>,
}

impl EpisodeSet {
    /// Draws episodes: classes without replacement, then images of each class without replacement. Episode i
    /// depends only on `seed`, i and `labels` (`[N]`, the class of every image), so a longer run begins with
    /// the episodes of a shorter one, and 1-shot and 5-shot episodes of one seed share their classes.
    ///
    /// # Errors
    /// [`Error::Settings`] naming the classes with too few images, or when there are fewer classes than ways.
    pub fn sample(labels: &[i64], protocol: &Protocol, seed: u64) -> Result<EpisodeSet> {
        let Protocol {
            ways,
            shots,
            queries,
            episodes,
        } = *protocol;
        let mut images: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for (index, &label) in labels.iter().enumerate() {
            images.entry(label).or_default().push(index as i64);
        }
        if images.len() < ways {
            return Err(Error::settings(
                format!(
                    "{ways}-way episodes cannot be drawn from {} classes",
                    images.len()
                ),
                "lower --ways or use a split with more classes",
            ));
        }
        let needed = shots + queries;
        let short: Vec<_> = images
            .iter()
            .filter(|(_, of_class)| of_class.len() < needed)
            .collect();
        if !short.is_empty() {
            return Err(too_few_images(&short, shots, queries));
        }
        let images: Vec<_> = images.into_values().collect();
        let draw = |episode: usize| {
            let mut generator = generator(seed, "episodes", 0, episode as u64);
            let classes = permutation(images.len(), &mut generator);
            let chosen = classes[..ways].iter().map(|&class| {
                let of_class = &images[class as usize];
                let order = permutation(of_class.len(), &mut generator);
                let mut indices: Vec<i64> = order[..needed].iter().map(|&i| of_class[i as usize]).collect();
                let query = indices.split_off(shots);
                (indices, query)
            });
            let (support, query) = chosen.unzip();
            Episode { support, query }
        };
        let set = EpisodeSet {
            ways,
            shots,
            queries,
            episodes: (0..episodes).map(draw).collect(),
        };
        set.check_shape()?;
        Ok(set)
    }

    /// Checksum of the images of all episodes, for data with the checksum `data_sha256`: equal for results
    /// that a paired test over episodes may compare.
    pub fn sha256(&self, data_sha256: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(data_sha256);
        hash.update(serde_json::to_vec(self).expect("numbers serialise"));
        hex(&hash.finalize())
    }

    /// Reads an episodes file and checks its counts.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::File`] naming the file and the episode at fault.
    pub fn load(path: &Path) -> Result<EpisodeSet> {
        let text = fs::read(path).map_err(Error::io(path, "read"))?;
        let set: EpisodeSet = serde_json::from_slice(&text).map_err(|e| {
            let shape = concat!(
                r#"{"ways":5,"shots":1,"queries":15,"#,
                r#""episodes":[{"support":[[0],...],"query":[[1,2],...]},...]}"#
            );
            Error::file(
                path,
                format!("not an episodes file ({e})"),
                format!("write it as {shape}"),
            )
        })?;
        set.check_shape().map_err(in_file(path))?;
        Ok(set)
    }

    /// Writes an episodes file that [`EpisodeSet::load`] reads.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_atomically(path, |out| Ok(serde_json::to_writer(out, self)?))
    }

    /// Checks counts and indices against the images of the episodes: `labels` `[N]`.
    ///
    /// # Errors
    /// [`Error::Settings`] naming the first episode with a wrong count, an image used twice, an index outside
    /// of `0..N`, a class with several labels, or two classes with the same label.
    pub fn check(&self, labels: &[i64]) -> Result<()> {
        self.check_shape()?;
        self.each(|episode| {
            let mut seen: BTreeMap<i64, usize> = BTreeMap::new();
            for (class, (support, query)) in episode.support.iter().zip(&episode.query).enumerate() {
                let mut first = None;
                for &index in support.iter().chain(query) {
                    let label = usize::try_from(index)
                        .ok()
                        .and_then(|i| labels.get(i))
                        .ok_or_else(|| {
                            (
                                format!("index {index} is outside 0..{}", labels.len()),
                                SAME_FEATURES,
                            )
                        })?;
                    let first = *first.get_or_insert(label);
                    if label != first {
                        return Err((
                            format!("class {class} mixes images labelled {first} and {label}"),
                            SAME_FEATURES,
                        ));
                    }
                }
                if let Some(label) = first
                    && let Some(earlier) = seen.insert(*label, class)
                {
                    return Err((
                        format!("classes {earlier} and {class} are both labelled {label}"),
                        SAME_FEATURES,
                    ));
                }
            }
            Ok(())
        })
    }

    fn check_shape(&self) -> Result<()> {
        let EpisodeSet {
            ways, shots, queries, ..
        } = *self;
        if ways < 2 || shots < 1 || queries < 1 || self.episodes.is_empty() {
            return Err(Error::settings(
                format!(
                    "{} episodes of {ways} ways, {shots} shots and {queries} queries",
                    self.episodes.len()
                ),
                "there must be at least one episode, 2 ways, 1 shot and 1 query",
            ));
        }
        self.each(|episode| {
            for (what, wanted, classes) in [
                ("support", shots, &episode.support),
                ("query", queries, &episode.query),
            ] {
                if classes.len() != ways {
                    return Err((
                        format!("{what} has {} classes instead of {ways}", classes.len()),
                        CORRECT_EPISODE,
                    ));
                }
                if let Some(class) = classes.iter().position(|indices| indices.len() != wanted) {
                    let found = classes[class].len();
                    return Err((
                        format!("{what} of class {class} has {found} images instead of {wanted}"),
                        CORRECT_EPISODE,
                    ));
                }
            }
            let mut indices: Vec<i64> = episode
                .support
                .iter()
                .chain(&episode.query)
                .flatten()
                .copied()
                .collect();
            indices.sort_unstable();
            match indices.windows(2).find(|pair| pair[0] == pair[1]) {
                Some(pair) => Err((format!("index {} is used twice", pair[0]), CORRECT_EPISODE)),
                None => Ok(()),
            }
        })
    }

    /// Runs a check on every episode; an error names the episode, counted from 0.
    fn each(&self, check: impl Fn(&Episode) -> Result<(), (String, &'static str)>) -> Result<()> {
        self.episodes
            .iter()
            .enumerate()
            .try_for_each(|(number, episode)| {
                check(episode).map_err(|(problem, remedy)| {
                    Error::settings(format!("episode {number}: {problem}"), remedy)
                })
            })
    }
}

const CORRECT_EPISODE: &str = "correct this episode or write the file again";
const SAME_FEATURES: &str = "the features must be those that the episodes were drawn for, in the same order";

/// For `map_err`: a problem with content that came from a file names that file.
pub(crate) fn in_file(path: &Path) -> impl FnOnce(Error) -> Error {
    move |error| match error {
        Error::Settings { problem, remedy } => Error::file(path, problem, remedy),
        other => other,
    }
}

fn too_few_images(short: &[(&i64, &Vec<i64>)], shots: usize, queries: usize) -> Error {
    const NAMED: usize = 5;
    let names: Vec<String> = short
        .iter()
        .take(NAMED)
        .map(|(label, images)| format!("{label} ({} images)", images.len()))
        .collect();
    let more = if short.len() > NAMED {
        format!(" and {} more", short.len() - NAMED)
    } else {
        String::new()
    };
    let class = if short.len() == 1 { "class" } else { "classes" };
    let most = short.iter().map(|(_, images)| images.len()).min().unwrap_or(0);
    Error::settings(
        format!(
            "{shots} shots and {queries} queries take {} images of each class, too many for {class} {}{more}",
            shots + queries,
            names.join(", ")
        ),
        format!("lower --shots and --queries to {most} in total, or leave these classes out"),
    )
}
