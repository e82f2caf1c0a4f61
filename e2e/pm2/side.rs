//! One side of a case: a private home with a `pm2` in it, and what it shows.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::{fs::symlink, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use upkeep_pm2::client::{Bus, Client, Published};
use upkeep_testkit::{Signal, binary, kill, pass, process, try_wait_until};

use crate::{
    case::{Action, Case, Condition, Field, Says, Step},
    compare::Entry,
    normal::Normal,
    peer,
};

/// How long one command may take: builders are slow and shared.
const COMMAND: Duration = Duration::from_secs(40);
/// How long records may take to come to rest at the end.
const REST: Duration = Duration::from_secs(15);

/// Whose program it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Real,
    Ours,
}

/// Whose command line drives whose daemon.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    pub(crate) cli: Kind,
    pub(crate) daemon: Kind,
}

/// A home and everything in it; dropping it ends all of its processes.
#[derive(Debug)]
pub(crate) struct Side {
    root: PathBuf,
    pair: Pair,
    env: Vec<(String, String)>,
    normal: Normal,
    heard: Option<Arc<Mutex<Vec<Published>>>>,
    entries: Vec<Entry>,
}

impl Side {
    /// Lays everything out below `root`, which does not exist yet; starts nothing.
    pub(crate) fn new(root: &Path, pair: Pair, case: &Case) -> Result<Self, String> {
        let told = |error: std::io::Error| format!("{}: {error}", root.display());
        for folder in ["h", "w", "u", "bin"] {
            fs::create_dir_all(root.join(folder)).map_err(told)?;
        }
        let side = Self {
            root: root.to_owned(),
            pair,
            env: case.env.clone(),
            normal: Normal::new(&root.display().to_string()),
            heard: None,
            entries: Vec::new(),
        };
        for program in ["pm2", "pm2-runtime", "pm2-docker", "pm2-dev"] {
            symlink(program_of(pair.cli, program)?, root.join("bin").join(program)).map_err(told)?;
        }
        for tool in peer::TOOLS {
            if let Some(place) = peer::find(tool) {
                let place = place.canonicalize().unwrap_or(place);
                symlink(place, root.join("bin").join(tool)).map_err(told)?;
            }
        }
        if !case.tagged("fresh") {
            // Else the first command shows a banner.
            fs::write(root.join("h/touch"), "").map_err(told)?;
        }
        let apps = Path::new(env!("CARGO_MANIFEST_DIR")).join("pm2/apps");
        for app in fs::read_dir(apps).map_err(told)? {
            let app = app.map_err(told)?;
            fs::copy(app.path(), root.join("w").join(app.file_name())).map_err(told)?;
        }
        for (name, text) in &case.files {
            let path = root.join("w").join(name);
            fs::create_dir_all(path.parent().unwrap_or(root)).map_err(told)?;
            fs::write(&path, text.replace("@ROOT@", &root.display().to_string())).map_err(told)?;
        }
        Ok(side)
    }

    /// Runs a case to its end, or to the first step that makes no sense any more.
    pub(crate) fn run(mut self, case: &Case) -> Result<Vec<Entry>, String> {
        if self.pair.cli != self.pair.daemon {
            let ping = program_of(self.pair.daemon, "pm2")?;
            let said = self.shell(&format!("'{}' ping", ping.display()));
            if said.code != 0 {
                return Err(format!("the daemon did not start: {said:?}"));
            }
        }
        for step in &case.steps {
            if let Err(why) = self.step(step) {
                if self.pair.cli == Kind::Real && self.pair.daemon == Kind::Real {
                    return Err(format!(
                        "not even the real PM2 gets through `{}`: {why}",
                        step.text
                    ));
                }
                self.add(&step.text, vec![why], String::new());
                return Ok(std::mem::take(&mut self.entries));
            }
        }
        if case.end {
            self.rest();
            let records = self.records();
            self.normal.learn(&records);
            let mut lines = Vec::new();
            for record in &records {
                self.element(record, &mut lines);
            }
            self.add("the records in the end", lines, String::new());
            let lines = self.files();
            self.add("the files in the end", lines, String::new());
        }
        Ok(std::mem::take(&mut self.entries))
    }

