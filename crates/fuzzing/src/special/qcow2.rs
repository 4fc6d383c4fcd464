//! qcow2 files for the reader, with every kind of entry that it knows.

use calve_testkit::{Encryption, Random, deflated};

const PACKED: u64 = 1 << 62;
const COPIED: u64 = 1 << 63;
const ZERO: u64 = 1;

/// What the file is like.
#[derive(Clone, Copy)]
struct Shape {
    cluster_bits: u32,
    version: u32,
    has_data_file: bool,
    has_zstd: bool,
    is_extended: bool,
    is_encrypted: bool,
    clusters: u64,
}

impl Shape {
    fn any(random: &mut Random) -> Self {
        let is_extended = random.once_in(4);
        let cluster_bits = if is_extended { 14 } else { random.one_of(&[9, 9, 10, 12]) };
        Self {
            cluster_bits,
            version: if is_extended { 3 } else { random.one_of(&[2, 3, 3]) },
            has_data_file: random.once_in(6),
            has_zstd: random.once_in(3),
            is_extended,
            is_encrypted: random.once_in(4),
            clusters: 1 + random.below(if is_extended { 3 } else { 40 }),
        }
    }

    fn cluster(self) -> u64 {
        1 << self.cluster_bits
    }

    fn entry_size(self) -> u64 {
        if self.is_extended { 16 } else { 8 }
    }

    fn tables(self) -> u64 {
        self.clusters.div_ceil(self.cluster() / self.entry_size())
    }
}

/// A file, and whether it needs a data file.
pub(crate) fn qcow2(random: &mut Random) -> (Vec<u8>, bool) {
    let shape = Shape::any(random);
    let mut file = File { shape, bytes: header(shape, random) };
    let (l1_at, tables_at) = (shape.cluster() * 2, shape.cluster() * 3);
    file.grow_to(tables_at + shape.tables() * shape.cluster());
    for table in 0..shape.tables() {
        file.put(l1_at + table * 8, COPIED | (tables_at + table * shape.cluster()));
    }
    for cluster in 0..shape.clusters {
        let (entry, parts) = file.store(cluster, random);
        // Tables follow one another, so that their entries do.
        let at = tables_at + cluster * shape.entry_size();
        file.put(at, entry);
        if shape.is_extended {
            file.put(at + 8, parts);
        }
    }
    if random.once_in(6) {
        let cut = usize::try_from(random.below(3000)).expect("small");
        file.bytes.truncate(file.bytes.len().saturating_sub(cut).max(512));
    }
    (file.bytes, shape.has_data_file && shape.version == 3)
}

fn header(shape: Shape, random: &mut Random) -> Vec<u8> {
    let mut header = b"QFI\xFB".to_vec();
    let size = shape.clusters * shape.cluster() - random.below(2) * random.below(500);
    let name: &[u8] = if random.once_in(3) { b"base.raw" } else { b"" };
    let name_at = if name.is_empty() { 0u64 } else { 300 };
    header.extend_from_slice(&shape.version.to_be_bytes());
    header.extend_from_slice(&name_at.to_be_bytes());
    header.extend_from_slice(&8u32.to_be_bytes());
    header.extend_from_slice(&shape.cluster_bits.to_be_bytes());
    header.extend_from_slice(&size.to_be_bytes());
    header.extend_from_slice(&u32::from(shape.is_encrypted).to_be_bytes());
    let tables = u32::try_from(shape.tables()).expect("a small disk");
    header.extend_from_slice(&tables.to_be_bytes());
    header.extend_from_slice(&(shape.cluster() * 2).to_be_bytes());
    // The second cluster is the table of reference counts, and an empty one.
    header.extend_from_slice(&shape.cluster().to_be_bytes());
    header.extend_from_slice(&1u32.to_be_bytes());
    header.extend_from_slice(&[0; 12]);
    if shape.version == 3 {
        let flags = [(shape.has_data_file, 4), (shape.has_zstd, 8), (shape.is_extended, 16u64)];
        let flags = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum::<u64>();
        header.extend_from_slice(&flags.to_be_bytes());
        header.extend_from_slice(&[0; 16]);
        header.extend_from_slice(&4u32.to_be_bytes());
        header.extend_from_slice(&112u32.to_be_bytes());
        header.extend_from_slice(&[u8::from(shape.has_zstd), 0, 0, 0, 0, 0, 0, 0]);
    }
    extension(&mut header, 0xE279_2ACA, b"raw");
    if shape.has_data_file {
        extension(&mut header, 0x4441_5441, b"data.raw");
    }
    extension(&mut header, 0x6803_F857, &[0; 48]);
    extension(&mut header, 0, b"");
    if !name.is_empty() {
        header.resize(300, 0);
        header.extend_from_slice(name);
    }
    header
}

