//! What was typed, exactly.

mod config;
mod config_store;
mod docs;
mod remote;
mod render;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use upkeep_model::{
    access::{Pattern, Verbs},
    place::Place,
    size::Span,
};

pub(crate) use self::{
    config::{
        ConfigImport, ConfigKeep, ConfigRecipients, ConfigSchema, ConfigSet, ConfigVerb, ZooKeeperImport,
        ZooKeeperLogin, ZooKeeperMirror, ZooKeeperVerb,
    },
    config_store::{ConfigMigrate, MachineAdd, MachineVerb, StoreName},
    docs::{DocsBuild, DocsCheck, DocsImport, DocsNew, DocsServe, DocsVerb},
    remote::{CertVerb, HostAdd, HostVerb, Web},
    render::ConfigRender,
};

/// Keeps applications and servers in order.
#[derive(Debug, Parser)]
#[command(
    name = "upkeep",
    disable_help_subcommand = true,
    before_help = "\
Examples:
  upkeep start api.js -i 2              keep two copies of a Node program running
  upkeep start \"python3 -m http.server\" keep a command line running
  upkeep start upkeep.yaml              bring all apps of a file to what it says
  upkeep ls                             what runs, since when, with which figures
  upkeep logs shop -f                   what it says, from the last lines on
  upkeep why shop                       why it is in the state it is in
  upkeep stop all                       stop everything, dependents first"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Print JSON and nothing else
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
    /// Why: kept in the event log
    #[arg(long, global = true, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// How long to wait for things to come to rest, such as `30s`; `0` does not wait
    #[arg(long, global = true, value_name = "TIME")]
    pub(crate) wait: Option<Span>,
    /// Only say what would be done
    #[arg(long, global = true)]
    pub(crate) dry_run: bool,
    /// Ask another machine: a name of `upkeep host ls`, or `unix:/PATH` of a socket [default: $UPKEEP_HOST, or this machine]
    #[arg(long, global = true, value_name = "HOST")]
    pub(crate) host: Option<String>,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

/// Verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start apps: of a file, a script, a command line, or by name
    #[command(after_help = "\
Examples:
  upkeep start upkeep.yaml
  upkeep start server.py -n shop -i 4 -- --port 3000
  upkeep start \"./bin/worker --queue mail\" -n mailer
  upkeep start -n mailer -- ./bin/worker --queue mail
  cat upkeep.yaml | upkeep start -")]
    Start(Start),
    /// Bring apps to what files say: touch only what differs, and say what that is
    #[command(after_help = "\
Examples:
  upkeep diff upkeep.yaml             what would change
  upkeep apply upkeep.yaml            change that and nothing else
  upkeep apply ecosystem.config.js --env production")]
    Apply(Apply),
    /// Say what `apply` would change, and change nothing
    Diff(Files),
    /// Write what a file of PM2 says as an `upkeep.yaml`, and list what it could not carry over
    #[command(after_help = "\
Examples:
  upkeep import ecosystem.config.js
  upkeep import ecosystem.config.js --env production -o production.upkeep.yaml")]
    Import(Import),
    /// Make documentation of an HTTP API: pages beside the code, one static page, held to the API
    #[command(subcommand)]
    Docs(DocsVerb),
    /// Stop apps, dependents first
    Stop(Selectors),
    /// Restart apps, dependencies first; with a file: bring its apps to what it says and restart them
    Restart(Start),
    /// Replace every copy of apps by a new one, without a gap: start, wait until ready, drain the old one
    #[command(after_help = "\
Examples:
  upkeep reload shop
  upkeep reload all --max-unavailable 2
  upkeep reload shop --trial 5s       first run one new copy for 5 s without traffic")]
    Reload(Reload),
    /// Change how many copies of an app run
    #[command(after_help = "\
