//! What fuzzing found in this crate: one test for each, with a file of the builder's.

mod common;

use calve_disk::{Error as DiskError, Rule};
use calve_testkit::{Builder, Memory, Notes, Sketch};
use calve_upgrade::Error;

/// The header may name a payload inside of itself, which the new header takes the place of.
#[test]
fn a_payload_inside_the_old_header_is_compared_with_the_old_header() {
    for at in [0, 24, 40] {
        let mut builder = Builder::new(9, 6, 32 << 10);
        builder.plain(0, &[1; 512]);
        let entry = builder.packed_entry(at, 300);
        builder.entry(3, entry);
        let sketch = Sketch { image: builder.build(), passphrase: None, base: None };
        let (storage, notes) = (Memory::new(sketch.image.clone()), Notes::new(None));
        let done = common::upgrade(&storage, &notes, &common::options(&sketch, false));
        let plan = done.unwrap_or_else(|error| panic!("a payload at {at}: {error}"));
        assert_eq!(plan.beside_header, 1);
        common::in_place(&storage, &notes).undo(false).expect("an undo");
        assert!(storage.content() == sketch.image, "not what it was");
    }
}

/// A cut file broke a rule, and it is not as if somebody had made it shorter in the meantime.
#[test]
fn tables_behind_the_end_of_the_file_are_damage_and_no_failure_of_the_host() {
    let mut builder = Builder::new(9, 6, 64 << 10);
    builder.plain(0, &[1; 512]);
    let mut far = builder.clone();
    far.l1_entry(1, 1 << 40);
    let mut cut = builder;
    cut.cut(48);
    for (builder, rule) in [(far, Rule::L2Cut), (cut, Rule::L1Cut)] {
        let sketch = Sketch { image: builder.build(), passphrase: None, base: None };
        let (storage, notes) = (Memory::new(sketch.image.clone()), Notes::new(None));
        match common::upgrade(&storage, &notes, &common::options(&sketch, false)) {
            Err(Error::Disk(DiskError::Broken { finding, .. })) => assert_eq!(finding.rule, rule),
            other => panic!("{rule:?}: {other:?}"),
        }
    }
}
