//! Transcripts: what clients and topic servers say, and what the gateway says to whom.

mod binary;
mod deliveries;
mod errors;
mod joins;
mod moves;
mod owner;
mod pacing;
mod publish_ids;
mod publishes;
mod retire;
mod storm;
mod targets;
mod world;

use super::*;
use crate::table::{server, table_of};
use world::{JOIN, PUBLISH, World, joined_world, publication, table};