    fn add(&mut self, title: &str, lines: Vec<String>, detail: String) {
        self.entries.push(Entry {
            title: title.to_owned(),
            lines,
            detail,
        });
    }

    // ---- steps

    fn step(&mut self, step: &Step) -> Result<(), String> {
        let mut detail = String::new();
        let lines = match &step.action {
            Action::Run(says, text) => {
                let said = self.shell(text);
                let records = self.records();
                self.normal.learn(&records);
                detail = format!("{}{}", said.stdout, said.stderr);
                self.normal.plain(&detail).clone_into(&mut detail);
                self.shown(*says, &said)
            }
            Action::UntilRecord(deadline, condition) => {
                self.wait(step, *deadline, |side| side.holds(condition))?;
                Vec::new()
            }
            Action::UntilShell(deadline, text) => {
                self.wait(step, *deadline, |side| {
                    let said = side.shell(text);
                    if said.code == 0 {
                        Ok(())
                    } else {
                        Err(format!("{said:?}"))
                    }
                })?;
                Vec::new()
            }
            Action::Show(fields) => {
                let records = self.records();
                self.normal.learn(&records);
                let mut lines = Vec::new();
                for field in fields {
                    let name = format!("{}.{}", field.target, field.key);
                    for value in values(&records, field) {
                        self.normal.json(&name, &value, &mut lines);
                    }
                }
                lines
            }
            Action::Record(target) => {
                self.rest();
                let records = self.records();
                self.normal.learn(&records);
                let mut lines = Vec::new();
                for record in records.iter().filter(|record| is(record, target)) {
                    self.element(record, &mut lines);
                }
                lines
            }
            Action::Cat(path) => {
                let bytes = fs::read(self.root.join("w").join(path));
                match bytes {
                    Ok(bytes) => self.text_lines(&String::from_utf8_lossy(&bytes)),
                    Err(error) => vec![format!("{}", error.kind())],
                }
            }
            Action::Rpc(method, arguments) => self.rpc(method, arguments)?,
            Action::Listen => {
                self.listen()?;
                Vec::new()
            }
            Action::Heard(event, count) => self.heard(step, event, *count)?,
            Action::Pause(time) => {
                pass(*time);
                Vec::new()
            }
        };
        self.add(&step.text, lines, detail);
        Ok(())
    }

    fn wait(
        &self,
        step: &Step,
        deadline: Duration,
        look: impl FnMut(&Self) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut look = look;
        try_wait_until(&step.text, deadline, || look(self))
            .map_err(|error| self.normal.text(&format!("{error:#}")))
    }

    fn shown(&self, says: Says, said: &Said) -> Vec<String> {
        let strict = says == Says::Loosely && std::env::var_os("PM2_STRICT").is_some();
        let says = if strict { Says::Text } else { says };
        let mut lines = vec![format!("code {}", said.code)];
        let all = self.normal.plain(&format!("{}\n{}", said.stdout, said.stderr));
        match says {
            Says::Loosely => {
                for word in ["ERROR]", "WARN]"] {
                    if all.contains(word) {
                        lines.push(format!("says {word}"));
                    }
                }
                if all.contains('│') {
                    lines.push("shows a table".to_owned());
                }
            }
            Says::Text | Says::Bytes => {
                for (name, text) in [("out", &said.stdout), ("err", &said.stderr)] {
                    let text = if says == Says::Text {
                        self.normal.plain(text)
                    } else {
                        text.clone()
                    };
                    let lined = self.text_lines(&text);
                    lines.extend(lined.into_iter().map(|line| format!("{name}: {line}")));
                }
            }
            Says::Json => match serde_json::from_str::<Value>(&said.stdout) {
                Ok(Value::Array(list)) if list.iter().any(|each| each.get("pm2_env").is_some()) => {
                    for element in &list {
                        self.element(element, &mut lines);
                    }
                }
                Ok(value) => self.normal.json("document", &value, &mut lines),
                Err(error) => lines.push(format!("no JSON: {error}: {}", said.stdout)),
            },
        }
        lines
    }

