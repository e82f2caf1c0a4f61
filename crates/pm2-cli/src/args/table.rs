//! The words that PM2's command line knows.

use super::{CommandSpec, OptionSpec};

/// Shorthand for the tables: flags as commander writes them, and what they are for.
pub(super) const fn option(flags: &'static str, about: &'static str) -> OptionSpec {
    OptionSpec { flags, about }
}

const fn command(usage: &'static str, about: &'static str) -> CommandSpec {
    CommandSpec {
        usage,
        about,
        options: &[],
    }
}

const fn with(usage: &'static str, about: &'static str, options: &'static [OptionSpec]) -> CommandSpec {
    CommandSpec {
        usage,
        about,
        options,
    }
}

/// Options that stand before or after any command.
pub const GLOBAL: &[OptionSpec] = &[
    option("-V, --version", "output the version number"),
    option("-v --version", "print the version"),
    option("-s --silent", "print nothing but what was asked for"),
    option("--ext <extensions>", "watch files with these extensions only"),
    option("-n --name <name>", "name of the app in the list"),
    option("-m --mini-list", "print the list without a table"),
    option(
        "--interpreter <interpreter>",
        "program that runs the script, default: by its extension",
    ),
    option(
        "--interpreter-args <arguments>",
        "arguments of the interpreter (the same as --node-args)",
    ),
    option(
        "--node-args <node_args>",
        "arguments of the interpreter, separated by blanks",
    ),
    option("-o --output <path>", "file for the app's stdout"),
    option("-e --error <path>", "file for the app's stderr"),
    option("-l --log [path]", "file for both stdout and stderr"),
    option(
        "--filter-env [envs]",
        "leave out variables whose name contains one of these words (default: )",
    ),
    option("--log-type <type>", "form of the log: raw, or json"),
    option(
        "--log-date-format <date format>",
        "date before each line of the log",
    ),
    option("--time", "the usual date before each line of the log"),
    option("--disable-logs", "keep no logs"),
    option("--env <environment_name>", "which env_NAME of the file applies"),
    option(
        "-a --update-env",
        "take the environment of now on restart and reload",
    ),
    option("-f --force", "do it anyway"),
    option(
        "-i --instances <number>",
        "how many instances (for networked apps, load balanced)",
    ),
    option(
        "--parallel <number>",
        "how many at the same time (restart, reload)",
    ),
    option(
        "--shutdown-with-message",
        "stop the app by the message 'shutdown' instead of a signal",
    ),
    option("-p --pid <pid>", "pid file"),
    option("-k --kill-timeout <delay>", "milliseconds until SIGKILL"),
    option(
        "--listen-timeout <delay>",
        "milliseconds to wait for an app to be ready",
    ),
    option(
        "--max-memory-restart <memory>",
        "restart the app when it takes more memory than this",
    ),
    option("--restart-delay <delay>", "milliseconds between restarts"),
    option(
        "--exp-backoff-restart-delay <delay>",
        "first of the growing delays between restarts, in milliseconds",
    ),
    option("-x --execute-command", "run a program in fork mode"),
    option("--max-restarts [count]", "give up after this many restarts"),
    option("-u --user <username>", "user of the startup script"),
    option("--uid <uid>", "run the app as this user"),
    option("--gid <gid>", "run the app as this group"),
    option("--namespace <ns>", "group of the app"),
    option("--cwd <path>", "working directory of the app"),
    option("--hp <home path>", "home of the startup script's user"),
    option("--wait-ip", "startup script: wait for the network"),
    option(
        "--service-name <name>",
        "name of the service of the startup script",
    ),
    option("-c --cron <cron_pattern>", "restart the app at these times"),
    option(
        "-c --cron-restart <cron_pattern>",
        "restart the app at these times",
    ),
    option("-w --write", "write the configuration into the folder"),
    option("--no-daemon", "stay in the foreground if no daemon runs"),
    option("--source-map-support", "use source maps"),
    option("--only <application-name>", "of a file, take this app only"),
    option("--disable-source-map-support", "use no source maps"),
    option("--wait-ready", "wait until the app says that it is ready"),
    option("--merge-logs", "one log for all instances"),
    option("--watch [paths]", "restart the app when files change (default: )"),
    option("--ignore-watch <folders|files>", "do not watch these"),
    option(
        "--watch-delay <delay>",
        "wait this long after a change (--watch-delay 4 (seconds) or 4000ms)",
    ),
    option("--no-color", "no colours"),
    option("--no-vizion", "do not look for the app's version control"),
    option("--no-autostart", "add the app without starting it"),
    option("--no-autorestart", "do not restart the app when it ends"),
    option(
        "--stop-exit-codes <exit_codes...>",
        "exit codes that mean: do not restart",
    ),
    option("--no-treekill", "signal the app's own process only"),
    option("--no-pmx", "start the app without the agent in it"),
    option("--no-automation", "start the app without the agent in it"),
    option("--trace", "trace transactions"),
    option("--disable-trace", "do not trace transactions"),
    option("--sort <field_name:sort>", "order of the list"),
    option("--attach", "show the logs after the action"),
    option("--v8", "collect figures of V8"),
    option("--event-loop-inspector", "collect figures of the event loop"),
    option("--deep-monitoring", "all of --v8 --event-loop-inspector --trace"),
];

