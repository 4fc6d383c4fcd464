//! The target `archives` for libFuzzer; what it asserts is in `crates/fuzzing/src/targets/archives.rs`.
#![no_main]

calve_fuzz::target!("archives");
