//! QCOW version 1. `docs/qcow1.md` is the document behind this folder; Q numbers are its rules.

/// What a version 1 image has to tell beyond [`crate::Facts`].
#[derive(Clone, Debug)]
pub struct Qcow1Facts {
    /// log2 of the cluster size.
    pub cluster_bits: u8,
    /// log2 of the number of entries in an L2 table.
    pub l2_bits: u8,
    /// Where the L1 table begins.
    pub l1_at: u64,
    /// How many entries the L1 table has.
    pub l1_entries: u64,
    /// The header's mtime field: seconds since 1970, 0 where none was recorded.
    pub mtime: u32,
    /// Whose dialect the file is in.
    pub dialect: Dialect,
    /// Who probably wrote the file, as far as its layout tells.
    pub producer: &'static str,
}

/// The dialects of version 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// As QEMU writes it: everything big-endian.
    Qemu,
    /// Xen's tapdisk, with its extended header and a big-endian L1 table.
    Xen,
    /// Xen's tapdisk before 2008: the L1 table, or part of it, is little-endian.
    XenLittleEndian,
}
