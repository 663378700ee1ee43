//! `hotpath`: how many instructions each pure hot path takes, held against the committed figures.
//!
//! It promises the same count for the same build: no clock, no thread, no order of chance runs in a path. Exit 1: a figure
//! is wrong or missing, or an allocation that was planted went unnoticed. `scripts/hotpath` builds and starts it.
//! Leaves out: time (`ringcast bench`), and what a path costs in a cache.

#![forbid(unsafe_code)]

mod callgrind;
mod figures;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use clap::Parser;
use ringcast_hotpath::{PATHS, Path};

use figures::{Figures, PER_CENT_MAX, Tools, compare, is_off};

/// Counts the instructions of the pure hot paths and holds them against the committed figures.
#[derive(Debug, Parser)]
#[command(name = "scripts/hotpath")]
struct Arguments {
    /// Write what is counted as the figures.
    #[arg(long, conflicts_with_all = ["planted", "profile"])]
    bless: bool,
    /// Plant an allocation a delivery in each path that delivers, and find it.
    #[arg(long)]
    planted: bool,
    /// Write a profile of this path's counted operations, for `callgrind_annotate`.
    #[arg(long, value_parser = path, value_name = "PATH", conflicts_with = "planted")]
    profile: Option<&'static Path>,
    /// Where to.
    #[arg(
        long,
        requires = "profile",
        default_value = "callgrind.out",
        value_name = "FILE"
    )]
    to: PathBuf,
    /// The committed figures.
    #[arg(
        long,
        default_value = "tests/hotpath/counts.json",
        value_name = "FILE",
        hide = true
    )]
    figures: PathBuf,
    #[command(flatten)]
    tools: Tools,
}

fn path(name: &str) -> Result<&'static Path, String> {
    Path::find(name).ok_or_else(|| {
        let names: Vec<&str> = PATHS.iter().map(|path| path.name).collect();
        format!("no path of that name; there are {}", names.join(", "))
    })
}

fn main() -> ExitCode {
    if let Some((path, planted)) = counted() {
        path.run(planted);
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::parse();
    let done = if let Some(path) = arguments.profile {
        callgrind::profile(path, &arguments.to).map_err(|error| error.to_string())
    } else if arguments.planted {
        planted()
    } else if arguments.bless {
        bless(&arguments)
    } else {
        check(&arguments)
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("hotpath: {why}");
            ExitCode::FAILURE
        }
    }
}

/// What is started under valgrind: `--run PATH`, or `--planted --run PATH`. Not by clap, whose allocations would be those
/// that a path finds.
fn counted() -> Option<(&'static Path, bool)> {
    let mut arguments = std::env::args().skip(1);
    let mut first = arguments.next()?;
    let planted = first == "--planted";
    if planted {
        first = arguments.next()?;
    }
    let path = Path::find(&arguments.next().filter(|_| first == "--run")?)?;
    Some((path, planted))
}

fn check(arguments: &Arguments) -> Result<(), String> {
    let file = arguments.figures.display();
    let text =
        std::fs::read_to_string(&arguments.figures).map_err(|error| format!("read {file}: {error}"))?;
    let committed: Figures = serde_json::from_str(&text).map_err(|error| format!("read {file}: {error}"))?;
    let counted = count_all(PATHS.iter(), false)?;
    let comparison = compare(&committed.instructions, &counted);
    print!("{}", comparison.table);
    if comparison.wrong.is_empty() {
        return Ok(());
    }
    let mut why = format!(
        "{} of {} figures more than {PER_CENT_MAX} % off, or missing:\n  {}\n",
        comparison.wrong.len(),
        counted.len(),
        comparison.wrong.join("\n  ")
    );
    for difference in arguments.tools.differences(&committed.with) {
        why += &format!("This is {difference}.\n");
    }
    why += "If it is meant, dearer or cheaper: scripts/hotpath --bless, and say in the commit what was bought.\n\
            If not, scripts/hotpath --profile PATH says where it goes. docs/hotpath.md has the rest.";
    Err(why)
}

fn bless(arguments: &Arguments) -> Result<(), String> {
    let file = arguments.figures.display();
    let counted = count_all(PATHS.iter(), false)?;
    // What it was, if there was any: so that a blessing shows what it blesses.
    let before = std::fs::read_to_string(&arguments.figures)
        .ok()
        .and_then(|text| serde_json::from_str::<Figures>(&text).ok())
        .map(|figures| figures.instructions)
        .unwrap_or_default();
    print!("{}", compare(&before, &counted).table);
    let figures = Figures {
        with: arguments.tools.clone(),
        instructions: counted,
    };
    let mut text = serde_json::to_string_pretty(&figures).map_err(|error| error.to_string())?;
    text.push('\n');
    std::fs::write(&arguments.figures, text).map_err(|error| format!("write {file}: {error}"))
}

/// Whether the check can fail: an allocation a delivery has to show in every path that delivers.
fn planted() -> Result<(), String> {
    let delivering = || PATHS.iter().filter(|path| path.deliveries > 0);
    let (without, with) = (count_all(delivering(), false)?, count_all(delivering(), true)?);
    print!("{}", compare(&without, &with).table);
    let unnoticed: Vec<&str> = without
        .iter()
        .filter(|(path, before)| !with.get(*path).is_some_and(|now| is_off(**before, *now)))
        .map(|(path, _)| path.as_str())
        .collect();
    if unnoticed.is_empty() {
        println!(
            "an allocation a delivery, planted in {} paths: found in all",
            with.len()
        );
        Ok(())
    } else {
        Err(format!(
            "an allocation a delivery goes unnoticed in {}",
            unnoticed.join(", ")
        ))
    }
}

/// Instructions of one operation of each, as many at a time as there are processors.
fn count_all(
    paths: impl Iterator<Item = &'static Path>,
    planted: bool,
) -> Result<BTreeMap<String, u64>, String> {
    let paths: Vec<&Path> = paths.collect();
    let (next, counted) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let failed = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match callgrind::count(path, planted) {
                        Ok(count) => {
                            let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
                            counted.insert(path.name.to_owned(), count);
                        }
                        Err(error) => {
                            let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                            failed.push(error.to_string());
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    if failed.is_empty() {
        Ok(counted.into_inner().unwrap_or_else(PoisonError::into_inner))
    } else {
        Err(failed.join("\n"))
    }
}
