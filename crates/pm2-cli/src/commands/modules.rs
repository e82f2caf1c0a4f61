//! Modules: npm packages that run as apps of their own. `install`, `uninstall`, `module:*`, `package`, `publish`, and
//! their start whenever a daemon is born.
//!
//! A module lives in `modules/NAME/node_modules/NAME`. npm does the work, the user's.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use serde_json::{Map, Value, json};

use super::{
    conf,
    launch::{self, module_conf},
};
use crate::{
    args::Invocation,
    context::{Context, Failure, pause},
    logs::text,
};

/// The list of what was installed, in the store of settings.
const DATABASE: &str = "module-db-v2";
/// A module that restarts more often than this while it is watched is rolled back (`--safe`).
const RESTARTS: u64 = 2;
/// How long it is watched, if `--safe` does not say.
const WATCHED_MS: u64 = 3000;

fn say(context: &Context, what: &str) -> Result<(), Failure> {
    let style = context.style;
    context.print(format_args!(
        "{}{what}",
        style.bold(style.green("[PM2][Module] "))
    ))
}

fn refuse(context: &Context, what: impl std::fmt::Display) -> Failure {
    use std::io::Write as _;
    // The exit code tells as well.
    let _ = writeln!(
        io::stderr().lock(),
        "{}{what}",
        context.style.red("[PM2][Module][ERROR] ")
    );
    Failure::said(1)
}

fn read_package(folder: &Path) -> Result<Map<String, Value>, Failure> {
    let path = folder.join("package.json");
    let bytes = fs::read(&path)
        .map_err(|error| Failure::new(format!("failed to read `{}`: {error}", path.display())))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::new(format!("failed to read `{}`: {error}", path.display())))
}

fn name_of(package: &Map<String, Value>) -> Result<String, Failure> {
    let name = package.get("name").and_then(Value::as_str).unwrap_or_default();
    if is_name(name) {
        Ok(name.to_owned())
    } else {
        Err(Failure::new(format!("`{name}` is no name of a package")))
    }
}

/// A name that is a folder of its own and leads nowhere else.
fn is_name(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    let plain = |part: &str| {
        !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', '\0']) && part != "node_modules"
    };
    match parts.as_slice() {
        [one] => plain(one) && !one.starts_with('@'),
        [scope, one] => scope.len() > 1 && scope.starts_with('@') && plain(one),
        _ => false,
    }
}

fn home_of(context: &Context, name: &str) -> PathBuf {
    context.home.modules.join(name)
}

fn package_of(context: &Context, name: &str) -> PathBuf {
    home_of(context, name).join("node_modules").join(name)
}

/// What is started: `apps` or `pm2` of the package, else its `main` or `bin`.
fn apps_of(package: &Map<String, Value>, name: &str) -> Vec<Map<String, Value>> {
    let listed = package.get("apps").or_else(|| package.get("pm2"));
    let apps: Vec<Map<String, Value>> = match listed {
        Some(Value::Array(list)) => list.iter().filter_map(|app| app.as_object().cloned()).collect(),
        Some(Value::Object(app)) => vec![app.clone()],
        _ => {
            let bin = match package.get("bin") {
                Some(Value::Object(bins)) => bins.values().next().and_then(Value::as_str),
                other => other.and_then(Value::as_str),
            };
            let main = package.get("main").and_then(Value::as_str);
            let mut app = Map::new();
            app.insert("script".to_owned(), json!(main.or(bin).unwrap_or("index.js")));
            vec![app]
        }
    };
    let alone = apps.len() == 1;
    apps.into_iter()
        .map(|mut app| {
            if alone || !app.contains_key("name") {
                app.insert("name".to_owned(), json!(name));
            }
            app
        })
        .collect()
}

/// Defaults of the package for what is not set yet.
fn merge_defaults(conf: &mut Map<String, Value>, name: &str, package: &Map<String, Value>) -> bool {
    let Some(Value::Object(defaults)) = package.get("config") else {
        return false;
    };
    let values = conf.entry(name).or_insert_with(|| json!({}));
    if let Value::Object(values) = values {
        for (key, value) in defaults {
            if !values.contains_key(key) {
                values.insert(key.clone(), value.clone());
            }
        }
    }
    true
}

