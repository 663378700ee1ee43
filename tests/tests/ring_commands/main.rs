//! The ring as an operator changes it: plans that show and move nothing, commits that move what was shown, two operators
//! at once, aborts, nodes that come, drain and go, and every bad input.

mod nodes;
mod operators;
mod plans;
mod support;
