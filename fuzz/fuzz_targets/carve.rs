//! The target `carve` for libFuzzer; what it asserts is in `crates/fuzzing/src/targets/carve.rs`.
#![no_main]

calve_fuzz::target!("carve");
