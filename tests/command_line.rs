//! Words in, texts and codes out.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use crate::common::{Bench, Said};
use calve_testkit::{Builder, Random, qemu};

const DEPRECATED: &str = "QCOW version 1 is deprecated";

#[test]
fn version_1_is_never_written() {
    let bench = Bench::new();
    let (image, _) = crate::common::image();
    bench.write("old.qcow", &image);
    for format in ["qcow", "qcow1"] {
        bench.fails(18, DEPRECATED, &["create", "-f", format, "new", "1G"]);
        bench.fails(18, DEPRECATED, &["convert", "-O", format, "old.qcow", "new"]);
    }
    assert_eq!(bench.names(), ["old.qcow"]);
}

#[test]
fn codes_are_explained_and_usage_has_its_own() {
    let bench = Bench::new();
    for code in [0, 1, 2, 3, 4, 10, 11, 12, 13, 14, 15, 16, 17, 18, 63, 64, 75, 85, 129, 130, 143] {
        let text = bench.ok(&["--explain", &code.to_string()]).out;
        assert!(text.starts_with(&format!("{code}: ")), "{text}");
    }
    bench.fails(64, "no exit code 99", &["--explain", "99"]);
    bench.fails(64, "", &["convert", "only-one"]);
    bench.fails(64, "", &["no-such-verb"]);
    bench.fails(64, "name a verb", &[]);
    bench.fails(64, "-m", &["convert", "-m", "17", "a", "b"]);
    bench.fails(64, "-S", &["convert", "-S", "100", "a", "b"]);
    bench.fails(64, "cache mode", &["convert", "-t", "fast", "a", "b"]);
    bench.fails(63, "vmdk", &["convert", "-O", "vmdk", "a", "b"]);
    bench.fails(63, "packed", &["convert", "-c", "a", "b"]);
    bench.fails(
        63,
        "compression_type=zstd",
        &["convert", "-O", "qcow2", "-o", "compression_type=zstd", "a", "b"],
    );
    assert!(bench.ok(&["--help"]).out.contains("convert"));
    assert!(bench.ok(&["convert", "-O", "qcow2", "-o", "help", "a", "b"]).out.contains("cluster"));
}

#[test]
fn called_as_qemu_img_it_does_the_same_under_that_name() {
    let bench = Bench::new();
    let (image, disk) = crate::common::image();
    bench.write("old.qcow", &image);
    let run = |arguments: &[&str]| {
        let output = bench.command(arguments).arg0("/usr/bin/qemu-img").output();
        Said::of(&output.expect("the program runs"))
    };
    let said = run(&["convert", "-p", "-O", "raw", "old.qcow", "new.raw"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(bench.read("new.raw") == disk);
    let said = run(&["convert", "-O", "qcow", "old.qcow", "x"]);
    assert!(said.err.starts_with("qemu-img: "), "{}", said.err);
    assert_eq!(said.code, Some(18));
}

#[test]
fn compare_has_qemus_texts_and_codes() {
    let bench = Bench::new();
    let (image, mut disk) = crate::common::image();
    bench.write("old.qcow", &image);
    bench.write("same.raw", &disk);
    disk[300_000] ^= 1;
    bench.write("other.raw", &disk);
    bench.write("short.raw", &disk[..512]);
    let compare = |more: &[&str]| bench.run(&[&["compare", "-F", "raw"], more].concat());
    let said = compare(&["old.qcow", "same.raw"]);
    assert_eq!((said.code, said.out.as_str()), (Some(0), "Images are identical.\n"));
    let said = compare(&["old.qcow", "other.raw"]);
    assert_eq!((said.code, said.out.as_str()), (Some(1), "Content mismatch at offset 299520!\n"));
    let said = compare(&["-s", "old.qcow", "short.raw"]);
    let text = "Strict mode: Image size mismatch!\n";
    assert_eq!((said.code, said.out.as_str()), (Some(1), text));
    let said = compare(&["-q", "old.qcow", "other.raw"]);
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""));
    assert_eq!(compare(&["old.qcow", "missing"]).code, Some(2));
    let json = compare(&["--output=json", "old.qcow", "other.raw"]).json();
    assert_eq!((&json["result"], &json["offset"]), (&"content-mismatch".into(), &299_520.into()));
    let said = compare(&["-s", "old.qcow", "same.raw"]);
    assert!(said.out.contains("block status mismatch") || said.code == Some(0), "{}", said.out);
}

