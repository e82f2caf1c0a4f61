use std::{fs, io::Write, path::Path};

use upkeep_model::logs::LogFormat;

use super::*;
use crate::logs::names::{Rotated, rotated};

fn target(path: &Path, max_size: u64, keep: u32) -> Target {
    Target {
        path: Some(path.to_owned()),
        limits: Limits {
            max_size,
            every: None,
        },
        policy: Policy {
            keep,
            ..Policy::default()
        },
        form: None,
        guarded: false,
    }
}

fn drained(pump: &Pump) {
    let (sender, receiver) = mpsc::channel();
    pump.drain(Box::new(move || sender.send(()).expect("the test waits")));
    receiver
        .recv_timeout(Duration::from_secs(20))
        .expect("the pump drains");
}

/// What a rotated file holds, in whatever form.
fn content(file: &Rotated) -> String {
    let bytes = if file.packed {
        zstd::stream::decode_all(fs::File::open(file.held()).expect("a file")).expect("it is whole")
    } else {
        fs::read(file.held()).expect("a file")
    };
    String::from_utf8(bytes).expect("a text")
}

fn whole(path: &Path) -> String {
    let mut text = String::new();
    for file in rotated(path).expect("files") {
        text += &content(&file);
    }
    text + &fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn rotation_at_full_speed_loses_doubles_and_tears_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.log");
    let pump = Pump::start().expect("a pump");
    let ends = pipe::make().expect("a pipe");
    pump.add("x".to_owned(), ends.read, target(&path, 20_000, 100_000));
    let mut writer = fs::File::from(ends.write);
    let mut expected = String::new();
    for number in 0..20_000 {
        let line = format!("line {number} {}\n", "x".repeat(number % 60));
        writer.write_all(line.as_bytes()).expect("a write");
        expected += &line;
    }
    drained(&pump);
    assert!(whole(&path) == expected, "the files differ from what was written");
    for file in rotated(&path).expect("files") {
        assert!(content(&file).ends_with('\n'), "{file:?} ends inside a line");
    }
    assert!(rotated(&path).expect("files").len() > 10);
}

#[test]
fn a_line_without_end_cannot_grow_a_file_without_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.log");
    let pump = Pump::start().expect("a pump");
    let ends = pipe::make().expect("a pipe");
    pump.add("x".to_owned(), ends.read, target(&path, 1 << 20, 3));
    let mut writer = fs::File::from(ends.write);
    let block = vec![b'x'; 1 << 20];
    for _ in 0..40 {
        writer.write_all(&block).expect("a write");
    }
    drained(&pump);
    pump.settle();
    let largest = rotated(&path)
        .expect("files")
        .iter()
        .map(|file| fs::metadata(file.held()).expect("a file").len())
        .max()
        .expect("a rotated file");
    assert!(largest <= (2 << 20) + CHUNK as u64, "{largest}");
    let status = pump.status("x").expect("a status");
    let kept: u64 = rotated(&path)
        .expect("files")
        .iter()
        .map(|file| fs::metadata(file.held()).expect("a file").len())
        .sum();
    let current = fs::metadata(&path).expect("the file").len();
    assert_eq!(kept + current + status.accounting().dropped_bytes, 40 << 20);
}

#[test]
fn a_file_that_cannot_be_written_costs_lines_and_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    // A directory stands where the file should be.
    let path = dir.path().join("x.log");
    fs::create_dir(&path).expect("a directory");
    let pump = Pump::start().expect("a pump");
    let ends = pipe::make().expect("a pipe");
    pump.add("x".to_owned(), ends.read, target(&path, 1 << 20, 3));
    let mut writer = fs::File::from(ends.write);
    for number in 0..100_000 {
        writer
            .write_all(format!("line {number}\n").as_bytes())
            .expect("the writer is never held up for good");
    }
    let status = pump.status("x").expect("a status");
    assert!(status.trouble.is_some_and(|trouble| trouble.contains("x.log")));
    fs::remove_dir(&path).expect("a removal");
    let deadline = clock::monotonic_ms() + 10_000;
    while pump.status("x").expect("a status").trouble.is_some() {
        assert!(clock::monotonic_ms() < deadline, "the pump does not recover");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    writer.write_all(b"the end\n").expect("a write");
    drained(&pump);
    let lost = pump.status("x").expect("a status").accounting().lost_lines;
    let kept = whole(&path).lines().count() as u64;
    assert_eq!(lost + kept, 100_001, "lost {lost}, kept {kept}");
    assert!(whole(&path).ends_with("the end\n"));
}

