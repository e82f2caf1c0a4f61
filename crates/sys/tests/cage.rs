//! Cages against the real kernel: as root (own namespaces) and as somebody else (inside a user namespace). What the
//! machine cannot do is said and left out.

use std::{
    fs,
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, PermissionsExt, chown},
    },
    path::{Path, PathBuf},
};

use upkeep_sys::{
    Pid,
    cage::{self, Cage, Kept, Landlock, Mounts, Temporary},
    cgroup::limit::{self, Controllers, Limits, Resource, Version},
    descriptor, pipe,
    spawn::{self, Launch, SpawnError, Step},
    wait::{self, Status},
};

/// `nobody`, on every distribution we know.
const NOBODY: u32 = 65534;

#[expect(clippy::print_stderr, reason = "a test that is left out says so")]
fn skipped(what: &str) {
    eprintln!("SKIPPED: {what}");
}

/// The two ways to a cage that this machine has.
fn ways() -> Vec<Cage> {
    let ability = cage::ability();
    let mut ways = Vec::new();
    if ability.namespaces {
        ways.push(Cage {
            mount: true,
            ..Cage::default()
        });
    } else {
        skipped(&format!("namespaces as we are: errno {}", ability.errno));
    }
    if ability.user_namespaces {
        ways.push(Cage {
            mount: true,
            user: true,
            ..Cage::default()
        });
    } else {
        skipped(&format!("user namespaces: errno {}", ability.errno));
    }
    ways
}

/// Runs a script of sh in a cage; what it printed, and how it ended.
fn run_as(cage: &Cage, uid: Option<u32>, script: &str) -> Result<(String, Status), SpawnError> {
    let output = pipe::make().expect("a pipe");
    let launch = Launch {
        argv: ["/bin/sh", "-c", script].map(Into::into).to_vec(),
        env: vec![("PATH".into(), "/usr/sbin:/usr/bin:/sbin:/bin".into())],
        cwd: PathBuf::from("/"),
        uid,
        gid: uid,
        descriptors: vec![(1, output.write.as_fd()), (2, output.write.as_fd())],
        new_session: true,
        no_new_privs: true,
        cage: Some(cage),
        ..Launch::default()
    };
    let pid = spawn::spawn(&launch, None)?;
    drop(launch);
    drop(output.write);
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match descriptor::read(&output.read, &mut buffer).expect("a read") {
            0 => break,
            count => text.extend_from_slice(&buffer[..count]),
        }
    }
    Ok((String::from_utf8_lossy(&text).into_owned(), ended(pid)))
}

fn ended(pid: Pid) -> Status {
    wait::wait_for(pid).expect("a wait").expect("an end").status
}

/// The user for a way: a user namespace is for whom is not root.
fn user_of(cage: &Cage) -> Option<u32> {
    let root = fs::metadata("/proc/self").expect("proc").uid() == 0;
    (cage.user && root).then_some(NOBODY)
}

fn run(cage: &Cage, script: &str) -> String {
    let (text, status) = run_as(cage, user_of(cage), script).expect("it starts");
    assert_eq!(status, Status::Code(0), "{text}");
    text
}

/// A directory that everybody can enter, with a file and a directory of the caged user's.
fn place(cage: &Cage) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a directory");
    let all = |mode| fs::Permissions::from_mode(mode);
    fs::set_permissions(folder.path(), all(0o777)).expect("a mode");
    fs::write(folder.path().join("secret"), "secret\n").expect("a file");
    fs::create_dir_all(folder.path().join("own/deep")).expect("directories");
    if let Some(user) = user_of(cage) {
        for name in ["own", "own/deep"] {
            chown(folder.path().join(name), Some(user), Some(user)).expect("an owner");
        }
    }
    folder
}

fn kept(path: &Path, writable: bool) -> Kept {
    Kept {
        path: path.to_owned(),
        writable,
    }
}

