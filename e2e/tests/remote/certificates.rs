//! TLS, the machine's own authority, and certificates of callers, as openssl and curl see them.

use std::{os::unix::fs::PermissionsExt, process::Command};

use serde_json::Value;
use upkeep_e2e::{LONG, app, apply, ended, events, is_root, kill_daemon, says, skipped, wait_running};
use upkeep_testkit::{Following, Home, wait_until};

use crate::{address, curl, encrypted, listening, run, run_ok, set, token};

/// The certificate of the authority in a file.
fn authority(home: &Home) -> String {
    home.ok(["cert", "export-ca", "-o", "ca.pem"]);
    "ca.pem".to_owned()
}

/// A certificate of an authority that openssl makes: its files.
fn foreign(home: &Home, name: &str, days: &str) -> (String, String) {
    let (cert, key) = (format!("{name}.crt"), format!("{name}.key"));
    run_ok(
        home,
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            &key,
            "-out",
            &cert,
            "-days",
            days,
            "-subj",
            "/CN=laptop",
            "-addext",
            "subjectAltName=IP:127.0.0.1,DNS:localhost",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ],
    );
    (cert, key)
}

/// What `openssl s_client` sees.
fn s_client(home: &Home, url: &str, more: &[&str]) -> String {
    let at = address(url).to_string();
    let mut args = vec!["s_client", "-connect", &at, "-CAfile", "ca.pem", "-brief"];
    args.extend(more);
    let output = run(home, "openssl", &args);
    format!("{}{}", output.stdout, output.stderr)
}

#[test]
fn only_new_versions_of_tls_and_a_chain_that_is_right() {
    let home = Home::new();
    let url = encrypted(&home);
    authority(&home);
    for (version, shown) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let said = s_client(&home, &url, &[version]);
        says(
            &said,
            &["Verification: OK", &format!("Protocol version: {shown}")],
        );
    }
    for version in ["-tls1_1", "-tls1"] {
        let said = s_client(&home, &url, &[version, "-cipher", "ALL:@SECLEVEL=0"]);
        assert!(said.contains(" alert "), "{said}");
        assert!(!said.contains("CONNECTION ESTABLISHED"), "{said}");
    }
    // The authority goes with it, and its key is nobody else's.
    let key = home.path().join("tls/authority.key");
    assert_eq!(
        std::fs::metadata(&key).expect("it is there").permissions().mode() & 0o777,
        0o600
    );
    let text = run_ok(&home, "openssl", &["x509", "-in", "ca.pem", "-noout", "-text"]);
    says(&text, &["CA:TRUE", "pathlen:0", "Certificate Sign", "prime256v1"]);
    // HTTP/2 where it is offered, and the same answers.
    let (health, bearer) = (format!("{url}/v1/whoami"), token(&home, "viewer"));
    let auth = format!("Authorization: Bearer {bearer}");
    for version in ["--http2", "--http1.1"] {
        let who = curl(&home, &[version, "--cacert", "ca.pem", "-H", &auth, &health]);
        assert_eq!(who["roles"][0], "viewer");
    }
    let proto = [
        "-sS",
        "--cacert",
        "ca.pem",
        "-o",
        "/dev/null",
        "-w",
        "%{http_version}",
        &health,
    ];
    assert_eq!(run_ok(&home, "curl", &proto), "2");
    // Another authority is not believed.
    foreign(&home, "other", "2");
    let wrong = run(&home, "curl", &["-sS", "--cacert", "other.crt", &health]);
    assert_eq!(wrong.code, 60, "{wrong:#?}");
    // Nor is another name, with HTTP/2 too.
    let port = address(&url).port();
    let resolve = format!("evil.example:{port}:127.0.0.1");
    let evil = format!("https://evil.example:{port}/v1/whoami");
    let answer = curl(&home, &["-k", "--resolve", &resolve, "-H", &auth, &evil]);
    assert_eq!(answer["code"], "forbidden");
}

