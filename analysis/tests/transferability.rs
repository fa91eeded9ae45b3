//! Measures of transferability against numpy's stored answers.

use camtrast_analysis::evidence::logme;
use camtrast_analysis::rank::{alpha_req, lidar, rankme};
use camtrast_analysis::similarity::cka;
use camtrast_common::testing::{Case, Worst, fill, numbers};
use tch::{Device, Kind, Tensor};

#[test]
fn numpy_agrees() {
    let case = Case::open("transferability");
    let mut worst = Worst::default();
    for name in ["wide", "tall", "relu"] {
        let shape: Vec<i64> = numbers(&case.json(name)).iter().map(|&v| v as i64).collect();
        let (n, d) = (shape[0], shape[1]);
        let filled = |name: &str, shape: &[i64]| fill(name, shape).to_kind(Kind::Double);
        let x = filled(name, &shape);
        let x = if name == "relu" { x.relu() } else { x };
        let x = x / (Tensor::arange(d, (Kind::Double, Device::Cpu)) / 8.0 + 1.0);
        let y = filled(&format!("{name}/second"), &[n, 5]);
        let views = x.unsqueeze(1) + filled(&format!("{name}/views"), &[n, 3, d]) / 2.0;
        let labels: Vec<i64> = (0..n).map(|i| i % 3).collect();
        let ours = [
            rankme(&x).unwrap(),
            alpha_req(&x).unwrap(),
            lidar(&views).unwrap(),
            logme(&x, &labels, 3).unwrap(),
            cka(&x, &y).unwrap(),
        ];
        let truth = case.tensor(&format!("{name}.result"));
        for (i, what) in ["RankMe", "alpha-ReQ", "LiDAR", "LogME", "CKA"]
            .into_iter()
            .enumerate()
        {
            let truth = truth.double_value(&[i as i64]);
            worst.add(&format!("{name} {what}"), (ours[i] - truth).abs() / truth.abs());
        }
    }
    // Singular values come from a Gram matrix, whose rounding is that of their squares.
    worst.check("transferability", 1e-7);
}