#[test]
fn what_is_hidden_is_empty_what_is_read_only_cannot_be_written_what_is_kept_can() {
    for way in ways() {
        let folder = place(&way);
        let own = folder.path().join("own/deep");
        let cage = Cage {
            mounts: Mounts {
                read_only: true,
                own_proc: way.mount && !way.user && cage::ability().own_proc,
                own_devices: true,
                hidden: vec![folder.path().to_owned(), "/etc/hostname".into()],
                temporary: vec![Temporary {
                    path: "/var/tmp".into(),
                    size: 1 << 20,
                    mode: 0o1777,
                }],
                frozen: vec!["/proc/sys".into()],
                kept: vec![kept(&own, true)],
                ..Mounts::default()
            },
            ..way
        };
        let path = own.display();
        let text = run(
            &cage,
            &format!(
                "cat {0}/secret; cat /etc/hostname; ls {0}; touch {0}/x; touch /usr/x; touch /dev/x
                 touch {path}/x && echo kept
                 head -c 3000000 /dev/zero > /var/tmp/big; echo $(ls /var/tmp)
                 echo 1 > /proc/sys/kernel/domainname; : > /dev/null && echo null; ls /dev | grep -c vda; ls -l /dev/fd/1 > /dev/null && echo fd
                 true",
                folder.path().display()
            ),
        );
        assert!(text.contains("kept\n"), "{text}");
        assert!(!text.contains("secret\n"), "{text}");
        assert!(text.contains("own\n"), "{text}");
        assert!(text.contains("big") && text.contains("No space left"), "{text}");
        assert!(text.contains("null\n0\nfd\n"), "{text}");
        assert!(text.matches("Read-only file system").count() >= 4, "{text}");
        assert!(own.join("x").exists(), "it was written where it seemed to be");
        assert!(!Path::new("/usr/x").exists() && !Path::new("/dev/x").exists());
        assert!(
            !Path::new("/var/tmp/big").exists(),
            "the machine's own is untouched"
        );
    }
}

#[test]
fn a_network_of_its_own_has_a_loopback_interface_that_works_and_nothing_else() {
    for way in ways() {
        let cage = Cage { network: true, ..way };
        let text = run(
            &cage,
            "tail -n +3 /proc/net/dev | cut -d: -f1; cat /proc/net/fib_trie | grep -c 127.0.0.1",
        );
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        assert_eq!(lines[0], "lo", "{text}");
        assert_ne!(lines.last(), Some(&"0"), "no address on lo: it is down: {text}");
    }
}

#[test]
fn capabilities_are_gone_for_good() {
    for way in ways() {
        let cage = Cage {
            capabilities: Some(1 << 10),
            ..way
        };
        let text = run(
            &cage,
            "grep -E 'Cap(Prm|Eff|Bnd|Amb)|NoNewPrivs' /proc/self/status",
        );
        let of = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).expect("a line");
            u64::from_str_radix(line.split_whitespace().nth(1).expect("a value"), 16).expect("hexadecimal")
        };
        assert_eq!(of("CapEff") & !(1 << 10), 0, "{text}");
        assert_eq!(of("CapBnd") & !(1 << 10), 0, "{text}");
        assert_eq!(of("CapAmb"), 0, "{text}");
        assert_eq!(of("NoNewPrivs"), 1, "{text}");
    }
}

#[test]
fn landlock_shows_only_what_a_rule_allows() {
    if cage::landlock_version() == 0 {
        return skipped("landlock: this kernel has none");
    }
    for way in ways() {
        let folder = place(&way);
        let read = 1 | 1 << 2 | 1 << 3;
        let mut rules: Vec<(PathBuf, u64)> =
            ["/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/no/such"]
                .map(|path| (path.into(), read))
                .to_vec();
        rules.push((folder.path().join("own"), read | 1 << 8 | 1 << 1));
        let cage = Cage {
            landlock: Some(Landlock {
                handled: u64::MAX,
                network: 3,
                scoped: 3,
                rules,
            }),
            ..way
        };
        let path = folder.path().display();
        let text = run(
            &cage,
            &format!(
                "cat {path}/secret; cat /proc/1/environ; echo x > {path}/own/x && cat {path}/own/x; true"
            ),
        );
        assert_eq!(text.matches("Permission denied").count(), 2, "{text}");
        assert!(text.ends_with("x\n"), "{text}");
    }
}

