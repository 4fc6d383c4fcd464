//! The slow, obvious reader: one guest byte at a time, straight from the rules, nothing kept.

use std::ops::Range;

use crate::pack::Encryption;

/// What an image holds, byte by byte: `None` is lost.
pub type Reference = Vec<Option<u8>>;

const HEADER: u64 = 48;

/// Reads all of an image whose header is good. `base` is what lies behind it, byte by byte;
/// behind the base's end are zeros.
///
/// # Panics
/// Where the image has no header.
pub fn read(image: &[u8], passphrase: Option<&[u8]>, base: &[Option<u8>]) -> Reference {
    read_around(image, passphrase, base, &[])
}

/// As [`read()`], where the host cannot read the ranges `bad` of the file, which are whole sectors
/// behind the first: what they say of tables is lost, and so is every payload that needs them.
///
/// # Panics
/// Where the image has no header.
pub fn read_around(
    image: &[u8],
    passphrase: Option<&[u8]>,
    base: &[Option<u8>],
    bad: &[Range<u64>],
) -> Reference {
    let size = number(image, 24).expect("a header");
    let reader = Reader {
        image,
        bad,
        key: passphrase.map(Encryption::new),
        cluster_bits: image[32],
        l2_bits: image[33],
        l1_at: number(image, 40).expect("a header"),
        size,
    };
    let mut bytes = Vec::new();
    let mut guest = 0;
    while guest < size {
        let cluster = reader.cluster(guest);
        for offset in 0..(1u64 << reader.cluster_bits).min(size - guest) {
            let at = usize::try_from(guest + offset).expect("a small disk");
            bytes.push(match &cluster {
                Cluster::Base => base.get(at).copied().unwrap_or(Some(0)),
                Cluster::Lost => None,
                Cluster::Bytes(bytes) => bytes[usize::try_from(offset).expect("in a cluster")],
            });
        }
        guest += 1 << reader.cluster_bits;
    }
    bytes
}

enum Cluster {
    Base,
    Lost,
    Bytes(Vec<Option<u8>>),
}

struct Reader<'a> {
    image: &'a [u8],
    /// What the host cannot read.
    bad: &'a [Range<u64>],
    key: Option<Encryption>,
    cluster_bits: u8,
    l2_bits: u8,
    l1_at: u64,
    size: u64,
}

