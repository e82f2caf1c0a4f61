//! A whole door in this process, before copies that answer by a script.

use tokio::{
    net::{TcpListener, tcp::OwnedReadHalf},
    sync::oneshot,
    task::JoinHandle,
};

use super::*;
use crate::protocol::Upstream;

const LONG: Duration = Duration::from_secs(20);

/// Head and body of a request.
async fn request(reader: &mut BufReader<OwnedReadHalf>) -> Option<String> {
    let mut text = String::new();
    let mut length = 0;
    loop {
        let at = text.len();
        if reader.read_line(&mut text).await.ok()? == 0 {
            return None;
        }
        let line = text[at..].to_ascii_lowercase();
        if let Some(count) = line.strip_prefix("content-length:") {
            length = count.trim().parse().expect("a length");
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await.ok()?;
    text.push_str(&String::from_utf8(body).expect("text"));
    Some(text)
}

/// A copy; `says` is given the numbers of the connection and of the request on it, and the request. None: the
/// connection ends without an answer. It serves one connection at a time if `alone`.
async fn copy(alone: bool, says: impl Fn(usize, usize, &str) -> Option<String> + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let says = Rc::new(says);
    tokio::task::spawn_local(async move {
        for connection in 0.. {
            let Ok((stream, _)) = listener.accept().await else {
                return;
            };
            let says = Rc::clone(&says);
            let serve = async move {
                let (reader, mut writer) = stream.into_split();
                let mut reader = BufReader::new(reader);
                for number in 0.. {
                    let Some(request) = request(&mut reader).await else {
                        return;
                    };
                    let Some(body) = says(connection, number, &request) else {
                        return;
                    };
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                    if writer.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            };
            if alone {
                serve.await;
            } else {
                tokio::task::spawn_local(serve);
            }
        }
    });
    port
}

struct Stage {
    port: u16,
    daemon: UnixStream,
    end: Option<oneshot::Sender<()>>,
    door: JoinHandle<Result<(), DoorError>>,
}

fn settings() -> Settings {
    Settings {
        protocol: DoorProtocol::Http,
        tls: None,
        sockets: vec!["listen:web:a".to_owned()],
    }
}

impl Stage {
    async fn new(copies: &[u16]) -> Self {
        let public = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = public.local_addr().expect("an address").port();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("a socket");
        let (end, ended) = oneshot::channel();
        let until = async move {
            let _ = ended.await;
            Ok(())
        };
        let door = tokio::task::spawn_local(serve(settings(), vec![public.into()], theirs.into(), 64, until));
        let mut stage = Self {
            port,
            daemon: UnixStream::from_std(ours).expect("a socket"),
            end: Some(end),
            door,
        };
        stage.copies(copies).await;
        stage
    }

    async fn tell(&mut self, what: &ToDoor) {
        let mut line = serde_json::to_vec(what).expect("JSON");
        line.push(b'\n');
        self.daemon.write_all(&line).await.expect("to write");
    }

    async fn copies(&mut self, copies: &[u16]) {
        let upstreams = copies
            .iter()
            .map(|port| Upstream {
                id: port.to_string(),
                port: *port,
                takes: true,
            })
            .collect();
        self.tell(&ToDoor::Upstreams(upstreams)).await;
    }

    /// Waits until the door says it.
    async fn says(&mut self, what: &FromDoor) {
        let mut reader = BufReader::new(&mut self.daemon);
        let mut line = String::new();
        let heard = async {
            loop {
                line.clear();
                assert_ne!(reader.read_line(&mut line).await.expect("to read"), 0);
                if serde_json::from_str::<FromDoor>(&line).expect("JSON") == *what {
                    return;
                }
            }
        };
        tokio::time::timeout(LONG, heard).await.expect("the door says it");
    }

    /// Sends this over a connection of its own, and reads to the end of it.
    fn ask(&self, text: &str) -> impl Future<Output = String> + 'static {
        let (port, text) = (self.port, text.to_owned());
        async move {
            let exchange = async {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the door");
                // It may have answered without having heard all of it.
                let _ = stream.write_all(text.as_bytes()).await;
                let mut heard = Vec::new();
                let _ = stream.read_to_end(&mut heard).await;
                String::from_utf8_lossy(&heard).into_owned()
            };
            tokio::time::timeout(LONG, exchange).await.expect("an answer")
        }
    }
}

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";

fn on_stage(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    LocalSet::new().block_on(&runtime, test);
}

#[track_caller]
fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no `{part}` in: {text}");
    }
}

