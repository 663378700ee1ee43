//! Settings from the command line.

use figment::value::{Dict, Map, Value};
use figment::{Error, Metadata, Profile, Provider};
use serde::Serialize;

use super::environment::insert;
use super::keys;

/// The flags that were given.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags {
    values: Vec<(String, Value)>,
}

impl Flags {
    /// None was given.
    pub(crate) fn none() -> Flags {
        Flags::default()
    }

    /// And those of `args`, whose absent options are `None`.
    pub(crate) fn and(mut self, args: &impl Serialize) -> Flags {
        let value =
            Value::serialize(args).expect("arguments are a struct of options of text, numbers and paths");
        let given = value.into_dict().unwrap_or_default();
        self.values.extend(
            given
                .into_iter()
                .filter(|(_, value)| !matches!(value, Value::Empty(..))),
        );
        self
    }
}

impl Provider for Flags {
    fn metadata(&self) -> Metadata {
        Metadata::named("command line")
            .interpolater(|_: &Profile, keys: &[&str]| format!("--{}", keys.join("-").replace('_', "-")))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        let mut dict = Dict::new();
        for (name, value) in &self.values {
            insert(&mut dict, &keys::path_of(name), value.clone());
        }
        Ok(Profile::Default.collect(dict))
    }
}