impl Reader<'_> {
    fn cluster(&self, guest: u64) -> Cluster {
        if self.l1_at < HEADER {
            return Cluster::Lost;
        }
        let l1_index = guest >> (self.cluster_bits + self.l2_bits);
        let table = match self.l1_entry(l1_index) {
            None => return Cluster::Lost,
            Some(0) => return Cluster::Base,
            Some(at) if !self.can_be_table(at) => return Cluster::Lost,
            Some(at) => at,
        };
        let l2_index = (guest >> self.cluster_bits) % (1 << self.l2_bits);
        match self.number(table + l2_index * 8) {
            None => Cluster::Lost,
            Some(0) => Cluster::Base,
            Some(entry) if entry >> 63 == 0 => self.plain(entry, guest),
            Some(entry) => self.packed(entry),
        }
    }

    fn plain(&self, at: u64, guest: u64) -> Cluster {
        let length = 1u64 << self.cluster_bits;
        if !is_offset(at) || at >= self.image.len() as u64 || self.is_on_tables(at, length) {
            return Cluster::Lost;
        }
        let mut bytes = Vec::new();
        for sector in 0..length / 512 {
            let start = usize::try_from(at + sector * 512).expect("inside the file");
            let there = self.image.get(start..).unwrap_or_default();
            let there = &there[..there.len().min(512)];
            let is_bad = self.is_bad(start as u64, there.len() as u64);
            let there = if is_bad { &[] } else { there };
            let mut found: Vec<Option<u8>> = there.iter().copied().map(Some).collect();
            if let Some(key) = &self.key {
                found = match <[u8; 512]>::try_from(there) {
                    Ok(ciphertext) => {
                        let plain = key.decrypted(ciphertext, guest / 512 + sector);
                        plain.into_iter().map(Some).collect()
                    }
                    Err(_) => Vec::new(),
                };
            }
            found.resize(512, None);
            bytes.extend(found);
        }
        Cluster::Bytes(bytes)
    }

    fn packed(&self, entry: u64) -> Cluster {
        let offset_bits = 63 - self.cluster_bits;
        let at = entry & ((1 << offset_bits) - 1);
        let length = entry >> offset_bits & ((1 << self.cluster_bits) - 1);
        if length == 0 || at >= self.image.len() as u64 {
            return Cluster::Lost;
        }
        let end = (at + length).min(self.image.len() as u64);
        if self.is_bad(at, end - at) {
            return Cluster::Lost;
        }
        let [at, end] = [at, end].map(|place| usize::try_from(place).expect("inside the file"));
        match inflated(&self.image[at..end], 1 << self.cluster_bits) {
            Some(bytes) => Cluster::Bytes(bytes.into_iter().map(Some).collect()),
            None => Cluster::Lost,
        }
    }

    /// The number at a place that the file has and the host can read.
    fn number(&self, at: u64) -> Option<u64> {
        if self.is_bad(at, 8) { None } else { number(self.image, at) }
    }

    fn is_bad(&self, at: u64, length: u64) -> bool {
        self.bad.iter().any(|bad| at < bad.end && bad.start < at.saturating_add(length))
    }

    fn l1_entries(&self) -> u64 {
        self.size.div_ceil(1 << (self.cluster_bits + self.l2_bits))
    }

    fn l1_entry(&self, index: u64) -> Option<u64> {
        let big = self.number(self.l1_at.checked_add(index * 8)?)?;
        let is_xen = self.image.get(48..52) == Some(b"XEN\xFB") && self.l1_at.is_multiple_of(4096);
        let little = big.swap_bytes();
        let fits = |at: u64| is_offset(at) && at < self.image.len() as u64;
        Some(match (is_xen && !fits(big), fits(little)) {
            (false, _) => big,
            (true, true) => little,
            (true, false) => big.min(little),
        })
    }

    fn can_be_table(&self, at: u64) -> bool {
        let (start, end) = (self.l1_at, self.l1_at.saturating_add(self.l1_entries() * 8));
        is_offset(at) && at >= HEADER && !(at < end && start < at + (8 << self.l2_bits))
    }

    /// Whether any byte of the range belongs to the header or to a table.
    fn is_on_tables(&self, at: u64, length: u64) -> bool {
        let meets = |start: u64, end: u64| start < end && at < end && start < at + length;
        let l1_end = self.l1_at.saturating_add(self.l1_entries() * 8);
        let tables = (0..self.l1_entries())
            .filter_map(|index| self.l1_entry(index))
            .filter(|at| self.can_be_table(*at) && *at < self.image.len() as u64);
        let mut tables = tables.map(|at| (at, at + (8 << self.l2_bits)));
        meets(0, HEADER)
            || meets(self.l1_at, l1_end)
            || tables.any(|(start, end)| meets(start, end))
    }
}

fn is_offset(at: u64) -> bool {
    at != 0 && at.is_multiple_of(512) && at < 1 << 62
}

fn number(image: &[u8], at: u64) -> Option<u64> {
    let at = usize::try_from(at).ok()?;
    let bytes = image.get(at..at.checked_add(8)?)?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

/// What a raw deflate stream fills a cluster with, if it fills it: the decoder's last word does
/// not matter, nor what is left over.
pub fn inflated(stream: &[u8], length: usize) -> Option<Vec<u8>> {
    use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
    let mut out = vec![0; length];
    let mut state = DecompressorOxide::new();
    let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (_, _, written) = decompress(&mut state, stream, &mut out, 0, flags);
    (written == length).then_some(out)
}
