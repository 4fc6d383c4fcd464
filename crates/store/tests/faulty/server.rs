//! A server whose every answer is what a test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use calve_inplace::UNDO_RECORD;
use calve_store::{
    Error, Folder, Listed, Listing, Object, ObjectFile, ObjectName, Settings, Store,
};

/// A request as it came: its first line and its headers, in small letters.
pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) headers: String,
}

impl Request {
    pub(crate) fn range(&self) -> (usize, usize) {
        let range = self.headers.split("\nrange: bytes=").nth(1).expect("a range");
        let range = range.lines().next().expect("a line");
        let (from, last) = range.split_once('-').expect("a range");
        (from.parse().expect("a number"), last.parse::<usize>().expect("a number") + 1)
    }
}

/// How long servers are waited for that do not answer.
const PATIENCE: Duration = Duration::from_secs(1);

type Answer = dyn Fn(&Request, usize) -> Vec<u8> + Send + Sync;

/// A server that answers as `answer` says; the number is that of the request.
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) count: Arc<AtomicUsize>,
    pub(crate) seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub(crate) fn new(answer: impl Fn(&Request, usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let (count, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let server = Self { address, count: Arc::clone(&count), seen: Arc::clone(&seen) };
        let answer: Arc<Answer> = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, count, seen) =
                    (Arc::clone(&answer), Arc::clone(&count), Arc::clone(&seen));
                std::thread::spawn(move || {
                    serve(stream.expect("a stream"), &*answer, &count, &seen);
                });
            }
        });
        server
    }

    pub(crate) fn object(&self) -> Object {
        self.object_of(PATIENCE)
    }

    /// The object in a store that is waited for so long; pauses are a twentieth of it.
    pub(crate) fn object_of(&self, patience: Duration) -> Object {
        let name = ObjectName::parse(Path::new("s3://b/k")).expect("a name");
        Object::new(&self.store(patience), name)
    }

    fn store(&self, patience: Duration) -> Arc<Store> {
        let endpoint = self.address.clone();
        let settings = Settings::new(&|name| match name {
            "AWS_ENDPOINT_URL" => Some(endpoint.clone()),
            "AWS_ACCESS_KEY_ID" => Some("SECRETID".into()),
            "AWS_SECRET_ACCESS_KEY" => Some("SECRETKEY".into()),
            _ => None,
        });
        let settings = settings.expect("settings").impatient(patience);
        Store::new(settings).expect("a store")
    }

    pub(crate) fn list(&self, folder: &str) -> Vec<Result<Listed, Error>> {
        let folder = Folder::parse(Path::new(folder)).expect("a folder");
        Listing::new(&self.store(PATIENCE), folder, UNDO_RECORD).collect()
    }

    pub(crate) fn open(&self) -> Result<ObjectFile, Error> {
        ObjectFile::open(self.object())
    }

    pub(crate) fn requests(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

fn serve(stream: TcpStream, answer: &Answer, count: &AtomicUsize, seen: &Mutex<Vec<Request>>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let (mut headers, mut length) = (String::from("\n"), 0);
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header).unwrap_or(0) == 0 || header.trim().is_empty() {
            break;
        }
        let (name, value) = header.trim().split_once(':').expect("a header");
        let (name, value) = (name.to_lowercase(), value.trim());
        if name == "content-length" {
            length = value.parse().expect("a number");
        }
        headers.push_str(&format!("{name}: {value}\n"));
    }
    let mut body = vec![0; length];
    let _ = reader.read_exact(&mut body);
    let request = Request { line, headers };
    let bytes = answer(&request, count.fetch_add(1, Ordering::SeqCst));
    seen.lock().expect("no panic").push(request);
    // Whoever asked may be gone by now.
    let _ = (&stream).write_all(&bytes);
}

/// An answer with these headers, of which each has its end of line, and this body.
pub(crate) fn plain(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}
