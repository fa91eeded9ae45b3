//! Batches of a pack's images.

use camtrast_common::Result;
use camtrast_common::augment::{Augment, Draws};
use camtrast_common::device::send;
use camtrast_common::distributed::Group;
use camtrast_common::engine::Source;
use camtrast_common::features::Images;
use camtrast_common::random::{generator, permutation};
use camtrast_datasets::{Pack, Selection};
use std::sync::Arc;
use tch::{Device, Tensor};

/// Images of one step, on the device.
pub(crate) struct Batch {
    /// Pixels u8 [N, H, W, 3], or rows i64 [N] of the pixels that lie on the device.
    pub(crate) images: Tensor,
    /// Labels i64 [N].
    pub(crate) labels: Tensor,
    /// The random numbers of each view's augmentation.
    pub(crate) draws: Vec<Draws>,
}

/// Draws batches without replacement, in an order of its own for every epoch; the last, incomplete one is
/// dropped.
pub(crate) struct PackSource {
    pack: Arc<Pack>,
    selection: Selection,
    batch_size: usize,
    seed: u64,
    group: Group,
    /// Whether the pixels lie on the device already, and rows are enough.
    resident: bool,
    views: Vec<Augment>,
    device: Device,
    order: (u64, Vec<i64>),
}

impl PackSource {
    /// Over the selected images, in batches of `batch_size`, with numbers for `views`. Each process of
    /// `group` gets its part of every batch, with the numbers that one process would draw for it.
    pub(crate) fn new(
        (pack, selection): (Arc<Pack>, Selection),
        batch_size: usize,
        (seed, group): (u64, Group),
        resident: bool,
        views: Vec<Augment>,
        device: Device,
    ) -> Self {
        PackSource {
            pack,
            selection,
            batch_size,
            seed,
            group,
            resident,
            views,
            device,
            order: (u64::MAX, Vec::new()),
        }
    }
}

impl Source for PackSource {
    type Batch = Batch;

    fn batch(&mut self, epoch: u64, index: u64) -> Result<Batch> {
        if self.order.0 != epoch {
            let mut generator = generator(self.seed, "sampler", epoch, 0);
            self.order = (epoch, permutation(self.selection.indices.len(), &mut generator));
        }
        let part = self.group.share(self.batch_size);
        let chosen = &self.order.1[index as usize * self.batch_size..][part.clone()];
        let labels: Vec<i64> = chosen
            .iter()
            .map(|&i| self.selection.labels[i as usize])
            .collect();
        let rows: Vec<i64> = chosen
            .iter()
            .map(|&i| self.selection.indices[i as usize])
            .collect();
        let images = if self.resident {
            Tensor::from_slice(&rows)
        } else {
            self.pack.rows(&rows)?
        };
        let size = [self.batch_size, self.pack.height(), self.pack.width()].map(|d| d as i64);
        let draw = |(i, view): (usize, &Augment)| {
            let mut generator = generator(self.seed, &format!("augment/{i}"), epoch, index);
            view.draw(size, &mut generator).of(part.clone())
        };
        Ok(Batch {
            images: send(images, self.device),
            labels: send(Tensor::from_slice(&labels), self.device),
            draws: Draws::send(self.views.iter().enumerate().map(draw).collect(), self.device),
        })
    }
}
