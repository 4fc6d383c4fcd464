//! Builds version 1 images byte by byte, legal ones and others.

use std::collections::BTreeMap;

use crate::pack::{Encryption, deflated};

/// The order of the L1 table's bytes in an image of Xen's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XenOrder {
    /// As the header is.
    Big,
    /// As the host was.
    Little,
    /// Every second entry in either order.
    Mixed,
}

/// A version 1 image that is being built.
///
/// Clusters are put behind what is there already, so that the order of calls is the order in the
/// file; [`Builder::entry`] and [`Builder::patch`] make anything else of it.
#[derive(Clone)]
pub struct Builder {
    cluster_bits: u8,
    l2_bits: u8,
    size: u64,
    l1_at: u64,
    tables: BTreeMap<u64, u64>,
    order: XenOrder,
    encryption: Option<Encryption>,
    alignment: u64,
    window_bits: u8,
    bytes: Vec<u8>,
}

const PACKED: u64 = 1 << 63;

impl Builder {
    /// An empty image in QEMU's layout: the L1 table right behind the header.
    pub fn new(cluster_bits: u8, l2_bits: u8, size: u64) -> Self {
        let mut builder = Self {
            cluster_bits,
            l2_bits,
            size,
            l1_at: 48,
            tables: BTreeMap::new(),
            order: XenOrder::Big,
            encryption: None,
            alignment: 512,
            window_bits: 12,
            bytes: vec![0; 48],
        };
        builder.patch(0, b"QFI\xFB\0\0\0\x01");
        builder.patch(24, &size.to_be_bytes());
        builder.patch(32, &[cluster_bits, l2_bits]);
        builder.l1_at(48)
    }

    /// Moves the L1 table, which must still be empty.
    #[must_use]
    pub fn l1_at(mut self, at: u64) -> Self {
        self.l1_at = at;
        self.patch(40, &at.to_be_bytes());
        let end = at + self.l1_entries() * 8;
        self.grow_to(end);
        self
    }

    /// Encrypts all plain clusters that follow.
    #[must_use]
    pub fn encrypted(mut self, passphrase: &[u8]) -> Self {
        self.patch(36, &1u32.to_be_bytes());
        self.encryption = Some(Encryption::new(passphrase));
        self
    }

    /// Names a backing file, behind all that is there.
    #[must_use]
    pub fn backing(mut self, name: &[u8]) -> Self {
        let at = self.bytes.len() as u64;
        let length = u32::try_from(name.len()).expect("a name is short");
        self.patch(8, &at.to_be_bytes());
        self.patch(16, &length.to_be_bytes());
        self.patch(at, name);
        self
    }

    /// Makes it an image of Xen's tapdisk: its magic behind the header, the L1 table at 4096.
    #[must_use]
    pub fn xen(mut self, order: XenOrder) -> Self {
        self.order = order;
        self.patch(48, b"XEN\xFB");
        self.patch(56, &512u32.to_be_bytes());
        self.l1_at(4096)
    }

    /// Aligns tables and plain clusters that follow to `alignment` bytes; 512 at first.
    #[must_use]
    pub fn aligned(mut self, alignment: u64) -> Self {
        self.alignment = alignment;
        self
    }

    /// Packs clusters that follow with a window of `2^bits` bytes; 12 at first, as QEMU does.
    #[must_use]
    pub fn window(mut self, bits: u8) -> Self {
        self.window_bits = bits;
        self
    }

    /// Bytes of a cluster.
    pub fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Entries of the L1 table.
    pub fn l1_entries(&self) -> u64 {
        self.size.div_ceil(1 << (self.cluster_bits + self.l2_bits))
    }

    /// Entries of an L2 table.
    pub fn l2_entries(&self) -> u64 {
        1 << self.l2_bits
    }

    /// The host bytes of the L1 table.
    pub fn l1_range(&self) -> std::ops::Range<u64> {
        self.l1_at..self.l1_at + self.l1_entries() * 8
    }

    /// Where the L2 tables are, in the order of the disk.
    pub fn tables(&self) -> Vec<u64> {
        self.tables.values().copied().collect()
    }

