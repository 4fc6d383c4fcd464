//! The target `header` for libFuzzer; what it asserts is in `crates/fuzzing/src/targets/header.rs`.
#![no_main]

calve_fuzz::target!("header");
