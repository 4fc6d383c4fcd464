//! Signature Version 4: what a request says that its sender has the secret key, and that neither
//! its head nor its body was changed on the way.
//!
//! The signature stands in a header, so that no address holds anything secret, and covers the
//! digest of the body, which the server compares.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

use crate::credentials::Credentials;

/// What is written as it is in addresses; all else is escaped.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const ESCAPED_IN_PATHS: &AsciiSet = &ESCAPED.remove(b'/');

/// Escapes a path, or a part of one.
pub(crate) fn escaped_path(path: &str) -> String {
    utf8_percent_encode(path, ESCAPED_IN_PATHS).to_string()
}

/// The query that these make: escaped, and sorted as signing wants it.
pub(crate) fn query(pairs: &[(&str, String)]) -> String {
    let escape = |text: &str| utf8_percent_encode(text, ESCAPED).to_string();
    let mut pairs: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
    pairs.sort();
    pairs.join("&")
}

/// The SHA-256 of a body, as signing wants it.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// A number that stands for a text: as many bits of its SHA-256 as every reader of JSON keeps.
pub(crate) fn number(text: &str) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)) >> 11
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is signed of a request. All of it is as it will be sent.
pub(crate) struct Signed<'a> {
    pub(crate) method: &'a str,
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    /// Names in small letters, without those of the signature.
    pub(crate) headers: &'a [(&'a str, String)],
    /// The SHA-256 of the body.
    pub(crate) body: &'a str,
}

/// The headers that make a signed request of it.
pub(crate) fn sign(
    request: &Signed<'_>,
    credentials: &Credentials,
    region: &str,
    now: Timestamp,
) -> Vec<(&'static str, String)> {
    let (day, time) = (now.strftime("%Y%m%d").to_string(), now.strftime("%Y%m%dT%H%M%SZ"));
    let mut added =
        vec![("x-amz-content-sha256", request.body.to_owned()), ("x-amz-date", time.to_string())];
    if let Some(token) = &credentials.token {
        added.push(("x-amz-security-token", token.to_string()));
    }
    // Of several headers of one name the values stand in one line, in their order.
    let mut headers: BTreeMap<&str, String> = BTreeMap::from([("host", request.host.to_owned())]);
    for (name, value) in request.headers.iter().chain(&added) {
        let value = value.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        let line = headers.entry(name);
        line.and_modify(|line| *line = format!("{line},{value}")).or_insert(value);
    }
    let names = headers.keys().copied().collect::<Vec<_>>().join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let canonical = format!(
        "{}\n{}\n{}\n{lines}\n{names}\n{}",
        request.method, request.path, request.query, request.body
    );
    let scope = format!("{day}/{region}/s3/aws4_request");
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", sha256(canonical.as_bytes()));
    let secret = zeroize::Zeroizing::new(format!("AWS4{}", *credentials.secret));
    let key = [&*day, region, "s3", "aws4_request"]
        .iter()
        .fold(secret.as_bytes().to_vec(), |key, part| mac(&key, part.as_bytes()));
    let signature = hex(&mac(&key, to_sign.as_bytes()));
    let id = &credentials.id;
    added.push((
        "authorization",
        format!(
            "AWS4-HMAC-SHA256 Credential={id}/{scope},SignedHeaders={names},Signature={signature}"
        ),
    ));
    added
}

fn mac(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    // A key of any length will do, so that this is never `None`.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.update(bytes);
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    /// The examples of Amazon's own document on signing in headers.
    fn signature(request: &Signed<'_>) -> String {
        let credentials = Credentials::fixed(
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            None,
        );
        let now = "2013-05-24T00:00:00Z".parse().expect("a time");
        let headers = sign(request, &credentials, "us-east-1", now);
        let (_, value) = headers.last().expect("a signature").clone();
        value.rsplit_once('=').expect("a signature").1.to_owned()
    }

    #[test]
    fn the_published_examples_are_signed_as_published() {
        let host = "examplebucket.s3.amazonaws.com";
        assert_eq!(sha256(b""), EMPTY);
        let get = Signed {
            method: "GET",
            host,
            path: "/test.txt",
            query: "",
            headers: &[("range", "bytes=0-9".into())],
            body: EMPTY,
        };
        let expected = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
        assert_eq!(signature(&get), expected);
        let put = Signed {
            method: "PUT",
            host,
            path: &escaped_path("/test$file.text"),
            query: "",
            headers: &[
                ("date", "Fri, 24 May 2013 00:00:00 GMT".into()),
                ("x-amz-storage-class", "REDUCED_REDUNDANCY".into()),
            ],
            body: "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
        };
        let expected = "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd";
        assert_eq!(signature(&put), expected);
        let list = Signed {
            method: "GET",
            host,
            path: "/",
            query: &query(&[("prefix", "J".into()), ("max-keys", "2".into())]),
            headers: &[],
            body: EMPTY,
        };
        let expected = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7";
        assert_eq!(signature(&list), expected);
    }

    #[test]
    fn values_are_signed_as_the_server_reads_them() {
        let signed = |headers: &[(&str, String)]| {
            signature(&Signed {
                method: "GET",
                host: "h",
                path: "/",
                query: "",
                headers,
                body: EMPTY,
            })
        };
        let plain = signed(&[("x-amz-meta-a", "b c,d".into())]);
        assert_eq!(signed(&[("x-amz-meta-a", " b   c,d ".into())]), plain);
        let two = [("x-amz-meta-a", "b c".into()), ("x-amz-meta-a", "d".into())];
        assert_eq!(signed(&two), plain);
        assert_ne!(signed(&[("x-amz-meta-a", "d,b c".into())]), plain);
    }

    #[test]
    fn keys_are_escaped_as_they_are_signed() {
        assert_eq!(escaped_path("/a b/ü+?#%.qcow"), "/a%20b/%C3%BC%2B%3F%23%25.qcow");
    }
}
