//! Images in a store, through the real binary and a real server.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use calve_testkit::{Builder, Random, qemu};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::common::store::{BUCKET, SIGNED, Server, Wire};
use crate::common::{Bench, image};

fn at(key: &str) -> String {
    format!("s3://{BUCKET}/{key}")
}

/// A disk of 24 MiB of which three quarters are stored, in an image with many tables, and its
/// bytes.
fn large() -> (Vec<u8>, Vec<u8>) {
    let mut builder = Builder::new(12, 7, 24 << 20).aligned(4096);
    let mut disk = vec![0; 24 << 20];
    for cluster in (0..6144u64).filter(|cluster| cluster % 4 != 3) {
        let content = Random::new(cluster).content(4096);
        builder.plain(cluster, &content);
        let start = usize::try_from(cluster * 4096).expect("small");
        disk[start..start + 4096].copy_from_slice(&content);
    }
    (builder.build(), disk)
}

/// Asserts that bytes are a qcow2 image of this disk, for calve and for stock QEMU.
fn assert_qcow2(bench: &Bench, bytes: &[u8], disk: &[u8]) {
    bench.write("fetched.qcow2", bytes);
    bench.ok(&["convert", "-q", "--force", "-f", "qcow2", "fetched.qcow2", "fetched.raw"]);
    assert!(bench.read("fetched.raw") == disk, "other bytes");
    if qemu::has("qemu-img") {
        qemu::assert_clean(bench.path(), "fetched.qcow2");
        let content = qemu::content(bench.path(), &["-f", "qcow2"], "fetched.qcow2");
        assert!(content == disk, "other bytes for QEMU");
    }
}

#[test]
fn objects_are_read_as_files_are() {
    let Some(server) = Server::start() else { return };
    let wire = Wire::to(&server);
    let bench = Bench::new().with_store(&wire.address);
    let (image, disk) = large();
    bench.write("old.qcow", &image);
    server.put("dir/old.qcow", &image);
    let object = at("dir/old.qcow");
    let said = bench.ok(&["info", "--output", "json", &object]).json();
    let (_, received) = wire.bytes();
    assert!(received < 40_000, "{received} bytes for what the header says");
    let heads = wire.heads();
    let read = heads.iter().filter(|head| head.contains("get ") && !head.contains("calve-undo"));
    assert!(read.clone().all(|head| head.contains("\r\nrange: bytes=")), "{heads:?}");
    assert_eq!(read.count(), 1, "{heads:?}");
    let mut local = bench.ok(&["info", "--output", "json", "old.qcow"]).json();
    for key in ["filename", "actual-size", "children", "advice"] {
        local[key] = said[key].clone();
    }
    assert_eq!(said, local);
    // All tables are read, and no more than a block for each.
    wire.forget();
    let checked = bench.ok(&["check", "--output", "json", &object]).json();
    let (_, received) = wire.bytes();
    assert!(received < 64 * 34_000, "{received} bytes for 48 tables");
    let is_note = |head: &str| head.contains("calve-undo");
    assert!(wire.heads().iter().all(|head| is_note(head) || head.contains("range: bytes=")));
    let local = bench.ok(&["check", "--output", "json", "old.qcow"]).json();
    assert_eq!(checked["allocated-clusters"], local["allocated-clusters"]);
    let renamed = |text: &str| text.replace(&object, "old.qcow");
    let map = ["map", "--output", "json"];
    let said = bench.ok(&[&map[..], &[&object]].concat()).out;
    assert_eq!(renamed(&said), bench.ok(&[&map[..], &["old.qcow"]].concat()).out);
    bench.ok(&["compare", "--strict", &object, "old.qcow"]);
    bench.ok(&["convert", "--verify", "-O", "qcow2", &object, "new.qcow2"]);
    assert_qcow2(&bench, &bench.read("new.qcow2"), &disk);
    for verb in ["layout", "timeline"] {
        let said = bench.ok(&[verb, &object]).out;
        assert_eq!(renamed(&said), bench.ok(&[verb, "old.qcow"]).out, "{verb}");
    }
    // What is not there is told, each in its way.
    bench.fails(1, "no such object (404 NoSuchKey)", &["info", &at("dir/none")]);
    bench.fails(1, "no such bucket", &["info", "s3://no-such-bucket/x"]);
    bench.fails(64, "no key", &["info", "s3://old-images"]);
    bench.fails(64, "..", &["info", &at("dir/../old.qcow")]);
}

