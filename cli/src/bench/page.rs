//! `--html FILE`: a report as one page without scripts or links, which needs nothing else and is read in light and in dark.
//!
//! *Invariant:* nothing that a server or a person chose reaches the page without being escaped.
//! Leaves out: what was measured; every figure is out of the report.

mod plot;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};

pub(crate) use plot::{Axis, Plot, Points, Series};

use super::report::{NAME_WIDTH, Report};
use crate::Usage;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #24292f; --faint: #57606a; --paper: #ffffff; --rule: #d0d7de; --bad: #cf222e;
  --s0: #0969da; --s1: #bc4c00; --s2: #1a7f37; --s3: #8250df }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --faint: #9198a1; --paper: #0d1117; --rule: #3d444d;
  --bad: #ff7b72; --s0: #58a6ff; --s1: #ffa657; --s2: #56d364; --s3: #d2a8ff } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 800px;
  margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.4em } h2 { font-size: 1.1em; margin: 2em 0 0.3em }
table { border-collapse: collapse } th, td { text-align: left; padding: 0.15em 1.2em 0.15em 0; vertical-align: top }
th { font-weight: 600; white-space: nowrap } tr { border-bottom: 1px solid var(--rule) }
.faint { color: var(--faint) } .bad { color: var(--bad); font-weight: 600 }
pre { overflow-x: auto; font-size: 12px } svg { max-width: 100%; height: auto }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink) } svg .faint { fill: var(--faint) }
svg .grid { stroke: var(--rule) } svg polyline { fill: none; stroke-width: 2 }
svg .s0 { stroke: var(--s0) } svg .s1 { stroke: var(--s1) } svg .s2 { stroke: var(--s2) } svg .s3 { stroke: var(--s3) }
svg rect.s0 { fill: var(--s0) } svg rect.s1 { fill: var(--s1) } svg rect.s2 { fill: var(--s2) } svg rect.s3 { fill: var(--s3) }
";

/// A place that cannot be is told before the work.
pub(crate) fn check(path: Option<&PathBuf>) -> Result<()> {
    let Some(path) = path else {
        return Ok(());
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if path.is_dir() || !folder.is_dir() {
        return Err(Usage(format!("--html {}: no file can be there", path.display())).into());
    }
    Ok(())
}

/// Writes the page of a report.
pub(crate) fn write<R: Report>(path: &Path, report: &R) -> Result<()> {
    let json = serde_json::to_string_pretty(report).context("write JSON")?;
    let command: Vec<String> = std::env::args().skip(1).collect();
    let page = page(
        &format!("ringcast {}", command.join(" ")),
        &today(),
        &report.text(),
        report.problems(),
        &report.plots(),
        &json,
    );
    std::fs::write(path, page).with_context(|| format!("write {}", path.display()))
}

fn page(command: &str, date: &str, text: &str, problems: &[String], plots: &[Plot], json: &str) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>\n\
         <h1>ringcast bench</h1>\n<p><code>{title}</code><br><span class=\"faint\">{version}, {date}</span></p>\n",
        title = escape(command),
        date = escape(date),
        version = concat!("ringcast ", env!("CARGO_PKG_VERSION")),
    );
    if problems.is_empty() {
        page.push_str("<p>Clean: nothing was lost, refused or closed that should not have been.</p>\n");
    } else {
        let problems: Vec<String> = problems.iter().map(|problem| escape(problem)).collect();
        page.push_str(&format!(
            "<p class=\"bad\">Not clean: {}</p>\n",
            problems.join("; ")
        ));
    }
    let (lines, processes) = text.split_once("\n\n").unwrap_or((text, ""));
    page.push_str("<table>\n");
    for line in lines.lines() {
        // Names of lines are ASCII, and no longer than their column.
        let (name, value) = line.split_at_checked(NAME_WIDTH).unwrap_or(("", line));
        page.push_str(&format!(
            "<tr><th>{}</th><td>{}</td></tr>\n",
            escape(name.trim_end()),
            escape(value)
        ));
    }
    page.push_str(&format!("</table>\n<pre>{}</pre>\n", escape(processes)));
    for plot in plots.iter().filter(|plot| !plot.is_empty()) {
        page.push_str(&format!("<h2>{}</h2>\n{}\n", escape(&plot.title), plot.svg()));
    }
    page.push_str(&format!(
        "<details><summary>The report as JSON</summary><pre>{}</pre></details>\n</body></html>\n",
        escape(json)
    ));
    page
}

/// Text as HTML and as SVG have it.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// The day in UTC, as `2026-11-21`.
fn today() -> String {
    let seconds = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (year, month, day) = date_of(seconds / 86_400);
    format!("{year}-{month:02}-{day:02}")
}

/// Year, month and day of a day since 1970 in the Gregorian calendar. Years begin in March here, so that the odd day is
/// the last of one.
fn date_of(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_on_the_page_is_taken_for_markup() {
        let evil = "</pre><script src=\"//x\">&";
        let plot = Plot {
            title: evil.to_owned(),
            x: Axis::Linear(evil),
            y: evil,
            series: vec![Series::new(evil, vec![(0.0, 1.0), (1.0, 2.0)])],
        };
        let page = page(
            evil,
            evil,
            &format!("{evil}\n\n{evil}"),
            &[evil.to_owned()],
            &[plot],
            evil,
        );
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("&lt;/pre&gt;&lt;script src=&quot;//x&quot;&gt;&amp;"));
        assert!(!page.contains("http"), "it needs nothing else: {page}");
    }

    #[test]
    fn days_have_the_dates_they_had() {
        assert_eq!(date_of(0), (1970, 1, 1));
        assert_eq!(date_of(11_016), (2000, 2, 29));
        assert_eq!(date_of(11_017), (2000, 3, 1));
        assert_eq!(date_of(20_454), (2026, 1, 1));
        assert_eq!(date_of(20_453), (2025, 12, 31));
    }

    #[test]
    fn a_page_goes_where_a_file_can_be() {
        let folder = tempfile::tempdir().unwrap();
        check(None).unwrap();
        check(Some(&PathBuf::from("page.html"))).unwrap();
        check(Some(&folder.path().join("page.html"))).unwrap();
        for wrong in [folder.path().to_owned(), folder.path().join("none/page.html")] {
            assert!(check(Some(&wrong)).unwrap_err().is::<Usage>());
        }
    }
}
