//! `ws://HOST:PORT/PATH`, the only kind of address a gateway has yet.

/// Where a gateway listens for WebSocket clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    /// `HOST:PORT`.
    pub(crate) authority: String,
    /// Path and query; `vsn=2.0.0` is always in it.
    pub(crate) target: String,
    text: String,
}

impl Url {
    /// Reads one. Without a path it is `/socket/websocket`.
    pub(crate) fn parse(text: &str) -> Result<Url, String> {
        let rest = match text.split_once("://") {
            Some(("ws", rest)) => rest,
            Some((scheme, _)) => return Err(format!("scheme {scheme:?}, must be ws")),
            None => return Err("must be as ws://127.0.0.1:4000/socket/websocket".to_owned()),
        };
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
            return Err("has a character that no URL has".to_owned());
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') => (host, port.parse::<u16>().ok()),
            _ => (authority, Some(80)),
        };
        let Some(port) = port.filter(|&port| port != 0 && !host.is_empty() && !host.contains('@')) else {
            return Err(format!("{authority:?} is no HOST:PORT"));
        };
        let path = match path {
            "" | "/" => "/socket/websocket".to_owned(),
            path if path.starts_with('?') => format!("/socket/websocket{path}"),
            path => path.to_owned(),
        };
        let target = match (path.contains("vsn="), path.contains('?')) {
            (true, _) => path,
            (false, true) => format!("{path}&vsn=2.0.0"),
            (false, false) => format!("{path}?vsn=2.0.0"),
        };
        Ok(Url {
            authority: format!("{host}:{port}"),
            target,
            text: text.to_owned(),
        })
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl serde::Serialize for Url {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_s_address_is_read() {
        let read = |text: &str| Url::parse(text).map(|url| (url.authority, url.target)).unwrap();
        let of = |authority: &str, target: &str| (authority.to_owned(), target.to_owned());
        let full = "/socket/websocket?vsn=2.0.0";
        assert_eq!(
            read("ws://127.0.0.1:4000/socket/websocket"),
            of("127.0.0.1:4000", full)
        );
        assert_eq!(read("ws://localhost:4000"), of("localhost:4000", full));
        assert_eq!(read("ws://[::1]:4000/"), of("[::1]:4000", full));
        assert_eq!(read("ws://gw"), of("gw:80", full));
        assert_eq!(
            read("ws://gw:1/socket/websocket?token=a"),
            of("gw:1", "/socket/websocket?token=a&vsn=2.0.0")
        );
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "127.0.0.1:4000",
            "http://gw:1",
            "wss://gw",
            "ws://",
            "ws://gw:0",
            "ws://gw:x",
            "ws://a b:1",
            "ws://u@h:1",
        ] {
            assert!(Url::parse(text).is_err(), "{text:?}");
        }
    }
}
