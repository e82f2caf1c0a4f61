use std::{io::Write, path::Path, sync::Arc, time::Duration};

use upkeep_sys::clock;

use super::*;
use crate::logs::{
    files::{Limits, LogFile},
    janitor::Janitor,
    ledger::{Ledger, Ledgers, Policy},
};

fn source(dir: &Path, name: &str) -> LogToRead {
    LogToRead {
        app: AppName::parse(name).expect("a name"),
        index: Some(0),
        stream: Stream::Out,
        path: dir.join(format!("{name}.log")),
        format: LogFormat::Raw,
        dropped: None,
        lost: None,
    }
}

/// Writes lines with times, rotating where the text is `---`.
fn write(source: &LogToRead, lines: &[(u64, &str)]) {
    let limits = Limits {
        max_size: 1 << 20,
        every: None,
    };
    let ledger = Arc::new(Ledger::load(&source.path));
    let mut log = LogFile::open(&source.path, limits, false, ledger).expect("a log");
    for (at, text) in lines {
        if *text == "---" {
            log.rotate().expect("a rotation");
            continue;
        }
        log.stamp(*at);
        log.file().write_all(text.as_bytes()).expect("a write");
        log.grew(text.len() as u64);
    }
}

fn read(sources: &[LogToRead], wanted: &Wanted) -> Vec<String> {
    let mut lines = Vec::new();
    let around = Around {
        list: &|| sources.to_vec(),
        cut: &clock::unix_ms,
    };
    run(&around, wanted, &mut |line, _| {
        lines.push(format!(
            "{}{} {}",
            line.app,
            if line.partial { "~" } else { "" },
            line.line
        ));
        true
    })
    .expect("a reading");
    lines
}

#[test]
fn the_last_lines_of_several_logs_come_in_order_of_time_over_rotations() {
    let dir = tempfile::tempdir().expect("a directory");
    let (a, b) = (source(dir.path(), "a"), source(dir.path(), "b"));
    write(&a, &[(1000, "a1\n"), (3000, "a3\n"), (0, "---"), (5000, "a5\n")]);
    write(&b, &[(2000, "b2\n"), (0, "---"), (4000, "b4\n"), (6000, "b6")]);
    let wanted = |lines| Wanted {
        lines,
        ..Wanted::default()
    };
    let both = [a, b];
    assert_eq!(read(&both, &wanted(Some(4))), ["a a3", "b b4", "a a5", "b~ b6"]);
    let all = ["a a1", "b b2", "a a3", "b b4", "a a5", "b~ b6"];
    assert_eq!(read(&both, &wanted(Some(100))), all);
    assert_eq!(read(&both, &wanted(None)), all);
    assert_eq!(read(&both, &wanted(Some(0))), [""; 0]);
}

/// Somebody set the clock back by an hour between two lines.
#[test]
fn times_that_go_backwards_hide_no_line_and_keep_their_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = source(dir.path(), "a");
    let hour = 3_600_000;
    let lines = [
        (hour + 1000, "one\n"),
        (hour + 2000, "two\n"),
        (2500, "three\n"),
        (0, "---"),
        (3500, "four\n"),
        (4500, "five\n"),
    ];
    write(&a, &lines);
    let logs = [a];
    let all = ["a one", "a two", "a three", "a four", "a five"];
    assert_eq!(read(&logs, &Wanted::default()), all);
    for count in 0..=all.len() {
        let wanted = Wanted {
            lines: Some(count),
            ..Wanted::default()
        };
        assert_eq!(read(&logs, &wanted), all[all.len() - count..]);
    }
    // Since a time that came before the clock was set back, or comes only after it, there are those that say so; none
    // that is newer is hidden.
    let since = |ms| Wanted {
        since_ms: Some(ms),
        ..Wanted::default()
    };
    assert!(read(&logs, &since(3000)).ends_with(&["a four".to_owned(), "a five".to_owned()]));
    assert!(read(&logs, &since(4000)).ends_with(&["a five".to_owned()]));
}

