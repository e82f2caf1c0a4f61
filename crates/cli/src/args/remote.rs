//! Arguments of `web`, `cert` and `host`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Arguments of `web`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Web {
    /// Address and port, again for more; anything but loopback speaks TLS [default: what is set, or 127.0.0.1:9616]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Vec<String>,
    /// A name or address that this machine is called by, again for more
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Vec<String>,
    /// A web page of another place that may use the API, again for more
    #[arg(long, value_name = "https://HOST")]
    pub(crate) origin: Vec<String>,
    /// Tell what PM2 tells on port 9615: a port of loopback, or an address with a port
    #[arg(long, value_name = "PORT")]
    pub(crate) health_port: Option<String>,
    /// Make a token for signing in, with this role, for 30 days
    #[arg(long, value_name = "ROLE", num_args = 0..=1, default_missing_value = "viewer")]
    pub(crate) token: Option<String>,
    /// Show it in a browser
    #[arg(long)]
    pub(crate) open: bool,
    /// Listen nowhere
    #[arg(long, conflicts_with_all = ["listen", "name", "origin", "health_port", "token", "open"])]
    pub(crate) off: bool,
}

/// Verbs of certificates.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum CertVerb {
    /// Show the authority, the listener's certificate, and what was issued
    #[command(visible_alias = "ls")]
    Show,
    /// Make the authority, if there is none, and tell the hash of its certificate
    Init,
    /// Make a certificate for somebody who calls: its holder is `cert:NAME`
    Issue {
        /// Whose it will be
        #[arg(value_name = "NAME")]
        name: String,
        /// A role that `cert:NAME` is given
        #[arg(long, value_name = "ROLE")]
        role: Option<String>,
        /// For how long [default: 365]
        #[arg(long, value_name = "N")]
        days: Option<u32>,
        /// Where key and certificate are written, with mode 0600 [default: NAME.pem]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Make another certificate for the listener, now
    Renew,
    /// Let nobody in by a certificate any more
    Revoke {
        /// Its number, or a name: then all of that name
        #[arg(value_name = "SERIAL")]
        which: String,
    },
    /// Print the certificate of the authority, for clients that are to trust this machine
    #[command(visible_alias = "trust")]
    ExportCa {
        /// Where to write it [default: standard output]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// Verbs of hosts.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum HostVerb {
    /// List them
    #[command(visible_alias = "list")]
    Ls {
        /// Print names only
        #[arg(short, long)]
        quiet: bool,
    },
    /// Add one: by `--ssh`, or by `--url` with what it is believed by and what it believes
    Add(Box<HostAdd>),
    /// Forget one
    Rm {
        /// Name
        #[arg(value_name = "HOST")]
        name: String,
    },
    /// Tell whether one answers, and who we are there
    Test {
        /// Name
        #[arg(value_name = "HOST")]
        name: String,
    },
}

/// Arguments of `host add`.
#[derive(Clone, Debug, Args)]
pub(crate) struct HostAdd {
    /// What it is called here
    #[arg(value_name = "HOST")]
    pub(crate) name: String,
    /// Where ssh leads: `user@host`, or a name of your ssh configuration
    #[arg(
        long,
        value_name = "DESTINATION",
        required_unless_present_any = ["url", "socket"],
        conflicts_with_all = ["url", "socket"]
    )]
    pub(crate) ssh: Option<String>,
    /// Socket of another user's daemon on this machine, which lets you in
    #[arg(long, value_name = "PATH", conflicts_with = "url")]
    pub(crate) socket: Option<PathBuf>,
    /// One more argument of ssh, again for more (`--ssh-arg=-p2222`)
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true, requires = "ssh")]
    pub(crate) ssh_arg: Vec<String>,
    /// What starts `upkeep` there, as a shell there reads it [default: upkeep]
    #[arg(long, value_name = "COMMAND", requires = "ssh")]
    pub(crate) program: Option<String>,
    /// Where its API listens
    #[arg(long, value_name = "https://HOST:PORT")]
    pub(crate) url: Option<String>,
    /// Hash of the certificate of its authority, as `upkeep cert show` tells it there
    #[arg(long, value_name = "sha256:HASH", requires = "url")]
    pub(crate) ca: Option<String>,
    /// File with the certificate of its authority
    #[arg(long, value_name = "FILE", requires = "url", conflicts_with = "ca")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Ask it for the hash, show it, and pin it if you say that it is right
    #[arg(long, requires = "url", conflicts_with_all = ["ca", "ca_file"])]
    pub(crate) trust: bool,
    /// With --trust: it is right
    #[arg(long, requires = "trust")]
    pub(crate) yes: bool,
    /// File with a token, closed to others
    #[arg(long, value_name = "FILE", requires = "url")]
    pub(crate) token_file: Option<PathBuf>,
    /// File with a certificate and its key, as `upkeep cert issue` writes it
    #[arg(long, value_name = "FILE", requires = "url", conflicts_with = "token_file")]
    pub(crate) cert: Option<PathBuf>,
    /// Replace one that is there
    #[arg(short, long)]
    pub(crate) force: bool,
}