#[test]
fn create_makes_what_qemu_takes_for_its_own() {
    let bench = Bench::new();
    bench.ok(&["create", "-q", "base.raw", "3M"]);
    assert_eq!(bench.read("base.raw").len(), 3 << 20);
    let said = bench.ok(&["create", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "o.qcow2"]);
    assert!(said.out.contains("fmt=qcow2") && said.out.contains("size=3145728"), "{}", said.out);
    bench.ok(&["create", "-f", "qcow2", "-o", "cluster_size=512", "s.qcow2", "1.5G"]);
    bench.fails(64, "size is missing", &["create", "-f", "qcow2", "x"]);
    bench.fails(64, "format has to be named", &["create", "-f", "qcow2", "-b", "base.raw", "x"]);
    bench.fails(1, "nowhere", &["create", "-f", "qcow2", "-b", "nowhere", "-F", "raw", "x"]);
    bench.ok(&["create", "-f", "qcow2", "-u", "-b", "nowhere", "-F", "raw", "u.qcow2", "1M"]);
    if qemu::has("qemu-img") {
        qemu::assert_clean(bench.path(), "o.qcow2");
        qemu::assert_clean(bench.path(), "s.qcow2");
        assert_eq!(qemu::content(bench.path(), &["-f", "qcow2"], "o.qcow2"), vec![0; 3 << 20]);
    }
}

#[test]
fn a_probed_raw_disk_is_announced_and_a_named_one_is_not() {
    let bench = Bench::new();
    bench.write("disk", &[7; 4096]);
    let said = bench.ok(&["convert", "-O", "qcow2", "disk", "a.qcow2"]);
    assert!(said.err.contains("read as raw") && said.err.contains("-f raw"), "{}", said.err);
    let said = bench.ok(&["convert", "-f", "raw", "-O", "qcow2", "disk", "b.qcow2"]);
    assert_eq!(said.err, "");
    let said = bench.ok(&["convert", "-q", "-O", "qcow2", "disk", "c.qcow2"]);
    assert_eq!(said.err, "");
}

#[test]
fn names_out_of_images_reach_no_terminal_as_they_are() {
    let bench = Bench::new();
    let name = b"evil\x1b[2J\x07\nname\xe9";
    bench.write("old.qcow", &Builder::new(9, 12, 4096).backing(name).build());
    for arguments in [&["info", "old.qcow"][..], &["info", "--output=json", "old.qcow"]] {
        let said = bench.ok(arguments);
        assert!(said.out.contains("evil"), "{}", said.out);
        assert!(!said.out.contains(['\x1b', '\x07']), "{}", said.out);
    }
    let said = bench.fails(13, "evil\\u{1b}[2J", &["convert", "old.qcow", "x"]);
    assert!(!said.err.contains(['\x1b', '\x07']), "{}", said.err);
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
}

#[test]
fn bases_are_followed_only_where_they_may_be() {
    let bench = Bench::new();
    let overlay = |name: &[u8]| Builder::new(9, 12, 4096).backing(name).build();
    std::fs::create_dir_all(bench.file("in/deep")).expect("a folder");
    std::fs::create_dir(bench.file("out")).expect("a folder");
    bench.write("in/base", &[1; 4096]);
    bench.write("in/deep/base", &[2; 4096]);
    bench.write("out/base", &[3; 4096]);
    std::os::unix::fs::symlink("../out/base", bench.file("in/link")).expect("a link");
    let convert = |more: &[&str]| {
        let arguments = [&["convert", "--force"][..], more, &["in/o.qcow", "new"]].concat();
        bench.run(&arguments)
    };
    for (name, byte) in [(&b"base"[..], 1), (b"./deep/../base", 1), (b"deep/base", 2)] {
        bench.write("in/o.qcow", &overlay(name));
        assert_eq!(convert(&[]).code, Some(0), "{name:?}");
        assert_eq!(bench.read("new")[0], byte, "{name:?}");
    }
    let outside = bench.file("out/base");
    let absolute = outside.as_os_str().as_encoded_bytes();
    for name in [&b"../out/base"[..], b"link", absolute] {
        bench.write("in/o.qcow", &overlay(name));
        let said = convert(&[]);
        assert_eq!(said.code, Some(13), "{}", said.err);
        assert_eq!(convert(&["--base-root", "out"]).code, Some(0), "{name:?}");
        assert_eq!(bench.read("new")[0], 3, "{name:?}");
        assert_eq!(convert(&["--base", "in/base"]).code, Some(0), "{name:?}");
        assert_eq!(bench.read("new")[0], 1, "{name:?}");
    }
    for name in [
        &b"json:{\"driver\":\"raw\"}"[..],
        b"nbd:localhost:10809",
        b"nbd://localhost",
        b"http://example.org/x",
        b"/dev/null",
        b"fat:rw:/tmp",
        b"missing",
        b"o.qcow",
    ] {
        bench.write("in/o.qcow", &overlay(name));
        let said = convert(&[]);
        assert_eq!(said.code, Some(13), "{name:?}: {}", said.err);
        assert_eq!(bench.ok(&["info", "in/o.qcow"]).code, Some(0), "info opens no base");
    }
}

