//! The scenarios at full size, held to the promised figures: minutes, not seconds, and so no part of the tests.
//!
//! `scripts/soak [SCENARIO ...] [--kills N] [--seed N] [--topics N] [--write FILE] [--json FILE]` builds the binary and
//! runs this. It prints a table a scenario and ends with 1 if a bar was missed, or a scenario could not be carried out.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use ringcast_tests::load::{KILLS, MOVES, Shape};
use ringcast_tests::resuming;
use ringcast_tests::scenario::{
    Bars, Report, big_slots, duplicates, memory, move_kills, moves, resume, rolling, rolling_all, slow,
};

/// What there is, in the order it is done.
const SCENARIOS: [&str; 11] = [
    "moves",
    "rolling",
    "kills",
    "topics",
    "members",
    "histories",
    "memory",
    "resume",
    "rolling-all",
    "duplicates",
    "slow",
];

/// P10: the worst pause of a slot.
const PAUSE: Duration = Duration::from_millis(250);

/// In bytes: what a million topics have to fit in.
const GIB: f64 = (1u64 << 30) as f64;

struct Arguments {
    scenarios: Vec<String>,
    kills: usize,
    seed: u64,
    /// Of the scenario `memory`.
    topics: usize,
    write: Option<PathBuf>,
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let soak = arguments(std::env::args().skip(1)).and_then(|arguments| {
        let runtime = tokio::runtime::Runtime::new().context("start a runtime")?;
        runtime.block_on(soak(&arguments))
    });
    match soak {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn arguments(mut given: impl Iterator<Item = String>) -> Result<Arguments> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let mut arguments = Arguments {
        scenarios: Vec::new(),
        kills: 50,
        topics: 200_000,
        seed: now.context("read the clock")?.as_secs(),
        write: None,
        json: None,
    };
    while let Some(argument) = given.next() {
        let mut value = || given.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--kills" => arguments.kills = value()?.parse().context("--kills")?,
            "--seed" => arguments.seed = value()?.parse().context("--seed")?,
            "--topics" => arguments.topics = value()?.parse().context("--topics")?,
            "--write" => arguments.write = Some(value()?.into()),
            "--json" => arguments.json = Some(value()?.into()),
            name if SCENARIOS.contains(&name) => arguments.scenarios.push(argument),
            other => {
                bail!(
                    "{other:?} is none of {SCENARIOS:?}, --kills N, --seed N, --topics N, --write FILE, --json FILE"
                )
            }
        }
    }
    if arguments.scenarios.is_empty() {
        arguments.scenarios = SCENARIOS.map(str::to_owned).to_vec();
    }
    Ok(arguments)
}

