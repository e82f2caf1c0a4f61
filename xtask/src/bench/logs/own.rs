//! What only ours is asked: memory while much is written and little kept, and questions about a long log.

use std::{
    cell::Cell,
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::ensure;
use upkeep_testkit::{pass, try_wait_until};

use super::{LINE, Rotate, megabytes, timed};
use crate::bench::{
    Options,
    lab::{App, Lab, PATIENCE},
    peers::Peer,
    report::Column,
};

/// Rows of [`flat`].
pub(super) const FLAT: &[&str] = &[
    "flat_bytes",
    "flat_rss_start",
    "flat_rss_max",
    "flat_rss_end",
    "flat_anonymous_start",
    "flat_anonymous_max",
    "flat_anonymous_end",
];
/// Rows of [`query`].
pub(super) const QUERY: &[&str] = &[
    "query_bytes",
    "query_disk",
    "query_since",
    "query_last",
    "query_grep",
];

/// 10 GB, or less if it must be quick, of which three files of 1 MB are kept.
pub(super) fn flat(
    peer: &dyn Peer,
    rotate: Rotate,
    child: &Path,
    options: &Options,
    column: &mut Column,
) -> anyhow::Result<()> {
    let lines: u64 = if options.quick { 5_000_000 } else { 100_000_000 };
    let lab = Lab::new(child)?;
    let mut session = peer.open(&lab)?;
    // One that goes on writing, a second's worth of it first, so that what is needed once is there at the start.
    let script = format!(
        "write-lines 100000 --size {LINE} run-for 4s stamp {}/w write-lines {lines} --size {LINE} --prefix more stamp {}/w wait",
        lab.text("stamps"),
        lab.text("stamps")
    );
    let app = App {
        restart: false,
        rotate: Some(Rotate { keep: 3, ..rotate }),
        ..lab.app("writer", &script)
    };
    session.prepare(&[app])?;
    session.start()?;
    lab.wait_stamps("w", 1, PATIENCE)?;
    let start = (lab.memory().0, lab.anonymous());
    let high = Cell::new(start);
    try_wait_until("the end of the writing", PATIENCE * 30, || {
        pass(Duration::from_millis(100));
        let now = (lab.memory().0, lab.anonymous());
        high.set((high.get().0.max(now.0), high.get().1.max(now.1)));
        let done = lab.stamps("w").len();
        if done == 2 {
            Ok(())
        } else {
            Err(format!("{:.1} MiB", now.0))
        }
    })?;
    pass(Duration::from_secs(3));
    let end = (lab.memory().0, lab.anonymous());
    column.add("flat_bytes", megabytes(lines * LINE));
    column.add("flat_rss_start", start.0);
    column.add("flat_rss_max", high.get().0);
    column.add("flat_rss_end", end.0);
    column.add("flat_anonymous_start", start.1);
    column.add("flat_anonymous_max", high.get().1);
    column.add("flat_anonymous_end", end.1);
    Ok(())
}

/// Lines such as a server writes: the same words, numbers that differ.
const FILL: &str = r#"BEGIN {
  srand(7)
  while (bytes < wanted) {
    line = sprintf("%08d GET /api/items/%d/parts?page=%d user=%d status=%d took=%dms trace=%08x%08x", \
      ++n, rand() * 90000, rand() * 40, rand() * 5000, rand() < 0.98 ? 200 : 500, rand() * 900, rand() * 4e9, rand() * 4e9)
    print line
    bytes += length(line) + 1
  }
  print "filled"
}"#;

/// The last line of [`FILL`], after which the program is quiet and then says what is looked for.
const NEEDLE: &str = "late 0000777 ";

/// A log of 10 GB, or of one if it must be quick, and three questions.
pub(super) fn query(
    peer: &dyn Peer,
    rotate: Rotate,
    child: &Path,
    options: &Options,
    column: &mut Column,
) -> anyhow::Result<()> {
    let wanted: u64 = if options.quick {
        1_000_000_000
    } else {
        10_000_000_000
    };
    let lab = Lab::new(child)?;
    let mut session = peer.open(&lab)?;
    let fill = lab.path("fill.awk");
    fs::write(&fill, FILL)?;
    let mut app = lab.app("writer", "write-lines 1000 --prefix late wait");
    let child = app.words.join(" ");
    let text = format!(
        "awk -v wanted={wanted} -f {}\nsleep 16\nexec {child}\n",
        fill.display()
    );
    let script = lab.path("fill.sh");
    fs::write(&script, text)?;
    app = App {
        words: vec!["/bin/sh".to_owned(), script.display().to_string()],
        restart: false,
        rotate: Some(Rotate {
            max_size: "16M",
            ..rotate
        }),
        ..app
    };
    session.prepare(&[app])?;
    session.start()?;
    let begin = Instant::now();
    lab.wait_stamps("writer", 1, PATIENCE * 30)?;
    eprintln!("filled in {:.0} s", begin.elapsed().as_secs_f64());
    super::settle(&lab);
    let disk = fs::read_dir(lab.path("h/logs"))?.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()));
    column.add("query_bytes", megabytes(wanted));
    column.add("query_disk", megabytes(disk.sum()));
    let logs = |words: &[&str]| -> Command {
        let mut command = session.list();
        let program = command.get_program().to_owned();
        let mut other = lab.command(program);
        for (name, value) in command.get_envs() {
            other.env(name, value.unwrap_or_default());
        }
        command = other;
        command.args(["logs", "writer", "--raw"]).args(words);
        command
    };
    for _ in 0..options.times(7, 5) {
        let (said, millis) = timed(&mut logs(&["--since", "15s", "--grep", NEEDLE]))?;
        ensure!(said.lines().count() == 1, "--since --grep found {said:?}");
        column.add("query_since", millis);
        let (said, millis) = timed(&mut logs(&["-n", "100"]))?;
        ensure!(
            said.lines().count() == 100,
            "-n 100 gave {} lines",
            said.lines().count()
        );
        column.add("query_last", millis);
    }
    for _ in 0..options.times(2, 1) {
        let (said, millis) = timed(&mut logs(&[
            "--since",
            "1d",
            "--grep",
            "^(filled|00000001 .*|late 0001000 .*)$",
        ]))?;
        ensure!(said.lines().count() == 3, "--grep of all found {said:?}");
        column.add("query_grep", millis / 1e3);
    }
    Ok(())
}