#[test]
fn a_base_whose_name_cannot_be_read_is_not_taken_for_none() {
    let bench = Bench::new();
    bench.write("base", &[6; 4096]);
    let mut far = Builder::new(9, 12, 4096).backing(b"base");
    far.patch(8, &(1u64 << 40).to_be_bytes());
    for image in [far.build(), Builder::new(9, 12, 4096).backing(b"\0base").build()] {
        bench.write("o.qcow", &image);
        bench.fails(10, "[Q10]", &["convert", "o.qcow", "x"]);
        bench.ok(&["convert", "--force", "--base", "base", "o.qcow", "new"]);
        assert_eq!(bench.read("new"), [6; 4096]);
    }
}

#[test]
fn a_chain_is_followed_to_64_images_and_no_further() {
    let bench = Bench::new();
    bench.write("0", &[5; 4096]);
    for number in 1..=64 {
        let base = (number - 1).to_string();
        let overlay = Builder::new(9, 12, 4096).backing(base.as_bytes()).build();
        bench.write(&number.to_string(), &overlay);
    }
    bench.ok(&["convert", "63", "new"]);
    assert_eq!(bench.read("new"), [5; 4096]);
    bench.fails(13, "longer than 64 images", &["convert", "64", "x"]);
    // A cycle is found by the files, whatever they are called.
    bench.write("a", &Builder::new(9, 12, 4096).backing(b"b").build());
    std::fs::hard_link(bench.file("a"), bench.file("b")).expect("a link");
    bench.fails(13, "part of the chain", &["convert", "a", "x"]);
}

#[test]
fn a_base_is_read_in_the_format_that_is_pinned() {
    let bench = Bench::new();
    let mut inner = Builder::new(12, 9, 4096);
    inner.plain(0, &[9; 4096]);
    bench.write("base", &inner.build());
    bench.write("o.qcow", &Builder::new(9, 12, 4096).backing(b"base").build());
    bench.ok(&["convert", "o.qcow", "as-qcow"]);
    assert_eq!(bench.read("as-qcow"), [9; 4096]);
    bench.ok(&["convert", "--backing-format", "raw", "o.qcow", "as-raw"]);
    assert!(bench.read("as-raw").starts_with(b"QFI\xFB"));
}

fn encrypted(bench: &Bench) -> Vec<u8> {
    let mut builder = Builder::new(12, 9, 64 << 10).encrypted(b"correct horse");
    let mut disk = vec![0; 64 << 10];
    for cluster in 0..8 {
        let text = format!("cluster {cluster} of a disk with a file system on it. ").repeat(100);
        let text = &text.as_bytes()[..4096];
        builder.plain(cluster, text);
        let start = usize::try_from(cluster * 4096).expect("small");
        disk[start..start + 4096].copy_from_slice(text);
    }
    bench.write("old.qcow", &builder.build());
    bench.write("right", b"correct horse\n");
    bench.write("wrong", b"battery staple\n");
    disk
}

