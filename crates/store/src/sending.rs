//! A request signed, sent once, and what it means when nothing comes back.

use std::io::Read;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use ureq::SendBody;
use ureq::http::Request as Sent;
use ureq::http::request::Builder;

use crate::client::Store;
use crate::error::{Error, Kind};
use crate::limits::{ANSWER, BODY, GRACE, SLOW_ANSWER, SLOWEST};
use crate::request::{Answer, Body, Failed, Request};
use crate::signing::{self, Signed};

impl Store {
    /// Sends a request once.
    pub(crate) fn once(&self, request: &Request<'_>) -> std::result::Result<Answer, Failed> {
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
        let last = self.is_stopped().then_some(GRACE);
        let agent = self.agents.get(request.heeds_stop && request.ends_at_once);
        let sent = agent
            .configure_request(sent.body(body)?)
            .timeout_recv_response(Some(self.settings.patience.unwrap_or(usual)))
            .timeout_send_request(Some(ANSWER))
            .timeout_send_body(in_time(length))
            .timeout_recv_body(self.settings.patience.or(body_in_time))
            .timeout_global(request.limit.or(last))
            .build();
        agent.run(sent)
    }
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
