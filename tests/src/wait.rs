//! Waiting for something to become true, with a deadline and a name.
//!
//! *Invariant:* no test sleeps and hopes; it asks again until the answer is right or the deadline has passed, and then
//! says what it waited for and what it saw last.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long anything that should happen at once may take on a machine that is busy with other tests.
pub const SOON: Duration = Duration::from_secs(10);

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Asks `look` until it gives a value, and gives that and how long it took.
///
/// # Errors
/// The deadline passed; names `what` and the last reason `look` gave.
pub async fn until<T, E: Debug>(
    what: &str,
    deadline: Duration,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> Result<(T, Duration)> {
    let start = Instant::now();
    loop {
        match look().await {
            Ok(value) => return Ok((value, start.elapsed())),
            Err(reason) if start.elapsed() >= deadline => {
                bail!("{what}: not within {deadline:?}, last seen: {reason:?}")
            }
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}
