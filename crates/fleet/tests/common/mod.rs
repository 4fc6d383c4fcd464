//! A folder, and a catalogue of it.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use calve_fleet::Catalogue;
use calve_scan::{Event, Here, NothingKnown, ScanOptions, scan};
use calve_testkit::Builder;

pub(crate) fn options() -> ScanOptions {
    ScanOptions { is_deep: false, with_archives: true, is_one_file_system: false, jobs: 2 }
}

/// How many files a scan read, and how many it knew; further names are neither.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) read: u64,
    pub(crate) known: u64,
}

/// Scans roots into a catalogue: how much was read, and the number of the scan.
pub(crate) fn scan_into(
    catalogue: &mut Catalogue,
    roots: &[PathBuf],
    options: &ScanOptions,
) -> (Counts, i64) {
    let mut readers: Vec<_> = (0..options.jobs)
        .map(|_| catalogue.known(options).expect("opens").unwrap_or(Box::new(NothingKnown)))
        .collect();
    let for_thread = || {
        let known = readers.pop().unwrap_or(Box::new(NothingKnown));
        (Box::new(Here) as Box<_>, known)
    };
    let mut run = catalogue.begin(roots, options).expect("begins");
    let mut counts = Counts::default();
    scan(roots, options, &AtomicBool::new(false), for_thread, |event| {
        match &event {
            Event::Sighted(_) => counts.read += 1,
            Event::Unchanged { .. } => counts.known += 1,
            Event::Linked { .. } | Event::Trouble { .. } => {}
        }
        run.take(&event).expect("taken");
        ControlFlow::Continue(())
    });
    let number = run.number();
    run.finish(&[]).expect("ends");
    (counts, number)
}

pub(crate) fn write(root: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(&path, bytes).expect("a file");
    path
}

pub(crate) fn image() -> Vec<u8> {
    let mut builder = Builder::new(12, 9, 1 << 20);
    builder.plain(3, &[7; 4096]);
    builder.build()
}

/// An overlay of a disk of 1 MiB, with the time of its base where it is not 0.
pub(crate) fn overlay(base: &str, time: u32) -> Vec<u8> {
    let mut builder = Builder::new(9, 12, 1 << 20).backing(base.as_bytes());
    builder.patch(20, &time.to_be_bytes());
    builder.plain(5, &[9; 512]);
    builder.build()
}
