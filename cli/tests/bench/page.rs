//! `--html`: the report as a page.

use std::path::Path;

use super::harness::{Dev, Run, Running};
use super::{BRIEF, harness};

/// The page that a run wrote.
fn page(run: &Run, path: &Path) -> String {
    assert_eq!(run.code, Some(0), "{} {}", run.said, run.report);
    std::fs::read_to_string(path).unwrap()
}

/// It can be sent to anybody, and shows this many plots.
fn assert_page(page: &str, plots: usize) {
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    assert_eq!(page.matches("<svg").count(), plots);
    for lines in page.split("<polyline").skip(1) {
        let (points, _) = lines.split_once("/>").unwrap();
        assert!(
            points.contains(' ') && !points.contains("NaN"),
            "a line: {points}"
        );
    }
    for foreign in ["<script", "src=", "href=", "@import", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert!(page.contains("prefers-color-scheme: dark"));
}

#[test]
fn every_scenario_can_be_a_page_that_needs_nothing_else() {
    let dev = Dev::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    let html = ["--html", file.to_str().unwrap()];

    let fanout = ["fanout", "--subscribers", "20", "--window", "200", "--floor"];
    let run = dev.bench(&[&fanout[..], &BRIEF, &html].concat());
    harness::assert_clean(&run);
    let fanout = page(&run, &file);
    assert_page(&fanout, 3);
    assert!(fanout.contains(">floor<") && fanout.contains(">cluster<"));
    let delivered = format!("{} deliveries of", run.report["deliveries"]);
    assert!(fanout.contains(&delivered), "the figures of the report");

    let idle = ["idle", "--connections", "200", "--hold", "300ms"];
    let run = dev.bench(&[&idle[..], &html].concat());
    let plots = if cfg!(target_os = "linux") { 2 } else { 1 };
    assert_page(&page(&run, &file), plots);

    let storm = ["storm", "--clients", "100", "--rounds", "2", "--hold", "100ms"];
    let run = dev.bench(&[&storm[..], &html].concat());
    assert_page(&page(&run, &file), 2);
}

#[test]
fn a_page_that_cannot_be_written_is_told_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("none/page.html");
    let run = Running::start(&["fanout", "--html", file.to_str().unwrap()]).end();
    assert_eq!(run.code, Some(2), "{}", run.said);
    assert!(run.said.contains("no file can be there"), "{}", run.said);
}
