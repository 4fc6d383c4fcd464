//! Limits: what is read of a file and kept of it, whatever it holds.

/// Bytes at the start of a file by which it is told whether it is text.
pub const START: usize = 8 << 10;

/// Bytes of a text file that is read; longer ones are told as not looked into.
pub const FILE: u64 = 256 << 20;

/// Bytes of an XML file that is parsed as one; longer ones are read line by line.
pub const XML: usize = 4 << 20;

/// Bytes of a line, joined with those that continue it. Longer ones are read piece by piece.
pub const LINE: usize = 64 << 10;

/// Bytes of a line's end in which it is looked for a place between words to cut it.
pub const CUT: usize = 1 << 10;

/// Words and marks of an element of XML in one line of another text.
pub const ELEMENT: usize = 256;

/// Findings of one file that are told one by one.
pub const FINDINGS_IN_FILE: usize = 1000;

/// Findings of a run that are told one by one, and troubles likewise. More are counted.
pub const FINDINGS: usize = 100_000;

/// Characters of a line that are shown with a finding.
pub const SHOWN: usize = 160;

/// Files that wait for whoever takes them down.
pub const WAITING: usize = 256;
