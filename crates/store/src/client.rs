//! A store: where it is, who speaks to it, and what went to and fro.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ureq::tls::TlsConfig;

use crate::agents::Agents;
use crate::certificates;
use crate::credentials::Keyring;
use crate::error::Result;
use crate::name::ObjectName;
use crate::settings::Settings;
use crate::signing::{self, escaped_path};

/// A store, and who speaks to it.
pub struct Store {
    pub(crate) settings: Settings,
    pub(crate) keyring: Keyring,
    pub(crate) agents: Agents,
    /// It is found out where the server says that it is another one.
    pub(crate) region: Mutex<String>,
    pub(crate) traffic: Traffic,
    /// Says that the run is to stop.
    pub(crate) stop: OnceLock<Arc<AtomicBool>>,
}

/// Bytes of objects that went to and fro, and requests.
#[derive(Default, Debug)]
pub struct Traffic {
    received: AtomicU64,
    sent: AtomicU64,
    copied: AtomicU64,
    pub(crate) requests: AtomicU64,
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

impl Store {
    /// The store of these settings. Nothing is asked of it yet.
    ///
    /// # Errors
    /// Where its certificates cannot be read.
    pub fn new(settings: Settings) -> Result<Arc<Self>> {
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(certificates::of(&settings)?)
            .build();
        Ok(Arc::new(Self {
            keyring: Keyring::new(&settings),
            region: Mutex::new(settings.region.clone()),
            traffic: Traffic::default(),
            stop: OnceLock::new(),
            agents: Agents::new(tls),
            settings,
        }))
    }

    /// What went to and fro so far.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Sends nothing again where `stop` says that the run is to stop, and ends what is on its way.
    pub fn heed(&self, stop: Arc<AtomicBool>) {
        if self.stop.set(Arc::clone(&stop)).is_ok() {
            self.agents.end_with(stop);
        }
    }

    /// Whether the run is to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.get().is_some_and(|stop| stop.load(Ordering::Relaxed))
    }

    /// A number of the place where a bucket is, which is another one with another endpoint.
    pub(crate) fn number_of(&self, bucket: &str) -> u64 {
        let endpoint = self.settings.endpoint.as_deref().unwrap_or_default();
        signing::number(&format!("{endpoint} {bucket}"))
    }

    /// The store as messages name it.
    pub(crate) fn told(&self) -> &str {
        self.settings.endpoint.as_deref().unwrap_or("Amazon's store")
    }

    pub(crate) fn region(&self) -> String {
        self.region.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn place(&self, name: &ObjectName, region: &str) -> Place {
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
pub(crate) struct Place {
    pub(crate) scheme: String,
    pub(crate) host: String,
    pub(crate) path: String,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

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
