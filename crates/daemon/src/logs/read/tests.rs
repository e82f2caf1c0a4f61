use std::{io::Write, path::Path, time::Duration};

use upkeep_sys::clock;

use super::*;
use crate::logs::files::LogFile;

fn source(dir: &Path, name: &str) -> LogToRead {
    LogToRead {
        app: AppName::parse(name).expect("a name"),
        index: Some(0),
        stream: Stream::Out,
        path: dir.join(format!("{name}.log")),
        dropped: None,
        lost: None,
    }
}

/// Writes lines with times, rotating where the text is `---`.
fn write(source: &LogToRead, lines: &[(u64, &str)]) {
    let mut log = LogFile::open(&source.path, 1 << 20, 10, false).expect("a log");
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
    run(&|| sources.to_vec(), wanted, &mut |line| {
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
    run(&|| vec![a.clone()], &wanted, &mut |line| {
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
