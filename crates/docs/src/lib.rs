//! Documentation of HTTP APIs: Markdown pages, one for each call, to one static page; and checks against the API itself.
//!
//! A page lies beside the code it tells of: a Markdown file with front matter, as Carte had them. Start reading at
//! [`site`] (which files are pages, in which order), then [`page`] (what is in one), then [`html`] (what becomes of them).
//!
//! ```text
//!  folder ── site ──▶ Page … ── page::markdown ──▶ Body … ── html ──▶ index.html ── write, serve
//!                       │                            │
//!                       └────────── check ◀──────────┘
//!                                     ▲
//!  OpenAPI file ── api::document ──▶ Operation … ── import ──▶ pages
//! ```
//!
//! # What it refuses to do
//!
//! It starts no daemon and talks to none. It asks nobody on the network: references to other files in an OpenAPI file are
//! an error, pictures that lie elsewhere too. It never overwrites what a person wrote ([`import`] says how it tells).

#![forbid(unsafe_code)]

pub mod api;
pub mod check;
mod encode;
pub mod html;
pub mod import;
pub mod own;
pub mod page;
pub mod samples;
pub mod search;
pub mod serve;
pub mod site;
pub mod skeleton;
pub mod trouble;
pub mod write;

pub use encode::short_digest;
