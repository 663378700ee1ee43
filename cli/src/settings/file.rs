//! Settings from a TOML file, and where in it a key stands.

use std::path::{Path, PathBuf};

use figment::providers::{Data, Format, Toml};
use toml_edit::{ImDocument, Item, TableLike};

use super::error::{Errors, Problem, Source};
use super::keys;

/// More than any configuration; a file beyond it is something else, given by mistake.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A file that is TOML.
#[derive(Debug)]
pub(crate) struct File {
    path: PathBuf,
    document: ImDocument<String>,
}

impl File {
    /// Reads it.
    ///
    /// # Errors
    /// It cannot be read, or is no TOML.
    pub(crate) fn read(path: &Path) -> Result<File, Errors> {
        let wrong = |line, message: String| {
            let source = Source::File {
                path: path.to_owned(),
                line,
            };
            Errors(vec![Problem {
                key: String::new(),
                source: Some(source),
                message,
                nearest: None,
            }])
        };
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
                return Err(wrong(
                    None,
                    format!("{} bytes, must be at most {FILE_BYTES_MAX}", metadata.len()),
                ));
            }
            Ok(_) | Err(_) => {} // what is wrong will be told by the read
        }
        let text = std::fs::read_to_string(path).map_err(|error| wrong(None, format!("read: {error}")))?;
        let document = ImDocument::parse(text.clone()).map_err(|error| {
            let line = error.span().map(|span| line_at(&text, span.start));
            wrong(line, format!("no TOML: {}", error.message().trim_end()))
        })?;
        Ok(File {
            path: path.to_owned(),
            document,
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its values.
    pub(super) fn provider(&self) -> Data<Toml> {
        Toml::string(self.document.raw())
    }

    /// Every key is a setting.
    ///
    /// # Errors
    /// All that are none, each with its line and the nearest setting.
    pub(super) fn check_keys(&self) -> Result<(), Errors> {
        let mut problems = Vec::new();
        let root = self.document.as_table();
        self.check_table(root, "", keys::TOP, &mut problems);
        for (name, known) in [
            ("limits", keys::LIMITS),
            ("history", keys::HISTORY),
            ("origin", keys::ORIGIN),
        ] {
            if let Some(table) = root.get(name).and_then(Item::as_table_like) {
                self.check_table(table, &format!("{name}."), known, &mut problems);
            }
        }
        match root.get("channel") {
            Some(Item::ArrayOfTables(channels)) => {
                for (index, channel) in channels.iter().enumerate() {
                    self.check_table(
                        channel,
                        &format!("channel.{index}."),
                        keys::CHANNEL,
                        &mut problems,
                    );
                }
            }
            Some(item) => {
                let inline = item
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|value| value.as_inline_table());
                for (index, channel) in inline.enumerate() {
                    self.check_table(
                        channel,
                        &format!("channel.{index}."),
                        keys::CHANNEL,
                        &mut problems,
                    );
                }
            }
            None => {}
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Errors(problems))
        }
    }

    fn check_table(
        &self,
        table: &dyn TableLike,
        prefix: &str,
        known: &[&'static str],
        problems: &mut Vec<Problem>,
    ) {
        for (key, _) in table.iter().filter(|(key, _)| !known.contains(key)) {
            let line = table
                .get_key_value(key)
                .and_then(|(key, _)| key.span())
                .map(|span| self.line_at(span.start));
            problems.push(Problem {
                key: format!("{prefix}{key}"),
                source: Some(Source::File {
                    path: self.path.clone(),
                    line,
                }),
                message: "no such setting".to_owned(),
                nearest: keys::nearest(key, known.iter().copied()).map(str::to_owned),
            });
        }
    }

    /// The line of the key at `path`, or of the nearest key or table around it.
    pub(super) fn line_of(&self, path: &[String]) -> Option<usize> {
        let mut table: &dyn TableLike = self.document.as_table();
        let mut span = None;
        let mut path = path.iter();
        while let Some(part) = path.next() {
            let Some((key, item)) = table.get_key_value(part) else {
                break;
            };
            span = key.span().or(span);
            let inner = match item {
                Item::ArrayOfTables(tables) => {
                    let nth = path.next().and_then(|index| tables.get(index.parse().ok()?));
                    span = nth.and_then(|table| table.span()).or(span);
                    nth.map(|table| table as &dyn TableLike)
                }
                item => item.as_table_like(),
            };
            let Some(inner) = inner else { break };
            table = inner;
        }
        span.map(|span| self.line_at(span.start))
    }

    fn line_at(&self, offset: usize) -> usize {
        line_at(self.document.raw(), offset)
    }
}

/// The number of the line of a byte, from 1.
fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}
