//! Who asks: credentials from the environment, from a profile, or from the machine's own service.

use std::sync::Mutex;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use ureq::Agent;
use zeroize::Zeroizing;

use crate::limits::{FRESH, LONGEST_ANSWER, METADATA};
use crate::settings::{Service, Settings};

/// What requests are signed with.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) id: String,
    pub(crate) secret: Zeroizing<String>,
    pub(crate) token: Option<Zeroizing<String>>,
    /// When they end, where they do.
    ends: Option<Timestamp>,
}

impl Credentials {
    /// Credentials that do not end.
    pub(crate) fn fixed(id: &str, secret: &str, token: Option<String>) -> Self {
        let secret = Zeroizing::new(secret.to_owned());
        Self { id: id.to_owned(), secret, token: token.map(Zeroizing::new), ends: None }
    }

    fn is_fresh(&self) -> bool {
        let soon = SignedDuration::try_from(FRESH).unwrap_or_default();
        self.ends.is_none_or(|ends| ends > Timestamp::now() + soon)
    }

    fn is_over(&self) -> bool {
        self.ends.is_some_and(|ends| ends <= Timestamp::now())
    }
}

/// Where credentials come from.
#[derive(Clone)]
pub(crate) enum Origin {
    /// Nowhere: requests are not signed.
    Nobody,
    /// They were written down.
    Fixed(Credentials),
    /// A service of this machine gives them, for a while.
    Service(Service),
}

/// Credentials that are asked for where they end.
pub(crate) struct Keyring {
    origin: Origin,
    kept: Mutex<Option<Credentials>>,
}

impl Keyring {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self { origin: settings.origin.clone(), kept: Mutex::new(None) }
    }

    /// The credentials of now, or `None` where requests are not signed; or why there are none.
    pub(crate) fn get(&self) -> Result<Option<Credentials>, String> {
        let service = match &self.origin {
            Origin::Nobody => return Ok(None),
            Origin::Fixed(credentials) => return Ok(Some(credentials.clone())),
            Origin::Service(service) => service,
        };
        let mut kept = self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(credentials) = kept.as_ref().filter(|kept| kept.is_fresh()) {
            return Ok(Some(credentials.clone()));
        }
        let credentials = match (service.ask(), kept.as_ref()) {
            (Ok(credentials), _) => credentials,
            // They go on until they end: the service may answer by then.
            (Err(_), Some(kept)) if !kept.is_over() => return Ok(Some(kept.clone())),
            (Err(why), _) => return Err(why),
        };
        *kept = Some(credentials.clone());
        Ok(Some(credentials))
    }
}

/// What services answer.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
    expiration: Option<String>,
}

impl Service {
    /// Asks for credentials. Nothing of the answer gets into what is said of a failure.
    fn ask(&self) -> Result<Credentials, String> {
        let agent = agent();
        let text = match self {
            Service::Container { url, authorization } => {
                let mut request = agent.get(url);
                if let Some(authorization) = authorization {
                    request = request.header("authorization", &**authorization);
                }
                answer(request.call())?
            }
            Service::Machine { url } => {
                let token = agent
                    .put(format!("{url}/latest/api/token"))
                    .header("x-aws-ec2-metadata-token-ttl-seconds", "300");
                let token = answer(token.send_empty())?;
                let ask = |path: &str| {
                    let url = format!("{url}/latest/meta-data/iam/security-credentials/{path}");
                    answer(agent.get(url).header("x-aws-ec2-metadata-token", &token).call())
                };
                let role = ask("")?;
                ask(role.lines().next().unwrap_or_default())?
            }
        };
        let odd = || "the machine's service answered with none".to_owned();
        let given: Given = serde_json::from_str(&text).map_err(|_| odd())?;
        let ends = given.expiration.map(|ends| ends.parse().map_err(|_| odd())).transpose()?;
        let fixed = Credentials::fixed(&given.access_key_id, &given.secret_access_key, given.token);
        Ok(Credentials { ends, ..fixed })
    }
}

/// Asks services of this machine, past any proxy.
fn agent() -> Agent {
    let wait = Some(METADATA);
    Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .timeout_connect(wait)
        .timeout_global(Some(METADATA + Duration::from_secs(1)))
        .build()
        .into()
}

fn answer(
    outcome: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<String, String> {
    let nobody = |_| {
        "none are set, and no service of this machine gives any, which was asked \
         (AWS_EC2_METADATA_DISABLED=true: it is not)"
            .to_owned()
    };
    let mut response = outcome.map_err(nobody)?;
    response.body_mut().with_config().limit(LONGEST_ANSWER).read_to_string().map_err(nobody)
}
