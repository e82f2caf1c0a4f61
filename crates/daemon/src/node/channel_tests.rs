//! A scripted process at the other end, which keeps to the protocol or does not.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream as Blocking,
    time::Duration,
};

use tokio::task::LocalSet;

use super::*;

/// Runs a test on a runtime like the daemon's, with a deadline.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let local = LocalSet::new();
    let done = local.block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(20), test).await
    });
    done.expect("the test comes to an end");
}

type Notes = Rc<RefCell<Vec<String>>>;

fn open(resumed: bool) -> (Channel, Blocking, Notes) {
    open_with(Limits::PM2, resumed)
}

async fn until_idle(channel: &Channel) {
    while !channel.is_idle() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn open_with(limits: Limits, resumed: bool) -> (Channel, Blocking, Notes) {
    let (ours, theirs) = pair().expect("a socketpair");
    let notes = Notes::default();
    let of = Rc::clone(&notes);
    let channel = Channel::open(ours, limits, resumed, move |heard| {
        let text = match heard {
            Heard::Message(message) => {
                let text = message.to_string();
                if text.len() > 200 {
                    format!("{} bytes", text.len())
                } else {
                    text
                }
            }
            Heard::Undelivered(message) => format!("undelivered {message}"),
            Heard::End => "end".to_owned(),
        };
        of.borrow_mut().push(text);
    })
    .expect("a channel");
    (channel, Blocking::from(theirs), notes)
}

async fn until(notes: &Notes, count: usize) {
    while notes.borrow().len() < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Reads lines without holding up the runtime.
async fn lines(of: &Blocking, count: usize) -> Vec<String> {
    let of = of.try_clone().expect("a duplicate");
    tokio::task::spawn_blocking(move || {
        // Byte by byte: what is not asked for stays in the socket.
        let mut lines = Vec::new();
        let mut line = Vec::new();
        let mut byte = [0];
        let mut of = of;
        while lines.len() < count && of.read(&mut byte).expect("a byte") == 1 {
            if byte[0] == b'\n' {
                lines.push(String::from_utf8_lossy(&std::mem::take(&mut line)).into_owned());
            } else {
                line.push(byte[0]);
            }
        }
        lines
    })
    .await
    .expect("the reader")
}

async fn nothing_more(of: &Blocking) {
    tokio::time::sleep(Duration::from_millis(20)).await;
    of.set_nonblocking(true).expect("non-blocking");
    let mut byte = [0];
    let read = (&mut &*of).read(&mut byte);
    assert!(
        matches!(&read, Err(error) if error.kind() == io::ErrorKind::WouldBlock),
        "{read:?}"
    );
    of.set_nonblocking(false).expect("blocking");
}

fn null() -> Rc<OwnedFd> {
    Rc::new(OwnedFd::from(
        std::fs::File::open("/dev/null").expect("/dev/null"),
    ))
}

#[test]
fn half_lines_garbage_and_long_lines_are_read() {
    run(async {
        let (_channel, mut theirs, notes) = open(false);
        for part in [
            "{\"a\"",
            ":1}",
            "\n\n",
            "no json\n\"wo",
            "rd\"\n",
            "\u{2}{\"cmd\":\"NODE_X\"}\n",
        ] {
            theirs.write_all(part.as_bytes()).expect("written");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        until(&notes, 3).await;
        let mut writer = theirs.try_clone().expect("a duplicate");
        let long = tokio::task::spawn_blocking(move || {
            let text = "x".repeat(10 << 20);
            writer.write_all(format!("\"{text}\"\n7\n").as_bytes())
        });
        until(&notes, 5).await;
        long.await.expect("the writer").expect("written");
        drop(theirs);
        until(&notes, 6).await;
        assert_eq!(
            *notes.borrow(),
            [
                "{\"a\":1}",
                "\"word\"",
                "{\"cmd\":\"NODE_X\"}",
                "10485762 bytes",
                "7",
                "end"
            ]
        );
    });
}

#[test]
fn the_rest_of_a_line_that_a_dead_daemon_began_is_no_message() {
    run(async {
        let (_channel, mut theirs, notes) = open(true);
        theirs.write_all(b"23\n24\n").expect("written");
        until(&notes, 1).await;
        assert_eq!(*notes.borrow(), ["24"]);
        let (_channel, mut theirs, notes) = open(true);
        theirs.write_all(b"{\"a\":1}\n").expect("written");
        until(&notes, 1).await;
        assert_eq!(*notes.borrow(), ["{\"a\":1}"]);
    });
}

#[test]
fn everything_waits_behind_a_descriptor_but_acknowledgements() {
    run(async {
        let (channel, mut theirs, notes) = open(false);
        assert!(channel.send_handle(json!({"n": 1}), "net.Native", null()));
        assert!(channel.send(&json!({"n": 2})));
        assert!(channel.send_handle(json!({"n": 3}), "net.Native", null()));
        assert!(channel.send(&json!({"n": 4})));
        let first = lines(&theirs, 1).await;
        assert_eq!(
            first,
            ["{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Native\",\"msg\":{\"n\":1}}"]
        );
        nothing_more(&theirs).await;
        // The ack is lost; the process sends a descriptor of its own meanwhile.
        theirs
            .write_all(b"{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Socket\",\"msg\":{\"mine\":1}}\n")
            .expect("written");
        assert_eq!(lines(&theirs, 1).await, ["{\"cmd\":\"NODE_HANDLE_ACK\"}"]);
        until(&notes, 1).await;
        assert_eq!(*notes.borrow(), ["{\"mine\":1}"]);
        theirs
            .write_all(b"{\"cmd\":\"NODE_HANDLE_ACK\"}\n")
            .expect("written");
        let next = lines(&theirs, 2).await;
        assert_eq!(next[0], "{\"n\":2}");
        assert!(next[1].ends_with("{\"n\":3}}"), "{next:?}");
        nothing_more(&theirs).await;
        // An ack too many changes nothing.
        theirs
            .write_all(b"{\"cmd\":\"NODE_HANDLE_ACK\"}\n{\"cmd\":\"NODE_HANDLE_ACK\"}\n")
            .expect("written");
        assert_eq!(lines(&theirs, 1).await, ["{\"n\":4}"]);
    });
}

#[test]
fn a_descriptor_that_does_not_arrive_is_sent_again_three_times() {
    run(async {
        let (channel, mut theirs, notes) = open(false);
        assert!(channel.send_handle(json!({"ack": 5}), "net.Native", null()));
        assert!(channel.send(&json!("after")));
        for _ in 0..=NACKS_MAX {
            assert!(lines(&theirs, 1).await[0].contains("NODE_HANDLE"));
            nothing_more(&theirs).await;
            theirs
                .write_all(b"{\"cmd\":\"NODE_HANDLE_NACK\"}\n")
                .expect("written");
        }
        assert_eq!(lines(&theirs, 1).await, ["\"after\""]);
        until(&notes, 1).await;
        assert_eq!(*notes.borrow(), ["undelivered {\"ack\":5}"]);
    });
}

#[test]
fn what_waits_for_a_process_that_does_not_read_is_bounded() {
    run(async {
        let (channel, theirs, _notes) = open(false);
        let big = json!("x".repeat(1 << 20));
        let taken = (0..1000).take_while(|_| channel.send(&big)).count();
        assert!((30..=34).contains(&taken), "{taken} MB were taken");
        let (small, unread, _notes) = open(false);
        tokio::time::sleep(Duration::from_millis(5)).await;
        let taken = (0..QUEUE_MAX * 100)
            .take_while(|_| small.send(&json!({"a": 1})))
            .count();
        assert!(
            (QUEUE_MAX..QUEUE_MAX * 100).contains(&taken),
            "{taken} messages were taken"
        );
        drop(unread);
        // Read at last, they come whole and in order.
        let reader = tokio::task::spawn_blocking(move || {
            let mut reader = BufReader::new(theirs);
            let mut line = String::new();
            reader.read_line(&mut line).expect("a line");
            line.len()
        });
        assert_eq!(reader.await.expect("the reader"), (1 << 20) + 3);
    });
}

#[test]
fn of_a_line_that_is_too_long_nothing_is_kept_and_the_next_one_is_heard() {
    run(async {
        let (channel, theirs, notes) = open_with(Limits::OWN, false);
        let mut writer = theirs.try_clone().expect("a duplicate");
        let written = tokio::task::spawn_blocking(move || {
            let piece = "x".repeat(1 << 20);
            let mut say = |text: &str| writer.write_all(text.as_bytes()).expect("written");
            say("\"just\"\n\"");
            for _ in 0..80 {
                say(&piece);
            }
            say("\"\n1\n");
            // Node's own may be longer, for the sake of what it wraps.
            say(&format!("{{\"cmd\":\"NODE_X\",\"a\":\"{piece}{piece}\"}}\n"));
            // A descriptor came with it: it is acknowledged, or the process's channel is blocked for good.
            say("{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Socket\",\"msg\":\"");
            for _ in 0..5 {
                say(&piece);
            }
            say("\"}\n\"ready\"\n");
        });
        until(&notes, 4).await;
        written.await.expect("the writer");
        assert_eq!(*notes.borrow(), ["\"just\"", "1", "2097175 bytes", "\"ready\""]);
        assert_eq!(lines(&theirs, 1).await, ["{\"cmd\":\"NODE_HANDLE_ACK\"}"]);
        until_idle(&channel).await;
    });
}

#[test]
fn a_long_line_costs_no_memory() {
    let mut lines = Lines {
        limits: Limits::OWN,
        bytes: Vec::new(),
        scanned: 0,
        doubtful: false,
        skipping: false,
    };
    let mut found = Vec::new();
    let piece = vec![b'1'; 64 << 10];
    for _ in 0..(64 << 4) {
        lines.take(&piece, |line| found.push(line));
        assert!(lines.bytes.capacity() <= 4 << 20, "{}", lines.bytes.capacity());
    }
    lines.take(b"1\n2\n", |line| found.push(line));
    assert!(
        matches!(&found[..], [Line::TooLong { with_handle: false }, Line::Message { message, .. }] if *message == 2),
        "{found:?}"
    );
}

#[test]
fn bun_is_answered_as_it_speaks() {
    run(async {
        let (channel, mut theirs, notes) = open(false);
        theirs
            .write_all(b"\x02{\"cmd\":\"NODE_CLUSTER\",\"act\":\"online\"}\n")
            .expect("written");
        until(&notes, 1).await;
        assert!(channel.is_bun());
        channel.send(&json!({"cmd": "NODE_CLUSTER", "ack": 1}));
        channel.send(&json!({"cmd": "mine"}));
        assert_eq!(
            lines(&theirs, 2).await,
            ["\u{2}{\"cmd\":\"NODE_CLUSTER\",\"ack\":1}", "{\"cmd\":\"mine\"}"]
        );
    });
}

#[test]
fn descriptors_that_are_sent_to_us_are_closed() {
    run(async {
        let (_channel, theirs, notes) = open(false);
        let before = std::fs::read_dir("/proc/self/fd").expect("a list").count();
        let null = null();
        for at in 0..50 {
            let line = if at % 2 == 0 {
                "{\"cmd\":\"NODE_HANDLE\",\"msg\":1}\n"
            } else {
                "2\n"
            };
            let sent = fd_pass::send(&theirs, line.as_bytes(), &[null.as_fd(), null.as_fd()]);
            assert_eq!(sent.expect("sent"), line.len());
        }
        until(&notes, 50).await;
        let after = std::fs::read_dir("/proc/self/fd").expect("a list").count();
        assert!(after <= before + 3, "{before} descriptors, then {after}");
    });
}
