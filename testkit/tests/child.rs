//! The scripted child does what its header says: the other tests lean on it.

use std::{
    io::Read as _,
    os::unix::process::ExitStatusExt as _,
    process::{Command, Output, Stdio},
    time::Duration,
};

use upkeep_testkit::{Numbered, Signal, alive, kill, wait_until};

fn command(script: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_upkeep-child"));
    command.args(script).stdin(Stdio::null());
    command
}

fn output(script: &[&str]) -> Output {
    command(script).output().expect("the child starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn lines_are_numbered_and_padded() {
    let out = output(&["write-lines", "3", "--size", "20", "--prefix", "a", "exit", "7"]);
    assert_eq!(
        text(&out.stdout),
        "a 0000001 xxxxxxxxx\na 0000002 xxxxxxxxx\na 0000003 xxxxxxxxx\n"
    );
    assert_eq!(out.status.code(), Some(7));
    let report = Numbered::read(&out.stdout, "a");
    assert_eq!(
        (report.present, report.missing, report.doubled, report.torn),
        (3, 0, 0, 0)
    );
}

#[test]
fn err_and_blob_and_words() {
    let out = output(&[
        "write-lines",
        "1",
        "--err",
        "write-blob",
        "2K",
        "close-stdout",
        "print-err",
        "end",
    ]);
    assert_eq!(out.stdout.len(), 2048);
    assert!(text(&out.stderr).ends_with("x\nend\n"), "{}", text(&out.stderr));
    assert!(out.status.success());
}

#[test]
fn a_script_that_makes_no_sense_is_refused() {
    let out = output(&["write-lines", "many"]);
    assert_eq!(out.status.code(), Some(64));
    assert!(
        text(&out.stderr).contains("`many` is no number of lines"),
        "{}",
        text(&out.stderr)
    );
}

#[test]
fn crash_ends_by_the_signal() {
    assert_eq!(output(&["crash"]).status.signal(), Some(11));
    assert_eq!(output(&["crash", "SIGABRT"]).status.signal(), Some(6));
}

#[test]
fn crash_once_crashes_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("crashed").display().to_string();
    assert_eq!(output(&["crash-once", &file]).status.signal(), Some(11));
    assert!(output(&["crash-once", &file]).status.success());
}

#[test]
fn signals_are_ignored_or_answered() {
    let mut child = command(&[
        "ignore", "SIGTERM", "on", "SIGINT", "exit", "5", "after", "50ms", "print", "ready", "wait",
    ])
    .stdout(Stdio::piped())
    .spawn()
    .expect("the child starts");
    let mut ready = [0_u8; 6];
    child
        .stdout
        .as_mut()
        .expect("piped")
        .read_exact(&mut ready)
        .expect("it says ready");
    let pid = child.id().cast_signed();
    kill(pid, Signal::TERM).expect("signalled");
    kill(pid, Signal::INT).expect("signalled");
    assert_eq!(child.wait().expect("it ends").code(), Some(5));
}

#[test]
fn a_tally_outlives_its_writer() {
    let dir = tempfile::tempdir().expect("a directory");
    let tally = dir.path().join("tally");
    let path = tally.display().to_string();
    let mut child = command(&["write-lines", "forever", "--rate", "5000/s", "--tally", &path])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the child starts");
    wait_until(
        "some lines",
        Duration::from_secs(10),
        || match upkeep_testkit::tally(&tally) {
            Ok(count) if count > 20 => Ok(()),
            other => Err(format!("{other:?}")),
        },
    );
    child.kill().expect("killed");
    child.wait().expect("reaped");
    let mut bytes = Vec::new();
    child
        .stdout
        .take()
        .expect("piped")
        .read_to_end(&mut bytes)
        .expect("readable");
    let report = Numbered::read(&bytes, "line");
    let counted = upkeep_testkit::tally(&tally).expect("readable");
    // Killed between the write and the count, the file may hold one line more than was counted.
    assert!(
        report.last == counted || report.last == counted + 1,
        "{report:?} {counted}"
    );
    assert_eq!((report.missing, report.torn), (0, 0));
}

#[test]
fn daemonize_leaves_a_process_of_its_own_session() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("stamp");
    let out = output(&[
        "daemonize",
        "stamp",
        &file.display().to_string(),
        "close-stdout",
        "close-stderr",
        "wait",
    ]);
    assert!(out.status.success());
    let pid = wait_until("the stamp of the daemon", Duration::from_secs(10), || {
        upkeep_testkit::stamps(&file)
            .last()
            .map(|stamp| stamp.pid)
            .ok_or_else(|| "no stamp".to_owned())
    });
    assert!(alive(pid));
    kill(pid, Signal::KILL).expect("signalled");
}

#[test]
fn listen_answers() {
    use std::io::{BufRead as _, BufReader, Write as _};
    let mut child = command(&["listen", "0", "wait"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the child starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped"))
        .read_line(&mut line)
        .expect("a line");
    let port: u16 = line
        .trim()
        .strip_prefix("listening ")
        .expect("its port")
        .parse()
        .expect("a number");
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.ends_with(&format!("ok {}\n", child.id())), "{answer}");
    child.kill().expect("killed");
    child.wait().expect("reaped");
}
