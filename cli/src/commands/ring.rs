//! `ringcast ring ...`: who owns what, and how that is changed.

mod abort;
mod commit;
mod history;
mod owner;
mod plan;
mod status;
mod watch;

use clap::{Args, Subcommand};
use ringcast_proto::Topic;

use crate::args;

pub(crate) use abort::abort;
pub(crate) use commit::commit;
pub(crate) use history::history;
pub(crate) use owner::owner;
pub(crate) use plan::plan;
pub(crate) use status::status;
pub(crate) use watch::watch;

#[derive(Debug, Subcommand)]
pub(crate) enum RingCommand {
    /// Version, slots, and every node's share
    Status,
    /// The slot and the owner of a topic
    Owner {
        /// The topic
        #[arg(value_parser = args::topic)]
        topic: Topic,
    },
    /// Show what a change would move, and keep it as a plan; nothing moves until it is committed
    ///
    /// Without a wish: bring every node within its bound again.
    Plan(PlanArgs),
    /// Carry out a plan, and wait until it is done
    ///
    /// Refused when the ring has changed since it was planned: what is committed is what was shown. Waits for a plan
    /// that is running. Ctrl-C ends the waiting, not the plan.
    Commit {
        /// The plan's name, as `ringcast ring plan` printed it
        plan: String,
        /// Return as soon as it is committed; refused while another plan is running
        #[arg(long)]
        no_wait: bool,
    },
    /// Take back the running plan: what has moved goes home, what has not stays
    Abort {
        /// Return as soon as it is taken back
        #[arg(long)]
        no_wait: bool,
    },
    /// Watch the running plan until it is over
    ///
    /// A live table on a terminal, else a line a second; with -o json one object a line, as it changes.
    Watch {
        /// Go on when no plan is running, until Ctrl-C
        #[arg(long)]
        follow: bool,
    },
    /// Every version of the ring: which plan made it, who committed it, and what became of it
    History,
}

/// What is wished for. All of it becomes one plan.
#[derive(Debug, Default, Args)]
pub(crate) struct PlanArgs {
    /// Let a topic server own its share: one that is joining, or draining
    #[arg(long, value_name = "ID")]
    pub(crate) add: Vec<String>,
    /// Let a topic server own nothing; it stays in the ring
    #[arg(long, value_name = "ID")]
    pub(crate) drain: Vec<String>,
    /// Move everything away from a topic server, then take it out of the ring
    #[arg(long, value_name = "ID")]
    pub(crate) remove: Vec<String>,
    /// Remove nodes although they are down: what they alone hold is lost
    #[arg(long, requires = "remove")]
    pub(crate) dead: bool,
    /// Change a share: weight / total weight of all slots; 1 is ordinary, 0 owns nothing, 100 the most
    #[arg(long, value_name = "ID=W")]
    pub(crate) weight: Vec<String>,
    /// Keep a topic's slot, and all topics in it, on a node
    #[arg(long, value_name = "TOPIC=ID")]
    pub(crate) pin: Vec<String>,
    /// Let a topic's slot be where the ring has it
    #[arg(long, value_name = "TOPIC")]
    pub(crate) unpin: Vec<String>,
    /// List every slot that moves
    #[arg(long)]
    pub(crate) slots: bool,
}
