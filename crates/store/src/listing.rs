//! Which objects there are below a name, page by page.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use calve_inplace::NoteKind;
use jiff::Timestamp;
use ureq::http::Method;

use crate::client::Store;
use crate::document::{self, Entry, Page};
use crate::error::{Error, Kind, Result};
use crate::limits::{EMPTY_PAGES, LONGEST_PAGE, PAGE};
use crate::name::{Folder, ObjectName};
use crate::object::Tag;
use crate::request::{Failed, Request};
use crate::signing;

/// An object as a list has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Its name, which a list may have though no object can be asked for by it.
    pub path: PathBuf,
    /// Its length in bytes.
    pub size: u64,
    /// The tag of its content, where the list says it.
    pub tag: Option<Tag>,
    /// When it was written: nanoseconds since 1970, and 0 where the list does not say it.
    pub modified: i64,
    /// A number of the store and the bucket that it is in.
    pub place: u64,
    /// Whether the note lies beside it that was asked for.
    pub has_note: bool,
    key: String,
}

impl Listed {
    /// A number of its tag.
    pub fn number(&self) -> u64 {
        signing::number(self.tag.as_ref().map_or("", Tag::as_str))
    }
}

/// All objects of a folder, in no particular order, each once. A failure is the last that it
/// tells.
pub struct Listing {
    store: Arc<Store>,
    folder: Folder,
    bucket: ObjectName,
    place: u64,
    note: NoteKind,
    stage: Stage,
    token: Option<String>,
    empty_pages: u32,
    has_any: bool,
    pairing: Pairing,
    ready: VecDeque<Listed>,
}

enum Stage {
    /// The object that is called as the folder is.
    Exact,
    /// What lies below.
    Below,
    Over,
}

impl Listing {
    /// Lists a folder. Notes of this kind are looked for beside each object.
    pub fn new(store: &Arc<Store>, folder: Folder, note: NoteKind) -> Self {
        let bucket = folder.bucket();
        let stage = if folder.key().is_empty() { Stage::Below } else { Stage::Exact };
        Self {
            store: Arc::clone(store),
            place: store.number_of(bucket.bucket()),
            bucket,
            folder,
            note,
            stage,
            token: None,
            empty_pages: 0,
            has_any: false,
            pairing: Pairing::default(),
            ready: VecDeque::new(),
        }
    }

    /// The object that is called as the folder is, without those whose keys are only longer.
    fn exact(&mut self) -> Result<()> {
        self.stage = Stage::Below;
        let key = self.folder.key().to_owned();
        if let Some(entry) = self.first(&key)? {
            self.has_any = true;
            let mut listed = self.listed(entry);
            listed.has_note = self.first(&format!("{key}{}", self.note.suffix))?.is_some();
            self.ready.push_back(listed);
        }
        Ok(())
    }

    /// The object of this key: the first of all whose keys begin so, where there is one.
    fn first(&self, key: &str) -> Result<Option<Entry>> {
        let page = self.page(key, 1, None)?;
        if page.entries.is_empty() && page.is_cut != Some(false) {
            return Err(self.odd("what a key begins with is the first in a list of that Prefix"));
        }
        Ok(page.entries.into_iter().next().filter(|entry| entry.key == key))
    }

    /// The next page of what lies below.
    fn below(&mut self) -> Result<()> {
        let prefix = match self.folder.key() {
            "" => String::new(),
            key => format!("{key}/"),
        };
        let token = self.token.take();
        let page = self.page(&prefix, PAGE, token.as_deref())?;
        self.has_any |= !page.entries.is_empty();
        self.empty_pages = if page.entries.is_empty() { self.empty_pages + 1 } else { 0 };
        for entry in page.entries {
            if !entry.key.starts_with(&prefix) {
                return Err(self.odd("keys of a list begin with the Prefix that was asked for"));
            }
            let listed = self.listed(entry);
            // So a list ends, and nothing is in it twice.
            if !self.pairing.take(listed, self.note.suffix, &mut self.ready) {
                return Err(self.odd("keys of a list are in order, and each comes once"));
            }
        }
        // A token alone says that there are more.
        let is_cut = page.is_cut.unwrap_or(page.token.is_some());
        if page.is_cut.is_none() && !is_cut {
            return Err(self.odd("a list says in IsTruncated whether there are more objects"));
        }
        if !is_cut {
            self.stage = Stage::Over;
            self.pairing.end(&mut self.ready);
            if !self.has_any && !self.folder.key().is_empty() {
                let why = "failed: there is no such object, and none below it";
                return Err(Error::new(Kind::Missing, &self.folder.path(), "listing it", why));
            }
            return Ok(());
        }
        if page.token.is_none() {
            return Err(self.odd("a list that goes on has a NextContinuationToken"));
        }
        if self.empty_pages >= EMPTY_PAGES {
            return Err(self.odd("a list that goes on has objects in one of 1000 pages"));
        }
        self.token = page.token;
        Ok(())
    }

