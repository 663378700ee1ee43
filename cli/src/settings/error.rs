//! What is wrong with the settings, and where it was said.

use std::fmt;
use std::path::PathBuf;

use figment::Figment;
use figment::error::Kind;
use serde::Serialize;

use super::{File, keys};

/// Everything that is wrong, at least one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Errors(pub(crate) Vec<Problem>);

/// One wrong thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    /// The setting, as `origin.allow`; empty where it is none.
    pub(crate) key: String,
    /// Where it was said.
    #[serde(flatten)]
    pub(crate) source: Option<Source>,
    /// What is wrong.
    pub(crate) message: String,
    /// The setting that was probably meant.
    pub(crate) nearest: Option<String>,
}

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Source {
    /// A line of a file.
    File {
        /// Which.
        #[serde(rename = "file")]
        path: PathBuf,
        /// From 1, where it is known.
        line: Option<usize>,
    },
    /// This variable.
    Variable {
        /// Its name.
        variable: String,
    },
    /// This flag.
    Flag {
        /// With its dashes.
        flag: String,
    },
}

impl Errors {
    /// Whether all of it was typed on the command line: wrong usage, then, and no wrong configuration.
    pub(crate) fn is_usage(&self) -> bool {
        self.0
            .iter()
            .all(|problem| matches!(problem.source, Some(Source::Flag { .. })))
    }

    /// What figment could not make a value of.
    pub(super) fn from_figment(error: figment::Error, file: Option<&File>) -> Errors {
        Errors(error.into_iter().map(|error| problem(&error, file)).collect())
    }

    /// What is wrong beyond types: each with the path of its setting.
    pub(super) fn located(
        problems: Vec<(Vec<String>, String)>,
        file: Option<&File>,
        figment: &Figment,
    ) -> Errors {
        let located = |(path, message): (Vec<String>, String)| {
            let metadata = figment
                .find_metadata(&path[..path.len().min(2)].join("."))
                .or_else(|| figment.find_metadata(&path[0]));
            Problem {
                key: path.join("."),
                source: metadata.map(|metadata| source(metadata, &path, file)),
                message,
                nearest: None,
            }
        };
        Errors(problems.into_iter().map(located).collect())
    }
}

fn problem(error: &figment::Error, file: Option<&File>) -> Problem {
    let message = match &error.kind {
        Kind::UnknownVariant(found, expected) => format!("{found:?} is none of {}", expected.join(", ")),
        Kind::InvalidType(found, expected) if expected.starts_with("struct ") => {
            format!("found {found}, must be a table")
        }
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            format!("found {found}, must be {expected}")
        }
        Kind::MissingField(field) => format!("{field} is missing"),
        kind => kind.to_string(),
    };
    let nearest = match &error.kind {
        Kind::UnknownVariant(found, expected) => keys::nearest(found, expected.iter().copied()),
        _ => None,
    };
    let source = error
        .metadata
        .as_ref()
        .map(|metadata| source(metadata, &error.path, file));
    Problem {
        key: error.path.join("."),
        source,
        message,
        nearest: nearest.map(str::to_owned),
    }
}

fn source(metadata: &figment::Metadata, path: &[String], file: Option<&File>) -> Source {
    match (metadata.name.as_ref(), file) {
        ("environment", _) => Source::Variable {
            variable: metadata.interpolate(&figment::Profile::Default, path),
        },
        ("command line", _) | (_, None) => Source::Flag {
            flag: metadata.interpolate(&figment::Profile::Default, path),
        },
        (_, Some(file)) => Source::File {
            path: file.path().to_owned(),
            line: file.line_of(path),
        },
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(Source::File {
                path,
                line: Some(line),
            }) => write!(f, "{}:{line}: ", path.display())?,
            Some(Source::File { path, line: None }) => write!(f, "{}: ", path.display())?,
            Some(Source::Variable { variable: name } | Source::Flag { flag: name }) => write!(f, "{name}: ")?,
            None => {}
        }
        match (&self.source, self.key.as_str()) {
            (Some(Source::File { .. }) | None, key) if !key.is_empty() => write!(f, "{key}: ")?,
            _ => {}
        }
        f.write_str(&self.message)?;
        match &self.nearest {
            Some(nearest) => write!(f, "; did you mean {nearest}?"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n       ")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}
