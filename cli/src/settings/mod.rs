//! The settings of a process: flags over environment variables over the configuration file.
//!
//! It promises that a wrong value is reported with where it came from, and an unknown key with the nearest known one.
//! *Invariant:* past [`load`] every value is valid.
//! Leaves out: the defaults of a role (`roles`), which differ from role to role.

mod environment;
mod error;
mod file;
mod flags;
mod keys;
mod limits;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::Figment;
use ringcast_proto::NodeId;
use serde::{Deserialize, Serialize};

pub(crate) use environment::{ENV_PREFIX, Environment};
pub(crate) use error::{Errors, Problem};
pub(crate) use file::File;
pub(crate) use flags::Flags;

use crate::args::{LimitsProfile, LogFormat, OutputFormat};

/// Everything that can be set, as far as it is set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) store: Option<String>,
    pub(crate) output: Option<OutputFormat>,
    pub(crate) log: Option<String>,
    pub(crate) log_format: Option<LogFormat>,
    pub(crate) id: Option<NodeId>,
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) rpc_listen: Option<SocketAddr>,
    pub(crate) admin_listen: Option<SocketAddr>,
    pub(crate) store_listen: Option<SocketAddr>,
    pub(crate) advertise: Option<String>,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) expect_topic_servers: Option<u16>,
    pub(crate) slots: Option<u16>,
    pub(crate) replicas: Option<u8>,
    pub(crate) drain_deadline: Option<u16>,
    pub(crate) history_memory: Option<u64>,
    pub(crate) threads: Option<u16>,
    pub(crate) gateways: Option<u16>,
    pub(crate) topic_servers: Option<u16>,
    pub(crate) limits: Limits,
    pub(crate) history: History,
    pub(crate) origin: Origin,
    pub(crate) channel: Vec<Channel>,
}

/// `[limits]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// Which set of limits holds.
    pub(crate) profile: Option<LimitsProfile>,
}

/// `[history]`: what a topic keeps to resume from, unless its `[[channel]]` says otherwise, and the ids of publishes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct History {
    /// Publications.
    pub(crate) len: Option<u32>,
    /// Their bytes.
    pub(crate) bytes: Option<u64>,
    /// Seconds.
    pub(crate) age: Option<u32>,
    /// Ids of clients' publishes a topic remembers.
    pub(crate) ids: Option<u32>,
    /// For how many seconds.
    pub(crate) ids_age: Option<u32>,
}

/// `[origin]`: which pages a browser may connect from. Other clients send no `Origin` and are not checked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Origin {
    /// How it is checked.
    pub(crate) check: Option<OriginCheck>,
    /// `scheme://host:port`, `//host` or `//*.host`; a part left out matches anything.
    pub(crate) allow: Vec<String>,
}

/// How the `Origin` of a handshake is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OriginCheck {
    /// Scheme, host and port of the request itself.
    Conn,
    /// One of `allow`.
    Allow,
    /// Not at all.
    Any,
}

/// `[[channel]]`: a family of topics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Channel {
    /// `room:*` matches a prefix, anything else itself.
    pub(crate) pattern: String,
    /// What becomes of an event that a client pushes.
    #[serde(default)]
    pub(crate) client_events: ClientEvents,
    /// Whether a join may ask for positions.
    #[serde(default = "yes")]
    pub(crate) resume: bool,
    /// What becomes of a client with positions that reads too slowly.
    #[serde(default)]
    pub(crate) slow_consumer: Option<SlowConsumer>,
    /// Whom clients may publish to.
    #[serde(default = "all_and_others")]
    pub(crate) targets: Vec<Target>,
    /// Events that take no offset and are not kept.
    #[serde(default)]
    pub(crate) ephemeral: Vec<String>,
    /// Publications a topic keeps to resume from.
    #[serde(default)]
    pub(crate) history_len: Option<u32>,
    /// Their bytes.
    #[serde(default)]
    pub(crate) history_bytes: Option<u64>,
    /// For how many seconds.
    #[serde(default)]
    pub(crate) history_age: Option<u32>,
}

/// What becomes of an event that a client pushes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClientEvents {
    /// Every member receives it, the sender too.
    #[default]
    All,
    /// Every member but the sender receives it.
    Others,
    /// It is refused: only the server publishes.
    Refuse,
}

/// What becomes of a client with positions that reads too slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SlowConsumer {
    /// It loses the oldest publications and is told by a gap.
    Gap,
    /// It keeps the newest alone, behind a gap.
    Latest,
    /// It is closed with 4008.
    Close,
}

/// Whom a client may publish to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Target {
    /// Every member, the sender too.
    All,
    /// Every member but the sender.
    Others,
    /// Any one member.
    One,
    /// Members by their names.
    Members,
}

impl Channel {
    /// One that says nothing but its pattern.
    #[cfg(test)]
    pub(crate) fn of(pattern: &str) -> Channel {
        Channel {
            pattern: pattern.to_owned(),
            client_events: ClientEvents::default(),
            resume: yes(),
            slow_consumer: None,
            targets: all_and_others(),
            ephemeral: Vec::new(),
            history_len: None,
            history_bytes: None,
            history_age: None,
        }
    }
}

fn yes() -> bool {
    true
}

fn all_and_others() -> Vec<Target> {
    vec![Target::All, Target::Others]
}

/// What a process was told, all sources met.
///
/// # Errors
/// Everything that is wrong, each with its source.
pub(crate) fn load(
    config: Option<&Path>,
    environment: Environment,
    flags: Flags,
) -> Result<Settings, Errors> {
    let file = config.map(File::read).transpose()?;
    let mut figment = Figment::new();
    if let Some(file) = &file {
        file.check_keys()?;
        figment = figment.merge(file.provider());
    }
    figment = figment.merge(environment).merge(flags);
    let settings: Settings = figment
        .extract()
        .map_err(|error| Errors::from_figment(error, file.as_ref()))?;
    limits::check(&settings).map_err(|problems| Errors::located(problems, file.as_ref(), &figment))?;
    Ok(settings)
}

/// What this file alone sets.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn load_file(path: &Path) -> Result<Settings, Errors> {
    load(Some(path), Environment::none(), Flags::none())
}

#[cfg(test)]
mod tests;
