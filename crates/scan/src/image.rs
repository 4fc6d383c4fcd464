//! One QCOW image: what its header tells and, where asked, its tables.

use calve_disk::formats::qcow1::Qcow1Image;
use calve_disk::formats::qcow2::Qcow2Image;
use calve_disk::open::Likeness;
use calve_disk::open::shown;
use calve_disk::{Error, Finding, HostErrors, Image, Storage};

use crate::class::Class;
use crate::sighting::{ImageFacts, Seen, shortened};

/// What the file's surroundings say of an image.
#[derive(Clone, Copy, Default)]
pub(crate) struct Around {
    pub(crate) is_deep: bool,
    pub(crate) is_in_use: bool,
    pub(crate) has_undo_record: bool,
    /// Whether it lies in an archive, and only its beginning can be read.
    pub(crate) is_cut: bool,
}

/// What the image in `storage` is, which begins as `likeness` says.
pub(crate) fn seen(
    storage: Box<dyn Storage>,
    likeness: Likeness,
    name: &[u8],
    size: Option<u64>,
    around: Around,
) -> Seen {
    let mut seen = Seen::nothing(Class::Damaged, size);
    let prefix = format!("{}: ", shown(storage.path()));
    let format = match likeness {
        Likeness::Qcow(1) => "qcow",
        Likeness::Qcow(2 | 3) => "qcow2",
        Likeness::Qcow(version) => {
            seen.problem = Some(format!("marked as QCOW version {version}, which does not exist"));
            return seen;
        }
        _ => {
            seen.problem = Some("ends inside the magic and version of QCOW".into());
            return seen;
        }
    };
    let is_unread = match open(storage, format) {
        Ok(image) => {
            tell(&*image, around.is_deep, &mut seen);
            false
        }
        Err(error) => {
            seen.image = Some(ImageFacts::only_format(format));
            let text = error.to_string();
            seen.problem = Some(shortened(text.strip_prefix(&prefix).unwrap_or(&text)));
            if let Error::Broken { finding, .. } = &error {
                seen.count(finding);
            }
            // What was kept of a member may be too little, and is enough to know the format.
            matches!(error, Error::Io { .. }) && !around.is_cut
        }
    };
    seen.class = class(format, name, is_unread, seen.is_damaged(), around);
    seen
}

fn open(storage: Box<dyn Storage>, format: &str) -> Result<Box<dyn Image>, Error> {
    Ok(match format {
        "qcow" => Box::new(Qcow1Image::open_with(storage, None, HostErrors::Lose)?),
        _ => Box::new(Qcow2Image::open(storage, None, None)?),
    })
}

fn tell(image: &dyn Image, is_deep: bool, seen: &mut Seen) {
    let facts = image.facts();
    let mut known = ImageFacts::of(facts);
    if is_deep {
        // A survey tells again of what was odd already when the image was opened.
        match image.survey(&mut |finding: Finding| seen.count(&finding)) {
            Ok(survey) => known.survey = Some(survey.into()),
            Err(error) => seen.problem = Some(shortened(&error.to_string())),
        }
    } else {
        facts.findings.iter().for_each(|finding| seen.count(finding));
    }
    seen.image = Some(known);
}

fn class(format: &str, name: &[u8], is_unread: bool, is_damaged: bool, around: Around) -> Class {
    if is_unread {
        return Class::Unreadable;
    }
    if around.is_in_use {
        return Class::InUse;
    }
    if is_damaged {
        return Class::Damaged;
    }
    match format {
        "qcow" => Class::Version1.under_name(name),
        _ if around.has_undo_record => Class::Migrated,
        _ => Class::Qcow2.under_name(name),
    }
}
