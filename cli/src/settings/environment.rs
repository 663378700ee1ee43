//! Settings from `RINGCAST_*` variables.
//!
//! A variable that is no setting is not an error, because not all of them are ours: a Kubernetes service named
//! `ringcast` makes `RINGCAST_PORT` and more for every pod. One that looks like a slip is warned about.

use figment::value::{Dict, Map, Value};
use figment::{Error, Metadata, Profile, Provider};

use super::keys;

/// What every variable begins with.
pub(crate) const ENV_PREFIX: &str = "RINGCAST_";

/// The variables of a process that begin with [`ENV_PREFIX`], without it and in lower case.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    variables: Vec<(String, String)>,
}

impl Environment {
    /// Nothing is set.
    pub(crate) fn none() -> Environment {
        Environment::default()
    }

    /// Keeps those of `variables` that are ours. An empty one counts as not set, as compose files write it.
    pub(crate) fn of(variables: impl IntoIterator<Item = (String, String)>) -> Environment {
        let variables = variables
            .into_iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(ENV_PREFIX)?.to_lowercase(), value)))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        Environment { variables }
    }

    /// The process's own. One that is no Unicode is none of ours.
    pub(crate) fn of_process() -> Environment {
        Environment::of(
            std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )
    }

    /// The configuration file it names.
    pub(crate) fn config(&self) -> Option<&str> {
        self.variables
            .iter()
            .find(|(name, _)| name == "config")
            .map(|(_, value)| value.as_str())
    }

    /// Variables that are no setting but within two edits of one, each with that one.
    pub(crate) fn slips(&self) -> Vec<(String, String)> {
        let variable = |name: &str| format!("{ENV_PREFIX}{}", name.to_uppercase());
        let slip = |name: &str| {
            let near = keys::nearest(name, settings())?;
            (keys::edits(name, near) <= 2).then(|| (variable(name), variable(near)))
        };
        let known = |name: &str| name == "config" || settings().any(|setting| setting == name);
        self.variables
            .iter()
            .filter(|(name, _)| !known(name))
            .filter_map(|(name, _)| slip(name))
            .collect()
    }
}

/// The settings a variable can set: all but the tables, and the profile of the limits.
pub(super) fn settings() -> impl Iterator<Item = &'static str> {
    let tables = ["limits", "history", "origin", "channel"];
    keys::TOP
        .iter()
        .copied()
        .filter(move |key| !tables.contains(key))
        .chain(["limits_profile"])
}

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        Metadata::named("environment").interpolater(|_: &Profile, keys: &[&str]| {
            format!("{ENV_PREFIX}{}", keys.join("_").to_uppercase())
        })
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        let mut dict = Dict::new();
        for (name, value) in &self.variables {
            if !settings().any(|setting| setting == name) {
                continue;
            }
            let number = keys::NUMBERS
                .contains(&name.as_str())
                .then(|| value.parse::<u64>().ok())
                .flatten();
            let value = number.map_or_else(|| Value::from(value.clone()), Value::from);
            insert(&mut dict, &keys::path_of(name), value);
        }
        Ok(Profile::Default.collect(dict))
    }
}

/// Puts `value` at `path`, making the tables on the way.
pub(super) fn insert(dict: &mut Dict, path: &[&str], value: Value) {
    match path {
        [] => {}
        [key] => {
            dict.insert((*key).to_owned(), value);
        }
        [table, rest @ ..] => {
            let mut inner = Dict::new();
            insert(&mut inner, rest, value);
            dict.insert((*table).to_owned(), Value::from(inner));
        }
    }
}
