//! Scenes with several objects, for detection: the layout of PASCAL VOC, `VOCdevkit/VOC2007`.
//!
//! The objects are those of the novel categories, which are not in the training split. They overlap, cross
//! the edge of the picture and hide each other; boxes enclose the visible part, as in VOC, and objects that
//! are hardly visible are `difficult`.

use super::canvas::{Canvas, Coverage, Pose};
use super::catalogue::{CATEGORIES, Class, Split};
use super::object::paint_object;
use super::paint::{between, pick};
use super::picture::{OVERSAMPLING, expose};
use super::setting::{SETTINGS, clutter};
use camtrast_common::error::Result;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::fmt::Write;

/// Objects with a smaller visible share are difficult.
const DIFFICULT_SHARE: f32 = 0.35;
/// Objects with a smaller visible share are not annotated.
const LEAST_SHARE: f32 = 0.08;
/// Objects with a smaller side (of the picture's short side) are difficult.
const DIFFICULT_SIDE: f32 = 0.06;

/// A scene and its objects.
pub struct Scene {
    /// The picture.
    pub canvas: Canvas,
    /// Its objects, from back to front.
    pub objects: Vec<SceneObject>,
}

/// One object of a scene.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SceneObject {
    /// Its category.
    pub name: &'static str,
    /// Tight box of its visible pixels, 0-based and half-open: [x1, y1, x2, y2].
    pub bounds: [usize; 4],
    /// Whether it crosses the edge of the picture.
    pub truncated: bool,
    /// Whether another object hides part of it.
    pub occluded: bool,
    /// Whether it is too small or too hidden to be evaluated.
    pub difficult: bool,
}

/// Names of the categories in scenes.
pub fn scene_classes() -> Vec<&'static str> {
    CATEGORIES
        .iter()
        .filter(|category| category.split == Split::Test)
        .map(|category| category.name)
        .collect()
}

/// An object while the scene is drawn.
struct Placed {
    name: &'static str,
    visible: Coverage,
    // Covered pixels before anything was drawn over it.
    whole: usize,
}

/// Draws a scene of `height` x `width` pixels with one to five objects.
///
/// # Errors
/// When OpenCV fails to draw.
pub fn draw(height: usize, width: usize, rng: &mut ChaCha8Rng) -> Result<Scene> {
    let (h, w) = (height * OVERSAMPLING, width * OVERSAMPLING);
    let mut canvas = pick(rng, &SETTINGS).canvas(rng, w, h);
    let count = rng.random_range(4..=14);
    clutter(rng, &mut canvas, count)?;
    let novel: Vec<Class> = Class::all()
        .filter(|class| class.category().split == Split::Test)
        .collect();
    let mut placed: Vec<Placed> = Vec::new();
    for _ in 0..rng.random_range(1..=5) {
        let class = *pick(rng, &novel);
        let mirror = if rng.random() { 1.0 } else { -1.0 };
        let pose = Pose {
            x: w as f32 * between(rng, 0.04, 0.96),
            y: h as f32 * between(rng, 0.04, 0.96),
            scale: h.min(w) as f32 * between(rng, 0.08, 0.36),
            angle: between(rng, -0.4, 0.4),
            stretch: mirror * between(rng, 0.8, 1.25),
        };
        let look = class.category().taste.look(rng);
        let visible = paint_object(&mut canvas, class, &pose, &look)?;
        placed
            .iter_mut()
            .for_each(|behind| behind.visible.hide_behind(&visible));
        placed.push(Placed {
            name: class.category().name,
            whole: covered(&visible),
            visible,
        });
    }
    let mut canvas = canvas.shrunk(OVERSAMPLING);
    expose(rng, &mut canvas);
    let objects = placed
        .iter()
        .filter_map(|object| object.annotated(height, width))
        .collect();
    Ok(Scene { canvas, objects })
}

fn covered(coverage: &Coverage) -> usize {
    coverage.alpha.iter().filter(|alpha| **alpha >= 128).count()
}

impl Placed {
    fn annotated(&self, height: usize, width: usize) -> Option<SceneObject> {
        let share = covered(&self.visible) as f32 / self.whole.max(1) as f32;
        let [x1, y1, x2, y2] = self.visible.bounds()?;
        // Pixels of the shrunken picture that it has a part of.
        let bounds = [
            x1 / OVERSAMPLING,
            y1 / OVERSAMPLING,
            x2.div_ceil(OVERSAMPLING),
            y2.div_ceil(OVERSAMPLING),
        ];
        let bounds = [bounds[0], bounds[1], bounds[2].min(width), bounds[3].min(height)];
        let side = (bounds[2] - bounds[0]).min(bounds[3] - bounds[1]);
        (share >= LEAST_SHARE).then(|| SceneObject {
            name: self.name,
            bounds,
            truncated: bounds[0] == 0 || bounds[1] == 0 || bounds[2] == width || bounds[3] == height,
            occluded: share < 0.95,
            difficult: share < DIFFICULT_SHARE || (side as f32) < DIFFICULT_SIDE * height.min(width) as f32,
        })
    }
}

impl Scene {
    /// VOC's annotation of the image of this file name: 1-based boxes with both ends inside.
    pub fn annotation(&self, file: &str) -> String {
        let mut xml = format!(
            "<annotation>\n\t<folder>VOC2007</folder>\n\t\
             <filename>{file}</filename>\n\t<size>\n\t\t<width>{}</width>\n\t\t\
             <height>{}</height>\n\t\t<depth>3</depth>\n\t</size>\n\t<segmented>0</segmented>\n",
            self.canvas.width, self.canvas.height
        );
        for SceneObject {
            name,
            bounds: [x1, y1, x2, y2],
            truncated,
            occluded,
            difficult,
        } in &self.objects
        {
            let [truncated, occluded, difficult] =
                [truncated, occluded, difficult].map(|flag| u8::from(*flag));
            write!(
                xml,
                "\t<object>\n\t\t<name>{name}</name>\n\t\t<pose>Unspecified</pose>\n\t\t\
                 <truncated>{truncated}</truncated>\n\t\t\
                 <occluded>{occluded}</occluded>\n\t\t<difficult>{difficult}</difficult>\n\t\t\
                 <bndbox>\n\t\t\t<xmin>{}</xmin>\n\t\t\t\
                 <ymin>{}</ymin>\n\t\t\t<xmax>{x2}</xmax>\n\t\t\t<ymax>{y2}</ymax>\n\t\t\
                 </bndbox>\n\t</object>\n",
                x1 + 1,
                y1 + 1
            )
            .expect("writing to a string");
        }
        xml + "</annotation>\n"
    }
}
