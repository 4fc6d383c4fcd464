//! Large images for measuring, written without being held in memory.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use crate::pack::{Encryption, deflated};
use crate::random::Random;

/// What kind of large image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// 4 KiB clusters as they are, as `qemu-img convert -O qcow` leaves them.
    Plain,
    /// 4 KiB clusters, packed back to back.
    Packed,
    /// 512-byte clusters over a base named `base.raw`.
    Overlay,
    /// 512-byte clusters over a base named `overlay.qcow`.
    SecondOverlay,
    /// 4 KiB clusters, encrypted under the passphrase `password`.
    Encrypted,
}

impl Kind {
    fn base(self) -> &'static [u8] {
        match self {
            Kind::Overlay => b"base.raw",
            Kind::SecondOverlay => b"overlay.qcow",
            Kind::Plain | Kind::Packed | Kind::Encrypted => b"",
        }
    }
}

/// Guest bytes that are stored or left out together.
const RUN: u64 = 64 << 10;

/// Writes an image of `size` bytes, half of which are stored, in runs of 64 KiB.
pub fn write(path: &Path, kind: Kind, size: u64, seed: u64) -> io::Result<()> {
    let name = kind.base();
    let (cluster_bits, l2_bits): (u8, u8) = if name.is_empty() { (12, 9) } else { (9, 12) };
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let span = 1u64 << (cluster_bits + l2_bits);
    let l1_entries = size.div_ceil(span);
    let mut head = header(name, size, cluster_bits, l2_bits);
    head[39] = u8::from(kind == Kind::Encrypted);
    file.write_all(&head)?;
    let start = (48 + name.len() as u64 + l1_entries * 8).next_multiple_of(4096);
    let mut random = Random::new(seed);
    let encryption = Encryption::new(b"password");
    let mut l1 = Vec::new();
    let mut at = start;
    for index in 0..l1_entries {
        let table_at = at.next_multiple_of(512);
        let mut table = vec![0u64; 1 << l2_bits];
        file.seek(SeekFrom::Start(table_at + (8 << l2_bits)))?;
        at = table_at + (8 << l2_bits);
        for run in (index * span..size.min((index + 1) * span))
            .step_by(usize::try_from(RUN).expect("small"))
        {
            if random.once_in(2) {
                let mut content = content(&mut random);
                if kind == Kind::Encrypted {
                    encryption.encrypt(&mut content, run / 512);
                }
                at = store(
                    &mut file,
                    kind,
                    &content,
                    at,
                    &mut table[entry_of(run % span, cluster_bits)..],
                    cluster_bits,
                )?;
            }
        }
        let end = at;
        file.seek(SeekFrom::Start(table_at))?;
        file.write_all(&big_endian(&table))?;
        file.seek(SeekFrom::Start(end))?;
        l1.push(table_at);
    }
    file.seek(SeekFrom::Start(48 + name.len() as u64))?;
    file.write_all(&big_endian(&l1))?;
    file.flush()
}

/// Writes an image of `size` bytes as [`Kind::Plain`] is, but with its clusters all over the file.
pub fn write_scattered(path: &Path, size: u64, seed: u64) -> io::Result<()> {
    const CLUSTER: u64 = 4096;
    let mut random = Random::new(seed);
    let runs = (0..size).step_by(usize::try_from(RUN).expect("small"));
    let stored: Vec<u64> = runs.filter(|_| random.once_in(2)).collect();
    let clusters: Vec<u64> =
        stored.iter().flat_map(|run| (0..RUN / CLUSTER).map(move |n| run + n * CLUSTER)).collect();
    let count = clusters.len() as u64;
    // A step that has no divisor in common with the count visits every cluster once.
    let step = ((count * 5 / 8) | 1..).find(|step| gcd(*step, count) == 1).unwrap_or(1);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    file.write_all(&header(b"", size, 12, 9))?;
    let l1_entries = size.div_ceil(512 * CLUSTER);
    let tables_at = (48 + l1_entries * 8).next_multiple_of(CLUSTER);
    let data_at = tables_at + l1_entries * CLUSTER;
    let l1: Vec<u64> = (0..l1_entries).map(|index| tables_at + index * CLUSTER).collect();
    file.write_all(&big_endian(&l1))?;
    file.seek(SeekFrom::Start(tables_at))?;
    let mut entries = vec![0; usize::try_from(l1_entries * 512).expect("a small table")];
    for place in 0..count {
        let cluster = clusters[usize::try_from(place * step % count).expect("small")];
        entries[entry_of(cluster, 12)] = data_at + place * CLUSTER;
    }
    file.write_all(&big_endian(&entries))?;
    for _ in 0..count / (RUN / CLUSTER) {
        file.write_all(&content(&mut random))?;
    }
    file.flush()
}

