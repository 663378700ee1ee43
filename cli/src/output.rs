//! What goes to stdout: tables and sentences for people, or one JSON value.

use std::io::{self, Write};

use anyhow::{Context, Result};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde::Serialize;

use crate::args::OutputFormat;

/// Where a command puts its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    format: OutputFormat,
}

impl Output {
    /// As asked for by `-o`.
    pub(crate) fn new(format: OutputFormat) -> Output {
        Output { format }
    }

    /// Whether a program reads it.
    pub(crate) fn is_json(self) -> bool {
        self.format == OutputFormat::Json
    }

    /// Prints the answer: `json` as it is, or what `people` makes.
    pub(crate) fn print<T: Serialize>(self, json: &T, people: impl FnOnce(&T) -> String) -> Result<()> {
        let text = match self.format {
            OutputFormat::Json => serde_json::to_string(json).context("write JSON")?,
            OutputFormat::Table => people(json),
        };
        line(&text)
    }
}

/// Writes a line to stdout, at once. `println!` would panic when the reader is gone, as in `topic tap | head`.
pub(crate) fn line(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", text.trim_end())
        .and_then(|()| stdout.flush())
        .context("write to stdout")
}

/// Whether an error is only that nobody reads stdout any more.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// A table without lines: columns, the numbers among them to the right. Cut to the terminal's width, if there is one.
pub(crate) fn table(
    header: &[&str],
    numbers: &[usize],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.iter().map(|name| name.to_uppercase()));
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)));
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        let padding = (0, 2);
        column.set_padding(padding);
        if numbers.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// `1 slot`, `2 slots`.
pub(crate) fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// The text without control characters: topics and events come from clients, and a terminal obeys what it is sent.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() {
                c.escape_default().to_string()
            } else {
                c.to_string()
            }
        })
        .collect()
}

/// Bytes for people: `0 B`, `1.5 KiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_name_cannot_drive_the_terminal() {
        assert_eq!(printable("room:\u{1b}[2J\nä"), "room:\\u{1b}[2J\\nä");
    }

    #[test]
    fn columns_line_up_and_numbers_stand_to_the_right() {
        let table = table(
            &["id", "slots"],
            &[1],
            [
                vec!["ts-1".into(), "7".into()],
                vec!["ts-22".into(), "1017".into()],
            ],
        );
        assert_eq!(table, "ID     SLOTS\nts-1       7\nts-22   1017");
    }

    #[test]
    fn bytes_are_told_in_units() {
        for (bytes, said) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (32 << 20, "32.0 MiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(size(bytes), said);
        }
    }
}