Examples:
  upkeep scale shop 4
  upkeep scale shop +2
  upkeep scale shop -1")]
    Scale(Scale),
    /// Go back to what an app was before its last change
    Rollback(Rollback),
    /// Stop apps and forget them
    #[command(visible_aliases = ["del", "rm"])]
    Delete(Selectors),
    /// List apps with their state and figures
    #[command(visible_aliases = ["list", "status"])]
    Ls(Ls),
    /// Show everything about an app
    #[command(visible_aliases = ["describe", "info"])]
    Show(One),
    /// Show figures over time: CPU, memory, files, threads and what else there is
    #[command(after_help = "\
Examples:
  upkeep metrics shop                      the last 15 minutes, a second each at the finest
  upkeep metrics shop --since 30d          a month
  upkeep metrics shop -m cpu,memory --instances
  upkeep metrics --machine                 the machine")]
    Metrics(Metrics),
    /// Say why an app is in the state it is in, and why it died last
    #[command(after_help = "\
Examples:
  upkeep why shop              its state, what led to it, and its last crash
  upkeep why shop --all        every crash that is kept, in a line each
  upkeep why shop --id 4711    all that is known of one of them")]
    Why(Why),
    /// Keep an app apart from the machine: what the levels are, how exposed an app is
    #[command(subcommand)]
    Sandbox(Sandbox),
    /// Show what runs by the clock
    #[command(
        subcommand,
        after_help = "\
Examples:
  upkeep schedule ls                 what runs when, and how it went last
  upkeep schedule next backup -n 5   its next five times
  upkeep start backup                runs it now"
    )]
    Schedule(ScheduleVerb),
    /// Show and change settings of the machine: disk space that logs leave free, where figures go, who is alerted
    #[command(after_help = "\
Examples:
  upkeep settings                        what is set
  upkeep settings check settings.yaml    whether a file is right
  upkeep settings set settings.yaml      replace all settings by those of a file")]
    Settings {
        #[command(subcommand)]
        verb: Option<SettingsVerb>,
    },
    /// Shared configuration: values and secrets under paths, with rights, history and a watch
    #[command(
        subcommand,
        after_help = "\
Examples:
  upkeep config set /shop/prod/db/url postgres://db/shop --reason 'new database'
  upkeep config set /shop/prod/db/password - --secret < password.txt
  upkeep config get /shop/prod/db/url
  upkeep config tree /shop/
  upkeep config history /shop/prod/
  upkeep config rollback /shop/prod/ 17
  upkeep config watch /shop/prod/ --json"
    )]
    Config(ConfigVerb),
    /// Listen over TCP, for browsers and for other machines; prints where
    #[command(after_help = "\
Examples:
  upkeep web                               on 127.0.0.1:9616, for browsers of this machine
  upkeep web --token viewer                and make a token for signing in
  upkeep web --listen 0.0.0.0:9616 --name web1.example.org
                                           for other machines, with TLS
  upkeep web --health-port 9615            the JSON that PM2 tells there
  upkeep web --off                         on the unix socket only")]
    Web(Web),
    /// Show, issue, renew and revoke certificates of this machine's own authority
    #[command(
        subcommand,
        after_help = "\
Examples:
  upkeep cert show
  upkeep cert issue laptop --role operator     writes laptop.pem, with its key
  upkeep cert revoke laptop
  upkeep cert export-ca -o ca.pem              for clients that are to trust this machine"
    )]
    Cert(CertVerb),
    /// Name other machines, for `--host`
    #[command(
        subcommand,
        after_help = "\
Examples:
  upkeep host add web1 --ssh deploy@web1       through ssh: no port is open for Upkeep
  upkeep host add web2 --url https://web2.example.org:9616 --trust --cert laptop.pem
  upkeep host add ops --socket /run/upkeep/api.sock
  upkeep host test web2
  upkeep --host web2 logs shop -f"
    )]
    Host(HostVerb),
    /// Join standard input and output with the daemon: what `--host` runs at the other end of ssh
    #[command(hide = true)]
    Connect {
        /// Start the daemon if none runs
        #[arg(long)]
        start: bool,
    },
    /// Show what fires, try channels, and silence an app for a while
    #[command(
        subcommand,
        after_help = "\
Examples:
  upkeep alert ls                     what fires, which rules hold, how channels stand
  upkeep alert test ops               tries the channel `ops` now
  upkeep alert history                what was told to whom, and what went wrong
  upkeep alert silence shop --for 2h  tells nothing of `shop` for two hours"
    )]
    Alert(AlertVerb),
    /// Show what apps print
    #[command(after_help = "\
