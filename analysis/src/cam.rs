//! Class activation maps of backbones on the same images, as a picture and as an area (Sun et al. 2022,
//! Figure 2).

use crate::{Compute, head};
use camtrast_common::augment::Input;
use camtrast_common::cam::class_activation_map;
use camtrast_common::checkpoint::Backbone;
use camtrast_common::classifier::{CLASSIFIER_FILE, Classifier};
use camtrast_common::device::{send, to_host};
use camtrast_common::features::{BATCH, Images, extract};
use camtrast_common::nn::Mode;
use camtrast_common::resnet::pool;
use camtrast_common::{Error, Result};
use camtrast_datasets::Pack;
use camtrast_images::picture::{Canvas, overlay};
use camtrast_images::resample::{Image, resize};
use std::path::Path;
use tch::{Kind, Tensor, no_grad};

/// Sides of a cell of the grid are at least this long, in pixels.
const CELL: usize = 140;
/// Height of a line of text in the grid, in pixels.
const LINE: usize = 20;

/// Where a linear head comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HeadOrigin {
    /// The pretraining method trained it.
    Own {
        /// Its classes.
        classes: i64,
    },
    /// Fitted here, on the frozen features of the pack.
    Fitted {
        /// Its classes.
        classes: i64,
        /// Share of the pack's images it classifies as labelled.
        accuracy: f64,
    },
}

/// A backbone with a linear head.
pub struct Headed {
    /// Its name.
    pub name: String,
    /// The backbone.
    pub backbone: Backbone,
    /// Its head.
    pub classifier: Classifier,
    /// Where the head comes from.
    pub origin: HeadOrigin,
}

/// Takes the classifier in the checkpoint's folder, or fits one on the pack if there is none or `refit` is
/// set.
///
/// # Errors
/// As [`Classifier::load`] and [`head::fit`].
pub fn with_head(
    name: String,
    backbone: Backbone,
    checkpoint: &Path,
    refit: bool,
    pack: &Pack,
    compute: Compute,
) -> Result<Headed> {
    let Compute {
        device,
        precision,
        group,
        progress,
    } = compute;
    let own = checkpoint.with_file_name(CLASSIFIER_FILE);
    let (classifier, origin) = if own.exists() && !refit {
        let classifier = Classifier::load(&own, &backbone.info, device)?;
        let classes = classifier.bias.size()[0];
        (classifier, HeadOrigin::Own { classes })
    } else {
        let features = extract(&backbone, pack, device, precision, group, progress)?;
        let classes = pack.class_names().len() as i64;
        let labels = send(Tensor::from_slice(pack.labels()), device);
        let (classifier, accuracy) = head::fit(&features, &labels, classes)?;
        (classifier, HeadOrigin::Fitted { classes, accuracy })
    };
    Ok(Headed {
        name,
        backbone,
        classifier,
        origin,
    })
}

impl Headed {
    /// Maps of pixels u8 [N, H, W, 3] for the class the head predicts, stretched to the images: f32 [N, H, W]
    /// in 0..1.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn maps(&self, pixels: &Tensor, compute: Compute) -> Result<Tensor> {
        let Compute {
            device, precision, ..
        } = compute;
        let (_, height, width, _) = pixels.size4()?;
        let info = &self.backbone.info;
        no_grad(|| {
            let input = Input::new(&info.mean, &info.std, device).of(&send(pixels.shallow_clone(), device));
            let map = precision.run(device, || Ok(self.backbone.net.feature_map(&input, Mode::Eval)))?;
            let classes = self
                .classifier
                .logits(&pool(&map.to_kind(Kind::Float)))
                .argmax(1, false);
            let cam = class_activation_map(&map, &self.classifier.weight, &classes);
            Ok(cam
                .upsample_bilinear2d([height, width], false, None, None)
                .squeeze_dim(1))
        })
    }

    /// Share of the image above half activation, averaged over some rows of a pack: the part of an image that
    /// decides its class.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn area(&self, pack: &Pack, rows: &[i64], compute: Compute) -> Result<f64> {
        let progress = compute.progress;
        let mut sum = 0.0;
        progress.start(&self.name, rows.len() as u64, 0);
        for rows in rows.chunks(BATCH) {
            let maps = self.maps(&pack.rows(rows)?, compute)?;
            sum += above_half(&maps).sum(Kind::Double).double_value(&[]);
            progress.advance(rows.len() as u64, "");
        }
        progress.finish();
        Ok(sum / rows.len() as f64)
    }
}

