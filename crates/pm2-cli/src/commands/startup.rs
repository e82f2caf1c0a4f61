//! `startup` and `unstartup`: the daemon comes back when the machine does.

mod platform;
mod template;

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use upkeep_pm2::inspect::inspect;

use crate::{
    args::Invocation,
    context::{Context, Failure},
};
use platform::{Init, Plan};

/// Where files are written: `/`, or a folder of a test (`UPKEEP_PM2_ROOT`), where commands are printed only.
#[derive(Clone, Debug)]
pub(super) struct Root {
    prefix: Option<PathBuf>,
}

impl Root {
    pub(super) fn from_env() -> Self {
        Self {
            prefix: std::env::var_os("UPKEEP_PM2_ROOT")
                .filter(|value| !value.is_empty())
                .map(PathBuf::from),
        }
    }

    pub(super) fn may_write(&self) -> bool {
        self.prefix.is_some() || upkeep_host::home::uid() == 0
    }

    /// An absolute path below it.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.prefix.as_ref().map_or_else(
            || PathBuf::from(path),
            |prefix| prefix.join(path.trim_start_matches('/')),
        )
    }

    fn is_real(&self) -> bool {
        self.prefix.is_none()
    }
}

/// The program as it was called, with its folder: a link named `pm2` is what makes it `pm2`.
pub(super) fn own_path() -> Result<PathBuf, Failure> {
    let missing = |error: io::Error| Failure::new(format!("failed to find our own program: {error}"));
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    if called.components().count() > 1 {
        return std::path::absolute(called).map_err(missing);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    match std::env::split_paths(&path)
        .map(|folder| folder.join(&called))
        .find(|file| !called.as_os_str().is_empty() && file.is_file())
    {
        Some(found) => Ok(found),
        None => std::env::current_exe().map_err(missing),
    }
}

fn user_name() -> String {
    ["USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .or_else(|| {
            let uid = upkeep_host::home::uid().to_string();
            upkeep_sys::user::user(&uid).ok().map(|user| user.name)
        })
        .unwrap_or_else(|| "root".to_owned())
}

/// Says what root would have to type.
pub(super) fn as_root(context: &Context, verb: &str, invocation: &Invocation) -> Result<(), Failure> {
    let own = own_path()?;
    let folder = own.parent().unwrap_or_else(|| Path::new("/usr/local/bin"));
    let given = invocation.options.text("user");
    let user = given.map_or_else(user_name, str::to_owned);
    let home = std::env::var("HOME").unwrap_or_default();
    let platform = invocation
        .operands
        .first()
        .cloned()
        .or_else(|| platform::detect().map(|init| init.name().to_owned()));
    let words: Vec<String> = [Some(verb.to_owned()), platform.filter(|_| verb != "logrotate")]
        .into_iter()
        .flatten()
        .collect();
    let setup = if verb == "unstartup" { "unsetup" } else { "setup" };
    context.say(format_args!(
        "To {setup} the Startup Script, copy/paste the following command:"
    ))?;
    context.print(format_args!(
        "sudo env PATH=$PATH:{} {} {} -u {user} --hp {home}",
        folder.display(),
        own.display(),
        words.join(" ")
    ))
}

/// The init system that was asked for, or the one that is there.
fn choose(context: &Context, word: Option<&String>) -> Result<(String, Option<Init>), Failure> {
    let found = platform::detect();
    match found {
        Some(found) => context.say(format_args!(
            "Init System found: {}",
            context.style.bold(found.name())
        ))?,
        None if word.is_none() => return Err(Failure::new("Init system not found")),
        None => {}
    }
    let Some(word) = word else {
        return Ok((found.map_or("", Init::name).to_owned(), found));
    };
    let asked = Init::parse(word);
    if let Some(found) = found.filter(|found| found.name() != word) {
        let rule = "-----------------------------------------------------------";
        context.print(format_args!(
            "{rule}\n PM2 detected {} but you precised {word}\n Please verify that your choice is indeed your init \
             system\n If you arent sure, just run : pm2 startup\n{rule}",
            found.name()
        ))?;
    }
    Ok((word.clone(), asked))
}