/// Writes lines until `done` is called, on a thread of its own: it is held up if the pump is.
fn steady_writer(ends_write: std::os::fd::OwnedFd, length: usize, lines: usize) -> mpsc::Receiver<()> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut writer = fs::File::from(ends_write);
        let line = "y".repeat(length - 1) + "\n";
        for _ in 0..lines {
            writer.write_all(line.as_bytes()).expect("a write");
        }
        // The test may have failed meanwhile.
        let _ = sender.send(());
    });
    receiver
}

#[test]
fn lines_that_fill_a_pipe_by_pages_do_not_hold_up_their_writer() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.log");
    fs::create_dir(&path).expect("a directory where the file should be");
    let pump = Pump::start().expect("a pump");
    let ends = pipe::make().expect("a pipe");
    pump.add("x".to_owned(), ends.read, target(&path, 1 << 20, 3));
    let done = steady_writer(ends.write, 2500, 300);
    done.recv_timeout(Duration::from_secs(20))
        .expect("the writer is held up");
}

#[test]
fn a_file_that_was_moved_away_does_not_stop_its_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.log");
    let pump = Pump::start().expect("a pump");
    let ends = pipe::make().expect("a pipe");
    pump.add("x".to_owned(), ends.read, target(&path, 50_000, 1000));
    drained(&pump);
    let away = dir.path().join("away");
    fs::rename(&path, &away).expect("a rename");
    let done = steady_writer(ends.write, 100, 20_000);
    done.recv_timeout(Duration::from_secs(20))
        .expect("the writer is held up");
    drained(&pump);
    let lines = whole(&path).lines().count() + fs::read_to_string(&away).expect("the file").lines().count();
    assert_eq!(lines, 20_000);
    assert_eq!(pump.status("x").expect("a status").trouble, None);
}

#[test]
fn a_path_that_is_put_right_is_written_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let wrong = dir.path().join("file/x.log");
    fs::write(dir.path().join("file"), "").expect("a file where a directory should be");
    let right = dir.path().join("x.log");
    let pump = Pump::start().expect("a pump");
    let ends = pipe::make().expect("a pipe");
    pump.add("x".to_owned(), ends.read, target(&wrong, 1 << 20, 3));
    pump.retarget("x".to_owned(), target(&right, 1 << 20, 3));
    // Until then, what does not fit into the pipe is lost.
    drained(&pump);
    let done = steady_writer(ends.write, 1000, 2000);
    done.recv_timeout(Duration::from_secs(20))
        .expect("the writer is held up");
    drained(&pump);
    assert_eq!(whole(&right).lines().count(), 2000);
}

#[test]
fn two_sources_share_a_file_without_tearing_lines() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.log");
    let pump = Pump::start().expect("a pump");
    let (one, two) = (pipe::make().expect("a pipe"), pipe::make().expect("a pipe"));
    pump.add("one".to_owned(), one.read, target(&path, 30_000, 1000));
    pump.add("two".to_owned(), two.read, target(&path, 30_000, 1000));
    let writers = [
        steady_writer(one.write, 90, 5000),
        steady_writer(two.write, 70, 5000),
    ];
    for done in &writers {
        done.recv_timeout(Duration::from_secs(20))
            .expect("the writer is held up");
    }
    drained(&pump);
    let text = whole(&path);
    let count = |length: usize| text.lines().filter(|line| line.len() == length).count();
    assert_eq!((count(89), count(69), text.lines().count()), (5000, 5000, 10_000));
}

