//! The target `rescue` for libFuzzer; what it asserts is in `crates/fuzzing/src/targets/rescue.rs`.
#![no_main]

calve_fuzz::target!("rescue");
