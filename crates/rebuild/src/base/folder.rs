//! The regular files of a folder and of those below it.

use std::path::{Path, PathBuf};

use calve_disk::{Error, Result};

use super::Search;

/// Entries of folders that are looked at for each file that may be opened.
const ENTRIES_FOR_A_FILE: usize = 64;

/// The files, in the order of their paths, folder by folder.
///
/// # Errors
/// Where the first folder cannot be read; others are passed over.
pub(super) fn files(folder: &Path, search: &Search) -> Result<Vec<PathBuf>> {
    let mut left = search.most_files.saturating_mul(ENTRIES_FOR_A_FILE);
    let mut files = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(source) if depth == 0 => {
                return Err(Error::host("looking into the folder", &folder, source));
            }
            Err(_) => continue,
        };
        let mut here: Vec<_> = entries.flatten().take(left).collect();
        left -= here.len();
        here.sort_by_key(std::fs::DirEntry::file_name);
        for entry in here {
            // Of the entry itself: a link is neither.
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && depth < search.depth {
                folders.push((entry.path(), depth + 1));
            } else if kind.is_file() && files.len() < search.most_files {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}
