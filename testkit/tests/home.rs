//! A home ends what was started in it, whatever the verbs did. A script stands in for `upkeep`.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use upkeep_testkit::{Home, alive, stamps, wait_until};

/// An `upkeep` that runs what it is told in the background, and does not know how to end it.
fn stand_in(dir: &tempfile::TempDir) -> PathBuf {
    let path = dir.path().join("upkeep");
    let text = "#!/bin/sh
case $1 in
  start) shift; \"$@\" </dev/null >/dev/null 2>&1 & ;;
  forget) shift; env -i \"$@\" </dev/null >/dev/null 2>&1 & wait ;;
  ping) echo '{\"daemon_pid\": 12, \"keeper_pid\": 34}' ;;
  say) echo out; echo err >&2; exit 3 ;;
  cat) cat ;;
  count) for i in 1 2 3; do echo \"line $i\"; done; sleep 100 ;;
esac
";
    fs::write(&path, text).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a program");
    path
}

#[test]
fn what_verbs_say_is_kept_apart() {
    let dir = tempfile::tempdir().expect("a directory");
    let home = Home::with_binary(stand_in(&dir));
    let output = home.cmd(["say"]);
    assert_eq!(
        (output.code, &*output.stdout, &*output.stderr),
        (3, "out\n", "err\n")
    );
    assert_eq!(home.cmd_with_input(["cat"], b"hello").stdout, "hello");
    assert_eq!((home.daemon_pid(), home.keeper_pid()), (12, 34));
    assert!(home.path().join("run/api.sock").as_os_str().len() < 60);
}

#[test]
fn a_verb_that_goes_on_is_read_line_by_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let home = Home::with_binary(stand_in(&dir));
    let follow = home.follow(["count"]);
    assert_eq!(
        follow.next_line(Duration::from_secs(10)).as_deref(),
        Some("line 1")
    );
    assert_eq!(follow.line_with("3", Duration::from_secs(10)), "line 3");
}

#[test]
fn nothing_outlives_a_home() {
    let dir = tempfile::tempdir().expect("a directory");
    let stamp = dir.path().join("stamps");
    let file = stamp.to_str().expect("text");
    let home = Home::with_binary(stand_in(&dir));
    let script = [
        "ignore",
        "SIGTERM",
        "spawn-tree",
        "2",
        "--setsid",
        "stamp",
        file,
        "wait",
    ];
    home.ok([&["start", home.child()], &script[..]].concat());
    // One that lost its environment, below one that did not.
    let forgetful = home.follow([&["forget", home.child()], &script[..]].concat());
    let pids = wait_until("two stamps", Duration::from_secs(10), || {
        match stamps(&stamp).as_slice() {
            [one, two] => Ok([one.pid, two.pid]),
            other => Err(format!("{other:?}")),
        }
    });
    // Two with two descendants each, and the script that waits for one of them.
    let all = wait_until("both trees", Duration::from_secs(10), || {
        let all = home.processes();
        if all.len() == 7 {
            Ok(all)
        } else {
            Err(format!("{all:?}"))
        }
    });
    assert!(pids.iter().all(|pid| all.contains(pid)), "{pids:?} {all:?}");
    drop(home);
    let left: Vec<i32> = all.into_iter().filter(|&pid| alive(pid)).collect();
    assert_eq!(left, Vec::<i32>::new());
    drop(forgetful);
}
