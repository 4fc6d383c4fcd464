//! What is rebuilt of any bytes: nothing panics, every step is told well, and of an image without
//! findings every byte that is not called suspect stays what it was.

use calve_disk::units::{GuestRange, HostOffset};
use calve_disk::{CheckOptions, Disk, Error as DiskError, Finding, Rule, Storage, Weight};
use calve_rebuild::{Hints, Patched, Rebuilt};
use calve_testkit::Memory;

use crate::disks;
use crate::input::{Input, READ_UP_TO};

/// The longest file of which something is rebuilt: all geometries are tried on it.
const LONGEST: usize = 64 << 10;

/// One input of so many has its header rebuilt, which takes longer than all else together.
const HEADERS: u64 = 4;

pub(super) fn run(input: &Input<'_>) {
    if input.image.len() > LONGEST {
        return;
    }
    let source = Patched::over(Box::new(Memory::new(input.image.to_vec())));
    let source = disks::expect_memory(source);
    let before = sound_disk(input);
    if input.random(32).once_in(HEADERS) {
        let rebuilt = disks::expect_memory(calve_rebuild::header(&source, &Hints::default()));
        look_at(&rebuilt, input, before.as_ref());
        // Of a file whose header was lost, tables can be found now.
        tables(&rebuilt.source, input, None);
    }
    tables(&source, input, before.as_ref());
}

fn tables(source: &Patched, input: &Input<'_>, before: Option<&Disk>) {
    for rebuilt in [calve_rebuild::l1(source), calve_rebuild::xen(source)] {
        match rebuilt {
            Ok(rebuilt) => look_at(&rebuilt, input, before),
            Err(error) => {
                disks::assert_one_line(&error.to_string());
                let is_refusal = matches!(
                    error,
                    DiskError::NotThisFormat { .. }
                        | DiskError::Broken { .. }
                        | DiskError::Unsupported { .. }
                        | DiskError::Refused { .. }
                );
                assert!(is_refusal, "a file is no reason for {error}");
            }
        }
    }
}

/// The disk of an input about which nothing is odd.
fn sound_disk(input: &Input<'_>) -> Option<Disk> {
    let disk = disks::version_1(input).ok()?;
    if disk.virtual_size() > READ_UP_TO {
        return None;
    }
    let options = CheckOptions {
        is_deep: true,
        threads: std::num::NonZeroUsize::MIN,
        stop: &std::sync::atomic::AtomicBool::new(false),
        progress: &|_, _| {},
    };
    let mut is_sound = true;
    let checked = disk.check(0, &options, &mut |Finding { rule, .. }| {
        is_sound &= rule.weight() == Weight::Note && rule != Rule::EntryBehindDisk;
    });
    disks::expect_memory(checked);
    is_sound.then_some(disk)
}

fn look_at(rebuilt: &Rebuilt, input: &Input<'_>, before: Option<&Disk>) {
    rebuilt.steps.iter().for_each(|step| disks::assert_one_line(&step.to_string()));
    let mut reached = 0;
    for range in &rebuilt.suspect {
        let (start, end) = (range.start.get(), start_plus(range));
        assert!(start >= reached && end > start, "suspects out of order: {:?}", rebuilt.suspect);
        reached = end;
    }
    let Some(before) = before else { return };
    let (image, is_encrypted) = (content(&rebuilt.source), before.top().facts().is_encrypted);
    let was = disks::expected(input, is_encrypted);
    let is = disks::expected(&input.at(&image), is_encrypted);
    for (at, byte) in was.iter().enumerate() {
        let is_suspect = rebuilt
            .suspect
            .iter()
            .any(|range| (range.start.get()..start_plus(range)).contains(&(at as u64)));
        let is_kept = is.get(at) == Some(byte);
        assert!(is_kept || is_suspect, "byte {at:#x} changes: {:?}", rebuilt.steps);
    }
}

fn start_plus(range: &GuestRange) -> u64 {
    range.start.get().saturating_add(range.length)
}

fn content(source: &Patched) -> Vec<u8> {
    let mut bytes = vec![0; disks::small(source.length())];
    let read = source.read_at(&mut bytes, HostOffset::new(0));
    read.unwrap_or_else(|error| panic!("a host that is memory never fails: {error}"));
    bytes
}
