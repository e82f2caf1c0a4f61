//! The daemon: who runs when, and who talks to whom.
//!
//! # What this is for
//!
//! It assembles the parts: the keeper's link, the machines of `supervise` in one actor per app, the log pump, the
//! event log in the store, and `/v1` over HTTP. It parents nothing and holds nothing that cannot be lost: kill it at
//! any instant and the keeper starts another, which reads the store and the keeper's table and carries on.
//!
//! # What it refuses to do
//!
//! No policy is decided here (that is `supervise`), no fd is kept that an application depends on (that is `keeper`).
//! It starts no processes but readiness checks. It is crash-only: a panic aborts, and the way back is the same as
//! after an upgrade.
//!
//! # Threads and tasks
//!
//! | thread | runs | fed by | emits |
//! |---|---|---|---|
//! | main | supervision runtime (current-thread, `LocalSet`) | | |
//! | · `keeper link` task | [`keeper_link::KeeperLink::next`] | the keeper's socket | mail to actors, control messages |
//! | · `app` task, one each | [`apps::actor::Actor`] | its mailbox, timers, changes of others | requests to the keeper, status, events |
//! | · `command` tasks | [`apps::director::Director::execute`] | HTTP | store transactions, mail, the answer |
//! | · `exits` task | passes on which exits are durable, tries again the others | the store's writer | requests to the keeper |
//! | · `node …` tasks | [`node`]: a channel of each Node process, accepting in turns, queries | sockets | mail to actors |
//! | · `probe` tasks | readiness checks | time | mail to their actor |
//! | `log-sinks` | hands log lines to journals and syslogs; tells of logs that cannot be written | the log files | events |
//! | `otlp`, while it is set | [`otlp`]: pushes figures and log lines; a runtime of its own | newest figures, the log files, settings | requests, events |
//! | `http` | HTTP runtime (current-thread) | the unix socket | commands, answers, streams |
//! | · `tcp`, `connection` tasks | [`http::tcp`]: listeners over TCP and their connections (a `LocalSet`) | TCP, settings | the same |
//! | · `certificates` task | [`certs::Certificates::keep`]: the listener's certificate, once a minute | the clock, files, settings | another certificate |
//! | · [`config`]'s futures | the store that the settings name is opened, announced to, looked after | settings, etcd | the store in use, events |
//! | `http` blocking pool | reading log files | | lines |
//! | `alerts` | [`alerts`]: who is told of what; a runtime of its own | events, levels, settings | messages |
//! | `crashes` | [`crashes`]: a dossier of each abnormal exit | the event log | files |
//! | `log-pump` | [`logs::pump`] | log pipes | log files |
//! | `log-janitor`, `log-packer` | [`logs::janitor`] | rotated files | fewer and smaller ones |
//! | `metrics` | [`metrics::sampler`]: looks at every process once a second | `/proc`, cgroups | newest figures, rows |
//! | `metrics-writer` | [`metrics::write`] | rows | `metrics.redb` |
//! | `config-writer`, `config-reader` (two), once [`config`] was asked for | [`upkeep_store::kv::embedded`] | transactions, readings | commits, answers, watches |
//! | `config-apps`, once an app has `config` | [`supply`]: a task for each such app; a runtime of its own | watches, readings, records | files, sealed caches, editions for the director |
//! | `store-writer` | [`upkeep_store::embedded`] | transactions | commits |
//!
//! The API cannot starve supervision: they share no thread, and what they share in memory is locked for the time of a
//! look.
//!
//! Start reading at [`run`], then [`apps`] and [`logs`].

#![forbid(unsafe_code)]

mod access;
mod alerts;
mod apps;
mod cage;
mod certs;
mod command;
mod config;
mod crashes;
mod events;
mod http;
mod inspect;
mod keeper_link;
mod logs;
mod main_loop;
mod metrics;
mod node;
mod otlp;
mod pm2;
mod recovery;
mod settings;
mod supply;
mod tasks;
mod web;

pub use main_loop::{DaemonError, DaemonSettings, run};
