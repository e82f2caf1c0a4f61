//! Never drop a request: each [`Program`] under load, while it is reloaded, scaled, replaced by versions that do not
//! hold, while an instance crashes in a loop, the daemon is killed, and all of Upkeep is replaced.
//!
//! The load never tries again: whatever is refused, cut or not answered is counted as a failure, and none is allowed.

mod nginx;
mod programs;

use std::{net::TcpListener, process::ExitCode, time::Duration};

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use upkeep_testkit::{
    Home, Signal, kill,
    load::{Kind, Load, Tally},
    pass, wait_until,
};

use crate::programs::{Program, Version};

const LONG: Duration = Duration::from_mins(1);

type Scenario = fn(&Stage);

/// What happens under load.
const SCENARIOS: &[(&str, Scenario)] = &[
    ("heavy_twenty_reloads", twenty_reloads),
    ("heavy_scaled_up_and_down", scaled),
    ("heavy_an_instance_crashes_in_a_loop", crash_loop),
    ("heavy_a_version_that_is_never_ready", never_ready),
    ("heavy_a_version_that_crashes_after_two_seconds", crashes_later),
    ("heavy_the_daemon_is_killed", daemon_killed),
    ("heavy_upgraded", upgraded),
    ("heavy_superseded", superseded),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for program in Program::ALL {
        for (name, scenario) in SCENARIOS.iter().filter(|(name, _)| program.holds(name)) {
            trials.push(Trial::test(format!("{}::{name}", program.name()), move || {
                hold(program, *scenario).map_err(Failed::from)
            }));
        }
    }
    if nginx::is_there() {
        let nginxs: [(&str, fn()); 2] = [
            ("nginx::heavy_refused", nginx::refused),
            ("nginx::heavy_gated_and_rolled_back", nginx::gated_and_rolled_back),
        ];
        for (name, trial) in nginxs {
            trials.push(Trial::test(name, move || {
                trial();
                Ok(())
            }));
        }
    } else {
        upkeep_e2e::skipped("nginx is not there");
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// An app that serves, and a load on it.
struct Stage {
    home: Home,
    program: Program,
    port: u16,
}

const TWO: Version = Version {
    number: 1,
    instances: 2,
    crash_after_ms: None,
    never_ready: false,
    ends_at_once: None,
};

fn hold(program: Program, scenario: Scenario) -> Result<(), String> {
    let home = Home::new();
    if let Err(why) = program.prepare(&home) {
        upkeep_e2e::skipped(&format!("{} cannot be had: {why}", program.name()));
        return Ok(());
    }
    // Free now; whoever else takes it in between makes the start fail with a clear word.
    let port = TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|error| error.to_string())?
        .port();
    let stage = Stage { home, program, port };
    stage.put(TWO);
    stage.home.ok(["start", "web.json"]);
    wait_until("all copies to be ready", LONG, || {
        let ready = stage.ready();
        if ready == 2 {
            Ok(())
        } else {
            Err(format!("{ready} of 2"))
        }
    });
    scenario(&stage);
    Ok(())
}

impl Stage {
    fn put(&self, version: Version) {
        let text = self.program.file(self.port, version).to_string();
        self.home.write("web.json", &text);
    }

    fn instances(&self) -> Vec<Value> {
        let list = self.home.json(["ls"]);
        list["apps"][0]["instances"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    fn ready(&self) -> usize {
        let ready = |instance: &&Value| instance["actual"] == "running" && instance["ready"] == true;
        self.instances().iter().filter(ready).count()
    }

    fn pids(&self) -> Vec<i64> {
        self.instances()
            .iter()
            .filter_map(|instance| instance["pid"].as_i64())
            .collect()
    }

    /// Does something under load; no request may fail.
    fn under_load(&self, what: &str, act: impl FnOnce()) -> Tally {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], self.port));
        let loads: Vec<(Kind, Load)> = self
            .program
            .kinds()
            .iter()
            .map(|kind| (*kind, Load::start(address, *kind, 6)))
            .collect();
        let begun = || loads.iter().all(|(_, load)| load.answered() > 20);
        wait_until("the load to have begun", LONG, || {
            if begun() {
                Ok(())
            } else {
                Err("not all of it is answered".to_owned())
            }
        });
        act();
        pass(Duration::from_millis(300));
        let mut all = Tally::default();
        for (kind, load) in loads {
            let tally = load.stop();
            tally.assert_none_failed(&format!("{what}, {kind:?}"));
            all = all.and(tally);
        }
        all
    }
}

fn twenty_reloads(stage: &Stage) {
    let mut before = stage.pids();
    stage.under_load("twenty reloads", || {
        for _ in 0..20 {
            stage.home.ok(["reload", "web"]);
            let now = stage.pids();
            assert!(
                now.len() == 2 && now.iter().all(|pid| !before.contains(pid)),
                "{before:?} {now:?}"
            );
            before = now;
        }
    });
}

fn scaled(stage: &Stage) {
    stage.under_load("scaling", || {
        for count in ["1", "4", "1", "+1"] {
            stage.home.ok(["scale", "web", count]);
            let wanted = match count {
                "+1" => 2,
                count => count.parse().unwrap_or(0),
            };
            wait_until("the copies", LONG, || {
                let ready = stage.ready();
                if ready == wanted {
                    Ok(())
                } else {
                    Err(format!("{ready} of {wanted}"))
                }
            });
        }
    });
}

