//! The probes against scikit-learn's stored answers.

use camtrast_common::testing::{Case, Worst, fill, numbers};
use camtrast_probe::logistic::{Problem, TOLERANCE};
use camtrast_probe::neighbours::{Neighbours, TEMPERATURE};
use camtrast_probe::{Normalisation, Normalize};
use clap::ValueEnum;
use tch::{Device, Kind, Tensor};

/// Features [count, 16] of images whose class is i mod 6.
fn features(part: &str, count: i64) -> Tensor {
    let classes = Tensor::arange(count, (Kind::Int64, Device::Cpu)).remainder(6);
    let centres = fill("centres", &[6, 16]).index_select(0, &classes);
    (centres * 0.5 + fill(part, &[count, 16]) + 0.5).relu()
}

fn classes(count: usize, of: usize) -> Vec<i64> {
    (0..count).map(|i| (i % of) as i64).collect()
}

#[test]
fn classifiers_are_scikit_learns() {
    let case = Case::open("probe_linear");
    let (train, test) = (features("train", 300), features("test", 60));
    let used = Tensor::ones([300, 1], (Kind::Float, Device::Cpu));
    let mut worst = Worst::default();
    for (name, settings) in case.json("cases").as_object().unwrap() {
        let how = Normalize::from_str(settings[0].as_str().unwrap(), true).unwrap();
        let c = settings[1].as_f64().unwrap();
        let truth = case.tensor(name);
        let count = truth.size()[1];
        let normalisation = Normalisation::of(how, &train);
        let targets = classes(300, count as usize);
        let problem = Problem::new(&train, &normalisation, &targets, count).unwrap();
        let fitted = problem.fit(c, &used, &problem.zero(), TOLERANCE).unwrap();
        let (_, logits) = problem.logits(&test, &fitted).next().unwrap();
        let error = (logits.softmax(-1, Kind::Double) - truth).abs().max();
        worst.add(name, error.double_value(&[]));
    }
    // Logits of the test images are float32.
    worst.check("probabilities", 3e-6);
}

#[test]
fn images_that_are_not_used_do_not_count() {
    let train = features("train", 300);
    let normalisation = Normalisation::of(Normalize::None, &train);
    let targets = classes(300, 6);
    let whole = Problem::new(&train, &normalisation, &targets, 6).unwrap();
    let used = Tensor::ones([300, 1], (Kind::Float, Device::Cpu));
    let _ = used.narrow(0, 200, 100).fill_(0.0);
    let masked = whole.fit(1.0, &used, &whole.zero(), TOLERANCE).unwrap();
    let rows = train.narrow(0, 0, 200);
    let part = Problem::new(&rows, &normalisation, &targets[..200], 6).unwrap();
    let alone = part
        .fit(1.0, &used.narrow(0, 0, 200), &part.zero(), TOLERANCE)
        .unwrap();
    let difference = (masked.0 - alone.0)
        .narrow(1, 0, 16)
        .abs()
        .max()
        .double_value(&[]);
    assert!(difference < 1e-5, "{difference}");
}

#[test]
fn neighbours_are_scikit_learns() {
    let case = Case::open("probe_neighbours");
    let (train, test) = (features("train", 300), features("test", 60));
    let ks: Vec<usize> = numbers(&case.json("ks")).iter().map(|&k| k as usize).collect();
    for how in Normalize::value_variants() {
        let name = how.to_possible_value().unwrap().get_name().to_owned();
        let normalisation = Normalisation::of(*how, &train);
        for (temperature, part) in [(None, ""), (Some(TEMPERATURE), ".weighted")] {
            let targets = classes(300, 6);
            let neighbours = Neighbours::new(&train, &targets, 6, &normalisation, temperature);
            for &k in &ks {
                // Every answer is the stored one: as its class, each image is classified correctly.
                let answers = case.tensor(&format!("{name}{part}.k{k}"));
                let answers = Vec::<i64>::try_from(answers).unwrap();
                let tallies = neighbours.classify(&test, &answers, &[k]).unwrap();
                assert_eq!(tallies[0].top1(), 1.0, "{name}{part} k {k}");
            }
        }
    }
    let normalisation = Normalisation::of(Normalize::None, &train);
    let targets = classes(300, 6);
    let neighbours = Neighbours::new(&train, &targets, 6, &normalisation, None);
    let error = neighbours.classify(&test, &classes(60, 6), &[301]).unwrap_err();
    assert!(error.to_string().contains("--k 301"), "{error}");
}
