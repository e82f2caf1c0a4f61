//! Files of values: what is written is read back as it was, and other programs read the same.

use std::{
    collections::BTreeMap,
    io::Write as _,
    process::{Command, Stdio},
};

use proptest::prelude::*;
use upkeep_config::{
    Path, Place,
    entry::{By, Entry, Shown},
    forms::{Form, Known, Position, read, write},
    value::{Kind, Value},
};
use upkeep_testkit::python;

fn place() -> Place {
    "/shop/prod/".parse().expect("a place")
}

fn entry(name: &str, shown: Shown) -> Entry {
    Entry {
        path: place().join(name).expect("a path"),
        shown,
        revision: 7,
        version: 1,
        by: By {
            who: "uid:1000".to_owned(),
            at: 1_795_000_000.0,
            why: None,
        },
    }
}

fn value(kind: Kind, bytes: impl Into<Vec<u8>>) -> Value {
    Value {
        kind,
        bytes: bytes.into(),
    }
}

fn masked() -> Shown {
    Shown::Masked {
        kind: Kind::Text,
        recipients: Vec::new(),
    }
}

fn sample() -> Vec<Entry> {
    vec![
        entry("db", Shown::Plain(Value::text("the shop's"))),
        entry("db/password", masked()),
        entry("db/port", Shown::Plain(value(Kind::Number, "5432"))),
        entry("db/token", Shown::Revealed(Value::text("s3cret"))),
        entry("flags", Shown::Plain(value(Kind::Json, "[\"a\",true]"))),
        entry("limits", Shown::Plain(value(Kind::Json, "{\"cpu\": 2}"))),
        entry("motd", Shown::Plain(Value::text("it's\n\"here\""))),
    ]
}

#[test]
fn each_form_as_a_person_sees_it() {
    let written = |form| write(form, &place(), &sample()).expect("written");
    assert_eq!(
        written(Form::Yaml),
        r#"db:
  "$value": "the shop's"
  password: {"$secret": null}
  port: 5432
  token: {"$secret": "s3cret"}
flags: ["a",true]
limits: {"$json": "{\"cpu\": 2}"}
motd: "it's\n\"here\""
"#
    );
    assert_eq!(
        written(Form::Json),
        r#"{
  "db": {
    "$value": "the shop's",
    "password": {"$secret": null},
    "port": 5432,
    "token": {"$secret": "s3cret"}
  },
  "flags": ["a",true],
  "limits": {"$json": "{\"cpu\": 2}"},
  "motd": "it's\n\"here\""
}
"#
    );
    assert_eq!(
        written(Form::Dotenv),
        "DB=\"the shop's\"\n# DB_PASSWORD: a secret that was not revealed\nDB_PORT=5432\nDB_TOKEN=s3cret\nFLAGS='[\"a\",true]'\n\
         LIMITS='{\"cpu\": 2}'\nMOTD=\"it's\n\\\"here\\\"\"\n"
    );
    assert_eq!(
        written(Form::Properties),
        "db=the shop's\n# db.password: a secret that was not revealed\ndb.port=5432\ndb.token=s3cret\nflags=[\"a\",true]\n\
         limits={\"cpu\"\\: 2}\nmotd=it's\\n\"here\"\n"
    );
}

#[test]
fn a_secret_that_was_not_revealed_is_left_as_it_is() {
    for form in [Form::Json, Form::Yaml, Form::Dotenv, Form::Properties] {
        let text = write(form, &place(), &sample()).expect("written");
        let contents = read(form, &place(), &text, &Known::of(&sample())).expect("read");
        let paths: Vec<&str> = contents.items.iter().map(|item| item.path.as_str()).collect();
        assert!(!paths.contains(&"/shop/prod/db/password"), "{form}: {paths:?}");
        if matches!(form, Form::Json | Form::Yaml) {
            assert_eq!(
                contents.kept,
                ["/shop/prod/db/password".parse::<Path>().expect("a path")]
            );
            let secret: Vec<&str> = contents
                .items
                .iter()
                .filter(|item| item.secret)
                .map(|item| item.path.as_str())
                .collect();
            assert_eq!(secret, ["/shop/prod/db/token"]);
        }
    }
}

