//! Predictions and pictures of an evaluation, which rank 0 writes for all processes.

use crate::dataset::Dataset;
use crate::label_image::LabelImage;
use crate::picture;
use camtrast_common::Result;
use camtrast_common::device::to_host;
use camtrast_common::distributed::Group;
use rayon::prelude::*;
use std::path::Path;
use tch::Tensor;

/// The files that an evaluation writes.
#[derive(Debug, Clone, Copy)]
pub struct Leave {
    /// Whether predictions are written, as PNGs in file ids.
    pub predictions: bool,
    /// Number of pictures of samples, spread over the data set.
    pub pictures: usize,
}

/// Writes the files of a data set's samples. In every round each process gives the prediction of its next
/// sample, in the order of its share.
pub(crate) struct Files<'a> {
    folder: &'a Path,
    leave: Leave,
    dataset: &'a Dataset,
    group: Group,
    round: usize,
}

impl<'a> Files<'a> {
    pub(crate) fn new(folder: &'a Path, leave: Leave, dataset: &'a Dataset, group: Group) -> Self {
        Files {
            folder,
            leave,
            dataset,
            group,
            round: 0,
        }
    }

    /// A round; `None` when this process has no sample left.
    pub(crate) fn write(&mut self, own: Option<&LabelImage>) -> Result<()> {
        let predictions = gather(own, self.group)?;
        let samples = self.dataset.samples.len();
        // The processes that have a sample in this round, in the order of ranks.
        let places =
            (0..self.group.world()).filter_map(|rank| self.group.share_of(rank, samples).nth(self.round));
        let all: Vec<(usize, LabelImage)> = places.zip(predictions).collect();
        self.round += 1;
        if !self.group.leads() {
            return Ok(());
        }
        all.par_iter()
            .try_for_each(|(place, prediction)| self.write_one(*place, prediction))
    }

    /// The rounds in which other processes still have samples.
    pub(crate) fn finish(mut self) -> Result<()> {
        let rounds = self.dataset.samples.len().div_ceil(self.group.world() as usize);
        (self.round..rounds).try_for_each(|_| self.write(None))
    }

    fn write_one(&self, place: usize, prediction: &LabelImage) -> Result<()> {
        let (sample, classes) = (&self.dataset.samples[place], &self.dataset.classes);
        if self.leave.predictions {
            // Cityscapes' files are matched by their prefix, others by their whole name.
            let suffix = if classes.categories().is_empty() {
                ""
            } else {
                "_labelIds"
            };
            let name = format!("{}{suffix}.png", sample.name);
            prediction.write(&self.folder.join("predictions").join(name))?;
        }
        if is_pictured(place, self.dataset.samples.len(), self.leave.pictures) {
            let (image, truth) = sample.read()?;
            let name = format!("{}.png", sample.name.replace('/', "-"));
            let path = self.folder.join("pictures").join(name);
            picture::sample(classes, &image, &truth, prediction)?.write(&path)?;
        }
        Ok(())
    }
}

// The predictions of all processes that have one.
fn gather(own: Option<&LabelImage>, group: Group) -> Result<Vec<LabelImage>> {
    if group.is_alone() {
        return Ok(own.cloned().into_iter().collect());
    }
    let size = |own: &LabelImage| [own.height as i64, own.width as i64];
    let size: Vec<i64> = own.map(size).into_iter().flatten().collect();
    let sizes = group.gather_rows(&Tensor::from_slice(&size).view([-1, 2]))?;
    let pixels = own.map_or(&[][..], |own| &own.pixels);
    let pixels: Vec<u8> = to_host(&group.gather_rows(&Tensor::from_slice(pixels))?)?;
    let mut rest = &pixels[..];
    let sizes: Vec<i64> = to_host(&sizes.reshape([-1]))?;
    let image = |size: &[i64]| {
        let (height, width) = (size[0] as usize, size[1] as usize);
        let (pixels, after) = rest.split_at(height * width);
        rest = after;
        LabelImage {
            height,
            width,
            pixels: pixels.to_vec(),
        }
    };
    Ok(sizes.chunks_exact(2).map(image).collect())
}

// Spread evenly, from the first on.
fn is_pictured(n: usize, samples: usize, pictures: usize) -> bool {
    let before = |n: usize| n * pictures.min(samples) / samples;
    pictures > 0 && (n == 0 || before(n) > before(n - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_spread_over_the_data_set() {
        let chosen = |samples, pictures| {
            (0..samples)
                .filter(|&n| is_pictured(n, samples, pictures))
                .collect::<Vec<_>>()
        };
        assert_eq!(chosen(500, 4), [0, 125, 250, 375]);
        assert_eq!(chosen(3, 8), [0, 1, 2]);
        assert_eq!(chosen(7, 3), [0, 3, 5]);
        assert_eq!(chosen(5, 0), [0usize; 0]);
    }
}
