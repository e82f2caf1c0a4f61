//! What every command has: the home, the options, a way to print and a way to the daemon.

use std::{
    fmt::Display,
    io::{self, Write},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use upkeep_pm2::{
    client::{CallError, Client},
    home::Pm2Home,
};

use crate::{
    args::{Invocation, Options},
    style::Style,
};

/// How long a daemon may take to answer after it was started.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is tried.
const STEP: Duration = Duration::from_millis(10);

/// Why a command ends early.
#[derive(Debug)]
pub struct Failure {
    /// Printed behind `[PM2][ERROR]`; `None` if all has been said.
    pub message: Option<String>,
    /// The status to leave with.
    pub code: u8,
}

impl Failure {
    /// With a message, status 1.
    pub fn new(message: impl Display) -> Self {
        Self {
            message: Some(message.to_string()),
            code: 1,
        }
    }

    /// Everything has been said already.
    pub fn said(code: u8) -> Self {
        Self { message: None, code }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match &error {
            CallError::Unreachable { source, .. } | CallError::Broken { source, .. } => {
                Self::new(format!("{error}: {source}"))
            }
            CallError::Refused { .. } => Self::new(error),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        // The reader of a pipe has gone: nothing is left to say, and nobody to say it to.
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::said(0);
        }
        Self::new(error)
    }
}

/// What a command works with.
#[derive(Debug)]
pub struct Context {
    /// Its files.
    pub home: Pm2Home,
    /// Everything that was given as an option.
    pub options: Options,
    /// Words given after `--`.
    pub app_args: Option<Vec<String>>,
    /// Colours, or none.
    pub style: Style,
    /// Print nothing but what was asked for.
    pub silent: bool,
    /// Where relative paths begin.
    pub cwd: PathBuf,
    /// A daemon was started by this very command.
    pub gave_birth: bool,
    client: Option<Client>,
}

impl Context {
    /// From the environment and the options.
    pub fn new(invocation: &Invocation) -> Result<Self, Failure> {
        let home = Pm2Home::from_env().ok_or_else(|| Failure::new("neither PM2_HOME nor HOME is set"))?;
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        Ok(Self {
            home,
            style: Style::new(!invocation.options.has("no-color") && !set("NO_COLOR")),
            silent: invocation.options.has("silent") || set("PM2_SILENT"),
            cwd: std::env::current_dir()
                .map_err(|error| Failure::new(format!("failed to find the working directory: {error}")))?,
            options: invocation.options.clone(),
            app_args: invocation.app_args.clone(),
            gave_birth: false,
            client: None,
        })
    }

    /// A connection that answers; starts the daemon if there is none.
    pub fn rpc(&mut self) -> Result<&mut Client, Failure> {
        if self.client.is_none() {
            let (client, born) = match Client::connect(&self.home.rpc) {
                Ok(client) => (client, false),
                Err(_) => {
                    self.start_daemon()?;
                    self.gave_birth = true;
                    (self.wait_for_daemon()?, true)
                }
            };
            self.client = Some(client);
            if born {
                // Modules come with the daemon. What a command prints is not mixed with their start.
                let silent = std::mem::replace(&mut self.silent, true);
                let started = crate::commands::modules::start_all(self);
                self.silent = silent;
                started?;
            }
        }
        match &mut self.client {
            Some(client) => Ok(client),
            None => Err(Failure::new("no connection to the daemon")),
        }
    }

    /// A connection only if a daemon runs.
    pub fn rpc_if_there(&mut self) -> Option<&mut Client> {
        if self.client.is_none() {
            self.client = Client::connect(&self.home.rpc).ok();
        }
        self.client.as_mut()
    }

    /// The daemon has gone, or goes.
    pub fn disconnect(&mut self) {
        self.client = None;
    }

    /// Calls a method with one argument.
    pub fn call(&mut self, method: &str, argument: Value) -> Result<Value, Failure> {
        Ok(self.rpc()?.call(method, argument)?)
    }

    /// The records of all processes.
    pub fn processes(&mut self) -> Result<Vec<Value>, Failure> {
        match self.call("getMonitorData", json!({}))? {
            Value::Array(list) => Ok(list),
            _ => Ok(Vec::new()),
        }
    }

    /// Makes the home's folders; starts keeper and daemon.
    fn start_daemon(&mut self) -> Result<(), Failure> {
        self.home.make().map_err(|error| {
            Failure::new(format!("failed to make `{}`: {error}", self.home.root.display()))
        })?;
        if !self.home.touch.exists() {
            // Who looks for it wants to know whether this home was used before; nothing depends on it.
            let _ = std::fs::write(&self.home.touch, "");
        }
        let discrete = std::env::var_os("PM2_DISCRETE_MODE").is_some();
        if !discrete {
            self.say(format!(
                "Spawning PM2 daemon with pm2_home={}",
                self.home.root.display()
            ))?;
        }
        let program = std::env::current_exe()
            .map_err(|error| Failure::new(format!("failed to find our own program: {error}")))?;
        let mut command = Command::new(&program);
        command
            .args(["keeper", "--pm2", "--detach"])
            .env("PM2_HOME", &self.home.root)
            .env("UPKEEP_HOME", &self.home.upkeep);
        // The daemon works in another directory: a path that was given relative to ours would mean another place there.
        for (name, path) in [
            ("PM2_LOG_FILE_PATH", &self.home.log),
            ("PM2_PID_FILE_PATH", &self.home.pid),
            ("PM2_DAEMON_RPC_PORT", &self.home.rpc),
            ("PM2_DAEMON_PUB_PORT", &self.home.publish),
            ("PM2_DEFAULT_LOG_PATH", &self.home.logs),
            ("PM2_DEFAULT_PID_PATH", &self.home.pids),
            ("PM2_DEFAULT_MODULE_PATH", &self.home.modules),
            ("PM2_MODULE_CONF_FILE", &self.home.module_conf),
            ("PM2_DUMP_FILE_PATH", &self.home.dump),
            ("PM2_DUMP_BACKUP_FILE_PATH", &self.home.dump_backup),
            ("PM2_RELOAD_LOCKFILE", &self.home.reload_lock),
        ] {
            if std::env::var_os(name).is_some_and(|value| !value.is_empty()) {
                command.env(name, path);
            }
        }
        let status = command
            .stdin(Stdio::null())
            .status()
            .map_err(|error| Failure::new(format!("failed to start `{}`: {error}", program.display())))?;
        if !status.success() {
            return Err(Failure::new(format!(
                "the daemon could not be started ({status})"
            )));
        }
        if !discrete {
            self.say("PM2 Successfully daemonized")?;
        }
        Ok(())
    }

    fn wait_for_daemon(&self) -> Result<Client, Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Client::connect(&self.home.rpc) {
                Ok(client) => return Ok(client),
                Err(error) if Instant::now() >= deadline => return Err(error.into()),
                Err(_) => pause(STEP),
            }
        }
    }

    /// Prints lines as they are, unless silent. That nobody reads them any more does not end a command in the middle
    /// of what it does.
    pub fn print(&self, text: impl Display) -> Result<(), Failure> {
        if self.silent {
            return Ok(());
        }
        match write_out(format_args!("{text}\n")) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            outcome => outcome.map_err(Failure::from),
        }
    }

    /// `[PM2] …` on stdout.
    pub fn say(&self, text: impl Display) -> Result<(), Failure> {
        self.print(format_args!("{}{text}", self.style.green("[PM2] ")))
    }

    /// `[PM2][WARN] …` on stdout.
    pub fn warn(&self, text: impl Display) -> Result<(), Failure> {
        self.print(format_args!("{}{text}", self.style.yellow("[PM2][WARN] ")))
    }

    /// A line on stderr, unless silent.
    pub fn aside(&self, text: impl Display) {
        if !self.silent {
            // If nobody can be told, the status tells.
            let _ = writeln!(io::stderr().lock(), "{text}");
        }
    }

    /// `[PM2][WARN] …` on stderr.
    pub fn warn_aside(&self, text: impl Display) {
        if !self.silent {
            // If nobody can be told, the status tells.
            let _ = writeln!(io::stderr().lock(), "{}{text}", self.style.yellow("[PM2][WARN] "));
        }
    }

    /// `[PM2][ERROR] …` on stderr.
    pub fn complain(&self, text: impl Display) {
        if !self.silent {
            complain(self.style, text);
        }
    }
}

/// `[PM2][ERROR] …` on stderr.
pub fn complain(style: Style, text: impl Display) {
    // If nobody can be told, the status tells.
    let _ = writeln!(io::stderr().lock(), "{}{text}", style.red("[PM2][ERROR] "));
}

/// Writes to stdout what was asked for, silent or not; fails quietly when nobody reads any more.
pub fn out(text: impl Display) -> Result<(), Failure> {
    Ok(write_out(text)?)
}

fn write_out(text: impl Display) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    write!(stdout, "{text}")?;
    stdout.flush()
}

/// Waits. There is no event for "somebody listens now".
pub fn pause(time: Duration) {
    let deadline = Instant::now() + time;
    while let Some(left) = deadline
        .checked_duration_since(Instant::now())
        .filter(|left| !left.is_zero())
    {
        std::thread::park_timeout(left);
    }
}

/// A status as the process's own.
pub fn exit_code(code: u8) -> ExitCode {
    ExitCode::from(code)
}
