//! Images in a store, beside fetching them, doing it here and sending the result: s3s-fs serves a
//! folder, and curl does what others do.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use calve_testkit::corpus::{self, Kind};

use crate::fresh;
use crate::measure::median;

/// Bytes of the disk, of which half is stored.
const SIZE: u64 = 1 << 30;

const KEY: &str = "key";
const SECRET: &str = "secret-of-nobody";

/// What is done, the line that does it, and what others type for it.
const ROWS: [(&str, &str, &str); 7] = [
    ("info", "info s3://bucket/x.qcow", "get && qemu-img info y.qcow"),
    ("check", "check s3://bucket/x.qcow", "get && \"$calve\" check y.qcow"),
    ("upgrade in place", "upgrade s3://bucket/x.qcow", "get && convert && put"),
    ("undo of that", "upgrade --undo s3://bucket/x.qcow", ""),
    (
        "upgrade beside",
        "upgrade --reflink-to s3://bucket/new.qcow2 s3://bucket/x.qcow",
        "get && convert && put",
    ),
    ("convert to a file", "convert -O qcow2 s3://bucket/x.qcow target", "get && convert"),
    (
        "convert to an object",
        "convert --force -O qcow2 s3://bucket/x.qcow s3://bucket/new.qcow2",
        "get && convert && put",
    ),
];

/// A server that is running, and is ended with this.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts it over a folder of its own, and writes `env`, which every line begins with.
fn start(folder: &Path, calve: &str) -> io::Result<Server> {
    std::fs::create_dir_all(folder.join("root/bucket"))?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let server = Command::new("s3s-fs")
        .args(["--port", &port.to_string(), "--access-key", KEY, "--secret-key", SECRET, "root"])
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| io::Error::other(format!("s3s-fs, which has to be installed: {error}")))?;
    let mut server = Server(server);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if server.0.try_wait()?.is_some() {
            return Err(io::Error::other("s3s-fs ended at once"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let curl = format!(
        "curl -sf --aws-sigv4 aws:amz:us-east-1:s3 -u {KEY}:{SECRET} \
         -H x-amz-content-sha256:UNSIGNED-PAYLOAD"
    );
    let at = format!("http://127.0.0.1:{port}");
    std::fs::write(
        folder.join("env"),
        format!(
            "export AWS_ENDPOINT_URL={at} AWS_ACCESS_KEY_ID={KEY} AWS_SECRET_ACCESS_KEY={SECRET} \
             AWS_REGION=us-east-1 TMPDIR=.\ncalve='{calve}'\n\
             get() {{ {curl} {at}/bucket/x.qcow >y.qcow; }}\n\
             convert() {{ qemu-img convert -O qcow2 y.qcow y.qcow2; }}\n\
             put() {{ {curl} -T y.qcow2 {at}/bucket/theirs.qcow2; }}\n"
        ),
    )?;
    Ok(server)
}

/// Each row in turns with what others do.
pub(crate) fn table(folder: &Path, calve: &str, rounds: usize) -> io::Result<String> {
    let folder = folder.join("stores");
    let _server = start(&folder, calve)?;
    corpus::write(&folder.join("x.qcow"), Kind::Plain, SIZE, 1)?;
    let run = |line: &str| Ok::<_, io::Error>(fresh(&folder, &format!(". ./env; {line}"))?.wall);
    // In parts: else the server digests all of it for each request.
    run("\"$calve\" convert -q -f raw -O raw x.qcow s3://bucket/x.qcow")?;
    let mut text = format!(
        "\nAn image of {} MiB, half stored, in a store on this machine:\n\n\
         | what | calve s | others s | MiB came | MiB went | MiB copied there | requests |\n\
         |---|---:|---:|---:|---:|---:|---:|\n",
        SIZE >> 20
    );
    let mut took = ROWS.map(|_| (Vec::new(), Vec::new()));
    let mut traffic = ROWS.map(|_| String::new());
    for round in 0..=rounds {
        for (((_, words, others), took), traffic) in ROWS.iter().zip(&mut took).zip(&mut traffic) {
            if words.contains("--reflink-to") {
                run("rm -f root/bucket/new.qcow2")?;
            }
            let ours = run(&format!("\"$calve\" {words} --output json >told"))?;
            *traffic = columns(&std::fs::read(folder.join("told"))?);
            let theirs = if others.is_empty() { f64::NAN } else { run(others)? };
            if round > 0 {
                took.0.push(ours);
                took.1.push(theirs);
            }
        }
    }
    for (((what, ..), (ours, theirs)), traffic) in ROWS.iter().zip(took).zip(traffic) {
        let theirs = Some(median(theirs)).filter(|it| !it.is_nan());
        let theirs = theirs.map_or(String::new(), |it| format!("{it:.2}"));
        text += &format!("| {what} | {:.2} | {theirs} | {traffic} |\n", median(ours));
    }
    Ok(text)
}

/// What travelled, as far as the result tells.
fn columns(told: &[u8]) -> String {
    let told: serde_json::Value = serde_json::from_slice(told).unwrap_or_default();
    let bytes = |name: &str| match told["traffic"][name].as_f64() {
        Some(bytes) => format!("{:.1}", bytes / f64::from(1 << 20)),
        None => String::new(),
    };
    let requests = told["traffic"]["requests"].as_u64();
    format!(
        "{} | {} | {} | {}",
        bytes("received-bytes"),
        bytes("sent-bytes"),
        bytes("copied-bytes"),
        requests.map_or(String::new(), |it| it.to_string())
    )
}
