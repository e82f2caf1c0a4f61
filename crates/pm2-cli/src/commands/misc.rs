//! Small commands: `init`, `create`, `examples`, `autoinstall`, `completion`, `report`, `pull`, `forward`, `backward`.

use std::{
    fs,
    io::{self, BufRead as _, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use upkeep_pm2::home::PM2_VERSION;

use crate::{
    args::{COMMANDS, Invocation},
    context::{Context, Failure, out},
    logs::text,
};

/// Asks in words and reads a line.
pub(super) fn ask(_: &Context, question: &str) -> Result<String, Failure> {
    out(question)?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

const SIMPLE: &str = "module.exports = {
  apps : [{
    name   : \"app1\",
    script : \"./app.js\"
  }]
}
";

const FULL: &str = "module.exports = {
  apps: [
    { script: 'index.js', watch: '.' },
    { script: './service-worker/', watch: ['./service-worker'] },
  ],

  deploy: {
    production: {
      user: 'SSH_USERNAME',
      host: 'SSH_HOSTMACHINE',
      ref: 'origin/main',
      repo: 'GIT_REPOSITORY',
      path: 'DESTINATION_PATH',
      'pre-setup': '',
      'pre-deploy-local': '',
      'post-deploy': 'npm install && pm2 reload ecosystem.config.js --env production',
    },
  },
};
";

pub(super) fn init(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let simple = invocation.operands.first().is_some_and(|word| word == "simple");
    let path = context.cwd.join("ecosystem.config.js");
    fs::write(&path, if simple { SIMPLE } else { FULL })
        .map_err(|error| Failure::new(format!("failed to write `{}`: {error}", path.display())))?;
    context.print(format_args!("File {} generated", path.display()))
}

/// Files and their texts.
type Files = &'static [(&'static str, &'static str)];

/// Sample projects: folder, what it is, files.
const SAMPLES: &[(&str, &str, Files)] = &[
    (
        "simple-http-server",
        "Simple HTTP server that can be used in cluster mode",
        &[
            (
                "index.js",
                "const http = require('http');\n\nconst port = process.env.PORT || 8000;\n\nhttp.createServer((request, response) => {\n  \
                 response.end(`hello from ${process.pid}\\n`);\n}).listen(port, () => console.log(`listening on ${port}`));\n",
            ),
            (
                "ecosystem.config.js",
                "module.exports = {\n  apps: [{ name: 'http', script: 'index.js', instances: 2, exec_mode: 'cluster' }],\n};\n",
            ),
        ],
    ),
    (
        "python-app",
        "Example on how to manage a Python application with PM2",
        &[
            (
                "app.py",
                "import time\n\nwhile True:\n    print('alive')\n    time.sleep(5)\n",
            ),
            (
                "ecosystem.config.js",
                "module.exports = {\n  apps: [{ name: 'python', script: 'app.py', interpreter: 'python3' }],\n};\n",
            ),
        ],
    ),
];

pub(super) fn create(context: &mut Context, _: &Invocation) -> Result<(), Failure> {
    for (number, (name, about, _)) in SAMPLES.iter().enumerate() {
        context.print(format_args!("  {}) {name} - {about}", number + 1))?;
    }
    let answer = ask(context, "Select a boilerplate: ")?;
    let chosen = SAMPLES
        .iter()
        .enumerate()
        .find(|(number, (name, _, _))| answer == *name || answer == (number + 1).to_string());
    let Some((_, (name, _, files))) = chosen else {
        return Err(Failure::new(format!("`{answer}` is none of them")));
    };
    let folder = context.cwd.join(name);
    if folder.exists() {
        return Err(Failure::new(format!("{} exists", folder.display())));
    }
    fs::create_dir_all(&folder)?;
    for (file, text) in *files {
        fs::write(folder.join(file), text)?;
    }
    context.say(format_args!("Project created in {}", folder.display()))?;
    context.say(format_args!(
        "Start it with: cd {name} && pm2 start ecosystem.config.js"
    ))
}

const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "Start and add a process to the pm2 process list:",
        &["pm2 start app.js --name app"],
    ),
    ("Show the process list:", &["pm2 ls"]),
    (
        "Stop and delete a process from the pm2 process list:",
        &["pm2 delete app"],
    ),
    (
        "Stop, start and restart a process from the process list:",
        &["pm2 stop app", "pm2 start app", "pm2 restart app"],
    ),
    (
        "Clusterize an app to all CPU cores available:",
        &["pm2 start -i max"],
    ),
    (
        "Bring the saved list back after a boot:",
        &["pm2 startup", "pm2 save"],
    ),
    ("Install pm2 auto completion:", &["pm2 completion install"]),
];

