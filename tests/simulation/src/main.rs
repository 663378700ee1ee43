//! `simulate`: runs seeds, says which break what, and shows one of them event by event.
//!
//! It promises the same bytes for the same seed on standard output. Progress goes to standard error. Exit 1: something
//! that must hold was broken, or a planted bug was not caught.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::Parser;
use ringcast_simulation::{Options, Plant, Report, Verbosity, plant, run};

/// Seeds in which every planted bug must be caught.
const PLANTED_SEEDS: Range<u64> = 0..500;

/// Runs a whole cluster in virtual time, out of a seed, and checks what must hold after every event.
#[derive(Debug, Parser)]
struct Arguments {
    /// Run this seed and tell all about it.
    #[arg(long, conflicts_with_all = ["seeds", "planted"])]
    seed: Option<u64>,
    /// Run these seeds: FROM..TO, without TO.
    #[arg(long, value_parser = range, default_value = "0..500")]
    seeds: Range<u64>,
    /// Print every event.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Virtual seconds of a run; the last 30 are healed.
    #[arg(long, default_value_t = 60)]
    duration: u64,
    /// Plant this bug; needs a build with the feature `planted-bugs`.
    #[arg(long, value_parser = bug)]
    plant: Option<Plant>,
    /// Plant every bug in turn and find it within 500 seeds; needs the same.
    #[arg(long)]
    planted: bool,
    /// Seeds at a time; one for each processor if it is not said.
    #[arg(long)]
    threads: Option<usize>,
    /// The commit this was built from, for the report.
    #[arg(
        long,
        env = "SIMULATE_COMMIT",
        hide_env_values = true,
        default_value = "unknown"
    )]
    commit: String,
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let parse = |number: &str| {
        number
            .parse::<u64>()
            .map_err(|_| format!("{number:?} is no number"))
    };
    let (from, to) = text.split_once("..").ok_or("seeds are given as FROM..TO")?;
    let range = parse(from)?..parse(to)?;
    if range.is_empty() {
        Err("no seed is between them".to_owned())
    } else {
        Ok(range)
    }
}

fn bug(name: &str) -> Result<Plant, String> {
    Plant::parse(name).ok_or_else(|| {
        let all: Vec<&str> = plant::ALL.iter().map(|plant| plant.name()).collect();
        format!("no bug of that name; there are {}", all.join(", "))
    })
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if (arguments.planted || arguments.plant.is_some()) && !cfg!(feature = "planted-bugs") {
        eprintln!("simulate: this build has no bugs to plant: build it with --features planted-bugs");
        return ExitCode::from(2);
    }
    // A panic is a violation like any other, and is told as one.
    std::panic::set_hook(Box::new(|_| {}));
    let ok = if arguments.planted {
        planted(&arguments)
    } else if let Some(seed) = arguments.seed {
        one(&arguments, seed)
    } else {
        many(&arguments)
    };
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options(arguments: &Arguments, seed: u64) -> Options {
    Options {
        seed,
        duration: Duration::from_secs(arguments.duration),
        plant: arguments.plant,
    }
}

/// One seed, with all there is to know about it.
fn one(arguments: &Arguments, seed: u64) -> bool {
    let options = options(arguments, seed);
    let verbosity = if arguments.trace {
        Verbosity::All
    } else {
        Verbosity::Hash
    };
    let report = run(&options, verbosity);
    tell(arguments, &options, &report);
    report.violation.is_none()
}

fn tell(arguments: &Arguments, options: &Options, report: &Report) {
    println!(
        "seed {}, {} virtual s, commit {}",
        options.seed, arguments.duration, arguments.commit
    );
    if let Some(plant) = options.plant {
        println!("planted: {plant}");
    }
    println!("{}", report.swarm);
    println!(
        "{} events, {} publishes acknowledged, {} copies received, {} moves (longest pause {} ms), trace {:016x}",
        report.events,
        report.acknowledged,
        report.delivered,
        report.moves,
        report.longest_pause_ms,
        report.hash
    );
    println!(
        "{} joins recovered, {} gaps told, {} repeats, {} connections closed as too slow",
        report.recovered, report.gaps, report.dups, report.slow_closed
    );
    let Some(violation) = &report.violation else {
        println!("everything held");
        return;
    };
    if !arguments.trace {
        println!("the last events:");
        for line in run(options, Verbosity::Tail).tail {
            println!("{line}");
        }
    }
    println!("{violation}");
}

/// Many seeds; those that broke something are told in their order.
fn many(arguments: &Arguments) -> bool {
    let (from, to) = (arguments.seeds.start, arguments.seeds.end);
    let next = AtomicU64::new(from);
    let done = Mutex::new(Total::default());
    let threads = arguments
        .threads
        .or_else(|| std::thread::available_parallelism().ok().map(usize::from))
        .unwrap_or(1);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= to {
                        return;
                    }
                    let report = run(&options(arguments, seed), Verbosity::Hash);
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    done.add(seed, report);
                    progress(&format!(
                        "{}/{} seeds, {} broken",
                        done.seeds,
                        to - from,
                        done.broken.len()
                    ));
                }
            });
        }
    });
    progress("");
    let total = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{} seeds of {} virtual s, commit {}: {} events, {} publishes acknowledged, {} copies received, {} moves",
        total.seeds,
        arguments.duration,
        arguments.commit,
        total.events,
        total.acknowledged,
        total.delivered,
        total.moves
    );
    println!(
        "{} joins recovered, {} gaps told, {} repeats, {} connections closed as too slow",
        total.recovered, total.gaps, total.dups, total.slow_closed
    );
    for (seed, violation) in &total.broken {
        println!("seed {seed}: {violation}");
    }
    if let Some(seed) = total.broken.keys().next() {
        println!(
            "{} broken; `scripts/simulate --seed {seed}` tells more",
            total.broken.len()
        );
    } else {
        println!("everything held");
    }
    total.broken.is_empty()
}

