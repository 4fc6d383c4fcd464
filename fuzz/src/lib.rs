//! What the programs of libFuzzer share.

#[doc(hidden)]
pub use libfuzzer_sys;

use calve_fuzzing::{Kind, mutate};

/// Makes the program of a target: its body, and changes to inputs that know the format.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        use $crate::libfuzzer_sys;

        libfuzzer_sys::fuzz_target!(|data: &[u8]| {
            ($crate::named($name).run)(data);
        });

        libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
            $crate::change($crate::named($name).kind, data, size, max_size, seed)
        });
    };
}

pub use calve_fuzzing::targets::named;

/// Changes an input in place and says how long it is now: every second time as libFuzzer does,
/// which knows what the program compared, and otherwise where header and tables are.
pub fn change(kind: Kind, data: &mut [u8], size: usize, most: usize, seed: u32) -> usize {
    if kind == Kind::Stream || seed.is_multiple_of(2) {
        return libfuzzer_sys::fuzzer_mutate(data, size, most);
    }
    let mut changed = data[..size].to_vec();
    mutate(kind, &mut changed, most, seed.into());
    data[..changed.len()].copy_from_slice(&changed);
    changed.len()
}
