//! One side of a case: a private home with a `pm2` in it, and what it shows.

mod daemon;
mod home;
mod shell;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use upkeep_pm2::client::Published;
use upkeep_testkit::{binary, pass, try_wait_until};

pub(crate) use self::home::{own, sweep};
use self::{
    daemon::{is, values},
    shell::Said,
};
use crate::{
    case::{Action, Case, Says, Step},
    compare::Entry,
    normal::Normal,
    peer,
};

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
            // Ours is PM2 by the name it is called by.
            let ping = self.root.join("bin").join("of-the-daemon").join("pm2");
            fs::create_dir_all(ping.parent().unwrap_or(&self.root)).map_err(|error| error.to_string())?;
            symlink(program_of(self.pair.daemon, "pm2")?, &ping).map_err(|error| error.to_string())?;
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
                let lists = |word| text.contains(word);
                if *says == Says::Json || ["jlist", "prettylist", "describe"].into_iter().any(lists) {
                    self.rest();
                }
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
        let mut own = Vec::new();
        self.normal.json(&name, record, &mut own);
        // One that was stopped early may have been told something by its agent, or not.
        if record["pm2_env"]["status"] != "online" {
            own.retain(|line| {
                ![".axm_options", ".axm_actions", ".node_version"]
                    .iter()
                    .any(|key| line.contains(key))
            });
        }
        // It is told by the app some time after its start: where it stands among the keys is chance.
        let (late, mut early): (Vec<_>, Vec<_>) = own
            .into_iter()
            .partition(|line| line.contains(".pm2_env.node_version = "));
        early.extend(late);
        lines.append(&mut early);
    }
}

pub(crate) fn program_of(kind: Kind, program: &str) -> Result<PathBuf, String> {
    match kind {
        Kind::Real => Ok(peer::programs()?.join(program)),
        Kind::Ours => Ok(binary("upkeep")),
    }
}
