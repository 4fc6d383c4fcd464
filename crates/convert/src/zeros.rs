//! Finding zeros in bytes.

/// Whether every byte is zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    // A block at a time, so that the comparison is done in wide registers, and the first block
    // that holds anything ends it.
    let (blocks, rest) = bytes.as_chunks::<256>();
    blocks.iter().all(|block| block.iter().fold(0, |all, byte| all | byte) == 0)
        && rest.iter().all(|byte| *byte == 0)
}

/// Tells `run` of the stretches of `bytes` that are to be stored: all but aligned blocks of
/// `block` bytes that hold only zeros. With a block of 0 that is everything.
pub(crate) fn data_runs(bytes: &[u8], block: usize, mut run: impl FnMut(std::ops::Range<usize>)) {
    if block == 0 {
        return run(0..bytes.len());
    }
    let mut start = None;
    let mut at = 0;
    for piece in bytes.chunks(block) {
        match (is_zero(piece), start) {
            (true, Some(from)) => {
                run(from..at);
                start = None;
            }
            (false, None) => start = Some(at),
            _ => {}
        }
        at += piece.len();
    }
    if let Some(from) = start {
        run(from..at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(bytes: &[u8], block: usize) -> Vec<std::ops::Range<usize>> {
        let mut runs = Vec::new();
        data_runs(bytes, block, |run| runs.push(run));
        runs
    }

    #[test]
    fn only_whole_blocks_of_zeros_are_left_out() {
        let mut bytes = vec![0; 5000];
        assert_eq!(runs(&bytes, 512), []);
        (bytes[600], bytes[1023], bytes[4999]) = (1, 1, 1);
        assert_eq!(runs(&bytes, 512), [512..1024, 4608..5000]);
        assert_eq!(runs(&bytes, 1024), [0..1024, 4096..5000]);
        assert_eq!(runs(&bytes, 0).first(), Some(&(0..5000)));
    }

    #[test]
    fn one_byte_anywhere_is_found() {
        for length in [1, 255, 256, 257, 1000] {
            let mut bytes = vec![0; length];
            assert!(is_zero(&bytes));
            for at in 0..length {
                bytes[at] = 1;
                assert!(!is_zero(&bytes), "{at} of {length}");
                bytes[at] = 0;
            }
        }
    }
}