fn start(context: &mut Context, name: &str, folder: &Path, develop: bool) -> Result<(), Failure> {
    let package = read_package(folder)?;
    if !develop {
        let mut conf = module_conf(context);
        if merge_defaults(&mut conf, name, &package) {
            conf::store(context, &conf)?;
        }
    }
    let mut count = 0;
    for mut app in apps_of(&package, name) {
        app.insert("cwd".to_owned(), json!(folder));
        app.insert("pmx_module".to_owned(), json!(true));
        if develop {
            app.insert("watch".to_owned(), json!(true));
        }
        launch::launch(context, &app, true)?;
        count += 1;
    }
    context.say(format_args!("App [{name}] launched ({count} instances)"))
}

fn npm(folder: &Path, arguments: &[&str]) -> Result<ExitStatus, Failure> {
    let mut command = Command::new("npm");
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    command
        .status()
        .map_err(|error| Failure::new(format!("failed to run `npm`: {error}")))
}

pub(super) fn install(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let word = invocation.operands.first().cloned().unwrap_or_default();
    let options = &invocation.options;
    context.home.make()?;
    // A daemon that is born now starts what was there before.
    context.rpc()?;
    let watched = options.has("safe").then(|| {
        options
            .text("safe")
            .and_then(|text| text.parse().ok())
            .unwrap_or(WATCHED_MS)
    });
    if word == "." || word.is_empty() {
        install_here(context)?;
    } else if options.has("tarball") || word.ends_with(".tar.gz") && Path::new(&word).is_file() {
        say(context, "Installing TAR module")?;
        say(context, &format!("Installing package {word}"))?;
        install_with_npm(context, &word, watched)?;
    } else {
        say(context, &format!("Installing NPM {word} module"))?;
        install_with_npm(context, &word, watched)?;
    }
    super::list::show(context)
}

fn install_here(context: &mut Context) -> Result<(), Failure> {
    say(context, "Installing local NPM module")?;
    let folder = context.cwd.clone();
    let package = read_package(&folder)?;
    let name = name_of(&package)?;
    say(
        context,
        "Installing local module in DEVELOPMENT MODE with WATCH auto restart",
    )?;
    launch::delete(context, &name)?;
    context.warn(format_args!("Applications {name} not running, starting..."))?;
    start(context, &name, &folder, true)?;
    say(context, "Module successfully installed and launched")
}

/// npm installs into a folder beside the others, which takes the place of the old one when all is well.
fn install_with_npm(context: &mut Context, word: &str, watched: Option<u64>) -> Result<(), Failure> {
    let style = context.style;
    if is_name(word) && home_of(context, word).is_dir() {
        say(context, "Module already installed. Updating.")?;
    }
    say(
        context,
        &format!("Calling {} to install {word} ...", style.bold(style.red("[NPM]"))),
    )?;
    let fresh = context.home.modules.join(format!(".new-{}", std::process::id()));
    let outcome = download(context, word, &fresh);
    let name = match outcome {
        Ok(name) => name,
        Err(failure) => {
            // It may not be there at all.
            let _ = fs::remove_dir_all(&fresh);
            if failure.message.is_none() {
                context.complain("Installation failed via NPM, module has been restored to prev version");
            }
            return Err(failure);
        }
    };
    say(context, "Module downloaded")?;
    launch::delete(context, &name)?;
    let place = home_of(context, &name);
    let old = context.home.modules.join(format!(".old-{}", std::process::id()));
    let had_old = place.exists();
    if had_old {
        fs::rename(&place, &old)?;
    }
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::rename(&fresh, &place)?;
    let folder = package_of(context, &name);
    let started = start(context, &name, &folder, false);
    let fine = match (&started, watched) {
        (Ok(()), Some(time)) => is_calm(context, &name, time)?,
        (outcome, _) => outcome.is_ok(),
    };
    if !fine {
        launch::delete(context, &name)?;
        fs::remove_dir_all(&place)?;
        if had_old {
            fs::rename(&old, &place)?;
            start(context, &name, &folder, false)?;
        }
        started?;
        return Err(refuse(
            context,
            "New version is unstable, restored the previous one",
        ));
    }
    if had_old {
        fs::remove_dir_all(&old)?;
    }
    let mut conf = module_conf(context);
    let database = conf.entry(DATABASE).or_insert_with(|| json!({}));
    if let Value::Object(database) = database {
        database.insert(name.clone(), json!({}));
    }
    conf::store(context, &conf)?;
    if conf.contains_key(&name) {
        conf::display(context, &conf, Some(&name))?;
        context.print("Modules configuration. Copy/Paste line to edit values.")?;
    }
    say(context, "Module successfully installed and launched")?;
    say(context, "Checkout module options: `$ pm2 conf`")
}

