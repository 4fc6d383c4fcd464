//! Rescues of large images of which some blocks cannot be read, beside what is known to be gone.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use calve_testkit::Random;

use crate::measure;

/// Blocks that are destroyed, as media lose them.
const BLOCK: u64 = 4096;
const BLOCKS: u64 = 100;

/// How far guest bytes are from what they should be.
#[derive(Default)]
struct Count {
    gone: u64,
    missing: u64,
    /// Labelled missing, though nothing that they depend on was destroyed.
    without_cause: u64,
    /// Depend on something that was destroyed, and labelled otherwise.
    unseen: u64,
    /// Not labelled missing, and other bytes than before.
    wrong: u64,
}

/// Rescues with 100 destroyed blocks each: of how many guest bytes the label is not what is known.
pub(crate) fn table(folder: &Path, calve: &str, rounds: usize) -> io::Result<String> {
    let mut text = format!(
        "\nRescues of images of which {BLOCKS} random blocks of 4 KiB are destroyed, {rounds} \
         rounds with others each:\n\n\
         | image | guest bytes gone | labelled missing | missing without cause | gone unseen | \
         wrong bytes | slowest s |\n|---|---:|---:|---:|---:|---:|---:|\n"
    );
    for source in ["plain.qcow", "scattered.qcow", "packed.qcow"] {
        let original = folder.join("original.raw");
        converted(folder, source)?;
        let (mut all, mut slowest) = (Count::default(), 0.0);
        for round in 0..rounds {
            let blocks = destroy(folder, source, round as u64)?;
            let line = format!(
                "rm -f target rescue.map; {calve} rescue -q -O raw --source-map host.map --map rescue.map \
                 damaged.qcow target; [ $? -eq 4 ]"
            );
            slowest = f64::max(slowest, measure::run(folder, &line)?.wall);
            let image = fs::read(folder.join(source))?;
            count(&image, &blocks, folder, &original, &mut all)?;
        }
        text += &format!(
            "| {source} | {} | {} | {} | {} | {} | {slowest:.1} |\n",
            all.gone, all.missing, all.without_cause, all.unseen, all.wrong
        );
        for name in ["original.raw", "damaged.qcow", "host.map", "rescue.map", "target"] {
            fs::remove_file(folder.join(name))?;
        }
    }
    Ok(text)
}

/// What stock QEMU reads of the image before it is damaged.
fn converted(folder: &Path, source: &str) -> io::Result<()> {
    let line = format!("qemu-img convert -m 16 -W -f qcow -O raw {source} original.raw");
    measure::run(folder, &line).map(drop)
}

/// Copies the image, puts noise into random blocks behind its first, and writes a map that says
/// of them that they could not be read.
fn destroy(folder: &Path, source: &str, seed: u64) -> io::Result<Vec<u64>> {
    let damaged = folder.join("damaged.qcow");
    fs::copy(folder.join(source), &damaged)?;
    let length = fs::metadata(&damaged)?.len();
    let mut random = Random::new(seed ^ 0xDE57);
    let mut blocks: Vec<u64> = (0..BLOCKS).map(|_| 1 + random.below(length / BLOCK - 1)).collect();
    blocks.sort_unstable();
    blocks.dedup();
    let file = File::options().write(true).open(&damaged)?;
    let mut map = String::from("0x0 +\n");
    let mut reached = 0;
    for block in &blocks {
        let noise: Vec<u8> = (0..BLOCK / 8).flat_map(|_| random.number().to_be_bytes()).collect();
        file.write_all_at(&noise, block * BLOCK)?;
        let at = block * BLOCK;
        if at > reached {
            map += &format!("{reached:#x} {:#x} +\n", at - reached);
        }
        map += &format!("{at:#x} {BLOCK:#x} -\n");
        reached = at + BLOCK;
    }
    if length > reached {
        map += &format!("{reached:#x} {:#x} +\n", length - reached);
    }
    fs::write(folder.join("host.map"), map)?;
    Ok(blocks)
}

/// Compares labels and bytes with what the tables of the undamaged image say.
fn count(
    image: &[u8],
    blocks: &[u64],
    folder: &Path,
    original: &Path,
    all: &mut Count,
) -> io::Result<()> {
    let missing = missing(&fs::read_to_string(folder.join("rescue.map"))?);
    let (target, original) = (File::open(folder.join("target"))?, File::open(original)?);
    let size = number(image, 24);
    let destroyed = Destroyed { image, blocks };
    let (mut now, mut before) = ([0; 4096], [0; 4096]);
    let mut next = 0;
    for at in (0..size).step_by(4096) {
        while missing.get(next).is_some_and(|(_, end)| *end <= at) {
            next += 1;
        }
        let is_missing = missing.get(next).is_some_and(|(start, _)| *start <= at);
        let is_gone = destroyed.takes(at);
        target.read_exact_at(&mut now, at)?;
        original.read_exact_at(&mut before, at)?;
        all.gone += u64::from(is_gone) * 4096;
        all.missing += u64::from(is_missing) * 4096;
        all.without_cause += u64::from(is_missing && !is_gone) * 4096;
        all.unseen += u64::from(is_gone && !is_missing) * 4096;
        all.wrong += u64::from(!is_missing && now != before) * 4096;
    }
    Ok(())
}

/// The ranges of a map that could not be read.
fn missing(map: &str) -> Vec<(u64, u64)> {
    let hex = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
    map.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (start, length) = (hex(words.next()?)?, hex(words.next()?)?);
            (words.next()? == "-").then_some((start, start + length))
        })
        .collect()
}

fn number(image: &[u8], at: u64) -> u64 {
    let at = usize::try_from(at).expect("a file in memory");
    u64::from_be_bytes(image[at..at + 8].try_into().expect("eight bytes"))
}

/// What the image said of each cluster of 4 KiB before it was damaged, read once more in the
/// shortest way.
struct Destroyed<'a> {
    image: &'a [u8],
    blocks: &'a [u64],
}

impl Destroyed<'_> {
    fn is_hit(&self, at: u64, length: u64) -> bool {
        let first = self.blocks.partition_point(|block| (block + 1) * BLOCK <= at);
        self.blocks.get(first).is_some_and(|block| block * BLOCK < at + length)
    }

    /// Whether a destroyed block held this cluster's bytes, or the entry that leads to them.
    fn takes(&self, guest: u64) -> bool {
        let entry_of_table = number(self.image, 40) + (guest >> 21) * 8;
        if self.is_hit(entry_of_table, 8) {
            return true;
        }
        let table = number(self.image, entry_of_table);
        let entry_at = table + ((guest >> 12) & 511) * 8;
        if table == 0 || self.is_hit(entry_at, 8) {
            return table != 0;
        }
        match number(self.image, entry_at) {
            0 => false,
            packed if packed >> 63 == 1 => {
                let length = (packed >> 51) & 0xFFF;
                self.is_hit(packed & ((1 << 51) - 1), length)
            }
            plain => self.is_hit(plain, 4096),
        }
    }
}
