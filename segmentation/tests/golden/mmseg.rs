//! `--preset mmseg` against mmsegmentation's own modules.

use crate::network::{compare, gradients, labels};
use camtrast_common::device::channels_last;
use camtrast_common::distributed::Group;
use camtrast_common::nn::Modes;
use camtrast_common::schedule::{Decay, Schedule};
use camtrast_common::testing::{Case, Worst, fill, fill_variables, probe, relative_error, strings};
use camtrast_segmentation::deeplab::{Aspp, Decoder, DeepLab, DeepLabConfig, cross_entropy};
use camtrast_segmentation::{Preset, SegmentationOptions};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

fn preset() -> SegmentationOptions {
    SegmentationOptions::default().resolve(Preset::Mmseg).unwrap()
}

// The preset's network, narrower, with rates whose taps lie inside a small map, and without dropout.
fn narrow(arch: &str) -> DeepLabConfig {
    let whole = preset().model(arch.parse().unwrap(), 5).unwrap();
    assert_eq!(
        (whole.atrous_rates, whole.channels, whole.dropout),
        ([12, 24, 36], 512, 0.1)
    );
    DeepLabConfig {
        atrous_rates: [3, 6, 9],
        channels: 16,
        dropout: 0.0,
        ..whole
    }
}

fn agrees(case: &str, arch: &str) {
    let (truth, options) = (Case::open("mmseg_deeplab"), preset());
    let mut vs = VarStore::new(Device::Cpu);
    let net = DeepLab::new(&vs.root(), &narrow(arch));
    fill_variables(&vs);
    vs.double();
    let x = channels_last(&fill("input", &[3, 3, 65, 97]).to_kind(Kind::Double));
    let logits = net.forward(&x, Modes::training(options.batch_norm.unwrap(), Group::ALONE));
    let labels = labels("labels", 5, [3, 65, 97]);
    let logits = [logits.main, logits.auxiliary.unwrap()];
    let average = options.loss_average.unwrap();
    let main = cross_entropy(&logits[0], &labels, average);
    let auxiliary = cross_entropy(&logits[1], &labels, average) * options.auxiliary_weight.unwrap();
    (&main + &auxiliary).backward();

    let mut worst = Worst::default();
    worst.add(
        "losses",
        relative_error(
            &Tensor::stack(&[main, auxiliary], 0),
            &truth.tensor(&format!("{case}.losses")),
        ),
    );
    for (i, name) in ["main", "auxiliary"].into_iter().enumerate() {
        let theirs = truth.tensor(&format!("{case}.logits")).get(i as i64);
        worst.add(name, relative_error(&probe(name, &logits[i]), &theirs));
    }
    // mmsegmentation divides the sum of 18,915 losses by that number plus 1.2e-7.
    worst.check(&format!("{arch} forward"), 1e-11);
    let ours = gradients(&vs);
    let group = format!("{case}.grads");
    let rows = truth.json(&group);
    assert_eq!(strings(&rows).len(), ours.len());
    compare(&truth, &group, &rows, &ours, 1e-9);
}

#[test]
fn a_step_of_resnet_50_v1c() {
    agrees("50", "resnet50-w4-v1c");
}

// Basic blocks dilate their first convolution only.
#[test]
fn a_step_of_resnet_18_v1c() {
    agrees("18", "resnet18-w8-v1c");
}

// Of 18,000 values and more, so that two draws of one distribution lie within 3 percent.
#[test]
fn heads_start_as_there() {
    let case = Case::open("mmseg_deeplab");
    tch::manual_seed(0);
    let vs = VarStore::new(Device::Cpu);
    let config = preset().model("resnet50-v1c".parse().unwrap(), 19).unwrap();
    let _ = Aspp::new(&(vs.root() / "aspp"), 2048, &config);
    let _ = Decoder::new(
        &(vs.root() / "decoder"),
        256,
        config.channels,
        19,
        config.separable,
    );
    let variables = vs.variables();
    let mut worst = Worst::default();
    let truth = Vec::<f64>::try_from(case.tensor("initial")).unwrap();
    for (name, theirs) in strings(&case.json("initial")).iter().zip(truth) {
        if !name.starts_with("auxiliary.") {
            worst.add(
                name,
                (variables[name].std(true).double_value(&[]) / theirs - 1.0).abs(),
            );
        }
    }
    worst.check("standard deviations", 0.03);
}

#[test]
fn learning_rate() {
    let options = preset();
    let truth = Vec::<f64>::try_from(Case::open("mmseg_deeplab").tensor("lr")).unwrap();
    assert_eq!(options.schedule, Some(Decay::Poly));
    let schedule = Schedule {
        base_lr: options.lr.unwrap(),
        floor: options.lr_floor.unwrap(),
        decay: Decay::Poly,
        milestones: Vec::new(),
        gamma: 1.0,
        warmup_steps: options.warmup_steps.unwrap(),
        warmup_factor: 0.0,
        steps_per_epoch: 7,
        total_steps: truth.len() as u64,
    };
    let mut worst = Worst::default();
    for (step, theirs) in truth.iter().enumerate() {
        worst.add(
            &format!("step {step}"),
            (schedule.lr(step as u64) / theirs - 1.0).abs(),
        );
    }
    worst.check("PolyLR", 1e-12);
}
