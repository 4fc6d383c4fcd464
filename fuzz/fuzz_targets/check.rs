//! The target `check` for libFuzzer; what it asserts is in `crates/fuzzing/src/targets/check.rs`.
#![no_main]

calve_fuzz::target!("check");
