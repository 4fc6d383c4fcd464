//! What fuzzing found in rebuilding, alone in its process, since it looks at its memory.

use calve_rebuild::{Patched, l1};
use calve_testkit::{Builder, Memory};

/// The most memory in KiB that this process may ever have had.
const MOST_MEMORY: u64 = 96 << 10;

/// A header alone claims the longest L1 table that can be rebuilt: 2^22 entries.
#[test]
fn a_claim_of_a_long_l1_table_costs_no_more_than_the_table() {
    let mut builder = Builder::new(9, 6, 32 << 10);
    builder.cut(48);
    builder.patch(24, &(1u64 << 37).to_be_bytes());
    let source = Patched::over(Box::new(Memory::new(builder.build()))).expect("memory");
    let rebuilt = l1(&source).expect("as long as it may be");
    assert!(rebuilt.steps.is_empty() && rebuilt.unplaced.is_empty(), "of nothing");
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a line");
    let memory: u64 = line.split_whitespace().nth(1).and_then(|it| it.parse().ok()).expect("KiB");
    assert!(memory < MOST_MEMORY, "{memory} KiB");
}
