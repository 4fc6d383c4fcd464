//! Version 1 images of an archive, in the layouts of those who wrote such images.

use super::content::{Content, Written, clusters_of};
use super::truth::{Producer, Stored, Version1};
use crate::builder::{Builder, XenOrder};
use crate::pack::deflated;
use crate::random::Random;

/// What roots of families are, one after the other.
pub(super) const ROOTS: [(Producer, Stored); 13] = [
    (Producer::Qemu, Stored::Plain),
    (Producer::Qemu, Stored::Packed),
    (Producer::XenLittleEndian, Stored::Plain),
    (Producer::Qemu, Stored::Encrypted),
    (Producer::VirtualBox, Stored::Plain),
    (Producer::Other, Stored::Plain),
    (Producer::Mkimg, Stored::Plain),
    (Producer::Xen, Stored::Plain),
    (Producer::OldQemu, Stored::Packed),
    (Producer::Aaru, Stored::Plain),
    (Producer::Other, Stored::Encrypted),
    (Producer::XenMixed, Stored::Plain),
    (Producer::Other, Stored::Packed),
];

/// What overlays are, one after the other.
pub(super) const OVERLAYS: [(Producer, Stored); 11] = [
    (Producer::Qemu, Stored::Plain),
    (Producer::OldQemu, Stored::Plain),
    (Producer::Other, Stored::Plain),
    (Producer::Qemu, Stored::Packed),
    (Producer::XenLittleEndian, Stored::Plain),
    (Producer::VirtualBox, Stored::Plain),
    (Producer::OldQemu, Stored::Packed),
    (Producer::Qemu, Stored::Encrypted),
    (Producer::Xen, Stored::Plain),
    (Producer::Other, Stored::Packed),
    (Producer::Other, Stored::Encrypted),
];

/// Geometries that no known writer chooses, all of which QEMU reads.
const OTHER: [(u8, u8); 8] =
    [(16, 6), (10, 10), (9, 6), (14, 8), (16, 13), (11, 9), (13, 10), (9, 13)];

impl Version1 {
    /// An image of this writer.
    pub(super) fn by(
        (producer, stored): (Producer, Stored),
        is_overlay: bool,
        random: &mut Random,
    ) -> Self {
        let (cluster_bits, l2_bits) = match producer {
            Producer::Qemu | Producer::OldQemu if is_overlay => (9, 12),
            Producer::Other => random.one_of(&OTHER),
            _ => (12, 9),
        };
        Self { producer, stored, cluster_bits, l2_bits }
    }

    /// Whether an overlay of this writer has the time of its base.
    pub(super) fn records_time(&self) -> bool {
        use Producer::{OldQemu, Xen, XenLittleEndian, XenMixed};
        matches!(self.producer, OldQemu | Xen | XenLittleEndian | XenMixed)
    }

    /// The file of a disk, of which an overlay stores what was written.
    pub(super) fn file(
        &self,
        content: &Content,
        written: Option<&Written>,
        header: &Header<'_>,
    ) -> Vec<u8> {
        let mut builder = self.begin(content.size, header);
        let bits = self.cluster_bits;
        let clusters = match written {
            Some(written) => clusters_of(written, bits),
            None => content.used_clusters(bits),
        };
        for cluster in clusters {
            let bytes = content.read(cluster << bits, 1 << bits);
            let is_shorter =
                self.stored == Stored::Packed && deflated(&bytes, 12).len() < bytes.len();
            if !is_shorter {
                builder.plain(cluster, &bytes);
                continue;
            }
            builder.table_of(cluster);
            if self.producer == Producer::Qemu {
                // Its block layer has known lengths of whole sectors only since 2.2.
                let end = builder.length().next_multiple_of(512);
                builder.cut(end);
            }
            builder.packed(cluster, &bytes);
        }
        if self.producer == Producer::VirtualBox && !header.base.is_empty() {
            builder = builder.backing(header.base.as_bytes());
        }
        builder.build()
    }

    /// Header, name and L1 table.
    fn begin(&self, size: u64, header: &Header<'_>) -> Builder {
        let mut builder = Builder::new(self.cluster_bits, self.l2_bits, size);
        let (name, cluster) = (header.base.as_bytes(), builder.cluster_size());
        builder = match self.producer {
            Producer::Xen => builder.xen(XenOrder::Big),
            Producer::XenLittleEndian => builder.xen(XenOrder::Little),
            Producer::XenMixed => builder.xen(XenOrder::Mixed),
            Producer::Mkimg => builder.l1_at(4096),
            Producer::VirtualBox => {
                let table = (builder.l1_entries() * 8).next_multiple_of(cluster);
                builder.cut((48 + table).next_multiple_of(cluster));
                builder
            }
            Producer::Other if !name.is_empty() => builder.backing(name),
            _ if name.is_empty() => builder,
            _ => builder.l1_at((48 + name.len() as u64).next_multiple_of(8)),
        };
        let name_at = match self.producer {
            Producer::VirtualBox | Producer::Other => None,
            Producer::Xen | Producer::XenLittleEndian | Producer::XenMixed => Some(64u64),
            _ => Some(48),
        };
        if let Some(at) = name_at.filter(|_| !name.is_empty()) {
            let length = u32::try_from(name.len()).expect("a name is short");
            builder.patch(8, &at.to_be_bytes());
            builder.patch(16, &length.to_be_bytes());
            builder.patch(at, name);
        }
        builder.patch(20, &header.time.to_be_bytes());
        if let Some(passphrase) = header.passphrase {
            builder = builder.encrypted(passphrase.as_bytes());
        }
        builder.aligned(cluster)
    }
}

/// What stands in the header beside the geometry.
#[derive(Clone, Copy, Default)]
pub(super) struct Header<'a> {
    /// The base's name; empty where there is none.
    pub(super) base: &'a str,
    /// The time field.
    pub(super) time: u32,
    pub(super) passphrase: Option<&'a str>,
}