/// A program that refuses one call with an errno.
fn refusing(number: libc_number::Number, errno: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (code, jt, jf, k) in [
        (0x20_u16, 0_u8, 0_u8, 0_u32),
        (0x15, 0, 1, number),
        (0x06, 0, 0, 0x0005_0000 | errno),
        (0x06, 0, 0, 0x7fff_0000),
    ] {
        bytes.extend(code.to_ne_bytes());
        bytes.extend([jt, jf]);
        bytes.extend(k.to_ne_bytes());
    }
    bytes
}

mod libc_number {
    pub(super) type Number = u32;
    /// `uname` on x86-64 and aarch64.
    #[cfg(target_arch = "x86_64")]
    pub(super) const UNAME: Number = 63;
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) const UNAME: Number = 160;
}

#[test]
fn a_filtered_call_fails_with_the_errno_of_the_last_filter() {
    let cage = Cage {
        filters: vec![refusing(libc_number::UNAME, 38), refusing(libc_number::UNAME, 13)],
        ..Cage::default()
    };
    let (text, _) = run_as(&cage, None, "uname -r; grep Seccomp: /proc/self/status").expect("it starts");
    assert!(text.contains("Permission denied"), "{text}");
    assert!(text.contains("Seccomp:\t2"), "{text}");
}

#[test]
fn what_cannot_be_done_names_the_step_and_the_place() {
    let broken = Cage {
        filters: vec![vec![0; 8]],
        ..Cage::default()
    };
    match run_as(&broken, None, "true") {
        Err(SpawnError::Child {
            step: Step::Filter, ..
        }) => {}
        other => panic!("{other:?}"),
    }
    let Some(way) = ways().into_iter().next() else {
        return;
    };
    let nowhere = Cage {
        mounts: Mounts {
            same: vec![("/usr".into(), "/no/such/place".into())],
            ..Mounts::default()
        },
        ..way
    };
    let error = run_as(&nowhere, user_of(&nowhere), "true").expect_err("there is no such place");
    let text = error.to_string();
    assert!(
        text.contains("change the mounts of") && text.contains("/no/such/place"),
        "{text}"
    );
}

#[test]
fn limits_are_written_where_the_controllers_are_and_can_be_changed() {
    let name = format!("upkeep-test-{}", std::process::id());
    let controllers = Controllers::detect(&name, None);
    let limits = Limits {
        memory: Some(64 << 20),
        cpu_milli: Some(500),
        tasks: Some(20),
        io_read: Some(1 << 20),
        ..Limits::default()
    };
    let made = match controllers.make("web.1", &limits) {
        Ok(made) => made,
        Err(error) => return skipped(&format!("groups: {error}")),
    };
    for (resource, why) in &made.missing {
        skipped(&format!("{resource}: {why}"));
    }
    for (place, (file, before, after)) in controllers.places().iter().zip([
        ("memory.limit_in_bytes", "67108864", "134217728"),
        ("cpu.cfs_quota_us", "50000", "-1"),
        ("blkio.throttle.write_bps_device", "", ""),
        ("pids.max", "20", "max"),
    ]) {
        let Ok(place) = place else { continue };
        assert_eq!(
            place.version,
            Version::V1,
            "there is no group of v2 to be told of"
        );
        let read = || fs::read_to_string(place.base.join("web.1").join(file)).unwrap_or_default();
        assert_eq!(read().trim(), before, "{file}");
        let more = Limits {
            memory: Some(128 << 20),
            ..Limits::default()
        };
        controllers.change("web.1", &more).expect("a change");
        assert_eq!(read().trim(), after, "{file}");
        controllers.change("web.1", &limits).expect("a change back");
    }
    assert_eq!(controllers.oom_kills("web.1"), 0);
    assert!(controllers.remove("web.1"), "nothing lives there");
    controllers.close();
    for place in controllers.places().iter().flatten() {
        assert!(!place.base.exists(), "{}", place.base.display());
    }
    assert!(Resource::ALL.into_iter().any(|resource| limits.wants(resource)));
}

/// Puts the machine's own group back as it was, whatever a test did.
struct Borrowed {
    root: PathBuf,
    group: PathBuf,
    controller: String,
    was_on: bool,
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let _ = fs::write(self.root.join("cgroup.procs"), "0");
        let _ = upkeep_sys::cgroup::remove(&self.group);
        if !self.was_on {
            let _ = fs::write(
                self.root.join("cgroup.subtree_control"),
                format!("-{}", self.controller),
            );
        }
    }
}

