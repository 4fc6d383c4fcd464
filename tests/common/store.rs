//! A real server of S3, moto's, and a wire to it that can be looked at.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use calve_testkit::qemu;

use super::Bench;

/// The bucket that every server has.
pub(crate) const BUCKET: &str = "old-images";

/// The name of the object of this key.
pub(crate) fn at(key: &str) -> String {
    format!("s3://{BUCKET}/{key}")
}

/// Anybody's signature. Without one it takes objects for other people's.
pub(crate) const SIGNED: &str = "Authorization: AWS4-HMAC-SHA256 \
    Credential=x/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0\r\n";

/// Ends with whoever started it, and serves otherwise: a bucket, and as many empty objects as are
/// wanted, which it would take a quarter of a minute to be sent. Which modules it has it looks up on
/// the disk for every request, a fifth of its time: once is enough.
const SERVE: &str = "\
import os, sys, threading
def end():
    sys.stdin.read()
    os._exit(0)
threading.Thread(target=end, daemon=True).start()
from moto import backends
from moto.s3.models import s3_backends
from moto.server import main
names = list(backends.list_of_moto_modules())
backends.list_of_moto_modules = lambda: names
store = s3_backends['123456789012']['aws']
bucket = sys.argv[2]
store.create_bucket(bucket, 'us-east-1')
for number in range(int(sys.argv[3])):
    store.put_object(bucket, 'many/%04d' % number, b'')
main(['-H', '127.0.0.1', '-p', sys.argv[1]])
";

/// Where `scripts/test` puts it, which says loudly where it is not.
fn python() -> Option<PathBuf> {
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/moto/bin/python");
    let python = std::env::var_os("CALVE_MOTO").map_or(usual, PathBuf::from);
    qemu::has(python.to_str().expect("a plain name")).then_some(python)
}

/// A server that is running.
pub(crate) struct Server {
    process: Child,
    port: u16,
}

