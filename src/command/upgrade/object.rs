//! Upgrading an object: what is written stays here until the store has put it together with what
//! it has itself.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use calve_disk::Error as DiskError;
use calve_disk::open::shown;
use calve_inplace::{Journal, UNDO_RECORD};
use calve_store::{Draft, Error, Kind, Object, ObjectFile, ObjectJournal, ObjectName};
use calve_upgrade::{InPlace, State};

use super::told::{Told, report};
use super::{Image, recovered, released, written_since};
use crate::args::UpgradeArgs;
use crate::exit::{Code, Failure};
use crate::{print, signals, store};

/// An object as it would be, and the note beside it.
struct Drafted {
    draft: Arc<Draft>,
    journal: ObjectJournal,
    object: Object,
}

impl Drafted {
    fn of(path: &Path, is_dry: bool) -> Result<Self, Failure> {
        let object = store::object(path)?;
        let journal = ObjectJournal::of(&object, UNDO_RECORD);
        // What a killed run asked for last is not to come about behind this one's back.
        if !is_dry && journal.read().is_ok_and(|record| record.is_some()) {
            object.give_up_uploads()?;
        }
        let draft = Arc::new(Draft::over(ObjectFile::open(object.clone())?)?);
        Ok(Self { draft, journal, object })
    }

    fn in_place(&self) -> InPlace {
        InPlace::new(Arc::clone(&self.draft) as Arc<_>, Box::new(self.journal.clone()))
    }

    /// Tells that the store does not say whether there is an undo record.
    fn tell_hidden(&self, program: &str) -> Result<(), Failure> {
        let found = self.journal.read().map_err(|error| match Error::behind(&error) {
            Some(error) => Failure::from(error.clone()),
            None => DiskError::host("reading its undo record", self.journal.path(), error).into(),
        });
        // A damaged one is told of by whoever needs it.
        if found?.is_none() && self.journal.is_hidden() {
            let text = format!(
                "{}: was not allowed to be read, and is taken to be missing; who may list the \
                 bucket (s3:ListBucket) is told",
                shown(self.journal.path())
            );
            print::note(program, &text);
        }
        Ok(())
    }

    fn publish(&self, stop: &AtomicBool) -> Result<(), Failure> {
        Ok(self.draft.publish(None, Some(&self.journal), stop)?)
    }

    /// Tells, beside what was done, what went to and fro.
    fn told(&self, mut told: Told) -> Told {
        let traffic = self.object.traffic();
        told.text.push_str(&format!("  {}\n", store::traffic_words(traffic)));
        told.document["traffic"] = store::traffic_json(traffic);
        told
    }
}

/// Does with an object what `upgrade` was asked to do.
pub(super) fn run(image: &Image, args: &UpgradeArgs, program: &str) -> Result<Told, Failure> {
    let flags = signals::install()?;
    let action = &args.action;
    if action.then_repack || args.preserve {
        let option = if action.then_repack { "--then-repack" } else { "--preserve" };
        return Err(Failure::usage(format!("{option} is for files alone"))
            .next("convert makes another object: calve convert s3://... s3://..."));
    }
    if let Some(target) = &action.reflink_to {
        return copied(image, target, args, program, &flags.stop);
    }
    let drafted = Drafted::of(&image.path, action.dry_run)?;
    let in_place = drafted.in_place();
    drafted.tell_hidden(program)?;
    if action.undo {
        in_place.undo(args.force)?;
        drafted.publish(&flags.stop)?;
        return Ok(drafted.told(image.told("undone", "is what it was before its upgrade")));
    }
    if action.recover {
        let outcome = in_place.recover()?;
        drafted.publish(&flags.stop)?;
        return Ok(drafted.told(recovered(image, outcome, args, program)));
    }
    if action.release {
        let freed = in_place.release()?;
        drafted.publish(&flags.stop)?;
        return Ok(drafted.told(released(image, freed)));
    }
    match in_place.state()? {
        Some(State::Interrupted) if !action.dry_run => {
            // The object is what it was: nothing but the note is there.
            let outcome = in_place.recover()?;
            drafted.publish(&flags.stop)?;
            print::note(program, recovered(image, outcome, args, program).text.trim_end());
            return run(image, args, program);
        }
        Some(State::Upgraded) => return Err(super::upgraded_already(image)),
        Some(State::Written) => return Err(written_since(image)),
        _ => {}
    }
    let options = image.options(args)?;
    if action.dry_run {
        let plan = in_place.plan(&options, &flags.stop)?;
        return Ok(drafted.told(report(image, &plan, "would be upgraded")));
    }
    let plan = in_place.upgrade(&options, &flags.stop)?;
    drafted.publish(&flags.stop)?;
    super::note(program, args, image, &plan);
    Ok(drafted.told(report(image, &plan, "upgraded to qcow2")))
}

/// The bucket, and what stands before the last part of the key. Two slashes in it are not one.
fn folder(name: &ObjectName) -> (&str, &str) {
    (name.bucket(), name.key().rsplit_once('/').map_or("", |(folder, _)| folder))
}

/// Makes another object of the upgraded image, of which the store copies what stays.
fn copied(
    image: &Image,
    target: &Path,
    args: &UpgradeArgs,
    program: &str,
    stop: &AtomicBool,
) -> Result<Told, Failure> {
    if !store::is_object(target) {
        let text = format!("{}: is a file, and shares nothing with an object", shown(target));
        return Err(Failure::new(Code::Unsupported, text).next("convert makes a file of an object"));
    }
    let new = store::object(target)?;
    if new.name() == store::object(&image.path)?.name() {
        let text = format!("{}: is the image itself", shown(target));
        return Err(Failure::new(Code::Refused, text).next("name another target"));
    }
    if store::is_there(&new, program)? {
        return Err(Error::new(Kind::Exists, target, "the target", "exists already").into());
    }
    let drafted = Drafted::of(&image.path, true)?;
    let is_beside = folder(drafted.object.name()) == folder(new.name());
    let plan = InPlace::of_clone(Arc::clone(&drafted.draft) as Arc<_>)
        .upgrade(&image.options(args)?, stop)?;
    if plan.backing.is_some() && !is_beside {
        let text = format!("{}: would look for its backing file in another place", shown(target));
        return Err(Failure::new(Code::Refused, text)
            .next("name a target beside the image, in the same bucket"));
    }
    drafted.draft.publish(Some(&new), None, stop)?;
    let done = format!("qcow2, what stayed was copied from {} by the store", image.name());
    let clone = Image { path: target.to_owned(), backing_format: None };
    Ok(drafted.told(report(&clone, &plan, &done)))
}
