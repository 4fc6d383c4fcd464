//! Writes an archive of disk images into a folder, and what is true of it beside the folder:
//! `cargo run --release -p calve-testkit --example archive -- DIR [--images N] [--families M]
//! [--seed S] [--disk BYTES]`, into `DIR` and `truth.json` beside it.

use std::io;
use std::path::PathBuf;

use calve_testkit::archive::Archive;

fn main() -> io::Result<()> {
    let (mut archive, mut folder) = (Archive::default(), None);
    let mut words = std::env::args_os().skip(1);
    while let Some(word) = words.next() {
        let mut number = || -> u64 {
            let number = words.next().and_then(|word| word.to_str()?.parse().ok());
            number.expect("a number behind the option")
        };
        let small = |number: u64| usize::try_from(number).expect("a small number");
        match word.to_str() {
            Some("--images") => archive.images = small(number()),
            Some("--families") => archive.families = small(number()),
            Some("--seed") => archive.seed = number(),
            Some("--disk") => archive.disk = number(),
            _ => folder = Some(PathBuf::from(word)),
        }
    }
    let folder = folder.expect("a folder to write to");
    archive.write(&folder)?.write(&folder.with_file_name("truth.json"))
}
