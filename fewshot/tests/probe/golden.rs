//! Parity with scikit-learn, see `tests/golden/fewshot_logistic/export.py`.

use camtrast_common::progress::Silent;
use camtrast_common::tensor_file::TensorFile;
use camtrast_fewshot::{Episode, EpisodeSet, ScoreOptions, logistic, score};
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
        let score = score(&features, &labels, &self.episodes(), &self.options, &Silent).unwrap();
        assert_eq!(
            score.per_episode,
            Vec::<f64>::try_from(self.tensor("accuracy")).unwrap()
        );
    }

    /// Weights, intercepts, probabilities and predictions, through the solver's own interface.
    fn solutions_are_equal(&self) {
        let (features, support, query) = (self.features(), self.tensor("support"), self.tensor("query"));
        let take = |indices: &Tensor| {
            features
                .index_select(0, &indices.reshape([-1]))
                .view([indices.size()[0], -1, features.size()[1]])
        };
        let (x, queries) = (take(&support), take(&query));
        let targets = Tensor::arange(self.ways as i64, (Kind::Int64, x.device()))
            .view([1, -1, 1])
            .expand_as(&support);
        // Two classes: scikit-learn's one weight vector is the difference of ours at half its C.
        let c = if self.ways == 2 {
            self.options.c / 2.0
        } else {
            self.options.c
        };
        let options = logistic::SolverOptions {
            c,
            ..Default::default()
        };
        let gram = x.bmm(&x.transpose(1, 2));
        let solution = logistic::fit(
            &gram,
            &targets.reshape([support.size()[0], -1]),
            self.ways as i64,
            &options,
        )
        .unwrap();
        assert!(solution.gradient_norm.max().double_value(&[]) <= 1e-8);

        let (mut weights, mut intercept) = (solution.weights(&x), solution.intercept.shallow_clone());
        if self.ways == 2 {
            weights = weights.narrow(1, 1, 1) - weights.narrow(1, 0, 1);
            intercept = intercept.narrow(1, 1, 1) - intercept.narrow(1, 0, 1);
        }
        close(&weights, &self.tensor("coefficients"));
        close(&intercept, &self.tensor("intercepts"));
        let cross = queries.bmm(&x.transpose(1, 2));
        close(
            &solution.logits(&cross).softmax(-1, Kind::Double),
            &self.tensor("probabilities"),
        );
        assert_eq!(solution.predict(&cross), self.tensor("predictions"));
    }
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
