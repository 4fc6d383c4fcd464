//! What `--base` and `--bases` say: which base an overlay has.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use calve_disk::Error as DiskError;
use calve_disk::open::{escaped, shown};
use calve_fleet::Confirmed;

use crate::args::PlanArgs;
use crate::exit::Failure;
use crate::store;

/// Two paths and what is between them: no host knows longer ones.
const LONGEST: usize = 2 * 4096 + 1;

/// A file of bases is no larger: some 100,000 lines.
const MOST: u64 = 32 << 20;

/// All bases that were named, by the paths that a catalogue has.
pub(super) fn named(args: &PlanArgs) -> Result<Vec<Confirmed>, Failure> {
    let mut named = Vec::new();
    for word in &args.base {
        named.push(pair(word.as_bytes(), "--base")?);
    }
    if let Some(path) = &args.bases {
        let bytes = read(path)?;
        for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !line.is_empty() && !line.starts_with(b"#") {
                named.push(pair(line, &format!("{}: line {}", shown(path), number + 1))?);
            }
        }
    }
    Ok(named)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MOST + 1).read_to_end(&mut bytes))
        .map_err(|error| Failure::from(DiskError::host("reading the bases", path, error)))?;
    match u64::try_from(bytes.len()).is_ok_and(|length| length <= MOST) {
        true => Ok(bytes),
        false => Err(Failure::usage(format!("{}: is longer than 32 MiB", shown(path)))
            .next("name OVERLAY=BASE in its lines, in several files for several plans")),
    }
}

/// `OVERLAY=BASE`. Names may have a `=` too: the one counts at which both sides are there.
fn pair(word: &[u8], place: &str) -> Result<Confirmed, Failure> {
    if word.len() > LONGEST {
        return Err(Failure::usage(format!("{place}: is longer than two paths can be"))
            .next("name an overlay, a =, and the file that is its base"));
    }
    let mut why = format!("{place}: '{}' is not OVERLAY=BASE", escaped(word));
    let mut found: Option<Confirmed> = None;
    for at in (1..word.len().saturating_sub(1)).filter(|at| word[*at] == b'=') {
        let paths = known(&word[..at]).and_then(|overlay| Ok((overlay, known(&word[at + 1..])?)));
        match (paths, &found) {
            (Ok(_), Some(_)) => {
                let text = format!("{place}: '{}' can be read in two ways", escaped(word));
                return Err(Failure::usage(text).next("name the files by links without a ="));
            }
            (Ok((overlay, base)), None) => found = Some(Confirmed { overlay, base }),
            (Err(what), _) => why = format!("{place}: {what}"),
        }
    }
    found.ok_or_else(|| {
        Failure::usage(why).next("name an overlay, a =, and the file that is its base, both there")
    })
}

/// A path as a scan keeps it: without links, from the root on.
fn known(name: &[u8]) -> Result<PathBuf, String> {
    let path = Path::new(OsStr::from_bytes(name));
    if store::is_object(path) {
        return Ok(path.to_owned());
    }
    path.canonicalize().map_err(|error| format!("{}: {error}", escaped(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sign_counts_at_which_both_sides_are_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path().canonicalize().expect("there");
        for name in ["a=b", "c", "a"] {
            std::fs::write(folder.join(name), b"").expect("a file");
        }
        let word = |text: &str| {
            let text = text.replace('@', &format!("{}/", folder.display()));
            pair(text.as_bytes(), "--base").map_err(|failure| failure.text)
        };
        let named = word("@a=b=@c").expect("both are there");
        assert_eq!((named.overlay, named.base), (folder.join("a=b"), folder.join("c")));
        assert_eq!(word("s3://b/x=s3://b/y").expect("objects").base, Path::new("s3://b/y"));
        for (text, what) in [
            ("@c", "is not OVERLAY=BASE"),
            ("@c=@gone", "gone: No such file"),
            ("=@c", "is not OVERLAY=BASE"),
            ("@c=", "is not OVERLAY=BASE"),
        ] {
            let said = word(text).expect_err("is refused");
            assert!(said.contains(what), "{text}: {said}");
        }
    }
}
