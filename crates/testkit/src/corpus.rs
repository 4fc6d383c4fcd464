//! Large images for measuring, written without being held in memory.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use crate::pack::deflated;
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
}

/// Guest bytes that are stored or left out together.
const RUN: u64 = 64 << 10;

/// Writes an image of `size` bytes, half of which are stored, in runs of 64 KiB.
pub fn write(path: &Path, kind: Kind, size: u64, seed: u64) -> io::Result<()> {
    let (cluster_bits, l2_bits): (u8, u8) = if kind == Kind::Overlay { (9, 12) } else { (12, 9) };
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let span = 1u64 << (cluster_bits + l2_bits);
    let l1_entries = size.div_ceil(span);
    let name: &[u8] = if kind == Kind::Overlay { b"base.raw" } else { b"" };
    file.write_all(&header(name, size, cluster_bits, l2_bits))?;
    let start = (48 + name.len() as u64 + l1_entries * 8).next_multiple_of(4096);
    let mut random = Random::new(seed);
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
                let content = content(&mut random);
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