    fn text_lines(&self, text: &str) -> Vec<String> {
        let mut lines: Vec<String> = self.normal.text(text).split('\n').map(str::to_owned).collect();
        if !text.is_empty() && !text.ends_with('\n') {
            lines.push("(no newline at the end)".to_owned());
        }
        lines
    }

    fn element(&self, record: &Value, lines: &mut Vec<String>) {
        let name = format!("#{}", record["pm_id"]);
        self.normal.json(&name, record, lines);
    }

    // ---- the shell

    /// Runs a line for bash. Output goes to files: what a daemon keeps open holds nobody up.
    fn shell(&self, text: &str) -> Said {
        let text = &self.filled(text);
        let place = |name: &str| self.root.join(name);
        let (out, err) = (place("out"), place("err"));
        let (Ok(stdout), Ok(stderr)) = (File::create(&out), File::create(&err)) else {
            return Said::failed("no file for the output");
        };
        let mut command = Command::new("bash");
        command
            .args(["-o", "pipefail", "-c", text])
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", place("bin").display()))
            .env("HOME", place("u"))
            .env("PM2_HOME", place("h"))
            .env("LANG", "C.UTF-8")
            .env("PM2_DISABLE_VERSION_CHECK", "true")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(place("w"))
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return Said::failed(&error.to_string()),
        };
        let pid = child.id().cast_signed();
        let ended = try_wait_until(text, COMMAND, || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            _ => Err("it still runs".to_owned()),
        });
        let code = if let Ok(status) = ended {
            use std::os::unix::process::ExitStatusExt as _;
            status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
        } else {
            for each in process::descendants(&[pid]).into_iter().chain([pid]) {
                let _ = kill(each, Signal::KILL); // it may have ended meanwhile
            }
            let _ = child.wait(); // it was killed
            -1
        };
        let read = |path: &Path| {
            let mut bytes = Vec::new();
            let file = File::open(path).map(|file| file.take(4 << 20));
            let _ = file.and_then(|mut file| file.read_to_end(&mut bytes)); // then it is empty
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Said {
            code,
            stdout: read(&out),
            stderr: read(&err),
        }
    }

    /// With the places that a case cannot know.
    fn filled(&self, text: &str) -> String {
        let module = || {
            let programs = peer::programs().unwrap_or_default();
            let modules = programs.parent().unwrap_or(Path::new("/"));
            modules.join("pm2").display().to_string()
        };
        let mut text = text.replace("@ROOT@", &self.root.display().to_string());
        text = text.replace("@CLIENT@", concat!(env!("CARGO_MANIFEST_DIR"), "/pm2/client"));
        if text.contains("@MODULE@") {
            text.replace("@MODULE@", &module())
        } else {
            text
        }
    }

    // ---- the daemon

    fn client(&self) -> Option<Client> {
        let client = Client::connect(&self.root.join("h/rpc.sock")).ok()?;
        client.set_timeout(Some(COMMAND)).ok()?;
        Some(client)
    }

    /// What `jlist` shows, without a command line; nothing if there is no daemon.
    fn records(&self) -> Vec<Value> {
        let answer = self
            .client()
            .and_then(|mut client| client.call("getMonitorData", json!({})).ok());
        let mut records = match answer {
            Some(Value::Array(records)) => records,
            _ => Vec::new(),
        };
        records.sort_by_key(|record| record["pm_id"].as_u64());
        records
    }

    fn rpc(&mut self, method: &str, arguments: &str) -> Result<Vec<String>, String> {
        let arguments = self.filled(arguments);
        let Ok(Value::Array(arguments)) = serde_json::from_str(&arguments) else {
            return Err(format!("no list of arguments: {arguments}"));
        };
        let mut client = self.client().ok_or("no daemon answers")?;
        let answer = client.call_with(method, arguments);
        let records = self.records();
        self.normal.learn(&records);
        let mut lines = Vec::new();
        match answer {
            Ok(value) => {
                self.normal.json("answer", &value, &mut lines);
                // What an agent tells by itself may have come or not.
                lines.retain(|line| !line.contains(".axm_") && !line.contains(".node_version"));
            }
            Err(error) => lines.extend(self.text_lines(&format!("refused: {error}\n"))),
        }
        Ok(lines)
    }

    fn listen(&mut self) -> Result<(), String> {
        let mut bus =
            Bus::connect(&self.root.join("h/pub.sock")).map_err(|error| format!("no bus: {error}"))?;
        let heard = Arc::new(Mutex::new(Vec::new()));
        self.heard = Some(Arc::clone(&heard));
        thread::spawn(move || {
            // It ends with the daemon.
            while let Ok(Some(published)) = bus.next_event() {
                if let Ok(mut heard) = heard.lock() {
                    heard.push(published);
                }
            }
        });
        // The daemon has to accept the connection before it can tell anything.
        pass(Duration::from_millis(50));
        Ok(())
    }

    fn heard(&mut self, step: &Step, event: &str, count: usize) -> Result<Vec<String>, String> {
        let heard = self.heard.clone().ok_or("nobody listens")?;
        let events = || -> Vec<Published> {
            let heard = heard.lock().map(|heard| heard.clone()).unwrap_or_default();
            heard.into_iter().filter(|each| each.event == event).collect()
        };
        self.wait(step, Duration::from_secs(15), |_| {
            let events = events();
            if events.len() >= count {
                Ok(())
            } else {
                Err(format!("{events:?}"))
            }
        })?;
        let mut lines = Vec::new();
        for published in events().iter().take(count) {
            let process = &published.payload["process"];
            if event == "process:event" {
                lines.push(format!(
                    "{} of {} {} manually {} status {} restart_time {}",
                    published.payload["event"],
                    process["name"],
                    process["pm_id"],
                    published.payload["manually"],
                    process["status"],
                    process["restart_time"]
                ));
            } else {
                self.normal.json(event, &published.payload, &mut lines);
            }
        }
        Ok(lines)
    }

    fn holds(&self, condition: &Condition) -> Result<(), String> {
        let records = self.records();
        let values = values(&records, &condition.field);
        let wanted = condition.value.as_str();
        let good = |value: &Value| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let numbers = (text.parse::<f64>(), wanted.parse::<f64>());
            match (condition.operator.as_str(), numbers) {
                ("==", _) => text == wanted,
                ("!=", _) => text != wanted,
                (">=", (Ok(text), Ok(wanted))) => text >= wanted,
                ("<=", (Ok(text), Ok(wanted))) => text <= wanted,
                (">", (Ok(text), Ok(wanted))) => text > wanted,
                ("<", (Ok(text), Ok(wanted))) => text < wanted,
                _ => false,
            }
        };
        if !values.is_empty() && values.iter().all(good) {
            return Ok(());
        }
        let states: Vec<String> = records
            .iter()
            .map(|record| {
                format!(
                    "{} {} {} restarts {}",
                    record["pm_id"],
                    record["name"],
                    record["pm2_env"]["status"],
                    record["pm2_env"]["restart_time"]
                )
            })
            .collect();
        Err(format!("{values:?} of [{}]", states.join(", ")))
    }

    // ---- the end

    /// Waits until what comes by itself has come: an agent in a node app tells of itself some time after the start.
    fn rest(&self) {
        let start = Instant::now();
        let done = || {
            let records = self.records();
            records.iter().all(|record| {
                let env = &record["pm2_env"];
                let program = fs::read_link(format!("/proc/{}/exe", record["pid"]));
                let between = env["status"] == "launching" || env["status"] == "stopping";
                let dying = env["status"] == "online" && program.is_err();
                let node = program.is_ok_and(|program| program.ends_with("node"));
                let agent = node && env["pmx"] != false && env["status"] == "online";
                !between
                    && !dying
                    && (!agent
                        || (env["axm_options"]["module_name"].is_string() && env["node_version"].is_string()))
            })
        };
        while !done() && start.elapsed() < REST {
            pass(Duration::from_millis(50));
        }
    }

    /// Names of all files of the home, and what the short ones must hold.
    fn files(&self) -> Vec<String> {
        let home = self.root.join("h");
        let records = self.records();
        let mut lines = Vec::new();
        walk(&home, &home, &mut lines);
        lines.sort();
        for line in &mut lines {
            let text = || fs::read_to_string(home.join(line.as_str())).unwrap_or_default();
            if line.starts_with("pids/") {
                let text = text();
                let known = records.iter().any(|record| record["pid"].to_string() == text);
                line.push_str(if known {
                    " holds the pid of a record"
                } else {
                    " holds something else"
                });
            } else if line == "module_conf.json" {
                let text = text();
                line.push_str(&format!(" holds {:?}", self.normal.text(&text)));
            }
        }
        lines
    }

    /// The processes of this home.
    fn processes(&self) -> Vec<i32> {
        let mut found = process::with_environment(&format!("PM2_HOME={}", self.root.join("h").display()));
        found.extend(process::with_environment(&format!(
            "HOME={}",
            self.root.join("u").display()
        )));
        found.extend(self.daemon());
        let below = process::descendants(&found);
        found.extend(below);
        found.sort_unstable();
        found.dedup();
        found.retain(|&pid| process::alive(pid));
        found
    }

    fn daemon(&self) -> Option<i32> {
        let text = fs::read_to_string(self.root.join("h/pm2.pid")).ok()?;
        text.trim().parse().ok().filter(|&pid| pid > 1)
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // Ours in order, so that nothing of the engine stays behind; PM2 has nothing to put in order.
        if self.pair.daemon == Kind::Ours
            && let Some(daemon) = self.daemon()
        {
            let _ = kill(daemon, Signal::TERM); // it may have ended
            let _ = try_wait_until("the end of the daemon", Duration::from_secs(6), || {
                if process::alive(daemon) {
                    Err(String::new())
                } else {
                    Ok(())
                }
            });
        }
        let _ = try_wait_until("the end of all processes", Duration::from_secs(10), || {
            let left = self.processes();
            for &pid in &left {
                let _ = kill(pid, Signal::KILL); // it may have ended meanwhile
            }
            if left.is_empty() {
                Ok(())
            } else {
                Err(String::new())
            }
        });
    }
}

