//! Where to, and how to get there.

use serde_json::Value;

use super::word;

/// One entry of `deploy`.
#[derive(Clone, Debug)]
pub(super) struct Deployment {
    /// One after another.
    pub(super) hosts: Vec<String>,
    user: Option<String>,
    port: Option<String>,
    key: Option<String>,
    ssh_options: Vec<String>,
    forward_agent: bool,
    needs_tty: bool,
    repository: String,
    reference: String,
    path: String,
    fast: bool,
    settings: Value,
    environment: String,
    file: String,
}

fn yes(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Bool(value)) => *value,
        Some(Value::String(text)) => matches!(text.as_str(), "yes" | "true"),
        _ => false,
    }
}

fn list(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Array(list)) => list.iter().filter_map(|entry| word(Some(entry))).collect(),
        other => word(other).into_iter().collect(),
    }
}

impl Deployment {
    /// Errors: what is missing, in words.
    pub(super) fn parse(settings: &Value, environment: &str, file: &str) -> Result<Self, String> {
        let need =
            |key: &str| word(settings.get(key)).ok_or_else(|| format!("Missing required property: {key}"));
        let mut hosts = list(settings.get("host"));
        // `host` as objects: each may have its own name only.
        if let Some(Value::Array(entries)) = settings.get("host") {
            hosts.extend(entries.iter().filter_map(|entry| word(entry.get("host"))));
        }
        if hosts.is_empty() {
            return Err("Missing required property: host".to_owned());
        }
        let repository = need("repo")?;
        let path = need("path")?;
        let reference = need("ref")?;
        Ok(Self {
            hosts,
            user: word(settings.get("user")),
            port: word(settings.get("port")),
            key: word(settings.get("key")),
            ssh_options: list(settings.get("ssh_options")),
            forward_agent: yes(settings.get("forward-agent")),
            needs_tty: yes(settings.get("needs_tty")),
            repository,
            reference,
            path: path.trim_end_matches('/').to_owned(),
            fast: word(settings.get("fetch")).as_deref() == Some("fast"),
            settings: settings.clone(),
            environment: environment.to_owned(),
            file: file.to_owned(),
        })
    }
}

/// One machine of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) host: &'a str,
}

impl<'a> Target<'a> {
    pub(super) fn path(&self) -> &'a str {
        &self.deployment.path
    }

    pub(super) fn repository(&self) -> &'a str {
        &self.deployment.repository
    }

    pub(super) fn reference(&self) -> &'a str {
        &self.deployment.reference
    }

    /// The reference as the remote calls it: `origin/main` is the branch `main`.
    pub(super) fn branch(&self) -> &'a str {
        let reference = self.reference();
        reference.split_once('/').map_or(reference, |(_, branch)| branch)
    }

    pub(super) fn is_fast(&self) -> bool {
        self.deployment.fast
    }

    pub(super) fn hook(&self, name: &str) -> Option<&'a str> {
        let hook = self.deployment.settings.get(name).and_then(Value::as_str);
        hook.filter(|hook| !hook.trim().is_empty())
    }

    /// The last hook, with the variables of the entry; without one the file's apps are started.
    pub(super) fn post_deploy(&self) -> String {
        let own = self.hook("post-deploy").map(str::to_owned);
        let hook = own.unwrap_or_else(|| {
            format!(
                "pm2 startOrRestart {} --env {}",
                self.deployment.file, self.deployment.environment
            )
        });
        let Some(Value::Object(variables)) = self.deployment.settings.get("env") else {
            return hook;
        };
        let words: Vec<String> = variables
            .iter()
            .filter_map(|(name, value)| match value {
                Value::Bool(value) => Some(format!("{name}={value}")),
                other => word(Some(other)).map(|value| format!("{name}={}", quoted(&value))),
            })
            .collect();
        if words.is_empty() {
            return hook;
        }
        format!("export {} && {hook}", words.join(" "))
    }

    /// Everything before the command.
    pub(super) fn ssh_arguments(&self) -> Vec<String> {
        let deployment = self.deployment;
        let mut words = Vec::new();
        for option in &deployment.ssh_options {
            words.extend(["-o".to_owned(), option.clone()]);
        }
        if deployment.forward_agent {
            words.push("-A".to_owned());
        }
        if deployment.needs_tty {
            words.push("-t".to_owned());
        }
        if let Some(port) = &deployment.port {
            words.extend(["-p".to_owned(), port.clone()]);
        }
        if let Some(key) = &deployment.key {
            words.extend(["-i".to_owned(), key.clone()]);
        }
        words.push(match &deployment.user {
            Some(user) => format!("{user}@{}", self.host),
            None => self.host.to_owned(),
        });
        words
    }
}

/// Of the log that hooks leave on the machine.
pub(super) fn log_name() -> String {
    std::env::var("USER")
        .ok()
        .filter(|user| !user.is_empty() && !user.contains('/'))
        .unwrap_or_else(|| "default".to_owned())
}

/// For a shell: quoted only where it has to be.
fn quoted(value: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-./:=@%+,".contains(letter);
    if value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(settings: Value) -> Result<Deployment, String> {
        Deployment::parse(&settings, "production", "eco.json")
    }

    #[test]
    fn what_is_missing_is_named() {
        let missing = |settings| deployment(settings).expect_err("something is missing");
        assert_eq!(missing(json!({"path": "/x"})), "Missing required property: host");
        assert_eq!(missing(json!({"host": "x"})), "Missing required property: repo");
        assert_eq!(
            missing(json!({"host": "x", "repo": "r", "path": "p"})),
            "Missing required property: ref"
        );
    }

    #[test]
    fn the_way_there() {
        let deployment = deployment(json!({
            "user": "u", "host": ["a", "b"], "port": 22022, "key": "k", "ssh_options": ["A=b"],
            "forward-agent": "yes", "needs_tty": true, "repo": "r", "ref": "origin/main", "path": "/srv/",
        }))
        .expect("complete");
        assert_eq!(deployment.hosts, ["a", "b"]);
        let target = Target {
            deployment: &deployment,
            host: "a",
        };
        assert_eq!(
            target.ssh_arguments(),
            ["-o", "A=b", "-A", "-t", "-p", "22022", "-i", "k", "u@a"]
        );
        assert_eq!((target.branch(), target.path()), ("main", "/srv"));
        assert_eq!(
            target.post_deploy(),
            "pm2 startOrRestart eco.json --env production"
        );
    }

    #[test]
    fn variables_come_before_the_hook() {
        let deployment = deployment(json!({
            "host": "a", "repo": "r", "ref": "main", "path": "/srv", "post-deploy": "make",
            "env": {"FOO": "bar", "N": 3, "S": "it's a; b"},
        }))
        .expect("complete");
        let target = Target {
            deployment: &deployment,
            host: "a",
        };
        assert_eq!(target.branch(), "main");
        assert_eq!(
            target.post_deploy(),
            r"export FOO=bar N=3 S='it'\''s a; b' && make"
        );
    }
}
