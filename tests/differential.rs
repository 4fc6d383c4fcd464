//! Images that stock QEMU wrote a moment ago, converted both ways: the content agrees, and what
//! is written is clean to QEMU.

use crate::common::Bench;
use calve_testkit::{Random, qemu};

fn is_ready() -> bool {
    qemu::has("qemu-img") && qemu::has("qemu-io")
}

/// Scattered writes, many of them not whole clusters.
fn scribble(bench: &Bench, options: &[&str], name: &str, size: u64, seed: u64) {
    let mut random = Random::new(seed);
    let mut commands = Vec::new();
    for _ in 0..30 {
        let at = random.below(size / 512) * 512;
        let length = ((1 + random.below(100)) * 512).min(size / 512 * 512 - at);
        let pattern = random.below(256);
        commands.push(format!("write -P {pattern} {at} {length}"));
    }
    let mut arguments = options.to_vec();
    commands.iter().for_each(|command| arguments.extend(["-c", command.as_str()]));
    arguments.push(name);
    qemu::io(bench.path(), &arguments);
}

/// Converts to every kind of target and compares each with what QEMU reads of the source.
fn check(bench: &Bench, name: &str, options: &[&str], expected: &[u8]) {
    let convert = |more: &[&str], target: &str| {
        let mut arguments = vec!["convert"];
        arguments.extend_from_slice(options);
        arguments.extend_from_slice(more);
        arguments.extend_from_slice(&[name, target]);
        bench.ok(&arguments);
    };
    convert(&["-O", "raw", "--verify"], "t.raw");
    assert!(bench.read("t.raw") == expected, "{name} as raw");
    for more in [
        &["-O", "qcow2"][..],
        &["-O", "qcow2", "-c", "--verify"],
        &["-O", "qcow2", "-o", "cluster_size=512", "-m", "3"],
        &["-O", "qcow2", "-o", "cluster_size=2M", "-S", "64k"],
        &["-O", "qcow2", "-S", "0", "-t", "none", "-W"],
    ] {
        convert(more, "t.qcow2");
        qemu::assert_clean(bench.path(), "t.qcow2");
        let found = qemu::content(bench.path(), &["-f", "qcow2"], "t.qcow2");
        assert!(found == expected, "{name}: {more:?}");
        let said = bench.ok(&["compare", "-F", "raw", "t.qcow2", "t.raw"]);
        assert_eq!(said.out, "Images are identical.\n");
        std::fs::remove_file(bench.file("t.qcow2")).expect("a file");
    }
    std::fs::remove_file(bench.file("t.raw")).expect("a file");
}

#[test]
fn plain_and_packed_images() {
    if !is_ready() {
        return;
    }
    let bench = Bench::new();
    let mut random = Random::new(1);
    let mut raw = vec![0; 5 << 20];
    for _ in 0..20 {
        let at = usize::try_from(random.below(4 << 20)).expect("small");
        let content = random.content(300_000);
        raw[at..at + content.len()].copy_from_slice(&content);
    }
    bench.write("source.raw", &raw);
    for packed in [&[][..], &["-c"]] {
        let make = [&["convert", "-O", "qcow"][..], packed, &["source.raw", "old.qcow"]].concat();
        qemu::img(bench.path(), &make);
        check(&bench, "old.qcow", &[], &raw);
        scribble(&bench, &["-f", "qcow"], "old.qcow", 5 << 20, 2);
        let expected = qemu::content(bench.path(), &["-f", "qcow"], "old.qcow");
        assert!(expected != raw, "something was written");
        check(&bench, "old.qcow", &[], &expected);
    }
}

#[test]
fn encrypted_images() {
    if !is_ready() {
        return;
    }
    let bench = Bench::new();
    for (seed, passphrase) in [(1, "s3cret"), (2, "0123456789abcdef and what nobody counts")] {
        let object = format!("secret,id=s,data={passphrase}");
        let name = "driver=qcow,encrypt.key-secret=s,file.filename=old.qcow";
        let make = ["create", "-f", "qcow", "--object", &object];
        let options = "encrypt.format=aes,encrypt.key-secret=s";
        qemu::img(bench.path(), &[&make[..], &["-o", options, "old.qcow", "3M"]].concat());
        let with_key = ["--object", &object, "--image-opts"];
        scribble(&bench, &with_key, name, 3 << 20, seed);
        let expected = qemu::content(bench.path(), &with_key, name);
        check(&bench, name, &with_key, &expected);
        bench.write("key", format!("{passphrase}\n").as_bytes());
        check(&bench, "old.qcow", &["--passphrase-file", "key"], &expected);
    }
}

#[test]
fn overlays_on_raw_on_version_1_and_on_qcow2() {
    if !is_ready() {
        return;
    }
    for format in ["raw", "qcow", "qcow2"] {
        let bench = Bench::new();
        let base = Random::new(11).content(3 << 20);
        bench.write("source.raw", &base);
        qemu::img(bench.path(), &["convert", "-O", format, "source.raw", "base"]);
        let make = ["create", "-f", "qcow", "-b", "base", "-F", format, "old.qcow"];
        // Longer than its base, as long, and shorter.
        for (seed, size) in [(1, 4 << 20), (2, 3 << 20), (3, (2 << 20) + 512)] {
            qemu::img(bench.path(), &[&make[..], &[&size.to_string()]].concat());
            scribble(&bench, &["-f", "qcow"], "old.qcow", size, seed);
            let expected = qemu::content(bench.path(), &["-f", "qcow"], "old.qcow");
            check(&bench, "old.qcow", &[], &expected);
            thin(&bench, format, &expected);
        }
    }
}

