//! Which images make a batch, and which of them share a padded tensor.
//!
//! Source: detectron2's `AspectRatioGroupedDataset`: images wait in one of two lists, wider than high or not,
//! and leave it as a group when the list has as many as a group takes. detectron2 has separate lists in each
//! process, we have one pair for all: a batch does not depend on the number of processes.

use crate::Dataset;
use camtrast_common::distributed::Group as Processes;
use camtrast_common::sampler::Passes;

/// How batches are made of groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grouping {
    /// Images in a batch; a multiple of `images_per_group`.
    pub batch_size: u64,
    /// Images that are padded to a common size; 0: the whole batch.
    pub images_per_group: u64,
    /// Whether the images of a group are either all wider than high, or all not.
    pub by_aspect: bool,
}

impl Grouping {
    fn group_size(&self) -> u64 {
        if self.images_per_group == 0 {
            self.batch_size
        } else {
            self.images_per_group
        }
    }
}

/// Position in the whole training and sample index of each image of a group.
pub type Group = Vec<(u64, usize)>;

/// Draws groups pass after pass.
pub struct Groups {
    grouping: Grouping,
    processes: Processes,
    passes: Passes,
    /// Whether each sample is wider than high.
    wide: Vec<bool>,
    /// Samples taken and batches made so far, with by-aspect grouping.
    taken: (u64, u64),
    /// Images that wait for others of the same shape.
    waiting: [Group; 2],
}

impl Groups {
    /// Over a data set with at least one image, for one of the `processes` that train together.
    pub fn new(dataset: &Dataset, grouping: Grouping, seed: u64, processes: Processes) -> Self {
        Groups {
            grouping,
            processes,
            passes: Passes::new(dataset.images.len(), seed, Processes::ALONE),
            wide: dataset
                .images
                .iter()
                .map(|image| image.width > image.height)
                .collect(),
            taken: (0, 0),
            waiting: Default::default(),
        }
    }

    /// This process's part of the batch of this number, in groups: its share of the images in their order.
    /// The batch depends only on the seed; batches requested in order are quick, others need all batches
    /// before them to be drawn.
    pub fn batch(&mut self, number: u64) -> Vec<Group> {
        let share = self.processes.share(self.grouping.batch_size as usize);
        let mut first = 0;
        let part = |group: Group| -> Group {
            let places = first..;
            first += group.len();
            let own = group
                .into_iter()
                .zip(places)
                .filter(|(_, place)| share.contains(place));
            own.map(|(image, _)| image).collect()
        };
        let parts = self.whole_batch(number).into_iter().map(part);
        parts.filter(|group| !group.is_empty()).collect()
    }

    fn whole_batch(&mut self, number: u64) -> Vec<Group> {
        let size = self.grouping.group_size();
        if !self.grouping.by_aspect {
            let batch = self.passes.batch(number, self.grouping.batch_size);
            return batch.chunks(size as usize).map(<[_]>::to_vec).collect();
        }
        if number < self.taken.1 {
            self.taken = (0, 0);
            self.waiting = Default::default();
        }
        while self.taken.1 < number {
            self.next(size);
        }
        self.next(size)
    }

    fn next(&mut self, size: u64) -> Vec<Group> {
        let mut groups = Vec::new();
        while (groups.len() as u64) < self.grouping.batch_size / size {
            let place = self.taken.0;
            let sample = self.passes.sample(place);
            let waiting = &mut self.waiting[usize::from(self.wide[sample])];
            waiting.push((place, sample));
            if waiting.len() as u64 == size {
                groups.push(std::mem::take(waiting));
            }
            self.taken.0 += 1;
        }
        self.taken.1 += 1;
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Annotated;

    // Every third image is high.
    fn dataset(images: usize) -> Dataset {
        let image = |i: usize| Annotated {
            id: i.to_string(),
            image: "none".into(),
            width: if i.is_multiple_of(3) { 300 } else { 500 },
            height: 400,
            objects: Vec::new(),
        };
        Dataset {
            images: (0..images).map(image).collect(),
            ..Dataset::default()
        }
    }

    #[test]
    fn groups_are_of_one_shape_and_no_image_is_lost() {
        let data = dataset(31);
        let grouping = Grouping {
            batch_size: 6,
            images_per_group: 2,
            by_aspect: true,
        };
        let mut groups = Groups::new(&data, grouping, 5, Processes::ALONE);
        let batches: Vec<_> = (0..40).map(|number| groups.batch(number)).collect();
        for batch in &batches {
            assert_eq!(batch.len(), 3);
            for group in batch {
                assert_eq!(group.len(), 2);
                assert_eq!(groups.wide[group[0].1], groups.wide[group[1].1]);
            }
        }
        // Of the places up to the last one drawn, all but the two that may still wait have been drawn, and
        // once.
        let mut places: Vec<u64> = batches
            .iter()
            .flatten()
            .flatten()
            .map(|&(place, _)| place)
            .collect();
        places.sort_unstable();
        let last = *places.last().unwrap();
        places.dedup();
        assert_eq!(places.len(), 240);
        assert!(last - 239 <= 2, "{last}");
        // A batch is the same whenever it is asked for, also by a loader that starts there.
        assert_eq!(groups.batch(7), batches[7]);
        assert_eq!(
            Groups::new(&data, grouping, 5, Processes::ALONE).batch(33),
            batches[33]
        );
        assert_ne!(
            Groups::new(&data, grouping, 6, Processes::ALONE).batch(33),
            batches[33]
        );
    }

    #[test]
    fn without_aspects_groups_are_the_batch_in_its_order() {
        let data = dataset(31);
        let of = |images_per_group| {
            let grouping = Grouping {
                batch_size: 6,
                images_per_group,
                by_aspect: false,
            };
            Groups::new(&data, grouping, 5, Processes::ALONE).batch(4)
        };
        assert_eq!(of(0), [Passes::new(31, 5, Processes::ALONE).batch(4, 6)]);
        assert_eq!(of(2).concat(), of(0)[0]);
        assert_eq!(of(2).len(), 3);
    }
}
