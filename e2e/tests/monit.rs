//! `upkeep monit` in a real terminal, by what stands on the screen.

use serde_json::json;
use upkeep_e2e::{LONG, app, apply, kill_daemon, wait_running, with};
use upkeep_testkit::{Home, Screen, wait_until};

const SIZE: (u16, u16) = (80, 24);

/// The line of the table that is of an app, without the mark of the selection.
fn row(text: &str, name: &str) -> Option<String> {
    text.lines()
        .take(15)
        .map(|line| line.trim_start_matches(['>', ' ']))
        .find(|line| line.split_whitespace().next() == Some(name))
        .map(str::to_owned)
}

fn selected(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("> "))?;
    line.split_whitespace().nth(1).map(str::to_owned)
}

/// Three apps: one that prints, one that is quiet, one that fails.
fn three() -> Home {
    let home = Home::new();
    let broken = with(
        app(&home, "broken", &["print", "no database", "exit", "3"]),
        json!({"restart": "never"}),
    );
    let chatty = app(
        &home,
        "chatty",
        &["write-lines", "300", "--prefix", "old", "wait"],
    );
    let quiet = with(app(&home, "quiet", &["wait"]), json!({"instances": 2}));
    apply(&home, &[broken, chatty, quiet]);
    home.wait_for("broken", 0, "failed");
    wait_running(&home, "chatty", 1);
    wait_running(&home, "quiet", 2);
    home
}

#[test]
fn the_list_and_a_log_that_is_filled_already() {
    let home = three();
    let screen = Screen::start(&home, &["monit"], SIZE, &[]);
    let text = screen.wait_for("3 apps, 3 of 4 running, 1 in trouble");
    assert_eq!(selected(&text).as_deref(), Some("broken"), "{text}");
    let text = screen.wait_for("no database");
    assert!(
        row(&text, "broken").is_some_and(|row| row.contains("failed")),
        "{text}"
    );
    assert!(
        row(&text, "quiet").is_some_and(|row| row.contains("running") && row.contains("2/2")),
        "{text}"
    );
    assert!(text.contains("broken: exit code 3"), "{text}");
    assert!(text.contains("F1Help") && text.contains("F10Quit"), "{text}");
    // What was printed before is there with the next app too, and with the first one again.
    screen.keys(&["j"]);
    let text = screen.wait_for("old 0000300");
    assert_eq!(selected(&text).as_deref(), Some("chatty"), "{text}");
    screen.keys(&["k"]);
    screen.wait_for("no database");
    // Instances have rows of their own when asked for.
    screen.keys(&["G", "Tab"]);
    screen.wait_for("quiet:1");
    screen.keys(&["q"]);
    assert_eq!(screen.wait_for_end(), 0);
}

#[test]
fn search_filter_and_sort() {
    let home = three();
    let screen = Screen::start(&home, &["monit"], SIZE, &[]);
    screen.wait_for("chatty");
    screen.type_text("/qui");
    screen.keys(&["Enter"]);
    screen.wait("the search to find `quiet`", |text| {
        (selected(text)? == "quiet").then_some(())
    });
    screen.type_text("f");
    screen.type_text("fail");
    screen.wait("only what has failed", |text| {
        (row(text, "broken").is_some() && row(text, "chatty").is_none()).then_some(())
    });
    // Esc takes the filter back.
    screen.keys(&["Escape"]);
    screen.wait("all apps again", |text| row(text, "chatty"));
    screen.type_text(":sort state");
    screen.keys(&["Enter"]);
    screen.wait_for("STATEv");
    screen.type_text(":sort nonsense");
    screen.keys(&["Enter"]);
    screen.wait_for("no column `nonsense`: name, state");
    // In a log: only lines with this text, then the line that is searched for.
    screen.type_text("/chatty");
    screen.keys(&["Enter", "Enter"]);
    screen.wait_for("old 0000300");
    screen.type_text("f");
    screen.type_text("old 00001");
    screen.wait("only lines of the filter", |text| {
        (text.contains("old 0000199") && !text.contains("old 0000300")).then_some(())
    });
    screen.keys(&["Escape"]);
    screen.type_text("/old 0000042");
    screen.keys(&["Enter"]);
    let text = screen.wait_for("PAUSED");
    assert!(text.contains("old 0000042"), "{text}");
    screen.keys(&["Space"]);
    screen.wait_for("old 0000300");
    // A first `q` leads back, a second one out.
    screen.keys(&["q"]);
    screen.wait_for("READY");
    screen.keys(&["q"]);
    assert_eq!(screen.wait_for_end(), 0);
}