#[test]
fn since_and_grep_narrow_both_ways_of_reading() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = source(dir.path(), "a");
    write(
        &a,
        &[
            (1000, "one x\n"),
            (2000, "two\n"),
            (0, "---"),
            (3000, "three x\n"),
            (4000, "four x\n"),
        ],
    );
    let grep = Regex::new("x$").expect("a pattern");
    for lines in [None, Some(10)] {
        let wanted = Wanted {
            lines,
            since_ms: Some(2000),
            ..Wanted::default()
        };
        assert_eq!(
            read(std::slice::from_ref(&a), &wanted),
            ["a two", "a three x", "a four x"],
            "{lines:?}"
        );
        let wanted = Wanted {
            grep: Some(grep.clone()),
            ..wanted
        };
        assert_eq!(
            read(std::slice::from_ref(&a), &wanted),
            ["a three x", "a four x"],
            "{lines:?}"
        );
        let wanted = Wanted {
            lines,
            since_ms: Some(9000),
            ..Wanted::default()
        };
        assert_eq!(read(std::slice::from_ref(&a), &wanted), [""; 0], "{lines:?}");
    }
}

#[test]
fn very_long_lines_come_in_pieces_and_lose_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = source(dir.path(), "a");
    let long = "y".repeat((5 << 20) / 2) + "\n";
    write(&a, &[(1000, "short\n"), (2000, &long), (3000, "end\n")]);
    for lines in [None, Some(100)] {
        let read = read(
            std::slice::from_ref(&a),
            &Wanted {
                lines,
                ..Wanted::default()
            },
        );
        assert_eq!(read.first().map(String::as_str), Some("a short"));
        assert_eq!(read.last().map(String::as_str), Some("a end"));
        assert_eq!(
            read.iter().map(|line| line.matches('y').count()).sum::<usize>(),
            (5 << 20) / 2
        );
    }
}

#[test]
fn a_follower_crosses_rotations_and_misses_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = source(dir.path(), "a");
    write(&a, &[(1000, "line 0\n")]);
    let writer = {
        let a = a.clone();
        std::thread::spawn(move || {
            for batch in 0..20 {
                let lines: Vec<String> = (0..50)
                    .map(|number| format!("line {}\n", batch * 50 + number + 1))
                    .collect();
                let mut steps: Vec<(u64, &str)> = lines.iter().map(|line| (2000, line.as_str())).collect();
                steps.push((0, "---"));
                write(&a, &steps);
                std::thread::park_timeout(Duration::from_millis(7));
            }
        })
    };
    let mut lines = Vec::new();
    let wanted = Wanted {
        lines: Some(10),
        follow: true,
        ..Wanted::default()
    };
    let deadline = clock::monotonic_ms() + 20_000;
    let around = Around {
        list: &|| vec![a.clone()],
        cut: &clock::unix_ms,
    };
    run(&around, &wanted, &mut |line, _| {
        if !line.notice {
            lines.push(line.line);
        }
        lines.last().is_none_or(|line| line != "line 1000") && clock::monotonic_ms() < deadline
    })
    .expect("a reading");
    writer.join().expect("the writer");
    // The first lines may already be there when the reader looks: then it starts later.
    let first: usize = lines[0].trim_start_matches("line ").parse().expect("a number");
    let expected: Vec<String> = (first..=1000).map(|number| format!("line {number}")).collect();
    if first > 0 {
        assert!(lines.len() >= 10);
    }
    assert_eq!(lines, expected[..lines.len()]);
    assert_eq!(lines.last().map(String::as_str), Some("line 1000"));
}

/// Compresses all rotated files but the newest.
fn pack(source: &LogToRead) {
    let ledgers = Arc::new(Ledgers::default());
    let janitor = Janitor::start(Arc::clone(&ledgers)).expect("a janitor");
    let ledger = ledgers.of(&source.path);
    ledger.set_policy(Policy {
        keep: 1_000_000,
        compress: true,
        ..Policy::default()
    });
    janitor.bell().look_at(&ledger);
    janitor.settle();
}