#[derive(Default)]
struct Total {
    seeds: u64,
    events: u64,
    acknowledged: u64,
    delivered: u64,
    moves: u64,
    recovered: u64,
    gaps: u64,
    dups: u64,
    slow_closed: u64,
    broken: BTreeMap<u64, String>,
}

impl Total {
    fn add(&mut self, seed: u64, report: Report) {
        self.seeds += 1;
        self.events += report.events;
        self.acknowledged += report.acknowledged;
        self.delivered += report.delivered;
        self.moves += report.moves;
        self.recovered += report.recovered;
        self.gaps += report.gaps;
        self.dups += report.dups;
        self.slow_closed += report.slow_closed;
        if let Some(violation) = report.violation {
            self.broken.insert(seed, violation.to_string());
        }
    }
}

/// Every bug in turn.
fn planted(arguments: &Arguments) -> bool {
    let mut missed = 0;
    for plant in plant::ALL {
        match catch(arguments, *plant) {
            Some((seed, violation)) => println!("{plant}: seed {seed}: {violation}"),
            None => {
                missed += 1;
                println!("{plant}: NOT CAUGHT in seeds {PLANTED_SEEDS:?}");
            }
        }
    }
    missed == 0
}

/// The first seed found that catches the bug. Which one that is depends on the threads, so one after the other.
fn catch(arguments: &Arguments, plant: Plant) -> Option<(u64, String)> {
    for seed in PLANTED_SEEDS {
        progress(&format!("{plant}: seed {seed}"));
        let options = Options {
            plant: Some(plant),
            ..options(arguments, seed)
        };
        if let Some(violation) = run(&options, Verbosity::Hash).violation {
            progress("");
            return Some((seed, violation.to_string()));
        }
    }
    progress("");
    None
}

/// One line that overwrites itself, where somebody looks.
fn progress(line: &str) {
    static SHOWN: AtomicBool = AtomicBool::new(false);
    let mut stderr = std::io::stderr();
    if !stderr.is_terminal() || (line.is_empty() && !SHOWN.swap(false, Ordering::Relaxed)) {
        return;
    }
    SHOWN.store(!line.is_empty(), Ordering::Relaxed);
    // Nobody may be looking any more.
    write!(stderr, "\r\x1b[K{line}").ok();
    stderr.flush().ok();
}
