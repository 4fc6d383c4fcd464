//! A seeded share of what libFuzzer does: every target on its first files and on changed ones.
//!
//! `CALVE_FUZZ_CASES` makes it longer, `CALVE_SEED` begins elsewhere.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use calve_fuzzing::{TARGETS, changing, targets};
use calve_testkit::seeds;

/// How many files each first one makes: itself, changed once, changed twice and so on.
const CHANGED: usize = 8;

fn share(name: &str, count: u64) {
    let target = targets::named(name);
    for number in seeds("CALVE_FUZZ_CASES", count) {
        for (changes, data) in changing(target.kind, number).take(CHANGED).enumerate() {
            let done = catch_unwind(AssertUnwindSafe(|| (target.run)(&data)));
            assert!(done.is_ok(), "repeat it with --example repeat {name} {number} {changes}");
        }
    }
}

#[test]
fn header_facts_and_findings_are_those_of_the_rules() {
    share("header", 1000);
}

#[test]
fn any_version_1_file_reads_as_the_slow_reader_reads_it() {
    share("extents", 400);
}

#[test]
fn any_qcow2_file_keeps_the_promises_of_a_disk() {
    share("qcow2", 2000);
}

#[test]
fn any_file_is_upgraded_whole_and_back_or_left_alone() {
    share("upgrade", 1000);
}

#[test]
fn any_stream_unpacks_as_a_second_decoder_unpacks_it() {
    share("inflate", 600);
}

#[test]
fn any_loss_is_told_by_a_check_and_mending_loses_nothing() {
    share("check", 200);
}

#[test]
fn any_disk_is_rescued_to_the_byte_and_the_sector_and_a_stopped_run_goes_on() {
    share("rescue", 100);
}

#[test]
fn any_file_is_laid_out_and_carved_once_and_reports_can_be_read() {
    share("carve", 100);
}

#[test]
fn any_archive_tells_its_images_once_each_with_tables_and_without() {
    share("archives", 150);
}

/// What libFuzzer runs are the same targets, each under its name.
#[test]
fn every_target_has_its_program_for_libfuzzer() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).expect("a manifest");
    for target in TARGETS {
        let name = target.name;
        assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name} is not built");
        let program = folder.join(format!("fuzz_targets/{name}.rs"));
        let text = std::fs::read_to_string(&program).expect("a program");
        assert!(text.contains(&format!("calve_fuzz::target!(\"{name}\");")), "{name} runs another");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len(), "a program without a target");
}