#[test]
fn compressed_files_are_read_like_others() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = source(dir.path(), "a");
    let lines: Vec<String> = (0..60_000)
        .map(|number| format!("line {number} of many\n"))
        .collect();
    let mut steps: Vec<(u64, &str)> = Vec::new();
    for (number, line) in (0_u64..).zip(&lines) {
        steps.push((1000 + number * 10, line));
        if number % 20_000 == 19_999 {
            steps.push((0, "---"));
        }
    }
    write(&a, &steps);
    let plain = read(std::slice::from_ref(&a), &Wanted::default());
    pack(&a);
    assert!(dir.path().join("a.log.000002.zst").exists() && !dir.path().join("a.log.000002").exists());
    assert!(read(std::slice::from_ref(&a), &Wanted::default()) == plain);
    for wanted in [
        Wanted {
            lines: Some(45_000),
            ..Wanted::default()
        },
        Wanted {
            since_ms: Some(1000 + 15_000 * 10),
            ..Wanted::default()
        },
    ] {
        assert!(
            read(std::slice::from_ref(&a), &wanted) == plain[15_000..],
            "{wanted:?}"
        );
    }
    let wanted = Wanted {
        since_ms: Some(1000 + 15_000 * 10),
        until_ms: Some(1000 + 25_000 * 10),
        ..Wanted::default()
    };
    // Times are exact to 100 ms, which is ten lines here.
    let found = read(std::slice::from_ref(&a), &wanted);
    assert!(
        found == plain[15_000..25_010],
        "{} {:?}",
        found.len(),
        found.last()
    );
    let backward = Wanted {
        lines: Some(1_000_000),
        ..wanted
    };
    assert!(read(std::slice::from_ref(&a), &backward) == found);
}

/// Of two hundred files, those of the last hour are opened, and the one before them, whose index tells that it is too
/// old.
#[test]
fn what_is_too_old_is_neither_opened_nor_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = source(dir.path(), "a");
    let block: Vec<String> = (0..3000)
        .map(|number| format!("line {number} of many\n"))
        .collect();
    let block = block.concat();
    let hour = 3_600_000;
    let mut steps = Vec::new();
    for file in 0..200 {
        steps.push((hour + file * hour / 4, block.as_str()));
        steps.push((0, "---"));
    }
    steps.push((hour + 50 * hour, "now X\n"));
    write(&a, &steps);
    pack(&a);
    let grep = Regex::new("line 2999 .*|X").expect("a pattern");
    for lines in [None, Some(1000)] {
        counted::OPENED.set(0);
        counted::READ.set(0);
        let wanted = Wanted {
            lines,
            since_ms: Some(hour + 49 * hour),
            grep: Some(grep.clone()),
            ..Wanted::default()
        };
        let found = read(std::slice::from_ref(&a), &wanted);
        assert_eq!(found.len(), 5, "{lines:?} {found:?}");
        let (opened, read) = (counted::OPENED.get(), counted::READ.get());
        // Once to look at its time, once to read it.
        assert!(opened <= 2 * 6, "{lines:?}: {opened} files opened");
        assert!(read <= 6 * block.len() as u64, "{lines:?}: {read} bytes read");
    }
}

#[test]
fn a_pattern_chooses_whole_records() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = source(dir.path(), "a");
    let text = "before\nError: no\n    at one\n    at two X\nCaused by: it\nafter\nX alone\n";
    let steps: Vec<(u64, &str)> = text.split_inclusive('\n').map(|line| (1000, line)).collect();
    write(&a, &steps);
    let grep = Regex::new("X").expect("a pattern");
    for lines in [None, Some(100)] {
        let wanted = Wanted {
            lines,
            grep: Some(grep.clone()),
            records: true,
            ..Wanted::default()
        };
        assert_eq!(
            read(std::slice::from_ref(&a), &wanted),
            [
                "a Error: no",
                "a     at one",
                "a     at two X",
                "a Caused by: it",
                "a X alone"
            ],
            "{lines:?}"
        );
    }
}

