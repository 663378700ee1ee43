//! The HTTP request that asks for a WebSocket, judged by its head alone.
//!
//! *Invariant:* nothing is kept of a request that is refused, and its query is never logged.
//! Leaves out: who the client is (`authenticate`), and whether there is room (`http`).

use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use ringcast_gateway_core::origin::{Origin, OriginCheck};
use ringcast_gateway_core::phoenix::Serializer;
use sha1::{Digest, Sha1};

/// What RFC 6455 has every server append to the client's key.
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The sub-protocol by which phoenix.js brings its `authToken` (H8).
const TOKEN_PREFIX: &str = "base64url.bearer.phx.";
const PHOENIX: &str = "phoenix";

/// A request that may become a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) serializer: Serializer,
    pub(crate) token: Option<Vec<u8>>,
    accept: String,
    phoenix: bool,
}

/// Why a request does not become a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("not GET, not HTTP/1.1, or to another host")]
    Request,
    #[error("origin not allowed")]
    Origin,
    #[error("auth token is not base64")]
    Token,
    #[error("not let in")]
    Subject,
    #[error("vsn not served")]
    Vsn,
    #[error("{0}")]
    Upgrade(&'static str),
    #[error("websocket version is not 13")]
    Version,
    #[error("websocket key is not 16 bytes of base64, once")]
    Key,
    #[error("as many connections as there may be")]
    Full,
    #[error("shutting down")]
    Draining,
}

impl Accepted {
    /// The answer that makes it one.
    pub(crate) fn response(&self) -> Response {
        let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        let accept = HeaderValue::from_str(&self.accept).expect("base64 is legal in a header");
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        if self.phoenix {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PHOENIX));
        }
        response
    }
}

impl Refusal {
    /// Every value of the label `reason`.
    pub(crate) const REASONS: [&'static str; 10] = [
        "request", "origin", "token", "subject", "vsn", "upgrade", "version", "key", "full", "draining",
    ];

    /// Its label.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Refusal::Request => "request",
            Refusal::Origin => "origin",
            Refusal::Token => "token",
            Refusal::Subject => "subject",
            Refusal::Vsn => "vsn",
            Refusal::Upgrade(_) => "upgrade",
            Refusal::Version => "version",
            Refusal::Key => "key",
            Refusal::Full => "full",
            Refusal::Draining => "draining",
        }
    }

    /// What the client gets.
    pub(crate) fn response(&self) -> Response {
        match self {
            Refusal::Request | Refusal::Key => StatusCode::BAD_REQUEST.into_response(),
            Refusal::Upgrade(text) => (StatusCode::BAD_REQUEST, *text).into_response(),
            Refusal::Origin | Refusal::Token | Refusal::Subject | Refusal::Vsn => {
                StatusCode::FORBIDDEN.into_response()
            }
            Refusal::Version => (
                StatusCode::UPGRADE_REQUIRED,
                [(header::SEC_WEBSOCKET_VERSION, "13")],
            )
                .into_response(),
            Refusal::Full | Refusal::Draining => {
                (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")]).into_response()
            }
        }
    }
}

/// Judges a request in Phoenix's order: method, origin, token, vsn, and last what makes it a WebSocket.
pub(crate) fn judge(head: &Parts, origin: &OriginCheck) -> Result<Accepted, Refusal> {
    let absolute = head.uri.authority().is_some();
    if head.method != Method::GET || head.version != Version::HTTP_11 || absolute {
        return Err(Refusal::Request);
    }
    let headers = &head.headers;
    if !origin_allowed(headers, origin) {
        return Err(Refusal::Origin);
    }
    let (phoenix, token) = sub_protocols(headers)?;
    let serializer = Serializer::from_vsn(vsn(head)?.as_deref()).ok_or(Refusal::Vsn)?;
    if !lists(headers, header::CONNECTION, "upgrade") {
        return Err(Refusal::Upgrade("'connection' header must contain 'upgrade'"));
    }
    if !lists(headers, header::UPGRADE, "websocket") {
        return Err(Refusal::Upgrade("'upgrade' header must contain 'websocket'"));
    }
    if only(headers, header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Refusal::Version);
    }
    let key = only(headers, header::SEC_WEBSOCKET_KEY).ok_or(Refusal::Key)?;
    let decoded = BASE64_STANDARD.decode(key).map_err(|_| Refusal::Key)?;
    if decoded.len() != 16 {
        return Err(Refusal::Key);
    }
    let accept = BASE64_STANDARD.encode(Sha1::new().chain_update(key).chain_update(ACCEPT_GUID).finalize());
    Ok(Accepted {
        serializer,
        token,
        accept,
        phoenix,
    })
}

