//! Singular Gram matrices, single shots, broken numbers, sizes that do not fit a cache.

use crate::{clusters, write_features};
use camtrast_common::progress::Silent;
use camtrast_fewshot::{Episode, EpisodeSet, Protocol, Score, ScoreOptions, logistic, score, score_files};
use tch::{Device, Kind, Tensor};

const RAW: ScoreOptions = ScoreOptions {
    normalise: false,
    c: 1.0,
};

fn probe(features: &Tensor, labels: &[i64], protocol: Protocol) -> camtrast_common::Result<Score> {
    let episodes = EpisodeSet::sample(labels, &protocol, 3)?;
    score(features, labels, &episodes, &ScoreOptions::default(), &Silent)
}

fn gram_and_targets(rows: &[[f64; 2]], targets: &[i64]) -> (Tensor, Tensor) {
    let x = Tensor::from_slice2(rows).unsqueeze(0);
    (
        x.bmm(&x.transpose(1, 2)),
        Tensor::from_slice(targets).unsqueeze(0),
    )
}

#[test]
fn zero_features_leave_only_the_intercept() {
    let (_, labels) = clusters(6, 20, 8);
    let score = probe(
        &Tensor::zeros([120, 8], (Kind::Float, Device::Cpu)),
        &labels,
        Protocol::default(),
    )
    .unwrap();
    assert!(
        score
            .per_episode
            .iter()
            .all(|accuracy| (0.0..=1.0).contains(accuracy))
    );
    // Unbalanced classes without features: the intercept fits their shares.
    let (gram, targets) = gram_and_targets(&[[0.0; 2]; 4], &[0, 0, 0, 1]);
    let solution = logistic::fit(&gram, &targets, 2, &logistic::SolverOptions::default()).unwrap();
    let shares = Vec::<f64>::try_from(solution.intercept.softmax(-1, Kind::Double).view([-1])).unwrap();
    assert!((shares[0] - 0.75).abs() < 1e-8, "{shares:?}");
}

#[test]
fn one_zero_row_stays_zero() {
    let (features, labels) = clusters(5, 16, 8);
    let _ = features.get(0).zero_();
    let score = probe(
        &features,
        &labels,
        Protocol {
            episodes: 20,
            ..Protocol::default()
        },
    )
    .unwrap();
    assert!(score.mean > 0.3);
}

#[test]
fn equal_support_images_of_two_classes_share_their_probability() {
    let (gram, targets) = gram_and_targets(&[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], &[0, 1, 2]);
    let solution = logistic::fit(&gram, &targets, 3, &logistic::SolverOptions::default()).unwrap();
    assert!(solution.gradient_norm.double_value(&[0]) <= 1e-8);
    let logits = solution.logits(&gram);
    assert!((logits.double_value(&[0, 0, 0]) - logits.double_value(&[0, 0, 1])).abs() < 1e-9);
}

#[test]
fn far_points_need_step_control_and_still_converge() {
    for length in [1e1, 1e2, 1e3, 1e4] {
        let rows = [
            [length, 0.0],
            [0.9 * length, 1.0],
            [-length, 2.0],
            [0.95 * length, -3.0],
            [0.0, length],
        ];
        let (gram, targets) = gram_and_targets(&rows, &[0, 1, 2, 0, 1]);
        let options = logistic::SolverOptions {
            c: 100.0,
            ..Default::default()
        };
        let solution = logistic::fit(&gram, &targets, 3, &options).unwrap();
        assert!(solution.gradient_norm.max().double_value(&[]) <= 1e-8, "{length}");
    }
}

#[test]
fn problems_solved_together_and_alone_agree() {
    let (features, labels) = clusters(8, 20, 12);
    let protocol = Protocol {
        shots: 5,
        episodes: 30,
        ..Protocol::default()
    };
    let all = EpisodeSet::sample(&labels, &protocol, 0).unwrap();
    let together = score(&features, &labels, &all, &ScoreOptions::default(), &Silent).unwrap();
    for (episode, accuracy) in all.episodes.iter().zip(&together.per_episode) {
        let alone = EpisodeSet {
            episodes: vec![episode.clone()],
            ..all
        };
        let alone = score(&features, &labels, &alone, &ScoreOptions::default(), &Silent).unwrap();
        assert_eq!(alone.per_episode, [*accuracy]);
        assert!(alone.ci95.is_nan());
    }
}

