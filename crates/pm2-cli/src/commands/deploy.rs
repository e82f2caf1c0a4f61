//! `deploy`: a checkout on other machines, by the system's ssh and git.
//!
//! On the machine: `PATH/source` is the checkout, `PATH/current` a link to it, `PATH/shared` a folder for what stays, and
//! `PATH/.deploys` the list of commits that were deployed.

mod target;

use std::process::{Command, Stdio};

use serde_json::Value;
use upkeep_pm2::config::{self, ConfigError};

use crate::{
    args::Invocation,
    context::{Context, Failure},
};
use target::{Deployment, Target};

/// Files that are looked for if none is named.
const FILES: &[&str] = &[
    "ecosystem.json",
    "ecosystem.yml",
    "ecosystem.yaml",
    "ecosystem.config.js",
    "ecosystem.config.cjs",
    "ecosystem.config.mjs",
    "ecosystem.json5",
    "package.json",
];

const HELP: &str = "
-----> Helper: Deployment with PM2

  pm2 ecosystem writes a sample ecosystem.config.js; its part `deploy` says where to.

  Commands:
    setup                run remote setup commands
    update               update deploy to the latest release
    revert [n]           revert to [n]th last deployment or 1
    curr[ent]            output current release commit
    prev[ious]           output previous release commit
    exec|run <cmd>       execute the given <cmd>
    list                 list previous deploy commits
    ref <ref>            deploy to <ref>

  Examples:
    $ pm2 deploy ecosystem.config.js production setup
    $ pm2 deploy ecosystem.config.js production
    $ pm2 deploy ecosystem.config.js production revert 1
    $ pm2 deploy ecosystem.config.js production exec \"pm2 reload all\"
";

fn complain(text: impl std::fmt::Display) -> Failure {
    use std::io::Write as _;
    // The exit code tells as well.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
    Failure::said(1)
}

pub(super) fn deploy(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let mut words = invocation.operands.iter().map(String::as_str).peekable();
    let first = words.peek().copied().unwrap_or_default();
    if first == "help" {
        return context.print(HELP);
    }
    let file = if config::is_config(first) || [".json5", ".js"].iter().any(|end| first.ends_with(end)) {
        words.next();
        first.to_owned()
    } else {
        let found = FILES.iter().find(|file| context.cwd.join(file).is_file());
        (*found.ok_or_else(|| {
            complain(format_args!(
                "Not any default deployment file exists. Allowed default config file names are: {}",
                FILES.join(", ")
            ))
        })?)
        .to_owned()
    };
    let Some(environment) = words.next() else {
        return context.print(HELP);
    };
    let (value, _) = config::load_value(&context.cwd, &file).map_err(|error| match error {
        ConfigError::Missing { name } => {
            complain(format_args!("ENOENT: no such file or directory, open '{name}'"))
        }
        other => complain(other),
    })?;
    let Some(settings) = value
        .pointer("/deploy")
        .and_then(|deploy| deploy.get(environment))
    else {
        return Err(complain(format_args!(
            "{environment} environment is not defined in {file} file"
        )));
    };
    let words: Vec<&str> = words.collect();
    let outcome = Deployment::parse(settings, environment, &file)
        .map_err(|missing| (1, Some(missing)))
        .and_then(|deployment| {
            context
                .print(format_args!("--> Deploying to {environment} environment"))
                .map_err(|_| (1, None))?;
            for host in &deployment.hosts {
                let target = Target {
                    deployment: &deployment,
                    host,
                };
                Run { context, target }.run(&words).map_err(|code| (code, None))?;
            }
            Ok(())
        });
    match outcome {
        Ok(()) => context.print("--> Success"),
        Err((_, Some(missing))) => Err(complain(format_args!("Deploy failed\n{missing}"))),
        Err((code, None)) => Err(complain(format_args!(
            "Deploy failed\nDeploy failed with exit code: {code}"
        ))),
    }
}

/// What to do on one machine. Errors are exit codes; what was wrong has been said.
struct Run<'a> {
    context: &'a Context,
    target: Target<'a>,
}

