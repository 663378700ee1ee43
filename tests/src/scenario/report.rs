//! What a scenario found, beside the bars it is held to.

use std::fmt;

use anyhow::{Result, bail};
use serde_json::{Value, json};

/// A scenario's figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What was done.
    pub title: String,
    lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    what: String,
    found: String,
    /// Empty where nothing is promised.
    bar: String,
    is_met: bool,
}

impl Report {
    /// A report without a line.
    #[must_use]
    pub fn new(title: impl Into<String>) -> Report {
        Report {
            title: title.into(),
            lines: Vec::new(),
        }
    }

    /// A figure that is only told.
    pub fn tell(&mut self, what: &str, found: impl fmt::Display) {
        self.line(what, found, "", true);
    }

    /// A figure that must be at least `bar`.
    pub fn at_least<T: PartialOrd + fmt::Debug>(&mut self, what: &str, found: T, bar: T) {
        let is_met = found >= bar;
        self.line(what, format!("{found:.1?}"), &format!(">= {bar:.1?}"), is_met);
    }

    /// A figure that must be below `bar`.
    pub fn below<T: PartialOrd + fmt::Debug>(&mut self, what: &str, found: T, bar: T) {
        let is_met = found < bar;
        self.line(what, format!("{found:.1?}"), &format!("< {bar:.1?}"), is_met);
    }

    /// A figure that must be `bar` and nothing else.
    pub fn exactly<T: PartialEq + fmt::Debug>(&mut self, what: &str, found: T, bar: T) {
        let is_met = found == bar;
        self.line(what, format!("{found:.1?}"), &format!("{bar:.1?}"), is_met);
    }

    /// A list of things that must not have happened, of which the first few are shown.
    pub fn none(&mut self, what: &str, found: &[String]) {
        let shown = match found {
            [] => "0".to_owned(),
            some => format!("{}: {}", some.len(), some[..some.len().min(3)].join("; ")),
        };
        self.line(what, shown, "0", found.is_empty());
    }

    fn line(&mut self, what: &str, found: impl fmt::Display, bar: &str, is_met: bool) {
        self.lines.push(Line {
            what: what.to_owned(),
            found: found.to_string(),
            bar: bar.to_owned(),
            is_met,
        });
    }

    /// Whether every bar is met.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.lines.iter().all(|line| line.is_met)
    }

    /// The same for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let line = |line: &Line| {
            let bar = Some(&line.bar).filter(|bar| !bar.is_empty());
            json!({"what": line.what, "found": line.found, "bar": bar, "met": line.is_met})
        };
        let lines: Vec<Value> = self.lines.iter().map(line).collect();
        json!({"title": self.title, "met": self.is_met(), "lines": lines})
    }

    /// Every bar must be met.
    ///
    /// # Errors
    /// One is not.
    pub fn check(&self) -> Result<()> {
        if self.is_met() {
            return Ok(());
        }
        bail!("{self}")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "### {}\n\n| what | found | bar | |\n|---|---|---|---|",
            self.title
        )?;
        for line in &self.lines {
            let verdict = match (line.bar.is_empty(), line.is_met) {
                (true, _) => "",
                (false, true) => "met",
                (false, false) => "**missed**",
            };
            writeln!(f, "| {} | {} | {} | {verdict} |", line.what, line.found, line.bar)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bar_that_is_missed_is_named_and_fails_the_report() {
        let mut report = Report::new("moves");
        report.tell("moves", 812);
        report.below(
            "longest publish",
            Duration::from_millis(42),
            Duration::from_millis(500),
        );
        assert!(report.check().is_ok());
        report.none("lost", &["7/3 at member 1".to_owned()]);
        let said = report.check().unwrap_err().to_string();
        assert!(
            said.contains("| longest publish | 42.0ms | < 500.0ms | met |"),
            "{said}"
        );
        assert!(
            said.contains("| lost | 1: 7/3 at member 1 | 0 | **missed** |"),
            "{said}"
        );
        let json = report.json();
        assert_eq!(json["met"], false);
        assert_eq!(
            json["lines"][0],
            json!({"what": "moves", "found": "812", "bar": null, "met": true})
        );
        assert_eq!(json["lines"][2]["met"], false);
    }
}