Examples:
  upkeep logs                    the last lines of all apps, merged by time
  upkeep logs shop worker -f     of two apps, and what comes
  upkeep logs shop --err --since 2h --grep 'timeout|refused'")]
    Logs(Logs),
    /// Write a snapshot of the heap of a Node app, or sample what it allocates: a file for Chrome's developer tools
    #[command(after_help = "\
Examples:
  upkeep heap shop                   shop-0-1234.heapsnapshot; the app stands still while it is taken
  upkeep heap shop:1 -o now.heapsnapshot
  upkeep heap shop --sampling 30s    what it allocates in 30 s; does not stop it")]
    Heap(Heap),
    /// Write where the processor time of a Node app goes: a file for Chrome's developer tools
    #[command(after_help = "\
Examples:
  upkeep profile shop                10 seconds, to shop-0-1234.cpuprofile
  upkeep profile shop:1 --for 1m")]
    Profile(Profile),
    /// Show apps with the processes below them
    #[command(visible_alias = "ps")]
    Tree,
    /// Watch apps on a full screen: figures, logs, history; `?` there tells the keys
    #[command(
        visible_alias = "top",
        after_help = "\
Examples:
  upkeep monit            all apps
  upkeep monit shop       only rows with this word (f changes it)"
    )]
    Monit(Monit),
    /// Show what was done and what happened: who, what, why, and what came of it
    #[command(after_help = "\
Examples:
  upkeep events                        the last 30 actions and changes
  upkeep events shop --since 2h        of one app
  upkeep events --failed               only what went wrong
  upkeep events --kind apply,settings --who uid:1000
  upkeep events -f --json              what comes, as a line of JSON each")]
    Events(Events),
    /// Show what people and tokens did, and what they were refused
    #[command(after_help = "\
Examples:
  upkeep audit --since 7d --who token:ci
  upkeep audit --kind denied,sign_in_failed")]
    Audit(Events),
    /// Make, list and revoke tokens: how programs and browsers prove who they are
    #[command(
        subcommand,
        after_help = "\
Examples:
  upkeep token create ci --role operator --app 'shop-*' --expires 90d
  upkeep token ls
  upkeep token revoke ci"
    )]
    Token(TokenVerb),
    /// Show and change roles: what they give, and who holds them
    #[command(
        subcommand,
        after_help = "\
Examples:
  upkeep role ls
  upkeep role set deployer --verb apps:read --verb apps:write --app 'shop-*'
  upkeep role grant deployer user:alice
  upkeep role revoke deployer user:alice"
    )]
    Role(RoleVerb),
    /// Tell who one is to the daemon, and what one may do
    Whoami,
    /// Tell whether the daemon answers, and who it is
    Ping,
    /// Stop everything, forget all apps, end
    Kill,
    /// Stop everything and end; the same apps come back on the next start
    Shutdown,
    /// Save the list of apps
    #[command(visible_alias = "dump")]
    Save,
    /// Start every saved app that is not in the list
    Resurrect,
    /// Run the apps of a file in the foreground, as PID 1 of a container if need be
    Run(Run),
    /// Check a file without starting anything
    Validate(Validate),
    /// Replace keeper and daemon by the program now on disk; applications run on
    Upgrade(Upgrade),
    /// Print the completions of a shell
    Completions(Completions),
    /// Print the help of every command as Markdown
    #[command(hide = true)]
    HelpAll,
}