    /// That the store broke a rule of lists.
    fn odd(&self, rule: &str) -> Error {
        let why = format!("was answered by {} against the rule: {rule}", self.store.told());
        Error::new(Kind::NoList, &self.folder.path(), "listing it", why)
    }

    fn page(&self, prefix: &str, most: u32, token: Option<&str>) -> Result<Page> {
        let mut query = vec![
            ("list-type", "2".to_owned()),
            // XML cannot say every key.
            ("encoding-type", "url".to_owned()),
            ("max-keys", most.to_string()),
        ];
        if !prefix.is_empty() {
            query.push(("prefix", prefix.to_owned()));
        }
        query.extend(token.map(|token| ("continuation-token", token.to_owned())));
        let request = Request {
            query: &query,
            expected: LONGEST_PAGE,
            ..Request::new(Method::GET, &self.bucket, "listing it")
        };
        let done = self.store.ask(&request, |answer| {
            let text = answer.text_of(LONGEST_PAGE)?;
            document::page(&text).map_err(|rule| Failed::from(self.odd(rule)))
        });
        done.map_err(|error| Error { path: self.folder.path(), ..error })
    }

    fn listed(&self, entry: Entry) -> Listed {
        let modified = entry.modified.trim().parse::<Timestamp>().ok();
        let modified = modified.and_then(|time| i64::try_from(time.as_nanosecond()).ok());
        Listed {
            path: self.folder.path_of(&entry.key),
            size: entry.size,
            tag: Tag::parse(&entry.tag),
            modified: modified.unwrap_or_default(),
            place: self.place,
            has_note: false,
            key: entry.key,
        }
    }
}

impl Iterator for Listing {
    type Item = Result<Listed>;

    fn next(&mut self) -> Option<Result<Listed>> {
        loop {
            if let Some(listed) = self.ready.pop_front() {
                return Some(Ok(listed));
            }
            let done = match self.stage {
                Stage::Exact => self.exact(),
                Stage::Below => self.below(),
                Stage::Over => return None,
            };
            if let Err(error) = done {
                self.stage = Stage::Over;
                self.ready.clear();
                return Some(Err(error));
            }
        }
    }
}

/// Objects whose note may still come. Keys come in order, so that whatever comes between an object
/// and its note begins as the object does: those that wait are each the beginning of the next, and
/// no more than a key has bytes.
#[derive(Default)]
struct Pairing {
    waiting: Vec<Listed>,
    last: Option<String>,
}

impl Pairing {
    /// Takes the next object, and lets those go of which all is known. Says whether it is the
    /// next one.
    fn take(&mut self, next: Listed, suffix: &str, ready: &mut VecDeque<Listed>) -> bool {
        if self.last.as_ref().is_some_and(|last| *last >= next.key) {
            return false;
        }
        self.last = Some(next.key.clone());
        for mut waiting in std::mem::take(&mut self.waiting) {
            let behind = next.key.strip_prefix(&waiting.key);
            waiting.has_note |= behind == Some(suffix);
            match behind {
                Some(behind) if behind < suffix => self.waiting.push(waiting),
                _ => ready.push_back(waiting),
            }
        }
        self.waiting.push(next);
        true
    }

    /// Lets all go: nothing comes any more.
    fn end(&mut self, ready: &mut VecDeque<Listed>) {
        ready.extend(self.waiting.drain(..));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(key: &str) -> Listed {
        Listed {
            path: PathBuf::new(),
            size: 0,
            tag: None,
            modified: 0,
            place: 0,
            has_note: false,
            key: key.to_owned(),
        }
    }

    #[test]
    fn notes_are_found_however_much_lies_between() {
        let mut keys = vec![
            "a",
            "a-1",
            "a-2",
            "a-2.undo",
            "a.qcow",
            "a.qcow-1",
            "a.qcow.undo",
            "a.undo",
            "a.undo.undo",
            "ab",
            "b.undo",
            "c",
        ];
        keys.sort_unstable();
        let (mut pairing, mut ready) = (Pairing::default(), VecDeque::new());
        for key in &keys {
            assert!(pairing.take(listed(key), ".undo", &mut ready), "{key}");
            assert!(pairing.waiting.len() <= key.len(), "{key}");
        }
        assert!(!pairing.take(listed("c"), ".undo", &mut ready), "twice");
        assert!(!pairing.take(listed("b"), ".undo", &mut ready), "out of order");
        pairing.end(&mut ready);
        let mut told: Vec<&str> = ready.iter().map(|it| &*it.key).collect();
        told.sort_unstable();
        assert_eq!(told, keys);
        let mut with: Vec<&str> =
            ready.iter().filter(|it| it.has_note).map(|it| &*it.key).collect();
        with.sort_unstable();
        assert_eq!(with, ["a", "a-2", "a.qcow", "a.undo"]);
    }

    #[test]
    fn a_tag_is_the_same_with_quotes_and_without() {
        let of = |tag| Listed { tag: Tag::parse(tag), ..listed("k") };
        assert_eq!(of("\"abc\""), of("abc"));
        assert_eq!(of("\"abc\"").number(), of("abc").number());
        assert_ne!(of("abc").number(), of("abd").number());
    }
}