#[test]
fn what_is_wrong_has_line_and_column() {
    for (form, text, line, column, why) in [
        (
            Form::Json,
            "{\n  \"a\": {\"b c\": 1}\n}",
            2,
            9,
            "` ` may not be in it",
        ),
        (Form::Json, "{\n  \"a\": tru\n}", 2, 8, "not readable as JSON"),
        (
            Form::Json,
            "{\"a/b\": 1,\n \"a\": {\"b\": 2}}",
            2,
            8,
            "`/shop/prod/a/b` is given a second time; the first is in line 1",
        ),
        (
            Form::Json,
            "{\"a\": {\"$number\": \"secret\"}}",
            1,
            2,
            "`/shop/prod/a`: it is no number",
        ),
        (
            Form::Json,
            "{\"a\": {\"$secret\": {\"b\": 1}}}",
            1,
            19,
            "a secret is one value",
        ),
        (Form::Json, "{\"a\": {\"$file\": \"!\"}}", 1, 17, "no base64"),
        (
            Form::Json,
            "{\"a\": {\"$what\": 1}}",
            1,
            8,
            "`$what` names no value",
        ),
        (Form::Json, "[1]", 1, 1, "is a map"),
        (Form::Yaml, "a: 1\nb: [\n", 2, 4, "not readable as YAML"),
        (Form::Yaml, "a:\n  ..: 1\n", 2, 3, "leads nowhere"),
        (Form::Dotenv, "A=1\nB B=2\n", 2, 1, "cannot be the name"),
        (Form::Dotenv, "A=1\n\nA__=2\n", 3, 1, "it ends with a slash"),
        (
            Form::Properties,
            "a=1\nb=\\u00g0\n",
            2,
            3,
            "four hexadecimal digits",
        ),
    ] {
        let fault = read(form, &place(), text, &[]).expect_err(text);
        assert!(fault.message.contains(why), "{text}: {fault:?}");
        assert!(!fault.message.contains("secret\""), "{fault:?}");
        assert_eq!(
            fault.position,
            Some(Position { line, column }),
            "{text}: {fault:?}"
        );
    }
}

#[test]
fn names_that_collide_and_values_that_do_not_fit_are_told() {
    let two = [
        entry("db/url", Shown::Plain(Value::text("a"))),
        entry("db_url", Shown::Plain(Value::text("b"))),
    ];
    let error = write(Form::Dotenv, &place(), &two).expect_err("one name");
    assert_eq!(
        error.to_string(),
        "`/shop/prod/db/url` and `/shop/prod/db_url` would both be `DB_URL`"
    );
    let fault = read(Form::Dotenv, &place(), "DB_URL=x", &Known::of(&two)).expect_err("which?");
    assert!(fault.message.contains("could be"), "{fault:?}");
    assert!(write(Form::Properties, &place(), &two).is_ok());
    for (form, bytes) in [
        (Form::Dotenv, vec![0]),
        (Form::Dotenv, vec![255]),
        (Form::Properties, vec![255]),
    ] {
        let one = [entry("cert", Shown::Plain(value(Kind::File, bytes)))];
        let error = write(form, &place(), &one)
            .expect_err("not in this form")
            .to_string();
        assert!(error.contains("`/shop/prod/cert`"), "{error}");
    }
    let one = "/shop/port".parse().expect("a place");
    assert!(write(Form::Json, &one, &[]).is_err());
    assert!(read(Form::Json, &one, "{}", &[]).is_err());
}

#[test]
fn what_is_known_lends_its_kind() {
    let known = Known::of(&sample());
    let contents = read(
        Form::Dotenv,
        &place(),
        "DB_PORT=1\nLIMITS=nonsense\nNEW__ONE=x\nNEW_TWO=y",
        &known,
    );
    let told: Vec<(String, Kind)> = contents
        .expect("read")
        .items
        .into_iter()
        .map(|item| (item.path.to_string(), item.value.kind))
        .collect();
    let expected = [
        ("/shop/prod/db/port", Kind::Number),
        ("/shop/prod/limits", Kind::Text),
        ("/shop/prod/new/one", Kind::Text),
        ("/shop/prod/new_two", Kind::Text),
    ]
    .map(|(path, kind)| (path.to_owned(), kind));
    assert_eq!(told, expected);
}