/// Arguments of `start`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Start {
    /// A file, a script, a command line in one word, names or ids of apps, or `-` for a file on standard input
    #[arg(required_unless_present = "arguments", value_name = "WHAT")]
    pub(crate) what: Vec<String>,
    /// Name of the app
    #[arg(short, long)]
    pub(crate) name: Option<String>,
    /// How many copies: a number, or `max` for one per processor
    #[arg(short, long, value_name = "N")]
    pub(crate) instances: Option<String>,
    /// Working directory
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
    /// Program that runs the script; `none` executes it
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) interpreter: Option<String>,
    /// Group of apps
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Which `env_NAME` of an ecosystem file holds
    #[arg(long, value_name = "NAME")]
    pub(crate) env: Option<String>,
    /// Of a file, only these apps
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Do not start it again when it ends
    #[arg(long)]
    pub(crate) no_restart: bool,
    /// Arguments of the program; without WHAT: the program and its arguments
    #[arg(last = true, value_name = "ARGUMENTS")]
    pub(crate) arguments: Vec<String>,
}

/// Arguments of `apply`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) files: Files,
    #[command(flatten)]
    pub(crate) rollout: RolloutFlags,
}

/// Files of `apply` and `diff`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Files {
    /// Files of apps, or `-` for one on standard input
    #[arg(required = true, value_name = "FILE")]
    pub(crate) paths: Vec<String>,
    /// Which `env_NAME` of an ecosystem file holds
    #[arg(long, value_name = "NAME")]
    pub(crate) env: Option<String>,
    /// Only these apps
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
}

/// Arguments of `import`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Import {
    /// The file of PM2: JavaScript, JSON or YAML
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Which `env_NAME` goes into `env`
    #[arg(long, value_name = "NAME")]
    pub(crate) env: Option<String>,
    /// Where to write; `-` prints it [default: upkeep.yaml beside the file]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Replace a file that is there
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// Arguments of verbs over selections.
#[derive(Clone, Debug, Args)]
pub(crate) struct Selectors {
    /// Names, `NAME:INDEX`, ids, globs (`web-*`), `@NAMESPACE` or `all`
    #[arg(required = true, value_name = "SELECTOR")]
    pub(crate) selectors: Vec<String>,
}

/// How copies are replaced, where it is not to be as the app says.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct RolloutFlags {
    /// How many new copies may be started beside the old ones at a time; 0: the old one ends first
    #[arg(long, value_name = "N")]
    pub(crate) surge: Option<u32>,
    /// How many copies may be away at a time, without surge
    #[arg(long, value_name = "N")]
    pub(crate) max_unavailable: Option<u32>,
    /// How long a new copy has to stay ready before its old one goes
    #[arg(long, value_name = "TIME")]
    pub(crate) settle: Option<Span>,
    /// Pause between two replacements
    #[arg(long, value_name = "TIME")]
    pub(crate) pause_between: Option<Span>,
    /// How long a new copy may take to become ready
    #[arg(long, value_name = "TIME")]
    pub(crate) ready_timeout: Option<Span>,
    /// First run one new copy for so long without traffic
    #[arg(long, value_name = "TIME")]
    pub(crate) trial: Option<Span>,
}

/// Arguments of `reload`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Reload {
    /// Names, `NAME:INDEX`, ids, globs (`web-*`), `@NAMESPACE` or `all`
    #[arg(required = true, value_name = "SELECTOR")]
    pub(crate) selectors: Vec<String>,
    #[command(flatten)]
    pub(crate) rollout: RolloutFlags,
}

/// Arguments of `scale`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Scale {
    /// Name
    #[arg(value_name = "APP")]
    pub(crate) app: String,
    /// How many: a number, or `+N` and `-N` from what there is
    #[arg(value_name = "N", allow_hyphen_values = true)]
    pub(crate) instances: String,
}

/// Arguments of `rollback`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Rollback {
    /// Name
    #[arg(value_name = "APP")]
    pub(crate) app: String,
    #[command(flatten)]
    pub(crate) rollout: RolloutFlags,
}

/// About sandboxes.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Sandbox {
    /// Weigh how much harm an app could do, and say what would close each gap
    Score(One),
    /// Say what the levels do, and which groups of system calls can be allowed
    Levels,
}

/// Arguments of verbs over one app.
#[derive(Clone, Debug, Args)]
pub(crate) struct One {
    /// Name or id
    #[arg(value_name = "APP")]
    pub(crate) app: String,
}

