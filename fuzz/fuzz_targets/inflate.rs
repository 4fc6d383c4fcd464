//! The target `inflate` for libFuzzer; what it asserts is in `crates/fuzzing/src/targets/inflate.rs`.
#![no_main]

calve_fuzz::target!("inflate");
