//! Patches are taken by the programs that take patches, and files are replaced as a whole.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use calve_references::{Error, patch, replace};
use calve_testkit::{Random, qemu, seeds};
use rustix::fs::XattrFlags;

/// Applies a patch of a file to it, from the folder that stands for the root.
fn applied(tool: &[&str], name: &Path, old: &[u8], patch: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name.strip_prefix("/").unwrap_or(name));
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(&path, old).expect("written");
    std::fs::write(folder.path().join("the.patch"), patch).expect("written");
    let output = Command::new(tool[0])
        .args(&tool[1..])
        .current_dir(folder.path())
        // The folder is in nobody's repository.
        .env("GIT_CEILING_DIRECTORIES", "/")
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool:?}: {said}\n{}", String::from_utf8_lossy(patch));
    std::fs::read(path).expect("it is there")
}

const PATCH: [&str; 4] = ["patch", "-p1", "-i", "the.patch"];
const GIT: [&str; 4] = ["git", "apply", "-p1", "the.patch"];

fn assert_applies(name: &Path, old: &[u8], new: &[u8]) {
    let patch = patch(name, old, new);
    for tool in [&PATCH, &GIT] {
        if qemu::has(tool[0]) {
            let found = applied(tool, name, old, &patch);
            assert!(found == new, "{tool:?}: {}", String::from_utf8_lossy(&patch));
        }
    }
}

#[test]
fn a_patch_says_what_changes_and_where() {
    let old = "1\n2\n3\n4\nold\n6\n7\n8\n9\n";
    let new = old.replace("old", "new");
    let patch = patch(Path::new("/etc/x/../a.xml"), old.as_bytes(), new.as_bytes());
    let expected = "--- a/etc/a.xml\n+++ b/etc/a.xml\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-old\n+new\n \
                    6\n 7\n 8\n";
    assert_eq!(String::from_utf8_lossy(&patch), expected);
    assert_eq!(calve_references::patch(Path::new("/a"), b"x", b"x"), b"");
}

#[test]
fn names_of_any_kind_are_found_again() {
    for name in ["/etc/libvirt/qemu/vm.xml", "relative/x.conf", "/a b/c  d.xml", "/a/\"b\"\\n.xml"]
    {
        assert_applies(Path::new(name), b"a\nb\n", b"a\nc\n");
    }
    for name in ["/\u{E9}/\u{1F40B}.xml".as_bytes(), b"/a\tb/\xFF.xml", b"/new\nline", b"/a/ b "] {
        assert_applies(&PathBuf::from(OsStr::from_bytes(name)), b"a\nb", b"a\nc");
    }
}

#[test]
fn line_ends_and_odd_bytes_stay() {
    let name = Path::new("/x");
    for (old, new) in [
        (&b"a\r\nb\r\nc\r\n"[..], &b"a\r\nB\r\nc\r\n"[..]),
        (b"a\nb", b"a\nB"),
        (b"a\nb", b"a\nb\n"),
        (b"a\rb\rc\nd\n", b"a\rB\rc\nd\n"),
        (b"\xE9\n\x00\xFF\nb\n", b"\xE9\n\x00\xFE\nb\n"),
        (b"a", b"b"),
    ] {
        assert_applies(name, old, new);
    }
}

#[test]
fn any_change_of_lines_applies() {
    for seed in seeds("CALVE_PATCH_CASES", 30) {
        let mut random = Random::new(seed ^ 0xD1FF);
        let count = 1 + random.below(60);
        let lines: Vec<u64> = (0..count).map(|_| random.below(8)).collect();
        let end = if random.once_in(2) { "\n" } else { "" };
        let text = |lines: &[u64]| {
            let lines: Vec<String> = lines.iter().map(u64::to_string).collect();
            lines.join("\n") + end
        };
        let mut changed = lines.clone();
        for _ in 0..=random.below(4) {
            let at = usize::try_from(random.below(count)).expect("small");
            changed[at] = random.below(100);
        }
        assert_applies(Path::new("/x"), text(&lines).as_bytes(), text(&changed).as_bytes());
    }
}

#[test]
fn a_file_is_replaced_with_all_that_it_has_beside_its_content() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, link) = (folder.path().join("x.conf"), folder.path().join("link"));
    std::fs::write(&path, "old").expect("written");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).expect("permissions");
    symlink("x.conf", &link).expect("a link");
    let has_attributes =
        rustix::fs::setxattr(&path, c"user.calve", b"kept", XattrFlags::empty()).is_ok();
    // Where tests run as root, the owner is somebody else.
    let owner = std::os::unix::fs::chown(&path, Some(1234), Some(4321)).map(|()| (1234, 4321));
    // What a run that was killed left.
    let leftover = folder.path().join(".x.conf.calve-0123456789abcdef");
    std::fs::write(&leftover, "").expect("written");

    assert!(replace(&link, b"old", b"new, and longer").expect("replaced"));
    assert!(!replace(&path, b"old", b"new, and longer").expect("it is so already"));
    assert_eq!(std::fs::read(&path).expect("it is there"), b"new, and longer");
    let metadata = std::fs::metadata(&path).expect("it is there");
    assert_eq!(metadata.mode() & 0o7777, 0o640);
    if let Ok(owner) = owner {
        assert_eq!((metadata.uid(), metadata.gid()), owner);
    }
    let mut value = [0; 8];
    let length = rustix::fs::getxattr(&path, c"user.calve", &mut value[..]);
    assert_eq!(length.ok().map(|length| &value[..length]), has_attributes.then_some(&b"kept"[..]));
    assert!(link.is_symlink() && !leftover.exists());
    assert!(replace(&path, b"new, and longer", b"old").expect("and back"));
}

#[test]
fn a_file_that_is_another_by_now_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.conf");
    std::fs::write(&path, "somebody's").expect("written");
    for (old, new) in [("old", "new"), ("somebody", "new"), ("", "somebody's own"), ("s", "")] {
        let outcome = replace(&path, old.as_bytes(), new.as_bytes());
        assert!(matches!(outcome, Err(Error::Refused { .. })), "{outcome:?}");
    }
    assert!(matches!(replace(folder.path(), b"", b"x"), Err(Error::Refused { .. })));
    assert!(matches!(replace(&folder.path().join("none"), b"", b"x"), Err(Error::Disk(_))));
    assert_eq!(std::fs::read(&path).expect("it is there"), b"somebody's");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing is left");
}