/// Whoever comes back with the id of any line gets those behind it, each once, whatever has happened to the files.
#[test]
fn a_reader_resumes_behind_any_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let (a, b) = (source(dir.path(), "a"), source(dir.path(), "b"));
    let mut steps_a = Vec::new();
    let mut steps_b = Vec::new();
    let texts: Vec<String> = (0..40).map(|number| format!("{number}\n")).collect();
    for (number, text) in (0_u64..).zip(&texts) {
        // Some have the same time, within a source and over both.
        let at = 10_000 + number / 3 * 500;
        if number % 2 == 0 {
            &mut steps_a
        } else {
            &mut steps_b
        }
        .push((at, text.as_str()));
        if number % 9 == 8 {
            steps_a.push((0, "---"));
        }
    }
    write(&a, &steps_a);
    write(&b, &steps_b);
    let sources = [a.clone(), b.clone()];
    let around = Around {
        list: &|| sources.to_vec(),
        cut: &clock::unix_ms,
    };
    let read_ids = |wanted: &Wanted| {
        let mut seen = Vec::new();
        run(&around, wanted, &mut |line, marks| {
            seen.push((line.line, marks.expect("a place").text()));
            true
        })
        .expect("a reading");
        seen
    };
    let check = |wanted: &Wanted| {
        let all = read_ids(wanted);
        for (at, (_, id)) in all.iter().enumerate() {
            let resumed = Wanted {
                resume: Marks::parse(id),
                ..wanted.clone()
            };
            let rest: Vec<String> = read_ids(&resumed).into_iter().map(|(line, _)| line).collect();
            let expected: Vec<String> = all[at + 1..].iter().map(|(line, _)| line.clone()).collect();
            assert_eq!(rest, expected, "behind {id}");
        }
        all
    };
    for lines in [None, Some(7), Some(8), Some(9), Some(25)] {
        let wanted = Wanted {
            lines,
            ..Wanted::default()
        };
        let all = check(&wanted);
        assert_eq!(all.len(), lines.unwrap_or(40));
    }
    // Ids from before rotation and compression.
    let all = read_ids(&Wanted::default());
    write(&a, &[(90_000, "---")]);
    write(&b, &[(90_000, "---"), (90_000, "more\n"), (90_000, "---")]);
    pack(&a);
    pack(&b);
    for (at, (_, id)) in all.iter().enumerate() {
        let resumed = Wanted {
            resume: Marks::parse(id),
            ..Wanted::default()
        };
        assert_eq!(read_ids(&resumed).len(), 40 - at - 1 + 1, "behind {id}");
    }
}

/// Two hundred sources speak, then two: ids name those that have spoken lately, and a reader resumes behind any of them.
#[test]
fn a_follower_of_many_sources_gives_out_short_ids_and_resumes_behind_any() {
    use std::sync::atomic::{AtomicU64, Ordering};

    let dir = tempfile::tempdir().expect("a directory");
    let sources: Vec<LogToRead> = (0..200)
        .map(|number| source(dir.path(), &format!("app{number}")))
        .collect();
    let time = AtomicU64::new(1_000_000);
    let say = |number: usize, text: &str| {
        write(
            &sources[number],
            &[(time.load(Ordering::Relaxed), &format!("{text} of {number}\n"))],
        );
    };
    (0..200).for_each(|number| say(number, "old"));
    let around = Around {
        list: &|| sources.clone(),
        cut: &|| time.fetch_add(10, Ordering::Relaxed) + 10,
    };
    let wanted = Wanted {
        lines: Some(0),
        follow: true,
        ..Wanted::default()
    };
    let mut seen: Vec<(String, String)> = Vec::new();
    let mut beats = 0;
    run(&around, &wanted, &mut |line, marks| {
        if let Some(marks) = marks {
            seen.push((line.line, marks.text()));
            return true;
        }
        beats += 1;
        match beats {
            1 => (0..200).for_each(|number| say(number, "first")),
            2 => {
                for round in 0..3 {
                    say(7, &format!("round {round}"));
                    // As after a rotation by the pump, in the middle of what is followed.
                    write(&sources[8], &[(0, "---")]);
                    say(8, &format!("round {round}"));
                }
                // A line that has no end yet, and gets one.
                write(&sources[9], &[(time.load(Ordering::Relaxed), "half")]);
            }
            3 => write(&sources[9], &[(time.load(Ordering::Relaxed), " and half\n")]),
            _ => {}
        }
        beats < 4
    })
    .expect("a reading");
    assert_eq!(seen.len(), 200 + 6 + 1, "{:?}", &seen[200.min(seen.len())..]);
    let longest = seen[200..].iter().map(|(_, id)| id.len()).max().expect("ids");
    assert!(longest < 120, "{longest}: {:?}", seen.last());
    for (at, (_, id)) in seen
        .iter()
        .enumerate()
        .step_by(7)
        .chain(seen.iter().enumerate().skip(195))
    {
        let wanted = Wanted {
            resume: Marks::parse(id),
            ..Wanted::default()
        };
        let mut rest = Vec::new();
        run(&around, &wanted, &mut |line, _| {
            rest.push(line.line);
            true
        })
        .expect("a reading");
        let mut expected: Vec<String> = seen[at + 1..].iter().map(|(line, _)| line.clone()).collect();
        rest.sort_unstable();
        expected.sort_unstable();
        assert_eq!(rest, expected, "behind {id}");
    }
}

