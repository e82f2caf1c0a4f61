//! Files as users write them, and what follows. `tests/cases/*.txt` hold sections: `=== FILE NAME` (then perhaps
//! `, env NAME`), the file, `--- answer`, and the answer: an error with its hint, or of every app what differs from an
//! app about which nothing is said. `UPDATE_CASES=1` writes the answers anew; the diff is then the review.

use std::{collections::BTreeMap, fmt::Write as _, fs, io, path::Path};

use upkeep_model::file::{
    Format, Style, parse,
    resolve::{CommandLine, Facts, FileKind, Resolved, from_command_line, resolve},
    schema::json_schema,
};

fn read_file(path: &Path) -> io::Result<String> {
    match path.to_str() {
        Some("/srv/.env") => Ok("A=1\nB=from .env\n".to_owned()),
        Some("/srv/prod.env") => Ok("B=from prod.env\n".to_owned()),
        Some("/srv/shop.conf.j2") => Ok("url={{ db.url }}\n".to_owned()),
        Some("/srv/bad.env") => Ok("A=1\nB='2\n".to_owned()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    }
}

fn file_kind(path: &Path) -> Option<FileKind> {
    let name = path.file_name()?.to_str()?;
    if name.contains("missing") || name.contains(' ') || ["npm", "python3", "node"].contains(&name) {
        return None;
    }
    Some(match path.extension().and_then(|extension| extension.to_str()) {
        Some("dat") => FileKind::Binary,
        Some(_) => FileKind::Text,
        None if name == "notes" => FileKind::Text,
        None => FileKind::Executable,
    })
}

fn facts(env_name: Option<&str>) -> Facts<'static> {
    let caller_env = [
        ("HOME", "/home/ada"),
        ("TERM", "xterm"),
        ("SSH_TTY", "/dev/pts/1"),
        ("PATH", "/bin"),
    ];
    Facts {
        file_dir: "/srv".into(),
        cpus: 4,
        caller_env: caller_env
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        env_name: env_name.map(str::to_owned),
        known_apps: ["known".parse().expect("a name")].into(),
        read_file: &read_file,
        find_program: &|name| ["npm", "python3", "node", "bash"].contains(&name),
        file_kind: &file_kind,
    }
}

fn answer(name: &str, env_name: Option<&str>, text: &str) -> String {
    let resolved = Format::detect(name, text)
        .and_then(|format| parse(text, name, format))
        .and_then(|written| resolve(written, &facts(env_name)));
    match resolved {
        Ok(resolved) => shown(&resolved),
        Err(error) => {
            let hint = error
                .hint()
                .map_or_else(String::new, |hint| format!("hint: {hint}\n"));
            format!("{error}\n{hint}")
        }
    }
}

fn shown(resolved: &Resolved) -> String {
    let plain = from_command_line(
        CommandLine {
            words: vec!["x".to_owned()],
            ..CommandLine::default()
        },
        &facts(None),
    )
    .expect("an app");
    let fields = |spec| match serde_json::to_value(spec).expect("it serialises") {
        serde_json::Value::Object(fields) => fields,
        _ => unreachable!("a struct"),
    };
    let plain = fields(&plain.apps[0]);
    let mut out = String::new();
    for spec in &resolved.apps {
        writeln!(out, "{}: {}", spec.name, spec.command.join(" | ")).expect("a string");
        for (key, value) in fields(spec) {
            if key != "name" && key != "command" && plain[&key] != value {
                writeln!(out, "  {key}: {value}").expect("a string");
            }
        }
    }
    for warning in &resolved.warnings {
        writeln!(out, "warning: {warning}").expect("a string");
    }
    out
}

fn play(cases: &str) -> String {
    let mut out = String::new();
    for (index, section) in cases.split("=== ").enumerate() {
        if index == 0 {
            out += section;
            continue;
        }
        let (title, rest) = section.split_once('\n').expect("a title");
        let (text, _) = rest.split_once("--- answer\n").unwrap_or((rest, ""));
        let (name, env_name) = match title.split_once(", env ") {
            Some((name, env_name)) => (name, Some(env_name)),
            None => (title, None),
        };
        write!(
            out,
            "=== {title}\n{text}--- answer\n{}\n",
            answer(name, env_name, text)
        )
        .expect("a string");
    }
    out
}

