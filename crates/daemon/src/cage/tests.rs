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
