//! Starting processes, against the real kernel.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::{
    ffi::OsString,
    fs,
    io::Read,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::PathBuf,
    time::Instant,
};

use upkeep_sys::{
    Pid, cgroup, descriptor, pipe,
    rlimit::{self, Limit},
    signal::{self, SignalFd, number},
    spawn::{self, Launch, Program, SpawnError, Step},
    wait::{self, Status},
};

fn shell(script: &str) -> Launch<'static> {
    Launch {
        argv: ["sh", "-c", script].map(OsString::from).to_vec(),
        env: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())],
        ..Launch::default()
    }
}

/// What it writes to its standard output, and how it ends.
fn output(mut launch: Launch<'_>) -> (String, Status) {
    let pipe = pipe::make().unwrap();
    let mut descriptors = std::mem::take(&mut launch.descriptors);
    descriptors.push((1, pipe.write.as_fd()));
    let pid = {
        let launch = Launch {
            descriptors,
            ..launch
        };
        spawn::spawn(&launch, None).unwrap()
    };
    drop(pipe.write);
    let mut text = String::new();
    fs::File::from(pipe.read).read_to_string(&mut text).unwrap();
    (text, wait::wait_for(pid).unwrap().unwrap().status)
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

#[test]
fn a_child_can_be_told_its_own_pid() {
    let mut launch = shell("test \"$LISTEN_PID\" = $$ && test \"$A\" = $$ && exit 7");
    launch
        .env
        .push(("LISTEN_PID".into(), upkeep_sys::spawn::OWN_PID.into()));
    launch.env.push(("A".into(), upkeep_sys::spawn::OWN_PID.into()));
    let (_, status) = output(launch);
    assert_eq!(status, Status::Code(7));
}

#[test]
fn a_child_gets_its_environment_and_nothing_else() {
    let mut launch = shell("env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= | sort; exit 3");
    launch.env.push(("A".into(), "1 2".into()));
    let (text, status) = output(launch);
    assert_eq!(text, "A=1 2\nPATH=/usr/local/bin:/usr/bin:/bin\n");
    assert_eq!(status, Status::Code(3));
}

#[test]
fn only_the_named_descriptors_are_open() {
    // Without CLOEXEC, as somebody else might have opened it.
    let leak = descriptor::open_null().unwrap();
    descriptor::set_cloexec(&leak, false).unwrap();
    let (text, _) = output(shell(
        "ls /proc/self/fd | tr '\\n' ' '; readlink /proc/self/fd/0 /proc/self/fd/2",
    ));
    // 3 is the directory that `ls` reads.
    assert_eq!(text, "0 1 2 3 /dev/null\n/dev/null\n");
}

#[test]
fn descriptors_arrive_even_where_numbers_overlap() {
    // Files whose numbers here are each other's numbers there.
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<OwnedFd> = (0..6)
        .map(|index| {
            let path = folder.path().join(format!("file{index}"));
            fs::write(&path, format!("{index}")).unwrap();
            fs::File::open(path).unwrap().into()
        })
        .collect();
    let number =
        |index: usize| u32::try_from(std::os::fd::AsRawFd::as_raw_fd(&files[index % files.len()])).unwrap();
    let mut launch = shell("");
    let mut script = String::new();
    for (index, file) in files.iter().enumerate() {
        launch.descriptors.push((number(index + 1), file.as_fd()));
        script.push_str(&format!("cat /proc/self/fd/{}; ", number(index + 1)));
    }
    launch.argv[2] = script.into();
    assert_eq!(output(launch).0, "012345");
}

#[test]
fn a_failing_step_is_named_with_its_errno() {
    let step = |launch: &Launch<'_>| match spawn::spawn(launch, None) {
        Err(SpawnError::Child { step, target, errno }) => (step, target, errno),
        other => panic!("{other:?}"),
    };
    let mut nowhere = shell("true");
    nowhere.cwd = "/no/such/place".into();
    assert_eq!(
        step(&nowhere),
        (Step::WorkingDirectory, "/no/such/place".to_owned(), 2)
    );
    let mut missing = shell("true");
    missing.argv[0] = "no-such-program".into();
    assert_eq!(step(&missing), (Step::Exec, "no-such-program".to_owned(), 2));
    missing.argv[0] = "/etc/passwd".into();
    assert_eq!(step(&missing), (Step::Exec, "/etc/passwd".to_owned(), 13));
    let mut unlimited = shell("true");
    unlimited.limits = vec![Limit {
        resource: 99,
        soft: 1,
        hard: 1,
    }];
    assert_eq!(step(&unlimited).0, Step::Limits);
    // Nothing is left behind.
    assert_eq!(wait::reap_any().unwrap(), None);
}

#[test]
fn what_cannot_be_said_to_the_kernel_is_refused() {
    let refuse = |launch: Launch<'_>| {
        assert!(matches!(
            spawn::spawn(&launch, None),
            Err(SpawnError::Invalid { .. })
        ));
    };
    refuse(Launch::default());
    refuse(shell("a\0b"));
    let mut launch = shell("true");
    launch.env.push(("A=B".into(), "C".into()));
    refuse(launch);
    let null = descriptor::open_null().unwrap();
    let mut launch = shell("true");
    launch.descriptors = vec![(1, null.as_fd()), (1, null.as_fd())];
    refuse(launch);
    let mut launch = shell("true");
    launch.descriptors = vec![(spawn::MAX_DESCRIPTOR + 1, null.as_fd())];
    refuse(launch);
}

