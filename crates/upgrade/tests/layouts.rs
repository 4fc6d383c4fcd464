//! Any legal image is upgraded without a guest byte changing, and comes back to the bit.

mod common;

use calve_testkit::{Builder, Memory, Notes, Random, Sketch, qemu, seeds};
use calve_upgrade::{Error, Options, State, Verify};

#[test]
fn any_legal_image_holds_the_same_afterwards_and_comes_back() {
    for seed in seeds("CALVE_UPGRADE_CASES", 600) {
        let what = format!("seed {seed}");
        let mut random = Random::new(seed);
        let mut sketch = Sketch::legal(&mut random);
        if random.once_in(3) {
            // Bytes that nothing refers to, as writers of version 1 leave them.
            let length = random.below(9000);
            sketch.image.extend(random.content(length));
        }
        let (storage, notes) = (Memory::new(sketch.image.clone()), Notes::new(None));
        let verify = if random.once_in(2) { Verify::Full } else { Verify::Tables };
        let options = Options { verify, ..common::options(&sketch, random.once_in(2)) };
        let plan = common::upgrade(&storage, &notes, &options)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let image = storage.content();
        assert_eq!(image.len() as u64, plan.file_size, "{what}");
        let written = plan.l2_bytes + plan.l1_bytes + plan.refcount_bytes;
        let moved = plan.moving() * plan.cluster_size.bytes();
        let padding = plan.cluster_size.ceil(plan.old_file_size) - plan.old_file_size;
        assert_eq!(plan.appended(), written + moved + padding, "{what}");
        assert!(
            image[512.min(sketch.image.len())..]
                .starts_with(&sketch.image[512.min(sketch.image.len())..]),
            "{what}: an old byte behind the first sector changed"
        );
        common::assert_same(image, &sketch, &what);
        let in_place = common::in_place(&storage, &notes);
        assert_eq!(in_place.state().expect("a record"), Some(State::Upgraded), "{what}");
        in_place.undo(false).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(storage.content() == sketch.image, "{what}: not what it was");
        assert_eq!(notes.note(), None, "{what}");
    }
}

#[test]
fn any_damaged_image_is_left_alone_or_upgraded_whole() {
    let mut upgraded = 0;
    for seed in seeds("CALVE_UPGRADE_CASES", 1500) {
        let what = format!("seed {seed}, damaged");
        let mut random = Random::new(seed ^ 0xDA_4A);
        let mut sketch = Sketch::legal(&mut random);
        sketch.damage(&mut random);
        let (storage, notes) = (Memory::new(sketch.image.clone()), Notes::new(None));
        let options = common::options(&sketch, random.once_in(2));
        let options = Options { verify: Verify::Full, ..options };
        match common::upgrade(&storage, &notes, &options) {
            Ok(_) => {
                upgraded += 1;
                common::assert_same(storage.content(), &sketch, &what);
                let undone = common::in_place(&storage, &notes).undo(false);
                undone.unwrap_or_else(|error| panic!("{what}: {error}"));
            }
            Err(error) => assert!(!matches!(error, Error::Mismatch { .. }), "{what}: {error}"),
        }
        assert!(storage.content() == sketch.image, "{what}: was changed");
        assert_eq!(notes.note(), None, "{what}");
    }
    assert!(upgraded > 100, "only {upgraded} were whole enough");
}

/// What stock QEMU reads of a sketch that lies in a folder as `name`.
fn stock(folder: &std::path::Path, sketch: &Sketch, driver: &str, name: &str) -> Vec<u8> {
    let Some(passphrase) = &sketch.passphrase else {
        return qemu::content(folder, &["-f", driver], name);
    };
    std::fs::write(folder.join("key"), passphrase).expect("a file");
    let name = format!("driver={driver},encrypt.key-secret=s,file.filename={name}");
    qemu::content(folder, &["--object", "secret,id=s,file=key", "--image-opts"], &name)
}

