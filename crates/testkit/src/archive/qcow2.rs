//! qcow2 images of an archive: clusters of 64 KiB, every count right.

use std::collections::{BTreeMap, BTreeSet};

use super::content::{Content, Written, clusters_of, small};

const BITS: u8 = 16;
const CLUSTER: u64 = 1 << BITS;

/// Entries of an L2 table.
const ENTRIES: u64 = CLUSTER / 8;

/// Says that a cluster is counted once.
const COPIED: u64 = 1 << 63;

/// Where the table of counts, the counts, the L1 table and the L2 tables are, in clusters.
const COUNT_TABLE: u64 = 1;
const COUNTS: u64 = 2;
const L1: u64 = 3;
const TABLES: u64 = 4;

/// The file of a disk, of which an overlay stores what was written. `base` is empty where there
/// is none.
///
/// # Panics
/// Where the disk is longer than 4 TiB or 2 GiB of it are stored.
pub(super) fn file(
    version: u32,
    content: &Content,
    written: Option<&Written>,
    base: &str,
) -> Vec<u8> {
    let clusters = match written {
        Some(written) => clusters_of(written, BITS),
        None => content.used_clusters(BITS),
    };
    let indices: BTreeSet<u64> = clusters.iter().map(|cluster| cluster / ENTRIES).collect();
    let tables: BTreeMap<u64, u64> =
        indices.into_iter().zip((TABLES..).map(|place| place * CLUSTER)).collect();
    let data = TABLES + tables.len() as u64;
    let end = data + clusters.len() as u64;
    assert!(end <= CLUSTER / 2, "counts of more than one cluster");
    let mut file = File(vec![0; small(end * CLUSTER)]);
    file.0[..104].copy_from_slice(&header(version, content.size)[..104]);
    file.name(version, base);
    file.put(COUNT_TABLE * CLUSTER, COUNTS * CLUSTER);
    for cluster in 0..end {
        let at = small(COUNTS * CLUSTER + cluster * 2);
        file.0[at..at + 2].copy_from_slice(&1u16.to_be_bytes());
    }
    for (index, table) in &tables {
        file.put(L1 * CLUSTER + index * 8, COPIED | table);
    }
    for (cluster, place) in clusters.into_iter().zip(data..) {
        let table = tables[&(cluster / ENTRIES)];
        file.put(table + cluster % ENTRIES * 8, COPIED | (place * CLUSTER));
        let bytes = content.read(cluster * CLUSTER, CLUSTER);
        file.0[small(place * CLUSTER)..][..bytes.len()].copy_from_slice(&bytes);
    }
    file.0
}

struct File(Vec<u8>);

impl File {
    fn put(&mut self, at: u64, number: u64) {
        self.0[small(at)..][..8].copy_from_slice(&number.to_be_bytes());
    }

    /// Names the base behind the header and the end of its extensions.
    fn name(&mut self, version: u32, base: &str) {
        if base.is_empty() {
            return;
        }
        let at = if version == 2 { 72 + 8 } else { 104 + 8 };
        self.put(8, at);
        let length = u32::try_from(base.len()).expect("a name is short");
        self.0[16..20].copy_from_slice(&length.to_be_bytes());
        self.0[small(at)..][..base.len()].copy_from_slice(base.as_bytes());
    }
}

fn header(version: u32, size: u64) -> Vec<u8> {
    let mut header = b"QFI\xFB".to_vec();
    let l1_entries = size.div_ceil(ENTRIES * CLUSTER);
    assert!(l1_entries <= ENTRIES, "an L1 table of more than one cluster");
    header.extend_from_slice(&version.to_be_bytes());
    header.extend_from_slice(&[0; 12]);
    header.extend_from_slice(&u32::from(BITS).to_be_bytes());
    header.extend_from_slice(&size.to_be_bytes());
    header.extend_from_slice(&[0; 4]);
    header.extend_from_slice(&u32::try_from(l1_entries).expect("few").to_be_bytes());
    header.extend_from_slice(&(L1 * CLUSTER).to_be_bytes());
    header.extend_from_slice(&(COUNT_TABLE * CLUSTER).to_be_bytes());
    header.extend_from_slice(&1u32.to_be_bytes());
    header.extend_from_slice(&[0; 12]);
    if version == 3 {
        header.extend_from_slice(&[0; 24]);
        header.extend_from_slice(&4u32.to_be_bytes());
        header.extend_from_slice(&104u32.to_be_bytes());
    }
    header.resize(104, 0);
    header
}
