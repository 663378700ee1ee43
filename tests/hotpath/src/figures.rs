//! The committed figures, and what was counted held against them.
//!
//! *Invariant:* every path has a figure and every figure a path; a figure is right while what is counted is at most
//! [`PER_CENT_MAX`] off, either way: what became cheaper is committed too, or it could become as dear again unseen.

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::Args;
use ringcast_hotpath::Path;
use serde::{Deserialize, Serialize};

/// How far off a figure may be. The same build counts the same to the last instruction or nearly; this leaves room for a
/// C library or a valgrind of another patch, and for what a change elsewhere does to inlining.
pub(crate) const PER_CENT_MAX: u64 = 3;

/// As they are committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Figures {
    /// What they were counted with.
    pub(crate) with: Tools,
    /// Of one operation of each path.
    pub(crate) instructions: BTreeMap<String, u64>,
}

/// What decides, besides the code, how many instructions there are.
#[derive(Debug, Clone, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tools {
    /// The platform, as rustc calls it.
    #[arg(long, env = "HOTPATH_TARGET", hide = true, default_value = "unknown")]
    pub(crate) target: String,
    /// The compiler.
    #[arg(long, env = "HOTPATH_RUSTC", hide = true, default_value = "unknown")]
    pub(crate) rustc: String,
    /// The C library, whose allocator and copying are counted too.
    #[arg(long, env = "HOTPATH_LIBC", hide = true, default_value = "unknown")]
    pub(crate) libc: String,
    /// Valgrind, whose processor the C library chooses its copying for.
    #[arg(long, env = "HOTPATH_VALGRIND", hide = true, default_value = "unknown")]
    pub(crate) valgrind: String,
}

impl Tools {
    /// Where these differ from those a figure was counted with, a line each.
    pub(crate) fn differences(&self, committed: &Tools) -> Vec<String> {
        [
            (&committed.target, &self.target),
            (&committed.rustc, &self.rustc),
            (&committed.libc, &self.libc),
            (&committed.valgrind, &self.valgrind),
        ]
        .into_iter()
        .filter(|(committed, now)| committed != now)
        .map(|(committed, now)| format!("{now}, and the figures are those of {committed}"))
        .collect()
    }
}

/// One path's figure and what was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It is right.
    Same,
    /// It is too far off.
    Off,
    /// There is none, or no such path any more.
    Alone,
}

/// A table, and whether all is well.
#[derive(Debug)]
pub(crate) struct Comparison {
    /// For people.
    pub(crate) table: String,
    /// Paths whose figure is wrong or missing, and figures without a path.
    pub(crate) wrong: Vec<String>,
}

/// Whether `now` is too far from `before`.
pub(crate) fn is_off(before: u64, now: u64) -> bool {
    before.abs_diff(now) * 100 > before * PER_CENT_MAX
}

/// Holds what was counted against what is committed.
pub(crate) fn compare(committed: &BTreeMap<String, u64>, counted: &BTreeMap<String, u64>) -> Comparison {
    let mut rows: BTreeMap<&str, (Option<u64>, Option<u64>)> = BTreeMap::new();
    for (path, before) in committed {
        rows.entry(path).or_default().0 = Some(*before);
    }
    for (path, now) in counted {
        rows.entry(path).or_default().1 = Some(*now);
    }
    let mut comparison = Comparison {
        table: format!(
            "{:<24}{:>12}{:>12}  {}\n",
            "path", "committed", "now", "difference"
        ),
        wrong: Vec::new(),
    };
    for (path, (before, now)) in rows {
        let (verdict, difference) = match (before, now) {
            (Some(before), Some(now)) => (
                if is_off(before, now) {
                    Verdict::Off
                } else {
                    Verdict::Same
                },
                difference(before, now),
            ),
            (None, _) => (Verdict::Alone, "no figure".to_owned()),
            (_, None) => (Verdict::Alone, "no such path".to_owned()),
        };
        let number = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
        let (before, now) = (number(before), number(now));
        let mark = if verdict == Verdict::Same { "" } else { "<--" };
        let what = Path::find(path).map_or("", |path| path.what);
        writeln!(
            comparison.table,
            "{path:<20}{before:>10}{now:>10}{difference:>12}  {mark:<3} {what}"
        )
        .expect("a string takes everything");
        if verdict != Verdict::Same {
            comparison
                .wrong
                .push(format!("{path}: {before} -> {now} ({difference})"));
        }
    }
    comparison
}

fn difference(before: u64, now: u64) -> String {
    // Instructions of one operation are far below what an f64 tells apart.
    let per_cent = (now as f64 - before as f64) * 100.0 / before.max(1) as f64;
    format!("{per_cent:+.2} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(of: &[(&str, u64)]) -> BTreeMap<String, u64> {
        of.iter()
            .map(|(path, figure)| ((*path).to_owned(), *figure))
            .collect()
    }

    fn wrong(committed: u64, counted: u64) -> Vec<String> {
        compare(&figures(&[("a", committed)]), &figures(&[("a", counted)])).wrong
    }

    #[test]
    fn three_per_cent_either_way_is_the_same_and_more_is_not() {
        for counted in [970, 1_000, 1_030] {
            assert!(wrong(1_000, counted).is_empty(), "{counted}");
        }
        assert_eq!(wrong(1_000, 1_031), ["a: 1000 -> 1031 (+3.10 %)"]);
        assert_eq!(wrong(1_000, 969), ["a: 1000 -> 969 (-3.10 %)"]);
        assert_eq!(wrong(0, 1), ["a: 0 -> 1 (+100.00 %)"]);
    }

    #[test]
    fn another_compiler_is_named_and_the_same_is_not() {
        let tools = |rustc: &str| Tools {
            target: "x86_64-unknown-linux-gnu".to_owned(),
            rustc: rustc.to_owned(),
            libc: "glibc 2.36".to_owned(),
            valgrind: "valgrind-3.19.0".to_owned(),
        };
        let (old, new) = (tools("rustc 1.95.0"), tools("rustc 1.96.0"));
        assert_eq!(
            new.differences(&old),
            ["rustc 1.96.0, and the figures are those of rustc 1.95.0"]
        );
        assert!(new.differences(&new).is_empty());
    }

    #[test]
    fn a_path_without_a_figure_is_wrong_and_so_is_a_figure_without_a_path() {
        let comparison = compare(&figures(&[("old", 7)]), &figures(&[("new", 7)]));
        assert_eq!(
            comparison.wrong,
            ["new: - -> 7 (no figure)", "old: 7 -> - (no such path)"]
        );
        assert_eq!(comparison.table.matches("<--").count(), 2, "{}", comparison.table);
    }
}
