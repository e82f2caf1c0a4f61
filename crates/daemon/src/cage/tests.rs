use super::*;

fn launched(cwd: &str) -> SpawnSpec {
    SpawnSpec {
        argv: vec!["sh".into()],
        env: vec![("PATH".into(), "/bin".into()), ("HOME".into(), "/root".into())],
        cwd: cwd.into(),
        ..SpawnSpec::default()
    }
}

fn tailored(sandbox: &Sandbox, launched: &SpawnSpec) -> Option<Result<Cage, CageError>> {
    // Where this machine cannot do it, the tests of the whole say so.
    let mut tailor = Tailor::new(sandbox, launched).ok()?;
    Some(tailor.mounts().and_then(|()| tailor.finish()))
}

fn level(level: Level) -> Sandbox {
    Sandbox {
        level,
        ..Sandbox::default()
    }
}

#[test]
fn the_directory_is_writable_but_at_strict_and_never_if_it_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    let kept = |sandbox: &Sandbox, cwd: &Path| {
        let cage = tailored(sandbox, &launched(&cwd.to_string_lossy()))?.unwrap();
        Some(
            cage.mounts
                .kept
                .iter()
                .find(|kept| kept.path == cwd)
                .map(|kept| kept.writable),
        )
    };
    for (at, expected) in [(Level::Standard, true), (Level::Strict, false)] {
        let Some(writable) = kept(&level(at), &path) else {
            return;
        };
        assert_eq!(writable, Some(expected), "{at:?}");
        assert_eq!(kept(&level(at), Path::new("/usr")), Some(None), "{at:?}");
    }
    let written = Sandbox {
        write: vec![path.clone()],
        ..level(Level::Strict)
    };
    assert_eq!(kept(&written, &path), Some(Some(true)));
}

#[test]
fn what_is_asked_for_and_is_not_there_is_an_error() {
    let sandbox = Sandbox {
        read: vec!["/no/such/place".into()],
        ..level(Level::Light)
    };
    let Some(result) = tailored(&sandbox, &launched("/")) else {
        return;
    };
    let text = result.unwrap_err().to_string();
    assert!(
        text.contains("light") && text.contains("`/no/such/place` of `sandbox.read`"),
        "{text}"
    );
}

#[test]
fn each_level_closes_what_the_one_before_it_closes() {
    let at = |one| Some(tailored(&level(one), &launched("/"))?.unwrap());
    let (Some(light), Some(standard), Some(strict)) =
        (at(Level::Light), at(Level::Standard), at(Level::Strict))
    else {
        return;
    };
    let sets = [&light, &standard, &strict].map(|cage| cage.capabilities.unwrap());
    assert!(
        sets[0] & sets[1] == sets[1] && sets[1] & sets[2] == sets[2],
        "{sets:x?}"
    );
    for path in &light.mounts.hidden {
        assert!(standard.mounts.hidden.contains(path), "{}", path.display());
    }
    for path in &standard.mounts.hidden {
        assert!(strict.mounts.hidden.contains(path), "{}", path.display());
    }
    assert!(light.filters.len() < standard.filters.len() && standard.filters.len() < strict.filters.len());
    assert!(!standard.network && strict.network);
    let asked = Sandbox {
        network: Some(true),
        ..level(Level::Strict)
    };
    assert!(!tailored(&asked, &launched("/")).unwrap().unwrap().network);
}

#[test]
fn the_groups_of_calls_are_those_of_the_model() {
    let mut known = upkeep_model::sandbox::CALL_GROUPS.map(|(name, _)| name);
    let mut ours: Vec<&str> = filter::GROUPS.iter().map(|(group, _)| *group).collect();
    known.sort_unstable();
    ours.sort_unstable();
    assert_eq!(ours, known);
}

#[test]
fn a_link_that_the_app_can_make_leads_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    std::os::unix::fs::symlink("/etc", path.join("data")).unwrap();
    let sandbox = Sandbox {
        write: vec![path.join("data")],
        ..level(Level::Standard)
    };
    let Some(result) = tailored(&sandbox, &launched(&path.to_string_lossy())) else {
        return;
    };
    let text = result.unwrap_err().to_string();
    assert!(text.contains("leads to `/etc`"), "{text}");
    // Where the app cannot write, whoever made the link meant it.
    let sandbox = Sandbox {
        level: Level::Strict,
        ..sandbox
    };
    let cage = tailored(&sandbox, &launched(&path.to_string_lossy()))
        .unwrap()
        .unwrap();
    assert!(
        cage.mounts
            .kept
            .iter()
            .any(|kept| kept.path == Path::new("/etc") && kept.writable)
    );
}

/// An app as a file says it, in a sandbox that the file did not know of.
fn app(more: &str, at: Level) -> AppSpec {
    use upkeep_model::file::{Format, parse::parse, resolve};
    let text = format!("{{\"apps\": [{{\"name\": \"a\", \"command\": [\"sh\"]{more}}}]}}");
    let facts = resolve::Facts {
        file_dir: "/".into(),
        cpus: 2,
        caller_env: std::collections::BTreeMap::new(),
        env_name: None,
        known_apps: std::collections::BTreeSet::new(),
        read_file: &|_| Err(std::io::ErrorKind::NotFound.into()),
        find_program: &|_| true,
        file_kind: &|_| None,
    };
    let written = parse(&text, "upkeep.json", Format::Json).unwrap();
    let mut spec = resolve::resolve(written, &facts).unwrap().apps.remove(0);
    spec.sandbox.level = at;
    spec
}