#[test]
fn passphrases_come_from_files_descriptors_and_secrets() {
    let bench = Bench::new();
    let disk = encrypted(&bench);
    bench.fails(12, "--passphrase-file", &["convert", "old.qcow", "new"]);
    let said = bench.ok(&["convert", "--passphrase-file", "right", "old.qcow", "new"]);
    assert!(said.err.contains("is not encrypted"), "{}", said.err);
    assert!(bench.read("new") == disk);
    let mut child = bench
        .command(&["convert", "--force", "--passphrase-fd", "0", "old.qcow", "new"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("the program runs");
    child.stdin.take().expect("a pipe").write_all(b"correct horse\n").expect("it reads");
    assert!(child.wait().expect("it ends").success());
    assert!(bench.read("new") == disk);
    for object in
        ["secret,id=k,data=correct horse", "secret,id=k,format=base64,data=Y29ycmVjdCBob3JzZQ=="]
    {
        let source = "driver=qcow,encrypt.key-secret=k,file.filename=old.qcow";
        bench.ok(&["convert", "--force", "--object", object, "--image-opts", source, "new"]);
        assert!(bench.read("new") == disk);
    }
    let source = "driver=qcow,encrypt.key-secret=other,file.filename=old.qcow";
    let object = "secret,id=k,data=x";
    bench.fails(64, "'other'", &["convert", "--object", object, "--image-opts", source, "n"]);
    let text = bench.ok(&["compare", "--passphrase-file", "right", "old.qcow", "new"]).out;
    assert_eq!(text, "Images are identical.\n");
    bench.ok(&["map", "old.qcow"]);
    assert!(bench.ok(&["map", "--output=json", "old.qcow"]).out.contains("\"encrypted\": true"));
}

#[test]
fn a_passphrase_that_makes_noise_is_refused_unless_forced() {
    let bench = Bench::new();
    let disk = encrypted(&bench);
    let arguments = ["convert", "--passphrase-file", "wrong", "old.qcow", "new"];
    bench.fails(12, "noise", &arguments);
    assert!(!bench.file("new").exists());
    bench.ok(&[&arguments[..], &["--force-passphrase"]].concat());
    assert!(bench.read("new") != disk);
    bench.write("plain.qcow", &Builder::new(12, 9, 4096).build());
    let arguments = ["convert", "--passphrase-file", "right", "plain.qcow", "x"];
    bench.fails(12, "passphrases given: 1", &arguments);
}

#[test]
fn each_layer_may_have_its_own_passphrase() {
    let bench = Bench::new();
    let text = b"the base's own words, over and over; ".repeat(200);
    let mut base = Builder::new(12, 9, 8192).encrypted(b"below");
    base.plain(1, &text[..4096]);
    bench.write("base.qcow", &base.build());
    let mut top = Builder::new(9, 12, 8192).backing(b"base.qcow").encrypted(b"above");
    top.plain(0, &text[..512]);
    bench.write("top.qcow", &top.build());
    bench.write("above", b"above");
    bench.write("below", b"below");
    let both = ["--passphrase-file", "above", "--passphrase-file", "below"];
    bench.ok(&[&["convert"][..], &both, &["top.qcow", "new"]].concat());
    let found = bench.read("new");
    assert_eq!((&found[..512], &found[4096..]), (&text[..512], &text[..4096]));
    let thin = ["-O", "qcow2", "-B", "base.qcow", "-F", "qcow", "top.qcow", "thin.qcow2"];
    bench.fails(63, "encrypted", &[&["convert"][..], &both, &thin].concat());
    let swapped = ["--passphrase-file", "below", "--passphrase-file", "above"];
    bench.fails(12, "noise", &[&["convert"][..], &swapped, &["top.qcow", "x"]].concat());
}

#[test]
fn verification_prints_the_digest_of_the_raw_disk() {
    let bench = Bench::new();
    let mut random = Random::new(4);
    let mut builder = Builder::new(16, 9, 9 << 20);
    for cluster in 0..100 {
        builder.plain(cluster, &random.content(65536));
    }
    bench.write("old.qcow", &builder.build());
    bench.ok(&["convert", "-f", "qcow", "old.qcow", "disk.raw"]);
    let arguments = ["convert", "--verify", "--output=json", "-O", "qcow2", "old.qcow", "n.qcow2"];
    let summary = bench.ok(&arguments).json();
    let digest = blake3::hash(&bench.read("disk.raw")).to_hex().to_string();
    assert_eq!(summary["blake3"], digest.as_str());
    assert_eq!(summary["verified"], true);
    let said = bench.ok(&["convert", "--verify", "--force", "old.qcow", "disk.raw"]);
    assert!(said.out.contains(&digest), "{}", said.out);
}

#[test]
fn progress_on_a_pipe_only_where_it_was_asked_for() {
    let bench = Bench::new();
    let (image, _) = crate::common::image();
    bench.write("old.qcow", &image);
    let said = bench.ok(&["convert", "old.qcow", "a"]);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("", ""));
    let said = bench.ok(&["convert", "-p", "old.qcow", "b"]);
    assert!(said.out.contains("(100.00/100%)\r"), "{:?}", said.out);
    let said = bench.ok(&["convert", "-p", "-q", "old.qcow", "c"]);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("", ""));
    let said = bench.ok(&["convert", "--progress", "json", "old.qcow", "d"]);
    let lines: Vec<serde_json::Value> =
        said.err.lines().map(|line| serde_json::from_str(line).expect("JSON Lines")).collect();
    assert_eq!(lines.last().expect("a line")["phase"], "done");
    assert!(lines.iter().any(|line| line["done"] == line["total"]), "{}", said.err);
    let said = bench.ok(&["convert", "--progress", "json=1", "old.qcow", "e"]);
    assert!(said.out.contains("\"phase\":\"done\""), "{}", said.out);
    bench.fails(64, "no mode", &["convert", "--progress", "loud", "old.qcow", "f"]);
}

