//! Stores that fail half-way, and runs that end in the midst of a request.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use calve_testkit::{Builder, Random};
use nix::sys::signal::Signal;

use crate::common::store::{Pass, Server, Wire, at};
use crate::common::{Bench, signal};

/// Less than any answer is waited for, and more than a stop may take.
const STOPPED: Duration = Duration::from_secs(25);

/// An image of more than the least part, and its disk.
fn large() -> (Vec<u8>, Vec<u8>) {
    let mut builder = Builder::new(12, 9, 8 << 20).aligned(4096);
    let mut disk = vec![0; 8 << 20];
    for cluster in (0..2048u64).filter(|cluster| cluster % 8 != 3) {
        let content = Random::new(cluster).content(4096);
        builder.plain(cluster, &content);
        let start = usize::try_from(cluster * 4096).expect("small");
        disk[start..start + 4096].copy_from_slice(&content);
    }
    (builder.build(), disk)
}

/// Waits until something has come.
fn wait_for(flag: &AtomicBool) {
    let started = Instant::now();
    while !flag.load(Ordering::SeqCst) {
        assert!(started.elapsed() < Duration::from_secs(60), "it never comes");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A wire on which requests hang that begin so and have this in their first line.
fn hanging(server: &Server, method: &'static str, part: &'static str) -> (Wire, Arc<AtomicBool>) {
    let is_there = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_there);
    let wire = Wire::deciding(server, move |line, _| {
        if line.starts_with(method) && line.contains(part) {
            seen.store(true, Ordering::SeqCst);
            return Pass::Hang;
        }
        Pass::On
    });
    (wire, is_there)
}

#[test]
fn a_signal_ends_a_request_that_is_on_its_way() {
    let Some(server) = Server::start() else { return };
    let (image, disk) = large();
    let (object, new) = (at("old.qcow"), at("new.raw"));
    server.put("old.qcow", &image);
    for (words, method, part, code) in [
        (&["convert", "-O", "raw", &object, "new.raw"][..], "GET", "old.qcow ", 130),
        (&["convert", "-f", "raw", "-O", "raw", "disk.raw", &new], "PUT", "partNumber=1", 130),
        (&["upgrade", &object], "PUT", "partNumber=1", 130),
        // Whether this came off nobody knows.
        (&["upgrade", &object], "POST", "uploadId=", 1),
        (&["scan", "s3://old-images"], "GET", "list-type=2", 130),
    ] {
        let (wire, is_there) = hanging(&server, method, part);
        let bench = Bench::in_memory().with_store(&wire.address);
        bench.write("disk.raw", &disk);
        let child = bench.command(words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("the program runs");
        wait_for(&is_there);
        signal(&child, Signal::SIGINT);
        let started = Instant::now();
        let status = child.wait().expect("it ends");
        let mut said = String::new();
        child.stderr.take().expect("text").read_to_string(&mut said).expect("text");
        assert!(started.elapsed() < STOPPED, "{words:?} went on: {said}");
        assert!(status.code() == Some(code) || status.signal() == Some(2), "{words:?}: {said}");
        if code == 1 {
            assert!(said.contains("may have come off, or not"), "{said}");
            let bench = bench.with_store(&server.address());
            bench.ok(&["upgrade", "--recover", &object]);
        }
        assert_eq!(server.keys(), ["old.qcow"], "{words:?}");
        assert!(server.get("old.qcow").expect("an object") == image, "{words:?}");
    }
}

#[test]
fn an_upgrade_that_is_killed_behind_its_note_goes_on_or_back() {
    let Some(server) = Server::start() else { return };
    let (image, disk) = large();
    let object = at("old.qcow");
    for is_taken_back in [true, false] {
        server.put("old.qcow", &image);
        let (wire, is_there) = hanging(&server, "POST", "uploadId=");
        let bench = Bench::in_memory().with_store(&wire.address);
        let mut child = bench.command(&["upgrade", &object]).spawn().expect("the program runs");
        wait_for(&is_there);
        signal(&child, Signal::SIGKILL);
        assert_eq!(child.wait().expect("it ends").signal(), Some(9));
        assert_eq!(server.keys(), ["old.qcow", "old.qcow.calve-undo"]);
        assert_eq!(server.uploads(), ["old.qcow"]);
        let bench = bench.with_store(&server.address());
        if is_taken_back {
            bench.ok(&["upgrade", "--undo", &object]);
            // What the killed run had asked for last can come to nothing any more.
            assert_eq!(server.uploads(), [""; 0]);
        } else {
            let said = bench.ok(&["upgrade", &object]);
            assert_eq!(server.uploads(), [""; 0]);
            assert!(said.err.contains("as it was before"), "{}", said.err);
            bench.ok(&["convert", "-q", "-f", "qcow2", "-O", "raw", &object, "new.raw"]);
            assert!(bench.read("new.raw") == disk, "other bytes");
            bench.ok(&["upgrade", "--undo", &object]);
        }
        assert_eq!(server.keys(), ["old.qcow"]);
        assert!(server.get("old.qcow").expect("an object") == image);
    }
}

#[test]
fn answers_that_come_slowly_or_by_half_give_no_other_bytes() {
    let Some(server) = Server::start() else { return };
    let (image, disk) = large();
    let object = at("old.qcow");
    server.put("old.qcow", &image);
    let count = Arc::new(AtomicUsize::new(0));
    let wire = {
        let count = Arc::clone(&count);
        Wire::deciding(&server, move |line, _| {
            if !line.starts_with("GET") {
                return Pass::On;
            }
            match count.fetch_add(1, Ordering::SeqCst) % 3 {
                0 => Pass::Slow,
                1 => Pass::Half,
                _ => Pass::On,
            }
        })
    };
    let bench = Bench::in_memory().with_store(&wire.address);
    bench.ok(&["convert", "-q", "--verify", "-O", "raw", &object, "new.raw"]);
    assert!(bench.read("new.raw") == disk, "other bytes");
    assert!(count.load(Ordering::SeqCst) > 3, "nothing was broken off");
    // Where it never comes to its end, this is told.
    let wire = Wire::deciding(
        &server,
        |line, _| {
            if line.starts_with("GET") { Pass::Half } else { Pass::On }
        },
    );
    let bench = bench.with_store(&wire.address);
    bench.fails(1, "5 times over", &["convert", "-O", "raw", &object, "other.raw"]);
    assert_eq!(bench.names(), ["new.raw"]);
}

#[test]
fn whoever_may_not_list_a_bucket_may_upgrade_in_it() {
    let Some(server) = Server::start() else { return };
    let (image, _) = large();
    let object = at("old.qcow");
    server.put("old.qcow", &image);
    // What is missing is not told of, as Amazon does it.
    let address = server.address();
    let wire = Wire::deciding(&server, move |line, _| {
        let key = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let is_read = line.starts_with("GET") || line.starts_with("HEAD");
        match is_read && !exists(&address, &key) {
            true => Pass::Answer("403 Forbidden"),
            false => Pass::On,
        }
    });
    let bench = Bench::in_memory().with_store(&wire.address);
    let said = bench.ok(&["upgrade", &object]);
    assert!(said.err.contains("s3:ListBucket"), "{}", said.err);
    assert_eq!(server.keys(), ["old.qcow", "old.qcow.calve-undo"]);
    bench.ok(&["upgrade", "--undo", &object]);
    assert_eq!(server.keys(), ["old.qcow"]);
    assert!(server.get("old.qcow").expect("an object") == image);
    let said = bench.ok(&["convert", "-O", "qcow2", &object, &at("new.qcow2")]);
    assert!(said.err.contains("was not allowed to be looked at"), "{}", said.err);
    bench.fails(18, "exists already", &["convert", "-O", "qcow2", &object, &at("new.qcow2")]);
    bench.fails(1, "not allowed", &["info", &at("none")]);
}

/// Whether there is an object at this path of a server.
fn exists(address: &str, path: &str) -> bool {
    let host = address.strip_prefix("http://").expect("an address");
    let mut stream = std::net::TcpStream::connect(host).expect("a connection");
    let head = format!(
        "HEAD {path} HTTP/1.1\r\nHost: {host}\r\n{}Connection: close\r\n\r\n",
        crate::common::store::SIGNED
    );
    stream.write_all(head.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.contains(" 200 ")
}

#[test]
fn credentials_are_renewed_in_the_midst_of_a_run() {
    let Some(server) = Server::start() else { return };
    let (image, disk) = large();
    server.put("old.qcow", &image);
    let wire = Wire::to(&server);
    // Each time it is asked, it gives other ones that end soon; from the fifth time on none.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let service = format!("http://{}/", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.expect("a stream");
            let _ = stream.read(&mut [0; 4096]);
            let ends = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(60);
            let body = format!(
                "{{\"AccessKeyId\":\"KEY{number}\",\"SecretAccessKey\":\"x\",\"Token\":\"t\",\
                 \"Expiration\":\"{ends}\"}}"
            );
            let status = if number < 5 { "200 OK" } else { "500 Oh" };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
            let _ = stream.write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes());
        }
    });
    let mut bench = Bench::in_memory().with_store(&wire.address);
    bench.set("AWS_ACCESS_KEY_ID", "");
    bench.set("AWS_SECRET_ACCESS_KEY", "");
    bench.set("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    bench.set("AWS_CONFIG_FILE", "/dev/null");
    bench.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", &service);
    bench.ok(&["convert", "-q", "-O", "raw", &at("old.qcow"), "new.raw"]);
    assert!(bench.read("new.raw") == disk, "other bytes");
    let heads = wire.heads();
    for number in 0..5 {
        let id = format!("credential=key{number}/");
        assert!(heads.iter().any(|head| head.contains(&id)), "{id}: {heads:?}");
    }
    assert!(heads.len() > 5, "{heads:?}");
}
