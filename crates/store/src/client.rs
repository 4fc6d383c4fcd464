//! Requests: signed, sent, sent again where the server or the network fails, and judged.

use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use ureq::http::request::Builder;
use ureq::http::{HeaderMap, Method, Request as Sent};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, SendBody};

use crate::credentials::Keyring;
use crate::error::{Error, Kind, Result};
use crate::limits::{
    ANSWER, ATTEMPTS, BODY, CONNECT, HEED, LONGEST_ANSWER, LONGEST_CODE, SLOW_ANSWER, SLOWEST,
};
use crate::name::ObjectName;
use crate::settings::Settings;
use crate::signing::{self, Signed, escaped_path};
use crate::{document, part};

/// A store, and who speaks to it.
pub struct Store {
    settings: Settings,
    keyring: Keyring,
    agent: Agent,
    /// It is found out where the server says that it is another one.
    region: Mutex<String>,
    traffic: Traffic,
    /// Says that the run is to stop.
    stop: OnceLock<Arc<AtomicBool>>,
}

/// Bytes of objects that went to and fro, and requests.
#[derive(Default, Debug)]
pub struct Traffic {
    received: AtomicU64,
    sent: AtomicU64,
    copied: AtomicU64,
    requests: AtomicU64,
}

impl Traffic {
    /// Bytes of objects that came from the store.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Bytes of objects that were sent to the store.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes of objects that the store copied by itself.
    pub fn copied(&self) -> u64 {
        self.copied.load(Ordering::Relaxed)
    }

    /// Requests, those that were sent again included.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn add_received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_copied(&self, bytes: u64) {
        self.copied.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What is asked of the store.
pub(crate) struct Request<'a> {
    pub(crate) name: &'a ObjectName,
    /// What it is for, as in "reading it".
    pub(crate) doing: &'a str,
    pub(crate) method: Method,
    pub(crate) query: &'a [(&'a str, String)],
    /// Names in small letters.
    pub(crate) headers: &'a [(&'a str, String)],
    pub(crate) body: Body<'a>,
    /// Bytes that the answer has about.
    pub(crate) expected: u64,
    /// Whether the server may take long before it answers.
    pub(crate) is_slow: bool,
    /// How often it is sent at most.
    pub(crate) attempts: u32,
    /// How long each time may take, in place of what is usual.
    pub(crate) limit: Option<Duration>,
    /// Whether it is not sent any more where the run is to stop.
    pub(crate) heeds_stop: bool,
}

impl<'a> Request<'a> {
    /// One without anything special about it.
    pub(crate) fn new(method: Method, name: &'a ObjectName, doing: &'a str) -> Self {
        Self {
            name,
            doing,
            method,
            query: &[],
            headers: &[],
            body: Body::None,
            expected: 0,
            is_slow: false,
            attempts: ATTEMPTS,
            limit: None,
            heeds_stop: true,
        }
    }

    pub(crate) fn error(&self, kind: Kind, why: impl Into<String>) -> Error {
        Error::new(kind, &self.name.path(), self.doing, why)
    }
}

/// What a request carries.
pub(crate) enum Body<'a> {
    None,
    Bytes(&'a [u8]),
    Part(&'a part::Part<'a>),
}

/// What the server answered, as far as its head goes.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: ureq::Body,
}

impl Answer {
    /// A header, where it is there and plain.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The document in the body. One that is too long is cut.
    pub(crate) fn text(&mut self) -> std::result::Result<String, Failed> {
        self.text_of(LONGEST_ANSWER)
    }

