//! What templates make of values, and what a difference shows.

use upkeep_config::{
    Place,
    entry::{By, Entry, Shown},
    value::{Kind, Value},
};
use upkeep_render::{
    diff::unified,
    render,
    template::{RenderError, Rendered},
    values::Values,
};

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
            at: 0.0,
            why: None,
        },
    }
}

fn value(kind: Kind, text: &str) -> Value {
    Value {
        kind,
        bytes: text.into(),
    }
}

fn values(password: &str) -> Values {
    let entries = [
        entry("db/password", Shown::Revealed(Value::text(password))),
        entry("db/url", Shown::Plain(Value::text("postgres://db1"))),
        entry(
            "limits",
            Shown::Plain(value(Kind::Json, "{\"cpu\": 2, \"tags\": [\"a\", \"b\"]}")),
        ),
        entry("log-level", Shown::Plain(Value::text("info <&>"))),
        entry("port", Shown::Plain(value(Kind::Number, "8080"))),
        entry(
            "sealed",
            Shown::Masked {
                kind: Kind::Text,
                recipients: Vec::new(),
            },
        ),
        entry(
            "tls/cert",
            Shown::Plain(Value {
                kind: Kind::File,
                bytes: vec![0xff],
            }),
        ),
        entry("up/a/host", Shown::Plain(Value::text("10.0.0.1"))),
        entry("up/b/host", Shown::Plain(Value::text("10.0.0.2"))),
    ];
    Values::new(place(), 7, &entries)
}

fn made(template: &str) -> Rendered {
    render("t", template, &values("hunter2"), false).expect("rendered")
}

fn refused(template: &str) -> RenderError {
    render("t", template, &values("hunter2"), false).expect_err(template)
}

#[test]
fn values_are_reached_by_name_and_by_path() {
    for (template, text) in [
        ("{{ db.url }}\n", "postgres://db1\n"),
        ("{{ port + 1 }}", "8081"),
        (
            "{{ get('db/url') }} {{ get('/shop/prod/port') }}",
            "postgres://db1 8080",
        ),
        ("{{ get('log-level') }}", "info <&>"),
        ("{{ limits.cpu }} {{ limits.tags | join(',') }}", "2 a,b"),
        ("{{ getv('no', 'x') }} {{ getv('port', 1) }}", "x 8080"),
        ("{{ exists('no') }} {{ exists('port') }}", "False True"),
        (
            "{% for name in ls('up') %}{{ name }}={{ get('up/' ~ name ~ '/host') }} {% endfor %}",
            "a=10.0.0.1 b=10.0.0.2 ",
        ),
        (
            "{% for name in up %}{{ up[name].host }} {% endfor %}",
            "10.0.0.1 10.0.0.2 ",
        ),
        (
            "{{ ls('db/') }}{{ ls('/shop/prod/db') }}{{ ls('no') }}",
            "['password', 'url']['password', 'url'][]",
        ),
        ("{{ no.thing | default('d') if no is defined else 'e' }}", "e"),
        ("{{ no | default('d') }}", "d"),
        ("{{ limits | tojson }}", "{\"cpu\": 2, \"tags\": [\"a\", \"b\"]}"),
        ("{{ db.password | urlencode }}", "hunter2"),
    ] {
        assert_eq!(made(template).text, text, "{template}");
    }
    assert!(made("{{ db.password }}").secret && !made("{{ db.url }}").secret);
}

/// consul-template#980: it blocks without a word on a missing key.
#[test]
fn a_missing_key_is_an_error_that_names_it() {
    for (template, error) in [
        ("a\n{{ db.host }}", "t:2: there is no `/shop/prod/db/host`"),
        ("{{ nothing.at.all }}", "t:1: there is no `/shop/prod/nothing`"),
        ("{{ get('db/host') }}", "t:1: there is no `/shop/prod/db/host`"),
        ("{{ getv('x') }}", "t:1: there is no `/shop/prod/x`"),
        ("{% if flag %}x{% endif %}", "t:1: there is no `/shop/prod/flag`"),
        (
            "{% for x in hosts %}{% endfor %}",
            "t:1: there is no `/shop/prod/hosts`",
        ),
        (
            "{{ sealed }}",
            "t:1: `/shop/prod/sealed` is a secret that was not revealed to whoever renders this",
        ),
        (
            "{{ get('sealed') | default('') }}",
            "t:1: `/shop/prod/sealed` is a secret that was not revealed to whoever renders this",
        ),
        (
            "{{ sealed | default('') }}x",
            "t:1: `/shop/prod/sealed` is a secret that was not revealed to whoever renders this",
        ),
    ] {
        assert_eq!(refused(template).to_string(), error, "{template}");
    }
    assert!(
        refused("{{ tls.cert }}")
            .to_string()
            .contains("`/shop/prod/tls/cert` is no text")
    );
    assert!(
        refused("{{ unclosed")
            .to_string()
            .starts_with("t:1: syntax error")
    );
}

