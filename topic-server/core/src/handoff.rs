//! A slot changes hands while it serves: its owner gives it away page by page, the next owner takes it in.
//!
//! The target asks for pages (`take`), and asking for one says that all before it are applied. The owner (`give`) hands
//! out the topics in the order of their names and, in their place between them, what happened to those already handed
//! out; once little is left it seals the slot, hands out the rest, and when the target asks for what comes after the last
//! page, it wants the one write made that changes the owner.
//!
//! *Invariant:* that write is wanted only after the target has applied everything that was ever appended, and from the
//! seal until its outcome is known nothing is. Whatever goes wrong before costs a copy and never a publication.
//! Leaves out: which slot goes where and when (the planner), calls and writes (the shell).

mod give;
mod piece;
mod take;

pub(crate) use give::Giving;
pub(crate) use piece::Piece;
pub(crate) use take::{Learning, Takeover, is_learner};