#[test]
fn certificates_of_callers_let_in_until_they_are_revoked() {
    let home = Home::new();
    let url = encrypted(&home);
    authority(&home);
    let issued = home.json(["cert", "issue", "laptop", "--role", "operator", "--days", "30"]);
    let serial = issued["certificate"]["serial"]
        .as_str()
        .expect("a number")
        .to_owned();
    let file = home.work().join("laptop.pem");
    assert_eq!(
        std::fs::metadata(&file)
            .expect("it was written")
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    run_ok(
        &home,
        "openssl",
        &[
            "verify",
            "-CAfile",
            "ca.pem",
            "-purpose",
            "sslclient",
            "laptop.pem",
        ],
    );
    let whoami = format!("{url}/v1/whoami");
    let with = ["--cacert", "ca.pem", "--cert", "laptop.pem", &whoami];
    let who = curl(&home, &with);
    assert_eq!(
        (&who["principal"], &who["roles"][0]),
        (&"cert:laptop".into(), &"operator".into())
    );
    // Who has none is nobody.
    assert_eq!(
        curl(&home, &["--cacert", "ca.pem", &whoami])["code"],
        "unauthenticated"
    );
    // A name is written once, and a file is not written over.
    ended(&home.cmd(["cert", "issue", "laptop"]), 6);
    ended(&home.cmd(["cert", "issue", "a/b", "-o", "x.pem"]), 4);
    ended(
        &home.cmd(["cert", "issue", "b", "--role", "nothing", "-o", "x.pem"]),
        4,
    );
    assert!(!home.work().join("x.pem").exists());
    // One that another authority made, one that ours would have made: what is not in the list is none of ours.
    let (cert, key) = foreign(&home, "foreign", "2");
    let refused = run(
        &home,
        "curl",
        &[
            "-sS", "--cacert", "ca.pem", "--cert", &cert, "--key", &key, &whoami,
        ],
    );
    assert_ne!(refused.code, 0, "{refused:#?}");
    says(&refused.stderr, &["alert"]);
    run_ok(
        &home,
        "openssl",
        &[
            "req",
            "-new",
            "-key",
            &key,
            "-subj",
            "/CN=laptop",
            "-out",
            "forged.csr",
        ],
    );
    let tls = home.path().join("tls");
    let (ca, ca_key) = (tls.join("authority.pem"), tls.join("authority.key"));
    home.write("client.ext", "extendedKeyUsage=clientAuth\n");
    run_ok(
        &home,
        "openssl",
        &[
            "x509",
            "-req",
            "-in",
            "forged.csr",
            "-CA",
            &ca.display().to_string(),
            "-CAkey",
            &ca_key.display().to_string(),
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "client.ext",
            "-out",
            "forged.crt",
        ],
    );
    let refused = run(
        &home,
        "curl",
        &[
            "-sS",
            "--cacert",
            "ca.pem",
            "--cert",
            "forged.crt",
            "--key",
            &key,
            &whoami,
        ],
    );
    assert_ne!(refused.code, 0, "{refused:#?}");
    says(&refused.stderr, &["revoked"]);
    // A stream that was begun with it ends with it.
    let mut stream = event_stream(&home, &url, &["--cert", "laptop.pem"]);
    home.ok(["cert", "issue", "other"]);
    apply(&home, &[app(&home, "shop", &["wait"])]);
    stream.line_with("shop", LONG);
    let revoked = home.cmd(["cert", "revoke", &serial, "--reason", "lost"]);
    ended(&revoked, 0);
    stream.wait(LONG);
    let refused = run(
        &home,
        "curl",
        &["-sS", "--cacert", "ca.pem", "--cert", "laptop.pem", &whoami],
    );
    assert_ne!(refused.code, 0, "{refused:#?}");
    says(&refused.stderr, &["revoked"]);
    // So it is for the next daemon.
    kill_daemon(home.keeper_pid());
    let url = listening(&home, "api");
    let whoami = format!("{url}/v1/whoami");
    let refused = run(
        &home,
        "curl",
        &["-sS", "--cacert", "ca.pem", "--cert", "laptop.pem", &whoami],
    );
    says(&refused.stderr, &["revoked"]);
    let who = curl(&home, &["--cacert", "ca.pem", "--cert", "other.pem", &whoami]);
    assert_eq!(who["principal"], "cert:other");
    let list = home.json(["cert", "show"]);
    let revoked: Vec<bool> = list["issued"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["revoked_at"].is_f64())
        .collect();
    assert_eq!(revoked, [true, false], "{list}");
    let told: Vec<Value> = events(&home);
    for what in ["authority_made", "certificate_issued", "certificate_revoked"] {
        assert!(told.iter().any(|event| event["what"] == what), "{what}: {told:?}");
    }
    ended(&home.cmd(["cert", "revoke", "nobody"]), 3);
    ended(&home.cmd(["cert", "revoke", "laptop"]), 0);
}

#[test]
fn a_certificate_is_no_way_to_more_than_one_holds() {
    let home = Home::new();
    let url = encrypted(&home);
    authority(&home);
    home.ok(["cert", "issue", "boss", "--role", "admin"]);
    // Whoever may write access, but holds little else, becomes nobody who holds more.
    let bearer = format!("Authorization: Bearer {}", token(&home, "admin"));
    let role = format!("{url}/v1/roles/clerk");
    let grants =
        r#"{"grants": [{"verbs": ["access:write", "access:read"], "apps": ["*"], "namespaces": ["*"]}]}"#;
    curl(
        &home,
        &[
            "--cacert", "ca.pem", "-H", &bearer, "-X", "PUT", "-d", grants, &role,
        ],
    );
    let clerk = format!("Authorization: Bearer {}", token(&home, "clerk"));
    run_ok(
        &home,
        "openssl",
        &[
            "ecparam",
            "-name",
            "prime256v1",
            "-genkey",
            "-noout",
            "-out",
            "mine.key",
        ],
    );
    let public = run_ok(&home, "openssl", &["ec", "-in", "mine.key", "-pubout"]);
    let ask = |body: &Value| -> Value {
        let text = body.to_string();
        let certificates = format!("{url}/v1/certificates");
        curl(
            &home,
            &["--cacert", "ca.pem", "-H", &clerk, "-d", &text, &certificates],
        )
    };
    let boss = ask(&serde_json::json!({"name": "boss", "public_key": public}));
    assert_eq!(boss["code"], "forbidden", "{boss}");
    let admin = ask(&serde_json::json!({"name": "me", "public_key": public, "role": "admin"}));
    assert_eq!(admin["code"], "forbidden", "{admin}");
    let plain = ask(&serde_json::json!({"name": "me", "public_key": public}));
    assert!(plain["pem"].is_string(), "{plain}");
    let wrong = ask(&serde_json::json!({"name": "you", "public_key": "nothing"}));
    assert_eq!(wrong["code"], "invalid", "{wrong}");
    // A key that was made elsewhere works, and never came here.
    home.write("mine.crt", plain["pem"].as_str().expect("PEM"));
    let whoami = format!("{url}/v1/whoami");
    let who = curl(
        &home,
        &[
            "--cacert", "ca.pem", "--cert", "mine.crt", "--key", "mine.key", &whoami,
        ],
    );
    assert_eq!(who["principal"], "cert:me");
}

/// Events as they come, over TLS; returned once the first of them would be heard.
fn event_stream(home: &Home, url: &str, more: &[&str]) -> Following {
    let mut command = Command::new("curl");
    command
        .args(["-vsSN", "--cacert", "ca.pem", "-H", "Accept: text/event-stream"])
        .args(more)
        .arg(format!("{url}/v1/events?follow=true"))
        .current_dir(home.work());
    let stream = Following::start(command);
    let mut said = Vec::new();
    wait_until("the head of the stream", LONG, || {
        said.extend(stream.errors());
        if said.iter().any(|line| line.starts_with("< HTTP/2 200")) {
            Ok(())
        } else {
            Err(format!("{said:?}"))
        }
    });
    stream
}

/// Number of the certificate that the listener shows.
fn shown(home: &Home, url: &str) -> String {
    let at = address(url).to_string();
    let script = format!(
        "openssl s_client -connect {at} </dev/null 2>/dev/null | openssl x509 -noout -serial -ext subjectAltName"
    );
    run_ok(home, "sh", &["-c", &script])
}

#[test]
fn a_renewal_drops_nobody() {
    let home = Home::new();
    apply(&home, &[app(&home, "shop", &["wait"])]);
    wait_running(&home, "shop", 1);
    let url = encrypted(&home);
    authority(&home);
    let auth = format!("Authorization: Bearer {}", token(&home, "viewer"));
    let before = shown(&home, &url);
    let stream = event_stream(&home, &url, &["-H", &auth]);
    home.ok(["restart", "shop"]);
    stream.line_with("\"restart\"", LONG);
    home.ok(["cert", "renew"]);
    let after = shown(&home, &url);
    assert_ne!(before, after);
    // The stream goes on with what it was begun with.
    home.ok(["stop", "shop"]);
    stream.line_with("\"stop\"", LONG);
    // A name more is another certificate, without being asked.
    set(
        &home,
        "web: {listen: ['127.0.0.1:0'], tls: true, names: [web1.example.org]}",
    );
    wait_until("a certificate with the new name", LONG, || {
        let shown = shown(&home, &url);
        if shown.contains("DNS:web1.example.org") {
            Ok(())
        } else {
            Err(shown)
        }
    });
    home.ok(["start", "shop"]);
    stream.line_with("\"start\"", LONG);
    drop(stream);
    // It comes back from its files, as long as they are whole.
    let before = shown(&home, &url);
    kill_daemon(home.keeper_pid());
    assert_eq!(shown(&home, &listening(&home, "api")), before);
    std::fs::write(home.path().join("tls/server.key"), "torn").expect("our own");
    kill_daemon(home.keeper_pid());
    let again = shown(&home, &listening(&home, "api"));
    assert!(again.contains("serial=") && again != before, "{again}");
    // A new key beside the old certificate, as a kill between the two leaves it.
    let file = home.path().join("tls/server.pem");
    let old = std::fs::read(&file).expect("it is there");
    home.ok(["cert", "renew"]);
    std::fs::write(&file, old).expect("our own");
    kill_daemon(home.keeper_pid());
    let url = listening(&home, "api");
    let fresh = shown(&home, &url);
    assert!(fresh.contains("serial=") && fresh != again, "{fresh}");
    let whoami = format!("{url}/v1/whoami");
    let who = curl(&home, &["--cacert", "ca.pem", "-H", &auth, &whoami]);
    assert_eq!(who["roles"][0], "viewer", "{who}");
    assert!(home.json(["cert", "show"])["trouble"].is_null());
}

#[test]
fn a_look_writes_nothing_and_says_what_would_be_done() {
    let home = Home::new();
    home.ok(["ls"]);
    let tls = home.path().join("tls");
    let would = home.cmd(["cert", "init", "--dry-run"]);
    ended(&would, 0);
    says(&would.stderr, &["would be done: authority_made: Upkeep "]);
    let would = home.cmd(["cert", "issue", "laptop", "--role", "operator", "--dry-run"]);
    ended(&would, 0);
    says(
        &would.stderr,
        &[
            "would be done: authority_made: Upkeep ",
            "would be done: role_granted: operator: cert:laptop",
            "would be done: certificate_issued: laptop",
        ],
    );
    assert!(!tls.exists(), "a look has made the authority");
    assert!(!home.work().join("laptop.pem").exists());
    let list = home.json(["cert", "show"]);
    assert!(list["authority"].is_null(), "{list}");
    let told = events(&home);
    assert!(
        !told.iter().any(|event| event["what"] == "authority_made"),
        "{told:?}"
    );
    // Then it is done, by somebody and for a reason.
    let made = home.json(["cert", "init", "--reason", "a new machine"]);
    assert!(made["authority"]["fingerprint"].is_string(), "{made}");
    let told = events(&home);
    let event = told
        .iter()
        .find(|event| event["what"] == "authority_made")
        .expect("an event");
    assert_eq!(event["id"], made["event"], "{made}");
    assert_eq!(event["why"], "a new machine");
    assert!(
        event["who"].as_str().is_some_and(|who| who.starts_with("uid:")),
        "{event}"
    );
    // Once more is nothing.
    for args in [&["cert", "init"][..], &["cert", "init", "--dry-run"]] {
        let again = home.json(args);
        assert_eq!(again["changes"], serde_json::json!([]), "{again}");
        assert_eq!(again["authority"], made["authority"]);
    }
}

#[test]
fn a_certificate_ends_with_whoever_had_it_made() {
    let home = Home::new();
    let url = encrypted(&home);
    authority(&home);
    let made = home.json(["token", "create", "short", "--role", "admin", "--expires", "2d"]);
    let end = made["token"]["expires_at"].as_f64().expect("an end");
    let bearer = format!(
        "Authorization: Bearer {}",
        made["secret"].as_str().expect("a secret")
    );
    run_ok(
        &home,
        "openssl",
        &[
            "ecparam",
            "-name",
            "prime256v1",
            "-genkey",
            "-noout",
            "-out",
            "mine.key",
        ],
    );
    let public = run_ok(&home, "openssl", &["ec", "-in", "mine.key", "-pubout"]);
    let ask = |path: &str, more: &[&str], body: &Value| -> Value {
        let (text, at) = (body.to_string(), format!("{url}{path}"));
        let mut args = vec!["--cacert", "ca.pem"];
        args.extend(more);
        args.extend(["-d", &text, &at]);
        curl(&home, &args)
    };
    let with_token = ["-H", &bearer];
    let long = serde_json::json!({"name": "me", "public_key": public, "days": 3, "role": "admin"});
    let refused = ask("/v1/certificates", &with_token, &long);
    assert_eq!(refused["code"], "forbidden", "{refused}");
    says(
        &refused.to_string(),
        &["a certificate for `me` would last longer than `token:short` itself"],
    );
    // What a member holds has no end, and neither has a role: whoever ends gives neither, unless they may do all that there is.
    home.ok([
        "role",
        "set",
        "clerk",
        "--verb",
        "access:*",
        "--verb",
        "apps:read",
    ]);
    let made = home.json(["token", "create", "clerk", "--role", "clerk", "--expires", "2d"]);
    let clerk = format!(
        "Authorization: Bearer {}",
        made["secret"].as_str().expect("a secret")
    );
    let reads = serde_json::json!({"grants": [{"verbs": ["apps:read"]}]});
    let role = ask("/v1/roles/mine", &["-H", &clerk, "-X", "PUT"], &reads);
    says(
        &role.to_string(),
        &[
            "forbidden",
            "the role `mine` would last longer than `token:clerk` itself",
        ],
    );
    home.ok(["role", "set", "mine", "--verb", "apps:read"]);
    let member = ask(
        "/v1/roles/mine/members/uid:4294967",
        &["-H", &clerk, "-X", "PUT"],
        &serde_json::json!({}),
    );
    says(
        &member.to_string(),
        &[
            "forbidden",
            "that `uid:4294967` holds the role `mine` would last longer",
        ],
    );
    let body = serde_json::json!({"name": "me", "public_key": public, "role": "admin"});
    let issued = ask("/v1/certificates", &with_token, &body);
    let until = issued["certificate"]["not_after"].as_f64().expect("an end");
    assert!(until <= end && until > end - 60.0, "{until} and {end}");
    // Nor does what is made with it last longer.
    home.write("mine.crt", issued["pem"].as_str().expect("PEM"));
    let with_cert = ["--cert", "mine.crt", "--key", "mine.key"];
    let token = serde_json::json!({"name": "stays", "roles": ["viewer"]});
    let refused = ask("/v1/tokens", &with_cert, &token);
    assert_eq!(refused["code"], "forbidden", "{refused}");
    let again = ask(
        "/v1/certificates",
        &with_cert,
        &serde_json::json!({"name": "other", "public_key": public}),
    );
    let later = again["certificate"]["not_after"].as_f64().expect("an end");
    assert!(later <= until, "{later} and {until}");
}

#[test]
fn a_certificate_of_somebody_else_is_served_and_read_again() {
    let home = Home::new();
    let (cert, key) = foreign(&home, "web", "30");
    set(
        &home,
        &format!("web: {{listen: ['127.0.0.1:0'], tls: true, cert_file: {cert}, key_file: {key}}}"),
    );
    let url = listening(&home, "api");
    let whoami = format!("{url}/v1/whoami");
    assert_eq!(
        curl(&home, &["--cacert", &cert, &whoami])["code"],
        "unauthenticated"
    );
    let list = home.json(["cert", "show"]);
    assert_eq!(list["server"]["source"], "file", "{list}");
    assert!(list["authority"].is_null(), "none of ours is needed: {list}");
    ended(&home.cmd(["cert", "renew"]), 6);
    // Certificates of callers are still ours, from the first one on.
    home.ok(["cert", "issue", "laptop"]);
    let who = wait_until("the listener to ask for certificates", LONG, || {
        let who = curl(&home, &["--cacert", &cert, "--cert", "laptop.pem", &whoami]);
        if who["principal"] == "cert:laptop" {
            Ok(who)
        } else {
            Err(who.to_string())
        }
    });
    assert_eq!(who["roles"], serde_json::json!([]));
    // A key that others can read is refused.
    let open = home.work().join(&key);
    std::fs::set_permissions(&open, PermissionsExt::from_mode(0o644)).expect("our own");
    let file = home.work().join("settings.yaml");
    let refused = home.cmd(["settings", "set", &file.display().to_string()]);
    ended(&refused, 4);
    says(&refused.stderr, &["holds a secret", "mode 644"]);
}

#[test]
fn addresses_of_the_network_speak_tls_and_stand_in_the_certificate() {
    if !is_root() {
        return skipped("network namespaces need root");
    }
    let home = Home::new();
    // A network of its own, with an address that is no loopback.
    let mut start = Command::new("unshare");
    start
        .args([
            "-n",
            "sh",
            "-c",
            "ip link set lo up && ip addr add 192.0.2.1/32 dev lo && exec \"$0\" ls",
        ])
        .arg(home.upkeep())
        .current_dir(home.work())
        .env("UPKEEP_HOME", home.path())
        .env("HOME", home.work());
    let output = home.finish(start, LONG);
    if output.stderr.contains("unshare") || output.stderr.contains("RTNETLINK") {
        return skipped("there are no network namespaces here");
    }
    ended(&output, 0);
    home.ok([
        "web",
        "--listen",
        "192.0.2.1:9616",
        "--health-port",
        "192.0.2.1:9615",
    ]);
    assert_eq!(listening(&home, "api"), "https://192.0.2.1:9616");
    authority(&home);
    let keeper = home.keeper_pid().to_string();
    let inside = |args: &[&str]| {
        let all: Vec<&str> = ["-t", &keeper, "-n", "curl", "-sS", "--max-time", "20"]
            .iter()
            .chain(args)
            .copied()
            .collect();
        run(&home, "nsenter", &all)
    };
    let health = inside(&["--cacert", "ca.pem", "https://192.0.2.1:9616/healthz"]);
    assert_eq!((health.code, health.stdout.as_str()), (0, "ok\n"), "{health:#?}");
    let plain = inside(&["http://192.0.2.1:9616/healthz"]);
    assert_ne!(plain.code, 0, "{plain:#?}");
    // Elsewhere PM2's JSON is for those who may see it.
    let pm2 = inside(&["--cacert", "ca.pem", "https://192.0.2.1:9615/"]);
    says(&pm2.stdout, &["unauthenticated"]);
    let auth = format!("Authorization: Bearer {}", token(&home, "viewer"));
    let pm2 = inside(&["--cacert", "ca.pem", "-H", &auth, "https://192.0.2.1:9615/"]);
    says(&pm2.stdout, &["system_info"]);
    let shown = home.json(["cert", "show"]);
    let names = shown["server"]["names"].to_string();
    says(&names, &["192.0.2.1", "127.0.0.1", "localhost"]);
}