/// A hundred rotations and more, with compression and with another form, and the file read by the clock.
#[test]
fn rotation_at_full_speed_loses_nothing_in_any_form() {
    for (format, compress) in [
        (None, true),
        (Some(LogFormat::Timestamped), true),
        (Some(LogFormat::Json), false),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.log");
        let pump = Pump::start().expect("a pump");
        let ends = pipe::make().expect("a pipe");
        let mut wanted = target(&path, 20_000, 100_000);
        wanted.policy.compress = compress;
        wanted.form = format.map(|format| Form {
            format,
            app: "x".to_owned(),
            index: Some(0),
            stream: upkeep_api::body::Stream::Out,
            host: "h".to_owned(),
        });
        pump.add("x".to_owned(), ends.read, wanted);
        let mut writer = fs::File::from(ends.write);
        let mut expected = Vec::new();
        for number in 0..60_000 {
            let line = format!("line {number} {}", "x".repeat(number % 60));
            writer.write_all(format!("{line}\n").as_bytes()).expect("a write");
            expected.push(line);
        }
        drained(&pump);
        pump.settle();
        let files = rotated(&path).expect("files");
        assert!(files.len() > 100, "{}", files.len());
        assert_eq!(
            files.iter().filter(|file| file.packed).count(),
            if compress { files.len() - 1 } else { 0 }
        );
        let text = whole(&path);
        let lines: Vec<String> = text
            .lines()
            .map(|line| match format {
                None => line.to_owned(),
                Some(LogFormat::Json) => {
                    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
                    line["message"].as_str().expect("a text").to_owned()
                }
                Some(_) => line.split_once(' ').expect("a time").1.to_owned(),
            })
            .collect();
        assert!(
            lines == expected,
            "{format:?}: the files differ from what was written"
        );
    }
}

