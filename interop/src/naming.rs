//! Finds the tensors of a ResNet in a file, and their torchvision names. A backbone is recognised by its
//! blocks, whatever the prefix of their names: `layer1.0.conv1.weight` (torchvision, timm, MoCo, SimSiam,
//! solo-learn, VISSL, mmpretrain), `4.0.conv1.weight` (lightly and others that put a torchvision ResNet's
//! children into a Sequential), `res2.0.conv1.weight` (detectron2). A file with two encoders has two
//! prefixes.

use camtrast_common::error::{ReadResult, Refusal};
use std::collections::BTreeMap;
use std::fmt;

/// How a tool names the parts of a ResNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layout {
    /// `conv1`, `bn1` (or `stem.0` to `stem.7`, or timm's `conv1.0` to `conv1.6` and `bn1`),
    /// `layer1.0.conv1`, `layer1.0.downsample.0` (or `shortcut.0`).
    Torchvision,
    /// `0`, `1`, `4.0.conv1`, ...; the field is the number of layer1.
    Sequential(usize),
    /// `stem.conv1`, `stem.conv1.norm`, `res2.0.conv1`, `res2.0.shortcut`.
    Detectron2,
}

/// A backbone in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The prefix of its tensor names; empty, or ending in a dot.
    pub prefix: String,
    /// The naming of its tensors after the prefix.
    pub layout: Layout,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.tool())?;
        if self.prefix.is_empty() {
            Ok(())
        } else {
            write!(f, ", under {:?}", self.prefix)
        }
    }
}

/// Ends of prefixes and the tools they belong to, special ones first.
const TOOLS: &[(&str, &str)] = &[
    ("encoder_q.", "MoCo's query encoder"),
    ("encoder_k.", "MoCo's key encoder"),
    ("_feature_blocks.", "VISSL"),
    ("online_encoder.net.", "BYOL (lucidrains), online network"),
    ("target_encoder.net.", "BYOL (lucidrains), target network"),
    (
        "online_network_state_dict.encoder.",
        "BYOL (sthalles), online network",
    ),
    (
        "target_network_state_dict.encoder.",
        "BYOL (sthalles), target network",
    ),
    ("state_dict.momentum_backbone.", "solo-learn's momentum network"),
    ("state_dict.backbone_momentum.", "lightly's momentum network"),
    ("module.encoder.", "SimSiam"),
];

/// Parts of a prefix that name the momentum (target) encoder.
const FOLLOWERS: [&str; 7] = [
    "encoder_k",
    "momentum",
    "target",
    "teacher",
    "ema",
    "key_encoder",
    "backbone_k",
];
/// Parts of a prefix that name the encoder that is trained.
const TRAINED: [&str; 4] = ["encoder_q", "online", "student", "query"];

impl Candidate {
    fn says(&self, words: &[&str]) -> bool {
        self.prefix.split('.').any(|part| {
            words
                .iter()
                .any(|word| part == *word || part.split('_').any(|p| p == *word))
        })
    }

    /// The tool with this naming, as far as names show it.
    pub fn tool(&self) -> &'static str {
        let known = TOOLS.iter().find(|(end, _)| {
            self.prefix
                .strip_suffix(end)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        });
        match (known, self.layout) {
            (Some((_, tool)), _) => tool,
            (None, Layout::Detectron2) => "detectron2",
            (None, Layout::Sequential(_)) if self.prefix.ends_with("backbone.") => "lightly",
            (None, Layout::Sequential(_)) => "a Sequential of a ResNet's parts",
            (None, Layout::Torchvision) if self.prefix.ends_with("backbone.") => "solo-learn or mmpretrain",
            (None, Layout::Torchvision) => "torchvision or timm",
        }
    }

    /// torchvision's name of a tensor of the backbone; `None` for all others.
    pub fn torchvision(&self, name: &str) -> Option<String> {
        // detectron2's C4 detectors keep the last stage with their heads.
        if let (Layout::Detectron2, Some(model)) = (self.layout, self.prefix.strip_suffix("backbone."))
            && let Some(rest) = name
                .strip_prefix(model)
                .and_then(|rest| rest.strip_prefix("roi_heads."))
        {
            return rest.starts_with("res5.").then(|| detectron2(rest)).flatten();
        }
        let rest = name.strip_prefix(&self.prefix)?;
        match self.layout {
            Layout::Torchvision => {
                let (first, block) = rest.split_once('.')?;
                let is_layer = first
                    .strip_prefix("layer")
                    .is_some_and(|n| ["1", "2", "3", "4"].contains(&n));
                (is_layer || ["conv1", "bn1", "stem"].contains(&first))
                    .then(|| format!("{first}.{}", downsample(block)))
            }
            Layout::Sequential(layer1) => {
                let (number, block) = rest.split_once('.')?;
                let number: usize = number.parse().ok()?;
                match number {
                    0 => Some(format!("conv1.{block}")),
                    1 => Some(format!("bn1.{block}")),
                    _ if (layer1..layer1 + 4).contains(&number) => {
                        Some(format!("layer{}.{}", number - layer1 + 1, downsample(block)))
                    }
                    _ => None,
                }
            }
            Layout::Detectron2 => detectron2(rest),
        }
    }
}

// torchvision's `downsample` is `shortcut` in the CIFAR ResNets of lightly and others.
fn downsample(block: &str) -> String {
    block.replacen(".shortcut.", ".downsample.", 1)
}

