//! As much HTTP as `/readyz`, `/metrics` and the publish route need: one request, one connection, everything back.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a request may take.
const DEADLINE: Duration = Duration::from_secs(8);

/// What a server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// 200 and friends.
    pub status: u16,
    /// The lines between status and body.
    pub head: String,
    /// The rest.
    pub body: String,
}

/// `GET path`.
///
/// # Errors
/// No answer, or none that is HTTP.
pub async fn get(to: SocketAddr, path: &str) -> Result<Answer> {
    request(
        to,
        &format!("GET {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n"),
    )
    .await
}

/// `POST path` with a JSON body.
///
/// # Errors
/// No answer, or none that is HTTP.
pub async fn post(to: SocketAddr, path: &str, body: &str) -> Result<Answer> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    request(to, &(head + body)).await
}

/// Sends `request` as it stands and reads until the server closes.
///
/// # Errors
/// No answer, or none that is HTTP.
pub async fn request(to: SocketAddr, request: &str) -> Result<Answer> {
    let exchange = async {
        let mut stream = TcpStream::connect(to)
            .await
            .with_context(|| format!("connect to {to}"))?;
        stream
            .write_all(request.as_bytes())
            .await
            .context("send the request")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.context("read the answer")?;
        Ok::<_, anyhow::Error>(answer)
    };
    let bytes = tokio::time::timeout(DEADLINE, exchange)
        .await
        .with_context(|| format!("no answer from {to}"))??;
    parse(&String::from_utf8_lossy(&bytes))
}

/// Takes an answer apart; chunked bodies are put together.
fn parse(text: &str) -> Result<Answer> {
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        bail!("no HTTP answer: {text:?}")
    };
    let status = head
        .split_whitespace()
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.with_context(|| format!("no status in {head:?}"))?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunk(body)? } else { body.to_owned() };
    Ok(Answer {
        status,
        head: head.to_owned(),
        body,
    })
}

fn unchunk(mut rest: &str) -> Result<String> {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n").context("a chunk has a size line")?;
        let size = usize::from_str_radix(size.trim(), 16).context("a chunk's size is hexadecimal")?;
        if size == 0 {
            return Ok(body);
        }
        body.push_str(after.get(..size).context("a chunk is as long as it says")?);
        rest = after.get(size + 2..).context("a chunk ends in a line break")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_answer_is_put_together() {
        let answer =
            parse("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
                .unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "abcde"));
    }
}
