//! Stock QEMU's opinion of what an upgrade made, for a share of the inputs.
//!
//! `CALVE_FUZZ_STOCK=N` asks it about one input of N; without that, of none.

use std::path::Path;
use std::sync::OnceLock;

use calve_disk::Image;
use calve_disk::formats::qcow1::Qcow1Image;
use calve_disk::{Facts, Rule};
use calve_testkit::{Memory, qemu};

use crate::disks::{Content, small};
use crate::input::Input;

/// The only backing file that QEMU may open: names out of an image lead anywhere.
const BASE: &str = "base.raw";

/// Asks QEMU, where it is this input's turn and QEMU can read both images: the upgraded one is
/// clean, and both hold what is expected.
pub(crate) fn compare(input: &Input<'_>, upgraded: &[u8], expected: &Content) {
    if !is_asked(input) {
        return;
    }
    let image = Qcow1Image::open(Box::new(Memory::new(input.image.to_vec())), None);
    let facts = image.expect("it was opened before").facts().clone();
    let Some(expected) = comparable(input, &facts, expected) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    let put = |name: &str, bytes: &[u8]| std::fs::write(path.join(name), bytes).expect("a file");
    put("old.qcow", input.image);
    put("new.qcow2", upgraded);
    if let Some(mut base) = input.base() {
        // Stock QEMU sees whole sectors of a raw file.
        base.resize(base.len().next_multiple_of(512), 0);
        put(BASE, &base);
    }
    if let Some(passphrase) = input.passphrase() {
        put("key", &passphrase);
    }
    assert_clean(path, facts.is_encrypted, input.holds());
    let size = small(facts.virtual_size);
    let new = content(path, facts.is_encrypted, "qcow2", "new.qcow2");
    assert!(new[..size] == expected[..size], "stock QEMU reads something else of the new image");
    if reads_as_we_do(&facts) {
        let old = content(path, facts.is_encrypted, "qcow", "old.qcow");
        // It loses what is less than a sector.
        assert!(old == expected[..size / 512 * 512], "stock QEMU reads something else of the old");
    }
}

fn is_asked(input: &Input<'_>) -> bool {
    static ONE_OF: OnceLock<Option<u64>> = OnceLock::new();
    let one_of = ONE_OF.get_or_init(|| {
        let one_of = std::env::var("CALVE_FUZZ_STOCK").ok()?.parse::<u64>().ok()?;
        (one_of > 0 && qemu::has("qemu-img")).then_some(one_of)
    });
    one_of.is_some_and(|one_of| input.random(20).once_in(one_of))
}

/// What QEMU has to read, where it can be asked: nothing lost, no base but the one that is given,
/// and a passphrase that is text.
fn comparable(input: &Input<'_>, facts: &Facts, expected: &Content) -> Option<Vec<u8>> {
    let expected: Vec<u8> = expected.iter().copied().collect::<Option<_>>()?;
    let is_named = facts.backing.as_ref().map(|named| named.name == BASE.as_bytes());
    let base_is_clear = match is_named {
        None => input.base().is_none(),
        Some(is_ours) => is_ours && input.base().is_some(),
    };
    let is_text = |bytes: Vec<u8>| bytes.iter().all(u8::is_ascii_lowercase);
    let key_is_clear = !facts.is_encrypted || input.passphrase().is_some_and(is_text);
    (base_is_clear && key_is_clear && !expected.is_empty()).then_some(expected)
}

/// Whether QEMU takes the old image as it is: it knows nothing of Xen's order, and of no disk
/// without a sector.
fn reads_as_we_do(facts: &Facts) -> bool {
    let is_xen = facts.findings.iter().any(|finding| finding.rule == Rule::XenByteOrder);
    !is_xen && facts.virtual_size >= 512
}

fn assert_clean(folder: &Path, is_encrypted: bool, holds: bool) {
    let (options, name) = source(is_encrypted, "qcow2", "new.qcow2");
    let mut arguments = vec!["check"];
    arguments.extend(options.iter().map(String::as_str));
    arguments.push(&name);
    let output = qemu::img(folder, &arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // What is held for the way back is a leak to QEMU.
    let only_leaks = holds && !text.contains("ERROR") && text.contains("leaked");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(only_leaks || text.contains("No errors were found"), "{text}{said}");
}

fn content(folder: &Path, is_encrypted: bool, driver: &str, file: &str) -> Vec<u8> {
    let (options, name) = source(is_encrypted, driver, file);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    qemu::content(folder, &options, &name)
}

/// How `qemu-img` is told of an image.
fn source(is_encrypted: bool, driver: &str, file: &str) -> (Vec<String>, String) {
    if !is_encrypted {
        return (["-f", driver].map(str::to_owned).to_vec(), file.to_owned());
    }
    let options = ["--object", "secret,id=s,file=key", "--image-opts"];
    let name = format!("driver={driver},encrypt.key-secret=s,file.filename={file}");
    (options.map(str::to_owned).to_vec(), name)
}