#[test]
fn limits_mask_and_directory_are_its_own() {
    let mut launch = shell("ulimit -n; ulimit -Hn; umask; pwd; grep NoNewPrivs /proc/self/status");
    launch.limits = vec![Limit {
        resource: rlimit::OPEN_FILES,
        soft: 100,
        hard: 200,
    }];
    launch.umask = Some(0o027);
    launch.cwd = "/usr".into();
    launch.no_new_privs = true;
    assert_eq!(output(launch).0, "100\n200\n0027\n/usr\nNoNewPrivs:\t1\n");
}

#[test]
fn signals_are_as_a_program_expects_them() {
    signal::ignore(number::PIPE).unwrap();
    let _blocked = SignalFd::new(&[number::TERM, number::CHLD]).unwrap();
    let (text, _) = output(shell("grep -E 'Sig(Blk|Ign)' /proc/self/status"));
    assert_eq!(text, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

#[test]
fn a_session_of_its_own_if_asked_for() {
    let mut launch = shell("read -r pid rest < /proc/self/stat; echo $$ $(cut -d' ' -f5,6 /proc/$$/stat)");
    launch.new_session = true;
    let (text, _) = output(launch);
    let ids: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| *id == ids[0]), "{text}");
}

#[test]
fn root_can_start_a_child_as_somebody_else() {
    if !is_root() {
        return;
    }
    let nobody = upkeep_sys::user::user("nobody").unwrap();
    let mut launch = shell("id -u; id -g; id -G");
    launch.uid = Some(nobody.uid);
    launch.gid = Some(nobody.gid);
    let (text, _) = output(launch);
    // No supplementary groups of ours come along.
    assert_eq!(text, format!("{0}\n{1}\n{1}\n", nobody.uid, nobody.gid));
    let mut launch = shell("id -G");
    launch.uid = Some(nobody.uid);
    launch.gid = Some(nobody.gid);
    launch.groups = Some(vec![7, 8]);
    assert_eq!(output(launch).0, format!("{} 7 8\n", nobody.gid));
    // As nobody, it may not change to a directory of root's.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let mut launch = shell("true");
    launch.uid = Some(nobody.uid);
    launch.cwd = folder.path().into();
    let error = spawn::spawn(&launch, None).unwrap_err();
    assert!(
        matches!(
            error,
            SpawnError::Child {
                step: Step::WorkingDirectory,
                errno: 13,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_script_without_an_interpreter_line_runs_in_the_shell() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("script");
    fs::write(&path, "echo $1-$2\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let mut launch = shell("");
    launch.argv = vec!["script".into(), "a".into(), "b".into()];
    launch.env = vec![(
        "PATH".into(),
        OsString::from(format!("/nowhere:{}", folder.path().display())),
    )];
    assert_eq!(output(launch).0, "a-b\n");
    let mut launch = shell("");
    launch.argv = vec!["./script".into(), "c".into(), "d".into()];
    launch.cwd = folder.path().into();
    assert_eq!(output(launch).0, "c-d\n");
}

#[test]
fn a_file_is_started_although_its_name_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("echo");
    fs::copy("/bin/echo", &path).unwrap();
    let held = descriptor::open_path(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let mut launch = shell("");
    launch.argv = vec!["echo".into(), "still here".into()];
    launch.program = Program::File(held.as_fd());
    assert_eq!(output(launch).0, "still here\n");
}

#[test]
fn the_oom_score_is_raised_for_the_child_alone() {
    let mut launch = shell("cat /proc/self/oom_score_adj");
    launch.oom_score_adj = Some(321);
    assert_eq!(output(launch).0, "321\n");
    assert_ne!(fs::read_to_string("/proc/self/oom_score_adj").unwrap(), "321\n");
}

#[test]
fn a_child_starts_in_its_cgroup() {
    let Ok((_, own)) = cgroup::own_group() else { return };
    let group: PathBuf = own.join(format!("test-{}", Pid::own()));
    if cgroup::create(&group).is_err() {
        return;
    }
    let directory = cgroup::open(&group).unwrap();
    let pid = spawn::spawn(
        &shell("(setsid sleep 1000 &) ; sleep 1000"),
        Some(directory.as_fd()),
    )
    .unwrap();
    wait_until(|| cgroup::processes(&group).unwrap().len() >= 2);
    assert!(cgroup::processes(&group).unwrap().contains(&pid));
    assert!(cgroup::is_populated(&group).unwrap());
    assert!(cgroup::remove(&group).is_err());
    assert!(cgroup::kill(&group).unwrap() >= 2);
    assert!(matches!(
        wait::wait_for(pid).unwrap().unwrap().status,
        Status::Signal { number: 9, .. }
    ));
    wait_until(|| !cgroup::is_populated(&group).unwrap());
    wait_until(|| cgroup::remove(&group).is_ok());
    assert!(!group.exists());
    assert!(!cgroup::is_populated(&group).unwrap());
}

#[test]
fn starting_is_fast() {
    let mut launch = shell("");
    launch.argv = vec!["/bin/true".into()];
    let mut times: Vec<_> = (0..200)
        .map(|_| {
            let begin = Instant::now();
            let pid = spawn::spawn(&launch, None).unwrap();
            let time = begin.elapsed();
            wait::wait_for(pid).unwrap();
            time
        })
        .collect();
    times.sort();
    eprintln!("spawn: median {:?}, best {:?}", times[100], times[0]);
    assert!(times[100].as_millis() < 10, "generous: the machine may be loaded");
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + std::time::Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain");
        #[expect(
            clippy::disallowed_methods,
            reason = "the one poll loop that all waits go through"
        )]
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}
