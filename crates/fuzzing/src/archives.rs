//! Archives of small images: of every kind that a scan looks into, and within each other.

use std::io::Write;

use calve_testkit::Random;

/// How deep they lie in each other; one more than a scan goes is among them.
const DEPTH: u64 = 5;

/// Bytes behind an image that make it longer than what is read of a member anyway.
const MORE: u64 = 80 << 10;

/// Names of members, of which several may have the same one.
const NAMES: [&str; 6] = ["disk.qcow", "disk", "a/disk.img", "disk.gz", "b.qcow2", "disk#2"];

/// An archive of images, each of which `image` makes.
pub(crate) fn archive(
    random: &mut Random,
    image: &mut dyn FnMut(&mut Random) -> Vec<u8>,
) -> Vec<u8> {
    let depth = 1 + random.below(DEPTH).min(random.below(DEPTH));
    within(depth, random, image)
}

fn within(
    depth: u64,
    random: &mut Random,
    image: &mut dyn FnMut(&mut Random) -> Vec<u8>,
) -> Vec<u8> {
    if depth == 0 {
        return member(random, image);
    }
    if random.once_in(3) {
        let inner = within(depth - 1, random, image);
        return packed(&inner, random);
    }
    let count = 1 + random.below(3);
    let mut members = Vec::new();
    for number in 0..count {
        let inner = if number == 0 { depth - 1 } else { random.below(depth) };
        members.push((random.one_of(&NAMES), within(inner, random, image)));
    }
    match random.below(3) {
        0 => zipped(&members, random),
        _ => tarred(&members, random),
    }
}

fn member(random: &mut Random, image: &mut dyn FnMut(&mut Random) -> Vec<u8>) -> Vec<u8> {
    let mut bytes = match random.below(8) {
        0 => random.content(900),
        _ => image(random),
    };
    if random.once_in(4) {
        let more = random.content(MORE);
        bytes.extend(more);
    }
    bytes
}

fn packed(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    match random.below(4) {
        0 => {
            let level = flate2::Compression::new(u32::try_from(random.below(10)).expect("a level"));
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), level);
            writer.write_all(bytes).expect("memory");
            writer.finish().expect("memory")
        }
        1 => {
            let level = bzip2::Compression::fast();
            let mut writer = bzip2::write::BzEncoder::new(Vec::new(), level);
            writer.write_all(bytes).expect("memory");
            writer.finish().expect("memory")
        }
        2 => {
            let options = lzma_rust2::XzOptions::with_preset(0);
            let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options).expect("memory");
            writer.write_all(bytes).expect("memory");
            writer.finish().expect("memory")
        }
        _ => {
            let mut packed = vec![0; zstd_safe::compress_bound(bytes.len())];
            let length = zstd_safe::compress(&mut packed[..], bytes, 1).expect("room");
            packed.truncate(length);
            packed
        }
    }
}

fn zipped(members: &[(&str, Vec<u8>)], random: &mut Random) -> Vec<u8> {
    use zip::CompressionMethod::{Bzip2, Deflated, Stored};
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (number, (name, bytes)) in members.iter().enumerate() {
        let method = random.one_of(&[Stored, Stored, Deflated, Bzip2]);
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        // Its writer takes no name twice.
        writer.start_file(format!("{number}{name}"), options).expect("memory");
        writer.write_all(bytes).expect("memory");
    }
    writer.finish().expect("memory").into_inner()
}

fn tarred(members: &[(&str, Vec<u8>)], random: &mut Random) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        match random.below(4) {
            0 => sparse(&mut header, name, bytes, &mut builder, random),
            1 => {
                let long = format!("{}{name}", "long/".repeat(40));
                builder.append_data(&mut header, long, &bytes[..]).expect("memory");
            }
            _ => builder.append_data(&mut header, name, &bytes[..]).expect("memory"),
        }
    }
    builder.into_inner().expect("memory")
}

/// A member with a hole in front of its last part, or behind all of it.
fn sparse(
    header: &mut tar::Header,
    name: &str,
    bytes: &[u8],
    builder: &mut tar::Builder<Vec<u8>>,
    random: &mut Random,
) {
    let hole = random.one_of(&[512, 1 << 20, 1 << 24, 1 << 60]);
    let first = bytes.len() as u64 / 1024 * 512;
    let rest = bytes.len() as u64 - first;
    header.set_path(name).expect("a short name");
    header.set_entry_type(tar::EntryType::GNUSparse);
    let gnu = header.as_gnu_mut().expect("it was made as one");
    for (index, (offset, length)) in [(0, first), (first + hole, rest)].into_iter().enumerate() {
        put(&mut gnu.sparse[index].offset, offset);
        put(&mut gnu.sparse[index].numbytes, length);
    }
    put(&mut gnu.realsize, first + hole + rest);
    header.set_cksum();
    builder.append(header, bytes).expect("memory");
}

/// A number as GNU tar writes large ones.
fn put(field: &mut [u8; 12], number: u64) {
    field[0] = 0x80;
    field[4..].copy_from_slice(&number.to_be_bytes());
}

/// Mends the sums of all headers of a tar archive, so that what was changed in them is looked at.
pub(crate) fn mend_sums(data: &mut [u8]) {
    for block in data.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}
