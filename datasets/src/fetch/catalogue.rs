//! Addresses and checksums of public data sets.

use super::Checksum;
use camtrast_common::error::{Error, Result};

/// An archive on the internet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Its address; the last part names the file.
    pub url: String,
    /// Its checksum.
    pub checksum: Checksum,
    /// Its size in bytes, where known.
    pub size: Option<u64>,
}

/// Name, address, MD5 and bytes. Addresses and MD5 are those of torchvision's `datasets/voc.py` and
/// `cifar.py`, and of the course that Tiny-ImageNet was made for.
const DIRECT: [(&str, &str, &str, u64); 5] = [
    (
        "cifar-100",
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        "eb9058c3a382ffc7106e4002c42a8d85",
        169_001_437,
    ),
    (
        "voc2007-trainval",
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2007/VOCtrainval_06-Nov-2007.tar",
        "c52e279531787c972589f7e41ab4ae64",
        460_032_000,
    ),
    (
        "voc2007-test",
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2007/VOCtest_06-Nov-2007.tar",
        "b6e924de25625d8de591ea690078ad9f",
        451_020_800,
    ),
    (
        "voc2012-trainval",
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "6cd6e144f989b92b3379bac3b3de84fd",
        1_999_639_040,
    ),
    (
        "tiny-imagenet",
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        "90528d7ca1a48142e341f4ef8d21d0de",
        248_100_043,
    ),
];

/// Names of several archives together.
const GROUPS: [(&str, &[&str]); 2] = [
    ("voc2007", &["voc2007-trainval", "voc2007-test"]),
    ("voc", &["voc2007-trainval", "voc2007-test", "voc2012-trainval"]),
];

/// Data sets without a direct link (most need an account), and what to do.
const BY_HAND: [(&str, &str, &str); 4] = [
    (
        "cityscapes",
        "is given to registered users only",
        "get gtFine_trainvaltest.zip and leftImg8bit_trainvaltest.zip from www.cityscapes-dataset.com and \
         unpack both into one folder",
    ),
    (
        "imagenet",
        "is given to registered users only",
        "get ILSVRC2012_img_train.tar from image-net.org and unpack it into a folder for each class",
    ),
    (
        "miniimagenet",
        "has no official archive",
        "extract it from ImageNet, or put a copy into a folder with images/ and train.csv, val.csv, test.csv",
    ),
    (
        "tieredimagenet",
        "has no official archive",
        "extract it from ImageNet: train/, val/ and test/ with a folder for each class",
    ),
];

/// Every name that [`find`] knows, including those that it only has advice for.
pub fn names() -> Vec<&'static str> {
    let direct = DIRECT.iter().map(|d| d.0);
    direct
        .chain(GROUPS.iter().map(|g| g.0))
        .chain(BY_HAND.iter().map(|b| b.0))
        .collect()
}

/// The archives of a data set.
///
/// # Errors
/// [`Error::Usage`] for one that is unknown or cannot be downloaded, with advice on where to get it.
pub fn find(name: &str) -> Result<Vec<Archive>> {
    if let Some((_, problem, remedy)) = BY_HAND.iter().find(|b| b.0 == name) {
        let (problem, remedy) = (format!("{name} {problem}"), format!("{remedy} (docs/data.md)"));
        return Err(Error::Usage { problem, remedy });
    }
    let members = GROUPS
        .iter()
        .find(|group| group.0 == name)
        .map_or(vec![name], |group| group.1.to_vec());
    let archive = |name: &str| {
        let (_, url, md5, size) = DIRECT.iter().find(|d| d.0 == name).ok_or_else(|| Error::Usage {
            problem: format!("there is no data set {name:?}"),
            remedy: format!("choose one of {}", names().join(", ")),
        })?;
        Ok(Archive {
            url: (*url).to_owned(),
            checksum: Checksum::md5(md5)?,
            size: Some(*size),
        })
    };
    members.into_iter().map(archive).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{download, file_name};
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_name_leads_to_archives_or_to_advice() {
        let names = names();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        for name in names {
            match find(name) {
                Ok(archives) => {
                    assert!(!archives.is_empty());
                    for archive in archives {
                        assert!(
                            file_name(&archive.url).is_ok_and(|n| n.ends_with(".tar") || n.contains('.'))
                        );
                        download::check(&archive.url).unwrap();
                    }
                }
                Err(error) => {
                    let message = error.to_string();
                    assert!(
                        matches!(error, Error::Usage { .. }) && message.contains("docs/data.md"),
                        "{message}"
                    );
                    assert!(!message.contains('\n') && message.len() < 300, "{message}");
                }
            }
        }
        let files: Vec<_> = find("voc")
            .unwrap()
            .iter()
            .map(|a| file_name(&a.url).unwrap())
            .collect();
        assert_eq!(
            files,
            [
                "VOCtrainval_06-Nov-2007.tar",
                "VOCtest_06-Nov-2007.tar",
                "VOCtrainval_11-May-2012.tar"
            ]
        );
        assert!(find("voc2008").unwrap_err().to_string().contains("cifar-100"));
    }
}
