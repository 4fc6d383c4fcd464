//! Writes the first inputs of all targets, or of those that are named, for libFuzzer:
//! `cargo run -p calve-fuzzing --example corpus FOLDER [TARGET...]`, into `FOLDER/TARGET`.

use std::io;
use std::path::Path;

use calve_fuzzing::{TARGETS, Target, seed, targets};

/// Inputs of each target: all special cases, several times each.
const COUNT: u64 = 300;

fn main() -> io::Result<()> {
    let mut words = std::env::args().skip(1);
    let folder = words.next().expect("a folder to write to");
    let named: Vec<Target> = words.map(|name| *targets::named(&name)).collect();
    for target in if named.is_empty() { TARGETS } else { &named } {
        let folder = Path::new(&folder).join(target.name);
        std::fs::create_dir_all(&folder)?;
        for number in 0..COUNT {
            let name = format!("seed-{number:03}");
            std::fs::write(folder.join(name), seed(target.kind, number))?;
        }
    }
    Ok(())
}
