//! Drawing episodes, and reading them from files that people write by hand.

use crate::{clusters, score, write_features};
use camtrast_common::progress::Silent;
use camtrast_fewshot::{EpisodeSet, Protocol, ScoreOptions, score_files};
use std::fs;

fn labels(classes: i64, each: usize) -> Vec<i64> {
    (0..classes).flat_map(|class| vec![10 * class; each]).collect()
}

#[test]
fn episodes_have_the_shape_asked_for_and_repeat_with_the_seed() {
    let labels = labels(7, 30);
    let protocol = Protocol {
        shots: 5,
        episodes: 40,
        ..Protocol::default()
    };
    let set = EpisodeSet::sample(&labels, &protocol, 1).unwrap();
    set.check(&labels).unwrap();
    assert_eq!(
        (set.ways, set.shots, set.queries, set.episodes.len()),
        (5, 5, 15, 40)
    );
    assert_eq!(set, EpisodeSet::sample(&labels, &protocol, 1).unwrap());
    assert_ne!(set, EpisodeSet::sample(&labels, &protocol, 2).unwrap());
    let longer = EpisodeSet::sample(
        &labels,
        &Protocol {
            episodes: 60,
            ..protocol
        },
        1,
    )
    .unwrap();
    assert_eq!(set.episodes, longer.episodes[..40]);
    let one_shot = EpisodeSet::sample(&labels, &Protocol { shots: 1, ..protocol }, 1).unwrap();
    let classes = |set: &EpisodeSet| -> Vec<i64> {
        set.episodes
            .iter()
            .flat_map(|e| e.support.iter().map(|images| labels[images[0] as usize]))
            .collect()
    };
    assert_eq!(classes(&set), classes(&one_shot));
}

#[test]
fn every_class_and_image_is_drawn_about_equally_often() {
    let labels = labels(10, 20);
    let protocol = Protocol {
        ways: 5,
        shots: 5,
        queries: 5,
        episodes: 2000,
    };
    let mut drawn = vec![0; labels.len()];
    for episode in EpisodeSet::sample(&labels, &protocol, 0).unwrap().episodes {
        episode
            .support
            .iter()
            .flatten()
            .for_each(|&i| drawn[i as usize] += 1);
    }
    // 2000 episodes, half of the classes, a quarter of their images: 250 each, with a standard deviation of
    // 15.
    assert!(drawn.iter().all(|&n| (175..325).contains(&n)), "{drawn:?}");
}

#[test]
fn too_few_images_or_classes_are_named() {
    let mut labels = labels(6, 20);
    labels.extend([91; 3]);
    let error = EpisodeSet::sample(&labels, &Protocol::default(), 0)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "1 shots and 15 queries take 16 images of each class, too many for class 91 (3 images); \
         lower --shots and --queries to 3 in total, or leave these classes out"
    );
    let error = EpisodeSet::sample(
        &labels,
        &Protocol {
            ways: 9,
            ..Protocol::default()
        },
        0,
    )
    .unwrap_err()
    .to_string();
    assert_eq!(
        error,
        "9-way episodes cannot be drawn from 7 classes; lower --ways or use a split with more classes"
    );
    assert!(
        EpisodeSet::sample(
            &labels,
            &Protocol {
                ways: 1,
                shots: 1,
                queries: 1,
                episodes: 1
            },
            0
        )
        .is_err()
    );
}

#[test]
fn files_are_read_as_documented_and_written_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("episodes.json");
    let text = r#"{"ways":2,"shots":1,"queries":2,"episodes":[{"support":[[0],[3]],"query":[[1,2],[4,5]]}]}"#;
    fs::write(&path, text).unwrap();
    let set = EpisodeSet::load(&path).unwrap();
    assert_eq!(set.episodes[0].query, [[1, 2], [4, 5]]);
    set.save(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn mistakes_in_a_file_are_reported_with_file_and_episode() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("episodes.json");
    let (features, labels) = clusters(2, 3, 4);
    let features = write_features(folder.path(), &features, &labels);
    let good = r#"{"support":[[0],[3]],"query":[[1],[4]]}"#;
    for (second, expected) in [
        (
            r#"{"support":[[0],[3]],"query":[[1],[3]]}"#,
            "episode 1: index 3 is used twice; ",
        ),
        (
            r#"{"support":[[0]],"query":[[1],[3]]}"#,
            "episode 1: support has 1 classes instead of 2; ",
        ),
        (
            r#"{"support":[[0],[3]],"query":[[1],[4,5]]}"#,
            "episode 1: query of class 1 has 2 images instead of 1; ",
        ),
        (
            r#"{"support":[[0],[3]],"query":[[1],[6]]}"#,
            "episode 1: index 6 is outside 0..6; ",
        ),
        (
            r#"{"support":[[0],[3]]}"#,
            "not an episodes file (missing field `query`",
        ),
    ] {
        fs::write(
            &path,
            format!(r#"{{"ways":2,"shots":1,"queries":1,"episodes":[{good},{second}]}}"#),
        )
        .unwrap();
        let error = score_files(&features, &path, &ScoreOptions::default(), &Silent)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(&format!("{}: {expected}", path.display())),
            "{error}"
        );
        assert!(!error.contains('\n'));
    }
    fs::write(&path, r#"{"ways":2,"shots":1,"queries":1,"episodes":[]}"#).unwrap();
    assert!(
        EpisodeSet::load(&path)
            .unwrap_err()
            .to_string()
            .contains("at least one episode")
    );
    assert!(
        EpisodeSet::load(&folder.path().join("none.json"))
            .unwrap_err()
            .to_string()
            .ends_with("no such file or folder")
    );
}

#[test]
fn files_and_tensors_give_the_same_score() {
    let folder = tempfile::tempdir().unwrap();
    let (features, labels) = clusters(6, 20, 12);
    let set = EpisodeSet::sample(
        &labels,
        &Protocol {
            episodes: 10,
            ..Protocol::default()
        },
        0,
    )
    .unwrap();
    let episodes = folder.path().join("episodes.json");
    set.save(&episodes).unwrap();
    let file = write_features(folder.path(), &features, &labels);
    let from_files = score_files(&file, &episodes, &ScoreOptions::default(), &Silent).unwrap();
    assert_eq!(
        from_files,
        score(&features, &labels, &set, &ScoreOptions::default()).unwrap()
    );
    let json = serde_json::to_value(&from_files).unwrap();
    assert_eq!(json["per_episode"].as_array().unwrap().len(), 10);
}
