//! Which programs may be workers of a cluster.
//!
//! The first Node process that is started takes the channel. `npm start`, `tsx app.ts` or `nodemon` are Node processes
//! that start the app as a child of theirs: the app would be alone, and the wrapper would look ready. So a command
//! is followed to the Node process that runs the app, where that is certain; otherwise it is refused with the
//! reason.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// How many wrappers may be within each other.
const DEEPEST: u32 = 5;

/// What is started as a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unwrapped {
    pub(crate) command: Vec<String>,
    /// Variables that the wrapper would have set.
    pub(crate) env: Vec<(String, String)>,
}

/// Why a command cannot be a worker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{command}` cannot run in cluster mode: {why} ({hint})")]
pub(crate) struct Refused {
    command: String,
    why: String,
    hint: String,
}

/// Whether the name of a program is Node's.
pub(crate) fn is_node(program: &str) -> bool {
    program == "nodejs"
        || program
            .strip_prefix("node")
            .is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

const DIRECT: &str =
    "name the script that listens, as in `node server.js`, or use `mode: fork` with `listen:`";

/// Follows a command to the Node process that runs the app.
pub(crate) fn unwrap(command: &[String], cwd: &Path) -> Result<Unwrapped, Refused> {
    let start = Unwrapped {
        command: command.to_vec(),
        env: Vec::new(),
    };
    step(start, cwd, 0).map_err(|(why, hint)| Refused {
        command: command.join(" "),
        why,
        hint,
    })
}

type Step = Result<Unwrapped, (String, String)>;

fn no(why: impl Into<String>, hint: impl Into<String>) -> Step {
    Err((why.into(), hint.into()))
}

fn step(mut at: Unwrapped, cwd: &Path, depth: u32) -> Step {
    if depth > DEEPEST {
        return no(
            "it calls itself, or too many wrappers stand before the app",
            DIRECT,
        );
    }
    let Some(first) = at.command.first().cloned() else {
        return no("there is no command", DIRECT);
    };
    let name = Path::new(&first)
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
        .to_owned();
    match name.as_str() {
        "bun" => bun(at, cwd),
        "npm" | "yarn" | "pnpm" => package_script(at, &name, cwd, depth),
        "npx" => {
            at.command.remove(0);
            while at
                .command
                .first()
                .is_some_and(|word| matches!(word.as_str(), "-y" | "--yes" | "--no-install" | "--no"))
            {
                at.command.remove(0);
            }
            if at.command.first().is_some_and(|word| word.starts_with('-')) {
                return no("its options are not known here", DIRECT);
            }
            step(at, cwd, depth + 1)
        }
        "tsx" => tsx(at, cwd),
        "ts-node" => {
            let script = at.command.get(1).filter(|word| !word.starts_with('-'));
            match script {
                Some(_) if find_module(cwd, "ts-node").is_some() => {
                    at.command
                        .splice(0..1, ["node", "--require", "ts-node/register"].map(str::to_owned));
                    Ok(at)
                }
                _ => no(
                    "`ts-node` starts the app as a child, and how is not certain",
                    "as `node --require ts-node/register app.ts` it can",
                ),
            }
        }
        "env" | "cross-env" => {
            at.command.remove(0);
            assignments(&mut at);
            step(at, cwd, depth + 1)
        }
        "sh" | "bash" | "dash" | "ash" => shell(at, cwd, depth),
        "nodemon" | "node-dev" | "ts-node-dev" | "tsnd" => no(
            format!("`{name}` watches files and starts the app as a child of its own"),
            "`watch: true` does the same here",
        ),
        "pm2" | "pm2-runtime" | "forever" | "concurrently" | "nx" | "turbo" | "lerna" => {
            no(format!("`{name}` starts processes of its own"), DIRECT)
        }
        "next" => no(
            "`next` is a wrapper that may serve from a process of its own",
            "build with `output: standalone` and start `node .next/standalone/server.js`",
        ),
        "nest" | "vite" | "nuxt" | "nuxi" | "react-scripts" | "astro" | "remix-serve" | "serve" => no(
            format!("`{name}` is a wrapper, and which process serves is not certain"),
            "start what it builds, as in `node dist/main.js`",
        ),
        name if is_node(name) => node(at, cwd, depth),
        _ => match shebang(&first, cwd) {
            Some(program) if is_node(&program) => {
                at.command.insert(0, "node".to_owned());
                node(at, cwd, depth)
            }
            _ => no(
                format!("`{name}` is not Node"),
                "only Node has clusters; use `listen:` to share sockets among instances of any program",
            ),
        },
    }
}

/// Node itself: what it is asked to run.
fn node(mut at: Unwrapped, cwd: &Path, depth: u32) -> Step {
    // Options whose value is the next word.
    const VALUED: [&str; 9] = [
        "-r",
        "--require",
        "--import",
        "--loader",
        "--experimental-loader",
        "-C",
        "--conditions",
        "--title",
        "--env-file",
    ];
    let mut position = 1;
    while let Some(word) = at.command.get(position) {
        if !word.starts_with('-') {
            break;
        }
        let option = word.split('=').next().unwrap_or_default();
        if matches!(option, "--watch" | "--watch-path") {
            return no(
                "`node --watch` starts the app as a child of its own",
                "`watch: true` does the same here",
            );
        }
        if matches!(
            option,
            "-e" | "--eval"
                | "-p"
                | "--print"
                | "-pe"
                | "-i"
                | "--interactive"
                | "--test"
                | "-c"
                | "--check"
                | "--run"
        ) {
            return no(
                format!("`node {option}` runs no script that could be a worker"),
                DIRECT,
            );
        }
        if word == "--" {
            position += 1;
            break;
        }
        position += if VALUED.contains(&word.as_str()) { 2 } else { 1 };
    }
    let Some(script) = at.command.get(position) else {
        return no("Node was given no script", DIRECT);
    };
    // The wrappers' own files.
    let path = cwd.join(script);
    let path = path.canonicalize().unwrap_or(path);
    let text = path.to_string_lossy();
    let wrapper = [
        ("/tsx/dist/cli", "tsx"),
        ("/npm/bin/npm-cli", "npm"),
        ("/npm/bin/npx-cli", "npx"),
        ("/ts-node/dist/bin", "ts-node"),
        ("/nodemon/bin/", "nodemon"),
        ("/next/dist/bin/", "next"),
        ("/cross-env/", "cross-env"),
    ]
    .into_iter()
    .find(|(part, _)| text.contains(&format!("/node_modules{part}")));
    match wrapper {
        Some((_, name)) => {
            at.command.splice(0..=position, [name.to_owned()]);
            step(at, cwd, depth + 1)
        }
        None => Ok(at),
    }
}

/// `bun app.ts`, `bun run app.ts`.
fn bun(at: Unwrapped, cwd: &Path) -> Step {
    let words: Vec<&str> = at.command[1..].iter().map(String::as_str).collect();
    let script = match words.as_slice() {
        ["run", script, ..] | [script, ..] => *script,
        [] => return no("Bun was given no script", DIRECT),
    };
    if matches!(script, "--watch" | "--hot") {
        return no(
            "Bun would watch files by itself",
            "`watch: true` does the same here",
        );
    }
    if script.starts_with('-') || cwd.join(script).is_file() {
        return Ok(at);
    }
    no(
        format!("`{script}` is no file, and as a script of package.json it would be a child of Bun's"),
        "name the file, as in `bun server.ts`",
    )
}

/// `npm start`, `npm run X`, and the same of yarn and pnpm.
fn package_script(at: Unwrapped, tool: &str, cwd: &Path, depth: u32) -> Step {
    let words: Vec<&str> = at.command[1..].iter().map(String::as_str).collect();
    let (script, rest) = match words.as_slice() {
        ["run" | "run-script", script, rest @ ..] => (*script, rest),
        ["start", rest @ ..] => ("start", rest),
        ["exec", ..] => return no(format!("`{tool} exec` starts a child of its own"), DIRECT),
        [script, rest @ ..] if tool != "npm" && !script.starts_with('-') => (*script, rest),
        _ => return no(format!("what `{tool}` would start is not certain"), DIRECT),
    };
    if script.starts_with('-') {
        return no(format!("what `{tool}` would start is not certain"), DIRECT);
    }
    let file = cwd.join("package.json");
    let package: Value = match std::fs::read(&file).map(|bytes| serde_json::from_slice(&bytes)) {
        Ok(Ok(package)) => package,
        Ok(Err(error)) => return no(format!("{} cannot be read: {error}", file.display()), DIRECT),
        Err(error) => return no(format!("{} cannot be read: {error}", file.display()), DIRECT),
    };
    let of = |name: &str| package.get("scripts")?.get(name)?.as_str();
    for around in ["pre", "post"] {
        let name = format!("{around}{script}");
        if of(&name).is_some() {
            return no(
                format!("{} has a script `{name}`, which would not be run", file.display()),
                "run it before, and name the script that listens",
            );
        }
    }
    let line = match of(script) {
        Some(line) => line.to_owned(),
        // As npm does it.
        None if script == "start" && cwd.join("server.js").is_file() => "node server.js".to_owned(),
        None => return no(format!("{} has no script `{script}`", file.display()), DIRECT),
    };
    let Some(command) = split(&line) else {
        return no(
            format!(
                "the script `{script}` of {} needs a shell: `{line}`",
                file.display()
            ),
            DIRECT,
        );
    };
    let mut next = Unwrapped { command, env: at.env };
    for (key, value) in [
        ("npm_lifecycle_event", Some(script)),
        ("npm_lifecycle_script", Some(line.as_str())),
        ("npm_package_json", file.to_str()),
        ("npm_package_name", package.get("name").and_then(Value::as_str)),
        (
            "npm_package_version",
            package.get("version").and_then(Value::as_str),
        ),
    ] {
        if let Some(value) = value {
            next.env.push((key.to_owned(), value.to_owned()));
        }
    }
    assignments(&mut next);
    let mut rest = rest.iter().copied().peekable();
    // npm takes what stands before `--` for itself.
    if tool == "npm"
        && rest
            .peek()
            .is_some_and(|word| word.starts_with('-') && *word != "--")
    {
        return no("options of npm's own are not known here", DIRECT);
    }
    if rest.peek() == Some(&"--") {
        rest.next();
    }
    next.command.extend(rest.map(str::to_owned));
    step(next, cwd, depth + 1)
}

/// `tsx app.ts` is `node --import tsx app.ts`, but for a process in between.
fn tsx(mut at: Unwrapped, cwd: &Path) -> Step {
    let hint = "as `node --import tsx app.ts` it can";
    if matches!(at.command.get(1).map(String::as_str), Some("watch" | "--test")) {
        return no(
            "`tsx watch` starts the app as a child of its own",
            "`watch: true` does the same here",
        );
    }
    if at.command.get(1).is_some_and(|word| word == "--tsconfig") && at.command.len() > 3 {
        let path = at.command.remove(2);
        at.command.remove(1);
        at.env.push(("TSX_TSCONFIG_PATH".to_owned(), path));
    }
    if at.command.get(1).is_none_or(|word| word.starts_with('-')) {
        return no(
            "`tsx` starts the app as a child of its own, and its options are not known here",
            hint,
        );
    }
    if find_module(cwd, "tsx").is_none() {
        return no(
            format!("`tsx` is not in node_modules of {} or above", cwd.display()),
            "`npm install tsx` there",
        );
    }
    at.command
        .splice(0..1, ["node", "--import", "tsx"].map(str::to_owned));
    Ok(at)
}

/// `sh -c "node app.js"`: the variables and the channel pass through, if the command is one.
fn shell(at: Unwrapped, cwd: &Path, depth: u32) -> Step {
    let [_, flag, line] = at.command.as_slice() else {
        return no("which process of a shell script listens is not certain", DIRECT);
    };
    if flag != "-c" {
        return no("which process of a shell script listens is not certain", DIRECT);
    }
    let line = line.trim();
    let Some(command) = split(line.strip_prefix("exec ").unwrap_or(line)) else {
        return no(
            "which process of a shell's command listens is not certain",
            DIRECT,
        );
    };
    let mut next = Unwrapped { command, env: at.env };
    assignments(&mut next);
    step(next, cwd, depth + 1)
}

/// Takes `NAME=value` from the front of a command.
fn assignments(at: &mut Unwrapped) {
    while let Some((name, value)) = at.command.first().and_then(|word| word.split_once('=')) {
        let is_name = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_name {
            return;
        }
        at.env.push((name.to_owned(), value.to_owned()));
        at.command.remove(0);
    }
}

/// The words of a simple command. `None`: it needs a shell.
fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' => words.extend(word.take()),
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        end if end == c => break,
                        '$' | '`' | '\\' if c == '"' => return None,
                        other => word.push(other),
                    }
                }
            }
            '&' | '|' | ';' | '<' | '>' | '(' | ')' | '$' | '`' | '\\' | '*' | '?' | '[' | '{' | '~'
            | '#' | '!' | '\n' | '\r' => return None,
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    (!words.is_empty()).then_some(words)
}

