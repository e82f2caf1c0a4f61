use proptest::prelude::*;

use super::*;

fn name(text: &str) -> AppName {
    AppName::parse(text).expect("a name")
}

fn graph(edges: &[(&str, &[&str])]) -> BTreeMap<AppName, Vec<AppName>> {
    edges
        .iter()
        .map(|(app, on)| (name(app), on.iter().map(|on| name(on)).collect()))
        .collect()
}

fn shown(waves: &[Vec<AppName>]) -> String {
    let wave = |wave: &Vec<AppName>| wave.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    waves.iter().map(wave).collect::<Vec<_>>().join(" | ")
}

#[test]
fn who_is_depended_upon_starts_first_and_stops_last() {
    let graph = graph(&[
        ("web", &["api", "cache"]),
        ("api", &["db"]),
        ("db", &[]),
        ("cache", &[]),
        ("cron", &["db"]),
    ]);
    assert_eq!(
        shown(&start_waves(&graph).expect("an order")),
        "cache db | api cron | web"
    );
    assert_eq!(shown(&stop_waves(&graph)), "web | api cron | cache db");
}

#[test]
fn a_circle_is_named_and_still_stops() {
    let graph = graph(&[("a", &["b"]), ("b", &["c"]), ("c", &["b", "d"]), ("d", &[])]);
    let error = start_waves(&graph).expect_err("a circle");
    assert_eq!(
        error.to_string(),
        "apps depend on each other in a circle: b → c → b"
    );
    assert_eq!(shown(&stop_waves(&graph)), "a b c | d");
}

#[test]
fn an_app_that_depends_on_itself_is_a_circle() {
    let error = start_waves(&graph(&[("a", &["a"])])).expect_err("a circle");
    assert_eq!(error.to_string(), "apps depend on each other in a circle: a → a");
}

#[test]
fn a_missing_dependency_is_named_and_does_not_hinder_a_stop() {
    let graph = graph(&[("a", &["gone"])]);
    let error = start_waves(&graph).expect_err("missing");
    assert_eq!(error.to_string(), "`a` depends on `gone`, which does not exist");
    assert_eq!(shown(&stop_waves(&graph)), "a");
}

#[test]
fn a_dependency_named_twice_counts_once() {
    let graph = graph(&[("a", &["b", "b"]), ("b", &[])]);
    assert_eq!(shown(&start_waves(&graph).expect("an order")), "b | a");
}

const EVERY: [Actual; 10] = [
    Actual::Stopped,
    Actual::Waiting,
    Actual::Starting,
    Actual::Running,
    Actual::Stopping,
    Actual::Killing,
    Actual::BackingOff,
    Actual::Completed,
    Actual::Failed,
    Actual::GaveUp,
];

#[test]
fn gates_over_every_state() {
    let table = |condition| {
        EVERY
            .iter()
            .map(
                |&actual| match gate(&name("db"), condition, &[Progress { actual, ready: false }]) {
                    Gate::Met => format!("{actual}: met"),
                    Gate::Pending(why) => format!("{actual}: pending, {why}"),
                    Gate::Never(why) => format!("{actual}: never, {why}"),
                },
            )
            .filter(|line| !line.contains("pending"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(
        table(Condition::Started),
        "running: met\ncompleted: met\nfailed: never, `db` has failed\n\
         gave_up: never, `db` failed too often and was given up"
    );
    assert_eq!(
        table(Condition::Healthy),
        "completed: never, `db` has completed, so it will not become healthy\nfailed: never, `db` has failed\n\
         gave_up: never, `db` failed too often and was given up"
    );
    assert_eq!(
        table(Condition::Completed),
        "completed: met\nfailed: never, `db` has failed\n\
         gave_up: never, `db` failed too often and was given up"
    );
    let ready = Progress {
        actual: Actual::Running,
        ready: true,
    };
    assert_eq!(gate(&name("db"), Condition::Healthy, &[ready]), Gate::Met);
}

#[test]
fn every_instance_counts_and_never_outweighs_not_yet() {
    let one = |actual| Progress { actual, ready: true };
    let judge = |instances: &[Progress]| gate(&name("db"), Condition::Healthy, instances);
    assert_eq!(judge(&[]), Gate::Met);
    assert_eq!(
        judge(&[one(Actual::Running), one(Actual::Starting), one(Actual::GaveUp)]),
        Gate::Never("`db:2` failed too often and was given up".to_owned())
    );
    assert_eq!(
        judge(&[one(Actual::Running), one(Actual::Starting)]),
        Gate::Pending("`db:1` is being started".to_owned())
    );
}

proptest! {
    #[test]
    fn waves_hold_every_app_once_and_in_order(edges in prop::collection::vec((0u8..12, 0u8..12), 0..40)) {
        let app = |number: u8| name(&format!("app{number:02}"));
        let mut graph: BTreeMap<AppName, Vec<AppName>> = (0..12).map(|number| (app(number), Vec::new())).collect();
        for (from, to) in edges {
            graph.get_mut(&app(from)).expect("it is there").push(app(to));
        }
        let stopped: Vec<_> = stop_waves(&graph).concat();
        prop_assert_eq!(stopped.iter().collect::<BTreeSet<_>>().len(), 12);
        prop_assert_eq!(stopped.len(), 12);
        match start_waves(&graph) {
            Ok(waves) => {
                let mut started = BTreeSet::new();
                for wave in waves {
                    for app in &wave {
                        prop_assert!(graph[app].iter().all(|on| started.contains(on)));
                    }
                    started.extend(wave);
                }
                prop_assert_eq!(started.len(), 12);
            }
            Err(OrderError::Circle { path }) => {
                prop_assert!(path.len() >= 2 && path.first() == path.last());
                prop_assert!(path.windows(2).all(|pair| graph[&pair[0]].contains(&pair[1])));
            }
            Err(error @ OrderError::Missing { .. }) => prop_assert!(false, "{error}"),
        }
    }
}