fn origin_allowed(headers: &HeaderMap, check: &OriginCheck) -> bool {
    let host = only(headers, header::HOST).and_then(|host| host.to_str().ok());
    let request = host.and_then(|host| Origin::of_authority("http", host));
    let mut origins = headers.get_all(header::ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (origin, None) => check.allows(origin.map(HeaderValue::as_bytes), request.as_ref()),
        // Two origins are not one that can be trusted.
        (_, Some(_)) => *check == OriginCheck::Any,
    }
}

/// Whether `phoenix` is offered, and the token that is offered beside it.
fn sub_protocols(headers: &HeaderMap) -> Result<(bool, Option<Vec<u8>>), Refusal> {
    let (mut phoenix, mut token) = (false, None);
    for value in headers.get_all(header::SEC_WEBSOCKET_PROTOCOL) {
        for offered in value.to_str().unwrap_or_default().split(',').map(str::trim) {
            phoenix |= offered == PHOENIX;
            if let Some(encoded) = offered.strip_prefix(TOKEN_PREFIX) {
                token = Some(decode_token(encoded).ok_or(Refusal::Token)?);
            }
        }
    }
    Ok((phoenix, token))
}

/// Either alphabet of base64, padded or not.
fn decode_token(encoded: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
    STANDARD
        .decode(encoded)
        .or_else(|_| URL_SAFE.decode(encoded))
        .ok()
}

fn vsn(head: &Parts) -> Result<Option<String>, Refusal> {
    let Query(params) =
        Query::<Vec<(String, String)>>::try_from_uri(&head.uri).map_err(|_| Refusal::Request)?;
    // Of a parameter given twice the last one counts, as in Plug.
    Ok(params
        .into_iter()
        .rev()
        .find(|(name, _)| name == "vsn")
        .map(|(_, vsn)| vsn))
}

/// Whether a header that is a list has `token` in it.
fn lists(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name);
    let mut tokens = values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    tokens.any(|listed| listed.trim().eq_ignore_ascii_case(token))
}

