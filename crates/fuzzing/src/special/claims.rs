//! Files that claim what they do not have, and files that make work.

use calve_testkit::{Builder, Random, Sketch, corpus};

use super::{alone, scatter};

/// A size at an edge: of nothing, of a sector, of a table, of what there can be.
pub(super) fn size(random: &mut Random) -> Sketch {
    let mut builder = Builder::new(9, 6, 64 << 10);
    scatter(&mut builder, 64, random);
    let sizes = [0, 1, 511, 513, 32 << 10, (32 << 10) + 1, (1 << 43) - 512, 1 << 43, u64::MAX];
    builder.patch(24, &random.one_of(&sizes).to_be_bytes());
    alone(builder)
}

/// A backing file's name at an edge.
pub(super) fn name(random: &mut Random) -> Sketch {
    let long = [b'n'; 1024];
    let names: [&[u8]; 7] =
        [b"base.raw", b"x", b"\0hidden", b"cut\0off", &long[..1023], &long, b"\x1b[31m\xFF\n"];
    let mut builder = Builder::new(9, 6, 64 << 10).backing(random.one_of(&names));
    scatter(&mut builder, 64, random);
    match random.below(4) {
        0 => builder.patch(8, &(builder.length() - 3).to_be_bytes()),
        1 => builder.patch(8, &random.one_of(&[0u64, 24, u64::MAX, 1 << 40]).to_be_bytes()),
        _ => {}
    }
    Sketch { base: Some(random.content(40_000)), ..alone(builder) }
}

/// A header that claims all that there can be, and next to nothing behind it.
pub(super) fn everything(random: &mut Random) -> Sketch {
    let image = match random.below(3) {
        0 => corpus::claim((512 << 40) - (2 << 20)),
        1 => corpus::empty(1 << 30),
        _ => {
            let mut builder = Builder::new(9, 13, 1 << 30);
            builder.plain(0, &[1; 512]);
            builder.plain((1 << 21) - 1, &[2; 512]);
            builder.patch(24, &(1u64 << random.one_of(&[40, 49])).to_be_bytes());
            builder.build()
        }
    };
    Sketch { image, passphrase: None, base: None }
}

/// One table for every L1 entry, and one cluster, plain or packed, for every entry of it.
pub(super) fn one_cluster_everywhere(random: &mut Random) -> Sketch {
    let l1_entries = random.one_of(&[2, 4000]);
    let mut builder = Builder::new(9, 7, l1_entries << 16);
    let (table, plain) = (builder.table_of(0), builder.plain(0, &[3; 512]));
    let (at, length) = builder.packed(1, &[4; 512]);
    let packed = builder.packed_entry(at, length);
    for cluster in 0..128 {
        builder.entry(cluster, random.one_of(&[plain, packed]));
    }
    for index in 1..l1_entries {
        builder.l1_entry(index, table);
    }
    alone(builder)
}

/// Packed clusters that take as much reading as they can: stored blocks of a byte or of none.
pub(super) fn slow_streams(random: &mut Random) -> Sketch {
    let stream = stored_blocks(&[5; 12_000], random);
    every_cluster(&stream, (12 << 10) + random.below(300))
}

/// Packed clusters that take as much reading as they can: code after code that is described at
/// length and used for nothing.
pub(super) fn slow_codes(random: &mut Random) -> Sketch {
    let mut bits = Bits::default();
    for _ in 0..random.one_of(&[60, 5000]) {
        bits.empty_block_with_codes();
    }
    bits.push(1, 1);
    every_cluster(&bits.bytes, 0)
}

/// A disk of 64 KiB clusters, each of which is this stream.
fn every_cluster(stream: &[u8], surplus: u64) -> Sketch {
    let mut builder = Builder::new(16, 6, 128 << 10);
    let length = (stream.len() as u64 + surplus).min(0xFFFF);
    let (at, length) = builder.stream(0, stream, length);
    for cluster in 1..2 {
        let entry = builder.packed_entry(at, length);
        builder.entry(cluster, entry);
    }
    alone(builder)
}

/// `bytes` as stored blocks of a byte each, with empty ones between them.
pub(crate) fn stored_blocks(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let length = usize::from(!random.once_in(3));
        let (block, behind) = rest.split_at(length);
        rest = behind;
        let count = u8::try_from(length).expect("0 or 1");
        stream.extend_from_slice(&[u8::from(rest.is_empty()), count, 0, !count, 0xFF]);
        stream.extend_from_slice(block);
    }
    stream
}

/// Bits as deflate packs them: the lowest of a byte first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn push(&mut self, value: u32, count: u32) {
        for number in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let bit = u8::from(value >> number & 1 == 1);
            *self.bytes.last_mut().expect("one was pushed") |= bit << (self.used % 8);
            self.used += 1;
        }
    }

    /// A block with codes of its own, all of full length, that ends at once.
    fn empty_block_with_codes(&mut self) {
        self.push(0b100, 3);
        // 257 lengths, 1 distance, and all 19 lengths of code lengths.
        self.push(0, 5);
        self.push(0, 5);
        self.push(15, 4);
        // In the order that deflate has: only the code lengths 0, 18, 1 and 8 are in use.
        let order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
        for symbol in order {
            self.push(if matches!(symbol, 0 | 18 | 1 | 8) { 2 } else { 0 }, 3);
        }
        // Codes 0: 00, 1: 01, 8: 10, 18: 11, sent from their highest bit.
        let zeros = |bits: &mut Self, count: u32| {
            bits.push(0b11, 2);
            bits.push(count - 11, 7);
        };
        zeros(self, 138);
        zeros(self, 117);
        // Symbol 255 and the end of the block have one bit each, and so has the one distance.
        self.push(0b10, 2);
        self.push(0b10, 2);
        self.push(0b10, 2);
        // The end of the block is the second of the two.
        self.push(1, 1);
    }
}
