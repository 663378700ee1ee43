//! How much memory histories may take, and seeing to it that they do not take more.
//!
//! *Invariant:* what goes and when is the core's to say; here are only the numbers of this machine and a clock.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ringcast_topic_server_core::{Budget, Input};
use tokio::time::MissedTickBehavior;

use crate::shared::Shared;

/// Between two looks: what is published meanwhile is the most that histories take too much.
const INTERVAL: Duration = Duration::from_millis(250);

/// A quarter of the memory is for histories. Members, buffers and the allocator's slack have the rest.
const SHARE: u64 = 4;

/// Where the system does not say how much memory there is.
const MEMORY_DEFAULT: u64 = 4 * 1024 * 1024 * 1024;

/// Bytes that histories of a process may take, unless it is set: a quarter of what its control groups allow it, or else of
/// the machine's memory.
#[must_use]
pub fn history_memory_default() -> usize {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let memory = memory(read).unwrap_or(MEMORY_DEFAULT);
    usize::try_from(memory / SHARE).unwrap_or(usize::MAX)
}

/// Looks after the histories, until cancelled.
pub(crate) async fn run(shared: Arc<Shared>, bytes_max: usize) {
    shared.metrics.history_bytes_max(bytes_max);
    tracing::debug!(bytes_max, "memory for histories");
    let mut budget = Budget::new(bytes_max);
    let mut looks = tokio::time::interval(INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut full = false;
    loop {
        looks.tick().await;
        let bytes = shared.history_bytes.load(Ordering::Relaxed);
        let shed = budget.look(bytes);
        if shed.is_some() && !full {
            tracing::warn!(
                bytes,
                bytes_max,
                "memory for histories is full, idle topics lose theirs"
            );
        }
        full = shed.is_some();
        if let Some(shed) = shed {
            for slot in shared.all_slots() {
                slot.tell(Input::Shed(shed)).await;
            }
        }
    }
}

/// The least of what the control groups this process is in allow, and of what the machine has.
fn memory(read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| total(&text));
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let limits = groups
        .lines()
        .flat_map(limit_files)
        .filter_map(|path| read(&path)?.trim().parse().ok());
    limits.chain(machine).min()
}

/// Where a line of `/proc/self/cgroup` says that limits of memory stand: in its group, and in every group around it.
fn limit_files(line: &str) -> Vec<PathBuf> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else {
        return Vec::new();
    };
    let (root, file) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        some if some.split(',').any(|one| one == "memory") => {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return Vec::new(),
    };
    let group = Path::new(group.trim_start_matches('/'));
    let around = group.ancestors();
    around
        .map(|group| Path::new(root).join(group).join(file))
        .collect()
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:       16384 kB\nMemFree:  1 kB\n";

    fn with(files: &[(&str, &str)]) -> Option<u64> {
        memory(|path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| (*text).to_owned())
        })
    }

    #[test]
    fn the_tightest_control_group_around_a_process_holds() {
        let files = [
            ("/proc/meminfo", MEMINFO),
            ("/proc/self/cgroup", "0::/a/b\n"),
            ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("/sys/fs/cgroup/a/memory.max", "5000000\n"),
            ("/sys/fs/cgroup/memory.max", "9000000\n"),
        ];
        assert_eq!(with(&files), Some(5_000_000));
        let files = [
            ("/proc/meminfo", MEMINFO),
            ("/proc/self/cgroup", "3:cpu:/x\n2:memory,hugetlb:/docker/x\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "7000000\n"),
            ("/sys/fs/cgroup/cpu/x/memory.limit_in_bytes", "1\n"),
        ];
        assert_eq!(with(&files), Some(7_000_000));
    }

    #[test]
    fn without_a_limit_the_machine_is_the_limit() {
        let files = [
            ("/proc/meminfo", MEMINFO),
            ("/proc/self/cgroup", "2:memory:/\n0::/\nnonsense"),
            (
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
        ];
        assert_eq!(with(&files), Some(16_384 * 1024));
        assert_eq!(with(&[]), None);
        assert_eq!(with(&[("/proc/meminfo", "MemTotal: much")]), None);
    }
}
