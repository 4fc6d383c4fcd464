//! Checks, beside what stock QEMU takes to check the same disk as qcow2.

use std::io;
use std::path::Path;

use crate::fresh;
use crate::measure::{Run, median};

/// Images that are checked, and what makes twins of the same kind.
const IMAGES: [(&str, &str); 3] =
    [("plain.qcow", ""), ("scattered.qcow", ""), ("packed.qcow", "-c")];

/// Checks of each image, with and without reading its payloads, and of its twins: qcow2 images
/// with the same disk, in clusters of the same size and of the size that QEMU takes by itself.
/// QEMU writes them in the order of the guest, so that they are easier to check than what is
/// scattered.
pub(crate) fn table(folder: &Path, calve: &str, rounds: usize) -> io::Result<String> {
    let mut text = String::from(
        "\nChecks of version 1 images, and of the same disks as qcow2:\n\n\
         | image | calve check s | check --deep s | peak MiB | qemu-img check, 4 KiB clusters s | \
         64 KiB clusters s | 4 KiB / calve | 64 KiB / calve |\n|---|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for (source, options) in IMAGES {
        for size in ["4k", "64k"] {
            let made = format!(
                "qemu-img convert {options} -O qcow2 -o cluster_size={size} {source} twin-{size}.qcow2"
            );
            fresh(folder, &made)?;
        }
        text += &row(folder, calve, rounds, source)?;
        for size in ["4k", "64k"] {
            std::fs::remove_file(folder.join(format!("twin-{size}.qcow2")))?;
        }
    }
    Ok(text)
}

fn row(folder: &Path, calve: &str, rounds: usize, source: &str) -> io::Result<String> {
    let lines = [
        format!("{calve} check {source}"),
        format!("{calve} check --deep {source}"),
        "qemu-img check twin-4k.qcow2".into(),
        "qemu-img check twin-64k.qcow2".into(),
    ];
    let mut took = lines.each_ref().map(|_| Vec::new());
    for round in 0..=rounds {
        for (line, took) in lines.iter().zip(&mut took) {
            let run = fresh(folder, line)?;
            if round > 0 {
                took.push(run);
            }
        }
    }
    let peak = took[0].iter().map(|run| run.peak).max().unwrap_or_default() >> 10;
    let wall = |runs: &Vec<Run>| median(runs.iter().map(|run| run.wall).collect());
    let [plain, deep, small, large] = took.each_ref().map(wall);
    Ok(format!(
        "| {source} | {plain:.3} | {deep:.3} | {peak} | {small:.3} | {large:.3} | {:.1}x | {:.1}x |\n",
        small / plain,
        large / plain
    ))
}
