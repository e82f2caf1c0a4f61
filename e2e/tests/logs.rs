//! What apps print is kept whole, in order and within its limits, and can be read back.

use std::{fs, process::Stdio, time::Duration};

use serde_json::{Value, json};
use upkeep_e2e::{LONG, app, apply, ended, kill_daemon, says, wait_running, with};
use upkeep_testkit::{Home, Numbered, Signal, kill, wait_until};

fn lines(home: &Home, args: &[&str]) -> Vec<String> {
    let mut words = vec!["logs"];
    words.extend(args);
    home.ok(words).lines().map(str::to_owned).collect()
}

/// Every line of `logs --json`: a document each.
fn entries(home: &Home, args: &[&str]) -> Vec<Value> {
    let mut words = vec!["--json"];
    words.extend(args);
    lines(home, &words)
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// An RFC 3339 time in UTC as Unix seconds.
#[track_caller]
fn unix(time: &Value) -> f64 {
    let text = time.as_str().expect("a time");
    assert!(text.ends_with('Z'), "{text}");
    let output = std::process::Command::new("date")
        .args(["-d", text, "+%s.%N"])
        .output()
        .expect("date runs");
    let seconds = String::from_utf8_lossy(&output.stdout);
    seconds
        .trim()
        .parse()
        .unwrap_or_else(|_| panic!("{text} is no time"))
}

#[track_caller]
fn whole(home: &Home, name: &str, count: u64) {
    let report = wait_until(&format!("{count} lines of {name}"), LONG, || {
        let report = Numbered::read(&home.log(name, 0, "out"), name);
        if report.present >= count {
            Ok(report)
        } else {
            Err(format!("{report:?}"))
        }
    });
    assert!(report.is_exactly(count), "{name}: {report:?}");
}

/// It writes 20,000 lines and is gone: PM2 loses a median of 1,295 of them.
#[test]
fn last_words_are_never_lost() {
    let home = Home::new();
    for round in 0..10 {
        let name = format!("brief{round}");
        let script = ["write-lines", "20000", "--prefix", &name, "exit", "3"];
        apply(
            &home,
            &[with(app(&home, &name, &script), json!({"restart": "never"}))],
        );
    }
    for round in 0..10 {
        let name = format!("brief{round}");
        home.wait_for(&name, 0, "failed");
        whole(&home, &name, 20_000);
    }
    // Nor does a deletion right behind them lose any of what it should keep.
    assert_eq!(lines(&home, &["brief9", "--raw", "-n", "100000"]).len(), 20_000);
}

#[test]
fn heavy_rotation_at_full_speed_loses_and_doubles_nothing() {
    let home = Home::new();
    let logs = json!({"max_size": "1M", "keep": 10_000});
    let names = ["fast1", "fast2", "fast3"];
    let apps: Vec<Value> = names
        .iter()
        .map(|name| {
            let script = ["write-lines", "1000000", "--size", "50", "--prefix", name];
            with(
                app(&home, name, &script),
                json!({"restart": "never", "logs": logs}),
            )
        })
        .collect();
    apply(&home, &apps);
    for name in names {
        home.wait_for(name, 0, "completed");
        whole(&home, name, 1_000_000);
        let show = home.json(["show", name]);
        let log = &show["logs"][0];
        assert!(log["rotated"].as_u64().is_some_and(|files| files >= 45), "{log}");
        assert_eq!(
            (&log["dropped_lines"], &log["lost_lines"]),
            (&json!(0), &json!(0)),
            "{log}"
        );
    }
}

#[test]
fn the_cap_holds_and_what_it_drops_is_counted_and_said() {
    let home = Home::new();
    let script = ["write-lines", "100000", "--size", "100", "--prefix", "much"];
    let much = with(
        app(&home, "much", &script),
        json!({"restart": "never", "logs": {"max_size": "200K", "keep": 3}}),
    );
    apply(&home, &[much]);
    home.wait_for("much", 0, "completed");
    let kept = wait_until("the last line, and no more files than may be", LONG, || {
        let report = Numbered::read(&home.log("much", 0, "out"), "much");
        let rotated = home.json(["show", "much"])["logs"][0]["rotated"].clone();
        if report.last == 100_000 && rotated == 3 {
            Ok(Numbered::read(&home.log("much", 0, "out"), "much"))
        } else {
            Err(format!("{rotated} rotated files, {report:?}"))
        }
    });
    assert_eq!(
        (kept.doubled, kept.disordered, kept.torn, kept.rest),
        (0, 0, 0, 0),
        "{kept:?}"
    );
    let files = fs::read_dir(home.path().join("logs")).expect("the logs").count();
    // Each has an index, and there are two streams, an accounting, and one file that is being compressed.
    assert!(files <= 2 * (4 + 4) + 1, "{files} files");
    let show = home.json(["show", "much"]);
    let log = &show["logs"][0];
    assert_eq!(log["rotated"], 3);
    assert_eq!(
        log["dropped_lines"].as_u64(),
        Some(100_000 - kept.present),
        "{log}"
    );
    let size = log["bytes"].as_u64().expect("a size");
    assert!(size <= 4 * 200 * 1024 + 4 * 100, "{size}");
    says(&home.ok(["show", "much"]), &["older lines deleted by rotation"]);
    // Who reads from the oldest line on is told; who reads the last ones is not.
    says(
        &home.ok(["logs", "much", "-n", "100000"]),
        &["older lines", "were deleted by rotation"],
    );
    assert_eq!(lines(&home, &["much", "-n", "5"]).len(), 5);
    // The count outlives the daemon; the new one knows it as soon as it has the log's pipe.
    kill_daemon(home.keeper_pid());
    wait_until("the count of the daemon before", LONG, || {
        let now = &home.json(["show", "much"])["logs"][0]["dropped_lines"];
        if *now == log["dropped_lines"] {
            Ok(())
        } else {
            Err(now.to_string())
        }
    });
}

/// Two apps, `a` and `b`, that say a few things in turn on both streams.
fn talkers(home: &Home) {
    let a = [
        "print",
        "a one",
        "run-for",
        "400ms",
        "print-err",
        "a two",
        "run-for",
        "800ms",
        "print",
        "a three",
        "wait",
    ];
    let b = [
        "run-for",
        "200ms",
        "print",
        "b one",
        "run-for",
        "400ms",
        "print-err",
        "b two",
        "wait",
    ];
    apply(home, &[app(home, "a", &a), app(home, "b", &b)]);
    wait_until("the last word", LONG, || {
        let text = home.log("a", 0, "out");
        if text.ends_with(b"a three\n") {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&text).into_owned())
        }
    });
}

