//! Binding a listener, with an error that says which flag chooses another address.

use std::io::ErrorKind;
use std::net::SocketAddr;

use anyhow::{Context, Result, anyhow};
use tokio::net::TcpListener;

/// Binds `address`, and tells where that is when the port was 0.
pub(crate) async fn bind(address: SocketAddr, flag: &str) -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| explain(error, address, flag))?;
    let bound = listener
        .local_addr()
        .with_context(|| format!("ask where {address} is bound"))?;
    Ok((listener, bound))
}

/// Why `address` cannot be listened on, and what to do.
pub(crate) fn explain(error: std::io::Error, address: SocketAddr, flag: &str) -> anyhow::Error {
    match error.kind() {
        ErrorKind::AddrInUse => {
            anyhow!(
                "listen on {address}: port {} is in use; choose another one with {flag}",
                address.port()
            )
        }
        ErrorKind::AddrNotAvailable => {
            anyhow!("listen on {address}: no interface has this address; choose another one with {flag}")
        }
        _ => anyhow::Error::new(error).context(format!("listen on {address} ({flag})")),
    }
}