/// Which controllers v2 has differs from machine to machine; how it hands them down does not.
#[test]
fn a_controller_of_v2_is_handed_down_after_we_have_stepped_aside() {
    let Ok((_, root)) = upkeep_sys::cgroup::own_group() else {
        return skipped("no cgroup v2");
    };
    let list = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    let Some(controller) = list.split_whitespace().next().map(str::to_owned) else {
        return skipped("cgroup v2 has no controller");
    };
    let on = fs::read_to_string(root.join("cgroup.subtree_control")).unwrap_or_default();
    let group = root.join(format!("upkeep-test-{}", std::process::id()));
    let borrowed = Borrowed {
        was_on: on.split_whitespace().any(|word| word == controller),
        root: root.clone(),
        group: group.clone(),
        controller: controller.clone(),
    };
    let switched = fs::write(root.join("cgroup.subtree_control"), format!("+{controller}"));
    if switched.is_err() || fs::create_dir(&group).is_err() {
        return skipped("our own group of cgroup v2 is not ours to change");
    }
    let base = group.join("upkeep-0");
    fs::create_dir(&base).expect("a group in ours");
    fs::write(group.join("cgroup.procs"), "0").expect("it is our own group now");
    limit::hand_down(&base, &controller).expect("nobody else is in there");
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    assert_eq!(read(base.join("cgroup.subtree_control")).trim(), controller);
    assert_eq!(read(group.join("cgroup.procs")), "", "we have stepped aside");
    fs::create_dir(base.join("app")).expect("a group of an app");
    assert_eq!(read(base.join("app/cgroup.controllers")).trim(), controller);
    assert_eq!(limit::hand_down(&base, "no-such"), Err(None));
    drop(borrowed);
    assert!(!group.exists());
}

#[test]
fn a_domain_that_forbids_nothing_keeps_from_others_of_the_same_user() {
    if cage::landlock_version() < 2 {
        return skipped("landlock: this kernel has none of version 2");
    }
    for way in ways() {
        let folder = place(&way);
        // LANDLOCK_ACCESS_FS_REFER and LANDLOCK_ACCESS_FS_MAKE_BLOCK, as `standard` has it before Linux 6.12.
        let rights = 1 << 13 | 1 << 11;
        let cage = Cage {
            landlock: Some(Landlock {
                handled: rights,
                rules: vec![("/".into(), rights)],
                ..Landlock::default()
            }),
            ..way
        };
        let other = spawn::spawn(
            &Launch {
                argv: ["/bin/sleep", "1000"].map(Into::into).to_vec(),
                cwd: PathBuf::from("/"),
                uid: user_of(&cage),
                gid: user_of(&cage),
                ..Launch::default()
            },
            None,
        )
        .expect("it starts");
        let script = format!(
            "ls /proc/{other}/root/; ls /proc/$$/root/ > /dev/null && echo own
             cd {0}/own && echo x > deep/x && mv deep/x x && ln x deep/y && echo moved",
            folder.path().display()
        );
        let text = run(&cage, &script);
        upkeep_sys::signal::send(other, 9).expect("a signal");
        ended(other);
        assert_eq!(text.matches("Permission denied").count(), 1, "{text}");
        assert!(text.ends_with("own\nmoved\n"), "{text}");
    }
}

#[test]
fn what_is_mounted_later_stays_out_and_memory_holds_few_files() {
    for way in ways() {
        let cage = Cage {
            mounts: Mounts {
                own_devices: true,
                temporary: vec![Temporary {
                    path: "/var/tmp".into(),
                    size: 4 << 20,
                    mode: 0o1777,
                }],
                ..Mounts::default()
            },
            ..way
        };
        let text = run(
            &cage,
            "grep -c -E 'shared:|master:' /proc/self/mountinfo; grep ' /var/tmp ' /proc/self/mountinfo",
        );
        assert!(text.starts_with("0\n"), "{text}");
        assert!(text.contains("nr_inodes=1024"), "{text}");
    }
}