#[test]
fn lines_are_merged_by_time_and_chosen() {
    let home = Home::new();
    talkers(&home);
    let raw = |args: &[&str]| {
        let mut words = vec!["--raw"];
        words.extend(args);
        lines(&home, &words)
    };
    assert_eq!(raw(&[]), ["a one", "b one", "a two", "b two", "a three"]);
    assert_eq!(raw(&["-n", "2"]), ["b two", "a three"]);
    assert_eq!(raw(&["a"]), ["a one", "a two", "a three"]);
    assert_eq!(raw(&["a:0", "b"]).len(), 5);
    assert_eq!(raw(&["--err"]), ["a two", "b two"]);
    assert_eq!(raw(&["--out", "b"]), ["b one"]);
    assert_eq!(raw(&["--grep", "t(wo|hree)"]), ["a two", "b two", "a three"]);
    assert_eq!(raw(&["--grep", "one", "-n", "1"]), ["b one"]);
    assert_eq!(raw(&["--since", "1h"]).len(), 5);
    assert_eq!(raw(&["--since", "2001-01-01T00:00"]).len(), 5);

    let seen = entries(&home, &[]);
    let of = |key: &str| seen.iter().map(|entry| entry[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("app"), ["a", "b", "a", "b", "a"]);
    assert_eq!(of("stream"), ["out", "out", "err", "err", "out"]);
    assert_eq!(of("message"), ["a one", "b one", "a two", "b two", "a three"]);
    assert_eq!(of("instance"), [0; 5]);
    let times: Vec<f64> = of("time").iter().map(unix).collect();
    assert!(times.is_sorted(), "{times:?}");
    // Since between the third and the fourth.
    let middle = f64::midpoint(times[2], times[3]);
    let answer = upkeep_e2e::Http::ask(&home, "GET", &format!("/v1/logs?since={middle}"), b"");
    assert_eq!(answer.status, 200);
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    says(&text, &["b two", "a three"]);
    assert!(!text.contains("a two"), "{text}");

    let shown = lines(&home, &[]);
    says(&shown[0], &["a:0 |", "a one"]);
    says(&shown[2], &["a:0 !", "a two"]);

    let wrong = home.cmd(["logs", "--since", "yesterweek"]);
    ended(&wrong, 2);
    says(&wrong.stderr, &["`yesterweek` is no time"]);
    let wrong = home.cmd(["logs", "--grep", "("]);
    ended(&wrong, 4);
    says(&wrong.stderr, &["failed to read the pattern"]);
    ended(&home.cmd(["logs", "nobody"]), 3);
    ended(&home.cmd(["logs", "--err", "--out"]), 2);
}

#[test]
fn following_crosses_rotation_and_sees_every_line_once() {
    let home = Home::new();
    let script = [
        "write-lines",
        "60000",
        "--rate",
        "20000/s",
        "--prefix",
        "run",
        "--size",
        "80",
        "wait",
    ];
    apply(
        &home,
        &[with(
            app(&home, "run", &script),
            json!({"logs": {"max_size": "300K", "keep": 1000}}),
        )],
    );
    let follow = home.follow(["logs", "run", "-f", "--raw", "-n", "1000000"]);
    let mut text = Vec::new();
    while let Some(line) = follow.next_line(LONG) {
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
        if line.starts_with("run 0060000 ") {
            break;
        }
    }
    let report = Numbered::read(&text, "run");
    assert!(report.is_exactly(60_000), "{report:?}");
    let show = home.json(["show", "run"]);
    assert!(
        show["logs"][0]["rotated"]
            .as_u64()
            .is_some_and(|files| files > 10),
        "{show}"
    );
}

#[test]
fn a_follower_sees_apps_that_come_later_and_outlives_the_daemon() {
    let home = Home::new();
    let burst = ["write-lines", "300", "--prefix", "burst", "wait"];
    apply(
        &home,
        &[
            app(&home, "first", &["print", "I am first", "wait"]),
            app(&home, "burst", &burst),
        ],
    );
    whole(&home, "burst", 300);
    let mut follow = home.follow(["logs", "-f", "--raw", "-n", "400"]);
    follow.line_with("I am first", LONG);
    let few = home.follow(["logs", "burst", "-f", "--raw", "-n", "3"]);
    for number in 298..=300 {
        let line = few.next_line(LONG).expect("a line");
        assert!(line.contains(&format!("burst 0000{number}")), "{line}");
    }
    home.ok([
        "start",
        "-n",
        "second",
        "--",
        home.child(),
        "print",
        "I am second",
        "wait",
    ]);
    follow.line_with("I am second", LONG);
    kill_daemon(home.keeper_pid());
    home.ok([
        "start",
        "-n",
        "third",
        "--",
        home.child(),
        "print",
        "I am third",
        "wait",
    ]);
    follow.line_with("I am third", LONG);
    // What was said before is not said again.
    home.ok(["restart", "burst"]);
    assert!(
        few.next_line(LONG)
            .is_some_and(|line| line.contains("burst 0000001"))
    );
    kill(follow.pid(), Signal::INT).expect("it runs");
    assert_eq!(follow.wait(LONG), 130);
    let mut follow = home.follow(["logs", "third", "-f"]);
    follow.line_with("third", LONG);
    home.ok(["shutdown"]);
    assert_eq!(follow.wait(LONG), 8, "{:?}", follow.errors());
    says(&follow.errors().join("\n"), &["the daemon has ended"]);
}

#[test]
fn following_crosses_kills_of_the_daemon_and_sees_every_line_once() {
    let home = Home::new();
    let script = [
        "write-lines",
        "15000",
        "--rate",
        "5000/s",
        "--prefix",
        "run",
        "wait",
    ];
    apply(
        &home,
        &[with(
            app(&home, "run", &script),
            json!({"logs": {"max_size": "300K", "keep": 1000}}),
        )],
    );
    let keeper = home.keeper_pid();
    let follow = home.follow(["logs", "run", "-f", "--raw", "-n", "1000000"]);
    let mut text = Vec::new();
    let mut count = 0;
    while let Some(line) = follow.next_line(LONG) {
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
        count += 1;
        if count % 3000 == 0 && count < 12_000 {
            kill_daemon(keeper);
        }
        if line.starts_with("run 0015000 ") {
            break;
        }
    }
    let report = Numbered::read(&text, "run");
    assert!(report.is_exactly(15_000), "{report:?}; {:?}", follow.errors());
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let home = Home::new();
    let script = ["write-lines", "50000", "wait"];
    apply(&home, &[app(&home, "many", &script)]);
    whole_of(&home);
    for verb in [
        "logs many -n 50000",
        "logs many -f -n 50000",
        "ls",
        "events",
        "--help",
    ] {
        let mut shell = std::process::Command::new("bash");
        let line = format!(
            "'{}' {verb} | head -1; echo ${{PIPESTATUS[0]}}",
            home.upkeep().display()
        );
        shell
            .args(["-c", &line])
            .env("UPKEEP_HOME", home.path())
            .stdin(Stdio::null());
        let output = home.finish(shell, LONG);
        let code = output.stdout.lines().last().unwrap_or_default().to_owned();
        assert!(code == "0" || code == "141", "{verb}: {output:?}");
        assert_eq!(output.stderr, "", "{verb}");
    }
}

fn whole_of(home: &Home) {
    wait_until("its lines", LONG, || {
        let report = Numbered::read(&home.log("many", 0, "out"), "line");
        if report.is_exactly(50_000) {
            Ok(())
        } else {
            Err(format!("{report:?}"))
        }
    });
}

#[test]
fn instances_have_logs_of_their_own_unless_they_are_given_one() {
    let home = Home::new();
    let both = home.work().join("both.log").display().to_string();
    let script = ["print", "to out", "print-err", "to err", "wait"];
    apply(
        &home,
        &[
            with(app(&home, "apart", &script), json!({"instances": 2})),
            with(
                app(&home, "one", &script),
                json!({"instances": 2, "logs": {"out": both, "err": both}}),
            ),
            with(app(&home, "none", &script), json!({"logs": {"disabled": true}})),
        ],
    );
    wait_until("all four lines in one file", LONG, || {
        let text = fs::read_to_string(&both).unwrap_or_default();
        if text.lines().count() == 4 {
            Ok(())
        } else {
            Err(text)
        }
    });
    for index in 0..2 {
        wait_until("lines apart", LONG, || {
            let got = (home.log("apart", index, "out"), home.log("apart", index, "err"));
            if got == (b"to out\n".to_vec(), b"to err\n".to_vec()) {
                Ok(())
            } else {
                Err(format!("{got:?}"))
            }
        });
    }
    assert_eq!(lines(&home, &["apart:1", "--raw", "--out"]), ["to out"]);
    assert_eq!(
        lines(&home, &["one", "--raw"]).len(),
        4,
        "a shared file is read once"
    );
    assert_eq!(lines(&home, &["none"]).len(), 0);
    wait_running(&home, "none", 1);
}

/// A line without its end is shown as far as it has come, and not taken for two.
#[test]
fn lines_that_are_not_finished_are_shown_as_such() {
    let home = Home::new();
    let script = "printf 'first\\nsecond without end'; exec sleep 1000";
    home.write(
        "upkeep.json",
        &json!({"apps": [{"name": "p", "command": ["sh", "-c", script]}]}).to_string(),
    );
    home.ok(["start", "upkeep.json"]);
    let seen = wait_until("both", LONG, || match entries(&home, &["p"]) {
        seen if seen.len() == 2 => Ok(seen),
        seen => Err(format!("{seen:?}")),
    });
    assert_eq!(
        (&seen[1]["message"], &seen[1]["partial"]),
        (&json!("second without end"), &json!(true))
    );
    assert_eq!(seen[0].get("partial"), None);
}

#[test]
fn times_are_those_of_arrival() {
    let home = Home::new();
    let before = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    let script = ["print", "early", "run-for", "1s", "print", "late", "wait"];
    apply(&home, &[app(&home, "t", &script)]);
    let seen = wait_until("both", LONG, || match entries(&home, &["t"]) {
        seen if seen.len() == 2 => Ok(seen),
        seen => Err(format!("{seen:?}")),
    });
    let at = |index: usize| Duration::from_secs_f64(unix(&seen[index]["time"]));
    assert!(at(0) + Duration::from_millis(1) >= before, "{seen:?}");
    let apart = at(1).saturating_sub(at(0));
    assert!(
        apart > Duration::from_millis(850) && apart < Duration::from_secs(20),
        "{apart:?}"
    );
}

/// The text of a line as the program wrote it, whatever form the file has.
fn unformed(line: &str, format: &str) -> String {
    match format {
        "raw" => line.to_owned(),
        "json" => {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_eq!((&line["app"], &line["stream"]), (&json!("json"), &json!("out")));
            unix(&line["time"]);
            line["message"].as_str().expect("a text").to_owned()
        }
        _ => {
            let (time, text) = line.split_once(' ').expect("a time");
            assert!(time.len() == 24 && time.ends_with('Z'), "{line}");
            text.to_owned()
        }
    }
}

/// Rotation, compression and both forms at full speed, while the daemon is killed again and again.
#[test]
fn heavy_rotation_in_every_form_crosses_kills_of_the_daemon() {
    let home = Home::new();
    let forms = [
        ("raw", "zstd", 400_000_u64, "150K"),
        ("timestamped", "zstd", 300_000, "200K"),
        ("json", "none", 150_000, "150K"),
    ];
    let apps: Vec<Value> = forms
        .iter()
        .map(|(format, compress, count, size)| {
            let count = count.to_string();
            let script = [
                "write-lines",
                &count,
                "--size",
                "50",
                "--rate",
                "40000/s",
                "--prefix",
                format,
            ];
            with(
                app(&home, format, &script),
                json!({"restart": "never", "logs":
                    {"max_size": size, "keep": 100_000, "format": format, "compress": compress}}),
            )
        })
        .collect();
    apply(&home, &apps);
    let keeper = home.keeper_pid();
    for _ in 0..12 {
        std::thread::park_timeout(Duration::from_millis(350));
        kill_daemon(keeper);
    }
    for (format, compress, count, _) in forms {
        home.wait_for(format, 0, "completed");
        let report = wait_until(&format!("{count} lines of {format}"), LONG, || {
            let bytes = home.log(format, 0, "out");
            let text = String::from_utf8(bytes).expect("a text");
            let messages: String = text.lines().fold(String::new(), |mut all, line| {
                // Checked in full for a few, which is slow; read for all.
                let line = if format == "json" && !line.contains("000 ") {
                    let start = line.find("\"message\":\"").expect("a message") + 11;
                    line[start..].trim_end_matches("\"}").to_owned()
                } else {
                    unformed(line, format)
                };
                all.push_str(&line);
                all.push('\n');
                all
            });
            let report = Numbered::read(messages.as_bytes(), format);
            if report.present >= count {
                Ok(report)
            } else {
                Err(format!("{report:?}"))
            }
        });
        assert!(report.is_exactly(count), "{format}: {report:?}");
        let show = home.json(["show", format]);
        let log = &show["logs"][0];
        assert!(log["rotated"].as_u64().is_some_and(|files| files > 100), "{log}");
        assert_eq!(
            (&log["dropped_lines"], &log["lost_lines"]),
            (&json!(0), &json!(0)),
            "{log}"
        );
        // All but the newest are compressed in the end, and nothing unfinished is left.
        wait_until("the files to be as they should", LONG, || {
            let names: Vec<std::path::PathBuf> = fs::read_dir(home.path().join("logs"))
                .expect("the logs")
                .map(|entry| entry.expect("an entry").path())
                .filter(|path| path.to_string_lossy().contains(&format!("/{format}-0.out.log.0")))
                .filter(|path| path.extension().is_none_or(|end| end != "idx"))
                .collect();
            let with = |wanted: &str| {
                let ends = names.iter().filter_map(|path| path.extension());
                ends.filter(|end| *end == wanted).count()
            };
            let packed = with("zst");
            let right = if compress == "none" { 0 } else { names.len() - 1 };
            if packed == right && with("tmp") == 0 {
                Ok(())
            } else {
                Err(format!("{packed} of {}", names.len()))
            }
        });
        // What `logs` shows is what the program wrote.
        let shown = lines(&home, &[format, "--raw", "--out", "-n", "50000"]).join("\n") + "\n";
        let read = Numbered::read(shown.as_bytes(), format);
        assert_eq!(
            (read.present, read.last, read.doubled, read.torn),
            (50_000, count, 0, 0),
            "{read:?}"
        );
    }
}

#[test]
fn what_is_shown_of_a_line_can_be_chosen() {
    let home = Home::new();
    let script = [
        "print",
        "Error: no",
        "print",
        "    at main",
        "print",
        "Caused by: it",
        "print",
        "done",
        "wait",
    ];
    apply(&home, &[app(&home, "a", &script)]);
    wait_until("the last word", LONG, || {
        let text = home.log("a", 0, "out");
        if text.ends_with(b"done\n") {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&text).into_owned())
        }
    });
    let records = lines(&home, &["--raw", "--records", "--grep", "main"]);
    assert_eq!(records, ["Error: no", "    at main", "Caused by: it"]);
    assert_eq!(lines(&home, &["--raw", "--grep", "main"]), ["    at main"]);
    assert_eq!(
        lines(&home, &["--no-prefix", "--timestamps", "none", "-n", "1"]),
        ["done"]
    );
    assert_eq!(lines(&home, &["--timestamps", "none", "-n", "1"]), ["a:0 | done"]);
    let utc = lines(&home, &["--utc", "--no-prefix", "-n", "1"]).remove(0);
    let (time, text) = utc.split_once(' ').expect("a time");
    unix(&json!(time));
    assert_eq!(text, "done");
    assert_eq!(lines(&home, &["--until", "2001-01-01T00:00"]), [""; 0]);
    assert_eq!(lines(&home, &["--until", "0s", "-n", "1", "--raw"]), ["done"]);
    ended(&home.cmd(["logs", "-f", "--until", "1h"]), 2);
    let wrong = home.cmd(["logs", "--until", "never"]);
    ended(&wrong, 2);
    says(&wrong.stderr, &["`never` is no time"]);
}
