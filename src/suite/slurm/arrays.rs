//! Which cells become elements of which job arrays.

use super::super::plan::SuitePlan;
use std::collections::BTreeMap;

/// Elements of one array: Slurm's default limit is 1001.
const LARGEST: usize = 1000;

/// What a cell needs.
#[derive(Clone, Debug, PartialEq)]
pub enum Need {
    /// It is done or not wanted.
    Nothing,
    /// It is in the queue already.
    Waits(Place),
    /// It has to be submitted.
    Job,
}

/// An element of a submitted job array.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    pub job: String,
    pub index: usize,
}

/// The array whose elements must have ended well.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Another array of the same submission, by its position.
    New(usize),
    /// A job submitted before.
    Job(String),
}

/// A job array.
#[derive(Debug, PartialEq)]
pub struct Array {
    pub task: String,
    /// Each element waits for the element of this array with the same number.
    pub after: Option<Source>,
    /// Cells by element.
    pub cells: BTreeMap<usize, usize>,
}

/// The arrays of all cells that need a job; an array comes after those that it waits for.
pub fn plan(plan: &SuitePlan, needs: &[Need]) -> Vec<Array> {
    let cells = plan.cells.iter().map(|cell| (&cell.task[..], cell.after));
    arrays(cells, needs)
}

fn arrays<'a>(cells: impl Iterator<Item = (&'a str, Option<usize>)>, needs: &[Need]) -> Vec<Array> {
    let mut arrays: Vec<Array> = Vec::new();
    let mut places: Vec<Option<(Source, usize)>> = Vec::new();
    for (cell, (task, parent)) in cells.enumerate() {
        places.push(match &needs[cell] {
            Need::Nothing => None,
            Need::Waits(place) => Some((Source::Job(place.job.clone()), place.index)),
            Need::Job => {
                let parent = parent.and_then(|parent| places[parent].clone());
                let (after, index) =
                    parent.map_or((None, None), |(source, index)| (Some(source), Some(index)));
                let has_room = |array: &Array| match index {
                    // Of kept epochs, several cells wait for one pretraining.
                    Some(index) => !array.cells.contains_key(&index),
                    None => array.cells.len() < LARGEST,
                };
                let fits = |array: &Array| array.task == task && array.after == after && has_room(array);
                let number = arrays.iter().position(fits).unwrap_or_else(|| {
                    arrays.push(Array {
                        task: task.to_owned(),
                        after: after.clone(),
                        cells: BTreeMap::new(),
                    });
                    arrays.len() - 1
                });
                let index = index.unwrap_or(arrays[number].cells.len());
                arrays[number].cells.insert(index, cell);
                Some((Source::New(number), index))
            }
        });
    }
    arrays
}

/// Elements as `sbatch --array` reads them: `0-2,5`.
pub fn ranges(array: &Array) -> String {
    let mut ranges: Vec<[usize; 2]> = Vec::new();
    for &index in array.cells.keys() {
        match ranges.last_mut() {
            Some([_, end]) if *end + 1 == index => *end = index,
            _ => ranges.push([index, index]),
        }
    }
    let written = ranges.iter().map(|[first, last]| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    written.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(array: &Array) -> (String, Option<Source>, String) {
        (array.task.clone(), array.after.clone(), ranges(array))
    }

    #[test]
    fn several_cells_of_a_task_may_wait_for_one_pretraining() {
        let cells = [("pretrain", None), ("fewshot", Some(0)), ("fewshot", Some(0))];
        let needs = [Need::Job, Need::Job, Need::Job];
        let arrays = arrays(cells.into_iter(), &needs);
        let held: Vec<_> = arrays.iter().map(|array| array.cells.clone()).collect();
        assert_eq!(
            held,
            [
                BTreeMap::from([(0, 0)]),
                BTreeMap::from([(0, 1)]),
                BTreeMap::from([(0, 2)])
            ]
        );
        assert!(
            arrays[1..]
                .iter()
                .all(|array| array.after == Some(Source::New(0)))
        );
    }

    #[test]
    fn tasks_wait_for_the_pretraining_of_the_same_number() {
        // Three pretrainings, each with a probe and a detector; the second is done, its detector is not.
        let cells: Vec<(&str, Option<usize>)> = (0..3)
            .flat_map(|i| {
                [
                    ("pretrain", None),
                    ("fewshot", Some(3 * i)),
                    ("detection", Some(3 * i)),
                ]
            })
            .collect();
        let mut needs = vec![Need::Job; 9];
        needs[3] = Need::Nothing;
        needs[4] = Need::Nothing;
        let arrays = arrays(cells.iter().copied(), &needs);
        let expected = [
            ("pretrain".into(), None, "0-1".into()),
            ("fewshot".into(), Some(Source::New(0)), "0-1".into()),
            ("detection".into(), Some(Source::New(0)), "0-1".into()),
            ("detection".into(), None, "0".into()),
        ];
        assert_eq!(arrays.iter().map(of).collect::<Vec<_>>(), expected);
        assert_eq!(arrays[2].cells, [(0, 2), (1, 8)].into());
        assert_eq!(arrays[3].cells, [(0, 5)].into());
    }

    #[test]
    fn what_is_queued_is_waited_for_and_not_submitted_again() {
        let cells = [
            ("pretrain", None),
            ("fewshot", Some(0)),
            ("pretrain", None),
            ("fewshot", Some(2)),
        ];
        let queued = |index| {
            Need::Waits(Place {
                job: "17".into(),
                index,
            })
        };
        let arrays = arrays(cells.into_iter(), &[queued(4), Need::Job, queued(6), Need::Job]);
        let expected = ("fewshot".into(), Some(Source::Job("17".into())), "4,6".into());
        assert_eq!(arrays.iter().map(of).collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn arrays_are_no_larger_than_slurm_allows() {
        let cells: Vec<(&str, Option<usize>)> = (0..2500)
            .flat_map(|i| [("pretrain", None), ("fewshot", Some(2 * i))])
            .collect();
        let arrays = arrays(cells.iter().copied(), &vec![Need::Job; 5000]);
        let sizes: Vec<usize> = arrays.iter().map(|array| array.cells.len()).collect();
        assert_eq!(sizes.iter().sum::<usize>(), 5000);
        assert!(arrays.len() == 6 && sizes.iter().all(|n| *n <= 1000), "{sizes:?}");
        assert!(
            arrays
                .iter()
                .all(|array| *array.cells.keys().last().unwrap() < 1000)
        );
    }
}