pub(super) fn examples(context: &mut Context, _: &Invocation) -> Result<(), Failure> {
    let style = context.style;
    context.say(style.grey("pm2 usage examples:"))?;
    for (what, commands) in EXAMPLES {
        context.print(format_args!("\n- {what}\n"))?;
        for command in *commands {
            context.print(style.cyan(format_args!("  $ {command}")))?;
        }
    }
    Ok(())
}

/// PM2 7 ships this command without the script it needs.
pub(super) fn autoinstall(_: &mut Context, _: &Invocation) -> Result<(), Failure> {
    Err(Failure::new(
        "autoinstall is not supported (it does not work in PM2 7 either): start each service by name",
    ))
}

const COMPLETION: &str = r#"###-begin-pm2-completion-###
# Installation: pm2 completion >> ~/.bashrc  (or ~/.zshrc)
if type complete >/dev/null 2>&1; then
  _pm2_completion() {
    local IFS=$'\n'
    COMPREPLY=($(COMP_CWORD="$COMP_CWORD" COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" \
      pm2 completion -- "${COMP_WORDS[@]}" 2>/dev/null))
  }
  complete -o default -F _pm2_completion pm2
elif type compctl >/dev/null 2>&1; then
  _pm2_completion() {
    local words word line point
    read -Ac words
    read -cn word
    read -l line
    read -ln point
    reply=(${(f)"$(COMP_CWORD=$((word - 1)) COMP_LINE="$line" COMP_POINT="$point" \
      pm2 completion -- "${words[@]}" 2>/dev/null)"})
  }
  compctl -K _pm2_completion + -f pm2
fi
###-end-pm2-completion-###
"#;
const BEGIN: &str = "###-begin-pm2-completion-###";
const END: &str = "###-end-pm2-completion-###";

/// Commands that take the name of an app.
const TAKE_APPS: &[&str] = &[
    "delete",
    "del",
    "describe",
    "desc",
    "info",
    "show",
    "env",
    "flush",
    "logs",
    "log",
    "pid",
    "reload",
    "reset",
    "restart",
    "scale",
    "start",
    "stop",
    "monitor",
    "unmonitor",
];

fn complete(context: &mut Context) -> Result<(), Failure> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let words = context.app_args.clone().unwrap_or_default();
    let at: usize = variable("COMP_CWORD").parse().unwrap_or(1);
    let partial = words.get(at).cloned().unwrap_or_default();
    let before = at.checked_sub(1).and_then(|before| words.get(before));
    let mut candidates: Vec<String> = if partial.starts_with('-') {
        crate::args::GLOBAL
            .iter()
            .map(|option| format!("--{}", option.name()))
            .filter(|option| option.len() > 3)
            .collect()
    } else if before.is_some_and(|word| TAKE_APPS.contains(&word.as_str())) {
        // No daemon is started for a completion.
        let list = context
            .rpc_if_there()
            .and_then(|client| client.call("getMonitorData", json!({})).ok());
        let mut names: Vec<String> = list
            .as_ref()
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(|process| text(process, "name").to_owned())
            .collect();
        names.push("all".to_owned());
        names
    } else if at <= 1 {
        COMMANDS
            .iter()
            .flat_map(|command| command.usage.split(' ').next().unwrap_or_default().split('|'))
            .filter(|name| *name != "*")
            .map(str::to_owned)
            .collect()
    } else {
        Vec::new()
    };
    candidates.retain(|candidate| candidate.starts_with(&partial));
    candidates.sort();
    candidates.dedup();
    candidates
        .iter()
        .try_for_each(|candidate| out(format_args!("{candidate}\n")))
}

pub(super) fn completion(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    match invocation.operands.first().map(String::as_str) {
        Some("install") => {
            let path = rc_file()?;
            let mut text = fs::read_to_string(&path).unwrap_or_default();
            if text.contains(BEGIN) {
                return context.say(format_args!("Completion is in {} already", path.display()));
            }
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            fs::write(&path, format!("{text}{COMPLETION}"))?;
            context.say(format_args!("pm2 tab-completion installed in {}", path.display()))
        }
        Some("uninstall") => {
            let path = rc_file()?;
            let text = fs::read_to_string(&path).unwrap_or_default();
            if let Some(rest) = without_completion(&text) {
                fs::write(&path, rest)?;
                return context.say(format_args!("pm2 tab-completion removed from {}", path.display()));
            }
            context.say("pm2 tab-completion is not installed")
        }
        _ if context.app_args.is_some() => complete(context),
        _ => out(COMPLETION),
    }
}

fn without_completion(text: &str) -> Option<String> {
    let from = text.find(BEGIN)?;
    let to = from + text[from..].find(END)? + END.len();
    let rest = text[to..].strip_prefix('\n').unwrap_or_else(|| &text[to..]);
    Some(format!("{}{rest}", &text[..from]))
}

fn rc_file() -> Result<PathBuf, Failure> {
    let home = std::env::var_os("HOME").ok_or_else(|| Failure::new("HOME is not set"))?;
    let zsh = std::env::var("SHELL").is_ok_and(|shell| shell.ends_with("zsh"));
    Ok(PathBuf::from(home).join(if zsh { ".zshrc" } else { ".bashrc" }))
}

/// A headline of the report, as wide as the others.
fn section(context: &Context, name: &str) -> String {
    let rule = "-".repeat(55_usize.saturating_sub(name.len()));
    format!("--- {} {rule}", context.style.bold(context.style.blue(name)))
}

pub(super) fn report(context: &mut Context, _: &Invocation) -> Result<(), Failure> {
    let daemon = context.call("getReport", json!({}))?;
    let rule = "=".repeat(79);
    let now = jiff::Zoned::now();
    let field =
        |context: &Context, name: &str, value: &str| context.print(format_args!("{name:20} : {value}"));
    let shown = |key: &str| match daemon.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(list)) => list
            .iter()
            .map(|word| word.as_str().unwrap_or_default())
            .collect::<Vec<_>>()
            .join(","),
        Some(Value::Null) | None => "undefined".to_owned(),
        Some(other) => other.to_string(),
    };
    context.print("\n\n\n```")?;
    context.print("--- PM2 report ----------------------------------------------------------------")?;
    field(
        context,
        "Date",
        &now.strftime("%a %b %d %Y %H:%M:%S GMT%z (%Z)").to_string(),
    )?;
    context.print(&rule)?;
    context.print(section(context, "Daemon"))?;
    for (name, key) in [
        ("pm2d version", "pm2_version"),
        ("node version", "node_version"),
        ("node path", "node_path"),
        ("argv", "argv"),
        ("argv0", "argv0"),
        ("user", "user"),
        ("uid", "uid"),
        ("gid", "gid"),
    ] {
        field(context, name, &shown(key))?;
    }
    context.print(&rule)?;
    context.print(section(context, "CLI"))?;
    field(context, "local pm2", PM2_VERSION)?;
    field(
        context,
        "program",
        &format!("upkeep {}", env!("CARGO_PKG_VERSION")),
    )?;
    let node = Command::new("node").arg("--version").output();
    let node = node.map_or_else(
        |_| "N/A".to_owned(),
        |output| {
            String::from_utf8_lossy(&output.stdout)
                .trim()
                .trim_start_matches('v')
                .to_owned()
        },
    );
    field(context, "node version", &node)?;
    // What would be started by this name the next time.
    field(
        context,
        "node path",
        &std::env::var("_").unwrap_or_else(|_| "not found".to_owned()),
    )?;
    let argv: Vec<String> = std::env::args().collect();
    field(context, "argv", &argv.join(","))?;
    field(context, "argv0", argv.first().map_or("", String::as_str))?;
    field(
        context,
        "user",
        &std::env::var("USER").unwrap_or_else(|_| "undefined".to_owned()),
    )?;
    field(context, "uid", &upkeep_host::home::uid().to_string())?;
    let gid = fs::metadata("/proc/self").map(|data| std::os::unix::fs::MetadataExt::gid(&data));
    field(
        context,
        "gid",
        &gid.map_or_else(|_| "undefined".to_owned(), |gid| gid.to_string()),
    )?;
    context.print(&rule)?;
    context.print(section(context, "System info"))?;
    field(context, "arch", std::env::consts::ARCH)?;
    field(context, "platform", std::env::consts::OS)?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    field(context, "cpus nb", &cores.to_string())?;
    field(context, "home", &std::env::var("HOME").unwrap_or_default())?;
    context.print(&rule)?;
    context.print(section(context, "PM2 list"))?;
    super::list::show(context)?;
    context.print(&rule)?;
    context.print(section(context, "Daemon logs"))?;
    let tail = crate::logs::Tail {
        target: crate::logs::Target::parse("PM2"),
        word: "PM2".to_owned(),
        lines: 20,
        raw: false,
        only: None,
    };
    if !context.silent {
        crate::logs::tail(context, &tail, &[])?;
    }
    context.print("```\n\n")?;
    context.print("Please copy/paste the above report in your issue.")
}