#[test]
fn files_mean_what_their_cases_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let update = std::env::var_os("UPDATE_CASES").is_some();
    let mut wrong = Vec::new();
    for entry in fs::read_dir(&folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        let written = fs::read_to_string(&path).expect("a case");
        let played = play(&written);
        if update {
            fs::write(&path, &played).expect("writing it");
        } else if played != written {
            let first = written
                .lines()
                .zip(played.lines())
                .position(|(was, is)| was != is)
                .unwrap_or(0);
            let line = |text: &str| text.lines().nth(first).unwrap_or("").to_owned();
            wrong.push(format!(
                "{}:{}\n  file: {}\n  now:  {}",
                path.display(),
                first + 1,
                line(&written),
                line(&played)
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "answers differ (UPDATE_CASES=1 writes them anew):\n{}",
        wrong.join("\n")
    );
}

#[test]
fn the_session_is_not_inherited() {
    let line = CommandLine {
        words: vec!["api.js".to_owned()],
        ..CommandLine::default()
    };
    let resolved = from_command_line(line, &facts(None)).expect("an app");
    let names: Vec<_> = resolved.apps[0].inherited_env.keys().cloned().collect();
    assert_eq!(names, ["HOME", "PATH"]);
}

#[test]
fn command_lines_become_apps() {
    let start = |words: &[&str], args: &[&str], style| {
        let line = CommandLine {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            args: args.iter().map(|word| (*word).to_owned()).collect(),
            instances: Some("-1".to_owned()),
            env: BTreeMap::from([("A".to_owned(), "1".to_owned())]),
            style,
            ..CommandLine::default()
        };
        match from_command_line(line, &facts(None)) {
            Ok(resolved) => {
                let app = &resolved.apps[0];
                format!(
                    "{} x{}: {} ({})",
                    app.name,
                    app.instances,
                    app.command.join("|"),
                    app.stop.signal
                )
            }
            Err(error) => error.to_string(),
        }
    };
    assert_eq!(
        start(&["api.js"], &["--port", "3000"], Style::Native),
        "api x3: node|/srv/api.js|--port|3000 (15)"
    );
    assert_eq!(
        start(&["api.js"], &[], Style::Pm2),
        "api x3: node|/srv/api.js (2)"
    );
    assert_eq!(
        start(&["python3 -m http.server 8000"], &[], Style::Native),
        "python3 x3: python3|-m|http.server|8000 (15)"
    );
    assert_eq!(
        start(&["echo $HOME | cat"], &[], Style::Native),
        "echo x3: /bin/sh|-c|echo $HOME | cat (15)"
    );
    assert_eq!(
        start(&["npm", "start"], &[], Style::Native),
        "npm x3: npm|start (15)"
    );
    assert_eq!(
        start(&["./bin/shop"], &["a b"], Style::Native),
        "shop x3: /srv/bin/shop|a b (15)"
    );
    assert_eq!(
        start(&["missing.js"], &[], Style::Native),
        "command line: there is no script `/srv/missing.js`"
    );
    assert_eq!(
        start(&[], &[], Style::Native),
        "command line: nothing to start is named"
    );
}

/// Everything a schema names is read, and nothing else is.
#[test]
fn the_schema_is_of_what_is_read() {
    let schema: serde_json::Value = serde_json::from_str(&json_schema()).expect("JSON");
    assert_eq!(json_schema(), json_schema());
    assert_eq!(schema["title"], "Upkeep application file");
    let app = schema["$defs"]["App"]["properties"]
        .as_object()
        .expect("properties of an app");
    assert!(
        app.values().all(|property| property["description"].is_string()),
        "every key is described"
    );
    assert_eq!(schema["$defs"]["App"]["additionalProperties"], false);
    for key in app.keys() {
        let text = format!("apps: [{{{key}: []}}]");
        let error = parse(&text, "upkeep.yaml", Format::Yaml)
            .map_or_else(|error| error.to_string(), |_| String::new());
        assert!(!error.contains("unknown key"), "{error}");
    }
}

/// Bytes of every kind end in an answer.
#[test]
fn no_text_makes_it_panic() {
    let deep = |open: &str, close: &str| open.repeat(3000) + &close.repeat(3000);
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..12 {
        let last = level - 1;
        writeln!(
            bomb,
            "a{level}: &a{level} [{}]",
            vec![format!("*a{last}"); 9].join(",")
        )
        .expect("a string");
    }
    let texts = [
        String::new(),
        "\0".to_owned(),
        "\u{feff}".to_owned(),
        deep("[", "]"),
        deep("{a: ", "}"),
        deep("{\"a\":", "}"),
        "apps = ".to_owned() + &deep("[", "]"),
        bomb,
        "apps: &a [*a]".to_owned(),
        "apps: {<<: [1]}".to_owned(),
        "apps:\n  - name: \"\\uD800\"".to_owned(),
        "{\"apps\": [{\"name\": \"\\ud800\"}]}".to_owned(),
        "apps: [{script: x, instances: 99999999999999999999}]".to_owned(),
        "apps: [{script: x, restart: {min_uptime: 18446744073709551615}}]".to_owned(),
        "apps = 1979-05-27T07:32:00Z".to_owned(),
        "x: y\n".repeat(10),
        "KEY=\"".to_owned(),
    ];
    for text in &texts {
        for name in [
            "upkeep.yaml",
            "upkeep.toml",
            "upkeep.json",
            "ecosystem.config.json",
            "pm2.yml",
            "Procfile",
            "x.json",
        ] {
            let answer = answer(name, Some("production"), text);
            assert!(!answer.trim().is_empty(), "{name}: no answer to {text:?}");
        }
        let _ = upkeep_model::file::dotenv::parse(text).is_ok(); // only that it ends
    }
}
