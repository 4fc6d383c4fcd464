//! Trees of files of which it is known what they are, and what a scan says of them.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use calve_scan::{Class, Event, Here, NothingKnown, ScanOptions, Seen, scan};
use calve_testkit::Builder;

/// What a scan says of each file and member, by its name below the root.
pub(crate) type Told = BTreeMap<String, Seen>;

pub(crate) fn options() -> ScanOptions {
    ScanOptions { is_deep: false, with_archives: true, is_one_file_system: false, jobs: 2 }
}

/// All that a scan of `root` tells, in any order.
pub(crate) fn events(root: &Path, options: &ScanOptions) -> Vec<Event> {
    let mut events = Vec::new();
    let for_thread = || (Box::new(Here) as Box<_>, Box::new(NothingKnown) as Box<_>);
    scan(&[root.to_owned()], options, &AtomicBool::new(false), for_thread, |event| {
        events.push(event);
        ControlFlow::Continue(())
    });
    events
}

/// What a scan sees, file by file. Members stand behind their archive and a bar.
pub(crate) fn told(root: &Path, options: &ScanOptions) -> Told {
    let mut told = Told::new();
    for event in events(root, options) {
        let Event::Sighted(sighting) = event else { continue };
        let name = below(root, &sighting.path);
        for member in sighting.look.members {
            let member_name = format!("{name}|{}", String::from_utf8_lossy(&member.name));
            assert!(told.insert(member_name, member.seen).is_none());
        }
        assert!(told.insert(name, sighting.look.file).is_none());
    }
    told
}

pub(crate) fn classes(root: &Path, options: &ScanOptions) -> BTreeMap<String, Class> {
    told(root, options).into_iter().map(|(name, seen)| (name, seen.class)).collect()
}

fn below(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned()
}

pub(crate) fn write(root: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(&path, bytes).expect("a file");
    path
}

/// A small version 1 image as QEMU makes it.
pub(crate) fn image() -> Vec<u8> {
    let mut builder = Builder::new(12, 9, 4 << 20);
    builder.plain(3, &[7; 4096]);
    builder.build()
}

/// The beginning of an empty qcow2 image of this size: header, and the tables that it names.
pub(crate) fn qcow2(size: u64) -> Vec<u8> {
    let mut bytes = vec![0; 4 << 16];
    let mut put = |at: usize, of: &[u8]| bytes[at..at + of.len()].copy_from_slice(of);
    put(0, b"QFI\xFB");
    put(4, &3u32.to_be_bytes());
    put(20, &16u32.to_be_bytes());
    put(24, &size.to_be_bytes());
    put(36, &1u32.to_be_bytes());
    put(40, &(3u64 << 16).to_be_bytes());
    put(48, &(1u64 << 16).to_be_bytes());
    put(56, &1u32.to_be_bytes());
    put(96, &4u32.to_be_bytes());
    put(100, &104u32.to_be_bytes());
    put(1 << 16, &(2u64 << 16).to_be_bytes());
    bytes
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).expect("memory");
    writer.finish().expect("memory")
}

pub(crate) fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut writer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    writer.write_all(bytes).expect("memory");
    writer.finish().expect("memory")
}

pub(crate) fn xz(bytes: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::XzOptions::with_preset(1);
    let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options).expect("memory");
    writer.write_all(bytes).expect("memory");
    writer.finish().expect("memory")
}

pub(crate) fn zstandard(bytes: &[u8]) -> Vec<u8> {
    let mut packed = vec![0; zstd_safe::compress_bound(bytes.len())];
    let length = zstd_safe::compress(&mut packed[..], bytes, 3).expect("room");
    packed.truncate(length);
    packed
}

pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).expect("memory");
    }
    builder.into_inner().expect("memory")
}

pub(crate) fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (number, (name, bytes)) in files.iter().enumerate() {
        let method = match number % 2 {
            0 => zip::CompressionMethod::Deflated,
            _ => zip::CompressionMethod::Stored,
        };
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        writer.start_file(*name, options).expect("memory");
        writer.write_all(bytes).expect("memory");
    }
    writer.finish().expect("memory").into_inner()
}
