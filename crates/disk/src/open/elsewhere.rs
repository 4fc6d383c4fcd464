//! Images that are no files of the host: what callers may name beside those.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Result;
use crate::storage::Storage;

/// Knows places that are no files of the host, by their names.
pub trait Place: Send + Sync {
    /// Opens what `name` names, or `None` where that is the name of a file.
    fn open(&self, name: &Path) -> Option<Result<Box<dyn Storage>>>;

    /// Where the base of this name is, as the image at `overlay` records it, or `None` where
    /// that image is a file. It has to lie in one of `roots` or below.
    fn base(&self, overlay: &Path, name: &[u8], roots: &[&Path]) -> Option<Result<PathBuf>>;
}

/// The places beside the host's files in which images may be, where there are any.
#[derive(Clone, Default)]
pub struct Elsewhere(Option<Arc<dyn Place>>);

impl Elsewhere {
    /// Images may be in `place` too.
    pub fn new(place: Arc<dyn Place>) -> Self {
        Self(Some(place))
    }

    pub(super) fn open(&self, name: &Path) -> Option<Result<Box<dyn Storage>>> {
        self.0.as_ref()?.open(name)
    }

    pub(super) fn base(
        &self,
        overlay: &Path,
        name: &[u8],
        roots: &[&Path],
    ) -> Option<Result<PathBuf>> {
        self.0.as_ref()?.base(overlay, name, roots)
    }
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Elsewhere" } else { "Nowhere" })
    }
}