    /// The same of a document that may have so many bytes.
    pub(crate) fn text_of(&mut self, most: u64) -> std::result::Result<String, Failed> {
        let mut bytes = Vec::new();
        let mut reader = self.body.as_reader().take(most);
        let read = reader.read_to_end(&mut bytes);
        read.map_err(|error| Failed::Again(format!("its answer broke off: {error}")))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Why nothing came of a request.
pub(crate) enum Failed {
    /// It may work when it is sent again.
    Again(String),
    /// It will not.
    Finally(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Finally(error)
    }
}

impl Store {
    /// The store of these settings. Nothing is asked of it yet.
    ///
    /// # Errors
    /// Where its certificates cannot be read.
    pub fn new(settings: Settings) -> Result<Arc<Self>> {
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(match &settings.certificates {
                Some(path) => certificates(path)?,
                // Those of the host are many, and not everybody needs them.
                None if settings.is_plain() => RootCerts::from([]),
                None => own_certificates()?,
            })
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .max_idle_connections(crate::limits::LOOKERS)
            .max_idle_connections_per_host(crate::limits::LOOKERS)
            .user_agent(concat!("calve/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Ok(Arc::new(Self {
            keyring: Keyring::new(&settings),
            region: Mutex::new(settings.region.clone()),
            traffic: Traffic::default(),
            stop: OnceLock::new(),
            settings,
            agent,
        }))
    }

    /// What went to and fro so far.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Sends a request until something comes of it or it makes no sense any more. `take` makes of
    /// a good answer what is wanted.
    pub(crate) fn ask<T>(
        &self,
        request: &Request<'_>,
        mut take: impl FnMut(&mut Answer) -> std::result::Result<T, Failed>,
    ) -> Result<T> {
        let mut last = String::new();
        for attempt in 0..request.attempts {
            self.rest(request, attempt)?;
            match self.attempt(request, &mut take) {
                Ok(done) => return Ok(done),
                Err(Failed::Again(why)) => last = why,
                Err(Failed::Finally(error)) => return Err(error),
            }
        }
        let why = format!("did not come off, {} times over: {last}", request.attempts);
        Err(request.error(Kind::Unreachable, why))
    }

    /// Sends a request once, and makes of a good answer what is wanted.
    pub(crate) fn attempt<T>(
        &self,
        request: &Request<'_>,
        take: &mut dyn FnMut(&mut Answer) -> std::result::Result<T, Failed>,
    ) -> std::result::Result<T, Failed> {
        let mut answer = self.once(request)?;
        self.judge(request, &mut answer)?;
        take(&mut answer)
    }

    /// The pause before an attempt; the first one is numbered 0 and has none. Ends where the run
    /// is to stop.
    pub(crate) fn rest(&self, request: &Request<'_>, attempt: u32) -> Result<()> {
        let pause = match attempt {
            0 => Duration::ZERO,
            _ => self.settings.pause * 2u32.saturating_pow(attempt - 1),
        };
        let begun = Instant::now();
        loop {
            let is_stopped = self.stop.get().is_some_and(|stop| stop.load(Ordering::Relaxed));
            if is_stopped && request.heeds_stop {
                return Err(request.error(Kind::Stopped, "was stopped"));
            }
            match pause.checked_sub(begun.elapsed()) {
                Some(left) if !left.is_zero() => sleep(left.min(HEED)),
                _ => return Ok(()),
            }
        }
    }

    /// Sends nothing again where `stop` says that the run is to stop.
    pub fn heed(&self, stop: Arc<AtomicBool>) {
        // The first one stays.
        let _ = self.stop.set(stop);
    }

    /// Sends a request once.
    fn once(&self, request: &Request<'_>) -> std::result::Result<Answer, Failed> {
        let credentials = self
            .keyring
            .get()
            .map_err(|why| request.error(Kind::Credentials, format!("needs credentials: {why}")))?;
        let region = self.region();
        let place = self.place(request.name, &region);
        let query = signing::query(request.query);
        let digest = match &request.body {
            Body::None => signing::sha256(b""),
            Body::Bytes(bytes) => signing::sha256(bytes),
            Body::Part(part) => part.sha256.clone(),
        };
        let length = match &request.body {
            Body::None => 0,
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Part(part) => part.length,
        };
        let signed = Signed {
            method: request.method.as_str(),
            host: &place.host,
            path: &place.path,
            query: &query,
            headers: request.headers,
            body: &digest,
        };
        let added = match &credentials {
            Some(credentials) => signing::sign(&signed, credentials, &region, Timestamp::now()),
            None => Vec::new(),
        };
        let mark = if query.is_empty() { "" } else { "?" };
        let uri = format!("{}://{}{}{mark}{query}", place.scheme, place.host, place.path);
        let mut sent = Sent::builder().method(request.method.clone()).uri(uri);
        for (name, value) in request.headers.iter().chain(&added) {
            sent = sent.header(*name, value);
        }
        let mut reader = match &request.body {
            Body::None => None,
            Body::Bytes(bytes) => Some(Box::new(*bytes) as Box<dyn Read>),
            Body::Part(part) => Some(Box::new(part.reader()) as Box<dyn Read>),
        };
        if reader.is_some() {
            sent = sent.header("content-length", length);
        }
        self.traffic.requests.fetch_add(1, Ordering::Relaxed);
        let answer = match &mut reader {
            None => self.run(request, sent, SendBody::none(), length),
            Some(reader) => self.run(request, sent, SendBody::from_reader(reader), length),
        };
        match answer {
            Ok(answer) => {
                let (head, body) = answer.into_parts();
                Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
            }
            Err(error) => Err(failed(request, error)),
        }
    }

    fn run(
        &self,
        request: &Request<'_>,
        sent: Builder,
        body: SendBody<'_>,
        length: u64,
    ) -> std::result::Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        let in_time = |bytes: u64| Some(BODY + Duration::from_secs(bytes / SLOWEST));
        let usual = if request.is_slow { SLOW_ANSWER } else { ANSWER };
        // Some answers begin at once, and the work is done before their body ends.
        let body_in_time = match request.is_slow {
            true => Some(SLOW_ANSWER),
            false => in_time(request.expected),
        };
        let sent = self
            .agent
            .configure_request(sent.body(body)?)
            .timeout_recv_response(Some(self.settings.patience.unwrap_or(usual)))
            .timeout_send_request(Some(ANSWER))
            .timeout_send_body(in_time(length))
            .timeout_recv_body(self.settings.patience.or(body_in_time))
            .timeout_global(request.limit)
            .build();
        self.agent.run(sent)
    }

