//! The addresses of a store's name, which are looked up once in a while and not for each request.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::limits::ADDRESSES;

/// Looks names up as programs usually do, and remembers what came of it for [`ADDRESSES`]. Each
/// request asks, also one for which a connection is there already, and each time it would be asked
/// of the network, by a thread of its own.
#[derive(Default, Debug)]
pub(crate) struct Addresses {
    usual: DefaultResolver,
    known: Mutex<HashMap<String, (Instant, ResolvedSocketAddrs)>>,
}

impl Resolver for Addresses {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let name = format!(
            "{}://{}",
            uri.scheme_str().unwrap_or_default(),
            uri.authority().map_or("", |authority| authority.as_str())
        );
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, addresses)) = lock().get(&name)
            && since.elapsed() < ADDRESSES
        {
            return Ok(addresses.clone());
        }
        let addresses = self.usual.resolve(uri, config, timeout)?;
        let mut known = lock();
        // Names of stores, of buckets in them, and of who gives credentials: few.
        known.retain(|_, (since, _)| since.elapsed() < ADDRESSES);
        known.insert(name, (Instant::now(), addresses.clone()));
        Ok(addresses)
    }
}
