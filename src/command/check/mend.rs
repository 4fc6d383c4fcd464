//! What was mended, as lines and as JSON, so that no number of mends takes memory.

use std::fmt::Write;

use calve_repair::{Mend, Mended, Settled, TailKept};
use serde_json::{Value, json};

use super::report::LISTED;

/// How many were told of so far.
#[derive(Default)]
pub(super) struct Mends {
    unallocated: u64,
    copied: u64,
    trimmed: u64,
}

impl Mends {
    /// One more, as text: nothing, where there were many like it already.
    pub(super) fn text(&mut self, mend: &Mend, is_json: bool, lists_all: bool) -> String {
        let is_first = self.total() == 0;
        let count = match mend {
            Mend::Unallocated { .. } => &mut self.unallocated,
            Mend::CopiedApart { .. } => &mut self.copied,
            Mend::Trimmed { .. } => &mut self.trimmed,
        };
        *count += 1;
        if is_json {
            let separator = if is_first { "" } else { "," };
            return format!("{separator}\n        {}", object(mend));
        }
        if lists_all || *count <= LISTED {
            format!("mended: {}\n", line(mend))
        } else {
            String::new()
        }
    }

    /// The end of the list; of the whole document, where nothing follows.
    pub(super) fn end_of_list(&self, goes_on: bool) -> &'static str {
        match (self.total(), goes_on) {
            (0, true) => "]",
            (_, true) => "\n    ]",
            (0, false) => "]\n}\n",
            (_, false) => "\n    ]\n}\n",
        }
    }

    fn total(&self) -> u64 {
        self.unallocated + self.copied + self.trimmed
    }
}

fn line(mend: &Mend) -> String {
    match mend {
        Mend::Unallocated { place, old, guest } => format!(
            "the entry at {:#x} was {:#x} and stands for nothing now: guest bytes {:#x} to {:#x} \
             read as the base has them, or as zeros",
            place.get(),
            u64::from_be_bytes(*old),
            guest.start.get(),
            guest.end().get()
        ),
        Mend::CopiedApart { place, old, new, guest } => format!(
            "the entry at {:#x} shared the cluster at {:#x} and has its own at {:#x} now, for \
             guest byte {:#x}",
            place.get(),
            old.get(),
            new.get(),
            guest.start.get()
        ),
        Mend::Trimmed { at, length } => {
            format!(
                "{length} bytes that nothing referred to are gone: the file ends at {}",
                at.get()
            )
        }
    }
}

fn object(mend: &Mend) -> Value {
    match mend {
        Mend::Unallocated { place, old, guest } => json!({
            "repair": "unallocated",
            "host-offset": place.get(),
            "was": u64::from_be_bytes(*old),
            "start": guest.start.get(),
            "length": guest.length,
        }),
        Mend::CopiedApart { place, old, new, guest } => json!({
            "repair": "copied-apart",
            "host-offset": place.get(),
            "was": old.get(),
            "is": new.get(),
            "start": guest.start.get(),
            "length": guest.length,
        }),
        Mend::Trimmed { at, length } => json!({
            "repair": "trimmed",
            "host-offset": at.get(),
            "length": length,
        }),
    }
}

/// What else became of it, as keys of a document.
pub(super) fn keys(mended: &Mended) -> [(&'static str, Value); 3] {
    let settled = mended.settled.map(|settled| match settled {
        Settled::TakenBack => "taken-back",
        Settled::Finished => "finished",
        Settled::Kept => "kept",
    });
    let tail = mended.tail.map(|why| match why {
        TailKept::Damage => "damage",
        TailKept::Unallocated => "unallocated",
    });
    [
        ("interrupted-repair", json!(settled)),
        ("tail-kept-for", json!(tail)),
        ("shared-clusters-kept", json!(mended.is_cut)),
    ]
}

/// All that was mended, and what was left and why.
pub(super) fn summary(mended: &Mended) -> String {
    let mut text = String::new();
    let settled = mended.settled.map(|settled| match settled {
        Settled::TakenBack => {
            "the last round of a repair that was interrupted was taken back first"
        }
        Settled::Finished => "a repair that was interrupted had done its last round",
        Settled::Kept => {
            "a repair was interrupted and the image written to since: it was taken as it is"
        }
    });
    let tail = mended.tail.map(|why| match why {
        TailKept::Damage => {
            "the room at the end of the file stays: tables are damaged, and it may be theirs; \
             calve rescue and calve carve look into it"
        }
        TailKept::Unallocated => {
            "the room at the end of the file stays: it may be what those entries should have led \
             to; calve carve takes it out, check -r leaks trims it"
        }
    });
    let shared = mended.is_cut.then_some(
        "shared clusters stay: the file ends inside something, and what is missing would read as \
         zeros if it became longer; calve rescue copies what is left",
    );
    for line in settled.into_iter().chain(shared).chain(tail) {
        let _ = writeln!(text, "note: {line}");
    }
    let Mended { unallocated, copied, trimmed, .. } = mended;
    let _ = writeln!(
        text,
        "mended: entries made unallocated: {unallocated}, clusters copied apart: {copied}, bytes \
         trimmed: {trimmed}"
    );
    text
}