#[test]
fn what_cannot_be_repeated_does_not_go_over_a_kept_connection() {
    on_stage(async {
        // Each connection serves one request, and dies of the second.
        let port = copy(false, |_, number, request| {
            (number == 0).then(|| request.to_owned())
        })
        .await;
        let stage = Stage::new(&[port]).await;
        for _ in 0..3 {
            contains(&stage.ask(GET).await, &["200 OK"]);
            contains(&stage.ask(POST).await, &["200 OK", "\r\n\r\nhi"]);
        }
        for _ in 0..3 {
            contains(&stage.ask(GET).await, &["200 OK"]);
        }
    });
}

#[test]
fn a_repeatable_request_gets_one_more_chance() {
    on_stage(async {
        let port = copy(false, |connection, _, _| {
            (connection % 2 == 1).then(|| connection.to_string())
        });
        let port = port.await;
        let stage = Stage::new(&[port]).await;
        contains(&stage.ask(GET).await, &["200 OK", "\r\n\r\n1"]);
        let dies = copy(false, |_, _, _| None).await;
        let stage = Stage::new(&[dies]).await;
        contains(&stage.ask(GET).await, &[" 502 "]);
        let stage =
            Stage::new(&[copy(false, |connection, _, _| (connection > 0).then(String::new)).await]).await;
        contains(&stage.ask(POST).await, &[" 502 "]);
    });
}

#[test]
fn a_copy_that_serves_one_connection_at_a_time_hears_others_too() {
    on_stage(async {
        let port = copy(true, |_, _, request| Some(request.to_owned())).await;
        let stage = Stage::new(&[port]).await;
        contains(&stage.ask(GET).await, &["200 OK"]);
        contains(&stage.ask(POST).await, &["200 OK"]);
        // Somebody else, such as a probe, while no request passes the door.
        let probe = async {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the copy");
            stream.write_all(GET.as_bytes()).await.expect("to write");
            stream.read_u8().await.expect("an answer")
        };
        let heard = tokio::time::timeout(Duration::from_secs(8), probe).await;
        assert_eq!(heard.expect("the copy is free soon"), b'H');
    });
}

#[test]
fn heads_are_made_whole_and_what_lies_is_replaced() {
    on_stage(async {
        let port = copy(false, |_, _, request| Some(request.to_ascii_lowercase())).await;
        let stage = Stage::new(&[port]).await;
        let old =
            stage.ask("GET /o HTTP/1.0\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n");
        contains(
            &old.await,
            &[
                "get /o http/1.1\r\n",
                "host: localhost\r\n",
                "x-forwarded-proto: http\r\n",
                "x-forwarded-for: 9.9.9.9\r\nx-forwarded-for: 127.0.0.1\r\n",
            ],
        );
        let absolute =
            stage.ask("GET http://me@there:81/a HTTP/1.1\r\nHost: x\r\nConnection: close, host\r\n\r\n");
        contains(&absolute.await, &["get /a http/1.1\r\n", "host: there:81\r\n"]);
        for bad in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
        ] {
            let refused = stage.ask(&bad.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
            contains(&refused.await, &[" 400 "]);
        }
        // Two lengths: the chunked one holds, the other does not travel, and nothing that follows is a request.
        let hears = Rc::new(RefCell::new(String::new()));
        let all = Rc::clone(&hears);
        let port = copy(false, move |_, _, request| {
            all.borrow_mut().push_str(&request.to_ascii_lowercase());
            Some(String::new())
        });
        let stage = Stage::new(&[port.await]).await;
        let both = stage.ask(
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n",
        );
        let both = both.await;
        contains(&both, &["200 OK", "connection: close"]);
        let hears = hears.take();
        contains(&hears, &["post / ", "transfer-encoding: chunked"]);
        assert!(
            !hears.contains("content-length") && !hears.contains("get /b"),
            "{hears}"
        );
        let huge = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "x".repeat(200_000));
        contains(&stage.ask(&huge).await, &[" 431 "]);
        let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(200));
        contains(&stage.ask(&many).await, &[" 431 "]);
    });
}

