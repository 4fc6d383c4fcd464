//! Upgrades where the file lies, beside making a second file.

use std::io;
use std::path::Path;

use calve_testkit::corpus;

use crate::fresh;
use crate::measure::median;

/// The largest image: 200 GiB, of which half is stored.
const HOLLOW: u64 = 200 << 30;

/// Upgrades of a plain and a packed image, and of one so large that only its tables are real.
pub(crate) fn table(folder: &Path, calve: &str, rounds: usize) -> io::Result<String> {
    let mut text = String::from(
        "\nUpgrades where the file lies, with verification:\n\n\
         | image | calve upgrade s | written MiB | of the tables' size % | peak MiB | better qemu-img s | \
         qemu-img / calve | cp s | undo s |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for source in ["plain.qcow", "packed.qcow"] {
        text += &row(folder, calve, rounds, source, true)?;
    }
    corpus::write_hollow(&folder.join("hollow.qcow"), HOLLOW, 10)?;
    text += &row(folder, calve, rounds, "hollow.qcow", false)?;
    std::fs::remove_file(folder.join("hollow.qcow"))?;
    Ok(text)
}

fn row(
    folder: &Path,
    calve: &str,
    rounds: usize,
    source: &str,
    has_peers: bool,
) -> io::Result<String> {
    let plan = std::process::Command::new(calve)
        .current_dir(folder)
        .args(["upgrade", "--dry-run", "--output", "json", source])
        .output()?;
    let plan: serde_json::Value = serde_json::from_slice(&plan.stdout)?;
    let bytes = |key: &str| plan[key].as_f64().unwrap_or(f64::NAN);
    let tables = bytes("l2-bytes") + bytes("l1-bytes") + bytes("refcount-bytes");
    let (mut ours, mut undone, mut peers) = (Vec::new(), Vec::new(), [vec![], vec![], vec![]]);
    let lines = [
        format!("qemu-img convert -O qcow2 {source} target"),
        format!("qemu-img convert -m 16 -W -O qcow2 {source} target"),
        format!("cp --sparse=always {source} target"),
    ];
    let (mut written, mut peak) = (0.0, 0);
    for round in 0..=rounds {
        let run = fresh(folder, &format!("{calve} upgrade -q {source}"))?;
        let back = fresh(folder, &format!("{calve} upgrade -q --undo {source}"))?;
        let mut others = Vec::new();
        for line in lines.iter().filter(|_| has_peers) {
            others.push(fresh(folder, line)?.wall);
        }
        if round == 0 {
            continue;
        }
        ours.push(run.wall);
        undone.push(back.wall);
        others.iter().zip(&mut peers).for_each(|(wall, peer)| peer.push(*wall));
        #[expect(clippy::cast_precision_loss, reason = "a megabyte needs no 53 bits")]
        let now = run.written as f64;
        (written, peak) = (now, peak.max(run.peak));
    }
    let (ours, undone) = (median(ours), median(undone));
    let [serial, parallel, copied] = peers.map(median);
    let better = serial.min(parallel);
    let beside = match has_peers {
        true => format!("{better:.2} | {:.0}x | {copied:.2}", better / ours),
        false => "| | ".into(),
    };
    Ok(format!(
        "| {source} | {ours:.3} | {:.1} | {:.0} | {} | {beside} | {undone:.3} |\n",
        written / f64::from(1 << 20),
        written / tables * 100.0,
        peak >> 10,
    ))
}
