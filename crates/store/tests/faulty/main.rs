//! A server that does what none should: every way ends in an error, never in wrong bytes and
//! never in waiting for good.

mod lists;
mod server;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use calve_disk::units::HostOffset;
use calve_disk::{Storage, StorageMut};
use calve_inplace::{Journal, UNDO_RECORD};
use calve_store::{Condition, Draft, Error, Kind, ObjectJournal, Tag, Upload};

use crate::server::{Request, Server, plain};

const SIZE: usize = 3 << 20;

fn byte(at: usize) -> u8 {
    u8::try_from(at / 7 % 251).expect("small")
}

fn contents(from: usize, end: usize) -> Vec<u8> {
    (from..end).map(byte).collect()
}

/// A good answer to a request for a range.
fn good(request: &Request) -> Vec<u8> {
    let (from, end) = request.range();
    ranged((from, end.min(SIZE)), "\"tag\"", &contents(from, end.min(SIZE)))
}

fn ranged((from, end): (usize, usize), tag: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 206 Partial\r\nETag: {tag}\r\nContent-Range: bytes {from}-{}/{SIZE}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        end - 1,
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Reads a range of an object that opens well, and which the server then answers as `answer` does.
fn read_of(
    length: usize,
    answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static,
) -> (Result<(), Error>, usize) {
    let server = Server::new(move |request, number| match number {
        0 => good(request),
        _ => answer(request),
    });
    let file = server.open().expect("opens");
    let mut out = vec![0; length];
    let started = Instant::now();
    let done = file.read(&mut out, 1 << 20);
    assert!(started.elapsed() < Duration::from_secs(20), "it waited for {:?}", started.elapsed());
    if done.is_ok() {
        assert_eq!(out, contents(1 << 20, (1 << 20) + length), "wrong bytes");
    }
    (done, server.requests() - 1)
}

#[test]
fn a_good_server_gives_the_bytes_of_any_range() {
    let server = Server::new(|request, _| good(request));
    let file = server.open().expect("opens");
    assert_eq!(file.length(), SIZE as u64);
    // What is in the first block was read when it was opened.
    let mut out = [0; 512];
    file.read(&mut out, 0).expect("reads");
    assert_eq!((server.requests(), out.to_vec()), (1, contents(0, 512)));
    for (at, length) in [(40_000, 10), (65_530, 20), (0, SIZE), (SIZE - 1, 1), (1 << 20, 100_000)] {
        let mut out = vec![0; length];
        file.read(&mut out, at as u64).expect("reads");
        assert_eq!(out, contents(at, at + length), "{length} bytes at {at}");
    }
    let known = server.requests();
    file.read(&mut out, 40_000).expect("reads");
    assert_eq!(server.requests(), known, "a block is kept");
    assert!(file.read(&mut out, SIZE as u64 - 10).is_err());
}

#[test]
fn one_block_after_the_other_is_read_ahead_of() {
    let server = Server::new(|request, _| good(request));
    let file = server.open().expect("opens");
    let mut out = vec![0; 4096];
    for at in (0..SIZE).step_by(4096) {
        file.read(&mut out, at as u64).expect("reads");
        assert_eq!(out, contents(at, at + 4096));
    }
    assert!(server.requests() < 12, "{} requests", server.requests());
}

#[test]
fn what_will_be_read_is_fetched_at_the_same_time() {
    let server = Server::new(|request, number| {
        if number > 0 {
            std::thread::sleep(Duration::from_millis(200));
        }
        good(request)
    });
    let file = server.open().expect("opens");
    let places: Vec<usize> = (1..9).map(|number| number * 300_000).collect();
    let started = Instant::now();
    for at in &places {
        file.will_read(HostOffset::new(*at as u64), 8);
    }
    let mut out = [0; 8];
    for at in &places {
        file.read(&mut out, *at as u64).expect("reads");
        assert_eq!(out.to_vec(), contents(*at, at + 8));
    }
    let (took, requests) = (started.elapsed(), server.requests());
    assert!(took < Duration::from_millis(1200), "one after the other: {took:?}");
    assert_eq!(requests, 9);
}

#[test]
fn what_breaks_off_is_asked_for_again_and_then_told() {
    for length in [100, 200_000] {
        let (done, requests) = read_of(length, |request| {
            let whole = good(request);
            whole[..whole.len() - 50].to_vec()
        });
        let error = done.expect_err("short");
        assert_eq!((error.kind, requests), (Kind::Unreachable, 5), "{error}");
        assert!(error.to_string().contains("s3://b/k"), "{error}");
    }
}

#[test]
fn a_server_that_is_busy_is_asked_again() {
    let server = Server::new(|request, number| match number {
        1 | 2 => plain("503 Slow Down", "", "<Error><Code>SlowDown</Code></Error>"),
        _ => good(request),
    });
    let file = server.open().expect("opens");
    let mut out = [0; 100];
    file.read(&mut out, 1 << 20).expect("reads");
    assert_eq!((server.requests(), out.to_vec()), (4, contents(1 << 20, (1 << 20) + 100)));
    let (done, requests) = read_of(100, |_| plain("500 X", "", ""));
    assert_eq!((done.expect_err("fails").kind, requests), (Kind::Unreachable, 5));
}

#[test]
fn another_range_is_no_answer() {
    let shifted = |request: &Request| {
        let (from, end) = request.range();
        ranged((from + 1, end + 1), "\"tag\"", &contents(from + 1, end + 1))
    };
    let (done, requests) = read_of(100, shifted);
    assert_eq!((done.expect_err("fails").kind, requests), (Kind::Odd, 1));
    let whole = |_: &Request| plain("200 OK", "ETag: \"tag\"\r\n", &"x".repeat(SIZE));
    assert_eq!(read_of(100, whole).0.expect_err("fails").kind, Kind::Odd);
    let none = |_: &Request| plain("206 OK", "ETag: \"tag\"\r\n", &"x".repeat(100));
    assert_eq!(read_of(100, none).0.expect_err("fails").kind, Kind::Odd);
    let huge = "bytes 0-18446744073709551615/18446744073709551615";
    let huge = format!("ETag: \"tag\"\r\nContent-Range: {huge}\r\n");
    assert_eq!(
        read_of(100, move |_| plain("206 OK", &huge, "x")).0.expect_err("fails").kind,
        Kind::Odd
    );
}

#[test]
fn an_object_that_is_another_one_is_told_whatever_the_server_heeds() {
    let other = |request: &Request| {
        let (from, end) = request.range();
        ranged((from, end), "\"other\"", &contents(from, end))
    };
    assert_eq!(read_of(100, other).0.expect_err("fails").kind, Kind::Changed);
    for status in ["412 Precondition Failed", "404 Not Found", "416 Range"] {
        let (done, requests) = read_of(100, move |_| plain(status, "", ""));
        assert_eq!((done.expect_err("fails").kind, requests), (Kind::Changed, 1), "{status}");
    }
}

#[test]
fn a_body_without_an_end_is_not_read_for_good() {
    let endless = |request: &Request| {
        let (from, end) = request.range();
        let head = format!(
            "HTTP/1.1 206 Partial\r\nETag: \"tag\"\r\nContent-Range: bytes {from}-{}/{SIZE}\r\n\
             Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
            end - 1
        );
        let chunk = [b"100000\r\n".to_vec(), vec![b'x'; 0x10_0000], b"\r\n".to_vec()].concat();
        [head.into_bytes(), chunk.repeat(8)].concat()
    };
    let (done, _) = read_of(100, endless);
    assert_eq!(done.expect_err("fails").kind, Kind::Unreachable);
    // Nor is a head.
    let (done, _) =
        read_of(100, |_| [b"HTTP/1.1 206 X\r\n".to_vec(), b"a: b\r\n".repeat(1 << 18)].concat());
    assert_eq!(done.expect_err("fails").kind, Kind::Unreachable);
}

#[test]
fn a_server_that_says_nothing_is_not_waited_for() {
    let server = Server::new(|_, _| {
        std::thread::sleep(Duration::from_secs(60));
        Vec::new()
    });
    let started = Instant::now();
    let error = server.open().map(|_| ()).expect_err("fails");
    assert_eq!(error.kind, Kind::Unreachable, "{error}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    // Nobody listens.
    let server = Server { address: "http://127.0.0.1:1".into(), ..server };
    let error = server.open().map(|_| ()).expect_err("fails");
    assert_eq!(error.kind, Kind::Unreachable, "{error}");
}

#[test]
fn redirections_are_not_followed() {
    let server =
        Server::new(|_, _| plain("307 Elsewhere", "Location: http://127.0.0.1:1/b/k\r\n", ""));
    let error = server.open().map(|_| ()).expect_err("fails");
    assert_eq!((error.kind, server.requests()), (Kind::Odd, 1), "{error}");
}

#[test]
fn refusals_are_told_apart_and_hold_no_secret() {
    for (status, code, kind) in [
        ("404 Not Found", "NoSuchKey", Kind::Missing),
        ("404 Not Found", "NoSuchBucket", Kind::NoBucket),
        ("403 Forbidden", "InvalidAccessKeyId", Kind::Denied),
        ("400 Bad Request", "Odd<b>", Kind::Odd),
        ("501 No", "NotImplemented", Kind::Odd),
    ] {
        let body = format!(
            "<Error><Code>{code}</Code><AWSAccessKeyId>SECRETID</AWSAccessKeyId>\
             <Message>\x1b[2J SECRETID</Message></Error>"
        );
        let server = Server::new(move |_, _| plain(status, "", &body));
        let error = server.open().map(|_| ()).expect_err("fails");
        assert_eq!((error.kind, server.requests()), (kind, 1), "{error}");
        let text = format!("{error} {error:?} {:?}", std::io::Error::from(error.clone()));
        assert!(!text.contains("SECRET") && !text.contains('\x1b'), "{text}");
        // It was signed all the same, and not in its address.
        let seen = server.seen.lock().expect("no panic");
        assert!(seen[0].headers.contains("\nauthorization: AWS4-HMAC-SHA256 Credential=SECRETID/"));
        assert!(!seen[0].line.contains("SECRETID"), "{}", seen[0].line);
        assert!(!seen[0].headers.contains("SECRETKEY"));
    }
}

#[test]
fn an_empty_object_is_a_file_without_a_byte() {
    let server = Server::new(|request, _| match request.line.starts_with("HEAD") {
        true => plain("200 OK", "ETag: \"tag\"\r\n", ""),
        false => plain("416 Range", "", ""),
    });
    let file = server.open().expect("opens");
    assert_eq!(file.length(), 0);
    assert!(file.read(&mut [0], 0).is_err());
}

/// Bytes to be sent.
fn storage(length: usize) -> calve_testkit::Memory {
    calve_testkit::Memory::new(contents(0, length))
}

fn sent(server: &Server, length: usize) -> Result<Tag, Error> {
    let object = server.object();
    let upload = Upload::begin(&object, None)?;
    let pieces = calve_store::pieces::all_new(length as u64);
    upload.put(&pieces, &storage(length), None, &false.into(), &|_| {})?;
    upload.complete(&Condition::IsNew, length as u64)
}

const BEGUN: &str =
    "<InitiateMultipartUploadResult><UploadId>N</UploadId></InitiateMultipartUploadResult>";

#[test]
fn an_upload_that_comes_to_nothing_is_given_up() {
    // The part, or the end of it, does not work.
    for fails in ["PUT", "POST /b/k?uploadId"] {
        let server = Server::new(move |request, _| {
            let line = &request.line;
            if line.starts_with(fails) {
                plain("403 No", "", "<Error><Code>AccessDenied</Code></Error>")
            } else if line.starts_with("POST /b/k?uploads") {
                plain("200 OK", "", BEGUN)
            } else if line.starts_with("HEAD") {
                plain("404 No", "", "")
            } else if line.starts_with("DELETE /b/k?uploadId=N") {
                plain("204 Gone", "", "")
            } else {
                plain("200 OK", "ETag: \"x\"\r\n", "")
            }
        });
        let error = sent(&server, 1000).expect_err("fails");
        assert_eq!(error.kind, Kind::Denied, "{error}");
        let seen = server.seen.lock().expect("no panic");
        let last = &seen.last().expect("requests").line;
        assert!(last.starts_with("DELETE /b/k?uploadId=N"), "{fails}: {last}");
    }
}

#[test]
fn a_part_that_arrived_otherwise_is_sent_again_and_then_told() {
    let server = Server::new(|request, _| match request.line.split(' ').next() {
        Some("POST") => plain("200 OK", "", BEGUN),
        Some("PUT") => plain("200 OK", "ETag: \"00000000000000000000000000000000\"\r\n", ""),
        _ => plain("204 Gone", "", ""),
    });
    let error = sent(&server, 1000).expect_err("fails");
    assert_eq!(error.kind, Kind::Unreachable, "{error}");
    let seen = server.seen.lock().expect("no panic");
    let parts = seen.iter().filter(|request| request.line.starts_with("PUT")).count();
    assert_eq!(parts, 5);
    let part = seen.iter().find(|request| request.line.starts_with("PUT")).expect("a part");
    assert!(part.headers.contains("\ncontent-length: 1000\n"), "{}", part.headers);
    assert!(part.headers.contains("\ncontent-md5: "), "{}", part.headers);
}

#[test]
fn an_end_that_tells_of_a_failure_in_its_body_is_one() {
    let server = Server::new(|request, _| {
        let line = &request.line;
        if line.starts_with("POST /b/k?uploads") {
            plain("200 OK", "", BEGUN)
        } else if line.starts_with("POST") {
            plain(
                "200 OK",
                "",
                "<?xml version=\"1.0\"?>\n<Error><Code>PreconditionFailed</Code></Error>",
            )
        } else if line.starts_with("HEAD") {
            plain("404 No", "", "")
        } else {
            plain("200 OK", "ETag: \"x\"\r\n", "")
        }
    });
    let error = sent(&server, 1000).expect_err("fails");
    assert_eq!(error.kind, Kind::Exists, "{error}");
}

/// A store with one object that is upgraded: what a request changes it remembers.
#[derive(Default)]
struct Kept {
    is_new: bool,
    has_note: bool,
}

/// How a store answers the end of an upload, and whether it then is the new object.
type End = fn(usize) -> (bool, Vec<u8>);

/// The tag of what is sent, by no digest that anybody could compare.
const NEW: &str = "new-1";

fn ended(tag: &str) -> Vec<u8> {
    let text = format!(
        "<CompleteMultipartUploadResult><ETag>{tag}</ETag></CompleteMultipartUploadResult>"
    );
    plain("200 OK", "", &text)
}

/// Upgrades an object of such a store, and tells what came of it and whether its note is there.
fn upgraded(end: End) -> (Result<(), Error>, bool, bool, usize) {
    let kept = Arc::new(Mutex::new(Kept::default()));
    let (inner, ends) = (Arc::clone(&kept), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&ends);
    let server = Server::new(move |request, _| {
        let mut kept = inner.lock().expect("no panic");
        let line = &request.line;
        let tag = if kept.is_new { NEW } else { "tag" };
        if line.contains("/b/k.calve-undo ") {
            return match line.split(' ').next() {
                Some("PUT") if kept.has_note => plain("412 No", "", ""),
                Some("PUT") => {
                    assert!(
                        request.headers.contains("\nif-none-match: *\n"),
                        "{}",
                        request.headers
                    );
                    kept.has_note = true;
                    plain("200 OK", "ETag: \"note\"\r\n", "")
                }
                Some("DELETE") => {
                    kept.has_note = false;
                    plain("204 Gone", "", "")
                }
                _ if kept.has_note => plain("200 OK", "ETag: \"note\"\r\n", ""),
                _ => plain("404 No", "", ""),
            };
        }
        if line.starts_with("HEAD") {
            let head = format!("HTTP/1.1 200 OK\r\nETag: \"{tag}\"\r\nContent-Length: {SIZE}\r\n");
            return format!("{head}Connection: close\r\n\r\n").into_bytes();
        }
        if line.starts_with("POST /b/k?uploads") {
            return plain("200 OK", "", BEGUN);
        }
        if line.starts_with("POST") {
            assert!(request.headers.contains("\nif-match: \"tag\"\n"), "{}", request.headers);
            let (is_new, answer) = end(counted.fetch_add(1, Ordering::SeqCst));
            kept.is_new |= is_new;
            return answer;
        }
        match line.split(' ').next() {
            Some("GET") => good(request),
            Some("DELETE") => plain("204 Gone", "", ""),
            _ => plain("200 OK", "ETag: \"x\"\r\n", ""),
        }
    });
    let object = server.object();
    let journal = ObjectJournal::of(&object, UNDO_RECORD);
    let draft = Draft::over(server.open().expect("opens")).expect("a draft");
    draft.write_at(b"other", HostOffset::new(0)).expect("written");
    assert_eq!(journal.read().expect("reads"), None);
    journal.put(b"the way back").expect("kept");
    let done = draft.publish(None, Some(&journal), &false.into());
    let kept = kept.lock().expect("no panic");
    (done, kept.is_new, kept.has_note, ends.load(Ordering::SeqCst))
}

#[test]
fn the_way_back_stays_where_the_object_may_be_another_one() {
    let (done, is_new, has_note, _) = upgraded(|_| (true, ended(NEW)));
    done.expect("it is made, whatever quotes the tag has");
    assert!(is_new && has_note);
    // The answer is lost, and the tag says nothing of what it is of.
    let (done, is_new, has_note, ends) = upgraded(|_| (true, plain("500 X", "", "")));
    let error = done.expect_err("nobody knows");
    assert_eq!((error.kind, ends), (Kind::Unclear, 1), "{error}");
    assert!(error.to_string().contains("calve upgrade --recover"), "{error}");
    assert!(is_new && has_note);
    // Nothing shows at first, and the second try finds the work of the first done.
    let (done, is_new, has_note, ends) = upgraded(|number| match number {
        0 => (false, plain("503 X", "", "")),
        _ => (true, plain("412 No", "", "<Error><Code>PreconditionFailed</Code></Error>")),
    });
    let error = done.expect_err("nobody knows");
    assert_eq!((error.kind, ends), (Kind::Unclear, 2), "{error}");
    assert!(is_new && has_note);
    // A store that never says what came of it.
    let (done, _, has_note, ends) = upgraded(|_| (false, plain("500 X", "", "")));
    assert_eq!((done.expect_err("fails").kind, ends), (Kind::Unclear, 5));
    assert!(has_note);
    // Somebody else replaced it: what the note is about is not to be seen.
    let (done, _, has_note, _) = upgraded(|_| (true, plain("412 No", "", "")));
    assert_eq!(done.expect_err("fails").kind, Kind::Changed);
    assert!(has_note);
    // It is surely what it was.
    let (done, is_new, has_note, _) = upgraded(|_| (false, plain("403 No", "", "")));
    assert_eq!(done.expect_err("fails").kind, Kind::Denied);
    assert!(!is_new && !has_note);
}

#[test]
fn a_run_that_is_to_stop_sends_nothing_again() {
    let server = Server::new(|_, _| plain("500 X", "", ""));
    // The pause before it would be sent again is longer than any test: that this one ends shows that
    // the pause did.
    let object = server.object_of(Duration::from_secs(24 * 3600));
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::clone(&server.count));
    object.heed(&stop);
    let later = Arc::clone(&stop);
    let waiting = std::thread::spawn(move || {
        while count.load(Ordering::SeqCst) == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        later.store(true, Ordering::SeqCst);
    });
    let error = object.head().expect_err("fails");
    assert_eq!((error.kind, server.requests()), (Kind::Stopped, 1), "{error}");
    waiting.join().expect("no panic");
}

/// Upgrades an object beside whose name a note came to be, or may be.
fn beside_a_note(status: &'static str, head: &'static str) -> (Result<(), Error>, Vec<String>) {
    let server = Server::new(move |request, _| {
        let line = &request.line;
        match (line.contains("/b/k.calve-undo "), line.split(' ').next()) {
            (true, Some("PUT")) => plain("412 No", "", ""),
            (true, _) => plain(status, "", ""),
            (false, Some("GET")) => good(request),
            (false, Some("HEAD")) => {
                let length = "Content-Length: 3145728\r\nConnection: close\r\n\r\n";
                let mut answer = b"HTTP/1.1 200 OK\r\nETag: \"tag\"\r\n".to_vec();
                // Each character is one byte here.
                answer.extend(head.chars().map(|it| u8::try_from(u32::from(it)).expect("small")));
                [answer, length.as_bytes().to_vec()].concat()
            }
            (false, Some("POST")) => plain("200 OK", "", BEGUN),
            (false, Some("PUT")) => plain("200 OK", "ETag: \"x\"\r\n", ""),
            _ => plain("204 Gone", "", ""),
        }
    });
    let journal = ObjectJournal::of(&server.object(), UNDO_RECORD);
    let draft = Draft::over(server.open().expect("opens")).expect("a draft");
    draft.write_at(b"other", HostOffset::new(0)).expect("written");
    assert_eq!(journal.read().expect("reads"), None);
    assert_eq!(journal.is_hidden(), status.starts_with("403"));
    journal.put(b"the way back").expect("kept");
    let done = draft.publish(None, Some(&journal), &false.into());
    let seen = server.seen.lock().expect("no panic");
    (done, seen.iter().map(|request| request.line.clone()).collect())
}

#[test]
fn the_note_of_another_run_is_neither_replaced_nor_removed() {
    for (status, kind) in [("404 No", Kind::Changed), ("403 No", Kind::Denied)] {
        let (done, lines) = beside_a_note(status, "");
        assert_eq!(done.expect_err("fails").kind, kind, "{status}");
        let ends = |line: &&String| line.starts_with("POST /b/k?uploadId");
        assert!(!lines.iter().any(|line| ends(&line)), "{lines:?}");
        let removes = |line: &String| line.starts_with("DELETE /b/k.calve-undo");
        assert!(!lines.iter().any(removes), "{lines:?}");
        assert!(lines.last().expect("requests").starts_with("DELETE /b/k?uploadId=N"));
    }
}

#[test]
fn headers_that_cannot_be_sent_again_are_not_dropped() {
    let (done, lines) = beside_a_note("404 No", "x-amz-meta-owner: J\u{f6}rg\r\n");
    let error = done.expect_err("refused");
    assert!(error.to_string().contains("x-amz-meta-owner"), "{error}");
    assert!(!lines.iter().any(|line| line.starts_with("POST")), "{lines:?}");
}