#[test]
fn the_interval_is_that_of_the_mean() {
    let (features, labels) = clusters(8, 20, 12);
    let score = probe(
        &features,
        &labels,
        Protocol {
            episodes: 50,
            ..Protocol::default()
        },
    )
    .unwrap();
    let accuracies = Tensor::from_slice(&score.per_episode);
    assert!((score.mean - accuracies.mean(Kind::Double).double_value(&[])).abs() < 1e-12);
    let expected = 1.96 * accuracies.std(true).double_value(&[]) / 50f64.sqrt();
    assert!(score.ci95 > 0.0 && (score.ci95 - expected).abs() < 1e-12);
}

#[test]
fn many_ways_and_shots_fit_in_memory() {
    let (features, labels) = clusters(20, 52, 24);
    let protocol = Protocol {
        ways: 20,
        shots: 50,
        queries: 2,
        episodes: 1,
    };
    assert!(probe(&features, &labels, protocol).unwrap().mean > 0.5);
}

#[test]
fn broken_numbers_are_reported_with_file_and_row() {
    let (features, labels) = clusters(5, 16, 8);
    for broken in [f64::NAN, f64::INFINITY] {
        let _ = features.get(7).get(3).fill_(broken);
        let error = probe(&features, &labels, Protocol::default())
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("1 feature rows hold NaN or infinite values, the first is row 7; "),
            "{error}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let path = write_features(folder.path(), &features, &labels);
    let episodes = folder.path().join("episodes.json");
    EpisodeSet::sample(&labels, &Protocol::default(), 0)
        .unwrap()
        .save(&episodes)
        .unwrap();
    let error = score_files(&path, &episodes, &RAW, Device::Cpu, &Silent)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(&format!("{}: 1 feature rows hold NaN", path.display())),
        "{error}"
    );
    // The solver on its own refuses them too.
    let (gram, targets) = gram_and_targets(&[[f64::NAN, 0.0], [1.0, 0.0]], &[0, 1]);
    assert!(logistic::fit(&gram, &targets, 2, &logistic::SolverOptions::default()).is_err());
}

#[test]
fn a_class_without_support_and_too_few_steps_are_errors() {
    let (gram, targets) = gram_and_targets(&[[1.0, 0.0], [0.0, 1.0]], &[0, 1]);
    let error = logistic::fit(&gram, &targets, 3, &logistic::SolverOptions::default())
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("a class has no support image"), "{error}");
    let hurried = logistic::SolverOptions {
        max_iterations: 0,
        ..Default::default()
    };
    let error = logistic::fit(&(gram * 9.0), &targets, 2, &hurried)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("1 of 1 classifiers did not reach their optimum in 0 steps"),
        "{error}"
    );
}

#[test]
fn features_of_another_shape_are_refused() {
    let (features, labels) = clusters(5, 16, 8);
    let episodes = EpisodeSet::sample(&labels, &Protocol::default(), 0).unwrap();
    for wrong in [
        features.narrow(0, 0, 79),
        features.view([80, 4, 2]),
        features.to_kind(Kind::Int64),
    ] {
        let error = score(&wrong, &labels, &episodes, &RAW, &Silent)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("one row of floating-point features for every label"),
            "{error}"
        );
    }
}

#[test]
fn an_episode_of_mixed_labels_is_refused() {
    let (features, labels) = clusters(2, 4, 8);
    let refused = |support: [i64; 2], query: [i64; 2]| {
        let one = |indices: [i64; 2]| indices.map(|i| vec![i]).to_vec();
        let episodes = vec![Episode {
            support: one(support),
            query: one(query),
        }];
        let set = EpisodeSet {
            ways: 2,
            shots: 1,
            queries: 1,
            episodes,
        };
        score(&features, &labels, &set, &RAW, &Silent)
            .unwrap_err()
            .to_string()
    };
    assert!(refused([0, 4], [5, 1]).starts_with("episode 0: class 0 mixes images labelled 0 and 1; "));
    assert!(refused([0, 2], [1, 3]).starts_with("episode 0: classes 0 and 1 are both labelled 0; "));
    assert!(refused([0, 4], [1, 8]).starts_with("episode 0: index 8 is outside 0..8; "));
    assert!(refused([0, 4], [-1, 5]).starts_with("episode 0: index -1 is outside 0..8; "));
}
