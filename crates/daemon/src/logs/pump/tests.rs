use std::{fs, io::Write, path::Path};

use super::*;
use crate::logs::files::rotated;

fn target(path: &Path, max_size: u64, keep: u32) -> Target {
    Target {
        path: Some(path.to_owned()),
        max_size,
        keep,
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

fn whole(path: &Path) -> String {
    let mut text = String::new();
    for (_, file) in rotated(path).expect("files") {
        text += &fs::read_to_string(file).expect("a file");
    }
    text + &fs::read_to_string(path).expect("the file")
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
    for (_, file) in rotated(&path).expect("files") {
        let text = fs::read_to_string(&file).expect("a file");
        assert!(text.ends_with('\n'), "{} ends inside a line", file.display());
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
    let largest = rotated(&path)
        .expect("files")
        .iter()
        .map(|(_, file)| fs::metadata(file).expect("a file").len())
        .max()
        .expect("a rotated file");
    assert!(largest <= (2 << 20) + CHUNK as u64, "{largest}");
    let status = pump.status("x").expect("a status");
    let kept: u64 = rotated(&path)
        .expect("files")
        .iter()
        .map(|(_, file)| fs::metadata(file).expect("a file").len())
        .sum();
    let current = fs::metadata(&path).expect("the file").len();
    assert_eq!(kept + current + status.accounting.dropped_bytes, 40 << 20);
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
    let lost = pump.status("x").expect("a status").accounting.lost_lines;
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