fn extension(header: &mut Vec<u8>, kind: u32, data: &[u8]) {
    let length = u32::try_from(data.len()).expect("short");
    header.extend_from_slice(&kind.to_be_bytes());
    header.extend_from_slice(&length.to_be_bytes());
    header.extend_from_slice(data);
    header.resize(header.len().next_multiple_of(8), 0);
}

struct File {
    shape: Shape,
    bytes: Vec<u8>,
}

impl File {
    fn grow_to(&mut self, end: u64) {
        self.bytes.resize(usize::try_from(end).expect("a small file"), 0);
    }

    fn put(&mut self, at: u64, word: u64) {
        let at = usize::try_from(at).expect("a small file");
        self.bytes[at..at + 8].copy_from_slice(&word.to_be_bytes());
    }

    /// Stores a cluster in some way, and returns its entry and what an extended one says of its
    /// parts.
    fn store(&mut self, cluster: u64, random: &mut Random) -> (u64, u64) {
        let every = 0xFFFF_FFFF;
        match random.below(6) {
            0 => (0, 0),
            1 if self.shape.is_extended => (0, every << 32),
            1 => (ZERO, 0),
            2 | 3 if !self.shape.has_data_file => (self.packed(random), 0),
            4 => {
                let at = self.plain(cluster, random);
                let zero = random.number() & every;
                let stored = random.number() & every & !zero;
                let flag = if self.shape.is_extended { 0 } else { ZERO * random.below(2) };
                (COPIED | at | flag, zero << 32 | stored)
            }
            _ => (COPIED | self.plain(cluster, random), every),
        }
    }

    fn plain(&mut self, cluster: u64, random: &mut Random) -> u64 {
        if self.shape.has_data_file {
            return cluster * self.shape.cluster();
        }
        let end = (self.bytes.len() as u64).next_multiple_of(self.shape.cluster());
        self.grow_to(end);
        let mut content = random.content(self.shape.cluster());
        if self.shape.is_encrypted {
            Encryption::new(b"sesame").encrypt(&mut content, end / 512);
        }
        self.bytes.extend_from_slice(&content);
        end
    }

    fn packed(&mut self, random: &mut Random) -> u64 {
        let content = random.content(self.shape.cluster());
        let stream = if self.shape.has_zstd { frame(&content) } else { deflated(&content, 12) };
        let at = self.bytes.len() as u64;
        self.bytes.extend_from_slice(&stream);
        let more_sectors = (at % 512 + stream.len() as u64 - 1) / 512;
        PACKED | more_sectors << (70 - self.shape.cluster_bits) | at
    }
}

/// A Zstandard frame of one raw block: magic, a descriptor of four bytes of size, the block.
fn frame(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("a small cluster");
    let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0xA0];
    frame.extend(length.to_be_bytes().iter().rev());
    // The last block, raw: flags in the lowest three bits, least significant byte first.
    frame.extend((length << 3 | 1).to_be_bytes().iter().rev().take(3));
    frame.extend_from_slice(content);
    frame
}