#[test]
fn actions_ask_first_and_leave_an_event() {
    let home = three();
    let screen = Screen::start(&home, &["monit", "chatty"], SIZE, &[]);
    screen.wait("the app", |text| (selected(text)? == "chatty").then_some(()));
    let before = home.instance("chatty", 0)["pid"].clone();
    screen.type_text("r");
    screen.wait_for("the same from a shell: upkeep restart chatty");
    screen.type_text("n");
    screen.wait_for("nothing was done");
    assert_eq!(home.instance("chatty", 0)["pid"], before);
    screen.type_text("r");
    screen.wait_for("restart chatty?");
    screen.type_text("y");
    screen.wait_for("upkeep restart chatty: done");
    assert_ne!(home.instance("chatty", 0)["pid"], before);
    screen.type_text("S");
    screen.wait_for("stop chatty?");
    screen.type_text("y");
    screen.wait("it to be stopped", |text| {
        row(text, "chatty")?.contains("stopped").then_some(())
    });
    screen.type_text(":scale quiet 3");
    screen.keys(&["Enter"]);
    home.wait_for("quiet", 2, "running");
    screen.type_text(":start nobody");
    screen.keys(&["Enter"]);
    screen.wait_for("nobody");
    let events = home.json(["events", "-n", "200"]);
    let events = events["events"].as_array().expect("events");
    for what in ["restart", "stop", "scale"] {
        assert!(
            events
                .iter()
                .any(|event| event["what"] == what && event["why"] == "monit"),
            "no `{what}` by monit among {events:#?}"
        );
    }
    screen.type_text("e");
    screen.wait_for("events, following");
    screen.wait("the events", |text| {
        (text.contains("restart") && text.contains("scale")).then_some(())
    });
    screen.keys(&["F10"]);
    assert_eq!(screen.wait_for_end(), 0);
}

#[test]
fn details_show_figures_over_time() {
    let home = three();
    let screen = Screen::start(&home, &["monit", "quiet"], (100, 40), &[]);
    screen.wait("the app", |text| (selected(text)? == "quiet").then_some(()));
    screen.keys(&["d"]);
    let text = screen.wait("instances and the span", |text| {
        (text.contains("last 15m") && text.contains("INSTANCE")).then(|| text.to_owned())
    });
    assert!(text.contains("2 of 2 ready"), "{text}");
    screen.wait("a graph of the memory", |text| {
        (text.contains(" memory  ") && text.contains("highest")).then_some(())
    });
    screen.keys(&["+"]);
    screen.wait_for("last 1h");
    screen.keys(&["-", "-"]);
    screen.wait_for("last 5m");
    screen.wait("figures of the other span", |text| {
        text.contains(" cpu  ").then_some(())
    });
    screen.keys(&["?"]);
    screen.wait_for("any key closes");
    screen.keys(&["x", "q"]);
    screen.wait_for("READY");
}

#[test]
fn any_size_will_do() {
    let home = three();
    let screen = Screen::start(&home, &["monit"], SIZE, &[]);
    screen.wait_for("F10Quit");
    for (width, height) in [(40, 10), (200, 60), (19, 5), (60, 3), (80, 24)] {
        screen.resize(width, height);
        let wanted = if width < 20 || height < 4 {
            "too small"
        } else {
            "broken"
        };
        let text = screen.wait_for(wanted);
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(usize::from(width)), "{width}: {text}");
    }
    let text = screen.wait_for("F10Quit");
    assert!(text.starts_with(' ') && text.lines().count() <= 24, "{text}");
}

#[test]
fn the_screen_outlives_the_daemon() {
    let home = three();
    let screen = Screen::start(&home, &["monit", "chatty"], SIZE, &[]);
    screen.wait_for("old 0000300");
    kill_daemon(home.keeper_pid());
    home.ok(["restart", "chatty"]);
    // The app starts anew and prints its lines once more; the screen shows them, and the list goes on.
    screen.wait("the list of the next daemon", |text| {
        let rests = row(text, "chatty")?.contains("running");
        (rests && !text.contains("does not answer")).then_some(())
    });
    screen.wait("the log from the next daemon", |text| {
        text.contains("old 0000300").then_some(())
    });
    let pid = screen.pid();
    home.ok(["shutdown"]);
    screen.wait_for("the daemon does not answer");
    assert!(upkeep_testkit::alive(pid));
    home.ok(["ls"]);
    screen.wait("the list again", |text| {
        (!text.contains("does not answer") && row(text, "chatty").is_some()).then_some(())
    });
    screen.keys(&["C-c"]);
    assert_eq!(screen.wait_for_end(), 0);
}

#[test]
fn neither_colour_nor_unicode_is_needed() {
    let home = three();
    let plain = [("NO_COLOR", "1"), ("LANG", "C"), ("LC_ALL", "C")];
    let screen = Screen::start(&home, &["monit"], SIZE, &plain);
    screen.wait_for("F10Quit");
    let styled = wait_until("the log", LONG, || {
        let text = screen.styled();
        if text.contains("no database") {
            Ok(text)
        } else {
            Err(text)
        }
    });
    assert!(styled.is_ascii(), "{styled}");
    for color in 30..=37 {
        assert!(!styled.contains(&format!("\x1b[{color}m")), "{styled:?}");
    }
    // With colours the words are the same.
    let colored = Screen::start(&home, &["monit"], SIZE, &[]);
    let styled = wait_until("colours", LONG, || {
        let text = colored.styled();
        if text.contains("\x1b[31m") || text.contains("\x1b[38;5;1m") {
            Ok(text)
        } else {
            Err(text)
        }
    });
    assert!(styled.contains("failed"), "{styled}");
}

#[test]
fn without_a_terminal_it_says_what_to_use() {
    let home = Home::new();
    let output = home.cmd(["monit"]);
    assert_eq!(output.code, 2, "{output:?}");
    assert!(output.stderr.contains("upkeep ls --watch"), "{output:?}");
}
