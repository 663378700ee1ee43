//! A path under valgrind's callgrind, in a process of its own.
//!
//! *Invariant:* what is counted depends on the build and the C library, and on nothing of the machine's state: the process
//! gets no environment but what finds valgrind, and the same arguments wherever the checkout is, since even the length of
//! its own name would move what it allocates later.

use std::ffi::OsString;
use std::io;
use std::path::Path as File;
use std::process::{Command, ExitStatus};

use ringcast_hotpath::{COUNTED, Path};

/// Why there is no count.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It could not be started.
    #[error("run valgrind: {0}")]
    Run(#[from] io::Error),
    /// It, or the path under it, failed.
    #[error("valgrind of {path}: {status}\n{said}")]
    Failed {
        /// Which path.
        path: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote.
        said: String,
    },
    /// Nothing ran inside the function that is counted.
    #[error("valgrind of {path} counted nothing: does {COUNTED} still name the function?")]
    Nothing {
        /// Which path.
        path: &'static str,
    },
}

/// Instructions of one operation.
pub(crate) fn count(path: &Path, planted: bool) -> Result<u64, Error> {
    let said = run(path, planted, None)?;
    let total = collected(&said)
        .filter(|&total| total > 0)
        .ok_or(Error::Nothing { path: path.name })?;
    let operations = u64::from(path.operations);
    Ok((total + operations / 2) / operations)
}

/// Writes a profile of the counted operations for `callgrind_annotate`.
pub(crate) fn profile(path: &Path, to: &File) -> Result<(), Error> {
    run(path, false, Some(to)).map(drop)
}

fn run(path: &Path, planted: bool, to: Option<&File>) -> Result<String, Error> {
    let binary = std::env::current_exe()?;
    let folder = binary.parent().unwrap_or(File::new("/"));
    let mut out = OsString::from("--callgrind-out-file=");
    out.push(match to {
        Some(file) => std::path::absolute(file)?,
        None => "/dev/null".into(),
    });
    let mut program = OsString::from("./");
    program.push(binary.file_name().unwrap_or_default());
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(out)
        .arg(program)
        .args(planted.then_some("--planted"))
        .args(["--run", path.name])
        .current_dir(folder)
        .env_clear();
    for kept in ["PATH", "VALGRIND_LIB"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        Ok(said)
    } else {
        Err(Error::Failed {
            path: path.name,
            status: output.status,
            said,
        })
    }
}

/// The number in `==4711== Collected : 123456`.
fn collected(said: &str) -> Option<u64> {
    let (_, number) = said.lines().find_map(|line| line.split_once("Collected :"))?;
    number.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::collected;

    #[test]
    fn the_count_is_read_out_of_what_valgrind_says() {
        let said = "==7== Callgrind, a call-graph generating cache profiler\n==7== Events    : Ir\n==7== Collected : 123456\n==7== \n";
        assert_eq!(collected(said), Some(123_456));
        assert_eq!(collected("==7== Command: hotpath --run route/100\n"), None);
    }
}
