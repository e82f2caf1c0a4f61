//! Arguments of `config`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use upkeep_api::config::{FormName, Recipient, ValueKind};
use upkeep_model::{
    access::{Pattern, Verbs},
    place::{Path, Place},
    size::Span,
};

use super::render::ConfigRender;

use super::{ConfigMigrate, MachineVerb};

fn path(text: &str) -> Result<Path, String> {
    text.parse::<Path>().map_err(|error| error.to_string())
}

pub(super) fn place(text: &str) -> Result<Place, String> {
    text.parse::<Place>().map_err(|error| error.to_string())
}

/// A place that holds several.
pub(super) fn places(text: &str) -> Result<Place, String> {
    let place = place(text)?;
    if place.is_many() {
        return Ok(place);
    }
    Err(format!(
        "it is one value; the place of all below it is `{place}/`"
    ))
}

fn kind(text: &str) -> Result<ValueKind, String> {
    serde_json::from_value(text.into()).map_err(|_| "there are text, number, json, yaml, file".to_owned())
}

fn form(text: &str) -> Result<FormName, String> {
    let name = match text {
        "env" => "dotenv",
        "yml" => "yaml",
        name => name,
    };
    serde_json::from_value(name.into()).map_err(|_| "there are dotenv, json, yaml, properties".to_owned())
}

/// `read` means `config:read`.
fn config_verb(text: &str) -> Result<Verbs, String> {
    let whole = if text.contains(':') {
        text.to_owned()
    } else {
        format!("config:{text}")
    };
    if !whole.starts_with("config:") {
        return Err("rights to places begin with `config:`".to_owned());
    }
    crate::commands::verbs(&whole)
}

fn recipient(text: &str) -> Result<Recipient, String> {
    match text.split_once('=') {
        Some((name, key)) if !name.is_empty() && key.len() == 64 => Ok(Recipient {
            name: name.to_owned(),
            key: key.to_owned(),
        }),
        None if text.starts_with("machine:") => Ok(Recipient {
            name: text.to_owned(),
            key: String::new(),
        }),
        _ => Err(
            "write NAME=KEY, or `machine:NAME` of one that has announced itself; the key has 64 hexadecimal digits: `upkeep \
             config status` shows a machine's"
                .to_owned(),
        ),
    }
}