/// A package that `require` would find from a directory.
fn find_module(cwd: &Path, name: &str) -> Option<PathBuf> {
    cwd.ancestors()
        .map(|folder| folder.join("node_modules").join(name))
        .find(|folder| folder.is_dir())
}

/// The program of a script's first line.
fn shebang(program: &str, cwd: &Path) -> Option<String> {
    use std::io::Read as _;
    if !program.contains('/') {
        return None;
    }
    let mut head = [0; 256];
    let mut file = std::fs::File::open(cwd.join(program)).ok()?;
    let length = file.read(&mut head).ok()?;
    let line = std::str::from_utf8(&head[..length])
        .ok()?
        .lines()
        .next()?
        .strip_prefix("#!")?
        .trim();
    let mut words = line.split_whitespace();
    let first = Path::new(words.next()?).file_name()?.to_str()?;
    match first {
        "env" => words.find(|word| !word.starts_with('-')).map(str::to_owned),
        other => Some(other.to_owned()),
    }
}

/// Gives each worker a debugger's port of its own: `--inspect=HOST:PORT` becomes `PORT + offset`. 0 stays: any port.
pub(crate) fn inspect(word: &str, offset: u16) -> Option<String> {
    const BASE: u16 = 9229;
    let (option, value) = match word.split_once('=') {
        Some((option, value)) => (option, Some(value)),
        None => (word, None),
    };
    if !matches!(
        option,
        "--inspect" | "--inspect-brk" | "--inspect-wait" | "--inspect-port" | "--debug-port"
    ) {
        return None;
    }
    let value = match value {
        None => BASE.checked_add(offset)?.to_string(),
        Some(value) => {
            let (host, port) = match value.rsplit_once(':') {
                Some((host, port)) => (Some(host), port.parse::<u16>().ok()?),
                None => match value.parse::<u16>() {
                    Ok(port) => (None, port),
                    Err(_) => (Some(value), BASE),
                },
            };
            if port == 0 {
                return None;
            }
            let port = port.checked_add(offset)?;
            host.map_or_else(|| port.to_string(), |host| format!("{host}:{port}"))
        }
    };
    Some(format!("{option}={value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case(tempfile::TempDir);

    impl Case {
        fn new(scripts: &str) -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let package = format!("{{\"name\": \"shop\", \"version\": \"1.2.3\", \"scripts\": {scripts}}}");
            std::fs::write(dir.path().join("package.json"), package).expect("written");
            for module in ["tsx", "ts-node"] {
                std::fs::create_dir_all(dir.path().join("node_modules").join(module)).expect("a module");
            }
            Self(dir)
        }

        fn unwrap(&self, command: &str) -> Result<Unwrapped, String> {
            let command: Vec<String> = command.split(' ').map(str::to_owned).collect();
            unwrap(&command, self.0.path()).map_err(|error| error.to_string())
        }

        #[track_caller]
        fn becomes(&self, command: &str, wanted: &str) -> Unwrapped {
            let unwrapped = self.unwrap(command).expect("it can be a worker");
            assert_eq!(unwrapped.command.join(" "), wanted, "{command}");
            unwrapped
        }

        #[track_caller]
        fn refuses(&self, command: &str, reason: &str) {
            let why = self.unwrap(command).expect_err(command);
            assert!(why.contains(reason), "{command}: {why}");
            assert!(why.ends_with(')'), "no hint: {why}");
        }
    }

    #[test]
    fn what_runs_the_app_is_found() {
        let case = Case::new(
            r#"{"start": "NODE_ENV=production tsx --tsconfig t.json src/app.ts", "web": "node --max-old-space-size=100 'a b.js' --x",
                "deep": "npm run web -- --y", "both": "cross-env A=1 node app.js"}"#,
        );
        case.becomes("node server.js", "node server.js");
        case.becomes(
            "/opt/node/bin/node -r x --import y server.js -e",
            "/opt/node/bin/node -r x --import y server.js -e",
        );
        let start = case.becomes("npm start", "node --import tsx src/app.ts");
        for (name, value) in [
            ("NODE_ENV", "production"),
            ("TSX_TSCONFIG_PATH", "t.json"),
            ("npm_package_version", "1.2.3"),
            ("npm_lifecycle_event", "start"),
        ] {
            assert!(
                start.env.contains(&(name.to_owned(), value.to_owned())),
                "{start:?}"
            );
        }
        case.becomes("yarn deep", "node --max-old-space-size=100 a b.js --x --y");
        case.becomes("pnpm run both --z", "node app.js --z");
        case.becomes("npx -y tsx app.ts 1", "node --import tsx app.ts 1");
        case.becomes("./node_modules/.bin/tsx app.ts", "node --import tsx app.ts");
        case.becomes("ts-node app.ts", "node --require ts-node/register app.ts");
        case.becomes("env PORT=1 node app.js", "node app.js");
        let command = ["sh", "-c", "A=1 exec node app.js"].map(str::to_owned);
        unwrap(&command, case.0.path()).expect_err("`exec` after an assignment is a shell's word");
        let command = ["sh", "-c", "exec node app.js"].map(str::to_owned);
        assert_eq!(
            unwrap(&command, case.0.path()).expect("one command").command,
            ["node", "app.js"]
        );
        std::fs::write(case.0.path().join("tool"), "#!/usr/bin/env -S node --x\n").expect("written");
        case.becomes("./tool a", "node ./tool a");
        std::fs::write(case.0.path().join("b.ts"), "").expect("written");
        case.becomes("bun run b.ts", "bun run b.ts");
    }

    #[test]
    fn what_hides_the_app_is_refused_with_the_reason() {
        let case = Case::new(
            r#"{"start": "node build.js && node app.js", "dev": "nodemon app.js", "web": "node app.js", "preweb": "node x.js",
                "loop": "npm run loop", "py": "gunicorn app"}"#,
        );
        case.refuses("npm start", "needs a shell");
        case.refuses("npm run dev", "watches files");
        case.refuses("npm run web", "`preweb`");
        case.refuses("npm run loop", "calls itself");
        case.refuses("npm run py", "`gunicorn` is not Node");
        case.refuses("npm run none", "no script `none`");
        case.refuses("npm --prefix x start", "not certain");
        case.refuses("node --watch app.js", "child of its own");
        case.refuses("node -e 1", "no script");
        case.refuses("node", "no script");
        case.refuses("tsx watch app.ts", "child of its own");
        case.refuses("next start", "wrapper");
        case.refuses("python app.py", "is not Node");
        case.refuses("bun run start", "is no file");
        let empty = tempfile::tempdir().expect("a directory");
        let command = ["npm", "start"].map(str::to_owned);
        let why = unwrap(&command, empty.path()).expect_err("there is no package.json");
        assert!(why.to_string().contains("package.json cannot be read"), "{why}");
        let command = ["tsx", "a.ts"].map(str::to_owned);
        let why = unwrap(&command, empty.path()).expect_err("there is no tsx");
        assert!(why.to_string().contains("npm install tsx"), "{why}");
        // By its own file, as some start it.
        let path = empty.path().join("node_modules/nodemon/bin");
        std::fs::create_dir_all(&path).expect("a directory");
        std::fs::write(path.join("nodemon.js"), "").expect("written");
        let command = ["node", "node_modules/nodemon/bin/nodemon.js", "a.js"].map(str::to_owned);
        let why = unwrap(&command, empty.path()).expect_err("it is nodemon");
        assert!(why.to_string().contains("watches files"), "{why}");
    }

    #[test]
    fn each_worker_has_its_own_port_for_a_debugger() {
        let of = |word| inspect(word, 2);
        assert_eq!(of("--inspect").as_deref(), Some("--inspect=9231"));
        assert_eq!(of("--inspect=9300").as_deref(), Some("--inspect=9302"));
        assert_eq!(
            of("--inspect-brk=0.0.0.0:9300").as_deref(),
            Some("--inspect-brk=0.0.0.0:9302")
        );
        assert_eq!(
            of("--inspect=localhost").as_deref(),
            Some("--inspect=localhost:9231")
        );
        assert_eq!(of("--inspect=0"), None);
        assert_eq!(of("--inspector"), None);
        assert_eq!(of("app.js"), None);
    }
}