/// Share of each map [N, H, W] that lies above one half, f32 `[N]`.
pub fn above_half(maps: &Tensor) -> Tensor {
    maps.gt(0.5)
        .to_kind(Kind::Float)
        .mean_dim([1i64, 2].as_slice(), false, None)
}

/// Draws a grid: one row per image of the pack; the columns are the image itself and then each backbone's map
/// over it.
///
/// # Errors
/// [`Error::Io`] when it cannot be written, [`Error::Settings`] when OpenCV cannot draw.
pub fn grid(path: &Path, backbones: &[Headed], pack: &Pack, rows: &[i64], compute: Compute) -> Result<()> {
    let (height, width) = (pack.height(), pack.width());
    let factor = CELL.div_ceil(height).max(1);
    let (cell_height, cell_width) = (height * factor, width * factor);
    let (step_x, step_y) = (cell_width + 6, cell_height + LINE);
    let mut canvas = Canvas::new(6 + (1 + backbones.len()) * step_x, LINE + 4 + rows.len() * step_y)?;
    let titles = pack.class_titles();
    let pixels = pack.rows(rows)?;
    let enlarge = |bytes: &[u8]| {
        resize(
            Image {
                height,
                width,
                pixels: bytes.to_vec(),
            },
            cell_height,
            cell_width,
        )
    };

    let images: Vec<u8> = Vec::try_from(pixels.reshape([-1]))?;
    let images: Vec<Image> = images.chunks(height * width * 3).map(enlarge).collect();
    canvas.text("image", 6, LINE - 6, cell_width)?;
    for (row, image) in images.iter().enumerate() {
        let y = LINE + row * step_y;
        canvas.paste(image, 6, y)?;
        canvas.text(
            &titles[pack.labels()[rows[row] as usize] as usize],
            6,
            y + cell_height + 14,
            cell_width,
        )?;
    }
    for (column, headed) in backbones.iter().enumerate() {
        let x = 6 + (column + 1) * step_x;
        canvas.text(&headed.name, x, LINE - 6, cell_width)?;
        let maps = headed.maps(&pixels, compute)?;
        let areas = Vec::<f64>::try_from(above_half(&maps).to_kind(Kind::Double))?;
        let size = [cell_height as i64, cell_width as i64];
        let maps = maps
            .unsqueeze(1)
            .upsample_bilinear2d(size, false, None, None)
            .reshape([rows.len() as i64, -1]);
        for (row, image) in images.iter().enumerate() {
            let heat = to_host::<f32>(&maps.get(row as i64))?;
            let y = LINE + row * step_y;
            canvas.paste(&overlay(image, &heat)?, x, y)?;
            let caption = format!("{:.0} % above half", areas[row] * 100.0);
            canvas.text(&caption, x, y + cell_height + 14, cell_width)?;
        }
    }
    canvas.write(path)
}

/// Rows of a pack to draw: one of each of `count` classes spread over the pack, the first of its class.
///
/// # Errors
/// [`Error::Settings`] when the pack has fewer images.
pub fn examples(pack: &Pack, count: usize) -> Result<Vec<i64>> {
    let classes = pack.class_names().len();
    if count == 0 || count > pack.len() {
        let problem = format!(
            "{count} images are requested, but {} has {}",
            pack.path().display(),
            pack.len()
        );
        return Err(Error::settings(
            problem,
            format!("set --images to 1..{}", pack.len()),
        ));
    }
    let mut members = vec![Vec::new(); classes];
    pack.labels()
        .iter()
        .enumerate()
        .for_each(|(row, &label)| members[label as usize].push(row as i64));
    // A second image of a class only when there are more images than classes.
    let rounds = (0..pack.len()).flat_map(|round| {
        let spread = count.min(classes);
        let members = &members;
        (0..spread).filter_map(move |i| members[i * classes / spread].get(round).copied())
    });
    Ok(rounds.take(count).collect())
}
