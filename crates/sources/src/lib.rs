//! Finding who still makes version 1 images: places in scripts, definitions of machines and
//! settings that make such images or name them.
//!
//! [`audit`] walks folders, [`look()`] reads one open file. Text is taken apart into words, and the
//! rules ([`Rule`]) speak of words in a context: of an option behind a command, of a setting with
//! a name, of an attribute of an element. The word alone is no finding, and `qcow2` is another
//! word.
//!
//! Nothing is written, nothing is run, and nothing is followed that is a symbolic link.

mod commands;
mod finding;
mod kind;
mod lines;
mod look;
mod markup;
mod rule;
mod settings;
mod walk;
mod words;

pub mod limits;

pub use finding::{Finding, Looked, Unread};
pub use look::look;
pub use rule::{Rule, Weight};
pub use walk::{AuditOptions, Event, audit};
