//! Arguments of `config machine` and `config migrate`.

use clap::{Args, Subcommand, ValueEnum};
use upkeep_model::{place::Place, settings::MachineName};

fn place(text: &str) -> Result<Place, String> {
    text.parse::<Place>().map_err(|error| error.to_string())
}

fn machine(text: &str) -> Result<MachineName, String> {
    text.strip_prefix("machine:").unwrap_or(text).parse()
}

/// Verbs of machines that share the configuration.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum MachineVerb {
    /// Make a user at etcd that can use some places and no others, or hold the one that there is to these
    Add(MachineAdd),
    /// List the machines, with their public keys and what etcd lets them use
    Ls,
    /// Take from a machine what it may use at etcd
    Rm {
        /// Which: `web2`
        #[arg(value_name = "NAME", value_parser = machine)]
        name: MachineName,
    },
    /// Have etcd ask everybody who they are; before that its users hold nobody to anything
    Auth {
        /// Who may do everything at etcd: the user of this machine's settings, made if there is none
        #[arg(long, value_name = "USER")]
        root: String,
    },
}

/// Arguments of `config machine add`.
#[derive(Clone, Debug, Args)]
pub(crate) struct MachineAdd {
    /// The machine, as its settings call it: `web2`
    #[arg(value_name = "NAME", value_parser = machine)]
    pub(crate) name: MachineName,
    /// What it may use. Can be repeated
    #[arg(long = "path", value_name = "PLACE", required = true, value_parser = place)]
    pub(crate) places: Vec<Place>,
    /// Let it change them as well
    #[arg(long)]
    pub(crate) write: bool,
    /// Make no password: it shows a certificate whose common name is the user
    #[arg(long, conflicts_with = "password_file")]
    pub(crate) certificate: bool,
    /// Write the password to this new file (mode 0600) instead of showing it
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<std::path::PathBuf>,
}

/// Kinds of stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StoreName {
    /// A file of this machine
    Embedded,
    /// An etcd cluster
    Etcd,
}

/// Arguments of `config migrate`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConfigMigrate {
    /// Where to
    #[arg(long, value_name = "STORE")]
    pub(crate) to: StoreName,
    /// A file of settings; its `config.etcd` says how etcd is reached
    #[arg(long, value_name = "FILE", conflicts_with = "endpoints")]
    pub(crate) settings: Option<String>,
    /// A member of the cluster: `https://10.0.0.1:2379`. Can be repeated
    #[arg(long = "endpoint", value_name = "URL")]
    pub(crate) endpoints: Vec<upkeep_model::settings::Url>,
    /// What every key begins with there; else `/upkeep/`
    #[arg(long, value_name = "PREFIX", requires = "endpoints")]
    pub(crate) prefix: Option<upkeep_model::settings::config::Prefix>,
    /// Who vouches for the members (PEM)
    #[arg(long, value_name = "FILE", requires = "endpoints")]
    pub(crate) ca_file: Option<String>,
    /// The certificate to show (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["endpoints", "key_file"])]
    pub(crate) cert_file: Option<String>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["endpoints", "cert_file"])]
    pub(crate) key_file: Option<String>,
    /// The user at etcd
    #[arg(long, value_name = "USER", requires_all = ["endpoints", "password_file"])]
    pub(crate) user: Option<String>,
    /// The file with the user's password
    #[arg(long, value_name = "FILE", requires_all = ["endpoints", "user"])]
    pub(crate) password_file: Option<String>,
}