/// No ERROR with PM2 either.
fn unknown(context: &Context) -> Failure {
    context.aside("Unknown platform / init system name");
    Failure::said(1)
}

fn plan(context: &Context, invocation: &Invocation, init: Init) -> Result<Plan, Failure> {
    let options = &invocation.options;
    let home = options
        .text("hp")
        .map_or_else(|| context.home.root.clone(), |home| Path::new(home).join(".pm2"));
    let user = options.text("user").map_or_else(user_name, str::to_owned);
    Ok(Plan {
        init,
        service: options.text("service-name").map(str::to_owned),
        user,
        pm2_home: home,
        program: own_path()?,
        path: std::env::var("PATH").unwrap_or_default(),
        user_home: std::env::var("HOME").unwrap_or_default(),
        wait_for_network: options.has("wait-ip"),
    })
}

pub(super) fn startup(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let root = Root::from_env();
    let (word, init) = choose(context, invocation.operands.first())?;
    if !root.may_write() {
        as_root(context, "startup", invocation)?;
        return Err(Failure::said(1));
    }
    let init = init.ok_or_else(|| unknown(context))?;
    let plan = plan(context, invocation, init)?;
    let (style, template, target, commands) = (context.style, plan.template(), plan.target(), plan.enable());
    context.print(format_args!("{} {word}", style.bold("Platform")))?;
    context.print(format_args!("{}\n{template}", style.bold("Template")))?;
    context.print(format_args!("{}\n{target}", style.bold("Target path")))?;
    let list = inspect(&serde_json::Value::from(commands.clone()));
    context.print(format_args!("{}\n{list}", style.bold("Command list")))?;
    context.say(format_args!("Writing init configuration in {target}"))?;
    write(&root.path(&target), &template)?;
    context.say("Making script booting at startup...")?;
    for command in &commands {
        context.say(format_args!("[-] Executing: {}...", style.bold(command)))?;
        if root.is_real() {
            let status = Command::new("/bin/sh")
                .arg("-c")
                .arg(command)
                .stdin(Stdio::null())
                .status()?;
            if !status.success() {
                let code = status.code().unwrap_or(1);
                context.print(style.red(format_args!("[ERROR] Exit code : {code}")))?;
                return Err(Failure::new(format!("{command} failed, see error above.")));
            }
        }
        context.say(style.bold("[v] Command successfully executed."))?;
    }
    let prefixed = |text: &str| {
        let text = format!("{}{text}", style.green("[PM2] "));
        // The colour of the whole goes on behind the prefix.
        let text = if style.is_on() {
            text.replace("\x1b[39m", "\x1b[34m")
        } else {
            text
        };
        style.bold(style.blue(text))
    };
    context.print(style.bold(style.blue("+---------------------------------------+")))?;
    context.print(prefixed("Freeze a process list on reboot via:"))?;
    context.print(style.bold("$ pm2 save"))?;
    context.print("")?;
    context.print(prefixed("Remove init script via:"))?;
    context.print(style.bold(format_args!("$ pm2 unstartup {word}")))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed =
        |error: io::Error| Failure::new(format!("Failure when trying to write startup script\n{error}"));
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    std::fs::write(path, text).map_err(failed)
}

pub(super) fn unstartup(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let root = Root::from_env();
    let (_, init) = choose(context, invocation.operands.first())?;
    if !root.may_write() {
        as_root(context, "unstartup", invocation)?;
        return Err(Failure::said(1));
    }
    let init = init.ok_or_else(|| unknown(context))?;
    let commands = plan(context, invocation, init)?.disable().join(" && ");
    if !root.is_real() {
        return context.print(commands);
    }
    let output = Command::new("/bin/sh")
        .arg("-c")
        .arg(commands)
        .stdin(Stdio::null())
        .output()?;
    context.print(String::from_utf8_lossy(&output.stdout))?;
    if output.status.success() {
        return context.say(context.style.bold("Init file disabled."));
    }
    // The exit code tells as well.
    let _ = io::stderr().lock().write_all(&output.stderr);
    let code = output.status.code().unwrap_or(1);
    context.print(context.style.bold(format_args!("Return code : {code}")))?;
    Err(Failure::said(1))
}
