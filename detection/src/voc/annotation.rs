//! One annotation file. Its `path` and `filename` are never used to find the image, which is found by its id.

use crate::dataset::Object;
use crate::image_file;
use camtrast_common::{Error, Result};
use camtrast_images::size::Size;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The content of the file; numbers are texts until they are needed.
#[derive(Debug)]
pub(super) struct Annotation {
    path: PathBuf,
    content: Content,
}

// The root element: any other than <annotation> is refused.
#[derive(Debug, Deserialize)]
enum Document {
    #[serde(rename = "annotation")]
    Annotation(Content),
}

#[derive(Debug, Deserialize)]
struct Content {
    filename: Option<String>,
    size: Option<SaidSize>,
    // Elements of an object that are not named here, such as the boxes of its parts, are ignored.
    #[serde(default)]
    object: Vec<RawObject>,
}

#[derive(Debug, Deserialize)]
struct SaidSize {
    width: Option<String>,
    height: Option<String>,
}

#[derive(Debug, Deserialize)]
struct RawObject {
    name: Option<String>,
    difficult: Option<String>,
    bndbox: Option<RawBox>,
}

#[derive(Debug, Deserialize)]
struct RawBox {
    xmin: Option<String>,
    ymin: Option<String>,
    xmax: Option<String>,
    ymax: Option<String>,
}

const REMEDY: &str = "correct the annotation, or skip such images and objects with --skip-bad";

impl Annotation {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
        let error = |problem: String| Error::file(path, problem, REMEDY);
        let text = std::str::from_utf8(&bytes).map_err(|_| error("is not UTF-8 text".into()))?;
        if text.trim().is_empty() {
            return Err(error("is empty".into()));
        }
        let Document::Annotation(content) = quick_xml::de::from_str(text.trim_start_matches('\u{feff}'))
            .map_err(|reason| {
                error(format!(
                    "is malformed or cut off: {}",
                    one_line(&reason.to_string())
                ))
            })?;
        if let Some(name) = content
            .filename
            .as_ref()
            .filter(|name| !image_file::stays_inside(Path::new(name.trim())))
        {
            return Err(error(format!(
                "has the filename {name:?}, which leads out of the data set"
            )));
        }
        Ok(Annotation {
            path: path.to_owned(),
            content,
        })
    }

    fn error(&self, problem: String) -> Error {
        Error::file(&self.path, problem, REMEDY)
    }

    /// The image's size (width, height) that the boxes belong to, upright or as stored; any other is refused.
    /// A missing or zero size is accepted.
    pub fn check_size(&self, size: Size, image: &Path) -> Result<(usize, usize)> {
        let Some(said) = &self.content.size else {
            return Ok(size.upright);
        };
        let [width, height] =
            [&said.width, &said.height].map(|text| text.as_deref().unwrap_or_default().trim());
        let fits = |text: &str, actual: usize| {
            let said: f64 = if text.is_empty() {
                0.0
            } else {
                text.parse().unwrap_or(f64::NAN)
            };
            said == 0.0 || said == actual as f64
        };
        size.annotated(|(w, h)| fits(width, w) && fits(height, h))
            .ok_or_else(|| {
                let (w, h) = size.stored;
                let (name, text, actual) = if fits(width, w) {
                    ("height", height, h)
                } else {
                    ("width", width, w)
                };
                self.error(format!(
                    "says {name} {text:?}, but {} has {actual}",
                    image.display()
                ))
            })
    }

    /// Names of the classes of its objects, as written.
    pub fn class_names(&self) -> Vec<String> {
        self.content
            .object
            .iter()
            .filter_map(|raw| raw.name.as_deref())
            .map(|name| name.trim().to_owned())
            .collect()
    }

    /// The objects of an image of that size (width, height), each converted to a half-open box inside it or
    /// refused.
    pub fn objects(
        &self,
        size: (usize, usize),
        classes: &HashMap<&str, usize>,
    ) -> impl Iterator<Item = Result<Read>> {
        self.content.object.iter().enumerate().map(move |(index, raw)| {
            raw.object(size, classes)
                .map_err(|problem| self.error(format!("object {}: {problem}", index + 1)))
        })
    }
}

/// How an object of the file is used.
#[derive(Debug)]
pub(super) enum Read {
    /// It is used unchanged.
    Object(Object),
    /// It is used, its box clipped to the image.
    Clipped(Object),
    /// Its class is not requested.
    OtherClass(String),
}

impl RawObject {
    fn object(&self, size: (usize, usize), classes: &HashMap<&str, usize>) -> Result<Read, String> {
        let name = self.name.as_deref().unwrap_or_default().trim();
        let class = match classes.get(name) {
            Some(class) => *class,
            None if name.is_empty() => return Err("has no name, so its class is unknown".into()),
            None => return Ok(Read::OtherClass(name.to_owned())),
        };
        let difficult = self
            .difficult
            .as_deref()
            .map_or(Ok(0.0), |text| number("difficult", text))?
            != 0.0;
        let raw = self.bndbox.as_ref().ok_or("there is no bndbox")?;
        let side = |name, text: &Option<String>| number(name, text.as_deref().unwrap_or_default());
        let [xmin, ymin, xmax, ymax] = [
            side("xmin", &raw.xmin)?,
            side("ymin", &raw.ymin)?,
            side("xmax", &raw.xmax)?,
            side("ymax", &raw.ymax)?,
        ];
        let shown = || format!("the box {xmin} {ymin} {xmax} {ymax}");
        if xmax <= xmin || ymax <= ymin {
            return Err(format!("{} is empty or inverted", shown()));
        }
        let (width, height) = (size.0 as f64, size.1 as f64);
        let half_open = [xmin - 1.0, ymin - 1.0, xmax, ymax];
        let bbox = [
            half_open[0].max(0.0),
            half_open[1].max(0.0),
            xmax.min(width),
            ymax.min(height),
        ];
        if bbox[2] <= bbox[0] || bbox[3] <= bbox[1] {
            return Err(format!(
                "{} lies outside the image of {width} x {height} pixels, the first of which is 1 1",
                shown()
            ));
        }
        let object = Object {
            class,
            bbox,
            difficult,
            area: None,
        };
        Ok(if bbox == half_open {
            Read::Object(object)
        } else {
            Read::Clipped(object)
        })
    }
}

fn number(name: &str, text: &str) -> Result<f64, String> {
    let number = text.trim().parse().ok().filter(|value: &f64| value.is_finite());
    number.ok_or_else(|| format!("{name} is {:?}, not a number", text.trim()))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
