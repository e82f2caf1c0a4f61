//! Many machines, one plan each.
//!
//! # What this is for
//!
//! Ansible's inventories, playbooks and roles, unchanged, and our own nodes and tasks: read, resolve the variables of
//! each host, render templates, make a plan per host, run it over ssh, report. The transport is the system's
//! OpenSSH; on the other side the same binary runs as `upkeep remote`.
//!
//! # What it refuses to do
//!
//! It changes nothing itself: a plan is data, and [`upkeep_host`]'s resources apply it. It keeps no state between
//! runs and asks for secrets through a `Lookup` that its caller provides.
//!
//! # What is here today
//!
//! [`pattern`]: which hosts a play or a command line means (`web*:!web3:&blue`), the first thing that every later part
//! needs. Inventory, variables, templates and runs come with their issues.

#![forbid(unsafe_code)]

pub mod pattern;