/// Writes an image of `size` bytes as [`Kind::Plain`] is, of which only the tables take room: its
/// clusters are holes in the file, so that it can be as large as any.
pub fn write_hollow(path: &Path, size: u64, seed: u64) -> io::Result<()> {
    const CLUSTER: u64 = 4096;
    let (mut random, span) = (Random::new(seed), 512 * CLUSTER);
    let mut file = BufWriter::with_capacity(1 << 16, File::create(path)?);
    file.write_all(&header(b"", size, 12, 9))?;
    let tables = size.div_ceil(span);
    let mut at = (48 + tables * 8).next_multiple_of(CLUSTER);
    let mut l1 = Vec::new();
    for _ in 0..tables {
        let table_at = at;
        at += CLUSTER;
        let mut table = vec![0u64; 512];
        for run in table.chunks_mut(entry_of(RUN, 12)) {
            if random.once_in(2) {
                for entry in run {
                    *entry = at;
                    at += CLUSTER;
                }
            }
        }
        file.seek(SeekFrom::Start(table_at))?;
        file.write_all(&big_endian(&table))?;
        l1.push(table_at);
    }
    file.seek(SeekFrom::Start(48))?;
    file.write_all(&big_endian(&l1))?;
    file.flush()?;
    file.get_ref().set_len(at)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Writes the raw disk that overlays lie on: `size` bytes, a quarter of them stored.
pub fn write_base(path: &Path, size: u64, seed: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.set_len(size)?;
    let mut random = Random::new(seed);
    for run in (0..size).step_by(usize::try_from(RUN).expect("small")) {
        if random.once_in(4) {
            file.seek(SeekFrom::Start(run))?;
            file.write_all(&content(&mut random))?;
        }
    }
    Ok(())
}

/// An empty image of `size` bytes with its whole L1 table.
pub fn empty(size: u64) -> Vec<u8> {
    let mut image = claim(size);
    let entries = size.div_ceil(2 << 20);
    image.resize(48 + usize::try_from(entries * 8).expect("a small table"), 0);
    image
}

/// A header alone, in QEMU's geometry.
pub fn claim(size: u64) -> Vec<u8> {
    header(b"", size, 12, 9)
}

fn header(name: &[u8], size: u64, cluster_bits: u8, l2_bits: u8) -> Vec<u8> {
    let mut header = b"QFI\xFB\0\0\0\x01".to_vec();
    let name_at = if name.is_empty() { 0u64 } else { 48 };
    header.extend_from_slice(&name_at.to_be_bytes());
    header.extend_from_slice(&u32::try_from(name.len()).expect("short").to_be_bytes());
    header.extend_from_slice(&[0; 4]);
    header.extend_from_slice(&size.to_be_bytes());
    header.extend_from_slice(&[cluster_bits, l2_bits, 0, 0, 0, 0, 0, 0]);
    header.extend_from_slice(&(48 + name.len() as u64).to_be_bytes());
    header.extend_from_slice(name);
    header
}

fn entry_of(offset: u64, cluster_bits: u8) -> usize {
    usize::try_from(offset >> cluster_bits).expect("an index")
}

/// Bytes that pack to about a half, as programs and documents do.
fn content(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < RUN {
        bytes.extend_from_slice(&random.number().to_be_bytes());
        bytes.extend_from_slice(&random.below(16).to_be_bytes());
    }
    bytes
}

/// Stores a run and returns the file's end behind it.
fn store(
    file: &mut BufWriter<File>,
    kind: Kind,
    content: &[u8],
    at: u64,
    entries: &mut [u64],
    cluster_bits: u8,
) -> io::Result<u64> {
    let cluster = 1usize << cluster_bits;
    if kind != Kind::Packed {
        for (number, entry) in (0..).zip(entries.iter_mut().take(content.len() / cluster)) {
            *entry = at + number * cluster as u64;
        }
        file.write_all(content)?;
        return Ok(at + content.len() as u64);
    }
    let mut end = at;
    for (entry, bytes) in entries.iter_mut().zip(content.chunks(cluster)) {
        let stream = deflated(bytes, 12);
        *entry = 1 << 63 | (stream.len() as u64) << (63 - cluster_bits) | end;
        file.write_all(&stream)?;
        end += stream.len() as u64;
    }
    Ok(end)
}

fn big_endian(entries: &[u64]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.to_be_bytes()).collect()
}