#[test]
fn what_needs_files_refuses_objects() {
    let mut bench = Bench::new().with_store("http://127.0.0.1:1");
    bench.write("old.qcow", &image().0);
    let object = at("x");
    let object = &*object;
    for arguments in [
        &["info", "--untrusted", object][..],
        &["info", "--sandbox", "require", object],
        &["convert", "--untrusted", "old.qcow", object],
        &["info", "--evidence", "log.json", object],
        &["rescue", object, "new.raw", "--map", "map"],
        &["rescue", "old.qcow", object, "--map", "map"],
        &["check", "-r", "leaks", object],
        &["create", "-f", "qcow2", object, "1M"],
        &["upgrade", "--reflink-to", object, "old.qcow"],
    ] {
        bench.fails(63, "is an object", arguments);
    }
    bench.fails(64, "-n", &["convert", "-n", "old.qcow", object]);
    bench.fails(64, "--chain", &["upgrade", "--chain", object]);
    // A log tells of what was refused, too.
    assert_eq!(bench.names(), ["log.json", "old.qcow"]);
    // Nobody listens there.
    bench.fails(1, "Connection refused", &["info", object]);
    bench.set("AWS_ENDPOINT_URL", "http://user:THEKEYITSELF@host");
    let said = bench.fails(64, "endpoint", &["info", object]);
    assert!(!said.err.contains("THEKEYITSELF"), "{}", said.err);
}

#[test]
fn a_conversion_makes_an_object_as_a_whole() {
    let Some(server) = Server::start() else { return };
    let bench = Bench::new().with_store(&server.address());
    let (image, disk) = large();
    bench.write("old.qcow", &image);
    let object = at("new.qcow2");
    let convert = ["convert", "--output", "json", "--verify", "-O", "qcow2", "old.qcow", &object];
    let said = bench.ok(&convert).json();
    let made = server.get("new.qcow2").expect("an object");
    assert_eq!(said["traffic"]["sent-bytes"], made.len());
    assert_eq!(
        (&said["file-length"], &said["filename"]),
        (&made.len().into(), &object.clone().into())
    );
    assert_qcow2(&bench, &made, &disk);
    // The bytes are those that a file would have.
    bench.ok(&["convert", "-q", "-O", "qcow2", "old.qcow", "new.qcow2"]);
    assert!(bench.read("new.qcow2") == made);
    bench.fails(18, "exists already", &["convert", "-O", "raw", "old.qcow", &object]);
    assert!(server.get("new.qcow2").expect("an object") == made);
    bench.ok(&["convert", "-q", "--force", "-O", "raw", "old.qcow", &object]);
    assert!(server.get("new.qcow2").expect("an object") == disk);
    bench.fails(18, "same object", &["convert", "--force", "-f", "raw", &object, &object]);
    assert_eq!(server.uploads(), [""; 0]);
    assert_eq!(server.keys(), ["new.qcow2"]);
    // Nor is anything left here.
    let mut bench = bench;
    let folder = bench.file("temporary");
    std::fs::create_dir(&folder).expect("a folder");
    bench.set("TMPDIR", folder.to_str().expect("a name"));
    bench.ok(&["convert", "-q", "-O", "qcow2", "old.qcow", &at("again")]);
    assert_eq!(std::fs::read_dir(folder).expect("a folder").count(), 0);
    // A target that came into being meanwhile is not replaced.
    let bytes = Arc::new(Mutex::new(Some(())));
    let wire = {
        let address = server.address();
        Wire::meddling(&server, move |line, _| {
            if line.starts_with("PUT") && bytes.lock().expect("no panic").take().is_some() {
                put(&address, "meanwhile", b"somebody's");
            }
        })
    };
    bench.set("AWS_ENDPOINT_URL", &wire.address);
    bench.fails(18, "meanwhile", &["convert", "-O", "qcow2", "old.qcow", &at("meanwhile")]);
    assert_eq!(server.get("meanwhile").expect("an object"), b"somebody's");
    assert_eq!(server.uploads(), [""; 0]);
}

