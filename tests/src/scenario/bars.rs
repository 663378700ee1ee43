//! How long anybody may be held up, on a quiet machine and on a busy one.
//!
//! A move waits for a change of the ring store, which waits for the disk, and for as many processes as it has steps. So
//! where other things go on, the bars of the tests grow with what both take in the same run; on a quiet machine, and
//! always in the soak, they are those that are promised.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::ledger::{Timing, quantile};

/// What the coordinator writes for a change: all records of a ring of 1,024 slots, about.
const CHANGE_BYTES: usize = 180_000;

/// Changes that are tried.
const CHANGES: usize = 100;

/// How many times the noise a bar may be.
const NOISE_FACTOR: u32 = 10;

/// How many times the promise a bar may be, however much noise there is.
const PROMISE_FACTOR: u32 = 10;

/// How long anybody may be held up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bars {
    /// The longest wait of a publisher.
    pub longest_publish: Duration,
    /// The pause of a slot that one of a hundred moves may exceed.
    pub pause_p99: Duration,
    /// Whether they grow with the noise.
    pub with_noise: bool,
}

impl Bars {
    /// The promised ones, whatever else the machine does.
    pub const STRICT: Bars = Bars {
        longest_publish: Duration::from_millis(500),
        pause_p99: Duration::from_millis(100),
        with_noise: false,
    };

    /// The promised ones on a machine that has nothing else to do.
    pub const BUSY: Bars = Bars {
        with_noise: true,
        ..Bars::STRICT
    };

    /// The bars of a run with this noise.
    #[must_use]
    pub fn on(self, noise: Duration) -> Bars {
        if !self.with_noise {
            return self;
        }
        let widen = |bar: Duration, noise: Duration| noise.clamp(bar, bar * PROMISE_FACTOR);
        Bars {
            longest_publish: widen(self.longest_publish, noise * NOISE_FACTOR * 2),
            pause_p99: widen(self.pause_p99, noise * NOISE_FACTOR),
            ..self
        }
    }
}

/// The longest that 99 of 100 things take before anything is done: a publish, and a change of the store. Where publishes
/// take 3 ms and a change 5, no bar has grown.
#[must_use]
pub(super) fn noise(before: &Timing, change: Duration) -> Duration {
    before.p99 + change
}

/// How long 99 of 100 changes take the coordinator on the disk that `folder` is on.
///
/// # Errors
/// It cannot be written to.
pub(super) fn change_p99(folder: &Path) -> io::Result<Duration> {
    let (new, file) = (folder.join("probe.new"), folder.join("probe"));
    let bytes = vec![0; CHANGE_BYTES];
    let mut times = Vec::with_capacity(CHANGES);
    for _ in 0..CHANGES {
        let start = Instant::now();
        let mut written = File::create(&new)?;
        written.write_all(&bytes)?;
        written.sync_all()?;
        fs::rename(&new, &file)?;
        File::open(folder)?.sync_all()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(quantile(&times, 0.99))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn bars_are_the_promised_ones_on_a_quiet_machine_and_in_the_soak() {
        assert_eq!(Bars::BUSY.on(MS * 8).pause_p99, Bars::STRICT.pause_p99);
        assert_eq!(
            Bars::BUSY.on(MS * 8).longest_publish,
            Bars::STRICT.longest_publish
        );
        assert_eq!(Bars::BUSY.on(MS * 30).pause_p99, MS * 300);
        assert_eq!(Bars::BUSY.on(MS * 30).longest_publish, MS * 600);
        assert_eq!(Bars::BUSY.on(MS * 900).pause_p99, MS * 1000);
        assert_eq!(Bars::STRICT.on(MS * 30), Bars::STRICT);
    }

    #[test]
    fn the_disk_is_asked_where_the_store_is() {
        let folder = tempfile::tempdir().unwrap();
        assert!(change_p99(folder.path()).unwrap() > Duration::ZERO);
        assert!(change_p99(&folder.path().join("none")).is_err());
    }
}
