//! The target `upgrade` for libFuzzer; what it asserts is in `crates/fuzzing/src/targets/upgrade.rs`.
#![no_main]

calve_fuzz::target!("upgrade");
