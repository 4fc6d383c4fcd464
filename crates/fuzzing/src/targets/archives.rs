//! Archives of any bytes: looked into with tables and without, both tell the same images, each
//! under a name of its own, and the tables of each are walked or a word says why not.

use std::collections::HashSet;
use std::os::unix::fs::FileExt;

use calve_scan::{Ask, Class, Look, Spool, limits, look_within};

use crate::folder;
use crate::input::MAX_FILE;

/// Bytes that come out of an archive at most: enough for all that is asserted here.
const UNPACKED: u64 = 32 << 20;

/// What is said of an archive that was given up, of which walking tables takes more.
const GIVEN_UP: &str = "too long when it is unpacked";

pub(super) fn run(data: &[u8]) {
    if data.len() > MAX_FILE {
        return;
    }
    let folder = folder::new();
    let file = tempfile::tempfile_in(folder.path()).expect("a file");
    file.write_all_at(data, 0).expect("written");
    let spool = tempfile::tempfile_in(folder.path()).expect("a file");
    let ask =
        |is_deep| Ask { is_deep, with_archives: true, name: b"disk.gz".into(), ..Ask::default() };
    // Who walks no tables needs no spool.
    let plain = look_within(&file, &ask(false), &mut Spool::missing("not needed"), UNPACKED);
    let kept = spool.try_clone().expect("a descriptor");
    let deep = look_within(&file, &ask(true), &mut Spool::of(kept), UNPACKED);
    assert_eq!(spool.metadata().expect("told").len(), 0, "the spool is not emptied");
    for look in [&plain, &deep] {
        check(look);
    }
    compare(&plain, &deep);
    let bare = Ask { with_archives: false, ..ask(true) };
    let bare = look_within(&file, &bare, &mut Spool::missing("not needed"), UNPACKED);
    assert!(bare.members.is_empty(), "an archive that nobody asked to look into");
}

/// What holds of every look.
fn check(look: &Look) {
    assert!(!look.is_shallow, "there was room");
    assert!(look.members.len() <= limits::MEMBERS);
    let names: HashSet<&[u8]> = look.members.iter().map(|member| &*member.name).collect();
    assert_eq!(names.len(), look.members.len(), "a name is told twice");
    let all = look.members.iter().map(|member| &member.seen).chain([&look.file]);
    for problem in all.filter_map(|seen| seen.problem.as_ref()) {
        assert!(!problem.is_empty() && problem.len() <= limits::PROBLEM, "{problem}");
    }
    for member in &look.members {
        assert!(!matches!(member.seen.class, Class::Other | Class::OtherMisnamed), "{member:?}");
    }
    let line = serde_json::to_string(look).expect("text");
    let back: Look = serde_json::from_str(&line).expect("the same");
    assert_eq!(&back, look, "a look that does not cross to another process");
}

/// What walking tables changes, and what not.
fn compare(plain: &Look, deep: &Look) {
    let is_given_up = |look: &Look| {
        let mut all = look.members.iter().map(|member| &member.seen).chain([&look.file]);
        all.any(|seen| seen.problem.as_ref().is_some_and(|problem| problem.contains(GIVEN_UP)))
    };
    if is_given_up(plain) || is_given_up(deep) {
        return;
    }
    assert_eq!(plain.file.problem, deep.file.problem, "what could not be looked into");
    let names = |look: &Look| -> Vec<Vec<u8>> {
        look.members.iter().map(|member| member.name.clone()).collect()
    };
    assert_eq!(names(plain), names(deep), "other images");
    for (plain, deep) in plain.members.iter().zip(&deep.members) {
        let (plain, deep) = (&plain.seen, &deep.seen);
        assert!(
            deep.class == plain.class || deep.class == Class::Damaged || plain.problem.is_some(),
            "{plain:?} {deep:?}"
        );
        let (Some(image), Some(before)) = (&deep.image, &plain.image) else {
            assert_eq!(deep.image.is_some(), plain.image.is_some(), "{plain:?} {deep:?}");
            continue;
        };
        assert_eq!((&image.format, before.survey), (&before.format, None));
        assert!(
            image.survey.is_some() || deep.problem.is_some(),
            "not walked, without a word: {deep:?}"
        );
    }
}