#[test]
fn a_reader_who_goes_away_ends_nothing_with_a_complaint() {
    let bench = Bench::new();
    let mut builder = Builder::new(9, 12, 4 << 20);
    for cluster in 0..4000 {
        builder.plain(cluster * 2, &[1; 512]);
    }
    bench.write("old.qcow", &builder.build());
    let mut child = bench
        .command(&["map", "--output=json", "old.qcow"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    drop(child.stdout.take());
    let said = Said::of(&child.wait_with_output().expect("it ends"));
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
}

#[test]
fn an_image_that_qemu_writes_is_in_use() {
    if !qemu::has("qemu-io") {
        return;
    }
    let bench = Bench::new();
    let (image, _) = crate::common::image();
    bench.write("old.qcow", &image);
    let mut writer = std::process::Command::new("qemu-io")
        .current_dir(bench.path())
        .args(["-f", "qcow", "old.qcow"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("qemu-io runs");
    let mut to = writer.stdin.take().expect("a pipe");
    to.write_all(b"write -P 1 0 512\n").expect("it reads");
    // It answers when it has written, and so has its locks.
    let mut answer = [0; 5];
    let mut from = writer.stdout.take().expect("a pipe");
    std::io::Read::read_exact(&mut from, &mut answer).expect("it answers");
    bench.fails(15, "-U", &["convert", "old.qcow", "new"]);
    bench.fails(15, "-U", &["info", "old.qcow"]);
    bench.ok(&["info", "-U", "old.qcow"]);
    drop(to);
    writer.wait().expect("it ends");
    bench.ok(&["convert", "old.qcow", "new"]);
}

#[test]
fn names_that_are_no_text_can_be_told_apart_in_whatever_is_told() {
    use std::os::unix::ffi::OsStrExt;
    let bench = Bench::new();
    std::fs::create_dir(bench.file("tree")).expect("a folder");
    let (image, _) = crate::common::image();
    let [one, other] = [&b"tree/\xfe.qcow"[..], b"tree/\xff.qcow"].map(std::ffi::OsStr::from_bytes);
    std::fs::write(bench.path().join(one), &image[..40]).expect("a file");
    std::fs::write(bench.path().join(other), &image).expect("a file");
    for verb in ["info", "check", "map", "upgrade", "layout"] {
        let output = bench.command(&[verb]).arg(one).output().expect("runs");
        let said = Said::of(&output);
        let all = format!("{}{}", said.out, said.err);
        assert!(all.contains("tree/\\xfe.qcow") && !all.contains('\u{fffd}'), "{verb}: {all}");
    }
    // In what a run tells, its journal and its report.
    bench.run(&["scan", "-q", "--catalogue", "catalogue", "tree"]);
    bench.ok(&["plan", "-q", "catalogue", "--save", "plan"]);
    std::fs::write(bench.path().join(other), &image[..image.len() - 512]).expect("a file");
    let said = bench.fails(11, "tree/\\xff.qcow: was written to since", &["migrate", "plan"]);
    let report = bench.ok(&["report", "--output", "json", "plan"]);
    assert!(report.out.contains("tree/\\\\xff.qcow: was written to since"), "{}", report.out);
    assert!(!format!("{}{}", said.err, report.out).contains('\u{fffd}'), "{}", report.out);
}