/// Verbs of the shared configuration.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Print a value
    Get {
        /// Where: `/shop/prod/db/url`
        #[arg(value_name = "PATH", value_parser = path)]
        path: Path,
        /// A secret in clear
        #[arg(long)]
        reveal: bool,
    },
    /// Set a value
    Set(ConfigSet),
    /// Delete values
    Rm {
        /// One value (`/shop/db`), or all of a place (`/shop/`). Several are deleted together or not at all
        #[arg(value_name = "PLACE", required = true, value_parser = place)]
        places: Vec<Place>,
        /// Only if it is at this revision; for one value
        #[arg(long, value_name = "REVISION")]
        revision: Option<u64>,
    },
    /// List values, with their revisions; secrets are masked
    Ls {
        /// Only of this place
        #[arg(value_name = "PLACE", default_value = "/", value_parser = place)]
        place: Place,
    },
    /// Show values as a tree; secrets are masked
    Tree {
        /// Only of this place
        #[arg(value_name = "PLACE", default_value = "/", value_parser = place)]
        place: Place,
    },
    /// Print every change as it comes; goes on where it was when the daemon is replaced
    Watch {
        /// Only of this place
        #[arg(value_name = "PLACE", default_value = "/", value_parser = place)]
        place: Place,
        /// From this revision on, instead of from now
        #[arg(long, value_name = "REVISION")]
        from: Option<u64>,
    },
    /// Show who changed what, when and why, the newest first
    History {
        /// Only of this place
        #[arg(value_name = "PLACE", default_value = "/", value_parser = place)]
        place: Place,
        /// How many
        #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=1000))]
        lines: u16,
        #[command(flatten)]
        keep: ConfigKeep,
    },
    /// Show what differs between two revisions
    Diff {
        /// Of this place
        #[arg(value_name = "PLACE", value_parser = place)]
        place: Place,
        /// The one
        #[arg(value_name = "FROM")]
        from: u64,
        /// The other; now, if it is not given
        #[arg(value_name = "TO")]
        to: Option<u64>,
    },
    /// Set a place back to what it was at a revision
    Rollback {
        /// Which
        #[arg(value_name = "PLACE", value_parser = place)]
        place: Place,
        /// The revision
        #[arg(value_name = "REVISION")]
        to: u64,
    },
    /// Change a value in an editor (`$VISUAL`, `$EDITOR`, vi)
    Edit {
        /// Where
        #[arg(value_name = "PATH", value_parser = path)]
        path: Path,
        /// Let a secret be edited in clear
        #[arg(long)]
        reveal: bool,
        /// Seal it, if it is new
        #[arg(long)]
        secret: bool,
    },
    /// Show or say for whom secrets are sealed
    Recipients(ConfigRecipients),
    /// Make a file from a template (Jinja2's syntax) and values, for a program that Upkeep does not run
    Render(ConfigRender),
    /// Show how the store is doing, and this machine's public key
    Status,
    /// Take values from a ZooKeeper ensemble, or keep a copy of a place there
    #[command(subcommand, name = "zookeeper")]
    ZooKeeper(ZooKeeperVerb),
    /// Machines that share the configuration, and what etcd lets each of them use
    #[command(subcommand)]
    Machine(MachineVerb),
    /// Move everything to another store, while it is in use
    Migrate(ConfigMigrate),
    /// Schemas that the values of a place have to fit
    #[command(subcommand)]
    Schema(ConfigSchema),
    /// Say how many others have to approve changes of a place
    Protect {
        /// Which
        #[arg(value_name = "PLACE", value_parser = place)]
        place: Place,
        /// So many; 0: none
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=9))]
        approvals: u8,
    },
    /// List changes that wait for others
    Proposals,
    /// Approve a change of somebody else; it is carried out once so many have
    Approve {
        /// Which, as `upkeep config proposals` shows it
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Take a change away that waits: one's own, or somebody else's
    Refuse {
        /// Which, as `upkeep config proposals` shows it
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Set the values of a file, all or nothing
    Import(ConfigImport),
    /// Write the values of a place as a file, to standard output
    Export {
        /// Which
        #[arg(value_name = "PLACE", value_parser = place)]
        place: Place,
        /// How: dotenv, json, yaml, properties
        #[arg(long, value_name = "FORM", value_parser = form)]
        form: FormName,
        /// Secrets in clear; else they are named and left out
        #[arg(long)]
        reveal: bool,
    },
    /// Tell where values come from, and what they overrule
    Explain {
        /// `db/url`, or `db` for all below it
        #[arg(value_name = "KEY", default_value = "")]
        key: String,
        /// A file below the shared configuration; of several, what comes later wins. Can be repeated
        #[arg(long = "file", value_name = "FILE", required_unless_present = "place")]
        files: Vec<PathBuf>,
        /// This place of the shared configuration, on top
        #[arg(long, value_name = "PLACE", value_parser = place)]
        place: Option<Place>,
    },
    /// Give rights to places: add them to a role, or give them to a user or to the holder of a certificate
    Grant {
        /// A role, `user:NAME`, `uid:NUMBER` or `cert:NAME`
        #[arg(value_name = "ROLE|WHO")]
        to: String,
        /// What: `read`, `write`, `watch`, `history`, `reveal`, `grant`. Can be repeated
        #[arg(long = "verb", value_name = "VERB", required = true, value_parser = config_verb)]
        verbs: Vec<Verbs>,
        /// Where. Can be repeated
        #[arg(long = "path", value_name = "PLACE", required = true, value_parser = place)]
        paths: Vec<Place>,
    },
    /// Begin the time anew after which values go by themselves
    KeepAlive {
        /// The lease, as `upkeep config set --ttl` has shown it
        #[arg(value_name = "LEASE")]
        lease: String,
    },
}

/// Verbs of schemas.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ConfigSchema {
    /// Print the schema of a place
    Get {
        /// Which
        #[arg(value_name = "PLACE", value_parser = place)]
        place: Place,
    },
    /// Say which schema the values of a place have to fit; what is there has to fit it
    Set {
        /// Which
        #[arg(value_name = "PLACE", value_parser = place)]
        place: Place,
        /// JSON Schema, as JSON or YAML; `-` is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Let values of any form be set
    Rm {
        /// Where
        #[arg(value_name = "PLACE", value_parser = place)]
        place: Place,
    },
}

/// How much of the history is kept.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ConfigKeep {
    /// Keep so many changes of each value there from now on, instead of what holds further out [else 1000]
    #[arg(long, value_name = "CHANGES", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "keep_default")]
    pub(crate) keep: Option<u32>,
    /// And what was true within so many days [else 365]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "keep_default")]
    pub(crate) keep_days: Option<u32>,
    /// Keep what holds further out
    #[arg(long)]
    pub(crate) keep_default: bool,
}

/// Arguments of `config import`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConfigImport {
    /// The file; `-` is standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Where the values go
    #[arg(long, value_name = "PLACE", value_parser = place)]
    pub(crate) place: Place,
    /// How it is written: dotenv, json, yaml, properties [default: as its name tells]
    #[arg(long, value_name = "FORM", value_parser = form)]
    pub(crate) form: Option<FormName>,
    /// Seal those below the place that this fits: `db/password`, `*`. Can be repeated
    #[arg(long = "secret", value_name = "GLOB", value_parser = crate::commands::pattern)]
    pub(crate) secret: Vec<Pattern>,
}

