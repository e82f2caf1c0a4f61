//! Leaving the terminal. It is tested here because it takes a program with one thread, which libtest is not.

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use upkeep_sys::{
    Pid,
    daemonize::{self, Side},
    process,
};

use crate::{Test, world::wait_until};

pub(crate) const TESTS: &[Test] = &[(
    "detach::a_detached_process_belongs_to_nobody",
    a_detached_process_belongs_to_nobody,
)];

/// The part that detaches.
pub(crate) fn main(folder: &str) -> ExitCode {
    let folder = Path::new(folder);
    match daemonize::detach(Some(&folder.join("log"))).expect("one thread") {
        Side::Caller => ExitCode::SUCCESS,
        Side::Detached => {
            eprintln!("to the log");
            let own = process::stat(Pid::own()).expect("stat");
            let streams = fs::read_link("/proc/self/fd/0").expect("stdin");
            let cwd = std::env::current_dir().expect("cwd");
            let text = format!(
                "{} {} {} {}",
                own.pid,
                own.session,
                streams.display(),
                cwd.display()
            );
            fs::write(folder.join("new"), text).expect("write");
            fs::rename(folder.join("new"), folder.join("told")).expect("rename");
            ExitCode::SUCCESS
        }
    }
}

fn a_detached_process_belongs_to_nobody() {
    let folder = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(std::env::current_exe().expect("own program"));
    let mut caller = command
        .arg("detach")
        .arg(folder.path())
        .stdin(Stdio::null())
        .spawn()
        .expect("a process");
    let caller_pid = caller.id();
    assert!(caller.wait().expect("wait").success());
    wait_until("it has told", || folder.path().join("told").exists());
    let told = fs::read_to_string(folder.path().join("told")).expect("told");
    let words: Vec<&str> = told.split(' ').collect();
    // In a session that it does not lead, so that no terminal can become its own.
    assert_ne!(words[0], words[1]);
    assert_ne!(words[1], caller_pid.to_string());
    assert_eq!(words[2..], ["/dev/null", "/"]);
    assert_eq!(
        fs::read_to_string(folder.path().join("log")).expect("log"),
        "to the log\n"
    );
}