/// Moves an app's checkout, then reloads the app.
fn travel(context: &mut Context, name: &str, headline: &str, steps: &[&[&str]]) -> Result<(), Failure> {
    context.rpc()?;
    context.say(format_args!("{headline} repository for process name {name}"))?;
    let processes = context.processes()?;
    let found = processes.iter().find(|process| {
        text(process, "name") == name || process.get("pm_id").map(Value::to_string).as_deref() == Some(name)
    });
    // Without versioning there is no checkout that the daemon knows of.
    let folder = found.and_then(|process| process.pointer("/pm2_env/versioning/repo_path")?.as_str());
    let (Some(process), Some(folder)) = (found, folder) else {
        // The exit code tells as well.
        let _ = writeln!(io::stderr().lock(), "No processes with this name or id : {name}");
        return Err(Failure::said(1));
    };
    for step in steps {
        let output = Command::new("git")
            .args(*step)
            .current_dir(folder)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| Failure::new(format!("failed to run `git`: {error}")))?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Failure::new(format!("git {}: {why}", step.join(" "))));
        }
    }
    let post_update = process.pointer("/pm2_env/post_update").and_then(Value::as_array);
    for command in post_update.into_iter().flatten().filter_map(Value::as_str) {
        context.say(format_args!("Executing: {command}"))?;
        let status = Command::new("/bin/sh")
            .args(["-c", command])
            .current_dir(folder)
            .status()?;
        if !status.success() {
            return Err(Failure::new(format!("`{command}` ended with {status}")));
        }
    }
    let name = text(process, "name").to_owned();
    super::perform_words(context, &["reload", &name])
}

