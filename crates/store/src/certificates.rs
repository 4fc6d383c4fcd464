//! Certificates that a store is known by.

use std::path::Path;

use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};

use crate::error::{Error, Kind, Result};
use crate::settings::Settings;

/// Those that are trusted with these settings.
pub(crate) fn of(settings: &Settings) -> Result<RootCerts> {
    match &settings.certificates {
        Some(path) => certificates(path),
        // Those of the host are many, and not everybody needs them.
        None if settings.is_plain() => Ok(RootCerts::from([])),
        None => own_certificates(),
    }
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