/// Arguments of `why`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Why {
    /// Name or id
    #[arg(value_name = "APP")]
    pub(crate) app: String,
    /// List every crash that is kept
    #[arg(long, conflicts_with = "id")]
    pub(crate) all: bool,
    /// Show this crash
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<u64>,
}

/// Verbs of schedules.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ScheduleVerb {
    /// List apps that are run by the clock, with their next and their last run
    #[command(visible_alias = "list")]
    Ls,
    /// Show the next times of an app
    Next {
        /// Name
        #[arg(value_name = "APP")]
        app: String,
        /// How many times
        #[arg(short = 'n', long = "times", value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
        times: u16,
    },
}

/// Where a token or a role holds.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Bounds {
    /// Only apps of this name; `*` in it stands for anything. Can be repeated
    #[arg(long = "app", value_name = "PATTERN", value_parser = crate::commands::pattern)]
    pub(crate) apps: Vec<Pattern>,
    /// Only apps of this namespace. Can be repeated
    #[arg(long = "namespace", value_name = "PATTERN", value_parser = crate::commands::pattern)]
    pub(crate) namespaces: Vec<Pattern>,
    /// Only this place of the shared configuration: `/shop/prod/`, `/shop/db/url`. Can be repeated. Who limits apps gets no
    /// paths but these, and who limits paths alone gets no apps
    #[arg(long = "path", value_name = "PLACE", value_parser = crate::commands::place_of)]
    pub(crate) paths: Vec<Place>,
}

/// Verbs of tokens.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum TokenVerb {
    /// Make a token, and print it: this once
    Create {
        /// What it is called
        #[arg(value_name = "NAME")]
        name: String,
        /// Role that it holds: `viewer`, `operator`, `admin` or one of your own. Can be repeated
        #[arg(long = "role", value_name = "ROLE", required = true)]
        roles: Vec<String>,
        #[command(flatten)]
        bounds: Bounds,
        /// When it ends, from now, such as `90d` [default: when it is revoked]
        #[arg(long, value_name = "TIME")]
        expires: Option<Span>,
    },
    /// List tokens
    #[command(visible_alias = "list")]
    Ls,
    /// End a token at once
    #[command(visible_alias = "rm")]
    Revoke {
        /// Name or id
        #[arg(value_name = "TOKEN")]
        token: String,
    },
}

/// Verbs of roles.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum RoleVerb {
    /// List roles with what they give and who holds them
    #[command(visible_alias = "list")]
    Ls,
    /// Make or replace a role
    Set {
        /// What it is called
        #[arg(value_name = "ROLE")]
        role: String,
        /// What it gives: `apps:read`, `apps:*`, `*`. Can be repeated
        #[arg(long = "verb", value_name = "VERB", required = true, value_parser = crate::commands::verbs)]
        verbs: Vec<Verbs>,
        #[command(flatten)]
        bounds: Bounds,
    },
    /// Forget a role that nobody holds
    Rm {
        /// Its name
        #[arg(value_name = "ROLE")]
        role: String,
    },
    /// Give a role to a local user or to the holder of a certificate
    Grant {
        /// Its name
        #[arg(value_name = "ROLE")]
        role: String,
        /// `user:NAME`, `uid:NUMBER` or `cert:NAME`
        #[arg(value_name = "WHO")]
        member: String,
    },
    /// Take a role away
    Revoke {
        /// Its name
        #[arg(value_name = "ROLE")]
        role: String,
        /// `user:NAME`, `uid:NUMBER` or `cert:NAME`
        #[arg(value_name = "WHO")]
        member: String,
    },
}

/// Verbs of alerts.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum AlertVerb {
    /// Show what fires, which rules hold, how channels stand and what is silenced
    #[command(visible_alias = "list")]
    Ls,
    /// Try one channel, or all, with a message that says nothing is wrong
    Test {
        /// Name
        #[arg(value_name = "CHANNEL")]
        channel: Option<String>,
    },
    /// Show messages with their tries, newest last
    History {
        /// How many
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
        lines: usize,
    },
    /// Tell nothing of an app for a while
    Silence {
        /// Name of an app, `machine` or `all`
        #[arg(value_name = "APP")]
        app: String,
        /// For how long
        #[arg(long = "for", value_name = "TIME")]
        span: Span,
    },
    /// End a silence
    Unsilence {
        /// Name of an app, `machine` or `all`
        #[arg(value_name = "APP")]
        app: String,
    },
}

