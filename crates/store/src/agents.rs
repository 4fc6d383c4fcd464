//! Connections to a store, which end when the run is to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::sleep;

use ureq::Agent;
use ureq::tls::TlsConfig;
use ureq::unversioned::transport::DefaultConnector;

use crate::addresses::Addresses;
use crate::limits::{CONNECT, GRACE, HEED, LOOKERS};

/// Those who send requests.
pub(crate) struct Agents(Arc<Both>);

struct Both {
    tls: TlsConfig,
    /// For what ends at once where the run is to stop.
    usual: Agent,
    /// For what says how things stand, or cleans up: it has a while more.
    last: Mutex<Agent>,
}

impl Agents {
    pub(crate) fn new(tls: TlsConfig) -> Self {
        let (usual, last) = (agent(&tls), Mutex::new(agent(&tls)));
        Self(Arc::new(Both { tls, usual, last }))
    }

    /// Who sends a request that ends at once, or one that has a while.
    pub(crate) fn get(&self, ends_at_once: bool) -> Agent {
        match ends_at_once {
            true => self.0.usual.clone(),
            false => self.0.lock().clone(),
        }
    }

    /// Ends what is on its way when `stop` says so.
    pub(crate) fn end_with(&self, stop: Arc<AtomicBool>) {
        let both = Arc::downgrade(&self.0);
        // Where there is no thread to be had, time ends it.
        let _ = std::thread::Builder::new().spawn(move || watch(&both, &stop));
    }
}

fn watch(both: &Weak<Both>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        if both.strong_count() == 0 {
            return;
        }
        sleep(HEED);
    }
    if let Some(both) = both.upgrade() {
        both.usual.clone().shutdown();
    }
    sleep(GRACE);
    if let Some(both) = both.upgrade() {
        let next = agent(&both.tls);
        std::mem::replace(&mut *both.lock(), next).shutdown();
    }
}

impl Both {
    fn lock(&self) -> std::sync::MutexGuard<'_, Agent> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn agent(tls: &TlsConfig) -> Agent {
    let config = Agent::config_builder()
        .tls_config(tls.clone())
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_resolve(Some(CONNECT))
        .timeout_connect(Some(CONNECT))
        .max_idle_connections(LOOKERS)
        .max_idle_connections_per_host(LOOKERS)
        .user_agent(concat!("calve/", env!("CARGO_PKG_VERSION")))
        .build();
    Agent::with_parts(config, DefaultConnector::default(), Addresses::default())
}
