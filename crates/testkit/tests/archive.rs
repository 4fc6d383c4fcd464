//! What an archive's truth says holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use calve_testkit::archive::{Alike, Archive, Entry, Found, Producer, Stored, Truth, What};
use calve_testkit::{Reference, qemu, read};

fn small(seed: u64) -> Archive {
    Archive { seed, images: 60, families: 12, disk: 1 << 20 }
}

fn written(archive: Archive) -> (tempfile::TempDir, Truth) {
    let folder = tempfile::tempdir().expect("a folder");
    let truth = archive.write(folder.path()).expect("written");
    (folder, truth)
}

/// Whether a good reader can read it from its names and without a passphrase.
fn is_plain(truth: &Truth, entry: &Entry) -> bool {
    let leads = |found| matches!(found, Found::Name | Found::HardLink | Found::Symlink);
    entry.digest.is_some()
        && truth.chain(entry).iter().all(|layer| {
            layer.passphrase.is_none() && layer.base.as_ref().is_none_or(|base| leads(base.found))
        })
}

#[test]
fn stock_qemu_reads_the_content_that_the_truth_tells() {
    if !qemu::has("qemu-img") {
        return;
    }
    let (folder, truth) = written(small(1));
    let mut depths = BTreeSet::new();
    for entry in truth.files.iter().filter(|entry| is_plain(&truth, entry)) {
        let is_of_xen = |layer: &&Entry| match &layer.what {
            What::Version1(it) => {
                matches!(it.producer, Producer::XenLittleEndian | Producer::XenMixed)
            }
            _ => false,
        };
        if truth.chain(entry).iter().any(is_of_xen) {
            continue;
        }
        let format = match &entry.what {
            What::Version1(_) => "qcow",
            What::Qcow2 { .. } => "qcow2",
            What::Raw | What::Other => "raw",
        };
        let path = folder.path().join(&entry.path);
        let path = path.to_str().expect("a plain name");
        let content = qemu::content(folder.path(), &["-f", format], path);
        assert_eq!(Some(content.len() as u64), entry.virtual_size, "{}", entry.path);
        let digest = blake3::hash(&content).to_hex().to_string();
        assert_eq!(Some(digest), entry.digest, "{}", entry.path);
        depths.insert(entry.depth);
        if matches!(entry.what, What::Qcow2 { .. }) {
            qemu::assert_clean(folder.path(), path);
        }
    }
    assert!(depths.len() >= 4, "chains: {depths:?}");
}

/// The disk of an entry as the slow reader reads it; none where a layer is qcow2.
fn slowly(folder: &Path, truth: &Truth, entry: &Entry) -> Option<Reference> {
    let base = match truth.chain(entry).get(1) {
        Some(base) => slowly(folder, truth, base)?,
        None => Reference::new(),
    };
    let bytes = fs::read(folder.join(&entry.path)).expect("a file");
    match &entry.what {
        What::Version1(_) => {
            Some(read(&bytes, entry.passphrase.as_deref().map(str::as_bytes), &base))
        }
        What::Raw => Some(bytes.into_iter().map(Some).collect()),
        What::Qcow2 { .. } | What::Other => None,
    }
}

#[test]
fn the_slow_reader_reads_the_content_that_the_truth_tells() {
    let (folder, truth) = written(small(2));
    let mut kinds = BTreeSet::new();
    for entry in truth.files.iter().filter(|entry| entry.digest.is_some()) {
        let Some(disk) = slowly(folder.path(), &truth, entry) else { continue };
        let bytes: Vec<u8> = disk.into_iter().map(|byte| byte.expect("not lost")).collect();
        let digest = blake3::hash(&bytes).to_hex().to_string();
        assert_eq!(Some(digest), entry.digest, "{}", entry.path);
        if let What::Version1(it) = &entry.what {
            kinds.insert((it.producer, it.stored));
        }
    }
    assert!(kinds.len() >= 10, "{kinds:?}");
}

#[test]
fn an_overlay_stores_much_that_its_base_has_and_something_that_it_has_not() {
    let (folder, truth) = written(small(3));
    let mut count = 0;
    for entry in truth.files.iter().filter(|entry| entry.is_version1() && entry.digest.is_some()) {
        let [_, base, ..] = truth.chain(entry)[..] else { continue };
        let Some(base) = slowly(folder.path(), &truth, base) else { continue };
        // Lost bytes below: what the overlay itself stores is what is not lost.
        let bytes = fs::read(folder.path().join(&entry.path)).expect("a file");
        let passphrase = entry.passphrase.as_deref().map(str::as_bytes);
        let size = usize::try_from(entry.virtual_size.expect("a disk")).expect("small");
        let own = read(&bytes, passphrase, &vec![None; size]);
        let stored = own.chunks(512).enumerate().filter(|(_, sector)| sector[0].is_some());
        let (mut same, mut of) = (0, 0);
        for (number, sector) in stored {
            let below = base.get(number * 512..number * 512 + sector.len());
            (same, of) = (same + usize::from(below == Some(sector)), of + 1);
        }
        assert!(same * 3 > of && same < of, "{}: {same} of {of}", entry.path);
        count += 1;
    }
    assert!(count > 10, "{count}");
}

