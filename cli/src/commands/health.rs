//! `ringcast health URL`: one GET with a deadline, for health checks of containers that have no curl.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::admin::Readiness;
use crate::output::Output;

/// Shorter than any health check's own timeout.
const DEADLINE: Duration = Duration::from_secs(2);
/// Reasons are a few lines.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Where to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    host: String,
    port: u16,
    path: String,
}

impl Target {
    /// Reads `http://HOST:PORT[/PATH]`, or just `HOST:PORT`. Without a path it is `/readyz`.
    pub(crate) fn parse(url: &str) -> Result<Target, String> {
        let wrong = || format!("{url:?} is no http://HOST:PORT");
        let rest = match url.split_once("://") {
            Some(("http", rest)) => rest,
            Some((scheme, _)) => return Err(format!("{url:?}: scheme {scheme:?}, must be http")),
            None => url,
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let bad = |c: char| c.is_whitespace() || c.is_control();
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') => (host, port.parse().map_err(|_| wrong())?),
            _ => (authority, 80),
        };
        if host.is_empty() || host.contains('@') || url.contains(bad) {
            return Err(wrong());
        }
        let path = if matches!(path, "" | "/") { "/readyz" } else { path };
        Ok(Target {
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        })
    }

    fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

#[derive(Serialize)]
struct Health {
    ready: bool,
    reasons: Vec<String>,
}

/// Asks, prints, and says whether the node is ready. That it cannot be reached is an error.
pub(crate) async fn run(target: &Target, output: Output) -> Result<bool> {
    let (status, body) = tokio::time::timeout(DEADLINE, get(target))
        .await
        .map_err(|_| {
            anyhow!(
                "no answer from {} in {} s",
                target.authority(),
                DEADLINE.as_secs()
            )
        })
        .flatten()
        .with_context(|| format!("ask http://{}{}", target.authority(), target.path))?;
    let ready = status == 200;
    let reasons = match serde_json::from_slice::<Readiness>(&body) {
        Ok(readiness) => readiness.reasons,
        Err(_) if ready => Vec::new(),
        Err(_) => vec![format!("status {status}")],
    };
    output.print(&Health { ready, reasons }, |health| match health.ready {
        true => "ready".to_owned(),
        false => format!("not ready: {}", health.reasons.join("; ")),
    })?;
    Ok(ready)
}

async fn get(target: &Target) -> Result<(u16, Vec<u8>)> {
    let authority = target.authority();
    let mut stream = TcpStream::connect(&authority)
        .await
        .with_context(|| format!("connect to {authority}"))?;
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n",
        target.path
    );
    stream
        .write_all(request.as_bytes())
        .await
        .context("send the request")?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)
        .await
        .context("read the answer")?;
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .context("the answer is no HTTP")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5))
        .and_then(|code| code.parse().ok());
    match status {
        Some(status) => Ok((status, answer.split_off(end + 4))),
        None => bail!("the answer is no HTTP"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_address_asks_for_readyz() {
        let expected = Target {
            host: "127.0.0.1".into(),
            port: 9100,
            path: "/readyz".into(),
        };
        for url in [
            "http://127.0.0.1:9100",
            "http://127.0.0.1:9100/",
            "127.0.0.1:9100",
            "http://127.0.0.1:9100/readyz",
        ] {
            assert_eq!(Target::parse(url), Ok(expected.clone()), "{url}");
        }
        let healthz = Target {
            path: "/healthz".into(),
            ..expected
        };
        assert_eq!(Target::parse("http://127.0.0.1:9100/healthz"), Ok(healthz));
        let v6 = Target {
            host: "[::1]".into(),
            port: 9100,
            path: "/readyz".into(),
        };
        assert_eq!(Target::parse("http://[::1]:9100"), Ok(v6));
    }

    #[test]
    fn what_is_no_http_url_is_refused() {
        for url in [
            "",
            "http://",
            "https://h:1",
            "http://h:x",
            "http://h:99999",
            "http://u@h:1",
            "h:1/a b",
            "h:1\r\nx: y",
        ] {
            assert!(Target::parse(url).is_err(), "{url:?}");
        }
    }
}