/// Installs into an empty folder; which package came.
fn download(context: &Context, word: &str, fresh: &Path) -> Result<String, Failure> {
    fs::create_dir_all(fresh)?;
    fs::write(fresh.join("package.json"), "{}\n")?;
    // A path is meant from where the user stands, not from the new folder.
    let local = context.cwd.join(word);
    let what = if local.exists() {
        local.display().to_string()
    } else {
        word.to_owned()
    };
    let prefix = fresh.display().to_string();
    let status = npm(
        fresh,
        &[
            "install",
            &what,
            "--loglevel=error",
            "--install-links",
            "--prefix",
            &prefix,
        ],
    )?;
    if !status.success() {
        return Err(Failure::said(1));
    }
    let package = read_package(fresh)?;
    let dependencies = package.get("dependencies").and_then(Value::as_object);
    dependencies
        .and_then(|dependencies| dependencies.keys().next())
        .filter(|name| is_name(name))
        .cloned()
        .ok_or_else(|| Failure::new(format!("npm has installed no package for `{word}`")))
}

/// Does it keep running?
fn is_calm(context: &mut Context, name: &str, time_ms: u64) -> Result<bool, Failure> {
    say(context, "Checking the stability of the new version")?;
    pause(Duration::from_millis(time_ms));
    Ok(context
        .processes()?
        .iter()
        .filter(|process| text(process, "name") == name)
        .all(|process| {
            let restarts = process.pointer("/pm2_env/restart_time").and_then(Value::as_u64);
            let status = process.pointer("/pm2_env/status").and_then(Value::as_str);
            restarts.unwrap_or(0) <= RESTARTS && status == Some("online")
        }))
}

pub(super) fn uninstall(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let name = invocation.operands.first().cloned().unwrap_or_default();
    context.rpc()?;
    let names = if name == "all" {
        installed(context)
    } else {
        vec![name]
    };
    for name in names {
        say(context, &format!("Uninstalling module {name}"))?;
        let count = launch::delete(context, &name)?;
        let place = home_of(context, &name);
        let is_there = is_name(&name) && place.is_dir();
        if count == 0 && !is_there {
            return Err(refuse(context, "Unknown module"));
        }
        if count > 0 {
            context.print("In memory process deleted")?;
        }
        if is_there {
            context.print(format_args!("Deleting {}", place.display()))?;
            fs::remove_dir_all(&place)
                .map_err(|error| Failure::new(format!("failed to remove `{}`: {error}", place.display())))?;
        }
        let mut conf = module_conf(context);
        if let Some(Value::Object(database)) = conf.get_mut(DATABASE)
            && database.shift_remove(&name).is_some()
        {
            conf::store(context, &conf)?;
        }
    }
    super::list::show(context)
}