    /// Makes an error of an answer that is none that is wanted.
    fn judge(&self, request: &Request<'_>, answer: &mut Answer) -> std::result::Result<(), Failed> {
        let status = answer.status;
        if (200..300).contains(&status) {
            return Ok(());
        }
        if let Some(region) = answer.header("x-amz-bucket-region").map(str::to_owned)
            && self.settings.endpoint.is_none()
            && region != self.region()
            && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        {
            let why = format!("the bucket is in the region {region}");
            *self.region.lock().unwrap_or_else(PoisonError::into_inner) = region;
            return Err(Failed::Again(why));
        }
        // What it says beside its code is not repeated: it may hold anything.
        let code = document::first(&answer.text().unwrap_or_default(), "Code").unwrap_or_default();
        let is_short = (1..=LONGEST_CODE).contains(&code.len());
        let is_word = is_short && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let said = if is_word { format!("{status} {code}") } else { status.to_string() };
        let is_new = request.headers.iter().any(|(name, _)| *name == "if-none-match");
        let error = |kind, why: &str| request.error(kind, format!("{why} ({said})"));
        Err(match status {
            429 | 500 | 502..=504 => Failed::Again(format!("the server answered {said}")),
            408 => Failed::Again("the server was not patient (408)".into()),
            _ if ["RequestTimeout", "SlowDown", "InternalError"].contains(&&*code) => {
                Failed::Again(format!("the server answered {said}"))
            }
            404 if code == "NoSuchBucket" => {
                error(Kind::NoBucket, "failed: there is no such bucket").into()
            }
            404 if code == "NoSuchUpload" => {
                error(Kind::Odd, "failed: the store knows its parts no more").into()
            }
            404 => error(Kind::Missing, "failed: there is no such object").into(),
            401 | 403 => error(Kind::Denied, "was not allowed").into(),
            409 | 412 if is_new => error(Kind::Exists, "failed: it exists already").into(),
            409 | 412 | 416 => error(Kind::Changed, "failed: it is another one by now").into(),
            300..=399 => {
                let why = "led to another address, which is not followed: look at AWS_REGION and \
                           AWS_ENDPOINT_URL";
                error(Kind::Odd, why).into()
            }
            _ => error(Kind::Odd, "was refused").into(),
        })
    }

    /// A number of the place where a bucket is, which is another one with another endpoint.
    pub(crate) fn number_of(&self, bucket: &str) -> u64 {
        let endpoint = self.settings.endpoint.as_deref().unwrap_or_default();
        signing::number(&format!("{endpoint} {bucket}"))
    }

