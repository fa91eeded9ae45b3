//! The object painter: draws one object of the catalogue at any position of a canvas and returns the covered
//! pixels.

use super::canvas::{Canvas, Coverage, Pose};
use super::catalogue::Class;
use super::paint::Look;
use super::shapes::{AS_DRAWN, Piece, Place};
use camtrast_common::error::Result;

/// Draws `class` in `pose` with `look` and returns what it covers (contour included), clipped to the canvas.
///
/// A scene calls this once per object, from back to front, and subtracts each later object's coverage from
/// the earlier ones ([`Coverage::hide_behind`]) to get visible masks and boxes.
///
/// # Errors
/// When OpenCV fails to draw.
pub fn paint_object(canvas: &mut Canvas, class: Class, pose: &Pose, look: &Look) -> Result<Coverage> {
    let category = class.category();
    let variant = class.variant();
    let body = category.pieces.iter().map(|piece| (piece, AS_DRAWN[0]));
    let part = variant
        .places
        .iter()
        .flat_map(|place| variant.pieces.iter().map(move |piece| (piece, *place)));
    let drawing: Vec<(&Piece, Place)> = if category.part_behind {
        part.chain(body).collect()
    } else {
        body.chain(part).collect()
    };

    // The contour is the whole silhouette, grown; the pieces then cover all but its rim.
    let mut coverage = Coverage::default();
    for (piece, place) in &drawing {
        coverage.join(&piece.cover(canvas, pose, *place, look.contour_width * pose.scale)?);
    }
    canvas.lay(&coverage, 0.85, |_, _| look.contour);
    for (piece, place) in &drawing {
        let covered = piece.cover(canvas, pose, *place, 0.0)?;
        canvas.lay(&covered, 1.0, |x, y| look.colour(piece.ink, pose.to_unit((x, y))));
    }
    Ok(coverage)
}
