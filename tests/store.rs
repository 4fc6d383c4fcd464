//! Images in a store, through the real binary and a real server.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use calve_testkit::{Builder, Random, qemu};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::common::store::{BUCKET, SIGNED, Server, Wire, at};
use crate::common::{Bench, image};

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
    let bench = Bench::in_memory().with_store(&wire.address);
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
    let mut bench = Bench::in_memory().with_store("http://127.0.0.1:1");
    bench.write("old.qcow", &image().0);
    let object = at("x");
    let object = &*object;
    for arguments in [
        &["info", "--untrusted", object][..],
        &["info", "--sandbox", "require", object],
        &["scan", "--sandbox", "require", object],
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
    let bench = Bench::in_memory().with_store(&server.address());
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
    ask(address, "PUT", key, bytes);
}

/// The same with another method.
fn ask(address: &str, method: &str, key: &str, bytes: &[u8]) {
    use std::io::{Read, Write};
    let host = address.strip_prefix("http://").expect("an address");
    let mut stream = std::net::TcpStream::connect(host).expect("a connection");
    let head = format!(
        "{method} /{BUCKET}/{key} HTTP/1.1\r\nHost: {host}\r\n{SIGNED}Content-Length: {}\r\n\
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
    let bench = Bench::in_memory().with_store(&wire.address);
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
        let bench = Bench::in_memory().with_store(&wire.address);
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
        let bench = Bench::in_memory().with_store(&wire.address);
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
        crate::common::signal(&child, signal);
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
    let bench = Bench::in_memory().with_store(&server.address());
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
    // Behind the fourth request it compares signatures.
    let Some(server) = Server::start_with(&[("INITIAL_NO_AUTH_ACTION_COUNT", "4")], 0) else {
        return;
    };
    let (image, disk) = image();
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
    let mut bench = Bench::in_memory().with_store(&server.address());
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

/// Images and files of every kind, by name. None of the names is the beginning of another's.
fn mixture() -> Vec<(&'static str, Vec<u8>)> {
    let (v1, _) = image();
    let mut broken = v1.clone();
    broken[32] = 77;
    let mut cut = v1.clone();
    cut.truncate(v1.len() - 5000);
    let mut secret = Builder::new(12, 9, 1 << 20).encrypted(b"password");
    secret.plain(0, &[7; 4096]);
    let mut over = Builder::new(9, 12, 1 << 20).backing(b"old.qcow");
    over.plain(0, &[7; 512]);
    let bench = Bench::in_memory();
    bench.ok(&["create", "-q", "-f", "qcow2", "new.qcow2", "1M"]);
    let new = bench.read("new.qcow2");
    vec![
        ("broken.qcow", broken),
        ("cut.qcow", cut),
        ("done.qcow2", new.clone()),
        ("done.qcow2.calve-undo", b"a record".to_vec()),
        ("empty.qcow", Vec::new()),
        ("new.qcow2", new.clone()),
        ("old.qcow", v1.clone()),
        ("raw.qcow2", vec![3; 40_000]),
        ("secret.qcow", secret.build()),
        ("short", b"QFI\xfb\0".to_vec()),
        ("sub/a b+\u{fc}%41?#&<>'\".img", v1.clone()),
        ("sub/over.qcow", over.build()),
        ("sub/renamed.qcow", new),
        ("text", b"a text".to_vec()),
        ("large.qcow", large().0),
    ]
}

/// Puts an object whatever its key holds.
fn put_key(server: &Server, key: &str, bytes: &[u8]) {
    let escaped: String = key
        .bytes()
        .map(|byte| match byte {
            b'/' | b'.' | b'-' => char::from(byte).to_string(),
            _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect();
    server.put(&escaped, bytes);
}

/// The objects of a kind of JSON Lines.
fn of_kind(said: &str, kind: &str) -> Vec<Value> {
    let lines = said.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.filter(|object| object["kind"] == kind).collect()
}

/// What is told of each file below a place, by its name there, but for what is the host's.
fn told(said: &str, place: &str) -> Vec<(String, Value)> {
    let files = of_kind(said, "file").into_iter().map(|mut file| {
        let name = file["filename"].as_str().expect("a name");
        let name = name.split_once(place).unwrap_or_else(|| panic!("{name}")).1.to_owned();
        for key in ["filename", "filename-hex", "id", "device", "inode", "modified", "first-seen"] {
            file[key].take();
        }
        // Of an object no host tells where it lies.
        let fields = file.as_object_mut().expect("an object");
        fields.retain(|key, _| !["on-disk", "shared", "shared-is-cut"].contains(&key.as_str()));
        (name, file)
    });
    let mut files: Vec<_> = files.collect();
    files.sort_by(|one, other| one.0.cmp(&other.0));
    files
}

fn classes(said: &str, place: &str) -> Vec<(String, String)> {
    let class =
        |(name, file): (String, Value)| (name, file["class"].as_str().expect("a class").to_owned());
    told(said, place).into_iter().map(class).collect()
}

#[test]
fn a_scan_tells_of_objects_what_it_tells_of_files() {
    let Some(server) = Server::start() else { return };
    let wire = Wire::to(&server);
    let bench = Bench::in_memory().with_store(&wire.address);
    std::fs::create_dir_all(bench.file("tree/sub")).expect("a folder");
    let mixture = mixture();
    for (name, bytes) in &mixture {
        bench.write(&format!("tree/{name}"), bytes);
        put_key(&server, &format!("tree/{name}"), bytes);
    }
    put_key(&server, "tree2/elsewhere.qcow", &image().0);
    let folder = at("tree");
    for options in [&[][..], &["--deep"]] {
        let scan = ["scan", "--all", "--output", "jsonl"];
        let local = bench.ok(&[&scan[..], options, &["tree"]].concat()).out;
        wire.forget();
        let said = bench.ok(&[&scan[..], options, &[&folder]].concat()).out;
        let (local, said) = (told(&local, "/tree/"), told(&said, "/tree/"));
        assert_eq!(said.len(), mixture.len());
        for (one, other) in said.iter().zip(&local) {
            assert_eq!(one, other, "{options:?}");
        }
        let heads = wire.heads();
        let lists = heads.iter().filter(|head| head.contains("?")).count();
        // The object that is called so, of which there is none, and what lies below.
        assert_eq!(lists, 2, "{heads:?}");
        let (_, received) = wire.bytes();
        if options.is_empty() {
            // All but the one that holds nothing, and a table of each qcow2 image.
            let starts = heads.iter().filter(|head| head.contains("range: bytes=0-32767\r"));
            assert_eq!(starts.count(), mixture.len() - 1, "{heads:?}");
            assert_eq!(heads.len() - lists, mixture.len() - 1 + 3, "{heads:?}");
        }
        assert!(received < 34_000 * (mixture.len() as u64 + 3 + 48), "{received} bytes");
        assert!(heads.iter().all(|head| head.contains("?") || head.contains("\nrange: bytes=")));
    }
    let expected = [
        ("broken.qcow", "damaged"),
        ("cut.qcow", "v1"),
        ("done.qcow2", "migrated"),
        ("large.qcow", "v1"),
        ("new.qcow2", "qcow2"),
        ("old.qcow", "v1"),
    ];
    let said = bench.ok(&["scan", "--output", "jsonl", &folder]).out;
    let classes = classes(&said, "/tree/");
    for (name, class) in expected {
        assert!(classes.contains(&(name.into(), class.into())), "{name}: {classes:?}");
    }
    let odd = "sub/a b+\u{fc}%41?#&<>'\".img".to_owned();
    assert!(classes.contains(&(odd, "v1-misnamed".into())), "{classes:?}");
    // For people and as columns.
    let table = bench.ok(&["scan", &folder]).out;
    assert!(table.contains(&format!("{folder}/old.qcow\n")), "{table}");
    let lines = bench.ok(&["scan", "--output", "csv", &folder]).out;
    assert!(lines.contains(&format!("{folder}/old.qcow,")), "{lines}");
    // One object, with the record beside it, and without what is only called like it.
    let said = bench.ok(&["scan", "--all", "--output", "jsonl", &at("tree/done.qcow2")]).out;
    assert_eq!(told(&said, "/tree/").len(), 1, "{said}");
    assert_eq!(told(&said, "/tree/")[0].1["class"], "migrated");
    // Archives are known, and it is said that nobody looked into them.
    put_key(&server, "packed/old.qcow.gz", &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
    let packed = at("packed");
    let said = bench.fails(4, "1 archives in stores", &["scan", "--output", "jsonl", &packed]);
    let file = &told(&said.out, "/packed/")[0].1;
    assert_eq!(file["class"], "other", "{file}");
    assert!(file["problem"].as_str().expect("a problem").contains("archive"), "{file}");
    bench.ok(&["scan", "--no-archives", &packed]);
}

#[test]
fn a_bucket_of_many_objects_is_listed_to_its_end() {
    let Some(server) = Server::start_with_objects(1100) else { return };
    let wire = Wire::to(&server);
    let bench = Bench::in_memory().with_store(&wire.address);
    server.put("zlast.qcow", &image().0);
    let said = bench.ok(&["scan", "--all", "--output", "jsonl", &format!("s3://{BUCKET}")]).out;
    let files = told(&said, &format!("{BUCKET}/"));
    assert_eq!(files.len(), 1101);
    assert!((0..1100).all(|number| files[number].0 == format!("many/{number:04}")));
    assert_eq!(files[1100].1["class"], "v1");
    // Two pages, and the one object that holds something.
    assert_eq!(wire.heads().len(), 3, "{:?}", wire.heads());
    let heads = wire.heads();
    assert!(heads.iter().any(|head| head.contains("continuation-token=")), "{heads:?}");
    let traffic = &of_kind(&said, "totals")[0]["traffic"];
    assert_eq!(traffic["requests"], 3, "{traffic}");
    assert_eq!(traffic["received-bytes"], image().0.len().min(32 << 10), "{traffic}");
}

#[test]
fn what_cannot_be_listed_or_read_is_told() {
    let Some(server) = Server::start() else { return };
    let (v1, _) = image();
    for key in ["gone.qcow", "here.qcow", "replaced.qcow"] {
        server.put(key, &v1);
    }
    let frozen = format!("{SIGNED}x-amz-storage-class: GLACIER\r\n");
    let path = format!("{BUCKET}/frozen.qcow");
    assert_eq!(server.ask_as("PUT", &path, &frozen, &v1).0, 200);
    let address = server.address();
    let wire = Wire::meddling(&server, move |line, _| {
        if line.starts_with("GET /old-images/gone.qcow") {
            ask(&address, "DELETE", "gone.qcow", b"");
        } else if line.starts_with("GET /old-images/replaced.qcow") {
            put(&address, "replaced.qcow", b"something else");
        }
    });
    let mut bench = Bench::in_memory().with_store(&wire.address);
    let bucket = format!("s3://{BUCKET}");
    let said = bench.fails(4, "3 files could not", &["scan", "--output", "jsonl", &bucket]);
    let files = told(&said.out, &format!("{BUCKET}/"));
    let of = |name: &str| {
        let file = files.iter().find(|file| file.0 == name).expect("told");
        let problem = file.1["problem"].as_str().unwrap_or_default();
        (file.1["class"].as_str().expect("a class"), problem.to_owned())
    };
    assert_eq!(of("here.qcow"), ("v1", String::new()));
    for (name, why) in [
        ("gone.qcow", "no such object (404 NoSuchKey)"),
        ("frozen.qcow", "not allowed (403 InvalidObjectState)"),
        ("replaced.qcow", "was replaced"),
    ] {
        let (class, problem) = of(name);
        assert_eq!(class, "unreadable", "{name}");
        assert!(problem.contains(why), "{name}: {problem}");
    }
    bench.fails(1, "no such bucket", &["scan", "s3://no-such-bucket"]);
    bench.fails(1, "none below it", &["scan", &at("none")]);
    bench.fails(64, "begins with no", &["scan", "s3://"]);
    bench.fails(64, "..", &["scan", &at("dir/../x")]);
    bench.set("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    bench.fails(1, "Connection refused", &["scan", &bucket]);
}

#[test]
fn a_catalogue_spares_objects_that_have_not_changed() {
    let Some(server) = Server::start() else { return };
    let wire = Wire::to(&server);
    let bench = Bench::in_memory().with_store(&wire.address);
    let (v1, _) = image();
    let [over, lost] = [&b"base.qcow"[..], b"local.qcow"].map(|base| {
        let mut builder = Builder::new(9, 12, 1 << 20).backing(base);
        builder.plain(0, &[7; 512]);
        builder.build()
    });
    for (key, bytes) in [
        ("dir/over.qcow", &over),
        ("dir/base.qcow", &v1),
        ("dir/lost.qcow", &lost),
        ("dir/gone.qcow", &v1),
        ("other/base.qcow", &v1),
    ] {
        server.put(key, bytes);
    }
    // Files of the same names, of which none is a base of an object.
    std::fs::create_dir(bench.file("tree")).expect("a folder");
    for name in ["tree/base.qcow", "tree/local.qcow"] {
        bench.write(name, &v1);
    }
    let bucket = format!("s3://{BUCKET}");
    let scan = ["scan", "--catalogue", "catalogue", "--families", "--output", "jsonl"];
    let scan = [&scan[..], &[&bucket, "tree"]].concat();
    let counts = |said: &str| {
        let totals = of_kind(said, "totals").remove(0);
        (totals["read"].as_u64(), totals["unchanged"].as_u64(), totals["version1"].as_u64())
    };
    let said = bench.ok(&scan).out;
    assert_eq!(counts(&said), (Some(7), Some(0), Some(7)));
    let families = of_kind(&said, "family");
    let names = |family: &Value| -> Vec<String> {
        let members = family["members"].as_array().expect("members");
        let name = |member: &Value| member["filename"].as_str().expect("a name").to_owned();
        members.iter().map(name).collect()
    };
    let family = families.iter().find(|it| names(it).contains(&at("dir/over.qcow")));
    let family = family.expect("a family");
    assert_eq!(names(family), [at("dir/base.qcow"), at("dir/over.qcow")]);
    assert_eq!(family["edges"][0]["found-by"], "name");
    assert!(family["edges"][0]["evidence"]["same-time"].is_null());
    let broken = families.iter().find(|it| names(it) == [at("dir/lost.qcow")]).expect("alone");
    assert_eq!(broken["broken"][0]["why"], "missing", "{broken}");
    // What it may be are objects, and not the file that is called so.
    let candidates = broken["broken"][0]["candidates"].as_array().expect("candidates");
    assert_eq!(candidates.len(), 4, "{broken}");
    for candidate in candidates {
        assert!(candidate["filename"].as_str().expect("a name").starts_with(&bucket), "{broken}");
    }
    // Nothing has changed, and so nothing is read.
    std::thread::sleep(Duration::from_millis(50));
    wire.forget();
    bench.ok(&scan);
    let said = bench.ok(&scan).out;
    assert_eq!(counts(&said), (Some(0), Some(7), Some(7)));
    assert_eq!(wire.heads().len(), 2, "{:?}", wire.heads());
    // One is another one, one is gone, one is new, one has a record beside it now.
    server.put("dir/base.qcow", b"other");
    server.ask("DELETE", &format!("{BUCKET}/dir/gone.qcow"), &[]);
    server.put("dir/new.img", &v1);
    server.put("other/base.qcow.calve-undo", b"a record");
    let watch = ["scan", "-q", "--watch-exit", "--catalogue", "catalogue", &bucket];
    wire.forget();
    assert_eq!(bench.run(&watch).code, Some(2));
    assert_eq!(wire.heads().len(), 1 + 4, "{:?}", wire.heads());
    assert_eq!(bench.run(&watch).code, Some(0));
    let said = bench.ok(&scan).out;
    assert_eq!(counts(&said), (Some(0), Some(8), Some(6)));
    assert!(!said.contains("gone.qcow"), "{said}");
    // More is asked of images.
    let deep = ["scan", "-q", "--deep", "--catalogue", "catalogue", &bucket];
    wire.forget();
    bench.ok(&deep);
    assert!(wire.heads().len() > 4, "{:?}", wire.heads());
    // A report asks for each version 1 object anew.
    wire.forget();
    assert_eq!(certificate(&bench)["version1"], 6, "{}", certificate(&bench));
    assert!(!wire.heads().is_empty());
    migrated_or_removed(&server, &bench, &bucket);
}

/// There is a certificate when what is left is migrated, and all else is said to be removed.
fn migrated_or_removed(server: &Server, bench: &Bench, bucket: &str) {
    for key in ["dir/new.img", "dir/lost.qcow", "other/base.qcow", "dir/over.qcow"] {
        server.ask("DELETE", &format!("{BUCKET}/{key}"), &[]);
    }
    bench.ok(&["scan", "-q", "--catalogue", "catalogue", bucket]);
    bench.ok(&["plan", "-q", "--save", "plan", "catalogue"]);
    bench.ok(&["migrate", "plan"]);
    assert_eq!(certificate(bench)["given"], false, "objects are missing");
    bench.ok(&["scan", "-q", "--catalogue", "catalogue", "--removed", bucket, bucket]);
    assert_eq!(certificate(bench)["given"], true, "{}", certificate(bench));
}

fn certificate(bench: &Bench) -> Value {
    let report = bench.run(&["report", "--output", "json", "catalogue"]).json();
    assert_eq!(report["formats"]["missing"], Value::Null, "{report}");
    report["certificate"].clone()
}
