//! Heap snapshots and profiles of real Node programs.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use upkeep_e2e::{LONG, apply};
use upkeep_testkit::{Home, node, wait_until};

/// It keeps objects of a class of its own, and spends its time in a function of its own.
const PROGRAM: &str = "
class KeptByMistake { constructor(n) { this.text = 'marker-' + n; } }
const kept = [];
function burnTime() { const end = Date.now() + 20; let x = 0; while (Date.now() < end) x += Math.sqrt(x + 1); return x; }
setInterval(() => { for (let i = 0; i < 10; i++) kept.push(new KeptByMistake(kept.length)); burnTime(); }, 30);
console.log('up');
";

fn node_of(version: &str) -> PathBuf {
    node::node(version).unwrap_or_else(|why| panic!("Node {version}: {why}"))
}

fn start(home: &Home, version: &str, more: &[&str]) {
    let script = home.write("program.cjs", PROGRAM);
    let mut command = vec![node_of(version).display().to_string()];
    command.extend(more.iter().map(|word| (*word).to_owned()));
    command.push(script.display().to_string());
    apply(home, &[json!({"name": "shop", "command": command})]);
    home.wait_for("shop", 0, "running");
    wait_until("its first words", LONG, || {
        let log = home.log("shop", 0, "out");
        if log.is_empty() {
            Err("nothing".to_owned())
        } else {
            Ok(())
        }
    });
}