/// Puts an object by way of an address alone.
fn put(address: &str, key: &str, bytes: &[u8]) {
    use std::io::{Read, Write};
    let host = address.strip_prefix("http://").expect("an address");
    let mut stream = std::net::TcpStream::connect(host).expect("a connection");
    let head = format!(
        "PUT /{BUCKET}/{key} HTTP/1.1\r\nHost: {host}\r\n{SIGNED}Content-Length: {}\r\n\
         Connection: close\r\n\r\n",
        bytes.len()
    );
    stream.write_all(&[head.as_bytes(), bytes].concat()).expect("sent");
    stream.read_to_end(&mut Vec::new()).expect("an answer");
}

#[test]
fn an_upgrade_sends_tables_and_one_part() {
    let Some(server) = Server::start() else { return };
    let wire = Wire::to(&server);
    let bench = Bench::new().with_store(&wire.address);
    let (image, disk) = large();
    server.put("old.qcow", &image);
    let object = at("old.qcow");
    let plan = bench.ok(&["upgrade", "--dry-run", "--output", "json", &object]).json();
    assert!(server.get("old.qcow").expect("an object") == image);
    assert_eq!(server.keys(), ["old.qcow"]);
    wire.forget();
    let said = bench.ok(&["upgrade", "--output", "json", &object]).json();
    let (sent, received) = wire.bytes();
    let number = |value: &Value| value.as_u64().expect("a number");
    let appended = number(&plan["appended-bytes"]);
    let least = (5 << 20) + appended;
    assert!(sent < least + 64_000, "{sent} bytes for {appended} of tables");
    assert!(received < (5 << 20) + 64 * 34_000, "{received} bytes came");
    assert!(number(&said["traffic"]["sent-bytes"]) >= least);
    let copied = number(&said["traffic"]["copied-bytes"]);
    assert_eq!(copied, image.len() as u64 - (5 << 20));
    let made = server.get("old.qcow").expect("an object");
    assert_eq!(number(&plan["file-length"]), made.len() as u64);
    assert_qcow2(&bench, &made, &disk);
    assert_eq!(server.keys(), ["old.qcow", "old.qcow.calve-undo"]);
    assert!(bench.ok(&["info", &object]).out.contains("can be undone"));
    bench.fails(18, "upgraded already", &["upgrade", &object]);
    // As a file it would be the same to the byte.
    bench.write("old.qcow", &image);
    bench.ok(&["upgrade", "-q", "old.qcow"]);
    assert!(bench.read("old.qcow") == made);
    // And back.
    wire.forget();
    bench.ok(&["upgrade", "--undo", &object]);
    assert!(wire.bytes().0 < (5 << 20) + 64_000, "{:?}", wire.bytes());
    assert!(server.get("old.qcow").expect("an object") == image, "not what it was");
    assert_eq!(server.keys(), ["old.qcow"]);
    // Beside it, with the old one as it was.
    wire.forget();
    let beside = at("new.qcow2");
    bench.ok(&["upgrade", "--reflink-to", &beside, &object]);
    assert!(wire.bytes().0 < least + 64_000, "{:?}", wire.bytes());
    assert_qcow2(&bench, &server.get("new.qcow2").expect("an object"), &disk);
    assert!(server.get("old.qcow").expect("an object") == image);
    bench.fails(18, "exists already", &["upgrade", "--reflink-to", &beside, &object]);
    // With everything compared, and the way back given up.
    bench.ok(&["upgrade", "-q", "--verify", "full", "--hold", &object]);
    bench.ok(&["upgrade", "--release", &object]);
    assert_qcow2(&bench, &server.get("old.qcow").expect("an object"), &disk);
    assert_eq!(server.keys(), ["new.qcow2", "old.qcow"]);
    assert_eq!(server.uploads(), [""; 0]);
}

#[test]
fn an_object_that_is_replaced_meanwhile_is_told() {
    let Some(server) = Server::start() else { return };
    let (image, _) = large();
    let mut other = image.clone();
    *other.last_mut().expect("a byte") ^= 1;
    // Before the last look at it, or at once before the end, or while it is read.
    for (verb, before) in [("convert", "GET"), ("upgrade", "HEAD"), ("upgrade", "PUT")] {
        server.put("old.qcow", &image);
        let (count, address) = (AtomicUsize::new(0), server.address());
        let replaced = other.clone();
        let wire = Wire::meddling(&server, move |line, _| {
            // The first requests are of the opening.
            if line.starts_with(before) && count.fetch_add(1, Ordering::SeqCst) == 1 {
                put(&address, "old.qcow", &replaced);
            }
        });
        let bench = Bench::new().with_store(&wire.address);
        let object = at("old.qcow");
        match verb {
            "convert" => {
                bench.fails(14, "s3://", &["convert", "-O", "raw", &object, "new.raw"]);
                assert_eq!(bench.names(), [""; 0]);
            }
            _ => {
                bench.fails(14, "s3://", &["upgrade", &object]);
            }
        }
        assert!(server.get("old.qcow").expect("an object") == other, "{verb} {before}");
        assert_eq!(server.keys(), ["old.qcow"], "{verb} {before}");
        assert_eq!(server.uploads(), [""; 0], "{verb} {before}");
    }
}

