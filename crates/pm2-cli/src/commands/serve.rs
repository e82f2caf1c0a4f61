//! `serve`: an app that serves a folder.

use serde_json::{Map, Value, json};

use crate::{
    args::Invocation,
    context::{Context, Failure},
    serve::ROLE,
};

/// The port, if none is given.
const PORT: u64 = 8080;

pub(super) fn serve(context: &mut Context, invocation: &Invocation) -> Result<(), Failure> {
    let options = &invocation.options;
    let folder = invocation.operands.first().map_or(".", String::as_str);
    let port = options
        .text("port")
        .or_else(|| invocation.operands.get(1).map(String::as_str))
        .map_or_else(|| json!(PORT), |port| json!(port));
    let shown = port.as_str().map_or_else(|| port.to_string(), str::to_owned);
    let folder = super::normal(&context.cwd.join(folder));
    let name = options
        .text("name")
        .map_or_else(|| format!("static-page-server-{shown}"), str::to_owned);
    let mut env = Map::new();
    let mut set = |name: &str, value: Value| env.insert(format!("PM2_SERVE_{name}"), value);
    set("PORT", port);
    set("PATH", json!(folder));
    if options.has("spa") {
        set("SPA", json!(true));
    }
    set("FTP", json!(options.has("ftp")));
    if let (Some(user), Some(password)) = (
        options.text("basic-auth-username"),
        options.text("basic-auth-password"),
    ) {
        set("BASIC_AUTH", json!("true"));
        set("BASIC_AUTH_USERNAME", json!(user));
        set("BASIC_AUTH_PASSWORD", json!(password));
    }
    if let Some(monitor) = options.text("monitor") {
        set("MONITOR", json!(monitor));
    }
    let program = std::env::current_exe()
        .map_err(|error| Failure::new(format!("failed to find our own program: {error}")))?;
    let is_there = context.processes()?.iter().any(|process| {
        process.get("name").and_then(Value::as_str) == Some(name.as_str())
            && process.pointer("/pm2_env/status").and_then(Value::as_str) == Some("online")
    });
    if is_there && !options.has("force") {
        context.complain("Script already launched, add -f option to force re-execution");
        return Err(Failure::said(1));
    }
    let mut app = Map::new();
    app.insert("name".to_owned(), json!(name));
    app.insert(
        "namespace".to_owned(),
        json!(options.text("namespace").unwrap_or("default")),
    );
    app.insert("cwd".to_owned(), json!(folder));
    app.insert("script".to_owned(), json!(program));
    app.insert("args".to_owned(), json!([ROLE]));
    app.insert("interpreter".to_owned(), json!("none"));
    app.insert("env".to_owned(), Value::Object(env));
    if options.has("watch") {
        app.insert("watch".to_owned(), json!(true));
    }
    // What the folder is has to be known before the server starts in it.
    if !folder.is_dir() {
        context.warn(format_args!("{} is no folder", folder.display()))?;
        app.insert("cwd".to_owned(), json!(context.cwd));
    }
    context.say(format_args!(
        "Starting {} in fork_mode (1 instance)",
        program.display()
    ))?;
    super::launch::launch(context, &app, false)?;
    context.say("Done.")?;
    context.say(format_args!("Serving {} on port {shown}", folder.display()))?;
    super::list::show(context)
}