/// A prompt has no end: it is shown all the same, and what follows is not lost.
#[test]
fn a_line_without_end_is_written_after_a_second_and_marked() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.log");
    let pump = Pump::start().expect("a pump");
    let ends = pipe::make().expect("a pipe");
    let mut wanted = target(&path, 20_000, 3);
    wanted.form = Some(Form {
        format: LogFormat::Timestamped,
        app: "x".to_owned(),
        index: None,
        stream: upkeep_api::body::Stream::Out,
        host: "h".to_owned(),
    });
    pump.add("x".to_owned(), ends.read, wanted);
    let mut writer = fs::File::from(ends.write);
    writer.write_all(b"first\nName: ").expect("a write");
    let texts = |count: usize| {
        let deadline = clock::monotonic_ms() + 10_000;
        loop {
            let text = whole(&path);
            let lines: Vec<String> = text
                .lines()
                .map(|line| line.split_once(' ').map_or(line, |(_, text)| text).to_owned())
                .collect();
            if lines.len() >= count {
                return lines;
            }
            assert!(clock::monotonic_ms() < deadline, "{lines:?}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    };
    let began = clock::monotonic_ms();
    assert_eq!(texts(2), ["first", "Name:  …"]);
    assert!(
        clock::monotonic_ms() >= began + 500,
        "it did not wait for the end"
    );
    writer.write_all(b"Ann\nlast\n").expect("a write");
    assert_eq!(texts(4), ["first", "Name:  …", "Ann", "last"]);
}

#[test]
fn a_file_is_rotated_by_the_clock_also_while_nothing_comes() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.log");
    let pump = Pump::start().expect("a pump");
    let ends = pipe::make().expect("a pipe");
    let mut wanted = target(&path, 1 << 20, 10);
    wanted.limits.every = Some("1s".parse().expect("a rhythm"));
    pump.add("x".to_owned(), ends.read, wanted);
    let mut writer = fs::File::from(ends.write);
    let deadline = clock::monotonic_ms() + 20_000;
    for round in 1..=2 {
        writer.write_all(b"a line\n").expect("a write");
        while rotated(&path).expect("files").len() < round {
            assert!(clock::monotonic_ms() < deadline, "nothing is rotated");
            std::thread::park_timeout(Duration::from_millis(5));
        }
        // Between the rename and the new file there is none for a moment.
        assert_eq!(fs::read(&path).unwrap_or_default(), b"");
    }
    // An empty file is not rotated.
    std::thread::park_timeout(Duration::from_millis(1500));
    assert_eq!(rotated(&path).expect("files").len(), 2);
    assert_eq!(whole(&path), "a line\na line\n");
}

/// A directory of somebody else: pipes and links lie where files of ours should.
#[test]
fn pipes_and_links_beside_a_log_hold_up_nobody_and_are_not_written_through() {
    use crate::logs::{ledger::accounting_of, names::with_suffix, packed::usage};

    let dir = tempfile::tempdir().expect("a directory");
    let victim = dir.path().join("victim");
    fs::write(&victim, "root:x:0:0\n").expect("a file");
    for (name, link) in [("pipes", false), ("links", true)] {
        let path = dir.path().join(name).join("x.log");
        fs::create_dir(dir.path().join(name)).expect("a directory");
        for suffix in [
            ".idx",
            ".account",
            ".batch",
            ".note",
            ".000001",
            ".000001.zst",
            ".000001.idx",
        ] {
            let beside = with_suffix(&path, suffix);
            if link {
                std::os::unix::fs::symlink(&victim, &beside).expect("a link");
            } else {
                let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
                rustix::fs::mkfifoat(rustix::fs::CWD, &beside, mode).expect("a pipe");
            }
        }
        let pump = Pump::start().expect("a pump");
        let ends = pipe::make().expect("a pipe");
        let mut target = target(&path, 4096, 1);
        target.guarded = true;
        target.policy.compress = true;
        pump.add("x".to_owned(), ends.read, target.clone());
        let mut writer = fs::File::from(ends.write);
        for number in 0..100 {
            writeln!(writer, "line {number} {}", "x".repeat(80)).expect("a write");
            if number % 20 == 0 {
                drained(&pump);
            }
        }
        drained(&pump);
        pump.settle();
        assert_eq!(pump.status("x").expect("a status").trouble, None, "{name}");
        assert!(
            fs::read_to_string(&path).expect("the log").contains("line 99 "),
            "{name}"
        );
        assert!(usage(&path).bytes > 0, "{name}");
        assert!(accounting_of(&path).dropped_bytes > 0, "{name}");
        // In another form it may not be written there; then that is told or counted.
        target.form = Some(Form {
            format: LogFormat::Json,
            app: "x".to_owned(),
            index: None,
            stream: upkeep_api::body::Stream::Out,
            host: "here".to_owned(),
        });
        pump.retarget("x".to_owned(), target);
        writeln!(writer, "a line").expect("a write");
        drained(&pump);
        let status = pump.status("x").expect("a status");
        let written = fs::read_to_string(&path).expect("the log").contains("a line");
        assert!(
            written || status.trouble.is_some() || status.accounting().lost_lines == 1,
            "{name}: the line is neither written nor missed: {status:?}"
        );
        assert_eq!(
            fs::read_to_string(&victim).expect("the file"),
            "root:x:0:0\n",
            "{name}"
        );
    }
}

#[test]
fn a_long_line_in_another_form_stays_whole_and_a_longer_one_is_cut_between_characters() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.log");
    let pump = Pump::start().expect("a pump");
    let ends = pipe::make().expect("a pipe");
    let mut target = target(&path, 100 << 20, 3);
    target.form = Some(Form {
        format: LogFormat::Json,
        app: "x".to_owned(),
        index: None,
        stream: upkeep_api::body::Stream::Out,
        host: "here".to_owned(),
    });
    pump.add("x".to_owned(), ends.read, target);
    let mut writer = fs::File::from(ends.write);
    let long = "€".repeat(100_000);
    writeln!(writer, "{long}").expect("a write");
    let longer = format!("x{}", "€".repeat(700_000));
    writeln!(writer, "{longer}").expect("a write");
    drained(&pump);
    let text = fs::read_to_string(&path).expect("the log");
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a document"))
        .collect();
    assert!(lines[0]["message"] == long.as_str(), "the line of 300 kB was cut");
    let pieces: String = lines[1..]
        .iter()
        .filter_map(|line| line["message"].as_str())
        .collect();
    assert!(pieces == longer, "the pieces of a longer line are not the line");
}
