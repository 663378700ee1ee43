//! Transcripts: what clients and topic servers say, and what the gateway says to whom.

mod deliveries;
mod joins;
mod moves;
mod pacing;
mod publishes;
mod retire;
mod world;

use super::*;
use crate::table::{server, table_of};
use world::{JOIN, PUBLISH, World, joined_world, publication, table};