    fn region(&self) -> String {
        self.region.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn place(&self, name: &ObjectName, region: &str) -> Place {
        let amazon = match region.starts_with("cn-") {
            true => format!("https://s3.{region}.amazonaws.com.cn"),
            false => format!("https://s3.{region}.amazonaws.com"),
        };
        let endpoint = self.settings.endpoint.as_ref().unwrap_or(&amazon);
        let (scheme, rest) = endpoint.split_once("://").unwrap_or(("https", endpoint));
        let (host, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let usual = if scheme == "https" { ":443" } else { ":80" };
        let host = host.strip_suffix(usual).unwrap_or(host);
        let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
        let (bucket, key) = (name.bucket(), escaped_path(name.key()));
        // No certificate is for a name with more dots.
        let (host, path) = match self.settings.in_host && !bucket.contains('.') {
            true => (format!("{bucket}.{host}"), format!("{prefix}/{key}")),
            false => (host.to_owned(), format!("{prefix}/{}/{key}", escaped_path(bucket))),
        };
        Place { scheme: scheme.to_owned(), host, path }
    }
}

/// Where an object is.
#[derive(PartialEq, Eq, Debug)]
struct Place {
    scheme: String,
    host: String,
    path: String,
}

fn certificates(path: &Path) -> Result<RootCerts> {
    let bytes = std::fs::read(path)
        .map_err(|error| Error::host(path, "reading the certificates", &error))?;
    let found = parse_pem(&bytes).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let found: Vec<_> = found.collect();
    if found.is_empty() {
        return Err(Error::new(Kind::Settings, path, "AWS_CA_BUNDLE", "holds no certificate"));
    }
    Ok(found.into())
}

/// The certificates that the host trusts.
fn own_certificates() -> Result<RootCerts> {
    let found = rustls_native_certs::load_native_certs().certs;
    if found.is_empty() {
        let why = "are not to be found: AWS_CA_BUNDLE or SSL_CERT_FILE names them";
        return Err(Error::new(Kind::Settings, Path::new("s3:"), "the host's certificates", why));
    }
    Ok(found.iter().map(|found| Certificate::from_der(found).to_owned()).into())
}

/// What a failure of the network means. No address is repeated.
fn failed(request: &Request<'_>, error: ureq::Error) -> Failed {
    Failed::Again(match error {
        ureq::Error::Timeout(timeout) => format!("the time for {timeout} is over"),
        ureq::Error::HostNotFound => "the server's name is not known".into(),
        ureq::Error::Io(error) => match Error::behind(&error) {
            // A part could not be read that was to be sent.
            Some(error) => return Failed::Finally(error.clone()),
            None if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
                let why = format!(
                    "failed: no safe connection: {error}; AWS_CA_BUNDLE names other certificates"
                );
                return request.error(Kind::Odd, why).into();
            }
            None => error.to_string(),
        },
        ureq::Error::Rustls(error) => {
            return request.error(Kind::Odd, format!("failed: no safe connection: {error}")).into();
        }
        ureq::Error::Tls(why) => {
            return request.error(Kind::Odd, format!("failed: no safe connection: {why}")).into();
        }
        ureq::Error::LargeResponseHeader(..) => "the head of the answer is too long".into(),
        ureq::Error::ConnectProxyFailed(_) | ureq::Error::InvalidProxyUrl => {
            "the proxy does not let it through".into()
        }
        ureq::Error::Http(_) | ureq::Error::BadUri(_) => {
            return request.error(Kind::Name, "cannot be asked for under this name").into();
        }
        ureq::Error::ConnectionFailed => "no connection came about".into(),
        _ => "the server's answer makes no sense".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(variables: &[(&str, &str)], name: &str) -> (String, String, String) {
        let variable = |name: &str| {
            let mut known = variables.iter().chain(&[("AWS_SKIP_SIGNATURE", "true")]);
            known.find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let store = Store::new(Settings::new(&variable).expect("settings")).expect("a store");
        let name = ObjectName::parse(Path::new(name)).expect("a name");
        let Place { scheme, host, path } = store.place(&name, &store.region());
        (scheme, host, path)
    }

    #[test]
    fn an_object_is_where_its_store_has_it() {
        let is = |place: (String, String, String), expected: [&str; 3]| {
            assert_eq!((&*place.0, &*place.1, &*place.2), expected.into());
        };
        let usual = place(&[("AWS_REGION", "eu-north-1")], "s3://b/a b");
        is(usual, ["https", "b.s3.eu-north-1.amazonaws.com", "/a%20b"]);
        is(place(&[], "s3://b.c/k"), ["https", "s3.us-east-1.amazonaws.com", "/b.c/k"]);
        let endpoint = ("AWS_ENDPOINT_URL", "http://host:80/store/");
        is(place(&[endpoint], "s3://b/k"), ["http", "host", "/store/b/k"]);
        let in_host = ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true");
        let endpoint = ("AWS_ENDPOINT_URL", "https://host:9000");
        is(place(&[endpoint, in_host], "s3://b/k"), ["https", "b.host:9000", "/k"]);
    }
}