fn detectron2(rest: &str) -> Option<String> {
    let parts: Vec<&str> = rest.split('.').collect();
    match parts[..] {
        ["stem", "conv1", "weight"] => Some("conv1.weight".into()),
        ["stem", "conv1", "norm", part] => Some(format!("bn1.{part}")),
        // Other tensors of the stem do not belong to a plain ResNet, and must cause an error.
        ["stem", ..] => Some(rest.to_owned()),
        // MoCo's detectors have a batch norm after the last stage, `res5.norm`: it belongs to the head.
        [_, "norm", ..] => None,
        [stage, block, conv, ref tail @ ..] => {
            let layer = stage
                .strip_prefix("res")?
                .parse::<u32>()
                .ok()
                .filter(|n| (2..=5).contains(n))?
                - 1;
            let name = match (conv.strip_prefix("conv"), tail) {
                (Some(number), ["weight"]) => format!("conv{number}.weight"),
                (Some(number), ["norm", part]) => format!("bn{number}.{part}"),
                (None, ["weight"]) if conv == "shortcut" => "downsample.0.weight".into(),
                (None, ["norm", part]) if conv == "shortcut" => format!("downsample.1.{part}"),
                _ => format!("{conv}.{}", tail.join(".")),
            };
            Some(format!("layer{layer}.{block}.{name}"))
        }
        _ => None,
    }
}

/// The backbones of a file, by the names of its tensors.
pub fn candidates<'n>(names: impl IntoIterator<Item = &'n str>) -> Vec<Candidate> {
    let mut found: BTreeMap<(&str, u8), usize> = BTreeMap::new();
    for name in names {
        let Some((path, "weight")) = name.rsplit_once('.') else {
            continue;
        };
        let mut parts = path.rsplitn(4, '.');
        let (Some(conv), Some(block), Some(stage)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let number = |text: &str| text.parse::<usize>().ok().filter(|n| *n < 1000);
        if !conv
            .strip_prefix("conv")
            .is_some_and(|n| ["1", "2", "3"].contains(&n))
            || number(block).is_none()
        {
            continue;
        }
        let in_stages = |stem: &str, first, last| {
            stage
                .strip_prefix(stem)
                .and_then(number)
                .is_some_and(|n| (first..=last).contains(&n))
        };
        let prefix = &name[..parts.next().map_or(0, |prefix| prefix.len() + 1)];
        if in_stages("layer", 1, 4) {
            found.insert((prefix, 0), 0);
        } else if in_stages("res", 2, 5) && !prefix.ends_with("roi_heads.") {
            found.insert((prefix, 2), 0);
        } else if let Some(stage) = number(stage).filter(|n| *n >= 2) {
            let first = found.entry((prefix, 1)).or_insert(stage);
            *first = stage.min(*first);
        }
    }
    let candidate = |((prefix, layout), first): ((&str, u8), usize)| Candidate {
        prefix: prefix.to_owned(),
        layout: match layout {
            0 => Layout::Torchvision,
            1 => Layout::Sequential(first),
            _ => Layout::Detectron2,
        },
    };
    found.into_iter().map(candidate).collect()
}

/// The backbone to take: the one of the prefix asked for, else the trained one of several.
///
/// # Errors
/// When there is none, or it is not clear which one is meant.
pub fn choose(candidates: &[Candidate], prefix: Option<&str>) -> ReadResult<Candidate> {
    let list = |candidates: &[&Candidate]| {
        let shown = candidates
            .iter()
            .take(4)
            .map(|c| format!("{:?}", c.prefix))
            .collect::<Vec<_>>()
            .join(", ");
        if candidates.len() > 4 {
            format!("{shown} and {} more", candidates.len() - 4)
        } else {
            shown
        }
    };
    let all: Vec<&Candidate> = candidates.iter().collect();
    if all.is_empty() {
        let remedy =
            "give a ResNet-18, 34, 50 or 101 with torchvision's names or those of a tool in docs/interop.md";
        return Err(Refusal::new(
            "holds no ResNet with torchvision's names or those of another known tool",
            remedy,
        ));
    }
    if let Some(asked) = prefix {
        let asked = asked.trim_end_matches('.');
        let fits = |c: &&&Candidate| {
            let own = c.prefix.trim_end_matches('.');
            own == asked || own.strip_suffix(asked).is_some_and(|rest| rest.ends_with('.'))
        };
        let exact = all.iter().find(|c| c.prefix.trim_end_matches('.') == asked);
        let fitting: Vec<&&Candidate> = all.iter().filter(fits).collect();
        return match (exact, &fitting[..]) {
            (Some(exact), _) => Ok((*exact).clone()),
            (None, [one]) => Ok((**one).clone()),
            _ => {
                let problem = format!(
                    "has {} backbones under {asked:?}",
                    if fitting.is_empty() { "no" } else { "several" }
                );
                Err(Refusal::new(problem, format!("--prefix can be {}", list(&all))))
            }
        };
    }
    let leaders: Vec<&Candidate> = all.iter().copied().filter(|c| !c.says(&FOLLOWERS)).collect();
    let leaders = if leaders.is_empty() { all } else { leaders };
    if let [one] = leaders[..] {
        return Ok(one.clone());
    }
    let trained: Vec<&Candidate> = leaders.iter().copied().filter(|c| c.says(&TRAINED)).collect();
    match trained[..] {
        [one] => Ok(one.clone()),
        _ => Err(Refusal::new(
            "holds several backbones",
            format!("choose one with --prefix: {}", list(&leaders)),
        )),
    }
}