/// Once a secret was read, whatever was made of it may be what is not there.
#[test]
fn what_is_missing_is_named_and_never_by_a_secret() {
    for template in [
        "{{ get(db.password) }}",
        "{{ getv(db.password) }}",
        "{{ db[db.password] }}",
        "{% set p = db.password %}{{ get('x/' ~ p) }}",
        "{% for key, value in db|items %}{{ get(value) }}{% endfor %}",
    ] {
        let error = refused(template).to_string();
        assert!(!error.contains("hunter2"), "{template}: {error}");
        assert!(error.starts_with("t:1: "), "{template}: {error}");
    }
    for template in [
        "{{ db.password }}{{ db.host }}",
        "{{ db.password }}{{ get('db/host') }}",
        "{{ db.password }}{{ get('/shop/prod/db/host') }}",
        "{{ db.password }}{{ db['host'] }}",
        "{{ db.password }}don't {% set d = db %}{{ d.host }}",
    ] {
        let error = refused(template).to_string();
        assert_eq!(error, "t:1: there is no `/shop/prod/db/host`", "{template}");
    }
}

#[test]
fn what_has_a_default_is_not_what_is_missing() {
    for asked in [
        "{{ getv('x', 'd') }}",
        "{{ x | default('d') }}",
        "{{ x | d('d') }}",
        "{{ x is defined }}",
        "{{ x is undefined }}",
    ] {
        let error = refused(&format!("{asked}{{% set m = {{}} %}}{{{{ m.y }}}}")).to_string();
        assert_eq!(error, "t:1: undefined value", "{asked}");
    }
}

/// A text that has no end is not made to the end.
#[test]
fn a_file_ends_where_it_is_too_large() {
    let before = peak();
    let error = refused("{% for n in range(9000) %}{{ '0123456789abcdef' * 8192 }}{% endfor %}").to_string();
    assert_eq!(error, "t: it makes more than 16 MiB");
    let grown = peak() - before;
    assert!(grown < 200 << 10, "{grown} KiB");
}

/// The most memory that this process has had, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("ours");
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    number.expect("a number")
}

/// consul-template#1131 and #1713: an empty file.
#[test]
fn nothing_but_blanks_is_no_file() {
    assert_eq!(
        refused(" \n{% if false %}x{% endif %}").to_string(),
        "t: it makes nothing but blanks; the file stays as it is"
    );
    assert!(render("t", "\n", &values("x"), true).is_ok());
    let none = Values::new(place(), 9, &[]);
    assert!(
        render(
            "t",
            "{% for name in ls('up') %}{{ name }}{% endfor %}",
            &none,
            false
        )
        .is_err()
    );
}

#[test]
fn a_template_cannot_run_for_ever_and_errors_repeat_no_secret() {
    let error =
        refused("{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}");
    assert!(error.to_string().contains("fuel"), "{error}");
    for template in [
        "{{ db.password.x.y }}",
        "{{ db.password + 1 }}",
        "{{ db.password | int }}",
        "{{ db.password() }}",
    ] {
        let error = refused(template);
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    assert!(!format!("{:?}", made("{{ db.password }}")).contains("hunter2"));
}

#[test]
fn a_difference_shows_what_changes_and_no_secret() {
    let template = "a\nb\nc\nport = {{ port }}\nd\n";
    let old = "a\nb\nc\nport = 80\nd\n";
    assert_eq!(
        unified("/etc/x", Some(old), &made(template), false),
        "--- /etc/x\n+++ /etc/x\n@@ -1,5 +1,5 @@\n a\n b\n c\n-port = 80\n+port = 8080\n d\n"
    );
    assert_eq!(
        unified("/etc/x", None, &made("x\n"), false),
        "--- /dev/null\n+++ /etc/x\n@@ -0,0 +1 @@\n+x\n"
    );
    assert_eq!(unified("/etc/x", Some("x\n"), &made("x\n"), false), "");
    assert!(unified("/etc/x", Some("x"), &made("x\n"), false).contains("ends of lines"));
    // A private file's old lines are shown to nobody who might not read it.
    assert!(!unified("/etc/x", Some("token = old\n"), &made("x\n"), true).contains("old"));
    let template =
        "user = app\npassword = {{ db.password }}\nurl = {{ db.password | urlencode }}@{{ db.url }}\n";
    let old = "user = app\npassword = swordfish\nurl = swordfish@postgres://db1\n";
    let shown = unified("/etc/x", Some(old), &made(template), false);
    assert!(
        !shown.contains("hunter2") && !shown.contains("swordfish"),
        "{shown}"
    );
    assert!(
        shown.contains(" user = app\n-••••••\n") && shown.contains("+password = ••••••\n"),
        "{shown}"
    );
    // What only the real secret makes something of, is not shown at all; of many lines, none.
    for (password, template) in [
        (
            "[1]",
            "{{ db.password }}{{ 1 // (db.password | length - 6) if db.password == '••••••' else 5 }}\n",
        ),
        (
            "-----BEGIN\nhunter2\nswordfish\n-----END",
            "a\n{{ db.password }}\nb\n",
        ),
    ] {
        let rendered = render("t", template, &values(password), false).expect("rendered");
        let shown = unified("/etc/x", Some("a\nb\n"), &rendered, false);
        assert!(
            !shown.contains("hunter2") && !shown.contains("swordfish") && !shown.contains("[1]"),
            "{shown}"
        );
        assert!(shown.contains("+••••••"), "{shown}");
    }
}
