//! What both evaluations work on.

/// One object or detection, as both evaluations take it: a half-open box [x1, y1, x2, y2] in pixels.
pub(super) struct Entry {
    pub image: usize,
    pub bbox: [f64; 4],
    /// Square pixels; COCO groups objects into small, medium and large by it.
    pub area: f64,
    pub difficult: bool,
    pub score: f64,
}

pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
