//! Loaders and layers: Carcass' three tests, the order of merging, reloading, and where values come from.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use serde_json::json;
use upkeep_config::{
    Place,
    entry::{By, Entry, Shown},
    forms::Form,
    loader::{Environment, FileLayer, Fixed, Loader, Shared, Stack},
    value::Value,
};

/// Source 3 with a parser that doubles: 6; with one that trebles: 9; without a source: nothing.
#[test]
fn carcass_s_loader() {
    let mut loader: Loader<i64, i64, String> = Loader::new(|number| Ok(number * 2));
    assert_eq!(loader.get(), Ok(None));
    assert_eq!(loader.reload(), Ok(None));
    loader.source(|| Ok(3));
    assert_eq!(loader.get(), Ok(Some(&6)));
    loader.parser(|number| Ok(number * 3));
    assert_eq!(loader.reload(), Ok(Some(&9)));
    assert_eq!(loader.get(), Ok(Some(&9)));
}

#[test]
fn what_is_cached_is_kept_until_it_is_reloaded_and_when_that_fails() {
    let number = Arc::new(AtomicI64::new(1));
    let read = Arc::clone(&number);
    let mut loader: Loader<i64, i64, String> = Loader::plain();
    loader.source(move || match read.load(Ordering::SeqCst) {
        0 => Err("away".to_owned()),
        number => Ok(number),
    });
    assert_eq!(loader.get(), Ok(Some(&1)));
    number.store(2, Ordering::SeqCst);
    assert_eq!(loader.get(), Ok(Some(&1)));
    assert_eq!(loader.reload(), Ok(Some(&2)));
    number.store(0, Ordering::SeqCst);
    assert_eq!(loader.reload(), Err("away".to_owned()));
    assert_eq!(loader.get(), Ok(Some(&2)));
}

struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    fn file(&self, name: &str, text: &str) -> FileLayer {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("written");
        FileLayer {
            form: Form::of_file(name).expect("a form"),
            path,
            required: true,
        }
    }

    /// What is said, without the folder.
    fn told(&self, text: impl ToString) -> String {
        text.to_string()
            .replace(&format!("{}/", self.folder.path().display()), "")
    }
}

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment {
        prefix: "SHOP_".to_owned(),
        variables: variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    }
}

fn shared(entries: &[(&str, Shown)]) -> Shared {
    let place: Place = "/shop/prod/".parse().expect("a place");
    Shared {
        entries: entries
            .iter()
            .map(|(name, shown)| Entry {
                path: place.join(name).expect("a path"),
                shown: shown.clone(),
                revision: 42,
                version: 1,
                by: By {
                    who: "uid:1".to_owned(),
                    at: 0.0,
                    why: None,
                },
            })
            .collect(),
        place,
    }
}

fn stack(world: &World) -> Stack {
    let masked = Shown::Masked {
        kind: upkeep_config::value::Kind::Text,
        recipients: Vec::new(),
    };
    Stack::default()
        .with(Fixed(json!({"port": 80, "db": {"url": "sqlite:", "pool": 5}, "tags": ["a", "b"], "log": "info", "tls": {"a": 1}})))
        .with(world.file("base.yaml", "db:\n  url: postgres://db0\n  user: shop\ntags: [c]\nlog:\n  level: debug\n"))
        .with(world.file("local.json", "{\n  \"port\": 8080,\n  \"tls\": false\n}\n"))
        .with(shared(&[
            ("db/url", Shown::Plain(Value::text("postgres://db1"))),
            ("db/password", Shown::Revealed(Value::text("hunter2"))),
            ("db/user", masked),
        ]))
        .with(environment(&[("SHOP_PORT", "9090"), ("SHOP_DB__POOL", "none"), ("HOME", "/x"), ("SHOP_", "")]))
}

#[test]
fn later_layers_win_value_by_value() {
    let world = World::new();
    let merged = stack(&world).get().expect("merged");
    let expected = json!({
        "port": 9090,
        "db": {"url": "postgres://db1", "pool": "none", "user": "shop", "password": "hunter2"},
        "tags": ["c"],
        "log": {"level": "debug"},
        "tls": false,
    });
    assert_eq!(merged, expected);
}