impl Run<'_> {
    fn print(&self, text: impl std::fmt::Display) -> Result<(), i32> {
        self.context.print(text).map_err(|_| 1)
    }

    fn run(&self, words: &[&str]) -> Result<(), i32> {
        let path = self.target.path();
        self.print(format_args!("--> on host {}", self.target.host))?;
        match words {
            ["setup", ..] => self.setup(),
            ["list", ..] => self.ssh(&format!(
                r#"tac {path}/.deploys | awk '{{printf "%d\t%s\n", NR-1, $0}}'"#
            )),
            ["curr" | "current", ..] => self.ssh(&format!("cd {path}/source && git rev-parse --short HEAD")),
            ["prev" | "previous", ..] => self.ssh(&deployed(path, 2)),
            ["exec" | "run", command @ ..] => {
                self.ssh(&format!("cd {path}/current && {}", command.join(" ")))
            }
            ["revert", rest @ ..] => {
                self.revert(rest.first().and_then(|word| word.parse().ok()).unwrap_or(1))
            }
            ["ref", reference, ..] => self.update(reference),
            _ => self.update(self.target.reference()),
        }
    }

    fn setup(&self) -> Result<(), i32> {
        let (path, repository, branch) = (self.target.path(), self.target.repository(), self.target.branch());
        match self.target.hook("pre-setup") {
            Some(hook) => {
                self.print(format_args!("  ○ executing pre-setup `{hook}`"))?;
                self.or_say(self.ssh(hook), "pre-setup hook failed")?;
            }
            None => self.print("  ○ hook pre-setup")?,
        }
        self.print("  ○ running setup")?;
        self.or_say(
            self.ssh(&format!("mkdir -p {path}/{{shared/{{logs,pids}},source}}")),
            "setup paths failed",
        )?;
        self.print(format_args!("  ○ cloning {repository}"))?;
        let depth = if self.target.is_fast() {
            self.print("  ○ fast fetch")?;
            "--depth=5 "
        } else {
            self.print("  ○ full fetch")?;
            ""
        };
        self.or_say(
            self.ssh(&format!(
                "git clone {depth}--branch {branch} {repository} {path}/source"
            )),
            "failed to clone",
        )?;
        self.or_say(self.link(), "symlink failed")?;
        self.hook("post-setup", self.target.hook("post-setup"))?;
        self.print("  ○ setup complete")
    }

    fn revert(&self, back: u64) -> Result<(), i32> {
        self.print(format_args!("  ○ reverting {back} deploy(s)"))?;
        let commit = self.ask(&deployed(self.target.path(), back.saturating_add(1)))?;
        // Without a history there is nothing to go back to.
        if commit.is_empty() {
            return self.or_say(Err(1), "there is no deploy to revert to");
        }
        self.release(&commit)
    }

    fn update(&self, reference: &str) -> Result<(), i32> {
        self.local_checkout_is_clean()?;
        self.release(reference)
    }

    fn release(&self, reference: &str) -> Result<(), i32> {
        let path = self.target.path();
        self.print(format_args!("  ○ deploying {reference}"))?;
        self.print("  ○ executing pre-deploy-local")?;
        if let Some(hook) = self.target.hook("pre-deploy-local") {
            let status = Command::new("/bin/sh").args(["-c", hook]).status();
            let outcome = status.map_or(Err(1), |status| check(status.code()));
            self.or_say(outcome, "pre-deploy-local hook failed")?;
        }
        self.hook("pre-deploy", self.target.hook("pre-deploy"))?;
        self.print("  ○ fetching updates")?;
        let depth = if self.target.is_fast() {
            self.print("  ○ fast fetch")?;
            "--depth=5 "
        } else {
            self.print("  ○ full fetch")?;
            ""
        };
        self.or_say(
            self.ssh(&format!("cd {path}/source && git fetch {depth}--all --tags")),
            "fetch failed",
        )?;
        self.print(format_args!("  ○ resetting HEAD to {reference}"))?;
        self.or_say(
            self.ssh(&format!("cd {path}/source && git reset --hard {reference}")),
            "git reset failed",
        )?;
        self.or_say(self.link(), "symlink failed")?;
        self.or_say(
            self.ssh(&format!(
                "cd {path}/source && echo `git rev-parse HEAD` >> {path}/.deploys"
            )),
            "deploy log append failed",
        )?;
        self.hook("post-deploy", Some(&self.target.post_deploy()))?;
        self.print(format_args!("  ○ successfully deployed {reference}"))
    }

    fn link(&self) -> Result<(), i32> {
        let path = self.target.path();
        self.ssh(&format!("ln -sfn {path}/source {path}/current"))
    }

    /// Runs a hook in the checkout; what it prints is kept on the machine too.
    fn hook(&self, name: &str, hook: Option<&str>) -> Result<(), i32> {
        let Some(hook) = hook else {
            return self.print(format_args!("  ○ hook {name}"));
        };
        self.print(format_args!("  ○ executing {name} `{hook}`"))?;
        let path = self.target.path();
        let log = format!("/tmp/pm2-deploy-{}.log", target::log_name());
        let command = format!(
            "cd {path}/current; SHARED=\"{path}/shared\" {hook} 2>&1 | tee -a {log}; exit ${{PIPESTATUS[0]}}"
        );
        self.or_say(self.ssh(&command), &format!("{name} hook failed"))
    }

    /// What is deployed is what the others have: nothing uncommitted, nothing unpushed.
    fn local_checkout_is_clean(&self) -> Result<(), i32> {
        let git = |arguments: &[&str]| {
            Command::new("git")
                .args(arguments)
                .stderr(Stdio::null())
                .output()
                .map_err(|_| 1)
        };
        self.print("")?;
        if !git(&["rev-parse", "--git-dir"])?.status.success() {
            return self.or_say(Err(1), "commit or stash your changes before deploying");
        }
        if !git(&["diff", "--quiet"])?.status.success() {
            return self.or_say(Err(1), "commit or stash your changes before deploying");
        }
        let ahead = git(&["rev-list", "--count", "@{u}..HEAD"])?;
        if ahead.status.success() && String::from_utf8_lossy(&ahead.stdout).trim() != "0" {
            return self.or_say(Err(1), "push your changes before deploying");
        }
        Ok(())
    }

    fn or_say(&self, outcome: Result<(), i32>, complaint: &str) -> Result<(), i32> {
        outcome.or_else(|_| {
            self.print("")?;
            let _ = complain(format_args!("  {complaint}"));
            self.print("")?;
            Err(1)
        })
    }

    /// This very machine, called `localhost`, needs no ssh.
    fn command(&self, command: &str) -> Command {
        if self.target.host == "localhost" {
            let mut shell = Command::new("bash");
            shell.args(["-c", command]);
            return shell;
        }
        let mut ssh = Command::new("ssh");
        ssh.args(self.target.ssh_arguments()).arg(command);
        ssh
    }

    fn ssh(&self, command: &str) -> Result<(), i32> {
        let status = self.command(command).status().map_err(cannot_run)?;
        check(status.code())
    }

    fn ask(&self, command: &str) -> Result<String, i32> {
        let output = self
            .command(command)
            .stderr(Stdio::inherit())
            .output()
            .map_err(cannot_run)?;
        check(output.status.code())?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

fn cannot_run(error: std::io::Error) -> i32 {
    // The code tells that there was something.
    let _ = complain(format_args!("failed to run the shell: {error}"));
    127
}

fn check(code: Option<i32>) -> Result<(), i32> {
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(code),
        None => Err(1),
    }
}

/// Prints the commit that is the `count`th from the end of the history.
fn deployed(path: &str, count: u64) -> String {
    format!("cat {path}/.deploys | tail -n {count} | head -n 1 | cut -d ' ' -f 1")
}

/// A text of a file: numbers are taken as well.
fn word(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
