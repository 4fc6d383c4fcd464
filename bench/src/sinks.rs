//! Reading alone: every byte of the disk is made and nothing is written.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use calve_disk::units::GuestRange;
use calve_disk::{Disk, OpenOptions, Scratch};

use crate::measure::{self, median};
use crate::programs::Program;

/// Bytes that a thread asks for at once.
const BATCH: u64 = 2 << 20;

fn open(path: &Path) -> io::Result<Disk> {
    let options = OpenOptions { with_bases: true, ..OpenOptions::default() };
    Disk::open(path, &options).map_err(io::Error::other)
}

/// Seconds that reading the whole disk takes on so many threads.
fn read(path: &Path, threads: usize) -> io::Result<f64> {
    let disk = open(path)?;
    let (size, next) = (disk.virtual_size(), AtomicU64::new(0));
    let work = || -> calve_disk::Result<()> {
        let (mut scratch, mut data) = (Scratch::default(), vec![0; 2 << 20]);
        loop {
            let start = next.fetch_add(BATCH, Ordering::Relaxed);
            if start >= size {
                return Ok(());
            }
            let extents = disk.extents(GuestRange::at(start, BATCH.min(size - start)));
            let extents = extents.collect::<calve_disk::Result<Vec<_>>>()?;
            let length = usize::try_from(BATCH.min(size - start)).unwrap_or_default();
            disk.read_whole(&extents, &mut scratch, &mut data[..length])?;
        }
    };
    let start = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or(Ok(())))
    })
    .map_err(io::Error::other)?;
    Ok(start.elapsed().as_secs_f64())
}

/// calve's reader beside the programs that can throw away what they read.
pub(crate) fn table(folder: &Path, rounds: usize, threads: usize) -> io::Result<String> {
    let mut text = String::from(
        "\nReading alone, nothing written, in seconds:\n\n\
         | image | calve's library | qemu-img -m 16 -W to null-co | nbdcopy to null: | 7z x -so |\n\
         |---|---:|---:|---:|---:|\n",
    );
    for source in ["plain.qcow", "scattered.qcow", "packed.qcow", "overlay.qcow"] {
        let size = open(&folder.join(source))?.virtual_size();
        let lines = [
            Some(format!(
                "qemu-img convert -n -m 16 -W -f qcow --target-image-opts {source} \
                 driver=null-co,size={size}"
            )),
            Program::Nbdcopy
                .is_there()
                .then(|| format!("nbdcopy -- [ qemu-nbd -r -f qcow {source} ] null:")),
            (Program::SevenZip.is_there() && source == "plain.qcow")
                .then(|| format!("{} x -so {source}", Program::seven_zip())),
        ];
        let (mut ours, mut theirs) = (Vec::new(), lines.each_ref().map(|_| Vec::new()));
        for _ in 0..rounds {
            ours.push(read(&folder.join(source), threads)?);
            for (line, took) in lines.iter().zip(&mut theirs) {
                if let Some(line) = line {
                    took.push(measure::run(folder, line)?.wall);
                }
            }
        }
        let [qemu, nbdcopy, seven] = theirs.map(|took| match took.is_empty() {
            true => "-".to_owned(),
            false => format!("{:.3}", median(took)),
        });
        text += &format!("| {source} | {:.3} | {qemu} | {nbdcopy} | {seven} |\n", median(ours));
    }
    Ok(text)
}
