//! mIoU of label PNGs of any program, as cityscapesScripts computes it, for classes of your own:
//!
//!     cargo run --example mean_iou -- truth/ predictions/ road,sky,car

use anyhow::Context;
use camtrast_segmentation::label_image::LabelImage;
use camtrast_segmentation::{ClassSet, Confusion};
use std::path::Path;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [truth, predictions, names] = &arguments[..] else {
        anyhow::bail!("usage: mean_iou TRUTH PREDICTIONS NAME,NAME,...");
    };
    let names: Vec<String> = names.split(',').map(str::to_owned).collect();
    // 255 is counted nowhere.
    let classes = ClassSet::named(&names, &[255])?;
    let mut confusion = Confusion::new(&classes);
    let mut images = 0;
    for entry in std::fs::read_dir(truth).with_context(|| truth.clone())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        let predicted = LabelImage::read(&Path::new(predictions).join(name))?;
        let unknown = confusion.add(&LabelImage::read(&path)?, &predicted);
        unknown.map_err(|_| anyhow::anyhow!("{}: a label that is no class", path.display()))?;
        images += 1;
    }
    let scores = confusion.scores(&classes);
    let percent = |share: Option<f64>| share.map_or("none".to_owned(), |s| format!("{:.2}", 100.0 * s));
    for class in &scores.classes {
        println!("{:<20} {:>6}", class.name, percent(class.iou));
    }
    println!(
        "{:<20} {:>6}  of {images} images",
        "mIoU",
        percent(scores.mean_iou)
    );
    Ok(())
}