/// The value of a header that is there once.
fn only(headers: &HeaderMap, name: header::HeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A good request's head, with `changes` made to its headers: an empty value removes, a `+` adds another.
    fn head(uri: &str, changes: &[(&str, &str)]) -> Parts {
        let request = http::Request::get(uri)
            .header("host", "gw.example:4000")
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "WebSocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let mut head = request.body(()).unwrap().into_parts().0;
        for (name, value) in changes {
            let name: header::HeaderName = name.parse().unwrap();
            match (value.strip_prefix('+'), *value) {
                (Some(added), _) => drop(head.headers.append(name, added.parse().unwrap())),
                (None, "") => drop(head.headers.remove(name)),
                (None, value) => drop(head.headers.insert(name, value.parse().unwrap())),
            }
        }
        head
    }

    const V2: &str = "/socket/websocket?vsn=2.0.0";

    fn judged(uri: &str, changes: &[(&str, &str)]) -> Result<Accepted, Refusal> {
        judge(&head(uri, changes), &OriginCheck::Conn)
    }

    fn refused(changes: &[(&str, &str)], status: u16) {
        let refusal = judged(V2, changes).expect_err(&format!("{changes:?}"));
        assert_eq!(refusal.response().status(), status, "{changes:?}");
        assert!(Refusal::REASONS.contains(&refusal.reason()));
    }

    #[test]
    fn the_answer_is_the_one_rfc_6455_shows() {
        let response = judged(V2, &[]).unwrap().response();
        assert_eq!(response.status(), 101);
        assert_eq!(
            response.headers()["sec-websocket-accept"],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert_eq!(response.headers().get("sec-websocket-protocol"), None);
    }

    #[test]
    fn h2_the_vsn_chooses_or_refuses() {
        let serializer = |query: &str| {
            judged(&format!("/socket/websocket{query}"), &[]).map(|accepted| accepted.serializer)
        };
        assert_eq!(serializer(""), Ok(Serializer::V1));
        assert_eq!(serializer("?a[b]=c&vsn=2.0.0&x"), Ok(Serializer::V2));
        assert_eq!(serializer("?vsn=%32.0.0"), Ok(Serializer::V2));
        for query in ["?vsn=2.1.0", "?vsn=9", "?vsn=", "?vsn=2.0.0&vsn=abc"] {
            assert_eq!(serializer(query), Err(Refusal::Vsn), "{query}");
        }
        assert_eq!(Refusal::Vsn.response().status(), 403);
    }

    #[test]
    fn hostile_1_2_3_4_6_what_is_no_upgrade() {
        refused(&[("upgrade", "")], 400);
        refused(&[("upgrade", "h2c")], 400);
        refused(&[("connection", "close")], 400);
        for version in ["8", "0", "", "+13"] {
            refused(&[("sec-websocket-version", version)], 426);
        }
        for key in [
            "",
            "c2hvcnQ=",
            "not base64 at all!!",
            "dGhlIHNhbXBsZSBub25jZQ",
            "+dGhlIHNhbXBsZSBub25jZQ==",
        ] {
            refused(&[("sec-websocket-key", key)], 400);
        }
        let mut old = head(V2, &[]);
        old.version = Version::HTTP_10;
        assert_eq!(judge(&old, &OriginCheck::Any), Err(Refusal::Request));
        assert_eq!(
            judged("http://gw.example:4000/socket/websocket", &[]),
            Err(Refusal::Request),
            "hostile 12"
        );
    }

    #[tokio::test]
    async fn h5_a_get_without_upgrade_headers_is_told_what_is_missing() {
        let refusal = judged(V2, &[("connection", ""), ("upgrade", "")]).unwrap_err();
        let body = axum::body::to_bytes(refusal.response().into_body(), 1000)
            .await
            .unwrap();
        assert_eq!(body, "'connection' header must contain 'upgrade'");
        let mut post = head(V2, &[]);
        post.method = Method::POST;
        let refusal = judge(&post, &OriginCheck::Any).unwrap_err();
        assert_eq!(refusal.response().status(), 400);
        assert!(
            axum::body::to_bytes(refusal.response().into_body(), 1000)
                .await
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn h6_the_origin_is_checked_first() {
        assert!(judged(V2, &[("origin", "http://gw.example:4000")]).is_ok());
        for origin in [
            "http://gw.example",
            "https://gw.example:4000",
            "null",
            "http://gw.example:4000.evil.com",
        ] {
            assert_eq!(
                judged("/socket/websocket?vsn=9", &[("origin", origin)]),
                Err(Refusal::Origin),
                "{origin}"
            );
        }
        let two = [
            ("origin", "http://gw.example:4000"),
            ("origin", "+http://evil.com"),
        ];
        assert_eq!(judged(V2, &two), Err(Refusal::Origin));
        assert!(judge(&head(V2, &two), &OriginCheck::Any).is_ok());
    }

    #[test]
    fn h8_a_token_is_decoded_in_either_alphabet_padded_or_not() {
        // The bytes of both: standard has + and /, URL-safe has - and _.
        for encoded in ["+/+/AA", "+/+/AA==", "-_-_AA", "-_-_AA=="] {
            let offer = format!("phoenix, {TOKEN_PREFIX}{encoded}");
            let accepted = judged(V2, &[("sec-websocket-protocol", &offer)]).unwrap();
            assert_eq!(
                accepted.token.as_deref(),
                Some(&[0xfb, 0xff, 0xbf, 0][..]),
                "{encoded}"
            );
            assert_eq!(accepted.response().headers()["sec-websocket-protocol"], "phoenix");
        }
        let bad = format!("phoenix, {TOKEN_PREFIX}!!!");
        assert_eq!(
            judged(V2, &[("sec-websocket-protocol", &bad)]),
            Err(Refusal::Token)
        );
        assert_eq!(Refusal::Token.response().status(), 403);
    }

    #[test]
    fn h7_other_sub_protocols_are_ignored() {
        let accepted = judged(V2, &[("sec-websocket-protocol", "foo, bar")]).unwrap();
        assert_eq!(accepted.response().headers().get("sec-websocket-protocol"), None);
    }
}
