//! A real nginx with a file that is rendered.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
};

use serde_json::json;
use upkeep_e2e::{LONG, apply, says, skipped};
use upkeep_testkit::{Home, wait_until};

use crate::{pids, set, wait_event};

/// Where Debian has it; not everybody's PATH has that folder.
const PROGRAM: &str = "/usr/sbin/nginx";

fn get(port: u16) -> String {
    let ask = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(LONG))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(text)
    };
    ask().unwrap_or_else(|error| error.to_string())
}

#[test]
fn nginx_follows_and_is_never_given_what_it_would_refuse() {
    if !Path::new(PROGRAM).exists() {
        return skipped("nginx is not there");
    }
    let home = Home::new();
    let port = TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port();
    let root = home.work().display().to_string();
    home.write(
        "nginx.conf.j2",
        &format!(
            "worker_processes 1; error_log stderr; pid {root}/nginx.pid; daemon off;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;
  uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
  server {{ listen 127.0.0.1:{port}; location / {{ return {{{{ status }}}} '{{{{ body }}}}'; }} }}
}}
"
        ),
    );
    set(&home, &[("/web/body", "hello"), ("/web/status", "200")]);
    let file = format!("{root}/nginx.conf");
    apply(
        &home,
        &[json!({
            "name": "web",
            "command": [PROGRAM, "-c", file],
            "config": {"places": "/web/", "env": false},
            "files": [{"template": "nginx.conf.j2", "to": file, "check": [PROGRAM, "-t", "-q", "-c", "{}"]}],
            "on_change": {"signal": "HUP", "wait": "100ms", "max": "1s"},
            "restart": {"min_uptime": "300ms"},
        })],
    );
    let answers = |wanted: &str| {
        wait_until(wanted, LONG, || match get(port) {
            text if text.ends_with(wanted) => Ok(()),
            text => Err(text),
        });
    };
    answers("hello");
    let before = wait_until("it to be ready", LONG, || match pids(&home, "web") {
        pids if pids.len() == 1 => Ok(pids),
        other => Err(format!("{other:?}")),
    });
    set(&home, &[("/web/body", "hello again")]);
    answers("hello again");
    let text = || std::fs::read_to_string(&file).expect("a file");
    let good = text();
    set(&home, &[("/web/status", "no-number")]);
    let refused = wait_event(&home, "web", "values_refused", 1);
    says(
        &refused[0]["why"].to_string(),
        &["check refused", "nginx.conf", "no-number"],
    );
    assert_eq!(text(), good);
    answers("hello again");
    set(&home, &[("/web/status", "200"), ("/web/body", "third")]);
    answers("third");
    assert_eq!(pids(&home, "web"), before, "one nginx all the time");
}
