//! Timeline: what was written first comes first in the file.
//!
//! Writers of version 1 only ever append, so the order of clusters and tables in the file is the
//! order in which each was written for the first time. A converter writes from front to back
//! whatever the guest once did, so the order has to be judged before it is believed.

use std::io::{self, Write};

use calve_disk::formats::qcow1::{Dialect, Qcow1Facts};
use calve_disk::units::{GuestRange, HostOffset};
use calve_disk::{Claim, Image, Owner, Result, Specific};

use crate::report::Sink;
use crate::require_claims;

/// Something that was written at one time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// Its number, from 1 on.
    pub sequence: u64,
    /// Where it lies in the file.
    pub at: HostOffset,
    /// How many bytes of the file.
    pub length: u64,
    /// What it is.
    pub kind: EventKind,
    /// The guest bytes that it stores; of a table those that it covers.
    pub guest: GuestRange,
}

/// What was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventKind {
    /// An L2 table.
    Table,
    /// Clusters that follow one another on the disk too.
    Data,
    /// One packed cluster.
    Packed,
}

impl EventKind {
    /// The kind in one word.
    pub const fn word(self) -> &'static str {
        match self {
            EventKind::Table => "table",
            EventKind::Data => "data",
            EventKind::Packed => "packed",
        }
    }

    fn of(owner: Owner) -> Option<Self> {
        match owner {
            Owner::L2 => Some(Self::Table),
            Owner::Data => Some(Self::Data),
            Owner::Packed => Some(Self::Packed),
            Owner::Header | Owner::Extension | Owner::Name | Owner::L1 => None,
        }
    }
}

/// Tells of everything that was written, in the order of the file.
///
/// # Errors
/// [`calve_disk::Error::Unsupported`] where the image is not version 1; where the host fails; what
/// `tell` says.
pub fn timeline(image: &dyn Image, tell: &mut dyn FnMut(&Event) -> Result<()>) -> Result<()> {
    require_claims(image)?;
    let mut sequence = 0;
    image.claims(&mut |Claim { at, length, owner, guest, .. }| {
        let Some(kind) = EventKind::of(owner) else { return Ok(()) };
        sequence += 1;
        tell(&Event { sequence, at, length, kind, guest })
    })?;
    Ok(())
}

/// Of so many steps one may go backwards where the order is still called the guest's.
const NEARLY: u64 = 100;

/// How the order of the file compares with the order of the disk.
#[derive(Clone, Debug)]
pub struct Order {
    /// Steps from one run of clusters to the next.
    pub steps: u64,
    /// How many of them go to a lower guest offset.
    pub backward: u64,
    /// What is particular to the program that wrote the file, if anything.
    pub producer: Option<&'static str>,
}

impl Order {
    /// Whether all or nearly all clusters lie in the order of the disk.
    pub fn is_of_guest(&self) -> bool {
        self.backward * NEARLY <= self.steps
    }

    /// The judgement, in sentences.
    pub fn judgement(&self) -> String {
        let Self { steps, backward, .. } = self;
        let found = match (self.is_of_guest(), *steps) {
            (_, 0) => "there are fewer than two runs of clusters, so that there is no order to \
                       tell of"
                .to_owned(),
            (true, _) => format!(
                "host order is guest order ({backward} of {steps} steps go backwards): the file \
                 came out of a converter or was written from front to back, and its order says \
                 nothing of when the guest wrote what"
            ),
            (false, _) => format!(
                "{backward} of {steps} steps from one run of clusters to the next go backwards on \
                 the disk: host order is the order in which clusters were first written"
            ),
        };
        let limits = "It does not tell of writes to clusters that were there already, nor of times";
        let producer = self.producer.map(|text| format!(". {text}")).unwrap_or_default();
        format!("{found}. {limits}{producer}")
    }
}

/// Compares the order of the file with the order of the disk.
///
/// # Errors
/// As of [`timeline`].
pub fn judge(image: &dyn Image) -> Result<Order> {
    let mut order = Order { steps: 0, backward: 0, producer: producer(image) };
    let mut before: Option<GuestRange> = None;
    timeline(image, &mut |event| {
        if event.kind != EventKind::Table
            && let Some(before) = before.replace(event.guest)
        {
            order.steps += 1;
            order.backward += u64::from(event.guest.start < before.end());
        }
        Ok(())
    })?;
    Ok(order)
}

/// What is to be known of the writer beside that it appends.
fn producer(image: &dyn Image) -> Option<&'static str> {
    let Specific::Qcow1(Qcow1Facts { dialect, producer, .. }) = &image.facts().specific else {
        return None;
    };
    match (*producer, *dialect) {
        (_, Dialect::Xen | Dialect::XenLittleEndian) => Some(
            "Xen's tapdisk can make an L2 table and the room of all its clusters at once, in guest \
             order and before anything is written to them",
        ),
        ("FreeBSD mkimg", _) => Some(
            "FreeBSD mkimg writes all L2 tables first and then all clusters in guest order: the \
             order is its own",
        ),
        (name, _) if name.starts_with("VirtualBox") => Some(
            "VirtualBox rounds the end of the file up to 512 bytes only when it opens it anew, so \
             that a change of alignment marks another session",
        ),
        _ => None,
    }
}

/// Writes the timeline as comma-separated values (RFC 4180), below a comment that holds the
/// judgement. Every field is a number or a word of ours, so that no spreadsheet takes one for a
/// formula.
///
/// # Errors
/// As of [`timeline`], and where `out` fails.
pub fn csv(image: &dyn Image, order: &Order, out: &mut dyn Write) -> Result<()> {
    let mut sink = Sink::new(out);
    sink.write(|out| {
        write!(out, "# {}\r\n", order.judgement())?;
        out.write_all(b"sequence,host_offset,host_length,kind,guest_offset,guest_length\r\n")
    })?;
    timeline(image, &mut |event| {
        let Event { sequence, at, length, kind, guest } = *event;
        let (at, kind, start) = (at.get(), kind.word(), guest.start.get());
        sink.write(|out| {
            write!(out, "{sequence},{at},{length},{kind},{start},{}\r\n", guest.length)
        })
    })?;
    sink.flush()
}

/// Writes the timeline in the body format of the Sleuth Kit, version 3. There are no times: the
/// time of creation is the sequence number.
///
/// # Errors
/// As of [`timeline`], and where `out` fails.
pub fn bodyfile(image: &dyn Image, out: &mut dyn Write) -> Result<()> {
    let mut sink = Sink::new(out);
    timeline(image, &mut |event| sink.write(|out| body_line(event, out)))?;
    sink.flush()
}

/// `MD5|name|inode|mode|UID|GID|size|atime|mtime|ctime|crtime`.
fn body_line(event: &Event, out: &mut dyn Write) -> io::Result<()> {
    let Event { sequence, at, length, kind, guest } = event;
    let word = kind.word();
    writeln!(
        out,
        "0|{word} at host {at} for guest {}+{:#x}|{sequence}|r/r---------|0|0|{length}|0|0|0|\
         {sequence}",
        guest.start, guest.length
    )
}
