//! File systems whose files can share blocks.

use std::io;
use std::path::Path;

use calve_testkit::Mounted;

use crate::fresh;
use crate::measure::median;

/// Conversions of a plain image beside itself, on each such file system.
pub(crate) fn table(folder: &Path, calve: &str, rounds: usize) -> io::Result<String> {
    let mut text = String::from(
        "\nOn file systems that share blocks, an image of an eighth of the size:\n\n\
         | file system | to | calve s | better qemu-img s | qemu-img / calve |\n|---|---|---:|---:|---:|\n",
    );
    for kind in ["xfs", "btrfs"] {
        let Some(mounted) = Mounted::new(folder, kind, 3 << 30)? else {
            text += &format!("| {kind} | not to be had here | | | |\n");
            continue;
        };
        std::fs::copy(folder.join("part.qcow"), mounted.folder().join("part.qcow"))?;
        for target in ["raw", "qcow2", "qcow2 -o cluster_size=4k"] {
            let lines = [
                format!("{calve} convert -q -O {target} part.qcow target"),
                format!("qemu-img convert -O {target} part.qcow target"),
                format!("qemu-img convert -m 16 -W -O {target} part.qcow target"),
            ];
            let mut took = lines.each_ref().map(|_| Vec::new());
            for _ in 0..=rounds {
                for (line, took) in lines.iter().zip(&mut took) {
                    took.push(fresh(mounted.folder(), line)?.wall);
                }
            }
            let [ours, serial, parallel] = took.map(median);
            let better = serial.min(parallel);
            text += &format!(
                "| {kind} | {target} | {ours:.3} | {better:.3} | {:.0}x |\n",
                better / ours
            );
        }
    }
    Ok(text)
}