/// A thin overlay over the same base: it reads the same, and holds less than all of it.
fn thin(bench: &Bench, format: &str, expected: &[u8]) {
    for more in [&[][..], &["-c"]] {
        let arguments = ["convert", "-O", "qcow2", "-B", "base", "-F", format];
        bench.ok(&[&arguments[..], more, &["old.qcow", "thin.qcow2"]].concat());
        qemu::assert_clean(bench.path(), "thin.qcow2");
        let found = qemu::content(bench.path(), &["-f", "qcow2"], "thin.qcow2");
        assert!(found == expected, "thin over {format}");
        let stored = bench.read("thin.qcow2").len();
        assert!(stored < expected.len(), "{stored} bytes is not thin");
        let said = bench.ok(&["info", "--output", "json", "thin.qcow2"]).json();
        assert_eq!(said["backing-filename"], "base");
        assert_eq!(said["backing-filename-format"], format);
        std::fs::remove_file(bench.file("thin.qcow2")).expect("a file");
    }
}

#[test]
fn what_any_base_has_is_left_to_it() {
    if !is_ready() {
        return;
    }
    let bench = Bench::new();
    let (image, disk) = crate::common::image();
    bench.write("old.qcow", &image);
    bench.write("base.raw", &disk);
    bench.ok(&["convert", "-O", "qcow2", "-B", "base.raw", "-F", "raw", "old.qcow", "thin.qcow2"]);
    assert!(qemu::content(bench.path(), &["-f", "qcow2"], "thin.qcow2") == disk);
    let info = bench.ok(&["info", "--deep", "--output=json", "thin.qcow2"]).json();
    assert_eq!(info["survey"]["allocated-clusters"], 0, "the base is the same disk");
}

#[test]
fn sizes_that_are_no_whole_sectors_are_exact_in_raw_and_rounded_aloud_in_qcow2() {
    let bench = Bench::new();
    for size in [1u64, 511, 513, 65_535, 1_048_569] {
        let mut builder = calve_testkit::Builder::new(12, 9, size);
        builder.plain((size - 1) / 4096, &[0x6B; 4096]);
        bench.write("odd.qcow", &builder.build());
        bench.ok(&["convert", "odd.qcow", "odd.raw"]);
        let raw = bench.read("odd.raw");
        assert_eq!((raw.len() as u64, raw.last()), (size, Some(&0x6B)));
        let said = bench.ok(&["convert", "--verify", "-O", "qcow2", "odd.qcow", "odd.qcow2"]);
        assert!(said.err.contains(&format!("{size} bytes became")), "{}", said.err);
        let said = bench.ok(&["compare", "-F", "raw", "odd.qcow2", "odd.raw"]);
        assert_eq!(said.out, "Warning: Image size mismatch!\nImages are identical.\n");
        for name in ["odd.raw", "odd.qcow2"] {
            std::fs::remove_file(bench.file(name)).expect("a file");
        }
    }
}

#[test]
fn a_map_in_json_is_qemus_word_for_word_where_qemu_can_say_it() {
    if !is_ready() {
        return;
    }
    let bench = Bench::new();
    bench.write("base.raw", &Random::new(3).content(3 << 20));
    qemu::img(bench.path(), &["convert", "-O", "qcow", "base.raw", "base.qcow"]);
    let make = ["create", "-f", "qcow", "-b", "base.qcow", "-F", "qcow", "old.qcow", "4M"];
    qemu::img(bench.path(), &make);
    scribble(&bench, &["-f", "qcow"], "old.qcow", 4 << 20, 9);
    for name in ["base.qcow", "old.qcow"] {
        for shape in ["json", "human"] {
            let theirs = qemu::img(bench.path(), &["map", &format!("--output={shape}"), name]);
            let ours = bench.ok(&["map", "--output", shape, name]).out;
            assert_eq!(ours, String::from_utf8_lossy(&theirs.stdout), "{name}, {shape}");
        }
    }
}

#[test]
fn info_has_qemus_keys_with_qemus_values() {
    if !is_ready() {
        return;
    }
    let bench = Bench::new();
    bench.write("base.raw", &[1; 1 << 20]);
    qemu::img(bench.path(), &["create", "-f", "qcow", "-b", "base.raw", "-F", "raw", "old.qcow"]);
    qemu::img(bench.path(), &["create", "-f", "qcow2", "new.qcow2", "1G"]);
    // QEMU rounds the length of a file up to sectors; here is nothing to round.
    for name in ["old.qcow", "new.qcow2"] {
        let mut bytes = bench.read(name);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bench.write(name, &bytes);
    }
    for name in ["old.qcow", "new.qcow2", "base.raw"] {
        let theirs = qemu::img(bench.path(), &["info", "--output=json", name]).stdout;
        let theirs: serde_json::Value = serde_json::from_slice(&theirs).expect("JSON");
        let ours = bench.ok(&["info", "--output=json", name]).json();
        for (key, value) in theirs.as_object().expect("an object") {
            assert_eq!(&ours[key], value, "{name}: {key}");
        }
        let theirs = qemu::img(bench.path(), &["info", name]).stdout;
        let ours = bench.ok(&["info", name]).out;
        for line in String::from_utf8_lossy(&theirs).lines() {
            assert!(ours.lines().any(|ours| ours == line), "{name}: {line}");
        }
    }
    let chain = bench.ok(&["info", "--output=json", "--backing-chain", "old.qcow"]).json();
    assert_eq!(chain.as_array().map(Vec::len), Some(2));
}