#[test]
fn an_empty_map_takes_nothing_away() {
    let merged = Stack::default()
        .with(Fixed(json!({"a": {"b": 1}, "c": 1, "d": {}})))
        .with(Fixed(json!({"a": {}, "c": {}, "d": {"e": 1}})))
        .get();
    assert_eq!(merged, Ok(json!({"a": {"b": 1}, "c": {}, "d": {"e": 1}})));
}

#[test]
fn each_value_says_where_it_came_from_and_what_it_hides() {
    let world = World::new();
    let mut stack = stack(&world);
    let mut told = |key: &str| -> Vec<String> {
        let explained = stack.explain(key).expect("explained");
        explained.iter().map(|one| world.told(one)).collect()
    };
    assert_eq!(
        told("db/url"),
        [
            "db/url = \"postgres://db1\" (/shop/prod/db/url at revision 42)\n  hides db/url = \"postgres://db0\" (base.yaml:2:3)\n  hides db/url = \"sqlite:\" (default)"
        ]
    );
    assert_eq!(
        told("port"),
        [
            "port = 9090 (environment variable SHOP_PORT)\n  hides port = 8080 (local.json:2:3)\n  hides port = 80 (default)"
        ]
    );
    assert_eq!(
        told("log.level"),
        ["log/level = \"debug\" (base.yaml:6:3)\n  hides log = \"info\" (default)"]
    );
    assert_eq!(
        told("tls"),
        ["tls = false (local.json:3:3)\n  hides tls/a = 1 (default)"]
    );
    assert_eq!(told("db").len(), 4);
    // A secret is not shown by being explained.
    assert_eq!(
        told("db/password"),
        ["db/password = •••••• (/shop/prod/db/password at revision 42)"]
    );
    assert_eq!(told("nothing"), Vec::<String>::new());
}

#[test]
fn a_file_that_changes_is_read_again_and_one_that_is_wrong_changes_nothing() {
    let world = World::new();
    let file = world.file("a.yaml", "a: 1\n");
    let other = world.file("b.json", "{\"b\": 1}");
    let absent = FileLayer {
        path: world.folder.path().join("absent.env"),
        form: Form::Dotenv,
        required: false,
    };
    let mut stack = Stack::default()
        .with(file.clone())
        .with(other.clone())
        .with(absent.clone());
    assert_eq!(stack.get(), Ok(json!({"a": 1, "b": 1})));
    assert_eq!(stack.refresh(), Ok(false));
    fs::write(&file.path, "a: 22\n").expect("written");
    assert_eq!(
        stack.get(),
        Ok(json!({"a": 1, "b": 1})),
        "what is cached stays until it is asked for"
    );
    assert_eq!(stack.refresh(), Ok(true));
    assert_eq!(stack.get(), Ok(json!({"a": 22, "b": 1})));
    // Of two changes one is wrong: neither is taken, and it says where.
    fs::write(&file.path, "a: 333\n").expect("written");
    fs::write(&other.path, "{\"b\": \n nonsense}").expect("written");
    let error = stack.refresh().expect_err("no JSON");
    assert!(
        world.told(&error).starts_with("b.json:2:2: not readable as JSON"),
        "{error}"
    );
    assert_eq!(stack.get(), Ok(json!({"a": 22, "b": 1})));
    fs::write(&other.path, "{\"b\": 2}").expect("written");
    fs::write(&absent.path, "C=3\n").expect("written");
    assert_eq!(stack.refresh(), Ok(true));
    assert_eq!(stack.get(), Ok(json!({"a": 333, "b": 2, "c": "3"})));
    fs::remove_file(&file.path).expect("removed");
    assert!(stack.reload().is_err());
    assert_eq!(stack.get(), Ok(json!({"a": 333, "b": 2, "c": "3"})));
}

#[test]
fn variables_that_cannot_be_meant_are_told() {
    for (variables, why) in [
        (&[("SHOP_A__", "1")][..], "nothing before or behind"),
        (
            &[("SHOP_a", "1"), ("SHOP_A", "2")][..],
            "SHOP_A and SHOP_a say the same",
        ),
    ] {
        let error = Stack::default()
            .with(environment(variables))
            .get()
            .expect_err(why);
        assert!(error.to_string().contains(why), "{error}");
    }
}
