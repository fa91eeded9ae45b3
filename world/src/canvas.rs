//! A drawing surface, coverage windows and poses; the only calls of OpenCV's rasteriser.
//!
//! Canvas coordinates are pixels, x right and y down; pixel (i, j) spans `i..i+1` x `j..j+1`. Colours are RGB
//! in 0..1.

use camtrast_common::error::Result;
use camtrast_images::picture::refused;
use opencv::core::{CV_8UC1, Mat, MatTraitConstManual, Point, Scalar, Vector};
use opencv::imgproc;

/// Red, green, blue, each nominally in 0..1.
pub type Rgb = [f32; 3];

/// Mixes two colours: 0 gives `a`, 1 gives `b`.
pub fn mix(a: Rgb, b: Rgb, share: f32) -> Rgb {
    std::array::from_fn(|c| a[c] + (b[c] - a[c]) * share)
}

/// Perceived brightness in 0..1 (Rec. 601 weights).
pub fn luminance(colour: Rgb) -> f32 {
    0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
}

/// How much of each pixel in a window of a canvas something covers. Scenes read boxes and masks from it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Coverage {
    /// First column of the window.
    pub left: usize,
    /// First row of the window.
    pub top: usize,
    /// Columns of the window.
    pub width: usize,
    /// Rows of the window.
    pub height: usize,
    /// `height` x `width` values, row by row: 0 is free, 255 is covered.
    pub alpha: Vec<u8>,
}

impl Coverage {
    /// The tight box `[x0, y0, x1, y1]`, half-open in canvas pixels, of the pixels that are at least half
    /// covered.
    pub fn bounds(&self) -> Option<[usize; 4]> {
        let mut bounds: Option<[usize; 4]> = None;
        for (x, y) in self
            .cells()
            .filter(|(_, _, alpha)| *alpha >= 128)
            .map(|(x, y, _)| (x, y))
        {
            let b = bounds.get_or_insert([x, y, x + 1, y + 1]);
            *b = [b[0].min(x), b[1].min(y), b[2].max(x + 1), b[3].max(y + 1)];
        }
        bounds
    }

    /// Adds what `other` covers, growing the window where needed.
    pub fn join(&mut self, other: &Coverage) {
        if other.alpha.is_empty() {
            return;
        }
        if self.alpha.is_empty() {
            *self = other.clone();
            return;
        }
        let (left, top) = (self.left.min(other.left), self.top.min(other.top));
        let right = (self.left + self.width).max(other.left + other.width);
        let bottom = (self.top + self.height).max(other.top + other.height);
        if (left, top, right - left, bottom - top) != (self.left, self.top, self.width, self.height) {
            let grown = Coverage {
                left,
                top,
                width: right - left,
                height: bottom - top,
                ..Coverage::default()
            };
            let old = std::mem::replace(self, grown);
            self.alpha = vec![0; self.width * self.height];
            self.join(&old);
        }
        for (x, y, alpha) in other.cells() {
            let cell = &mut self.alpha[(y - self.top) * self.width + x - self.left];
            *cell = alpha.max(*cell);
        }
    }

    /// Removes what `other`, drawn later and therefore in front, hides: the rest is the visible mask.
    pub fn hide_behind(&mut self, other: &Coverage) {
        for (x, y, alpha) in other.cells() {
            let inside = (self.left..self.left + self.width).contains(&x)
                && (self.top..self.top + self.height).contains(&y);
            if inside {
                let cell = &mut self.alpha[(y - self.top) * self.width + x - self.left];
                *cell = (*cell).min(255 - alpha);
            }
        }
    }

    /// Every pixel of the window with its canvas position.
    pub fn cells(&self) -> impl Iterator<Item = (usize, usize, u8)> + '_ {
        let rows = self.alpha.chunks_exact(self.width.max(1)).zip(self.top..);
        rows.flat_map(move |(row, y)| row.iter().zip(self.left..).map(move |(alpha, x)| (x, y, *alpha)))
    }
}

/// Position and orientation of an object: unit coordinates (about -1..1 on both axes) to canvas pixels.
#[derive(Clone, Copy, Debug)]
pub struct Pose {
    /// Centre, canvas pixels.
    pub x: f32,
    /// Centre, canvas pixels.
    pub y: f32,
    /// Pixels per unit.
    pub scale: f32,
    /// Clockwise, radians.
    pub angle: f32,
    /// Width over height relative to the catalogue's drawing; negative mirrors it.
    pub stretch: f32,
}

impl Pose {
    /// Unit coordinates to canvas pixels.
    pub fn to_canvas(&self, (u, v): (f32, f32)) -> (f32, f32) {
        let (sin, cos) = self.angle.sin_cos();
        let (u, v) = (u * self.stretch * self.scale, v * self.scale);
        (self.x + cos * u - sin * v, self.y + sin * u + cos * v)
    }

    /// Canvas pixels to unit coordinates.
    pub fn to_unit(&self, (x, y): (f32, f32)) -> (f32, f32) {
        let (sin, cos) = self.angle.sin_cos();
        let (x, y) = (x - self.x, y - self.y);
        (
            (cos * x + sin * y) / (self.stretch * self.scale),
            (cos * y - sin * x) / self.scale,
        )
    }
}