impl Server {
    /// Starts one, with a bucket.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[], 0)
    }

    /// Starts one whose bucket has so many objects `many/0000` and on, in which there is nothing.
    pub(crate) fn start_with_objects(count: usize) -> Option<Self> {
        Self::start_with(&[], count)
    }

    /// Starts one with these variables, and as many objects.
    pub(crate) fn start_with(variables: &[(&str, &str)], objects: usize) -> Option<Self> {
        let python = python()?;
        loop {
            let free = TcpListener::bind("127.0.0.1:0").expect("a port");
            let port = free.local_addr().expect("an address").port();
            drop(free);
            let process = Command::new(&python)
                .args(["-c", SERVE, &port.to_string(), BUCKET, &objects.to_string()])
                .envs(variables.iter().copied())
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("the server starts");
            let mut server = Self { process, port };
            if server.is_up() {
                return Some(server);
            }
        }
    }

    /// Waits until it answers. Somebody else may have taken its port meanwhile.
    fn is_up(&mut self) -> bool {
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if self.process.try_wait().expect("a child").is_some() {
                return false;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "the server does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        true
    }

    pub(crate) fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Asks it for something, with a signature that it does not look at.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        self.ask_as(method, path, SIGNED, body)
    }

    /// The same with a line of the head.
    pub(crate) fn ask_as(
        &self,
        method: &str,
        path: &str,
        line: &str,
        body: &[u8],
    ) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("a connection");
        let head = format!(
            "{method} /{path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{line}Content-Length: {}\r\n\
             Connection: close\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        let end = answer.windows(4).position(|it| it == b"\r\n\r\n").expect("a head") + 4;
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
        let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
        (status, answer.split_off(end))
    }

    pub(crate) fn put(&self, key: &str, bytes: &[u8]) {
        assert_eq!(self.ask("PUT", &format!("{BUCKET}/{key}"), bytes).0, 200, "{key}");
    }

    /// An object's bytes, where it is there.
    pub(crate) fn get(&self, key: &str) -> Option<Vec<u8>> {
        let (status, bytes) = self.ask("GET", &format!("{BUCKET}/{key}"), &[]);
        (status == 200).then_some(bytes)
    }

    /// The keys of all objects, sorted.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.named(&format!("{BUCKET}?list-type=2"))
    }

    /// The keys of uploads that were begun and are not over.
    pub(crate) fn uploads(&self) -> Vec<String> {
        self.named(&format!("{BUCKET}?uploads"))
    }

    fn named(&self, path: &str) -> Vec<String> {
        let (status, text) = self.ask("GET", path, &[]);
        assert_eq!(status, 200);
        let text = String::from_utf8_lossy(&text).into_owned();
        let keys = text.split("<Key>").skip(1).filter_map(|rest| rest.split('<').next());
        keys.map(str::to_owned).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // By its number, and waited for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What is done when a request comes by, before the server sees it: its first line, and how many
/// came before.
type Meddle = dyn Fn(&str, usize) -> Pass + Send + Sync;

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// It goes to the server.
    On,
    /// The server does not see it, and this status is the answer.
    Answer(&'static str),
    /// The server does not see it, and there is no answer.
    Hang,
    /// The server sees it, and its answer is lost.
    Lost,
    /// Half of the answer comes.
    Half,
    /// The answer comes in small pieces.
    Slow,
}

/// A wire to a server, at which is written down what passes.
pub(crate) struct Wire {
    pub(crate) address: String,
    passed: Arc<Mutex<Passed>>,
}

#[derive(Default)]
struct Passed {
    heads: Vec<String>,
    sent: u64,
    received: u64,
    /// Who has been let in, and how many of them the server has not done with.
    peers: Vec<SocketAddr>,
    open: usize,
}

impl Wire {
    pub(crate) fn to(server: &Server) -> Self {
        Self::meddling(server, |_, _| {})
    }

    pub(crate) fn meddling(
        server: &Server,
        meddle: impl Fn(&str, usize) + Send + Sync + 'static,
    ) -> Self {
        Self::deciding(server, move |line, number| {
            meddle(line, number);
            Pass::On
        })
    }

    /// A wire on which not all requests get their answers.
    pub(crate) fn deciding(
        server: &Server,
        meddle: impl Fn(&str, usize) -> Pass + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let (port, passed) = (server.port, Arc::<Mutex<Passed>>::default());
        let wire = Self { address, passed: Arc::clone(&passed) };
        let meddle: Arc<Meddle> = Arc::new(meddle);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (meddle, passed) = (Arc::clone(&meddle), Arc::clone(&passed));
                let mut known = passed.lock().unwrap_or_else(PoisonError::into_inner);
                known.peers.extend(stream.peer_addr());
                known.open += 1;
                drop(known);
                std::thread::spawn(move || pass(&stream, port, &passed, &*meddle));
            }
        });
        wire
    }

    /// The heads of all requests so far, in small letters.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.lock().heads.clone()
    }

    /// Bytes that went to the server, and that came from it, heads included.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let passed = self.lock();
        (passed.sent, passed.received)
    }

    pub(crate) fn forget(&self) {
        let mut passed = self.lock();
        *passed = Passed { open: passed.open, ..Passed::default() };
    }

    /// Waits until the server has done all that it was asked for, also by those who are gone.
    pub(crate) fn settle(&self) {
        let host = self.address.strip_prefix("http://").expect("an address");
        // Who comes is let in one after the other: when this one is, all before are.
        let last = TcpStream::connect(host).expect("a connection");
        let own = last.local_addr().expect("an address");
        while !self.lock().peers.contains(&own) {
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(last);
        while self.lock().open > 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Passed> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pass(stream: &TcpStream, port: u16, passed: &Arc<Mutex<Passed>>, meddle: &Meddle) {
    let mut server = TcpStream::connect(("127.0.0.1", port)).expect("the server is there");
    let (mut back, mut to) =
        (server.try_clone().expect("a stream"), stream.try_clone().expect("a stream"));
    let counted = Arc::clone(passed);
    let how = Arc::new(Mutex::new(Pass::On));
    let told = Arc::clone(&how);
    std::thread::spawn(move || {
        let (mut bytes, mut is_over) = (vec![0; 1 << 16], false);
        while let Ok(count @ 1..) = back.read(&mut bytes) {
            let how = *told.lock().unwrap_or_else(PoisonError::into_inner);
            let mut passed = counted.lock().unwrap_or_else(PoisonError::into_inner);
            passed.received += count as u64;
            drop(passed);
            let written = match how {
                // What nobody reads is read all the same: the server has done when it ends.
                _ if is_over => continue,
                Pass::Lost => Err(ErrorKind::BrokenPipe.into()),
                Pass::Half => {
                    let _ = to.write_all(&bytes[..count / 2]);
                    Err(ErrorKind::BrokenPipe.into())
                }
                Pass::Slow => bytes[..count].chunks(512).try_for_each(|piece| {
                    std::thread::sleep(Duration::from_millis(1));
                    to.write_all(piece)
                }),
                _ => to.write_all(&bytes[..count]),
            };
            if written.is_err() {
                is_over = true;
                let _ = to.shutdown(std::net::Shutdown::Both);
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
        counted.lock().unwrap_or_else(PoisonError::into_inner).open -= 1;
    });
    forward(stream, &mut server, (passed, &how), meddle);
    // It ends when it has answered what came until now.
    let _ = server.shutdown(std::net::Shutdown::Write);
}

/// Hands requests on until no more come.
fn forward(
    stream: &TcpStream,
    server: &mut TcpStream,
    (passed, how): (&Mutex<Passed>, &Mutex<Pass>),
    meddle: &Meddle,
) {
    let lock = || passed.lock().unwrap_or_else(PoisonError::into_inner);
    let mut reader = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            head.push_str(&line);
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a number");
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let number = {
            let mut passed = lock();
            passed.heads.push(head.to_lowercase());
            passed.sent += head.len() as u64 + length;
            passed.heads.len() - 1
        };
        match meddle(head.lines().next().unwrap_or_default(), number) {
            Pass::Answer(status) => {
                let _ = std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink());
                let head =
                    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                let mut stream = stream;
                let _ = stream.write_all(head.as_bytes());
                let _ = stream.shutdown(std::net::Shutdown::Both);
                return;
            }
            Pass::Hang => {
                // Until whoever asked goes away.
                let _ = std::io::copy(&mut reader, &mut std::io::sink());
                return;
            }
            pass => *how.lock().unwrap_or_else(PoisonError::into_inner) = pass,
        }
        let sent = server.write_all(head.as_bytes());
        if sent.and_then(|()| std::io::copy(&mut (&mut reader).take(length), &mut *server)).is_err()
        {
            return;
        }
    }
}

impl Bench {
    /// Has the program ask the server at this address.
    pub(crate) fn with_store(mut self, address: &str) -> Self {
        for (name, value) in [
            ("AWS_ENDPOINT_URL", address),
            ("AWS_ACCESS_KEY_ID", "THEKEYSID"),
            ("AWS_SECRET_ACCESS_KEY", "THEKEYITSELF"),
            ("AWS_REGION", "us-east-1"),
            ("NO_PROXY", "127.0.0.1"),
            // What whoever runs the tests has for himself.
            ("AWS_ENDPOINT_URL_S3", ""),
            ("AWS_SESSION_TOKEN", ""),
            ("AWS_SKIP_SIGNATURE", ""),
            ("AWS_PROFILE", ""),
            ("AWS_CA_BUNDLE", ""),
        ] {
            self.set(name, value);
        }
        self
    }
}