#[test]
fn stock_qemu_finds_nothing_wrong_and_reads_the_same() {
    if !qemu::has("qemu-img") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    for seed in seeds("CALVE_UPGRADE_QEMU_CASES", 60) {
        let mut random = Random::new(seed ^ 0x5_70C4);
        let mut sketch = Sketch::legal(&mut random);
        if sketch.passphrase.is_some() {
            // Stock QEMU takes only text for a passphrase.
            random = Random::new(seed);
            let mut builder = Builder::new(12, 9, 200 << 10).encrypted(b"sesame").aligned(4096);
            for cluster in 0..40 {
                if random.once_in(2) {
                    builder.plain(cluster, &random.content(4096));
                }
            }
            sketch =
                Sketch { image: builder.build(), passphrase: Some(b"sesame".into()), base: None };
        }
        if let Some(base) = &mut sketch.base {
            // Stock QEMU sees whole sectors of a raw file.
            base.resize(base.len().next_multiple_of(512), 0);
            std::fs::write(path.join("base.raw"), base).expect("a file");
        }
        let (storage, notes) = (Memory::new(sketch.image.clone()), Notes::new(None));
        let plan = common::upgrade(&storage, &notes, &common::options(&sketch, false))
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        std::fs::write(path.join("new.qcow2"), storage.content()).expect("a file");
        if sketch.passphrase.is_none() {
            qemu::assert_clean(path, "new.qcow2");
        } else {
            let name = "driver=qcow2,encrypt.key-secret=s,file.filename=new.qcow2";
            let check = ["check", "--object", "secret,id=s,data=sesame", "--image-opts", name];
            let said = qemu::img(path, &check);
            let text = String::from_utf8_lossy(&said.stdout).into_owned();
            assert!(text.contains("No errors were found"), "seed {seed}: {text}");
        }
        let (before, after) = (common::before(&sketch), stock(path, &sketch, "qcow2", "new.qcow2"));
        assert_eq!(after.len() as u64, plan.virtual_size, "seed {seed}");
        assert!(after.starts_with(&before), "seed {seed}: stock QEMU reads something else");
    }
}

#[test]
fn what_a_guest_writes_afterwards_harms_nothing() {
    if !qemu::has("qemu-img") || !qemu::has("qemu-io") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    for seed in seeds("CALVE_UPGRADE_QEMU_CASES", 25) {
        let mut random = Random::new(seed ^ 0x6_0E57);
        let sketch = Sketch::legal(&mut random);
        if sketch.passphrase.is_some() {
            continue;
        }
        if let Some(base) = &sketch.base {
            std::fs::write(path.join("base.raw"), base).expect("a file");
        }
        let (storage, notes) = (Memory::new(sketch.image.clone()), Notes::new(None));
        let options = common::options(&sketch, random.once_in(2));
        common::upgrade(&storage, &notes, &options)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        std::fs::write(path.join("new.qcow2"), storage.content()).expect("a file");
        let mut expected = stock(path, &sketch, "qcow2", "new.qcow2");
        let mut commands = Vec::new();
        for _ in 0..30 {
            let start = random.below(expected.len() as u64);
            let length = 1 + random.below((expected.len() as u64 - start).min(20_000));
            let fill = random.number().to_be_bytes()[0];
            commands.extend(["-c".to_owned(), format!("write -P {fill} {start} {length}")]);
            let range = usize::try_from(start).expect("small")
                ..usize::try_from(start + length).expect("small");
            expected[range].fill(fill);
        }
        commands.extend(["-f", "qcow2", "new.qcow2"].map(str::to_owned));
        let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
        qemu::io(path, &commands);
        let check = qemu::img(path, &["check", "-f", "qcow2", "new.qcow2"]);
        let said = String::from_utf8_lossy(&check.stdout).into_owned();
        let only_leaks = options.holds && !said.contains("ERROR");
        assert!(only_leaks || said.contains("No errors were found"), "seed {seed}: {said}");
        let found = stock(path, &sketch, "qcow2", "new.qcow2");
        assert!(found == expected, "seed {seed}: not what was written");
    }
}