/// An outline in canvas pixels, to be filled or drawn with a pen.
pub struct Outline<'a> {
    /// The corners.
    pub points: &'a [(f32, f32)],
    /// Whether the last corner joins the first. Filled outlines are always closed.
    pub closed: bool,
    /// Pen width in pixels; `None` fills.
    pub pen: Option<f32>,
}

/// Colours of a picture while it is drawn.
pub struct Canvas {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height` x `width` colours, row by row.
    pub pixels: Vec<Rgb>,
}

impl Canvas {
    /// Paints every pixel with `paint(x, y)`, pixel centres in canvas coordinates.
    pub fn painted(width: usize, height: usize, paint: impl Fn(f32, f32) -> Rgb) -> Self {
        let pixels = (0..height * width)
            .map(|i| paint((i % width) as f32 + 0.5, (i / width) as f32 + 0.5))
            .collect();
        Canvas {
            width,
            height,
            pixels,
        }
    }

    /// Draws `paint(x, y)` over the covered pixels.
    pub fn lay(&mut self, coverage: &Coverage, opacity: f32, paint: impl Fn(f32, f32) -> Rgb) {
        for (x, y, alpha) in coverage.cells().filter(|(_, _, alpha)| *alpha > 0) {
            let pixel = &mut self.pixels[y * self.width + x];
            *pixel = mix(
                *pixel,
                paint(x as f32 + 0.5, y as f32 + 0.5),
                opacity * f32::from(alpha) / 255.0,
            );
        }
    }

    /// The part of this canvas that `outline` covers; empty if it lies outside.
    ///
    /// # Errors
    /// When OpenCV fails to draw.
    pub fn cover(&self, outline: &Outline) -> Result<Coverage> {
        let margin = outline.pen.unwrap_or(0.0) / 2.0 + 1.5;
        let (left, right) = window(outline.points.iter().map(|p| p.0), margin, self.width);
        let (top, bottom) = window(outline.points.iter().map(|p| p.1), margin, self.height);
        if left >= right || top >= bottom {
            return Ok(Coverage::default());
        }
        let draw = || -> opencv::Result<Vec<u8>> {
            // OpenCV takes 1/16 pixels, and its whole numbers are pixel centres.
            const SHIFT: i32 = 4;
            let fixed = |value: f32, origin: usize| ((value - origin as f32 - 0.5) * 16.0).round() as i32;
            let corners: Vector<Point> = outline
                .points
                .iter()
                .map(|p| Point::new(fixed(p.0, left), fixed(p.1, top)))
                .collect();
            let outlines: Vector<Vector<Point>> = Vector::from_iter([corners]);
            let (rows, columns) = ((bottom - top) as i32, (right - left) as i32);
            let mut mask = Mat::new_rows_cols_with_default(rows, columns, CV_8UC1, Scalar::all(0.0))?;
            let white = Scalar::all(255.0);
            match outline.pen {
                None => imgproc::fill_poly(
                    &mut mask,
                    &outlines,
                    white,
                    imgproc::LINE_AA,
                    SHIFT,
                    Point::default(),
                )?,
                Some(pen) => {
                    let pen = (pen.round() as i32).max(1);
                    imgproc::polylines(
                        &mut mask,
                        &outlines,
                        outline.closed,
                        white,
                        pen,
                        imgproc::LINE_AA,
                        SHIFT,
                    )?;
                }
            }
            Ok(mask.data_bytes()?.to_vec())
        };
        let alpha = draw().map_err(refused)?;
        Ok(Coverage {
            left,
            top,
            width: right - left,
            height: bottom - top,
            alpha,
        })
    }

    /// The picture at 1/`factor` of the size, each pixel the mean of `factor` x `factor` (the antialiasing of
    /// the whole).
    pub fn shrunk(&self, factor: usize) -> Canvas {
        let (width, height) = (self.width / factor, self.height / factor);
        let share = 1.0 / (factor * factor) as f32;
        let mut pixels = vec![[0.0; 3]; width * height];
        for (y, row) in self
            .pixels
            .chunks_exact(self.width)
            .take(height * factor)
            .enumerate()
        {
            for (x, pixel) in row.iter().take(width * factor).enumerate() {
                let mean = &mut pixels[(y / factor) * width + x / factor];
                *mean = std::array::from_fn(|c| mean[c] + pixel[c] * share);
            }
        }
        Canvas {
            width,
            height,
            pixels,
        }
    }

    /// `height` x `width` x 3 bytes, blue first as OpenCV wants them.
    pub fn bgr_bytes(&self) -> Vec<u8> {
        self.pixels
            .iter()
            .flat_map(|p| [p[2], p[1], p[0]].map(|v| (v.clamp(0.0, 1.0) * 255.0 + 0.5) as u8))
            .collect()
    }
}

// The whole pixels between the smallest and the largest value, widened by `margin` and clipped to the canvas.
fn window(values: impl Iterator<Item = f32>, margin: f32, limit: usize) -> (usize, usize) {
    let (low, high) = values.fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(v), high.max(v)));
    // Float to integer casts saturate, so that negative values become 0.
    (
        (low - margin).floor() as usize,
        ((high + margin).ceil() as usize).min(limit),
    )
}
