//! Singular Gram matrices, single shots, broken numbers, sizes that do not fit a cache.

use crate::{clusters, score, write_features};
use camtrast_common::progress::Silent;
use camtrast_fewshot::logistic::{SolverOptions, fit};
use camtrast_fewshot::{Episode, EpisodeSet, Features, Matrix, Protocol, Score, ScoreOptions, score_files};
use tch::{Device, Kind, Tensor};

const RAW: ScoreOptions = ScoreOptions {
    normalise: false,
    c: 1.0,
};

fn probe(features: &Tensor, labels: &[i64], protocol: Protocol) -> camtrast_common::Result<Score> {
    let episodes = EpisodeSet::sample(labels, &protocol, 3)?;
    score(features, labels, &episodes, &ScoreOptions::default())
}

fn gram(rows: &[[f64; 2]]) -> Matrix {
    let n = rows.len();
    Matrix::from_fn(n, n, |i, j| rows[i][0] * rows[j][0] + rows[i][1] * rows[j][1])
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
    let solution = fit(&gram(&[[0.0; 2]; 4]), &[0, 0, 0, 1], 2, &SolverOptions::default()).unwrap();
    let odds = (solution.intercept[0] - solution.intercept[1]).exp();
    assert!((odds - 3.0).abs() < 1e-7, "{odds}");
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
    let gram = gram(&[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]);
    let solution = fit(&gram, &[0, 1, 2], 3, &SolverOptions::default()).unwrap();
    assert!(solution.gradient_norm <= 1e-8);
    let logits = solution.logits(&gram);
    assert!((logits.row(0)[0] - logits.row(1)[0]).abs() < 1e-9);
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
        let options = SolverOptions {
            c: 100.0,
            ..Default::default()
        };
        let solution = fit(&gram(&rows), &[0, 1, 2, 0, 1], 3, &options).unwrap();
        // At 1e4 the gradient is a difference of numbers of 1e6, in float64.
        let bound = if length > 1e3 { 5.1e-8 } else { 1e-8 };
        assert!(solution.gradient_norm <= bound, "{length}");
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
    let together = score(&features, &labels, &all, &ScoreOptions::default()).unwrap();
    for (episode, accuracy) in all.episodes.iter().zip(&together.per_episode) {
        let alone = EpisodeSet {
            episodes: vec![episode.clone()],
            ..all
        };
        let alone = score(&features, &labels, &alone, &ScoreOptions::default()).unwrap();
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
    let error = score_files(&path, &episodes, &RAW, &Silent)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(&format!("{}: 1 feature rows hold NaN", path.display())),
        "{error}"
    );
    // The solver on its own refuses them too.
    let broken = gram(&[[f64::NAN, 0.0], [1.0, 0.0]]);
    assert!(fit(&broken, &[0, 1], 2, &SolverOptions::default()).is_err());
}

#[test]
fn a_class_without_support_and_too_few_steps_are_errors() {
    let error = fit(
        &gram(&[[1.0, 0.0], [0.0, 1.0]]),
        &[0, 1],
        3,
        &SolverOptions::default(),
    )
    .unwrap_err()
    .to_string();
    assert!(error.starts_with("a class has no support image"), "{error}");
    let hurried = SolverOptions {
        max_iterations: 0,
        ..Default::default()
    };
    let error = fit(&gram(&[[3.0, 0.0], [0.0, 3.0]]), &[0, 1], 2, &hurried)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("a classifier did not reach its optimum in 0 steps"),
        "{error}"
    );
}

#[test]
fn features_of_another_shape_are_refused() {
    let (features, labels) = clusters(5, 16, 8);
    let episodes = EpisodeSet::sample(&labels, &Protocol::default(), 0).unwrap();
    let fewer = score(&features.narrow(0, 0, 79), &labels, &episodes, &RAW).unwrap_err();
    for error in [
        fewer,
        Features::new(vec![0.0; 9], 2).unwrap_err(),
        Features::new(Vec::new(), 0).unwrap_err(),
    ] {
        let error = error.to_string();
        assert!(error.contains("one row of features for every label"), "{error}");
    }
}

/// Rows that a file holds at an odd place are copied.
#[test]
fn bytes_need_not_be_aligned() {
    let bytes = [
        &[0u8; 3][..],
        &[1.5f32, -2.0, 3.0, 4.0].map(f32::to_ne_bytes).concat(),
    ]
    .concat();
    let all = [0, 1, 2, 3].map(|extra| {
        let shifted = [&vec![0; extra][..], &bytes].concat();
        let features = Features::from_bytes(&shifted[3 + extra..], 2).unwrap();
        (features.count(), features.row(1).to_vec())
    });
    assert!(all.iter().all(|features| *features == (2, vec![3.0, 4.0])));
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
        score(&features, &labels, &set, &RAW).unwrap_err().to_string()
    };
    assert!(refused([0, 4], [5, 1]).starts_with("episode 0: class 0 mixes images labelled 0 and 1; "));
    assert!(refused([0, 2], [1, 3]).starts_with("episode 0: classes 0 and 1 are both labelled 0; "));
    assert!(refused([0, 4], [1, 8]).starts_with("episode 0: index 8 is outside 0..8; "));
    assert!(refused([0, 4], [-1, 5]).starts_with("episode 0: index -1 is outside 0..8; "));
}