    /// How long the file is so far.
    pub fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Stores a cluster plainly, or encrypted, and says where. `content` may be shorter than a
    /// cluster; zeros follow it.
    pub fn plain(&mut self, cluster: u64, content: &[u8]) -> u64 {
        self.table_of(cluster);
        let at = self.bytes.len() as u64;
        let at = at.next_multiple_of(self.alignment);
        self.plain_at(cluster, content, at);
        at
    }

    /// Stores a cluster at a place of the file, whatever may be there.
    pub fn plain_at(&mut self, cluster: u64, content: &[u8], at: u64) {
        let mut bytes = content.to_vec();
        bytes.resize(usize::try_from(self.cluster_size()).expect("64 KiB at most"), 0);
        if let Some(encryption) = &self.encryption {
            encryption.encrypt(&mut bytes, (cluster << self.cluster_bits) / 512);
        }
        self.patch(at, &bytes);
        self.entry(cluster, at);
    }

    /// Stores a cluster packed, right behind what is there, and says where and how long.
    pub fn packed(&mut self, cluster: u64, content: &[u8]) -> (u64, u64) {
        let mut bytes = content.to_vec();
        bytes.resize(usize::try_from(self.cluster_size()).expect("64 KiB at most"), 0);
        let stream = deflated(&bytes, self.window_bits);
        self.stream(cluster, &stream, stream.len() as u64)
    }

    /// Stores any bytes as a packed cluster that claims to have `length` of them.
    pub fn stream(&mut self, cluster: u64, stream: &[u8], length: u64) -> (u64, u64) {
        self.table_of(cluster);
        let at = self.bytes.len() as u64;
        self.patch(at, stream);
        self.entry(cluster, self.packed_entry(at, length));
        (at, length)
    }

    /// The L2 entry of a packed cluster.
    pub fn packed_entry(&self, at: u64, length: u64) -> u64 {
        PACKED | length << (63 - self.cluster_bits) | at
    }

    /// Sets a cluster's L2 entry, and says where it stands.
    pub fn entry(&mut self, cluster: u64, raw: u64) -> u64 {
        let table = self.table_of(cluster);
        let at = table + cluster % (1 << self.l2_bits) * 8;
        self.patch(at, &raw.to_be_bytes());
        at
    }

    /// Where the L2 table of a cluster stands; it is made where there is none.
    pub fn table_of(&mut self, cluster: u64) -> u64 {
        let index = cluster >> self.l2_bits;
        if let Some(at) = self.tables.get(&index) {
            return *at;
        }
        let at = (self.bytes.len() as u64).next_multiple_of(self.alignment);
        self.table_at(index, at);
        at
    }

    /// Makes an L2 table at a place of the file.
    pub fn table_at(&mut self, index: u64, at: u64) {
        self.tables.insert(index, at);
        self.grow_to(at + (8 << self.l2_bits));
        self.l1_entry(index, at);
    }

    /// Sets an L1 entry in the order of the image, and says where it stands.
    pub fn l1_entry(&mut self, index: u64, raw: u64) -> u64 {
        let is_little = match self.order {
            XenOrder::Big => false,
            XenOrder::Little => true,
            XenOrder::Mixed => index % 2 == 1,
        };
        let bytes = if is_little { raw.swap_bytes() } else { raw }.to_be_bytes();
        let at = self.l1_at + index * 8;
        self.patch(at, &bytes);
        at
    }

    /// Puts bytes anywhere.
    pub fn patch(&mut self, at: u64, bytes: &[u8]) {
        let end = at + bytes.len() as u64;
        self.grow_to(end);
        let start = usize::try_from(at).expect("a small file");
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// Makes the file `length` bytes long, shorter or longer.
    pub fn cut(&mut self, length: u64) {
        self.bytes.resize(usize::try_from(length).expect("a small file"), 0);
    }

    /// The file.
    pub fn build(self) -> Vec<u8> {
        self.bytes
    }

    fn grow_to(&mut self, end: u64) {
        let end = usize::try_from(end).expect("a small file");
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
    }
}
