//! Suites and transfer: what they do and report, what they refuse, what is done again, and how they end.

mod again;
mod ends;
mod grid;
mod refused;
mod reuse;
mod slurm;
mod sweep;

use crate::world::Place;

const RECIPE: &str = r#"
title = "Two methods"
about = "A test."
seeds = [0, 1]
representation = true
x-axis = "classes"
runs = [
  { name = "scratch", method = "scratch" },
  {name="Supervised, 8",series="supervised",x=8,method="supervised",classes=8,published={"1-shot" = 55.31}},
  { name = "Supervised, 16", series = "supervised", x = 16, method = "supervised", classes = 16 },
]
[data]
train = "train.pack"
test = { novel = "test.pack" }
[fewshot]
queries = 5
episodes = 20
[pretrain]
arch = "resnet18-w8-small"
batch-size = 16
epochs = 1
threads = 1
"#;

/// Tasks beside the probe, small enough for seconds.
pub const TASKS: &str = r#"
[detection]
voc = "world/VOCdevkit"
train = "2007:trainval"
test = "2007:test"
classes = "clock,tree,mushroom,chair"
arch = "fpn"
preset = "moco"
steps = 4
batch-size = 2
lr = 0.01
warmup-steps = 2
train-sides = 64
test-side = 64
anchor-sizes = [8, 16, 32, 48, 64]
regions-per-image = 16
train-proposals = [100, 30]
precise-bn = 3
test-proposals = [100, 30]
fpn-channels = 8
head-features = 16
pictures = 1
[segmentation]
cityscapes = "world"
steps = 6
batch-size = 3
crop = 32
head-channels = 8
lr = 0.05
pictures = 1
"#;

fn run(recipe: &str, out: &str) -> String {
    format!("suite run {recipe} --out {out} --device cpu")
}

/// The lines of a suite's results, without its header.
fn results(place: &Place, out: &str) -> Vec<String> {
    place
        .text(&format!("{out}/report.csv"))
        .lines()
        .skip(1)
        .map(String::from)
        .collect()
}

fn states(plan: &str, state: &str) -> usize {
    plan.lines().filter(|line| line.starts_with(state)).count()
}
