//! Shared configuration: values under paths, who may do what to them, secrets, and what was.
//!
//! # What this is for
//!
//! Several machines and programs share settings (`/shop/prod/db/url`). A value has a kind and a revision, who set it, when and why;
//! any place can be compared with, and set back to, what it was. Rights are asked for here and nowhere else, so they hold for
//! every backend; secrets are sealed here, so that no backend ever has one in clear.
//!
//! ```text
//!  /v1/config, upkeep config ── Asker, Change ──▶ shared::Config ── Txn, Range ──▶ dyn Kv ──▶ a file, or etcd
//!                                                  │  rights   may they?
//!                                                  │  rules    for whom is it sealed?
//!                                                  │  seal     secrets
//!                                                  └─ record   value, who, when, why
//! ```
//!
//! # What it refuses to do
//!
//! It knows no HTTP, no users and no roles: who asks comes as an [`rights::Asker`]. It keeps no clock.
//!
//! Start reading at [`shared`], then [`path`] and [`entry`].

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod entry;
pub mod error;
mod fit;
pub mod forms;
mod group;
mod head;
pub mod loader;
pub mod machines;
pub mod migrate;
pub mod proposals;
mod record;
pub mod rights;
pub mod rules;
pub mod seal;
pub mod shared;
pub mod snapshot;
pub mod value;
pub mod watch;

pub use upkeep_model::place as path;

pub use self::{
    error::ConfigError,
    fit::{Blocking, Job},
    path::Path,
    path::Place,
    shared::Config,
};
