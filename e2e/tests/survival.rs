//! Nothing that happens to the daemon reaches an application: no restart, no lost or torn line, no lost exit status.

use std::time::Duration;
use std::{
    collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, os::unix::net::UnixStream, path::PathBuf,
};

use serde_json::{Value, json};
use upkeep_e2e::{
    Dice, Http, LONG, app, daemon_of, ended, events, exits, instances, kill_daemon, says, tagged,
    wait_running, with, write_apps,
};
use upkeep_testkit::{Home, Numbered, pass, stamps, tally, wait_until};

/// Lines of one run of an app that crashes.
const RUN: u64 = 300;

/// Twenty apps that write: some for good, some that end with a code of their own, some that crash again and again.
struct Crowd {
    home: Home,
    keeper: i32,
    /// Process of each app that writes for good.
    steady: BTreeMap<String, i64>,
}

impl Crowd {
    fn start() -> Self {
        let home = Home::new();
        let mut apps = Vec::new();
        let logs = json!({"max_size": "4M", "keep": 100_000});
        let backoff = json!({"on": "always", "backoff": "20ms", "give_up_after": "never"});
        for number in 0..14 {
            let name = format!("steady{number}");
            let tally = home.work().join(format!("{name}.tally"));
            let (rate, size) = if number < 3 {
                ("15000/s", "100")
            } else {
                ("2000/s", "60")
            };
            let script = [
                "write-lines",
                "forever",
                "--prefix",
                &name,
                "--rate",
                rate,
                "--size",
                size,
                "--tally",
                tally.to_str().expect("text"),
            ];
            apps.push(with(app(&home, &name, &script), json!({"logs": logs})));
        }
        for number in 1..=3 {
            let (name, lines, code) = (
                format!("job{number}"),
                (number * 4000).to_string(),
                number.to_string(),
            );
            let script = [
                "write-lines",
                &lines,
                "--prefix",
                &name,
                "--rate",
                "1000/s",
                "exit",
                &code,
            ];
            apps.push(with(
                app(&home, &name, &script),
                json!({"restart": "never", "logs": logs}),
            ));
        }
        for number in 1..=3 {
            let name = format!("crasher{number}");
            let file = home.work().join(format!("{name}.stamps"));
            let (file, run, code) = (
                file.to_str().expect("text").to_owned(),
                RUN.to_string(),
                (number + 10).to_string(),
            );
            let prefix = format!("{name}.%p");
            let script = [
                "stamp",
                &file,
                "write-lines",
                &run,
                "--prefix",
                &prefix,
                "--rate",
                "1000/s",
                "exit",
                &code,
            ];
            apps.push(with(
                app(&home, &name, &script),
                json!({"restart": backoff, "logs": logs}),
            ));
        }
        write_apps(&home, "upkeep.json", &apps);
        let mut start = home.command(["start", "upkeep.json"]);
        start.env("UPKEEP_DAEMON_PAUSE_MAX_MS", "40");
        ended(&home.finish(start, LONG), 0);
        let mut crowd = Self {
            keeper: home.keeper_pid(),
            steady: BTreeMap::new(),
            home,
        };
        crowd.steady = crowd.steady_now();
        assert_eq!(crowd.steady.len(), 14);
        crowd
    }

    fn steady_now(&self) -> BTreeMap<String, i64> {
        instances(&self.home)
            .into_iter()
            .filter(|(name, ..)| name.starts_with("steady"))
            .map(|(name, _, instance)| {
                assert_eq!(instance["restarts"], 0, "{name}: {instance}");
                (name, instance["pid"].as_i64().expect("it runs"))
            })
            .collect()
    }

    /// Nobody was restarted, nothing was lost; ends everything.
    fn verify(self) {
        let home = &self.home;
        assert_eq!(self.steady_now(), self.steady, "processes before and after");
        for number in 1..=3 {
            home.wait_for(&format!("job{number}"), 0, "failed");
        }
        home.ok(["stop", "all"]);
        self.verify_lines();
        self.verify_exits();
    }

    fn verify_lines(&self) {
        let home = &self.home;
        for name in self.steady.keys() {
            let report = Numbered::read(&home.log(name, 0, "out"), name);
            let written = tally(&home.work().join(format!("{name}.tally"))).expect("a tally");
            // It may have been ended between the write and the count.
            let whole = report.is_exactly(written) || report.is_exactly(written + 1);
            assert!(whole, "{name} wrote {written}: {report:?}");
            assert!(
                written > 1000,
                "{name} wrote only {written} lines: it was held up"
            );
        }
        for number in 1..=3 {
            let name = format!("job{number}");
            let report = Numbered::read(&home.log(&name, 0, "out"), &name);
            assert!(report.is_exactly(number * 4000), "{name}: {report:?}");
        }
    }