/// What a command said.
#[derive(Clone, Debug)]
struct Said {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Said {
    fn failed(why: &str) -> Self {
        Self {
            code: -2,
            stdout: String::new(),
            stderr: why.to_owned(),
        }
    }
}

pub(crate) fn program_of(kind: Kind, program: &str) -> Result<PathBuf, String> {
    match kind {
        Kind::Real => Ok(peer::programs()?.join(program)),
        Kind::Ours => Ok(binary("upkeep")),
    }
}

fn walk(home: &Path, folder: &Path, lines: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let shown = path.strip_prefix(home).unwrap_or(&path).display().to_string();
        // What npm puts there is npm's matter.
        if path.is_dir() && shown != ".upkeep" && !shown.ends_with("node_modules") {
            lines.push(format!("{shown}/"));
            walk(home, &path, lines);
        } else if path.is_dir() {
            lines.push(format!("{shown}/"));
        } else {
            lines.push(shown);
        }
    }
}

fn is(record: &Value, target: &str) -> bool {
    match target.strip_prefix('#') {
        Some(id) => record["pm_id"].to_string() == id,
        None => target == "*" || record["name"] == target,
    }
}

/// The values of a field; null where it is absent.
fn values(records: &[Value], field: &Field) -> Vec<Value> {
    let found = records.iter().filter(|record| is(record, &field.target));
    if field.key == "count" {
        return vec![Value::from(found.count())];
    }
    found
        .map(|record| {
            let own = field.key.split('.').try_fold(record, |value, key| value.get(key));
            let env = || {
                field
                    .key
                    .split('.')
                    .try_fold(record.get("pm2_env")?, |value, key| value.get(key))
            };
            own.or_else(env).cloned().unwrap_or(Value::Null)
        })
        .collect()
}