#[test]
fn the_name_of_a_file_tells_its_form() {
    for (name, form) in [
        (".env", Some(Form::Dotenv)),
        ("a/.env.local", Some(Form::Dotenv)),
        ("prod.env", Some(Form::Dotenv)),
        ("a.YML", Some(Form::Yaml)),
        ("a.json", Some(Form::Json)),
        ("a.properties", Some(Form::Properties)),
        ("a", None),
        ("a.d/json", None),
    ] {
        assert_eq!(Form::of_file(name), form, "{name}");
    }
}

fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,3}",
        "[a-zäß0-9_.:@+-]{1,4}".prop_filter("no way", |text| text != "." && text != ".."),
        Just("yes".to_owned()),
        Just("1".to_owned()),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,12}",
        "[a'\"\\\\\\r\\n\\t #=:!$`{}\\[\\]&*-]{0,8}",
        "\\PC{0,8}",
        any::<String>().prop_map(|text| text.replace('\0', "")),
        prop::sample::select(vec![
            "",
            "yes",
            "NO",
            "null",
            "~",
            "1e5",
            "0x1F",
            "012",
            "1:30",
            "2026-01-01",
            ".inf",
            "<<",
            "=",
            "- a",
            "a: b",
            "#",
            "${HOME}",
        ])
        .prop_map(str::to_owned),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_filter_map("finite", |number| serde_json::Number::from_f64(number)
            .map(|n| n.to_string())),
        prop::sample::select(vec![
            "1e5",
            "-0",
            "1.50",
            " 7\n",
            "1E+2",
            "123456789012345678901234567890"
        ])
        .prop_map(str::to_owned),
    ];
    let json = prop_oneof![
        prop::sample::select(vec![
            "null",
            "true",
            " false",
            "{}",
            "[]",
            "{ }",
            "[1, 2]",
            "[1,2]",
            "{\"a\":1}",
            "[\"\\u0007\",1e5]",
            "[[1]]",
            "\"x\"",
            "5"
        ])
        .prop_map(str::to_owned),
        text().prop_map(|text| serde_json::json!([text, 1]).to_string()),
    ];
    prop_oneof![
        4 => text().prop_map(Value::text),
        1 => number.prop_map(|text| value(Kind::Number, text)),
        1 => json.prop_map(|text| value(Kind::Json, text)),
        1 => Just(value(Kind::Yaml, "a:\n  - 1 # x\n")),
        1 => prop::collection::vec(any::<u8>(), 0..6).prop_map(|bytes| value(Kind::File, bytes)),
    ]
}