fn crash_loop(stage: &Stage) {
    stage.home.ok(["delete", "web"]);
    stage.put(Version {
        ends_at_once: Some(1),
        ..TWO
    });
    // One copy never comes up: that is what is tested.
    stage.home.cmd(["start", "web.json", "--wait", "0"]);
    wait_until("one copy to be ready", LONG, || {
        let ready = stage.ready();
        if ready == 1 {
            Ok(())
        } else {
            Err(format!("{ready} ready"))
        }
    });
    stage.under_load("a crash loop", || {
        wait_until("many crashes", LONG, || {
            let restarts = stage.instances()[1]["restarts"].as_u64().unwrap_or(0);
            if restarts >= 15 {
                Ok(())
            } else {
                Err(format!("{restarts} restarts"))
            }
        });
    });
}

/// A version that does not hold: refused or turned back, and the old one answers all the time.
fn does_not_hold(stage: &Stage, version: Version, flags: &[&str], word: &str) {
    stage.put(version);
    let tally = stage.under_load("a version that does not hold", || {
        let words = ["apply", "web.json"].iter().chain(flags);
        let output = stage.home.cmd(words);
        assert!(output.code != 0, "{output:?}");
        assert!(output.stderr.contains(word), "{output:?}");
    });
    wait_until("the old copies", LONG, || {
        let ready = stage.ready();
        if ready == 2 {
            Ok(())
        } else {
            Err(format!("{ready} of 2"))
        }
    });
    let shown = stage.home.json(["show", "web"]);
    assert_eq!(shown["desired"], "up", "{shown}");
    assert!(tally.answered > 0);
}

fn never_ready(stage: &Stage) {
    let version = Version {
        number: 2,
        never_ready: true,
        ..TWO
    };
    does_not_hold(stage, version, &[], "not ready within");
}

fn crashes_later(stage: &Stage) {
    let version = Version {
        number: 2,
        crash_after_ms: Some(2000),
        // One more, which must not serve before the trial has shown what it is worth.
        instances: 3,
        ..TWO
    };
    // Tried without traffic first: a program that shares its socket gets connections as soon as it accepts, and what it
    // has in hand when it crashes is lost.
    does_not_hold(stage, version, &["--trial", "3s"], "trial");
}

/// A newer wish while a version that never becomes ready is under way, and another number of copies in the midst of a
/// reload.
fn superseded(stage: &Stage) {
    let comes = || {
        wait_until("a copy to come", LONG, || {
            let instances = stage.instances();
            let others = |instance: &Value| {
                instance["others"]
                    .as_array()
                    .is_some_and(|others| !others.is_empty())
            };
            if instances.iter().any(others) {
                Ok(())
            } else {
                Err(format!("{instances:?}"))
            }
        });
    };
    let tally = stage.under_load("superseding", || {
        stage.put(Version {
            number: 2,
            never_ready: true,
            ..TWO
        });
        stage
            .home
            .ok(["apply", "web.json", "--wait", "0", "--ready-timeout", "50s"]);
        comes();
        stage.put(Version { number: 2, ..TWO });
        stage.home.ok(["apply", "web.json"]);
        assert_eq!(stage.ready(), 2);
        stage.home.ok(["reload", "web", "--wait", "0"]);
        comes();
        let before = stage.pids();
        stage.home.ok(["scale", "web", "3"]);
        wait_until("three new copies", LONG, || {
            let now = stage.pids();
            let done = stage.ready() == 3 && stage.instances().iter().all(|one| one["others"].is_null());
            if done && now.iter().filter(|pid| before.contains(pid)).count() <= 1 {
                Ok(())
            } else {
                Err(format!("{before:?} {now:?}"))
            }
        });
    });
    assert!(tally.answered > 0);
}

fn daemon_killed(stage: &Stage) {
    let before = stage.pids();
    stage.under_load("kill -9 of the daemon", || {
        for _ in 0..5 {
            let daemon = stage.home.daemon_pid();
            kill(daemon, Signal::KILL).expect("the daemon");
            wait_until("another daemon", LONG, || {
                let output = stage.home.cmd(["ping"]);
                let now = stage.home.daemon_pid();
                if output.code == 0 && now != daemon {
                    Ok(())
                } else {
                    Err(format!("{output:?}"))
                }
            });
        }
        // And in the midst of a replacement.
        stage.home.ok(["reload", "web", "--wait", "0"]);
        pass(Duration::from_millis(300));
        let daemon = stage.home.daemon_pid();
        kill(daemon, Signal::KILL).expect("the daemon");
        wait_until("all copies to be new", LONG, || {
            let output = stage.home.cmd(["ls", "--json"]);
            if output.code != 0 {
                return Err(format!("{output:?}"));
            }
            let now = stage.pids();
            let new = now.len() == 2 && now.iter().all(|pid| !before.contains(pid));
            if new && stage.ready() == 2 {
                Ok(())
            } else {
                Err(format!("{before:?} {now:?}"))
            }
        });
    });
}

fn upgraded(stage: &Stage) {
    let before = stage.pids();
    stage.under_load("an upgrade", || {
        let (daemon, keeper) = (stage.home.daemon_pid(), stage.home.keeper_pid());
        stage.home.ok(["upgrade"]);
        assert_ne!(stage.home.daemon_pid(), daemon);
        assert_eq!(stage.home.keeper_pid(), keeper, "replaced in place");
    });
    assert_eq!(stage.pids(), before, "no copy was touched");
}