#[test]
fn what_would_run_or_lead_outside_is_refused() {
    for (more, at, word) in [
        (", \"check\": [\"./x\"]", Level::Light, "`check`"),
        (
            ", \"readiness\": {\"exec\": [\"./x\"]}",
            Level::Standard,
            "`readiness`",
        ),
        (
            ", \"schedule\": {\"at\": \"0 4 * * *\", \"on_missed\": [\"./x\"]}",
            Level::Standard,
            "`schedule.on_missed`",
        ),
        (
            ", \"listen\": [\"udp:127.0.0.1:53\"]",
            Level::Strict,
            "udp:127.0.0.1:53",
        ),
    ] {
        let text = dress(&app(more, at), &mut launched("/")).unwrap_err().to_string();
        assert!(text.contains(word) && text.contains(name(at)), "{text}");
        let below = dress(&app(more, Level::None), &mut launched("/"));
        assert_eq!(below, Ok(()));
    }
    let mut open = app(", \"listen\": [\"udp:127.0.0.1:53\"]", Level::Strict);
    open.sandbox.network = Some(true);
    let result = dress(&open, &mut launched("/"));
    assert!(!matches!(result, Err(CageError::CallsOut { .. })), "{result:?}");
}

/// A cage as a kernel with that version of landlock would have it.
fn with_landlock(version: i32, sandbox: &Sandbox, handed: bool) -> Option<Cage> {
    let ability = Ability {
        landlock: version,
        ..ability().clone()
    };
    let launched = launched("/");
    let mut tailor = Tailor::new(sandbox, &launched).ok()?;
    tailor.ability = &ability;
    tailor.handed = handed;
    tailor.mounts().unwrap();
    Some(tailor.finish().unwrap())
}

#[test]
fn standard_has_a_domain_of_landlock_wherever_there_is_one() {
    let sandbox = level(Level::Standard);
    let Some(cage) = with_landlock(0, &sandbox, false) else {
        return;
    };
    assert_eq!(cage.landlock, None);
    for version in 1..8 {
        let landlock = with_landlock(version, &sandbox, false).unwrap().landlock.unwrap();
        assert_ne!(landlock.handled | landlock.scoped, 0, "version {version}");
        // Nothing that it could do before is forbidden by it.
        let allowed = landlock.rules.iter().fold(0, |all, (_, rights)| all | rights);
        assert_eq!(landlock.handled & !allowed, 0, "version {version}");
        assert_eq!(landlock.network, 0, "version {version}");
    }
}

#[test]
fn a_socket_that_was_handed_over_cannot_call_from_a_network_of_its_own() {
    for (sandbox, handed, expected) in [
        (level(Level::Strict), true, CONNECT_TCP),
        (level(Level::Strict), false, 0),
        (
            Sandbox {
                network: Some(true),
                ..level(Level::Strict)
            },
            true,
            0,
        ),
        (
            Sandbox {
                network: Some(false),
                ..level(Level::Standard)
            },
            true,
            CONNECT_TCP,
        ),
    ] {
        let Some(cage) = with_landlock(4, &sandbox, handed) else {
            return;
        };
        assert_eq!(cage.landlock.unwrap().network, expected, "{sandbox:?} {handed}");
    }
}

#[test]
fn homes_are_hidden_as_a_whole() {
    let Some(result) = tailored(&level(Level::Standard), &launched("/")) else {
        return;
    };
    let mounts = result.unwrap().mounts;
    // The home of the test is /root, which stays; others come and go below /home.
    assert!(mounts.hidden.iter().all(|path| path != Path::new("/root")));
    if let Some(homes) = real(Path::new("/home")) {
        assert!(mounts.hidden.contains(&homes), "{:?}", mounts.hidden);
    }
    let strict = tailored(&level(Level::Strict), &launched("/"))
        .unwrap()
        .unwrap()
        .mounts;
    assert!(strict.hidden.contains(&PathBuf::from("/root")));
}

#[test]
fn what_not_everybody_may_read_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for name in ["open/deep", "shut", "listed"] {
        std::fs::create_dir_all(path.join(name)).unwrap();
    }
    for name in [
        "open/key",
        "open/deep/key",
        "open/config",
        "shut/key",
        "listed/config",
    ] {
        std::fs::write(path.join(name), "x").unwrap();
    }
    std::os::unix::fs::symlink("/etc/shadow", path.join("open/link")).unwrap();
    for (name, mode) in [
        ("open", 0o755),
        ("open/deep", 0o755),
        ("open/key", 0o600),
        ("open/deep/key", 0o640),
        ("open/config", 0o644),
        ("shut/key", 0o644),
        ("shut", 0o750),
        ("listed/config", 0o644),
        ("listed", 0o711),
    ] {
        std::fs::set_permissions(path.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let found = |depth| {
        let mut found = Vec::new();
        private_below(path, depth, &mut found);
        let mut found: Vec<String> = found
            .iter()
            .map(|found| found.strip_prefix(path).unwrap().display().to_string())
            .collect();
        found.sort();
        found
    };
    assert_eq!(found(5), ["open/deep/key", "open/key", "shut"]);
    assert_eq!(found(1), ["open/deep", "open/key", "shut"]);
}