/// Every command, in the order of the help.
pub const COMMANDS: &[CommandSpec] = &[
    with(
        "start [name|namespace|file|ecosystem|id...]",
        "start an app",
        &[
            option("--watch", "Watch folder for changes"),
            option("--fresh", "Rebuild Dockerfile"),
            option("--daemon", "Run container in Daemon mode"),
            option("--container", "Start application in container mode"),
            option(
                "--dist",
                "with --container; put all files of the folder into the image",
            ),
            option("--image-name [name]", "with --dist; name of the image"),
            option(
                "--node-version [major]",
                "with --container; major version of Node.js",
            ),
            option("--dockerdaemon", "for debugging"),
        ],
    ),
    command(
        "trigger <id|proc_name|namespace|all> <action_name> [params]",
        "call an action of an app",
    ),
    command("deploy <file|environment>", "deploy to other machines"),
    command("startOrRestart <json>", "start or restart the apps of a file"),
    command("startOrReload <json>", "start or reload the apps of a file"),
    command("pid [app_name]", "print the pid of an app, or of all"),
    command("create", "make a sample project"),
    command(
        "startOrGracefulReload <json>",
        "start or reload the apps of a file",
    ),
    with(
        "stop <id|name|namespace|all|json|stdin...>",
        "stop an app",
        &[option("--watch", "Stop watching folder for changes")],
    ),
    with(
        "restart <id|name|namespace|all|json|stdin...>",
        "restart an app",
        &[option("--watch", "Toggle watching folder for changes")],
    ),
    command("scale <app_name> <number>", "change the number of instances"),
    command("profile:mem [time]", "sample the daemon's heap"),
    command("profile:cpu [time]", "profile the daemon's CPU use"),
    command(
        "reload <id|name|namespace|all>",
        "replace the instances one by one",
    ),
    command("id <name>", "print the ids of a name"),
    command("inspect <name>", "inspect an app"),
    command(
        "delete|del <name|id|namespace|script|all|json|stdin...>",
        "stop an app and forget it",
    ),
    command("sendSignal <signal> <pm2_id|name>", "send a signal to an app"),
    command("ping", "start the daemon if it does not run"),
    command("updatePM2", "replace the running daemon"),
    command("update", "replace the running daemon"),
    with(
        "install|module:install <module|git:/>",
        "install or update a module and keep it running",
        &[
            option("--tarball", "is local tarball"),
            option("--install", "install dependencies before the start"),
            option("--docker", "is docker container"),
            option("--v1", "install module in v1 manner"),
            option(
                "--safe [time]",
                "keep the old module and restore it if the new one fails",
            ),
        ],
    ),
    with(
        "module:update <module|git:/>",
        "update a module and keep it running",
        &[option("--tarball", "is local tarball")],
    ),
    command("module:generate [app_name]", "make a sample module here"),
    command("uninstall|module:uninstall <module>", "stop and remove a module"),
    command("package [target]", "pack a module"),
    with(
        "publish|module:publish [folder]",
        "publish the module of this folder",
        &[option("--npm", "publish on npm")],
    ),
    command("set [key] [value]", "set <key> to <value>"),
    command("multiset <value>", "set several keys: \"key1 val1 key2 val2\""),
    command("get [key]", "print the value of <key>"),
    command("conf [key] [value]", "print or set module values"),
    command("config <key> [value]", "print or set module values"),
    command("unset <key>", "remove <key>"),
    command("report", "print a report about everything"),
    with(
        "link [secret] [public] [name]",
        "link with the hosted dashboard",
        &[option("--info-node [url]", "set url info node")],
    ),
    command("unlink", "unlink from the hosted dashboard"),
    command("monitor [name]", "mark an app as monitored"),
    command("unmonitor [name]", "mark an app as not monitored"),
    command("open", "open the hosted dashboard"),
    with(
        "plus|register [command] [option]",
        "hosted dashboard",
        &[
            option("--info-node [url]", "set url info node"),
            option("-d --discrete", "silent mode"),
            option("-a --install-all", "install all modules (force yes)"),
        ],
    ),
    command("login", "log in to the hosted dashboard"),
    command("logout", "log out of the hosted dashboard"),
    with(
        "dump|save",
        "keep the list for `resurrect`",
        &[option("--force", "save an empty list too")],
    ),
    command("cleardump", "save an empty list"),
    command("send <pm_id> <line>", "send a line to the stdin of <pm_id>"),
    command("attach <pm_id> [comman]", "attach the terminal to <pm_id>"),
    command("resurrect", "start what `save` has kept"),
    command("unstartup [platform]", "remove the startup script"),
    command("startup [platform]", "install the startup script"),
    command("logrotate", "write a configuration for logrotate"),
    command(
        "ecosystem|init [mode]",
        "write a configuration file (mode: simple)",
    ),
    command("reset <name|id|all>", "reset the counters"),
    command("describe <name|id>", "print everything about an app"),
    command("desc <name|id>", "(alias) print everything about an app"),
    command("info <name|id>", "(alias) print everything about an app"),
    command("show <name|id>", "(alias) print everything about an app"),
    command("env <id>", "print the variables of <id>"),
    command("list|ls", "list all apps"),
    command("l", "(alias) list all apps"),
    command("ps", "(alias) list all apps"),
    command("status", "(alias) list all apps"),
    command("jlist", "list all apps as JSON"),
    with(
        "slist|sysinfos",
        "print figures of the machine",
        &[option("-t --tree", "show as tree")],
    ),
    command("prettylist", "list all apps as a JavaScript literal"),
    command("monit", "full-screen monitor"),
    command("imonit", "older full-screen monitor"),
    command("dashboard|dash", "full-screen monitor with logs"),
    command("flush [api]", "empty the log files"),
    command("reloadLogs", "open the log files anew"),
    with(
        "logs [id|name|namespace]",
        "show the logs and follow them",
        &[
            option("--json", "json log output"),
            option("--format", "formatted log output"),
            option("--raw", "raw output"),
            option("--err", "only shows error output"),
            option("--out", "only shows standard output"),
            option("--lines <n>", "the last N lines instead of 15"),
            option(
                "--timestamp [format]",
                "add timestamps (default format YYYY-MM-DD-HH:mm:ss)",
            ),
            option("--nostream", "do not follow"),
            option("--highlight [value]", "highlights the given value"),
        ],
    ),
    command("kill", "end the daemon and all apps"),
    command(
        "pull <name> [commit_id]",
        "update an app's checkout and reload it",
    ),
    command("forward <name>", "go to the next commit of an app's checkout"),
    command("backward <name>", "go to the commit before of an app's checkout"),
    command("deepUpdate", "update PM2 itself"),
    with(
        "serve|expose [path] [port]",
        "serve a folder over http",
        &[
            option("--port [port]", "specify port to listen to"),
            option("--spa", "index.html for every path that does not exist"),
            option("--ftp", "list folders"),
            option("--basic-auth-username [username]", "set basic auth username"),
            option("--basic-auth-password [password]", "set basic auth password"),
            option("--monitor [frontend-app]", "frontend app monitoring"),
        ],
    ),
    command("autoinstall", ""),
    command("examples", "print examples"),
    command("install-otel", "install what --trace needs"),
    command("uninstall-otel", "remove what --trace needs"),
    command("*", ""),
];