/// Names of the modules that are there.
fn installed(context: &Context) -> Vec<String> {
    let folders = |path: &Path| -> Vec<String> {
        let entries = fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
        let mut names: Vec<String> = entries
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    folders(&context.home.modules)
        .into_iter()
        .flat_map(|name| {
            if name.starts_with('@') {
                let inner = folders(&context.home.modules.join(&name));
                inner.into_iter().map(|inner| format!("{name}/{inner}")).collect()
            } else {
                vec![name]
            }
        })
        .filter(|name| is_name(name) && package_of(context, name).join("package.json").is_file())
        .collect()
}

/// Starts every module: a daemon was just born. What goes wrong with one is said, and the others are started.
pub(crate) fn start_all(context: &mut Context) -> Result<(), Failure> {
    for name in installed(context) {
        say(context, &format!("Starting NPM module {name}"))?;
        let folder = package_of(context, &name);
        if let Err(failure) = start(context, &name, &folder, false) {
            context.complain(failure.message.unwrap_or_default());
        }
    }
    Ok(())
}

pub(super) fn package(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let folder = folder(context, invocation);
    let package = read_package(&folder)?;
    let name = name_of(&package)?;
    say(context, &format!("Packaging {name}"))?;
    let status = npm(&folder, &["pack", "--loglevel=error"])?;
    if status.success() {
        Ok(())
    } else {
        Err(refuse(context, "Packaging failed"))
    }
}

fn folder(context: &Context, invocation: &Invocation) -> PathBuf {
    let folder = invocation.operands.first().map_or(".", String::as_str);
    super::normal(&context.cwd.join(folder))
}

/// Raises the last part of the version, then publishes.
pub(super) fn publish(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let folder = folder(context, invocation);
    if !folder.join("package.json").is_file() {
        let complaint = format!("{} module does not contain any package.json", folder.display());
        return Err(refuse(context, complaint));
    }
    let name = name_of(&read_package(&folder)?)?;
    let raised = npm(
        &folder,
        &["version", "patch", "--no-git-tag-version", "--loglevel=error"],
    )?;
    if !raised.success() {
        return Err(refuse(
            context,
            format_args!("The version of {name} could not be raised"),
        ));
    }
    say(context, &format!("Publishing {name}"))?;
    if npm(&folder, &["publish"])?.success() {
        say(context, &format!("Module {name} successfully published"))
    } else {
        Err(refuse(context, format_args!("{name} could not be published")))
    }
}

/// A module to begin with.
pub(super) fn generate(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let name = match invocation.operands.first() {
        Some(name) => name.clone(),
        None => super::misc::ask(
            context,
            &format!(
                "{}Module name: ",
                context.style.bold(context.style.green("[PM2][Module] "))
            ),
        )?,
    };
    if !is_name(&name) {
        return Err(refuse(context, format_args!("`{name}` is no name of a package")));
    }
    let folder = context.cwd.join(&name);
    if folder.exists() {
        return Err(refuse(context, format_args!("{} exists", folder.display())));
    }
    fs::create_dir_all(&folder)?;
    let package = json!({
        "name": name, "version": "0.0.1", "description": "A module for PM2", "main": "index.js",
        "config": {"interval": 10_000},
    });
    fs::write(folder.join("package.json"), format!("{package:#}\n"))?;
    fs::write(
        folder.join("index.js"),
        "// Settings (`pm2 set NAME:interval 5000`) arrive as variables of the environment.\n\
         const interval = Number(process.env.interval) || 10000;\n\n\
         setInterval(() => console.log('alive'), interval);\n",
    )?;
    say(
        context,
        &format!("Module sample created in folder: {}", folder.display()),
    )?;
    say(
        context,
        "Start it in development mode with `pm2 install .` in that folder",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_folder() {
        for good in ["pm2-logrotate", "@scope/x", "a.b"] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "", ".", "..", "a/b", "../a", "@", "@/a", "@s/../x", "@s/.", "/etc", "a\0", "@s",
        ] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_package_without_apps_is_its_main_or_its_bin() {
        let package = |value: Value| value.as_object().cloned().expect("an object");
        let script = |value| apps_of(&package(value), "m")[0]["script"].clone();
        assert_eq!(script(json!({"main": "a.js", "bin": "b.js"})), "a.js");
        assert_eq!(script(json!({"bin": {"x": "b.js"}})), "b.js");
        assert_eq!(script(json!({})), "index.js");
        let apps = apps_of(&package(json!({"apps": [{"name": "one", "script": "x"}]})), "m");
        assert_eq!(apps[0]["name"], "m");
        let apps = apps_of(&package(json!({"pm2": [{"name": "one"}, {"name": "two"}]})), "m");
        assert_eq!(
            (&apps[0]["name"], &apps[1]["name"]),
            (&json!("one"), &json!("two"))
        );
    }

    #[test]
    fn defaults_do_not_replace_what_was_set() {
        let mut conf: Map<String, Value> =
            serde_json::from_value(json!({"m": {"who": "me"}})).expect("an object");
        let package = json!({"config": {"who": "world", "num": 3}});
        assert!(merge_defaults(
            &mut conf,
            "m",
            package.as_object().expect("an object")
        ));
        assert_eq!(json!(conf), json!({"m": {"who": "me", "num": 3}}));
        assert!(!merge_defaults(&mut conf, "n", &Map::new()));
    }
}
