//! Files from templates and configuration.
//!
//! ```text
//!  values of a place ── template ──▶ text ── diff ──▶ what would change (secrets masked)
//!                                      │
//!        pace: when                    ▼
//!  changes ───────────▶ apply: temporary file ─ check ─ rename ─ action ─ health ──▶ settled
//!                                                  │                        │
//!                                                  ▼                        ▼
//!                                              old file stays        old file comes back
//! ```
//!
//! A file is written whole or not at all, and never blank: a key that is missing, a store that does not answer, a template that
//! makes nothing is an error that leaves the file as it is. Pure: [`values`], [`template`], [`diff`], [`pace`]. With I/O, and
//! blocking: [`file`], [`command`], [`apply`], [`set`], [`follow`].
//!
//! # What it refuses to do
//!
//! It reads no configuration itself and knows no rights: it gets the values that somebody was allowed to read.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod apply;
pub mod command;
pub mod diff;
pub mod file;
pub mod follow;
pub mod pace;
pub mod set;
pub mod template;
pub mod values;
mod way;

pub use self::{
    apply::{Applied, Job, apply},
    template::{Rendered, render},
    values::Values,
};