#[test]
fn a_damaged_file_gives_a_notice_and_the_others_are_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = source(dir.path(), "a");
    let mut steps = Vec::new();
    let texts: Vec<String> = (0..5).map(|number| format!("{number}\n")).collect();
    for (number, text) in (1_u64..).zip(&texts) {
        steps.push((number * 1000, text.as_str()));
        steps.push((number * 1000, "---"));
    }
    steps.push((9000, "end\n"));
    write(&a, &steps);
    pack(&a);
    std::fs::write(dir.path().join("a.log.000003.zst"), "no archive").expect("damage");
    let logs = std::slice::from_ref(&a);
    let is_notice = |line: &String| line.contains("a.log.000003` cannot be read");
    let found = read(logs, &Wanted::default());
    assert_eq!(
        found.iter().filter(|line| is_notice(line)).count(),
        1,
        "{found:?}"
    );
    assert!(is_notice(&found[2]), "{found:?}");
    let lines =
        |found: &[String]| -> Vec<String> { found.iter().filter(|line| !is_notice(line)).cloned().collect() };
    let all = ["a 0", "a 1", "a 3", "a 4", "a end"];
    assert_eq!(lines(&found), all);
    let found = read(
        logs,
        &Wanted {
            lines: Some(4),
            ..Wanted::default()
        },
    );
    assert!(is_notice(&found[0]), "{found:?}");
    assert_eq!(lines(&found), all[1..]);
    // Whoever comes again and again hears it once, and then what is new.
    let mut marks = Marks::since(0);
    let mut taken = Vec::new();
    let look = |marks: &mut Marks, taken: &mut Vec<String>| {
        let mut take = |line: &LogLine| {
            taken.push(format!("a {}", line.line));
            true
        };
        assert!(more::more(logs, marks, &mut take).expect("a reading"));
    };
    look(&mut marks, &mut taken);
    assert_eq!((taken.len(), lines(&taken)), (6, all.map(str::to_owned).to_vec()));
    write(&a, &[(10_000, "new\n")]);
    look(&mut marks, &mut taken);
    assert_eq!((taken.len(), taken[6].as_str()), (7, "a new"));
    // The same stream at another path is another log.
    let moved = LogToRead {
        path: dir.path().join("moved.log"),
        ..a.clone()
    };
    write(&moved, &[(11_000, "elsewhere\n")]);
    let both = [moved, a];
    for _ in 0..2 {
        let mut take = |line: &LogLine| {
            taken.push(line.line.clone());
            true
        };
        more::more(&both, &mut marks, &mut take).expect("a reading");
    }
    assert_eq!(taken[7..], ["elsewhere"]);
}

#[test]
fn a_reading_ends_when_nobody_waits_for_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = source(dir.path(), "a");
    let block = "nothing of it\n".repeat(300_000);
    write(&a, &[(1000, &block)]);
    let grep = Regex::new("rare").expect("a pattern");
    for lines in [None, Some(10)] {
        counted::READ.set(0);
        let wanted = Wanted {
            lines,
            grep: Some(grep.clone()),
            gone: Some(Gone::new(|| true)),
            ..Wanted::default()
        };
        let around = Around {
            list: &|| vec![a.clone()],
            cut: &clock::unix_ms,
        };
        run(&around, &wanted, &mut |_, _| true).expect_err("it is broken off");
        assert!(counted::READ.get() <= 2 << 20, "{}", counted::READ.get());
    }
}