fn entries(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Vec<Entry>> {
    let one = (prop::collection::vec(segment(), 1..4), value, any::<bool>());
    prop::collection::vec(one, 0..8).prop_map(|all| {
        let named: BTreeMap<Path, Shown> = all
            .into_iter()
            .map(|(segments, value, secret)| {
                let path = place().join(&segments.join("/")).expect("a path");
                (
                    path,
                    if secret {
                        Shown::Revealed(value)
                    } else {
                        Shown::Plain(value)
                    },
                )
            })
            .collect();
        named
            .into_iter()
            .map(|(path, shown)| Entry {
                path,
                ..entry("x", shown)
            })
            .collect()
    })
}

/// Path, value and whether it is a secret, in order.
fn told(entries: &[Entry]) -> Vec<(Path, Value, bool)> {
    let told = entries.iter().map(|entry| {
        let value = entry.shown.value().expect("it is shown").clone();
        (entry.path.clone(), value, entry.shown.is_secret())
    });
    told.collect()
}

/// What a form of names alone holds: texts without zero bytes under names that do not collide.
fn is_of(form: Form, entries: &[Entry]) -> bool {
    write(form, &place(), entries).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn json_and_yaml_are_read_as_they_were_written(entries in entries(any_value())) {
        for form in [Form::Json, Form::Yaml] {
            let text = write(form, &place(), &entries).expect("written");
            let contents = read(form, &place(), &text, &[]).unwrap_or_else(|fault| panic!("{fault:?}\n{text}"));
            let mut found: Vec<(Path, Value, bool)> =
                contents.items.into_iter().map(|item| (item.path, item.value, item.secret)).collect();
            found.sort_by(|a, b| a.0.cmp(&b.0));
            prop_assert_eq!(&found, &told(&entries), "{}", text);
        }
    }

    #[test]
    fn dotenv_and_properties_are_read_as_they_were_written(entries in entries(any_value())) {
        for form in [Form::Dotenv, Form::Properties] {
            if !is_of(form, &entries) {
                continue;
            }
            let text = write(form, &place(), &entries).expect("written");
            let contents = read(form, &place(), &text, &Known::of(&entries)).unwrap_or_else(|fault| panic!("{fault:?}\n{text}"));
            let found: Vec<(Path, Value, bool)> = contents.items.into_iter().map(|item| (item.path, item.value, true)).collect();
            let wanted: Vec<(Path, Value, bool)> = told(&entries).into_iter().map(|(path, value, _)| (path, value, true)).collect();
            prop_assert_eq!(&found, &wanted, "{}", text);
        }
    }

    #[test]
    fn nothing_that_is_read_panics(text in "[ -~\\n\\PC]{0,60}", bits in "[{}\\[\\]\":$a/=\\\\u,\\n -]{0,40}") {
        for form in [Form::Dotenv, Form::Json, Form::Yaml, Form::Properties] {
            for text in [&text, &bits] {
                // An error is as good as values.
                let _ = read(form, &place(), text, &[]);
            }
        }
    }
}

/// Asks Python: `{name: text}` per document.
fn of_python(script: &str, documents: &[String]) -> Vec<serde_json::Value> {
    let mut child = Command::new("python3")
        .args(["-c", script])
        .env("PYTHONPATH", python::forms().expect("PyYAML and python-dotenv"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    let mut input = child.stdin.take().expect("a pipe");
    let text = serde_json::to_vec(documents).expect("json");
    let writer = std::thread::spawn(move || input.write_all(&text));
    let output = child.wait_with_output().expect("python3 ends");
    writer.join().expect("a thread").expect("documents are taken");
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).expect("answers")
}

/// Many lists of entries, the same every time.
fn lists(value: impl Strategy<Value = Value>) -> Vec<Vec<Entry>> {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = entries(value);
    (0..400)
        .map(|_| strategy.new_tree(&mut runner).expect("entries").current())
        .collect()
}

#[test]
fn pyyaml_and_pythons_json_read_the_same() {
    let lists = lists(any_value());
    let write_all = |form| -> Vec<String> {
        let written = lists
            .iter()
            .map(|entries| write(form, &place(), entries).expect("written"));
        written.collect()
    };
    let yaml = of_python(
        "import json, sys, yaml\njson.dump([yaml.safe_load(text) for text in json.load(sys.stdin)], sys.stdout)",
        &write_all(Form::Yaml),
    );
    let json = of_python(
        "import json, sys\njson.dump([json.loads(text) for text in json.load(sys.stdin)], sys.stdout)",
        &write_all(Form::Json),
    );
    assert_eq!(yaml.len(), lists.len());
    let mut compared = 0;
    for (index, (yaml, json)) in yaml.iter().zip(&json).enumerate() {
        assert_eq!(yaml, json, "{}", write_all(Form::Yaml)[index]);
        compared += lists[index].len();
    }
    assert!(compared > 800, "{compared} values are hardly any");
}

#[test]
fn python_dotenv_reads_the_same() {
    // Texts that are no secrets of how the two differ: it has no `\r` that is part of a text.
    let lists: Vec<Vec<Entry>> = lists(text().prop_map(Value::text))
        .into_iter()
        .filter(|entries| is_of(Form::Dotenv, entries))
        .collect();
    let documents: Vec<String> = lists
        .iter()
        .map(|entries| write(Form::Dotenv, &place(), entries).expect("written"))
        .collect();
    let theirs = of_python(
        "import io, json, sys, dotenv\njson.dump([dotenv.dotenv_values(stream=io.StringIO(text, newline=''), interpolate=False) for text in json.load(sys.stdin)], sys.stdout)",
        &documents,
    );
    let mut compared = 0;
    for ((entries, theirs), document) in lists.iter().zip(&theirs).zip(&documents) {
        for entry in entries {
            let name = upkeep_config::forms::env_name(&place(), &entry.path).expect("below");
            let text = entry.shown.value().expect("shown").bytes.clone();
            let text = String::from_utf8(text).expect("text");
            assert_eq!(theirs[&name], text.as_str(), "{document}");
            compared += 1;
        }
    }
    assert!(compared > 500, "{compared} values are hardly any");
}