/// Verbs of settings.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum SettingsVerb {
    /// Show what is set, as YAML
    Show,
    /// Replace all settings by those of a file
    Set {
        /// The file (YAML, TOML or JSON), or `-` for YAML on standard input
        #[arg(value_name = "FILE")]
        file: String,
        /// Only if the last change was this one
        #[arg(long, value_name = "REVISION")]
        revision: Option<u64>,
    },
    /// Check a file, and change nothing
    Check {
        /// The file, or `-`
        #[arg(value_name = "FILE")]
        file: String,
    },
    /// Tell where settings come from: default, stored, or a file as if it were set
    Explain {
        /// `web/listen`, or `web` for all below it
        #[arg(value_name = "KEY", default_value = "")]
        key: String,
        /// A file (YAML or JSON) on top of what is stored. Can be repeated
        #[arg(long = "file", value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

/// Arguments of `ls`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Ls {
    /// Show it again and again
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// Print names only
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// Arguments of `logs`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Logs {
    /// Names, `NAME:INDEX`, ids, globs; none: all
    #[arg(value_name = "SELECTOR")]
    pub(crate) selectors: Vec<String>,
    /// Go on with what comes
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// How many of the newest lines [default: 15; all with --since]
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) lines: Option<usize>,
    /// Only standard error
    #[arg(long, conflicts_with = "out")]
    pub(crate) err: bool,
    /// Only standard output
    #[arg(long)]
    pub(crate) out: bool,
    /// Only lines since a time (`2026-11-22T10:00`, `10:30`) or for a span (`2h`)
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only lines until a time, or until a span ago
    #[arg(long, value_name = "TIME", conflicts_with = "follow")]
    pub(crate) until: Option<String>,
    /// Only lines that match this regular expression
    #[arg(long, value_name = "REGEX")]
    pub(crate) grep: Option<String>,
    /// With --grep: whole records, with the lines that continue a line (indented, `at …`, `Caused by …`)
    #[arg(long)]
    pub(crate) records: bool,
    /// Only the text, without time and source
    #[arg(long)]
    pub(crate) raw: bool,
    /// Without the source in front
    #[arg(long, conflicts_with = "raw")]
    pub(crate) no_prefix: bool,
    /// Which time stands in front: `local`, `utc` (RFC 3339), `none`
    #[arg(long, value_name = "KIND", default_value = "local", conflicts_with = "raw")]
    pub(crate) timestamps: Timestamps,
    /// The same as --timestamps utc
    #[arg(long, conflicts_with_all = ["raw", "timestamps"])]
    pub(crate) utc: bool,
}

/// Which time stands in front of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Timestamps {
    /// Of the machine's zone, with the date unless it is today.
    Local,
    /// RFC 3339 in UTC.
    Utc,
    /// None.
    None,
}

/// Arguments of `heap`.
#[derive(Debug, clap::Args)]
pub(crate) struct Heap {
    /// Name, `NAME:INDEX` or id
    #[arg(value_name = "APP")]
    pub(crate) app: String,
    /// Where to write [default: NAME-INDEX-PID.heapsnapshot here]; `-`: standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Sample allocations for so long instead
    #[arg(long, value_name = "SPAN")]
    pub(crate) sampling: Option<Span>,
    /// Also if the app may then need more memory than it may use
    #[arg(long)]
    pub(crate) force: bool,
}

/// Arguments of `profile`.
#[derive(Debug, clap::Args)]
pub(crate) struct Profile {
    /// Name, `NAME:INDEX` or id
    #[arg(value_name = "APP")]
    pub(crate) app: String,
    /// Where to write [default: NAME-INDEX-PID.cpuprofile here]; `-`: standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// For how long
    #[arg(long = "for", value_name = "SPAN", default_value = "10s")]
    pub(crate) span: Span,
    /// Between two samples
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 1000)]
    pub(crate) interval: u64,
}

