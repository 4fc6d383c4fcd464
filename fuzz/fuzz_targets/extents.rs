//! The target `extents` for libFuzzer; what it asserts is in `crates/fuzzing/src/targets/extents.rs`.
#![no_main]

calve_fuzz::target!("extents");