/// Whether every scenario met its bars.
async fn soak(arguments: &Arguments) -> Result<bool> {
    let (mut met, mut written, mut json) = (true, String::from(HEAD), Vec::new());
    for name in &arguments.scenarios {
        match scenario(name, arguments).await {
            Ok(reports) => {
                for report in reports {
                    println!("{report}");
                    met &= report.is_met();
                    written.push_str(&format!("\n{report}"));
                    json.push(report.json());
                }
            }
            Err(error) => {
                println!("### {name}\n\nnot carried out: {error:#}\n");
                met = false;
                written.push_str(&format!("\n### {name}\n\nNot carried out: {error:#}\n"));
            }
        }
    }
    if let Some(file) = &arguments.write {
        std::fs::write(file, written).with_context(|| format!("write {}", file.display()))?;
    }
    if let Some(file) = &arguments.json {
        let json = serde_json::Value::from(json).to_string();
        std::fs::write(file, json).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(met)
}

const HEAD: &str = "# Soak\n\n\
    What `scripts/soak` found: every process, the publishers and the members share one machine.\n";

async fn scenario(name: &str, arguments: &Arguments) -> Result<Vec<Report>> {
    Ok(match name {
        "resume" => resumes().await?,
        "rolling-all" => {
            let scale = rolling_all::Scale {
                crew: CREW,
                rounds: 3,
                // The deadline of every publish.
                longest_publish: Duration::from_secs(5),
            };
            vec![rolling_all::run(scale).await?]
        }
        "duplicates" => {
            let crew = resuming::Shape {
                subscribers: 5,
                publishes_per_second: 300,
                sendings: 3,
                ..CREW.crew
            };
            vec![duplicates::run(resume::Scale { crew, ..CREW }, 3).await?]
        }
        "slow" => {
            let scale = slow::Scale {
                readers: 1000,
                publishes_per_second: 50,
                payload_bytes: 500,
                slow_bytes_per_second: 1000,
                before: Duration::from_secs(30),
                until_named: Duration::from_secs(300),
                factor: 2.0,
                unnoticed: Duration::ZERO,
            };
            vec![slow::run(scale).await?]
        }
        _ => vec![ring_scenario(name, arguments).await?],
    })
}

/// Whatever takes a client's connection, its topic's place, or its topic's owner from it.
async fn resumes() -> Result<Vec<Report>> {
    let quiet = resuming::Shape {
        topics: 20,
        subscribers: 10,
        sockets: 80,
        // Five a topic.
        publishes_per_second: 100,
        sendings: 1,
    };
    let quiet = resume::Scale { crew: quiet, ..CREW };
    let minutes = Duration::from_secs(180);
    Ok(vec![
        resume::killed(CREW).await?,
        resume::drained(CREW).await?,
        resume::moved_twice(CREW).await?,
        resume::owner_killed(CREW).await?,
        // 30 s of it.
        resume::away(quiet, 150, minutes).await?,
        resume::away_for_too_long(quiet, 320, minutes).await?,
    ])
}

/// Clients that resume, as the issue has them.
const CREW: resume::Scale = resume::Scale {
    crew: resuming::Shape {
        topics: 200,
        subscribers: 10,
        sockets: 400,
        publishes_per_second: 1000,
        sendings: 1,
    },
    slots: None,
};

async fn ring_scenario(name: &str, arguments: &Arguments) -> Result<Report> {
    match name {
        "moves" => {
            let scale = moves::Scale {
                load: MOVES,
                slots: None,
                baseline: Duration::from_secs(20),
                rounds: 3,
                moves_min: 3000,
                bars: Bars::STRICT,
            };
            moves::run(scale).await
        }
        "rolling" => {
            let scale = rolling::Scale {
                load: MOVES,
                slots: None,
                rounds: 3,
                baseline: Duration::from_secs(20),
                bars: Bars::STRICT,
                exit: Duration::from_secs(15),
            };
            rolling::run(scale).await
        }
        "kills" => {
            let load = Shape {
                publishes_per_second: 500,
                ..KILLS
            };
            let (kills, seed) = (arguments.kills, arguments.seed);
            let scale = move_kills::Scale {
                load,
                slots: None,
                kills,
                seed,
            };
            move_kills::run(scale).await
        }
        "topics" => {
            let scale = big_slots::Topics {
                topics: 20_000,
                publications: 1,
                bytes: 900,
                topics_per_second: 20_000.0,
                pause: PAUSE,
            };
            big_slots::topics(scale).await
        }
        "members" => {
            let scale = big_slots::Members {
                members: 10_000,
                pause: PAUSE,
            };
            big_slots::members(scale).await
        }
        "memory" => {
            let scale = memory::Scale {
                topics: arguments.topics,
                steps: 4,
                gateways: 2,
                idle: Duration::from_secs(10),
                topic_bytes: GIB / 1e6,
                histories: 4000,
                publications: 100,
                payload_bytes: 200,
            };
            memory::run(scale).await
        }
        _ => {
            let scale = big_slots::Topics {
                topics: 100,
                publications: 300,
                bytes: 3000,
                topics_per_second: 1.0,
                pause: PAUSE,
            };
            big_slots::topics(scale).await
        }
    }
}
