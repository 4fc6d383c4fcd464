//! Settings: where the store is, and who asks. They are those that other programs for S3 have.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use calve_disk::open::shown;
use zeroize::Zeroizing;

use crate::credentials::{Credentials, Origin};
use crate::limits::LONGEST_SETTINGS;

/// Where the store is, and who asks.
#[derive(Clone)]
pub struct Settings {
    pub(crate) region: String,
    /// `None` of Amazon's own store.
    pub(crate) endpoint: Option<String>,
    /// Whether the bucket is part of the host's name; in the path otherwise.
    pub(crate) in_host: bool,
    pub(crate) origin: Origin,
    /// Certificates to trust in place of the host's own.
    pub(crate) certificates: Option<PathBuf>,
    /// The pause after the first failure.
    pub(crate) pause: std::time::Duration,
    /// How long an answer may take to begin, in place of what the limits say.
    pub(crate) patience: Option<std::time::Duration>,
}

/// A service of this machine that gives credentials.
#[derive(Clone)]
pub(crate) enum Service {
    /// Of a container.
    Container { url: String, authorization: Option<Zeroizing<String>> },
    /// Of a virtual machine.
    Machine { url: String },
}

impl Settings {
    /// What the environment says, and the profile that it names.
    ///
    /// # Errors
    /// Why they cannot be used.
    pub fn from_environment() -> Result<Self, String> {
        Self::new(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// What `variable` says of each variable of the environment.
    ///
    /// # Errors
    /// Why they cannot be used.
    pub fn new(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let is_on = |name: &str| variable(name).is_some_and(|value| value != "false");
        let home = variable("HOME").map(PathBuf::from);
        let file = |name: &str, usual: &str| {
            let usual = || home.as_ref().map(|home| home.join(".aws").join(usual));
            variable(name).map(PathBuf::from).or_else(usual)
        };
        let named = variable("AWS_PROFILE");
        let profile = named.as_deref().unwrap_or("default");
        let mut settings = HashMap::new();
        if let Some(path) = file("AWS_CONFIG_FILE", "config") {
            let section = if profile == "default" {
                profile.to_owned()
            } else {
                format!("profile {profile}")
            };
            settings.extend(section_of(&path, &section)?);
        }
        if let Some(path) = file("AWS_SHARED_CREDENTIALS_FILE", "credentials") {
            settings.extend(section_of(&path, profile)?);
        }
        let first = |names: &[&str], setting: &str| {
            let found = names.iter().find_map(|name| variable(name));
            found.or_else(|| settings.get(setting).cloned())
        };
        let endpoint = first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"], "endpoint_url");
        let origin = if is_on("AWS_SKIP_SIGNATURE") {
            Origin::Nobody
        } else if let (Some(id), Some(secret)) =
            (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"))
        {
            Origin::Fixed(Credentials::fixed(&id, &secret, variable("AWS_SESSION_TOKEN")))
        } else if let (Some(id), Some(secret)) =
            (settings.get("aws_access_key_id"), settings.get("aws_secret_access_key"))
        {
            let token = settings.get("aws_session_token").cloned();
            Origin::Fixed(Credentials::fixed(id, secret, token))
        } else if let Some(name) = named {
            return Err(format!("the profile {name} has no aws_access_key_id with a secret"));
        } else {
            Origin::Service(service(variable)?)
        };
        Ok(Self {
            region: first(&["AWS_REGION", "AWS_DEFAULT_REGION"], "region")
                .unwrap_or_else(|| "us-east-1".into()),
            in_host: endpoint.is_none() || is_on("AWS_VIRTUAL_HOSTED_STYLE_REQUEST"),
            endpoint: endpoint.map(|endpoint| checked(&endpoint)).transpose()?,
            origin,
            certificates: first(&["AWS_CA_BUNDLE"], "ca_bundle").map(PathBuf::from),
            pause: crate::limits::FIRST_PAUSE,
            patience: None,
        })
    }

    /// Whether the store is asked without TLS.
    pub(crate) fn is_plain(&self) -> bool {
        self.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"))
    }

    /// Waits shorter than the limits say, for tests of servers that do not answer.
    #[must_use]
    pub fn impatient(self, patience: std::time::Duration) -> Self {
        Self { pause: patience / 20, patience: Some(patience), ..self }
    }
}

/// An address as requests begin with it.
fn checked(endpoint: &str) -> Result<String, String> {
    let rest = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"@?#\\".contains(&byte);
    match rest {
        Some(rest) if !rest.is_empty() && rest.bytes().all(is_plain) => {
            Ok(endpoint.trim_end_matches('/').to_owned())
        }
        // Without what it says: a password may stand in it.
        _ => {
            Err("the endpoint is no address such as https://HOST:PORT, without a user's name"
                .into())
        }
    }
}

fn service(variable: &dyn Fn(&str) -> Option<String>) -> Result<Service, String> {
    let relative = variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
        .map(|path| format!("http://169.254.170.2{path}"));
    if let Some(url) = relative.or_else(|| variable("AWS_CONTAINER_CREDENTIALS_FULL_URI")) {
        if !is_near(&url) {
            return Err(
                "AWS_CONTAINER_CREDENTIALS_FULL_URI is no address with https://, and none \
                        with http:// of this machine or of a container's service"
                    .into(),
            );
        }
        let token = match variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
            Some(path) => Some(read(Path::new(&path))?.unwrap_or_default().trim().to_owned()),
            None => variable("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
        };
        return Ok(Service::Container { url, authorization: token.map(Zeroizing::new) });
    }
    if variable("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value == "true") {
        return Err("no credentials are set".into());
    }
    let url =
        variable("AWS_EC2_METADATA_SERVICE_ENDPOINT").filter(|url| url.starts_with("http://"));
    Ok(Service::Machine { url: url.unwrap_or_else(|| "http://169.254.169.254".into()) })
}

/// Whether credentials may be asked for at this address: by TLS, or where nobody listens on the
/// way.
fn is_near(url: &str) -> bool {
    if url.starts_with("https://") {
        return true;
    }
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if let Ok(address) = host.parse::<SocketAddr>() {
        return is_near_address(address.ip());
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(address) => is_near_address(address),
        Err(_) => host.split(':').next() == Some("localhost") && !host.contains('@'),
    }
}

fn is_near_address(address: IpAddr) -> bool {
    let services = [Ipv4Addr::new(169, 254, 170, 2), Ipv4Addr::new(169, 254, 170, 23)];
    address.is_loopback() || services.iter().any(|service| address == IpAddr::V4(*service))
}

/// The settings of one section of a file, which need not be there.
fn section_of(path: &Path, section: &str) -> Result<HashMap<String, String>, String> {
    let text = read(path)?.unwrap_or_default();
    let mut is_meant = false;
    let mut settings = HashMap::new();
    for line in text.lines() {
        let trimmed = line.trim();
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            is_meant = name.trim() == section;
        } else if is_meant
            && !line.starts_with([' ', '\t', '#', ';'])
            && let Some((name, value)) = trimmed.split_once('=')
        {
            settings.insert(name.trim().to_lowercase(), value.trim().to_owned());
        }
    }
    Ok(settings)
}

fn read(path: &Path) -> Result<Option<String>, String> {
    let read = || {
        let mut text = String::new();
        File::open(path)?.take(LONGEST_SETTINGS).read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(text)
    };
    match read() {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{} cannot be read: {error}", shown(path))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::new(&|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn variables_come_before_profiles() {
        let folder = tempfile::tempdir().expect("a folder");
        let (config, credentials) = (folder.path().join("config"), folder.path().join("keys"));
        let text = "[default]\nregion = one\n[profile work]\nregion=two\n\
                    endpoint_url = https://host:9000/\ns3 =\n  addressing_style = path\n";
        std::fs::write(&config, text).expect("a file");
        let text = "# x\n[work]\naws_access_key_id = ID\naws_secret_access_key = SECRET\n";
        std::fs::write(&credentials, text).expect("a file");
        let files = [
            ("AWS_CONFIG_FILE", config.to_str().expect("a name")),
            ("AWS_SHARED_CREDENTIALS_FILE", credentials.to_str().expect("a name")),
        ];
        let with = |more: &[(&str, &str)]| settings(&[&files, more].concat());
        let work = with(&[("AWS_PROFILE", "work")]).expect("settings");
        assert_eq!((&*work.region, work.endpoint.as_deref()), ("two", Some("https://host:9000")));
        assert!(!work.in_host);
        let Origin::Fixed(credentials) = &work.origin else { panic!("no credentials") };
        assert_eq!((&*credentials.id, &**credentials.secret), ("ID", "SECRET"));
        let said = [
            ("AWS_PROFILE", "work"),
            ("AWS_REGION", "three"),
            ("AWS_ACCESS_KEY_ID", "X"),
            ("AWS_SECRET_ACCESS_KEY", "Y"),
        ];
        let said = with(&said).expect("settings");
        assert_eq!(said.region, "three");
        let Origin::Fixed(credentials) = &said.origin else { panic!("no credentials") };
        assert_eq!(&*credentials.id, "X");
        assert!(with(&[("AWS_PROFILE", "nobody")]).is_err());
        let usual = with(&[]).expect("settings");
        assert!(matches!(usual.origin, Origin::Service(Service::Machine { .. })));
        assert_eq!((&*usual.region, usual.in_host), ("one", true));
    }

    #[test]
    fn credentials_are_asked_for_near_by_or_safely() {
        for (url, is_good) in [
            ("https://host/x", true),
            ("http://localhost:80/x", true),
            ("http://127.0.0.1:80/x", true),
            ("http://[::1]/x", true),
            ("http://169.254.170.23/v1/credentials", true),
            ("http://169.254.170.2?x", true),
            ("http://169.254.170.3/x", false),
            ("http://host/x", false),
            ("http://127.0.0.1@host/x", false),
            ("http://localhost:x@host/x", false),
            ("ftp://localhost/x", false),
        ] {
            let said = settings(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)]);
            assert_eq!(said.is_ok(), is_good, "{url}");
        }
        let both = [
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "https://host/x"),
            ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/y"),
        ];
        let both = settings(&both).expect("settings");
        let Origin::Service(Service::Container { url, .. }) = both.origin else {
            panic!("another service")
        };
        assert_eq!(url, "http://169.254.170.2/y");
    }

    #[test]
    fn an_endpoint_is_an_address_and_no_failure_repeats_it() {
        for wrong in ["host:9000", "https://", "https://me:secret@host", "http://a b", "ftp://x"] {
            let Err(why) = settings(&[("AWS_ENDPOINT_URL", wrong), ("AWS_SKIP_SIGNATURE", "1")])
            else {
                panic!("{wrong}")
            };
            assert!(!why.contains("secret"), "{why}");
        }
    }
}
