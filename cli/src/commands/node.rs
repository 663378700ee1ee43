//! `ringcast node ...`: the nodes, and shortcuts for a plan and its commit.

mod ls;

use clap::Subcommand;

pub(crate) use ls::ls;

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Every node of the cluster
    Ls,
}
