//! The same commands to the real PM2 and to ours, and a comparison of everything that others may read.
//!
//! # How it works
//!
//! A case (text, in `cases/`, see [`case`]) is run on two sides at once, each in a private home with a `pm2` of its own.
//! What each step shows becomes a transcript, from which pids, times and places are taken out ([`normal`]). The
//! transcripts have to be the same but for the [`differences`] that are kept on purpose.
//!
//! A case with the tag `cross` runs two times more: the real command line with our daemon, and ours with the real daemon.
//!
//! # Variables
//!
//! - `PM2_SUBJECT=real` puts the real PM2 on both sides: then a difference is a fault of the harness.
//! - `PM2_ANSWERS=FOLDER` keeps what the real PM2 showed, and does not run it again for a case that has not changed. A
//!   disagreement with a kept answer is looked at again with a fresh one.
//! - `PM2_SHOW=1` prints the transcripts.
//! - `PM2_STRICT=1` compares every word of every message.
//! - `PM2_IGNORE=PATTERN` is for looking: lines that match are no disagreement.
//! - `PM2_USED=FOLDER` gets a file for each kept difference that was met.
//!
//! Start reading at [`case`], then [`side`].

mod answers;
mod case;
mod compare;
mod differences;
mod normal;
mod peer;
mod side;

use std::{fs, path::Path, process::ExitCode, thread};

use libtest_mimic::{Arguments, Failed, Trial};

use crate::{
    answers::Answers,
    case::Case,
    compare::{Entry, compare},
    side::{Kind, Pair, Side},
};

/// Each file of cases and its text.
const SECTIONS: &[(&str, &str)] = &[
    ("client", include_str!("cases/client.txt")),
    ("cluster", include_str!("cases/cluster.txt")),
    ("daemon", include_str!("cases/daemon.txt")),
    ("environment", include_str!("cases/environment.txt")),
    ("files", include_str!("cases/files.txt")),
    ("home", include_str!("cases/home.txt")),
    ("interpreters", include_str!("cases/interpreters.txt")),
    ("logs", include_str!("cases/logs.txt")),
    ("look", include_str!("cases/look.txt")),
    ("messages", include_str!("cases/messages.txt")),
    ("restarts", include_str!("cases/restarts.txt")),
    ("runtime", include_str!("cases/runtime.txt")),
    ("start", include_str!("cases/start.txt")),
    ("stopping", include_str!("cases/stopping.txt")),
    ("targets", include_str!("cases/targets.txt")),
    ("watch", include_str!("cases/watch.txt")),
];

/// Of the folders of cases, in /tmp because the path of a socket may have 107 bytes.
const PREFIX: &str = "up";

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Most of the time a case waits.
    let processors = thread::available_parallelism().map_or(2, std::num::NonZero::get);
    arguments.test_threads.get_or_insert(2 * processors);
    side::sweep(Path::new("/tmp"), PREFIX);
    let mut trials = Vec::new();
    for (section, text) in SECTIONS {
        match case::parse(section, text) {
            Ok(cases) => trials.extend(cases.into_iter().flat_map(trials_of)),
            Err(why) => trials.push(Trial::test(format!("{section}::parse"), move || {
                Err(Failed::from(why))
            })),
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// What stands opposite the real PM2.
pub(crate) fn subject() -> Kind {
    match std::env::var("PM2_SUBJECT").as_deref() {
        Ok("real") => Kind::Real,
        _ => Kind::Ours,
    }
}

fn trials_of(case: Case) -> Vec<Trial> {
    let name = format!("{}::{}", case.section, case.name);
    let subject = subject();
    let mut pairs = vec![(
        name.clone(),
        Pair {
            cli: subject,
            daemon: subject,
        },
    )];
    if case.tagged("cross") && subject == Kind::Ours {
        for (suffix, cli, daemon) in [
            ("real_cli", Kind::Real, Kind::Ours),
            ("real_daemon", Kind::Ours, Kind::Real),
        ] {
            pairs.push((format!("{name}::{suffix}"), Pair { cli, daemon }));
        }
    }
    pairs
        .into_iter()
        .map(|(name, pair)| {
            let case = case.clone();
            Trial::test(name.clone(), move || {
                hold(&name, &case, pair).map_err(Failed::from)
            })
        })
        .collect()
}

/// Runs both sides of a case and compares.
fn hold(name: &str, case: &Case, pair: Pair) -> Result<(), String> {
    if ["node", "npm"].iter().any(|tool| peer::find(tool).is_none()) {
        upkeep_e2e::skipped("neither node nor npm is there, so there is no PM2 to compare with");
        return Ok(());
    }
    peer::programs()?;
    let answers = Answers::from_env(case);
    let kept = answers.as_ref().and_then(Answers::kept);
    let was_kept = kept.is_some();
    let (theirs, ours) = both(case, pair, kept)?;
    let mut theirs = theirs;
    let mut verdict = compare(name, &theirs, &ours);
    if was_kept && !verdict.disagreements.is_empty() {
        theirs = both(case, pair, None)?.0;
        verdict = compare(name, &theirs, &ours);
    }
    if let Some(answers) = answers {
        answers.keep(&theirs);
    }
    if let Some(folder) = std::env::var_os("PM2_USED") {
        for key in &verdict.used {
            let _ = fs::create_dir_all(&folder); // a report that is missing is no failure of the case
            let _ = fs::write(Path::new(&folder).join(key), name);
        }
    }
    if std::env::var_os("PM2_SHOW").is_some() {
        show(name, &theirs);
    }
    if verdict.disagreements.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{} of {} steps disagree\n{}",
        verdict.disagreements.len(),
        theirs.len(),
        verdict.disagreements.join("\n")
    ))
}

/// For the author of a case: what it shows. Records are long, and left out.
fn show(name: &str, entries: &[Entry]) {
    let mut text = format!("---- {name}\n");
    for entry in entries {
        text.push_str(&format!("{}\n", entry.title));
        let records = entry.lines.iter().any(|line| line.contains(".pm2_env."));
        for line in entry.lines.iter().filter(|_| !records) {
            text.push_str(&format!("      {line}\n"));
        }
        if !records && entry.title.starts_with("$ ") {
            let said = entry.detail.lines().filter(|line| !line.contains(['│', '─']));
            text.extend(said.map(|line| format!("        ({line})\n")));
        }
    }
    let _ = std::io::Write::write_all(&mut std::io::stdout().lock(), text.as_bytes()); // nobody reads it then
}

/// Both sides at once. Their homes have paths of the same length, because tables are as wide as paths.
fn both(case: &Case, pair: Pair, kept: Option<Vec<Entry>>) -> Result<(Vec<Entry>, Vec<Entry>), String> {
    let dir = tempfile::Builder::new()
        .prefix(PREFIX)
        .tempdir_in("/tmp")
        .map_err(|error| error.to_string())?;
    side::own(dir.path());
    let real = Pair {
        cli: Kind::Real,
        daemon: Kind::Real,
    };
    thread::scope(|scope| {
        let theirs = scope.spawn(|| match kept {
            Some(entries) => Ok(entries),
            None => Side::new(&dir.path().join("a"), real, case)?.run(case),
        });
        let ours = Side::new(&dir.path().join("b"), pair, case)?.run(case)?;
        let theirs = theirs.join().map_err(|_| "the real side panicked".to_owned())??;
        Ok((theirs, ours))
    })
}