    fn verify_exits(&self) {
        let home = &self.home;
        let seen = wait_until("the exits of everything", LONG, || {
            let seen = exits(home);
            let stopped = self.steady.values().all(|pid| seen.contains_key(pid));
            if stopped {
                Ok(seen)
            } else {
                Err(format!("{} exits", seen.len()))
            }
        });
        for (pid, how) in &seen {
            assert_eq!(how.len(), 1, "exit of {pid} is told more than once: {how:?}");
        }
        for (name, pid) in &self.steady {
            assert_eq!(
                seen[pid],
                [json!({"signal": {"number": 15, "core": false}})],
                "{name}"
            );
        }
        for number in 1..=3 {
            let code = json!({"code": number});
            assert_eq!(of(home, &format!("job{number}:0")), [code], "job{number}");
        }
        for number in 1..=3 {
            let name = format!("crasher{number}");
            let log = home.log(&name, 0, "out");
            let runs = stamps(&home.work().join(format!("{name}.stamps")));
            assert!(runs.len() > 3, "{name} ran {} times", runs.len());
            let last = runs.last().expect("one").pid;
            for run in &runs {
                let how = seen
                    .get(&i64::from(run.pid))
                    .unwrap_or_else(|| panic!("no exit of {name} {}", run.pid));
                let report = Numbered::read(&log, &format!("{name}.{}", run.pid));
                if run.pid == last {
                    assert_eq!(
                        (report.missing, report.torn, report.doubled),
                        (0, 0, 0),
                        "{name} {report:?}"
                    );
                    continue; // it may have been stopped
                }
                assert_eq!(*how, [json!({"code": number + 10})], "{name} {}", run.pid);
                assert!(report.is_exactly(RUN), "{name} {}: {report:?}", run.pid);
            }
            // One that was stopped before its first step left no stamp; no other is unknown.
            let told = of(home, &format!("{name}:0"));
            assert!(
                told.len() - runs.len() <= 1,
                "{name}: {} runs, {} exits",
                runs.len(),
                told.len()
            );
        }
    }
}

/// How the processes of one instance ended.
fn of(home: &Home, target: &str) -> Vec<Value> {
    events(home)
        .into_iter()
        .filter(|event| event["what"] == "exited" && event["target"] == target)
        .map(|event| event["details"]["exit"].clone())
        .collect()
}

