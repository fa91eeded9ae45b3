//! Masks as COCO's files hold them: run lengths, down the columns, packed into letters.

use crate::label_image::LabelImage;
use std::collections::BTreeMap;

/// A mask in COCO's form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// `counts` of its `segmentation`.
    pub counts: String,
    /// Its pixels.
    pub area: u64,
}

/// The mask of every id that occurs in a label image: what pycocotools' `mask.encode` makes of `labels ==
/// id`.
pub fn masks(labels: &LabelImage) -> BTreeMap<u8, Mask> {
    let LabelImage {
        height,
        width,
        pixels,
    } = labels;
    let mut runs: BTreeMap<u8, Runs> = BTreeMap::new();
    let mut column_major = (0..*width).flat_map(|x| (0..*height).map(move |y| pixels[y * width + x]));
    let (mut begun, mut current) = (0, column_major.next());
    for (place, id) in (1..).zip(column_major.map(Some).chain([None])) {
        if id != current {
            if let Some(current) = current {
                runs.entry(current).or_default().add(begun, place);
            }
            (begun, current) = (place, id);
        }
    }
    let whole = (height * width) as i64;
    runs.into_iter()
        .map(|(id, runs)| (id, runs.mask(whole)))
        .collect()
}

/// Lengths of the runs outside and inside of a mask in turn, and where the last ends.
#[derive(Default)]
struct Runs {
    lengths: Vec<i64>,
    end: i64,
}

impl Runs {
    fn add(&mut self, begin: i64, end: i64) {
        self.lengths.extend([begin - self.end, end - begin]);
        self.end = end;
    }

    fn mask(mut self, whole: i64) -> Mask {
        let area = self.lengths.iter().skip(1).step_by(2).sum::<i64>() as u64;
        if self.end < whole {
            self.lengths.push(whole - self.end);
        }
        let mut counts = String::new();
        for (i, &length) in self.lengths.iter().enumerate() {
            // From the third on, the difference from the length before the last.
            let before = if i > 2 { self.lengths[i - 2] } else { 0 };
            push(length - before, &mut counts);
        }
        Mask { counts, area }
    }
}

// Five bits a letter, the lowest first; the sixth bit says that more follow, the last one's fifth is the
// sign.
fn push(mut number: i64, text: &mut String) {
    loop {
        let bits = (number & 0x1f) as u8;
        number >>= 5;
        let more = number != if bits & 0x10 != 0 { -1 } else { 0 };
        text.push(char::from(48 + bits + if more { 0x20 } else { 0 }));
        if !more {
            return;
        }
    }
}