pub(super) fn pull(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let name = invocation.operands.first().cloned().unwrap_or_default();
    match invocation.operands.get(1) {
        None => travel(context, &name, "Updating", &[&["pull", "--ff-only"]]),
        Some(commit) if !commit.starts_with('-') => travel(
            context,
            &name,
            "Updating",
            &[&["fetch", "--all"], &["checkout", commit]],
        ),
        Some(commit) => Err(Failure::new(format!("`{commit}` is no commit"))),
    }
}

pub(super) fn backward(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let name = invocation.operands.first().cloned().unwrap_or_default();
    travel(
        context,
        &name,
        "Downgrading to previous commit",
        &[&["reset", "--hard", "HEAD~1"]],
    )
}

/// The commit after this one on the branch that the remote has.
pub(super) fn forward(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let name = invocation.operands.first().cloned().unwrap_or_default();
    let processes = context.processes()?;
    let next = processes
        .iter()
        .find(|process| text(process, "name") == name)
        .and_then(|process| process.pointer("/pm2_env/versioning/repo_path")?.as_str())
        .and_then(|folder| {
            let output = Command::new("git")
                .args(["rev-list", "--reverse", "--first-parent", "HEAD..@{u}"])
                .current_dir(folder)
                .output()
                .ok()?;
            String::from_utf8_lossy(&output.stdout)
                .lines()
                .next()
                .map(str::to_owned)
        });
    let next = next.unwrap_or_else(|| "HEAD".to_owned());
    travel(
        context,
        &name,
        "Updating to next commit",
        &[&["reset", "--hard", &next]],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completion_is_removed_without_a_trace() {
        let before = "export A=1\n";
        let with = format!("{before}{COMPLETION}export B=2\n");
        assert_eq!(
            without_completion(&with).as_deref(),
            Some("export A=1\nexport B=2\n")
        );
        assert_eq!(without_completion(before), None);
        assert_eq!(without_completion(BEGIN), None);
    }

    #[test]
    fn the_samples_are_what_the_reader_takes() {
        for text in [SIMPLE, FULL] {
            assert!(text.starts_with("module.exports = {") && text.contains("apps"));
        }
    }
}
