//! The decisions: given now and an event, what next and why.
//!
//! This crate never reads a clock, never does I/O, never throws dice and knows no runtime. It can therefore be
//! tested by files anyone can read (`tests/cases/*.txt`) and by a simulation that throws the dice for it
//! (`tests/sim.rs`), and the daemon that carries the effects out contains no policy.
//!
//! # Theory of operation
//!
//! **Who decides.** Every instance of an app is one [`instance::Instance`]. It is changed in one way only:
//! [`Instance::step`](instance::Instance::step) takes the policy, the time and one [`event::Event`], and returns
//! [`effect::Effect`]s for the daemon to carry out in their order. Whatever comes of them comes back as an event.
//! Between two steps nothing happens.
//!
//! **Two variables.** What *is* ([`Actual`](upkeep_model::state::Actual)) and what is *wanted*
//! ([`Desired`](upkeep_model::state::Desired)) are kept apart. An order changes what is wanted at once; what is
//! follows as soon as it can. So "stop" during a restart needs no special case: the process is on its way out
//! already, and when it has ended, nobody wants it any more.
//!
//! **Layers.** [`instance`] holds the states and the table of transitions; [`restart`] judges an exit
//! (again, how soon, or no more); [`order`] judges between apps (who may start now, who stops first). Beside the
//! instance stand [`health`], which judges what checks and the process itself say, and [`schedule`], which decides
//! when an app is run by the clock.
//!
//! **A verdict carries its reason.** Every state has a sentence for people. It travels unchanged to `upkeep why`,
//! to the event log and to the API.
//!
//! **Crash of the daemon.** An instance is serialisable. The daemon gives the keeper the new snapshot *before* it
//! carries out the effects of the step, over the same ordered stream; hence a snapshot is never older than what
//! was asked of the keeper, at most newer. [`Instance::recover`](instance::Instance::recover) compares a
//! snapshot with what the keeper really holds and carries on from there. A snapshot is good within one boot of
//! the machine (its times are CLOCK_MONOTONIC); after a reboot the daemon makes a new instance and orders a start
//! if the old one was wanted up.
//!
//! **What is deliberately not here.** How a check is carried out, how a tree of processes is found, which
//! files a log goes to, what a dependency is made of: the daemon turns those into events.
//!
//! Where to start reading: the top of [`instance`], then one file in `tests/cases`.

#![forbid(unsafe_code)]

pub mod alert;
pub mod effect;
pub mod event;
pub mod health;
pub mod instance;
pub mod leak;
pub mod order;
pub mod pm2;
pub mod restart;
pub mod rollout;
pub mod schedule;
pub mod words;
