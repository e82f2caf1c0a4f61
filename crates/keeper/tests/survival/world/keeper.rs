//! This program as the keeper.

use std::{ffi::OsString, fs, path::PathBuf, process::ExitCode};

use upkeep_keeper::{DaemonCommand, KeeperError, KeeperSettings, Times};

/// Another keeper has the run directory.
pub(crate) const ALREADY_RUNNING: u8 = 3;

pub(crate) fn main(words: &[&str]) -> ExitCode {
    let finished = match words {
        ["--can-resume", version] => {
            let fit = version.parse().is_ok_and(upkeep_keeper::can_resume);
            return if fit { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        ["--resume", number] => upkeep_keeper::resume(number.parse().expect("a descriptor"), "resumed"),
        _ => upkeep_keeper::run(settings()),
    };
    match finished {
        Ok(_) => ExitCode::SUCCESS,
        Err(KeeperError::AlreadyRunning { .. }) => ExitCode::from(ALREADY_RUNNING),
        Err(error) => panic!("{error:?}"),
    }
}

fn settings() -> KeeperSettings {
    let world = PathBuf::from(std::env::var_os("WORLD").expect("WORLD"));
    let program = world.join("v1");
    let mut times = Times {
        backoff_min: 10,
        backoff_max: 80,
        ..Times::default()
    };
    for line in fs::read_to_string(world.join("times")).expect("times").lines() {
        let (name, value) = line.split_once(' ').expect("name and value");
        let value = value.parse().expect("ms");
        match name {
            "backoff_min" => times.backoff_min = value,
            "backoff_max" => times.backoff_max = value,
            "stable" => times.stable = value,
            "retire" => times.retire = value,
            "trial" => times.trial = value,
            "probe" => times.probe = value,
            "terminate" => times.terminate = value,
            "tree_grace" => times.tree_grace = value,
            other => panic!("no time {other}"),
        }
    }
    KeeperSettings {
        run_dir: world.join("run"),
        daemon: DaemonCommand {
            program: program.clone(),
            argv: vec![program.clone().into_os_string(), OsString::from("puppet")],
            env: vec![("WORLD".into(), world.into_os_string())],
        },
        own_program: program,
        own_argv: vec!["survival".into(), "keeper".into()],
        version: "test".to_owned(),
        times,
    }
}