/// Verbs about ZooKeeper.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ZooKeeperVerb {
    /// Set every node below one as a value, over what is there. More than 50 go in several changes
    Import(ZooKeeperImport),
    /// Write a place to an ensemble, and every change of it, until it is interrupted
    Mirror(ZooKeeperMirror),
}

/// Who one is for ZooKeeper.
#[derive(Clone, Debug, Args)]
pub(crate) struct ZooKeeperLogin {
    /// A user of the scheme `digest`
    #[arg(long, value_name = "NAME", requires = "password_file")]
    pub(crate) user: Option<String>,
    /// The file with the user's password
    #[arg(long, value_name = "FILE", requires = "user")]
    pub(crate) password_file: Option<PathBuf>,
}

/// Arguments of `config zookeeper import`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ZooKeeperImport {
    /// Where: `zookeeper://zk1:2181,zk2:2181/shop`
    #[arg(value_name = "URL")]
    pub(crate) url: String,
    /// Below this place
    #[arg(long, value_name = "PLACE", default_value = "/", value_parser = places)]
    pub(crate) place: Place,
    /// These are secrets: one value or all of a place. Can be repeated
    #[arg(long, value_name = "PLACE", value_parser = place)]
    pub(crate) secret: Vec<Place>,
    /// Leave values that are there already as they are
    #[arg(long)]
    pub(crate) only_new: bool,
    /// What the data of the node itself becomes, if it has some: `/shop/self`
    #[arg(long, value_name = "PATH", value_parser = path)]
    pub(crate) node: Option<Path>,
    #[command(flatten)]
    pub(crate) login: ZooKeeperLogin,
}

/// Arguments of `config zookeeper mirror`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ZooKeeperMirror {
    /// What: `/shop/prod/`
    #[arg(value_name = "PLACE", value_parser = place)]
    pub(crate) place: Place,
    /// Where: `zookeeper://zk1:2181,zk2:2181/mirrors/shop`
    #[arg(value_name = "URL")]
    pub(crate) url: String,
    /// Secrets too, in clear
    #[arg(long)]
    pub(crate) reveal: bool,
    /// The node is in use: make it a mirror, and delete what is below it
    #[arg(long)]
    pub(crate) take_over: bool,
    /// End when all is there
    #[arg(long)]
    pub(crate) once: bool,
    #[command(flatten)]
    pub(crate) login: ZooKeeperLogin,
}

/// Arguments of `config set`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConfigSet {
    /// Where: `/shop/prod/db/url`
    #[arg(value_name = "PATH", value_parser = path)]
    pub(crate) path: Path,
    /// The value, or `-` for standard input, of which one line end at the end is left out
    #[arg(
        value_name = "VALUE",
        required_unless_present = "file",
        conflicts_with = "file",
        allow_hyphen_values = true
    )]
    pub(crate) value: Option<String>,
    /// The content of a file, byte for byte
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Seal it. The value comes from standard input or a file: arguments can be seen by every user of a machine
    #[arg(long)]
    pub(crate) secret: bool,
    /// What it is: text, number, json, yaml or file [default: text; file with --file]
    #[arg(long, value_name = "KIND", value_parser = kind)]
    pub(crate) kind: Option<ValueKind>,
    /// Only if it is at this revision; 0: only if there is none
    #[arg(long, value_name = "REVISION")]
    pub(crate) revision: Option<u64>,
    /// It goes by itself after this time, unless its lease is kept alive
    #[arg(long, value_name = "TIME")]
    pub(crate) ttl: Option<Span>,
}

/// Arguments of `config recipients`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConfigRecipients {
    /// For this place
    #[arg(value_name = "PLACE", value_parser = place)]
    pub(crate) place: Option<Place>,
    /// Seal for this machine or person from now on, instead of for whom it was; a machine that has announced itself needs no
    /// key. Can be repeated
    #[arg(long = "to", value_name = "NAME[=KEY]", value_parser = recipient, requires = "place")]
    pub(crate) to: Vec<Recipient>,
    /// Seal for those of the place further out from now on
    #[arg(long, conflicts_with = "to", requires = "place")]
    pub(crate) none: bool,
    /// Seal the secrets that are there for those of today
    #[arg(long, requires = "place")]
    pub(crate) reseal: bool,
    /// With new data keys; else those that are there are given to the recipients
    #[arg(long, requires = "reseal")]
    pub(crate) anew: bool,
    /// Also take what is sealed for others out of the history (with --anew: all secrets of the past)
    #[arg(long, requires = "reseal")]
    pub(crate) history: bool,
}
