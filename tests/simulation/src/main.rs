//! Placeholder main.
fn main() {
    let seed: u64 = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(1);
    let to: u64 = std::env::args()
        .nth(2)
        .and_then(|s| s.parse().ok())
        .unwrap_or(seed + 1);
    let verbosity = if std::env::args().nth(3).is_some() {
        ringcast_simulation::Verbosity::All
    } else {
        ringcast_simulation::Verbosity::Hash
    };
    for seed in seed..to {
        let report = ringcast_simulation::run(&ringcast_simulation::Options::of(seed), verbosity);
        println!(
            "{seed} {:x} {} ack {} del {} moves {} {}",
            report.hash,
            report.events,
            report.acknowledged,
            report.delivered,
            report.moves,
            report.violation.map_or("ok".to_owned(), |v| v.to_string())
        );
    }
}
