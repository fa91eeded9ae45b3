//! Pictures of precision-recall curves.

use crate::draw::file_name;
use crate::evaluate::Evaluation;
use camtrast_common::Result;
use camtrast_images::picture::{Canvas, Rgb, class_colour};
use std::path::{Path, PathBuf};

/// Number of classes in the overview; a picture has no room for more names.
const SHOWN: usize = 24;

struct Line {
    label: String,
    colour: Rgb,
    thickness: i32,
    /// Precision at equally spaced recalls from 0 to 1.
    precision: Vec<f64>,
}

/// Writes `pr_curves.png` (every class and the mean over classes at IoU .50, best first; of more than 24
/// classes the first and last 12) and `pr_<class>.png` (the ten IoU thresholds) into `folder`. The curves are
/// COCO's, so that the mean of each is the average precision shown with its name. Returns their paths.
///
/// # Errors
/// [`camtrast_common::Error::Io`] when writing fails.
pub fn write_curves(folder: &Path, evaluation: &Evaluation) -> Result<Vec<PathBuf>> {
    let mut paths = vec![folder.join("pr_curves.png")];
    let title = format!(
        "IoU .50, {} classes, {} images",
        evaluation.classes.len(),
        evaluation.images
    );
    plot(&title, &overview(evaluation))?.write(&paths[0])?;
    for class in &evaluation.classes {
        let thresholds = class.precision.iter().enumerate().map(|(t, precision)| {
            let shade = (t * 20) as u8;
            let label = format!("IoU .{}  AP {:.3}", 50 + 5 * t, mean(precision));
            Line {
                label,
                colour: [shade, 60 + shade / 2, 200],
                thickness: 2,
                precision: precision.clone(),
            }
        });
        let title = format!(
            "{}: {} objects, {} detections",
            class.name, class.objects, class.detections
        );
        let path = folder.join(format!("pr_{}.png", file_name(&class.name)));
        plot(&title, &thresholds.collect::<Vec<_>>())?.write(&path)?;
        paths.push(path);
    }
    Ok(paths)
}

fn overview(evaluation: &Evaluation) -> Vec<Line> {
    let curves = || evaluation.classes.iter().map(|class| &class.precision[0]);
    let at =
        |recall: usize| curves().map(|curve| curve[recall]).sum::<f64>() / evaluation.classes.len() as f64;
    let precision = (0..curves().next().map_or(0, Vec::len)).map(at).collect();
    let label = format!("mean {:.3}", evaluation.mean.ap50);
    let all = Line {
        label,
        colour: [0; 3],
        thickness: 3,
        precision,
    };

    let mut ranked: Vec<_> = evaluation.classes.iter().enumerate().collect();
    ranked.sort_by(|(_, a), (_, b)| b.figures.ap50.total_cmp(&a.figures.ap50));
    let cut = ranked.len().saturating_sub(SHOWN);
    ranked.drain(ranked.len().min(SHOWN / 2)..ranked.len().min(SHOWN / 2) + cut);
    let classes = ranked.into_iter().map(|(place, class)| Line {
        label: format!("{} {:.3}", class.name, class.figures.ap50),
        colour: class_colour(place),
        thickness: 1,
        precision: class.precision[0].clone(),
    });
    classes.chain([all]).collect()
}

/// Precision over recall, with the lines' names at the right.
fn plot(title: &str, lines: &[Line]) -> Result<Canvas> {
    const SIDE: i32 = 480;
    const LEFT: i32 = 64;
    const TOP: i32 = 40;
    const BOTTOM: i32 = 56;
    const ROW: i32 = 19;
    const GREY: Rgb = [225; 3];
    const INK: Rgb = [50; 3];
    let names: Vec<i32> = lines
        .iter()
        .map(|line| Canvas::words_width(&line.label, 0.42))
        .collect::<Result<_>>()?;
    let width = LEFT + SIDE + 60 + names.into_iter().max().unwrap_or(0);
    let mut canvas = Canvas::new(
        width.max(LEFT + 20 + Canvas::words_width(title, 0.5)?) as usize,
        (TOP + SIDE + BOTTOM) as usize,
    )?;
    let x = |recall: f64| f64::from(LEFT) + recall * f64::from(SIDE);
    let y = |precision: f64| f64::from(TOP) + (1.0 - precision) * f64::from(SIDE);
    for fifth in 0..=5 {
        let value = f64::from(fifth) / 5.0;
        canvas.path(&[(x(value), y(0.0)), (x(value), y(1.0))], GREY, 1)?;
        canvas.path(&[(x(0.0), y(value)), (x(1.0), y(value))], GREY, 1)?;
        canvas.words(
            &format!("{value:.1}"),
            x(value) as i32 - 9,
            TOP + SIDE + 18,
            0.42,
            INK,
        )?;
        canvas.words(&format!("{value:.1}"), LEFT - 30, y(value) as i32 + 5, 0.42, INK)?;
    }
    canvas.path(&[(x(0.0), y(1.0)), (x(0.0), y(0.0)), (x(1.0), y(0.0))], INK, 1)?;
    canvas.words(title, LEFT, TOP - 14, 0.5, INK)?;
    canvas.words("recall", LEFT + SIDE / 2 - 22, TOP + SIDE + 40, 0.5, INK)?;
    canvas.words("precis.", 4, TOP - 14, 0.42, INK)?;
    for (row, line) in lines.iter().enumerate() {
        let last = (line.precision.len() - 1) as f64;
        let points: Vec<_> = line
            .precision
            .iter()
            .enumerate()
            .map(|(i, &p)| (x(i as f64 / last), y(p)))
            .collect();
        canvas.path(&points, line.colour, line.thickness)?;
        let (left, top) = (LEFT + SIDE + 14, TOP + 6 + ROW * row as i32);
        canvas.fill([left, top, left + 18, top + 2], line.colour)?;
        canvas.words(&line.label, left + 26, top + 6, 0.42, INK)?;
    }
    Ok(canvas)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
