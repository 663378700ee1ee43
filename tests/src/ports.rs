//! Free ports, one test each.
//!
//! *Invariant:* two test processes on one machine never get the same port, because each holds a lock on a file named
//! after it; and no outgoing connection takes one, because they lie below the ephemeral range.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, bail};

/// Below 32768, where Linux begins to choose ports for outgoing connections.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// A port nobody else uses as long as this lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Held, never read: the lock goes with the file.
    _lock: File,
}

impl Port {
    /// Finds one.
    ///
    /// # Errors
    /// None of the range is free.
    pub fn reserve() -> Result<Port> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        // Test processes start at different places, so that they rarely try each other's ports.
        let start = (std::process::id() as u16).wrapping_mul(37) % (PORTS.end - PORTS.start);
        let folder = std::env::temp_dir().join("ringcast-test-ports");
        std::fs::create_dir_all(&folder).context("create the folder of port locks")?;
        for _ in PORTS {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = PORTS.start + ((u32::from(start) + u32::from(step)) % PORTS.len() as u32) as u16;
            let lock = File::create(folder.join(number.to_string())).context("create a port's lock file")?;
            if lock.try_lock().is_err() {
                continue;
            }
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Port { number, _lock: lock });
            }
        }
        bail!("no free port in {PORTS:?}")
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// It on 127.0.0.1.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_port_is_free_and_reserved_once() {
        let ports: Vec<Port> = (0..50).map(|_| Port::reserve().unwrap()).collect();
        let mut numbers: Vec<u16> = ports.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 50);
        for port in &ports {
            TcpListener::bind(port.address()).unwrap();
        }
    }
}
