//! Words from outside while a run goes on: on a socket, and by SIGUSR2.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use calve_disk::open::shown;
use calve_migrate::{Dials, Settings};
use serde_json::json;

use super::told::Teller;
use crate::exit::{Code, Failure};
use crate::size;

/// How often it is looked whether somebody wants something.
const STEP: Duration = Duration::from_millis(50);

/// How long somebody who is connected may say nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest word that is listened to.
const MAX_LINE: u64 = 256;

/// A socket that only its owner can speak to. It goes away with this.
pub(super) struct Listener {
    listener: UnixListener,
    path: PathBuf,
}

impl Listener {
    pub(super) fn bind(path: &Path) -> Result<Self, Failure> {
        let bound = bind(path).and_then(|listener| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
            listener.set_nonblocking(true)?;
            Ok(Self { listener, path: path.to_owned() })
        });
        bound.map_err(|error| {
            let text = format!("{}: listening: {error}", shown(path));
            Failure::new(Code::Refused, text)
                .next("name another: each run and each worker has its own")
        })
    }
}

/// Listens at a path; a socket that a run has left which was killed makes room.
fn bind(path: &Path) -> std::io::Result<UnixListener> {
    let bound = UnixListener::bind(path);
    let is_taken = bound.as_ref().is_err_and(|error| error.kind() == ErrorKind::AddrInUse);
    if !is_taken || !path.symlink_metadata()?.file_type().is_socket() {
        return bound;
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        _ => bound,
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Best effort: whoever comes next is told that it is there.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Listens until the run is over.
pub(super) fn serve(
    listener: Option<Listener>,
    dials: &Dials,
    pause: &AtomicBool,
    (stop, over): (&AtomicBool, &AtomicBool),
    teller: &Teller,
) {
    while !over.load(Ordering::Relaxed) {
        if pause.swap(false, Ordering::Relaxed) {
            dials.change(|settings| settings.is_paused = !settings.is_paused);
        }
        let asked = listener.as_ref().and_then(|listener| listener.listener.accept().ok());
        match asked {
            // Whoever goes away in the middle of it wants nothing more.
            Some((stream, _)) => drop(answer(&stream, dials, stop, teller)),
            None => std::thread::sleep(STEP),
        }
    }
}

fn answer(
    stream: &UnixStream,
    dials: &Dials,
    stop: &AtomicBool,
    teller: &Teller,
) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(std::io::Read::take(stream, MAX_LINE)).read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let understood = match (words.next(), words.next(), words.next()) {
        (Some("status"), None, None) => true,
        (Some("stop"), None, None) => {
            stop.store(true, Ordering::Relaxed);
            true
        }
        (Some(word), value, None) => match change(dials.now(), word, value) {
            Some(settings) => {
                dials.change(|now| *now = settings);
                true
            }
            None => false,
        },
        _ => false,
    };
    let mut status = teller.status();
    if !understood {
        status = json!({
            "error": "not understood: pause, resume, jobs N, per-device N, rate SIZE, rate none, \
                      status, stop",
        });
    }
    let now = dials.now();
    status["paused"] = json!(now.is_paused);
    status["jobs"] = json!(now.jobs);
    status["per-device"] = json!(now.per_device);
    status["rate-limit"] = json!(now.rate);
    let mut stream = stream;
    stream.write_all(format!("{status}\n").as_bytes())
}

/// The settings after a word; `None` where it is none.
pub(super) fn change(mut settings: Settings, word: &str, value: Option<&str>) -> Option<Settings> {
    let count = || value?.parse().ok().filter(|count| (1..=64).contains(count));
    match (word, value) {
        ("pause", None) => settings.is_paused = true,
        ("resume", None) => settings.is_paused = false,
        ("jobs", Some(_)) => settings.jobs = count()?,
        ("per-device", Some(_)) => settings.per_device = count()?,
        ("rate", Some("none")) => settings.rate = None,
        ("rate", Some(rate)) => {
            settings.rate = Some(size::parse("rate", rate).ok().filter(|rate| *rate > 0)?);
        }
        _ => return None,
    }
    Some(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_change_what_they_say_and_others_nothing() {
        let before = Settings { is_paused: false, jobs: 2, per_device: 2, rate: None };
        let after = |word, value| change(before, word, value);
        assert_eq!(after("pause", None), Some(Settings { is_paused: true, ..before }));
        assert_eq!(after("jobs", Some("7")), Some(Settings { jobs: 7, ..before }));
        assert_eq!(after("rate", Some("1M")), Some(Settings { rate: Some(1 << 20), ..before }));
        for (word, value) in [
            ("jobs", None),
            ("jobs", Some("0")),
            ("jobs", Some("65")),
            ("rate", Some("fast")),
            ("rate", Some("0")),
            ("pause", Some("1")),
            ("go", None),
        ] {
            assert_eq!(after(word, value), None, "{word}");
        }
    }
}
