//! Parity with scikit-learn, see `tests/golden/fewshot_logistic/export.py`.

use crate::score;
use camtrast_common::tensor_file::TensorFile;
use camtrast_fewshot::logistic::{SolverOptions, fit};
use camtrast_fewshot::{Episode, EpisodeSet, Matrix, ScoreOptions};
use std::path::Path;
use tch::{Kind, Tensor};

/// Both sides converge to rounding; the export script holds scikit-learn's default solver to its own looser
/// optimum.
const CLOSE: f64 = 1e-8;

struct Case {
    file: TensorFile,
    name: &'static str,
    ways: usize,
    options: ScoreOptions,
}

fn case(name: &'static str, ways: usize, normalise: bool, c: f64) -> Case {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/fewshot_logistic/case.safetensors");
    Case {
        file: TensorFile::open(&path).unwrap(),
        name,
        ways,
        options: ScoreOptions { normalise, c },
    }
}

impl Case {
    fn tensor(&self, what: &str) -> Tensor {
        self.file.tensor(&format!("{}/{what}", self.name)).unwrap()
    }

    fn features(&self) -> Tensor {
        let features = self.file.tensor("features").unwrap().to_kind(Kind::Double);
        let norms = features.norm_scalaropt_dim(2, [1], true);
        if self.options.normalise {
            features / norms
        } else {
            features
        }
    }

    fn episodes(&self) -> EpisodeSet {
        let nested = |what: &str| rows3(&self.tensor(what));
        let (support, query) = (nested("support"), nested("query"));
        EpisodeSet {
            ways: self.ways,
            shots: support[0][0].len(),
            queries: query[0][0].len(),
            episodes: support
                .into_iter()
                .zip(query)
                .map(|(support, query)| Episode { support, query })
                .collect(),
        }
    }

    /// scikit-learn's accuracy, episode by episode, without a tolerance.
    fn accuracies_are_equal(&self) {
        let features = self.file.tensor("features").unwrap();
        let labels = Vec::<i64>::try_from(self.file.tensor("labels").unwrap()).unwrap();
        let score = score(&features, &labels, &self.episodes(), &self.options).unwrap();
        assert_eq!(
            score.per_episode,
            Vec::<f64>::try_from(self.tensor("accuracy")).unwrap()
        );
    }

    /// Weights, intercepts, probabilities and predictions, through the solver's own interface.
    fn solutions_are_equal(&self) {
        let (features, episodes) = (self.features(), self.episodes());
        // Two classes: scikit-learn's one weight vector is the difference of ours at half its C.
        let c = if self.ways == 2 {
            self.options.c / 2.0
        } else {
            self.options.c
        };
        let options = SolverOptions {
            c,
            ..Default::default()
        };
        for (number, episode) in episodes.episodes.iter().enumerate() {
            let theirs = |what: &str| self.tensor(what).get(number as i64);
            let take = |groups: &[Vec<i64>]| features.index_select(0, &Tensor::from_slice(&groups.concat()));
            let (x, queries) = (take(&episode.support), take(&episode.query));
            let targets: Vec<usize> = (0..self.ways).flat_map(|k| vec![k; episodes.shots]).collect();
            let gram = matrix(&x.matmul(&x.transpose(0, 1)));
            let solution = fit(&gram, &targets, self.ways, &options).unwrap();
            assert!(solution.gradient_norm <= 1e-8);

            let weights = tensor(&solution.weights(&matrix(&x)));
            let intercept = Tensor::from_slice(&solution.intercept);
            if self.ways == 2 {
                close(
                    &(weights.narrow(0, 1, 1) - weights.narrow(0, 0, 1)),
                    &theirs("coefficients"),
                );
                close(
                    &(intercept.narrow(0, 1, 1) - intercept.narrow(0, 0, 1)),
                    &theirs("intercepts"),
                );
            } else {
                close(&weights, &theirs("coefficients"));
                close(&intercept, &theirs("intercepts"));
            }
            let cross = matrix(&x.matmul(&queries.transpose(0, 1)));
            let logits = tensor(&solution.logits(&cross)).transpose(0, 1);
            close(&logits.softmax(-1, Kind::Double), &theirs("probabilities"));
            let predicted: Vec<i64> = solution
                .predict(&cross)
                .iter()
                .map(|&class| class as i64)
                .collect();
            assert_eq!(Tensor::from_slice(&predicted), theirs("predictions"));
        }
    }
}

fn matrix(values: &Tensor) -> Matrix {
    let (rows, columns) = values.size2().unwrap();
    let at = |i: usize, j: usize| values.double_value(&[i as i64, j as i64]);
    Matrix::from_fn(rows as usize, columns as usize, at)
}

fn tensor(matrix: &Matrix) -> Tensor {
    Tensor::from_slice(matrix.values()).view([-1, matrix.columns() as i64])
}

fn rows3(t: &Tensor) -> Vec<Vec<Vec<i64>>> {
    let size = t.size();
    (0..size[0])
        .map(|i| {
            (0..size[1])
                .map(|j| Vec::<i64>::try_from(t.get(i).get(j)).unwrap())
                .collect()
        })
        .collect()
}

fn close(ours: &Tensor, theirs: &Tensor) {
    assert_eq!(ours.size(), theirs.size());
    let scale = theirs.abs().max().double_value(&[]).max(1.0);
    let apart = (ours - theirs).abs().max().double_value(&[]) / scale;
    assert!(apart < CLOSE, "{apart:.1e} apart");
}

#[test]
fn five_way_one_shot() {
    let case = case("5way1shot", 5, true, 1.0);
    case.accuracies_are_equal();
    case.solutions_are_equal();
}

#[test]
fn five_way_five_shot_has_more_images_than_dimensions() {
    let case = case("5way5shot", 5, true, 1.0);
    case.accuracies_are_equal();
    case.solutions_are_equal();
}

#[test]
fn two_way_is_the_binary_problem_of_scikit_learn() {
    let case = case("2way3shot", 2, true, 1.0);
    case.accuracies_are_equal();
    case.solutions_are_equal();
}

#[test]
fn a_larger_c() {
    let case = case("8way2shot", 8, true, 10.0);
    case.accuracies_are_equal();
    case.solutions_are_equal();
}

#[test]
fn features_as_they_are() {
    let case = case("5way3shot_raw", 5, false, 1.0);
    case.accuracies_are_equal();
    case.solutions_are_equal();
}
