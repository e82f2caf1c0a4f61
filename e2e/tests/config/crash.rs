//! A daemon that is killed while others write.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use upkeep_e2e::{Dice, LONG, kill_daemon};
use upkeep_testkit::{Home, pass, wait_until};

const WRITERS: usize = 8;
const KILLS: usize = 6;

/// One call on a connection of its own; nothing, if no whole answer came.
pub(crate) fn put(home: &Home, path: &str, text: &str) -> Option<(u16, Value)> {
    let mut stream = UnixStream::connect(home.path().join("run/api.sock")).ok()?;
    stream.set_read_timeout(Some(LONG)).ok()?;
    let body = json!({"text": text}).to_string();
    let head = format!(
        "PUT /v1/config/values{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(body).ok()?))
}

/// Every change below a place that the history tells, by revision and path: what it set. On etcd, changes of the same moment share a
/// revision, so a page goes on behind a path, too.
pub(crate) fn all_history(home: &Home, place: &str) -> BTreeMap<(u64, String), String> {
    let mut history: BTreeMap<(u64, String), String> = BTreeMap::new();
    let mut before = String::new();
    loop {
        let path = format!("/v1/config/history?place={place}&limit=1000{before}");
        let answer = upkeep_e2e::Http::ask(home, "GET", &path, b"").json();
        let changes = answer["changes"]
            .as_array()
            .unwrap_or_else(|| panic!("{answer}"))
            .clone();
        for change in &changes {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let revision = change["revision"].as_u64().expect("a revision");
            let was = history.insert((revision, text(&change["path"])), text(&change["value"]["text"]));
            assert!(was.is_none(), "two changes of one value at {revision}");
        }
        let Some(next) = answer["next"].as_object() else {
            break;
        };
        before = format!(
            "&before={}&behind={}",
            next["before"],
            next["behind"].as_str().expect("a path")
        );
    }
    history
}

#[test]
fn what_was_acknowledged_is_there_after_kills() {
    let home = crate::home();
    // Each of many changes is looked for: on a quick disk a writer makes more of them than are kept by default.
    home.ok(["config", "history", "/", "--keep", "1000000"]);
    home.ok(["config", "set", "/begin", "0"]);
    let keeper = home.keeper_pid();
    let over = AtomicBool::new(false);
    // Of each writer: what was acknowledged, as revision and value, in its order.
    let acknowledged: Vec<Vec<(u64, u64)>> = std::thread::scope(|scope| {
        let (home, over) = (&home, &over);
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn(move || {
                    let mut done = Vec::new();
                    let mut value = 0;
                    while !over.load(Ordering::Relaxed) {
                        value += 1;
                        match put(home, &format!("/writers/{writer}"), &value.to_string()) {
                            Some((200, answer)) => {
                                done.push((answer["revision"].as_u64().expect("a revision"), value));
                            }
                            Some((503, _)) | None => pass(Duration::from_millis(10)),
                            Some((status, answer)) => panic!("{status}: {answer}"),
                        }
                    }
                    done
                })
            })
            .collect();
        let mut dice = Dice::new();
        for _ in 0..KILLS {
            pass(Duration::from_millis(200) + dice.span(Duration::from_millis(400)));
            kill_daemon(keeper);
            home.daemon_pid();
        }
        pass(Duration::from_millis(200));
        over.store(true, Ordering::Relaxed);
        writers
            .into_iter()
            .map(|writer| writer.join().expect("a writer"))
            .collect()
    });
    let count: usize = acknowledged.iter().map(Vec::len).sum();
    assert!(count > WRITERS * KILLS, "{count} were acknowledged");

    // Every acknowledged change is in the history, at its revision; the revisions have no gap. On etcd, changes of the same moment
    // share one.
    let history = all_history(&home, "/");
    for (writer, done) in acknowledged.iter().enumerate() {
        for (revision, value) in done {
            let change = (*revision, format!("/writers/{writer}"));
            assert_eq!(
                history.get(&change),
                Some(&value.to_string()),
                "revision {revision}"
            );
        }
        let ordered = done.windows(2).all(|two| two[0].0 < two[1].0);
        assert!(ordered, "{done:?}");
    }
    let mut revisions: Vec<u64> = history.keys().map(|(revision, _)| *revision).collect();
    let count = revisions.len();
    revisions.dedup();
    assert!(
        crate::ON_ETCD || revisions.len() == count,
        "in the file each has its own"
    );
    let gaps = revisions.windows(2).filter(|two| two[1] != two[0] + 1);
    let gaps: Vec<_> = gaps.collect();
    // Looking after the file takes a revision once, when it is looked at first.
    let own = u64::from(!crate::ON_ETCD);
    let missing: u64 = gaps.iter().map(|two| two[1] - two[0] - 1).sum();
    assert!(missing <= own, "between {gaps:?}");

    // What is there now is the newest of the history, and no older than what was acknowledged last.
    let newest: BTreeMap<&String, &String> = history.iter().map(|((_, path), value)| (path, value)).collect();
    let now = crate::listed(&home, "/writers/");
    assert_eq!(now.len(), WRITERS);
    for (path, value) in &now {
        assert_eq!(newest.get(path).copied(), value.as_ref(), "{path}");
    }
    wait_until("an event of a change", LONG, || {
        let events = home.json(["events", "--kind", "config.set", "-n", "1"]);
        match events["events"].as_array().map(Vec::len) {
            Some(1) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}