#[test]
fn heavy_two_hundred_kills_of_the_daemon() {
    let mut dice = Dice::new();
    let crowd = Crowd::start();
    let socket = crowd.home.path().join("run/api.sock");
    for _ in 0..200 {
        // While it is being born, while it takes over, and while it serves.
        match dice.below(3) {
            0 => {}
            1 => pass(dice.span(Duration::from_millis(30))),
            _ => {
                wait_until("the socket", LONG, || {
                    UnixStream::connect(&socket)
                        .map(drop)
                        .map_err(|error| error.to_string())
                });
                pass(dice.span(Duration::from_millis(30)));
            }
        }
        let daemon = kill_daemon(crowd.keeper);
        wait_until("another daemon", LONG, || match daemon_of(crowd.keeper) {
            Some(pid) if pid != daemon => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
    crowd.verify();
}

fn program(home: &Home, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = home.write(name, text);
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
    path
}

#[test]
fn heavy_upgrades_under_load() {
    let crowd = Crowd::start();
    let home = &crowd.home;
    let mut daemon = home.daemon_pid();
    for _ in 0..5 {
        home.ok(["upgrade"]);
        assert_eq!(
            home.keeper_pid(),
            crowd.keeper,
            "the keeper stays the process that it is"
        );
        let now = home.daemon_pid();
        assert_ne!(now, daemon);
        daemon = now;
    }
    home.ok(["upgrade", "--daemon-only"]);

    let broken = home.cmd(["upgrade", "/bin/false"]);
    ended(&broken, 4);
    says(
        &broken.stderr,
        &[
            "the old daemon is back",
            "/bin/false",
            "exit code 1",
            "nothing happened to the apps",
        ],
    );

    let hangs = program(home, "hangs", "#!/bin/sh\nexec sleep 1000\n", 0o755);
    let broken = home.cmd(["upgrade", hangs.to_str().expect("text")]);
    ended(&broken, 4);
    says(&broken.stderr, &["was not ready within 5000 ms"]);
    // The reason stays to be seen, the program that hung does not.
    says(&home.cmd(["ping"]).stderr, &["the last upgrade was taken back"]);
    assert!(
        !home
            .processes()
            .iter()
            .any(|&pid| upkeep_testkit::process::command_line(pid) == "sleep 1000")
    );

    let daemon = home.daemon_pid();
    let plain = program(home, "plain", "#!/bin/sh\n", 0o644);
    let broken = home.cmd(["upgrade", plain.to_str().expect("text")]);
    ended(&broken, 4);
    says(&broken.stderr, &["is no program that can be executed"]);
    let broken = home.cmd(["upgrade", "/nowhere/upkeep"]);
    ended(&broken, 4);
    assert_eq!(home.daemon_pid(), daemon, "what cannot work is not tried");

    // A daemon that works in a program whose keeper does not.
    let text = format!(
        "#!/bin/sh\n[ \"$1\" = daemon ] && exec {} daemon\nexit 1\n",
        home.upkeep().display()
    );
    let half = program(home, "half", &text, 0o755);
    let broken = home.cmd(["upgrade", half.to_str().expect("text")]);
    ended(&broken, 6);
    says(&broken.stderr, &["the keeper refused the upgrade"]);
    assert_eq!(home.keeper_pid(), crowd.keeper);
    crowd.verify();
}

/// What is wanted of the apps that are ordered about.
type Wanted = BTreeMap<String, (usize, bool)>;

/// Kills the daemon while a command is on its way, then gives the command again: it must come to what it says, and
/// nobody else must notice.
#[test]
fn heavy_kills_in_the_midst_of_commands() {
    let mut dice = Dice::new();
    let home = Home::new();
    let bystander = |name: &str| app(&home, name, &["wait"]);
    let worker =
        |name: &str, instances: usize| with(app(&home, name, &["wait"]), json!({"instances": instances}));
    write_apps(
        &home,
        "bystanders.upkeep.json",
        &[bystander("by1"), bystander("by2"), worker("by3", 3)],
    );
    let mut start = home.command(["start", "bystanders.upkeep.json"]);
    start.env("UPKEEP_DAEMON_PAUSE_MAX_MS", "40");
    ended(&home.finish(start, LONG), 0);
    let keeper = home.keeper_pid();
    let before = [tagged(&home, "by1"), tagged(&home, "by2"), tagged(&home, "by3")];
    let mut wanted = Wanted::new();
    for round in 0..60 {
        let name = format!("app{}", dice.below(4));
        let known = wanted.contains_key(&name);
        let file = format!("{name}.upkeep.json");
        let command: Vec<&str> = match dice.below(7) {
            1 if known => {
                wanted.entry(name.clone()).and_modify(|(_, up)| *up = false);
                vec!["stop", &name]
            }
            2 if known => {
                wanted.entry(name.clone()).and_modify(|(_, up)| *up = true);
                vec!["restart", &name]
            }
            3 if known => {
                wanted.remove(&name);
                vec!["delete", &name]
            }
            4 => vec!["save"],
            5 if known => {
                wanted.entry(name.clone()).and_modify(|(_, up)| *up = true);
                vec!["start", &name]
            }
            // A new one, another number of instances, or a change that restarts it.
            _ => {
                let count = usize::try_from(1 + dice.below(3)).expect("small");
                write_apps(
                    &home,
                    &file,
                    &[with(
                        worker(&name, count),
                        json!({"env": {"ROUND": round.to_string()}}),
                    )],
                );
                wanted.insert(name.clone(), (count, true));
                vec!["start", &file]
            }
        };
        let mut follow = home.follow(&command);
        pass(dice.span(Duration::from_millis(if round % 2 == 0 { 15 } else { 60 })));
        kill_daemon(keeper);
        let code = follow.wait(LONG);
        let said = follow.errors();
        assert!(
            code == 0 || !said.is_empty(),
            "{command:?} ended with {code} and said nothing"
        );
        let again = home.cmd(&command);
        // What was done already need not be there to be done again.
        let deleted = command[0] == "delete" && again.code == 3;
        assert!(
            again.code == 0 || deleted,
            "round {round}: {command:?} after {code} {said:?}: {again:#?}"
        );
        for (name, (count, up)) in &wanted {
            wait_running(&home, name, if *up { *count } else { 0 });
        }
        let names: Vec<String> = home.json(["ls"])["apps"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|app| app["name"].as_str().map(str::to_owned))
            .filter(|name| name.starts_with("app"))
            .collect();
        assert_eq!(
            names,
            wanted.keys().cloned().collect::<Vec<_>>(),
            "round {round}: {command:?}"
        );
    }
    assert_eq!(
        before,
        [tagged(&home, "by1"), tagged(&home, "by2"), tagged(&home, "by3")]
    );
    for (pid, how) in exits(&home) {
        assert_eq!(how.len(), 1, "exit of {pid} is told more than once: {how:?}");
    }
}

/// Small files, each form of a log, each rotated several times a second.
const FORMS: [(&str, &str, &str); 3] = [
    ("plain", "none", "raw"),
    ("packed", "zstd", "raw"),
    ("documents", "zstd", "json"),
];
/// Apps that crash once, at different times.
const MORTALS: u64 = 8;

/// Kills the daemon while logs rotate and are compressed, figures are written and dossiers made.
#[test]
fn heavy_kills_while_logs_rotate_and_figures_are_written() {
    let mut dice = Dice::new();
    let home = Home::new();
    let tally_of = |name: &str| home.work().join(format!("{name}.tally"));
    let mut apps = Vec::new();
    for (name, compress, format) in FORMS {
        let tally = tally_of(name);
        let tally = tally.to_str().expect("text");
        let script = [
            "write-lines",
            "forever",
            "--prefix",
            name,
            "--rate",
            "6000/s",
            "--size",
            "100",
            "--tally",
            tally,
        ];
        let logs = json!({"max_size": "256K", "keep": 100_000, "compress": compress, "format": format});
        apps.push(with(app(&home, name, &script), json!({"logs": logs})));
    }
    for number in 0..MORTALS {
        let life = format!("{}s", 4 + number * 5);
        let script = ["run-for", life.as_str(), "exit", "7"];
        apps.push(with(
            app(&home, &format!("mortal{number}"), &script),
            json!({"restart": "never"}),
        ));
    }
    write_apps(&home, "upkeep.json", &apps);
    let mut start = home.command(["start", "upkeep.json"]);
    start.env("UPKEEP_DAEMON_PAUSE_MAX_MS", "40");
    ended(&home.finish(start, LONG), 0);
    let keeper = home.keeper_pid();
    let begun = unix_now();

    // Far apart, so that figures come to the disk; then close together, so that rotation and compression are hit.
    for _ in 0..3 {
        pass(Duration::from_secs(12) + dice.span(Duration::from_secs(2)));
        kill_daemon(keeper);
    }
    let far = unix_now();
    for _ in 0..25 {
        pass(dice.span(Duration::from_millis(300)));
        let daemon = kill_daemon(keeper);
        wait_until("another daemon", LONG, || match daemon_of(keeper) {
            Some(pid) if pid != daemon => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
    for number in 0..MORTALS {
        home.wait_for(&format!("mortal{number}"), 0, "failed");
    }
    home.ok(["stop", "plain", "packed", "documents"]);

    for (name, _, format) in FORMS {
        let bytes = home.log(name, 0, "out");
        let bytes = if format == "json" { messages(&bytes) } else { bytes };
        let report = Numbered::read(&bytes, name);
        let written = tally(&tally_of(name)).expect("a tally");
        // It may have been ended between the write and the count.
        let whole = report.is_exactly(written) || report.is_exactly(written + 1);
        assert!(whole, "{name} wrote {written}: {report:?}");
        assert!(written > 100_000, "{name} wrote only {written} lines");
    }
    for number in 0..MORTALS {
        let name = format!("mortal{number}");
        let kept = wait_until("the dossier", LONG, || {
            match home.json(["why", &name, "--all"])["crashes"].as_array() {
                Some(kept) if !kept.is_empty() => Ok(kept.clone()),
                other => Err(format!("{name}: {other:?}")),
            }
        });
        assert_eq!(kept.len(), 1, "{name}: {kept:?}");
        assert_eq!(kept[0]["exit"], json!({"code": 7}), "{name}");
    }
    assert!(!home.path().join("metrics.redb.broken").exists());
    let answer = Http::ask(
        &home,
        "GET",
        &format!("/v1/metrics?apps=plain&metrics=memory&since={begun}&until={far}"),
        b"",
    )
    .json();
    let step = answer["step"].as_f64().expect("a step");
    let values = answer["series"][0]["values"].as_array().expect("values");
    let mut gap = 0;
    let mut longest = 0;
    for value in values {
        gap = if value.is_null() { gap + 1 } else { 0 };
        longest = longest.max(gap);
    }
    // Ten seconds may be lost, and a few in which no daemon looked.
    assert!(
        f64::from(longest) * step <= 14.0 && values.len() as f64 * step > 30.0,
        "{longest} values of {step} s are missing: {answer}"
    );
}

fn unix_now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("after 1970").as_secs()
}

/// The messages of JSON lines, a line each.
fn messages(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(bytes.len());
    for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let document: Value =
            serde_json::from_slice(line).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(line)));
        plain.extend(document["message"].as_str().expect("a message").bytes());
        plain.push(b'\n');
    }
    plain
}
