use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::json;
use upkeep_api::body::AppView;

use super::state::{Effect, News, Order, Screen, State};

fn app(name: &str, actual: &str, cpu: f64) -> AppView {
    serde_json::from_value(json!({
        "name": name, "namespace": "default", "desired": "up", "revision": 1, "has_readiness": false,
        "instances": [{
            "id": 0, "index": 0, "actual": actual, "desired": "up", "ready": true, "pid": 1, "restarts": 0,
            "unstable": 0, "uptime_ms": 1000, "changed_at": 0.0, "cpu_percent": cpu, "memory_bytes": 1,
            "last_exit": null, "why": "because"
        }]
    }))
    .expect("an app")
}

fn press(state: &mut State, keys: &str) -> Vec<Effect> {
    keys.chars()
        .flat_map(|key| {
            let code = match key {
                '\n' => KeyCode::Enter,
                '\x1b' => KeyCode::Esc,
                '\t' => KeyCode::Tab,
                key => KeyCode::Char(key),
            };
            state.key(KeyEvent::new(code, KeyModifiers::NONE))
        })
        .collect()
}

fn names(state: &State) -> Vec<String> {
    state.rows.iter().map(|row| row.id.selector()).collect()
}

fn selected(state: &State) -> String {
    state
        .selected
        .as_ref()
        .map(super::rows::RowId::selector)
        .unwrap_or_default()
}

fn three() -> State {
    let mut state = State::new("host".to_owned(), String::new());
    state.hear(News::Apps(vec![
        app("a", "running", 1.0),
        app("b", "failed", 9.0),
        app("c", "running", 5.0),
    ]));
    state
}

#[test]
fn a_selection_stays_on_its_row_and_falls_to_its_neighbour() {
    let mut state = three();
    assert_eq!(selected(&state), "a");
    press(&mut state, "j:sort cpu\n");
    assert_eq!(
        (names(&state), selected(&state)),
        (vec!["b".into(), "c".into(), "a".into()], "b".into())
    );
    press(&mut state, "O");
    assert_eq!(
        (names(&state), selected(&state)),
        (vec!["a".into(), "c".into(), "b".into()], "b".into())
    );
    state.hear(News::Apps(vec![
        app("a", "running", 1.0),
        app("c", "running", 5.0),
    ]));
    assert_eq!(selected(&state), "c");
    state.hear(News::Apps(Vec::new()));
    assert_eq!(selected(&state), "");
    assert!(
        press(&mut state, "jkgGdlsr\nfx\n/x\nn y").is_empty(),
        "nothing to act on"
    );
}

#[test]
fn actions_are_asked_about_and_typed_ones_are_not() {
    let mut state = three();
    let restart = |name: &str| {
        vec![Effect::Order(Order::Act {
            verb: "restart",
            selector: name.to_owned(),
        })]
    };
    assert!(press(&mut state, "r").is_empty());
    assert!(press(&mut state, "n").is_empty(), "no is no");
    assert!(
        press(&mut state, "y")
            .iter()
            .all(|effect| matches!(effect, Effect::Yank(_)))
    );
    assert_eq!(press(&mut state, "ry"), restart("a"));
    assert_eq!(press(&mut state, ":restart c\n"), restart("c"));
    assert_eq!(press(&mut state, ":restart\n"), restart("a"));
    assert!(press(&mut state, ":delete a\n").is_empty(), "not from here");
    assert!(
        state
            .message
            .as_deref()
            .is_some_and(|text| text.contains("no command `delete`"))
    );
}

#[test]
fn back_leads_to_where_one_came_from_and_then_out() {
    let mut state = three();
    press(&mut state, "dl");
    assert_eq!(state.screen, Screen::Logs);
    press(&mut state, "q");
    assert_eq!(state.screen, Screen::Detail);
    press(&mut state, "\x1b");
    assert_eq!(state.screen, Screen::Apps);
    assert_eq!(press(&mut state, "q"), [Effect::Quit]);
}

#[test]
fn a_filter_works_while_it_is_typed_and_escape_takes_it_back() {
    let mut state = three();
    press(&mut state, "ffail");
    assert_eq!(names(&state), ["b"]);
    press(&mut state, "\x1b");
    assert_eq!(names(&state).len(), 3);
    press(&mut state, "ffail\n");
    assert_eq!(names(&state), ["b"]);
}
