//! What changing a file where it lies needs: to be alone with it, and a note beside it that says
//! how to go back, which is there before the first change and until the last one.

mod file;
mod journal;
pub mod note;

pub use file::{free_room, open_for_reading, open_for_writing, set_size, size_of, sync};
pub use journal::{FileJournal, FoundNote, Journal, NoJournal, NoteKind, UNDO_RECORD};
pub use note::NoteError;