fn read(home: &Home, name: &str) -> Value {
    let bytes = fs::read(home.work().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Whether the inspector of the program is open.
fn is_open(home: &Home) -> bool {
    let pid = home.instance("shop", 0)["pid"].as_i64().expect("a pid");
    let held: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("its descriptors")
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .map(|target| target.display().to_string())
        .collect();
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .any(|table| {
            table.lines().skip(1).any(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                fields[3] == "0A" && held.contains(&format!("socket:[{}]", fields[9]))
            })
        })
}

#[track_caller]
fn closed(home: &Home) {
    wait_until("the inspector to be closed", LONG, || {
        if is_open(home) {
            Err("it is open".to_owned())
        } else {
            Ok(())
        }
    });
}

#[test]
fn profiles_one_after_the_other_do_not_end_a_program() {
    let home = Home::new();
    // The oldest: it died of SIGSEGV now and then when its inspector was closed with a profiler enabled.
    start(&home, node::VERSIONS[0], &["--inspect-port=0"]);
    let pid = home.instance("shop", 0)["pid"].clone();
    for round in 0..25 {
        if round % 2 == 0 {
            home.ok(["profile", "shop", "--for", "50ms", "-o", "again.cpuprofile"]);
        } else {
            home.ok(["heap", "shop", "--sampling", "50ms", "-o", "again.heapprofile"]);
        }
        assert_eq!(home.instance("shop", 0)["pid"], pid, "round {round}");
    }
}

#[test]
fn a_snapshot_and_a_profile_of_every_node() {
    for version in node::VERSIONS {
        let home = Home::new();
        // Any port: other tests have inspectors too.
        start(&home, version, &["--inspect-port=0"]);
        let pid = home.instance("shop", 0)["pid"].clone();
        let saved = home.json(["heap", "shop", "-o", "now.heapsnapshot", "--reason", "it grows"]);
        let snapshot = read(&home, "now.heapsnapshot");
        assert_eq!(
            saved["bytes"].as_u64(),
            fs::metadata(home.work().join("now.heapsnapshot"))
                .ok()
                .map(|file| file.len())
        );
        // As the developer tools read it: as many numbers as the head says, and strings that they point to.
        let meta = &snapshot["snapshot"];
        let fields = meta["meta"]["node_fields"].as_array().expect("fields").len();
        let nodes = snapshot["nodes"].as_array().expect("nodes").len();
        assert_eq!(
            meta["node_count"].as_u64(),
            Some((nodes / fields) as u64),
            "{version}"
        );
        let strings = snapshot["strings"].as_array().expect("strings");
        assert!(strings.iter().any(|text| text == "KeptByMistake"), "{version}");
        assert!(strings.iter().any(|text| text == "marker-3"), "{version}");
        closed(&home);

        home.ok(["profile", "shop:0", "--for", "1s", "-o", "now.cpuprofile"]);
        let profile = read(&home, "now.cpuprofile");
        let nodes = profile["nodes"].as_array().expect("nodes");
        let burns: Vec<&Value> = nodes
            .iter()
            // The compiler may put one function into the other: the file is what they have in common.
            .filter(|node| {
                let url = node["callFrame"]["url"].as_str();
                url.is_some_and(|url| url.ends_with("program.cjs"))
            })
            .map(|node| &node["id"])
            .collect();
        let samples = profile["samples"].as_array().expect("samples");
        let hits = samples.iter().filter(|sample| burns.contains(sample)).count();
        assert!(
            hits * 4 > samples.len(),
            "{version}: {hits} of {} samples",
            samples.len()
        );

        home.ok(["heap", "shop", "--sampling", "500ms", "-o", "now.heapprofile"]);
        assert!(
            read(&home, "now.heapprofile")["head"]["callFrame"].is_object(),
            "{version}"
        );
        closed(&home);
        assert_eq!(
            home.instance("shop", 0)["pid"],
            pid,
            "{version}: it was not disturbed"
        );
        let events = home.json(["events", "shop"]);
        let taken = events["events"]
            .as_array()
            .and_then(|events| events.iter().find(|event| event["what"] == "heap snapshot"));
        assert_eq!(
            taken.map(|event| event["why"].clone()),
            Some(json!("it grows")),
            "{events}"
        );
    }
}

#[test]
fn an_inspector_that_was_open_stays_open() {
    let home = Home::new();
    start(&home, node::VERSIONS[1], &["--inspect=127.0.0.1:0"]);
    assert!(is_open(&home));
    home.ok(["profile", "shop", "--for", "200ms"]);
    assert!(is_open(&home));
    let name = format!("shop-0-{}.cpuprofile", home.instance("shop", 0)["pid"]);
    assert!(read(&home, &name)["nodes"].is_array());
}

#[test]
fn what_cannot_be_looked_into_is_refused_and_lives_on() {
    let home = Home::new();
    start(&home, node::VERSIONS[1], &["--inspect-port=0"]);
    apply(
        &home,
        &[
            json!({"name": "sleeper", "command": ["sleep", "100000"]}),
            json!({"name": "idle", "command": ["sleep", "100000"], "autostart": false}),
        ],
    );
    home.wait_for("sleeper", 0, "running");
    let refused = home.cmd(["heap", "sleeper"]);
    assert_eq!(refused.code, 6, "{refused:?}");
    assert!(refused.stderr.contains("no Node is below it"), "{refused:?}");
    assert_eq!(home.instance("sleeper", 0)["actual"], "running");
    let refused = home.cmd(["heap", "idle"]);
    assert!(
        refused.code == 6 && refused.stderr.contains("does not run"),
        "{refused:?}"
    );
    assert_eq!(home.cmd(["profile", "nobody"]).code, 3);
    let refused = home.cmd(["profile", "shop", "--interval", "1"]);
    assert!(refused.stderr.contains("an interval of 1"), "{refused:?}");
    // Two at once: the second is told to wait, the first goes on.
    let mut first = home.follow(["profile", "shop", "--for", "3s", "-o", "first.cpuprofile"]);
    wait_until("the first to have begun", LONG, || {
        if is_open(&home) {
            Ok(())
        } else {
            Err("not open yet".to_owned())
        }
    });
    let second = home.cmd(["heap", "shop", "-o", "second.heapsnapshot"]);
    assert!(
        second.code == 6 && second.stderr.contains("somebody is recording"),
        "{second:?}"
    );
    assert!(!home.work().join("second.heapsnapshot").exists());
    assert_eq!(first.wait(LONG), 0);
    assert!(read(&home, "first.cpuprofile")["nodes"].is_array());
    // A program that dies meanwhile leaves no half file.
    let mut cut = home.follow(["profile", "shop", "--for", "1m", "-o", "cut.cpuprofile"]);
    wait_until("the recording to have begun", LONG, || {
        if is_open(&home) {
            Ok(())
        } else {
            Err("not open yet".to_owned())
        }
    });
    home.ok(["stop", "shop"]);
    assert_ne!(cut.wait(LONG), 0);
    assert!(
        !home.work().join("cut.cpuprofile").exists() && !home.work().join("cut.cpuprofile.part").exists()
    );
}

#[test]
fn a_snapshot_that_could_exceed_the_limit_is_refused() {
    let home = Home::new();
    let script = home.write("program.cjs", PROGRAM);
    let command = [
        node_of(node::VERSIONS[1]).display().to_string(),
        "--inspect-port=0".to_owned(),
        script.display().to_string(),
    ];
    apply(
        &home,
        &[json!({"name": "shop", "command": command, "limits": {"memory": "75M"}})],
    );
    home.wait_for("shop", 0, "running");
    wait_until(
        "it to have grown",
        LONG,
        || match home.instance("shop", 0)["memory_bytes"].as_u64() {
            Some(bytes) if bytes > 40 << 20 => Ok(()),
            other => Err(format!("{other:?}")),
        },
    );
    let refused = home.cmd(["heap", "shop"]);
    assert!(
        refused.code == 6 && refused.stderr.contains("--force"),
        "{refused:?}"
    );
}
