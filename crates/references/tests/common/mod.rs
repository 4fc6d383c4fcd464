//! What the tests of this crate share.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::Path;

use calve_disk::Format;
use calve_references::{Change, Changes, Kind, Rewritten, Storages, kind_of, rewrite};

/// Changes to qcow2, of an old path to a new one.
pub(crate) fn changes(pairs: &[(&str, &str)]) -> Changes {
    let mut changes = Changes::new();
    for (old, new) in pairs {
        let change = Change { old: old.into(), new: new.into(), format: Format::Qcow2 };
        changes.add(change).expect("a change");
    }
    changes
}

/// What a configuration of that kind becomes, looked at twice: the second time nothing changes.
pub(crate) fn rewritten(
    kind: Kind,
    path: &str,
    old: &[u8],
    changes: &Changes,
    storages: &Storages,
) -> Rewritten {
    let path = Path::new(path);
    assert_eq!(kind_of(path, old), Some(kind), "{}", String::from_utf8_lossy(old));
    let found = rewrite(kind, path, old, changes, storages).expect("it can be read");
    assert_eq!(found.bytes.is_some(), !found.edits.is_empty());
    if let Some(new) = &found.bytes {
        assert_eq!(kind_of(path, new), Some(kind));
        let again = rewrite(kind, path, new, changes, storages).expect("it can be read");
        assert_eq!(again.bytes, None, "the second time nothing is left to change");
    }
    let none = rewrite(kind, path, old, &Changes::new(), storages).expect("it can be read");
    assert_eq!(none.bytes, None, "nothing changes by itself");
    found
}

/// What a configuration becomes, where it changes.
pub(crate) fn text(found: &Rewritten) -> &str {
    str::from_utf8(found.bytes.as_deref().expect("something changes")).expect("text")
}

/// The lines of notes.
pub(crate) fn noted(found: &Rewritten) -> Vec<u64> {
    found.notes.iter().map(|note| note.line).collect()
}
