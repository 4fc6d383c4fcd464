//! The target `qcow2` for libFuzzer; what it asserts is in `crates/fuzzing/src/targets/qcow2.rs`.
#![no_main]

calve_fuzz::target!("qcow2");
