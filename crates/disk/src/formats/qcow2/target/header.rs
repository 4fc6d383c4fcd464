//! The header as it is written: version 3, no feature bits, all of it in cluster 0.

use zerocopy::IntoBytes;
use zerocopy::big_endian::{U32, U64};

use super::RecordedBacking;
use crate::formats::qcow2::header::{
    BACKING_FORMAT, CRYPT_AES, CRYPT_NONE, END, HEADER_LENGTH, MAGIC, RawHeader,
};
use crate::limits;
use crate::units::{ClusterSize, HostOffset, in_memory};

/// Counters of 16 bits.
const REFCOUNT_ORDER: u32 = 4;

/// The longest name of a backing format that QEMU reads, in bytes.
const MAX_BACKING_FORMAT: usize = 15;

/// What comes behind the header's fields: the extensions, then the backing file's name.
pub(in crate::formats::qcow2) struct Extensions {
    bytes: Vec<u8>,
    name_length: u32,
}

impl Extensions {
    /// The extensions of an image over `backing`, or why they cannot be had.
    pub(in crate::formats::qcow2) fn new(
        backing: Option<&RecordedBacking>,
        cluster_size: ClusterSize,
    ) -> Result<Self, String> {
        let mut bytes = Vec::new();
        if let Some(backing) = backing {
            check(backing)?;
            push(&mut bytes, BACKING_FORMAT, backing.format.as_bytes());
        }
        push(&mut bytes, END, &[]);
        let Some(backing) = backing else { return Ok(Self { bytes, name_length: 0 }) };
        let before = u64::from(HEADER_LENGTH) + bytes.len() as u64;
        let room = (cluster_size.bytes() - before).min(limits::MAX_BACKING_NAME);
        match u32::try_from(backing.name.len()) {
            Ok(name_length) if u64::from(name_length) <= room => {
                bytes.extend_from_slice(&backing.name);
                Ok(Self { bytes, name_length })
            }
            _ => Err(format!(
                "the name of the backing file has {} bytes; a qcow2 image with clusters of {} \
                 bytes has room for {room}",
                backing.name.len(),
                cluster_size.bytes()
            )),
        }
    }

    /// Where the header, its extensions and the name end.
    pub(in crate::formats::qcow2) fn end(&self) -> u64 {
        u64::from(HEADER_LENGTH) + self.bytes.len() as u64
    }

    /// All that is written to cluster 0. Nothing is written behind it: the rest is never read.
    pub(in crate::formats::qcow2) fn header(&self, fields: &Fields) -> Vec<u8> {
        let name_at = match self.name_length {
            0 => 0,
            length => self.end() - u64::from(length),
        };
        let table_clusters = u32::try_from(fields.refcount_table_clusters).expect("at most 8 MiB");
        let header = RawHeader {
            magic: MAGIC,
            version: U32::new(3),
            backing_name_at: U64::new(name_at),
            backing_name_length: U32::new(self.name_length),
            cluster_bits: U32::new(u32::from(fields.cluster_size.bits())),
            size: U64::new(fields.virtual_size),
            crypt_method: U32::new(if fields.is_encrypted { CRYPT_AES } else { CRYPT_NONE }),
            l1_entries: U32::new(fields.l1_entries),
            l1_at: U64::new(fields.l1_at.get()),
            refcount_table_at: U64::new(fields.refcount_table_at.get()),
            refcount_table_clusters: U32::new(table_clusters),
            snapshots: U32::new(0),
            snapshots_at: U64::new(0),
            incompatible: U64::new(0),
            compatible: U64::new(0),
            autoclear: U64::new(0),
            refcount_order: U32::new(REFCOUNT_ORDER),
            header_length: U32::new(HEADER_LENGTH),
            compression_type: 0,
            padding: [0; 7],
        };
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(&self.bytes);
        bytes
    }
}

/// What the header says of an image.
pub(in crate::formats::qcow2) struct Fields {
    pub(in crate::formats::qcow2) cluster_size: ClusterSize,
    pub(in crate::formats::qcow2) virtual_size: u64,
    pub(in crate::formats::qcow2) is_encrypted: bool,
    pub(in crate::formats::qcow2) l1_entries: u32,
    pub(in crate::formats::qcow2) l1_at: HostOffset,
    pub(in crate::formats::qcow2) refcount_table_at: HostOffset,
    pub(in crate::formats::qcow2) refcount_table_clusters: u64,
}

fn push(bytes: &mut Vec<u8>, kind: u32, data: &[u8]) {
    let length = u32::try_from(data.len()).expect("a format name is short");
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
}

fn check(backing: &RecordedBacking) -> Result<(), String> {
    if backing.name.is_empty() || backing.name.contains(&0) {
        return Err("the name of a backing file is at least one byte, none of them zero".into());
    }
    if backing.format.is_empty() || backing.format.len() > MAX_BACKING_FORMAT {
        return Err(format!(
            "the name of a backing file's format has 1 to {MAX_BACKING_FORMAT} bytes"
        ));
    }
    Ok(())
}

/// The length to which a table that does not fill its clusters is padded, so that it can be
/// written past the page cache.
pub(in crate::formats::qcow2) fn padded(mut bytes: Vec<u8>, cluster_size: ClusterSize) -> Vec<u8> {
    let unit = in_memory(cluster_size.bytes().min(4096));
    bytes.resize(bytes.len().next_multiple_of(unit), 0);
    bytes
}