#[test]
fn whoever_is_stopped_leaves_no_object() {
    let Some(server) = Server::start() else { return };
    let (image, disk) = large();
    let object = at("new.raw");
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let (is_sending, is_over) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let wire = {
            let (is_sending, is_over) = (Arc::clone(&is_sending), Arc::clone(&is_over));
            Wire::meddling(&server, move |line, _| {
                if line.starts_with("PUT") {
                    is_sending.store(true, Ordering::SeqCst);
                    while !is_over.load(Ordering::SeqCst) {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                }
            })
        };
        let bench = Bench::new().with_store(&wire.address);
        bench.write("old.qcow", &image);
        let mut child = bench
            .command(&["convert", "-O", "raw", "old.qcow", &object])
            .stderr(Stdio::null())
            .spawn()
            .expect("the program runs");
        let started = Instant::now();
        while !is_sending.load(Ordering::SeqCst) {
            assert!(started.elapsed() < Duration::from_secs(60), "it sends nothing");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(server.uploads(), ["new.raw"]);
        kill(Pid::from_raw(i32::try_from(child.id()).expect("a number")), signal).expect("sent");
        is_over.store(true, Ordering::SeqCst);
        let status = child.wait().expect("it ends");
        assert_eq!(server.keys(), [""; 0], "{signal}");
        match signal {
            Signal::SIGTERM => {
                assert_eq!(status.code(), Some(143));
                assert_eq!(server.uploads(), [""; 0], "parts stay");
            }
            _ => assert_eq!(status.signal(), Some(9)),
        }
        // Whoever does it again gets it.
        let bench = bench.with_store(&server.address());
        bench.ok(&["convert", "-q", "-O", "raw", "old.qcow", &object]);
        assert!(server.get("new.raw").expect("an object") == disk);
        server.ask("DELETE", &format!("{BUCKET}/new.raw"), &[]);
    }
}

#[test]
fn bases_are_objects_beside_their_overlays() {
    let Some(server) = Server::start() else { return };
    let bench = Bench::new().with_store(&server.address());
    let (base, mut disk) = image();
    let mut overlay = Builder::new(9, 12, 1 << 20).backing(b"base.qcow");
    overlay.plain(3, &[0x55; 512]);
    disk[3 * 512..4 * 512].fill(0x55);
    let overlay = overlay.build();
    for (key, bytes) in
        [("dir/top.qcow", &overlay), ("dir/base.qcow", &base), ("top.qcow", &overlay)]
    {
        server.put(key, bytes);
    }
    let (top, lone) = (at("dir/top.qcow"), at("top.qcow"));
    bench.ok(&["convert", "-q", "-O", "raw", &top, "new.raw"]);
    assert!(bench.read("new.raw") == disk);
    let said = bench.ok(&["info", "--backing-chain", &top]).out;
    assert!(said.contains(&format!("image: {}", at("dir/base.qcow"))), "{said}");
    bench.fails(13, "does not exist", &["convert", "-O", "raw", &lone, "other.raw"]);
    let base = at("dir/base.qcow");
    bench.ok(&["convert", "-q", "--base", &base, "-O", "raw", &lone, "other.raw"]);
    assert!(bench.read("other.raw") == disk);
    // A thin overlay over what is there, and an upgrade of the one over the other.
    let thin = at("dir/thin.qcow2");
    let over = ["convert", "-q", "--verify", "-O", "qcow2", "-B", "base.qcow", "-F", "qcow"];
    bench.ok(&[&over[..], &[&top, &thin]].concat());
    bench.ok(&["compare", &thin, "new.raw"]);
    bench.ok(&["upgrade", "-q", &top]);
    bench.ok(&["compare", &top, "new.raw"]);
    // What an image records does not lead out of its place, nor into a store.
    for name in ["../base.qcow", "/dir/base.qcow", "s3://old-images/dir/base.qcow", "nbd://host/x"]
    {
        let image = Builder::new(9, 12, 1 << 20).backing(name.as_bytes()).build();
        server.put("dir/odd.qcow", &image);
        bench.fails(13, "backing file", &["convert", "-O", "raw", &at("dir/odd.qcow"), "odd.raw"]);
        bench.write("odd.qcow", &image);
        bench.fails(13, "backing file", &["convert", "-O", "raw", "odd.qcow", "odd.raw"]);
    }
    server.put("dir/odd.qcow", &Builder::new(9, 12, 1 << 20).backing(b"../top.qcow").build());
    let root = format!("s3://{BUCKET}");
    let odd = at("dir/odd.qcow");
    bench.fails(13, "outside", &["map", &odd]);
    bench.ok(&["map", "--base-root", &root, "--base", &at("top.qcow"), "--base", &base, &odd]);
    let cycle = Builder::new(9, 12, 1 << 20).backing(b"dir/../odd.qcow").build();
    server.put("odd.qcow", &cycle);
    bench.fails(13, "never ends", &["map", &at("odd.qcow")]);
}

#[test]
fn signatures_are_those_that_others_make() {
    // From the fifth request on it compares signatures.
    let Some(server) = Server::start_with(&[("INITIAL_NO_AUTH_ACTION_COUNT", "5")]) else { return };
    let (image, disk) = image();
    assert_eq!(server.ask("PUT", BUCKET, &[]).0, 200);
    assert_eq!(server.ask("PUT", &format!("{BUCKET}/a%20b%2B%C3%BC.qcow"), &image).0, 200);
    let iam = |form: &str| {
        let line = "Authorization: AWS4-HMAC-SHA256 Credential=x/20200101/us-east-1/iam/aws4_request, \
                    SignedHeaders=host, Signature=0\r\n\
                    Content-Type: application/x-www-form-urlencoded\r\n";
        let (status, text) =
            server.ask_as("POST", "", line, format!("Version=2010-05-08&{form}").as_bytes());
        let text = String::from_utf8_lossy(&text).into_owned();
        assert_eq!(status, 200, "{text}");
        text
    };
    iam("Action=CreateUser&UserName=u");
    let keys = iam("Action=CreateAccessKey&UserName=u");
    let key = |name: &str| {
        let rest = keys.split(&format!("<{name}>")).nth(1).expect("a key");
        rest.split('<').next().expect("a key").to_owned()
    };
    iam(
        "Action=PutUserPolicy&UserName=u&PolicyName=p&PolicyDocument=%7B%22Version%22%3A%222012-10-17%22%2C\
         %22Statement%22%3A%5B%7B%22Effect%22%3A%22Allow%22%2C%22Action%22%3A%22s3%3A*%22%2C%22Resource%22%3A%22*%22%7D%5D%7D",
    );
    let mut bench = Bench::new().with_store(&server.address());
    let (id, secret) = (key("AccessKeyId"), key("SecretAccessKey"));
    let object = at("a b+ü.qcow");
    bench.fails(1, "not allowed (403 InvalidAccessKeyId)", &["info", &object]);
    bench.set("AWS_ACCESS_KEY_ID", &id);
    let said = bench.fails(1, "not allowed (403 SignatureDoesNotMatch)", &["info", &object]);
    assert!(!said.err.contains(&id) && !said.err.contains("THEKEYITSELF"), "{}", said.err);
    bench.set("AWS_SECRET_ACCESS_KEY", &secret);
    bench.ok(&["info", &object]);
    bench.ok(&["upgrade", "-q", &object]);
    bench.ok(&["convert", "-q", "-O", "raw", &object, &at("new/raw")]);
    bench.ok(&["convert", "-q", "-f", "raw", "-O", "raw", &at("new/raw"), "new.raw"]);
    assert!(bench.read("new.raw") == disk);
    // The same out of a profile.
    let keys = format!("[work]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
    bench.write("keys", keys.as_bytes());
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_PROFILE", "work"),
        ("AWS_SHARED_CREDENTIALS_FILE", "keys"),
    ] {
        bench.set(name, value);
    }
    bench.ok(&["info", &object]);
    bench.set("AWS_PROFILE", "nobody");
    bench.fails(64, "nobody", &["info", &object]);
}
