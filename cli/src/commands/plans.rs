//! What every command that changes the ring shares: wishes, plans, commits, and waiting for their end.
//!
//! *Invariant:* what is committed is the plan that was stored and shown; a conflict in the store is decided anew from
//! what the store then holds, and never overwritten.
//! Leaves out: what a plan moves and whether it may be committed (`ringcast-ring`), and moving (the topic servers).

mod bar;
#[cfg(test)]
pub(crate) mod fixture;
mod follow;
mod loads;
mod name;
mod operator;
mod outcome;
mod pins;
mod show;
mod wait;
mod wish;

pub(crate) use follow::{Follow, Next};
pub(crate) use loads::loads;
pub(crate) use name::{fresh, who};
pub(crate) use operator::{Operator, TRIES_MAX};
pub(crate) use show::{brief, json, show};
pub(crate) use wish::{Asked, node_id, weight};
