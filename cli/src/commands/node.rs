//! `ringcast node ...`: the nodes, and shortcuts for a plan and its commit.

mod change;
mod ls;

use clap::Subcommand;

pub(crate) use change::{Change, change};
pub(crate) use ls::ls;

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Every node of the cluster
    Ls,
    /// Let a topic server own its share: one that is joining, or draining
    Add {
        /// The node
        id: String,
        /// Its share is weight / total weight of all slots [default: 1, or what it had]
        #[arg(long, value_name = "W", allow_negative_numbers = true)]
        weight: Option<String>,
        /// Return as soon as it is committed; refused while a plan is running
        #[arg(long)]
        no_wait: bool,
    },
    /// Move everything away from a topic server; it stays in the ring as draining, and `node add` takes it back
    Drain {
        /// The node
        id: String,
        /// Return as soon as it is committed; refused while a plan is running
        #[arg(long)]
        no_wait: bool,
    },
    /// Move everything away from a topic server, then take it out of the ring
    Remove {
        /// The node
        id: String,
        /// Although it is down: what it alone holds is lost. Says what that is, and asks
        #[arg(long)]
        dead: bool,
        /// Do not ask
        #[arg(long, requires = "dead")]
        yes: bool,
        /// Return as soon as it is committed; refused while a plan is running
        #[arg(long)]
        no_wait: bool,
    },
    /// Change the share of a topic server
    Weight {
        /// The node
        id: String,
        /// 1 is ordinary, 0 owns nothing, 100 the most
        #[arg(value_name = "W", allow_negative_numbers = true)]
        weight: String,
        /// Return as soon as it is committed; refused while a plan is running
        #[arg(long)]
        no_wait: bool,
    },
}