/// Everything below a folder: its bytes or where it leads, its time and how many names it has.
fn tree(folder: &Path) -> BTreeMap<String, (Vec<u8>, i64, u64)> {
    let (mut tree, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("a folder") {
            let path = entry.expect("an entry").path();
            let status = path.symlink_metadata().expect("a status");
            let name =
                path.strip_prefix(folder).expect("below").to_str().expect("plain").to_owned();
            if status.is_dir() {
                folders.push(path);
            } else if status.is_symlink() {
                let target = fs::read_link(&path).expect("a link");
                tree.insert(name, (target.into_os_string().into_encoded_bytes(), 0, 0));
            } else {
                let bytes = fs::read(&path).expect("a file");
                tree.insert(name, (bytes, status.mtime(), status.nlink()));
            }
        }
    }
    tree
}

#[test]
fn the_same_seed_gives_the_same_files_and_another_one_others() {
    let ((one, first), (other, second), (third, _)) =
        (written(small(4)), written(small(4)), written(small(5)));
    assert_eq!(first, second);
    let one = tree(one.path());
    assert!(one == tree(other.path()), "files differ");
    assert!(one != tree(third.path()), "files of another seed");
    // And the truth has every name of every file, and no other.
    let names = first.files.iter().flat_map(|entry| {
        let further = entry.hard_links.iter().chain(&entry.symlinks);
        std::iter::once(&entry.path).chain(further).cloned()
    });
    assert_eq!(names.collect::<BTreeSet<_>>(), one.keys().cloned().collect());
    for entry in &first.files {
        let (_, time, links) = &one[&entry.path];
        assert_eq!(*time, i64::from(entry.modified), "{}", entry.path);
        assert_eq!(*links, 1 + entry.hard_links.len() as u64, "{}", entry.path);
    }
    let file = tempfile::NamedTempFile::new().expect("a file");
    first.write(file.path()).expect("written");
    assert_eq!(Truth::read(file.path()).expect("read"), first);
}

#[test]
fn recorded_names_lead_where_the_truth_says() {
    let (folder, truth) = written(small(6));
    let identity = |path: &Path| fs::metadata(path).ok().map(|status| (status.dev(), status.ino()));
    for entry in &truth.files {
        let Some(base) = &entry.base else { continue };
        let overlay = folder.path().join(&entry.path);
        let named = overlay.parent().expect("a folder").join(&base.recorded);
        let there = base.path.as_ref().map(|path| folder.path().join(path));
        let is_there = there.as_ref().and_then(|path| identity(path));
        let leads = matches!(base.found, Found::Name | Found::HardLink | Found::Symlink);
        assert_eq!(identity(&named).is_some(), leads, "{}: {}", entry.path, base.recorded);
        assert!(!leads || identity(&named) == is_there, "{}", entry.path);
        assert_eq!(is_there.is_none(), base.found == Found::Missing, "{}", entry.path);
        let named_link = named.symlink_metadata().is_ok_and(|status| status.is_symlink());
        assert_eq!(named_link, base.found == Found::Symlink, "{}", entry.path);
        if base.found == Found::Moved {
            let name = base.recorded.rsplit(['/', '\\']).next().expect("a name");
            assert!(there.is_some_and(|path| path.ends_with(name)), "{}", entry.path);
        }
    }
}

#[test]
fn an_archive_has_everything_that_archives_have() {
    let archive = Archive { seed: 7, images: 240, families: 48, disk: 1 << 20 };
    let (_folder, truth) = written(archive);
    assert_eq!(truth.images().count(), 240);
    let families: BTreeSet<_> = truth.images().filter_map(|entry| entry.family).collect();
    assert_eq!(families.len(), 48);
    let (mut found, mut producers, mut stored) =
        <(BTreeSet<_>, BTreeSet<_>, BTreeSet<_>)>::default();
    for entry in truth.images() {
        found.extend(entry.base.as_ref().map(|base| base.found));
        if let What::Version1(it) = &entry.what {
            producers.insert(it.producer);
            stored.insert(it.stored);
        }
    }
    assert_eq!((found.len(), producers.len()), (6, 9), "{found:?} {producers:?}");
    assert_eq!(stored, [Stored::Plain, Stored::Packed, Stored::Encrypted].into());
    let has = |what: &str, is: fn(&Entry) -> bool| {
        assert!(truth.files.iter().any(is), "no {what}");
    };
    has("damage", |entry| entry.damage.is_some());
    has("chain of five", |entry| entry.depth == 5);
    has("version 1 with a wrong name", |entry| entry.is_version1() && entry.name_lies);
    has("qcow2 with a wrong name", |entry| {
        matches!(entry.what, What::Qcow2 { .. }) && entry.name_lies
    });
    has("raw disk", |entry| entry.what == What::Raw);
    has("other file with a wrong name", |entry| entry.what == What::Other && entry.name_lies);
    has("hard link", |entry| !entry.hard_links.is_empty());
    has("symbolic link", |entry| !entry.symlinks.is_empty());
    for alike in [Alike::Name, Alike::Size] {
        let is = |entry: &Entry| entry.decoy.as_ref().is_some_and(|decoy| decoy.alike == alike);
        assert!(truth.files.iter().any(is), "no decoy: {alike:?}");
    }
    // Two overlays on one base.
    let bases = truth.images().filter_map(|entry| entry.base.as_ref()?.path.as_ref());
    let mut seen = BTreeSet::new();
    assert!(bases.into_iter().any(|base| !seen.insert(base)), "no diamond");
    let decoys = truth.files.iter().filter_map(|entry| Some((entry, entry.decoy.as_ref()?)));
    for (entry, decoy) in decoys {
        let base = truth.of(&decoy.of).expect("a file");
        assert_eq!(entry.virtual_size, base.virtual_size, "{}", entry.path);
        assert_ne!(entry.digest, base.digest, "{}", entry.path);
    }
}