#[test]
fn a_door_that_ends_finishes_what_waits_and_what_is_under_way() {
    on_stage(async {
        let body = "x".repeat(4 << 20);
        let answer = body.clone();
        let port = copy(false, move |_, _, _| Some(answer.clone())).await;
        let mut stage = Stage::new(&[]).await;
        let kept = TcpStream::connect(("127.0.0.1", stage.port))
            .await
            .expect("the door");
        let waits = tokio::task::spawn_local(stage.ask(&GET.replace("Connection: close\r\n", "")));
        // Until the door has both, at least in its backlog, there is nothing to be seen from outside.
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(stage.end.take());
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!stage.door.is_finished(), "a request waits for a copy");
        stage.copies(&[port]).await;
        let heard = waits.await.expect("an answer");
        assert!(heard.ends_with(&body), "{} bytes", heard.len());
        let ended = tokio::time::timeout(LONG, &mut stage.door)
            .await
            .expect("it ends");
        assert!(ended.expect("no panic").is_ok());
        drop(kept);
    });
}

#[test]
fn settings_change_while_it_runs_and_other_sockets_need_another_door() {
    on_stage(async {
        let port = copy(false, |_, _, request| Some(request.to_owned())).await;
        let mut stage = Stage::new(&[port]).await;
        contains(&stage.ask(GET).await, &["x-forwarded-proto"]);
        // Half a line of a daemon that died, and the beginning of the next one.
        stage
            .daemon
            .write_all(b"{\"upstreams\":[\n")
            .await
            .expect("to write");
        let missing = std::path::PathBuf::from("/nonexistent/upkeep.pem");
        let tls = Some((missing.clone(), missing));
        stage
            .tell(&ToDoor::Settings(Settings { tls, ..settings() }))
            .await;
        stage
            .tell(&ToDoor::Settings(Settings {
                sockets: Vec::new(),
                ..settings()
            }))
            .await;
        stage.says(&FromDoor::Stale).await;
        contains(&stage.ask(GET).await, &["x-forwarded-proto"]);
        let protocol = DoorProtocol::Tcp;
        stage
            .tell(&ToDoor::Settings(Settings {
                protocol,
                ..settings()
            }))
            .await;
        // An answer to this line says that the one before was heard.
        stage
            .tell(&ToDoor::Upstreams(vec![Upstream {
                id: "none".to_owned(),
                port: 1,
                takes: false,
            }]))
            .await;
        let id = "none".to_owned();
        stage.says(&FromDoor::Drained { id }).await;
        stage.copies(&[port]).await;
        let mut stream = TcpStream::connect(("127.0.0.1", stage.port))
            .await
            .expect("the door");
        stream.write_all(GET.as_bytes()).await.expect("to write");
        let mut heard = [0; 256];
        let read = tokio::time::timeout(LONG, stream.read(&mut heard)).await;
        let count = read.expect("in time").expect("an answer");
        let heard = String::from_utf8_lossy(&heard[..count]).into_owned();
        assert!(
            heard.contains("200 OK") && !heard.contains("x-forwarded"),
            "{heard}"
        );
    });
}

#[test]
fn descriptors_are_enough_for_the_clients() {
    assert_eq!(clients(1024), 480);
    assert_eq!(clients(10), 16);
    assert_eq!(clients(u64::MAX), CLIENTS_MAX);
}