/// Arguments of `monit`.
#[derive(Debug, clap::Args)]
pub(crate) struct Monit {
    /// Show only rows that have all these words in name, state or reason
    #[arg(value_name = "WORD")]
    pub(crate) selectors: Vec<String>,
}

/// Arguments of `metrics`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Metrics {
    /// Names, ids, `NAME:INDEX`, globs or `@NAMESPACE`; all apps unless said otherwise
    #[arg(value_name = "APP")]
    pub(crate) selectors: Vec<String>,
    /// From how long ago
    #[arg(long, value_name = "TIME", default_value = "15m")]
    pub(crate) since: String,
    /// Only these figures; all unless said otherwise
    #[arg(short, long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) metric: Vec<String>,
    /// Each instance by itself
    #[arg(long)]
    pub(crate) instances: bool,
    /// The machine too
    #[arg(long)]
    pub(crate) machine: bool,
    /// How many steps
    #[arg(long, value_name = "N")]
    pub(crate) points: Option<usize>,
}

/// Arguments of `events`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Events {
    /// Only of this app or instance
    #[arg(value_name = "APP")]
    pub(crate) app: Option<String>,
    /// The same as APP
    #[arg(long = "app", value_name = "APP", conflicts_with = "app")]
    pub(crate) app_flag: Option<String>,
    /// Only of these kinds: `apply`, `exited`, `settings`, … (`apply,reload`)
    #[arg(long, value_name = "KIND,…", value_delimiter = ',')]
    pub(crate) kind: Vec<String>,
    /// Only by whom: `upkeep` for what happened by itself, or a part of the name (`uid 1000`)
    #[arg(long, value_name = "WHO")]
    pub(crate) who: Option<String>,
    /// Only since a time (`2026-11-22T10:00`, `10:30`) or for a span (`2h`)
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only until a time
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Only what went wrong
    #[arg(long)]
    pub(crate) failed: bool,
    /// How many of the newest [default: 30; all that is kept with --since]
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) lines: Option<usize>,
    /// Go on with what comes, also across daemons
    #[arg(short, long)]
    pub(crate) follow: bool,
}

/// Arguments of `run`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Run {
    /// The file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Which `env_NAME` of an ecosystem file holds
    #[arg(long, value_name = "NAME")]
    pub(crate) env: Option<String>,
    /// Only these apps
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Print only the apps' text, without time and source
    #[arg(long)]
    pub(crate) raw: bool,
}

/// Arguments of `validate`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Validate {
    /// The file, or `-`
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Which `env_NAME` of an ecosystem file holds
    #[arg(long, value_name = "NAME")]
    pub(crate) env: Option<String>,
}

/// Arguments of `upgrade`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Upgrade {
    /// The new program [default: the file that the running one was started from]
    #[arg(value_name = "PROGRAM")]
    pub(crate) program: Option<PathBuf>,
    /// Leave the keeper's program as it is
    #[arg(long)]
    pub(crate) daemon_only: bool,
}

/// Arguments of `completions`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

/// The whole tree of commands.
pub(crate) fn tree() -> clap::Command {
    Arguments::command()
}

/// Reads a command line. Help, version and mistakes are printed here.
pub(crate) fn parse(arguments: Vec<OsString>, version: &'static str) -> Result<Arguments, ExitCode> {
    let matches = tree().version(version).try_get_matches_from(arguments);
    matches
        .and_then(|matches| Arguments::from_arg_matches(&matches))
        .map_err(|error| {
            // Printing to a closed pipe may fail; the code tells all the same.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_consistent() {
        tree().debug_assert();
    }

    #[test]
    fn what_follows_two_dashes_belongs_to_the_app() {
        let line = ["upkeep", "start", "a.py", "-n", "x", "--", "--port", "1"].map(OsString::from);
        let parsed = parse(line.to_vec(), "0").expect("a command line");
        let Command::Start(start) = parsed.command else {
            panic!("not start")
        };
        assert_eq!(start.arguments, ["--port", "1"]);
        assert_eq!(start.name.as_deref(), Some("x"));
    }
}
