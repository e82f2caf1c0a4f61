//! Figures and log lines are pushed by OTLP: to a receiver that takes the protobuf apart, refuses at first, is away, or
//! does not like a line; across kills of the daemon.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse},
        metrics::v1::ExportMetricsServiceRequest,
    },
    common::v1::{AnyValue, KeyValue, any_value},
    logs::v1::LogRecord,
    metrics::v1::{AggregationTemporality, NumberDataPoint, metric::Data, number_data_point},
};
use prost::Message;
use serde_json::{Value, json};
use upkeep_e2e::{LONG, app, apply, events, kill_daemon};
use upkeep_testkit::{Home, wait_until};

/// By whose they are and their name: data, and its points.
type Figures = BTreeMap<(String, String), (Data, Vec<NumberDataPoint>)>;

/// One request.
struct Asked {
    /// `POST /v1/logs HTTP/1.1`, and headers.
    head: String,
    body: Vec<u8>,
}

impl Asked {
    fn lines(&self) -> Option<Vec<Line>> {
        if !self.head.contains("/v1/logs ") {
            return None;
        }
        let request = ExportLogsServiceRequest::decode(&*self.body).expect("protobuf");
        let mut lines = Vec::new();
        for resource in request.resource_logs {
            let about = texts(&resource.resource.expect("a resource").attributes);
            for scope in resource.scope_logs {
                for record in scope.log_records {
                    lines.push(Line {
                        about: about.clone(),
                        text: text(record.body.as_ref()),
                        record,
                    });
                }
            }
        }
        Some(lines)
    }

    /// By `service.instance.id` (or `service.name`) and name: the points.
    fn figures(&self) -> Option<Figures> {
        if !self.head.contains("/v1/metrics ") {
            return None;
        }
        let request = ExportMetricsServiceRequest::decode(&*self.body).expect("protobuf");
        let mut figures = BTreeMap::new();
        for resource in request.resource_metrics {
            let about = texts(&resource.resource.expect("a resource").attributes);
            assert!(!about["host.name"].is_empty(), "{about:?}");
            let id = about
                .get("service.instance.id")
                .unwrap_or_else(|| &about["service.name"]);
            for metric in resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                let data = metric.data.expect("data");
                let points = match &data {
                    Data::Gauge(gauge) => gauge.data_points.clone(),
                    Data::Sum(sum) => sum.data_points.clone(),
                    other => panic!("{other:?}"),
                };
                let before = figures.insert((id.clone(), metric.name), (data, points));
                assert!(before.is_none(), "twice");
            }
        }
        Some(figures)
    }
}

#[derive(Clone, Debug)]
struct Line {
    about: BTreeMap<String, String>,
    text: String,
    record: LogRecord,
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        other => panic!("{other:?}"),
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let pairs = attributes.iter();
    pairs
        .map(|pair| (pair.key.clone(), text(pair.value.as_ref())))
        .collect()
}

/// Status line with headers, and a body.
type Answer = (&'static str, Vec<u8>);

const TAKEN: Answer = ("200 OK", Vec::new());

/// Requests that were answered by 200.
type Taken = Arc<Mutex<Vec<Asked>>>;

fn ask(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { head, body })
}

/// A receiver on that address; what it took is kept.
fn receiver(address: &str, mut answer: impl FnMut(&Asked) -> Answer + Send + 'static) -> (SocketAddr, Taken) {
    let listener = TcpListener::bind(address).expect("loopback");
    let address = listener.local_addr().expect("bound");
    let taken = Taken::default();
    let kept = Arc::clone(&taken);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let Some(asked) = ask(&stream) else { continue };
            let (status, body) = answer(&asked);
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
            // A daemon that was killed does not have the answer: what it asked is kept all the same, and comes again.
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
            if status.starts_with("200") {
                kept.lock().expect("no panic").push(asked);
            }
        }
    });
    (address, taken)
}

fn lines_of(taken: &Taken) -> Vec<Line> {
    let taken = taken.lock().expect("no panic");
    taken.iter().filter_map(Asked::lines).flatten().collect()
}

fn set(home: &Home, settings: &Value) {
    let file = home.write("settings.json", &settings.to_string());
    home.ok(["settings", "set", &file.display().to_string()]);
}

fn told(home: &Home, what: &str) -> Vec<Value> {
    let mut events = events(home);
    events.retain(|event| event["what"] == what);
    events
}

fn wait_told(home: &Home, what: &str) -> Value {
    wait_until(what, LONG, || {
        told(home, what).pop().ok_or_else(|| "no such event".to_owned())
    })
}

/// Numbers of lines `shop 0000001 …`.
fn numbers(lines: &[Line]) -> BTreeSet<u32> {
    let number = |line: &Line| line.text.strip_prefix("shop ")?.split(' ').next()?.parse().ok();
    lines.iter().filter_map(number).collect()
}

fn private(home: &Home, name: &str, text: &str, mode: u32) -> String {
    let path = home.write(name, text);
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("our own file");
    path.display().to_string()
}

#[test]
fn all_figures_and_lines_arrive_though_the_receiver_refuses_and_daemons_die() {
    let home = Home::new();
    let mut count = 0;
    let (address, taken) = receiver("127.0.0.1:0", move |asked| {
        assert!(
            asked.head.contains("authorization: Bearer s3cret\r\n"),
            "{}",
            asked.head
        );
        assert!(
            asked.head.contains("content-type: application/x-protobuf\r\n"),
            "{}",
            asked.head
        );
        assert!(asked.head.starts_with("POST /base/v1/"), "{}", asked.head);
        count += 1;
        if count <= 4 {
            ("503 Service Unavailable\r\nretry-after: 1", Vec::new())
        } else {
            TAKEN
        }
    });
    let headers = private(&home, "headers", "authorization: Bearer s3cret\n", 0o600);
    set(
        &home,
        &json!({"otlp": {
            "endpoint": format!("http://{address}/base/"), "headers_file": headers, "interval": "1s", "logs": true,
        }}),
    );
    let script = [
        "write-lines",
        "3000",
        "--rate",
        "1000/s",
        "--prefix",
        "shop",
        "print-err",
        "oh no",
        "wait",
    ];
    apply(&home, &[app(&home, "shop", &script)]);
    let keeper = home.keeper_pid();
    wait_until("the first lines", LONG, || {
        let there = numbers(&lines_of(&taken)).len();
        if there > 0 { Ok(()) } else { Err(there) }.map_err(|there| there.to_string())
    });
    kill_daemon(keeper);
    wait_until("all lines", LONG, || {
        let lines = lines_of(&taken);
        let there = numbers(&lines).len();
        if there == 3000 && lines.iter().any(|line| line.text == "oh no") {
            Ok(())
        } else {
            Err(there.to_string())
        }
    });
    let lines = lines_of(&taken);
    let line = lines
        .iter()
        .find(|line| line.text == "oh no")
        .expect("it is there");
    assert_eq!(line.about["service.name"], "shop");
    assert_eq!(line.about["service.instance.id"], "shop:0");
    assert_eq!(texts(&line.record.attributes)["log.iostream"], "stderr");
    assert_eq!(
        (line.record.severity_number, line.record.severity_text.as_str()),
        (17, "ERROR")
    );
    let now = u64::try_from(
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970")
            .as_nanos(),
    )
    .expect("before 2554");
    assert!(line.record.time_unix_nano.abs_diff(now) < 120_000_000_000);

    // Figures of two pushes by the daemon that lives.
    let newest = || {
        let taken = taken.lock().expect("no panic");
        let mut figures: Vec<_> = taken.iter().filter_map(Asked::figures).collect();
        figures.retain(|figures| figures.contains_key(&name("shop:0", "upkeep.instance.cpu.time")));
        figures
    };
    let before = newest().len();
    let figures = wait_until("two more pushes of figures", LONG, || {
        let figures = newest();
        if figures.len() >= before + 2 {
            Ok(figures)
        } else {
            Err(figures.len().to_string())
        }
    });
    let [.., one, two] = &figures[..] else {
        panic!("two of them");
    };
    for (whose, name_of) in [
        ("shop:0", "upkeep.instance.cpu.time"),
        ("upkeep", "upkeep.host.cpu.time"),
    ] {
        let (data, points) = &two[&name(whose, name_of)];
        let Data::Sum(sum) = data else {
            panic!("{data:?}");
        };
        assert!(sum.is_monotonic);
        assert_eq!(
            sum.aggregation_temporality,
            i32::from(AggregationTemporality::Cumulative)
        );
        let (point, earlier) = (&points[0], &one[&name(whose, name_of)].1[0]);
        assert!(point.start_time_unix_nano > 0 && point.start_time_unix_nano <= earlier.time_unix_nano);
        assert_eq!(point.start_time_unix_nano, earlier.start_time_unix_nano);
        assert!(point.time_unix_nano > earlier.time_unix_nano);
        assert!(number(point) >= number(earlier));
    }
    assert!(number(&two[&name("upkeep", "upkeep.host.cpu.time")].1[0]) > 0.0);
    assert!((number(&two[&name("shop:0", "upkeep.instance.up")].1[0]) - 1.0).abs() < 1e-9);
    assert!(number(&two[&name("shop:0", "upkeep.instance.memory.usage")].1[0]) > 100_000.0);
    assert_eq!(two[&name("shop:0", "upkeep.instance.disk.io")].1.len(), 2);
}

fn name(whose: &str, name: &str) -> (String, String) {
    (whose.to_owned(), name.to_owned())
}

fn number(point: &NumberDataPoint) -> f64 {
    match point.value {
        Some(number_data_point::Value::AsDouble(value)) => value,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_receiver_that_is_away_is_told_once_and_gets_the_lines_later() {
    let home = Home::new();
    // A port where nobody listens, until later.
    let address = upkeep_testkit::free_address();
    let settings = json!({"otlp": {"endpoint": format!("http://{address}"), "interval": "1s", "logs": true}});
    set(&home, &settings);
    apply(
        &home,
        &[app(
            &home,
            "shop",
            &["write-lines", "5000", "--prefix", "shop", "wait"],
        )],
    );
    let event = wait_told(&home, "otlp_trouble");
    assert!(event["why"].to_string().contains("refused"), "{event}");
    let (_, taken) = receiver(&address.to_string(), |_| TAKEN);
    wait_until("all lines", LONG, || {
        let there = numbers(&lines_of(&taken)).len();
        if there == 5000 {
            Ok(())
        } else {
            Err(there.to_string())
        }
    });
    assert_eq!(lines_of(&taken).len(), 5000, "none twice");
    // Figures and lines are told by themselves; the second kind may work again before its trouble was worth a word.
    wait_until("what was told to be told as well again", LONG, || {
        let troubles = told(&home, "otlp_trouble").len();
        let over = told(&home, "otlp_recovered").len();
        if (1..=2).contains(&troubles) && over == troubles {
            Ok(())
        } else {
            Err(format!("{troubles} and {over}"))
        }
    });
    // The thread is there only while it is wanted, and places are forgotten.
    let threads = || -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", home.daemon_pid())).expect("it runs");
        tasks
            .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .map(|name| name.trim().to_owned())
            .collect()
    };
    assert!(threads().contains(&"otlp".to_owned()), "{:?}", threads());
    set(&home, &json!({}));
    wait_until("its end", LONG, || {
        let threads = threads();
        if threads.contains(&"otlp".to_owned()) {
            Err(threads.join(" "))
        } else {
            Ok(())
        }
    });
    let count = lines_of(&taken).len();
    set(&home, &settings);
    wait_until("figures after it is wanted again", LONG, || {
        let mut taken = taken.lock().expect("no panic");
        let last = taken.pop().ok_or_else(|| "none".to_owned())?;
        if last.figures().is_some_and(|figures| !figures.is_empty()) {
            taken.push(last);
            Ok(())
        } else {
            taken.push(last);
            Err("no figures last".to_owned())
        }
    });
    assert_eq!(
        lines_of(&taken).len(),
        count,
        "lines of before are not sent again"
    );
}

#[test]
fn a_line_that_is_refused_does_not_keep_the_others_back() {
    let home = Home::new();
    let mut partial = true;
    let (address, taken) = receiver("127.0.0.1:0", move |asked| {
        let lines = asked.lines().unwrap_or_default();
        if lines.iter().any(|line| line.text == "poison") {
            return ("400 Bad Request", Vec::new());
        }
        if !lines.is_empty() && std::mem::take(&mut partial) {
            let answer = ExportLogsServiceResponse {
                partial_success: Some(ExportLogsPartialSuccess {
                    rejected_log_records: 1,
                    error_message: "too old".to_owned(),
                }),
            };
            return ("200 OK", answer.encode_to_vec());
        }
        TAKEN
    });
    set(
        &home,
        &json!({"otlp": {"endpoint": format!("http://{address}"), "interval": "1h", "logs": true}}),
    );
    let script = ["print", "one", "print", "poison", "print", "three", "wait"];
    apply(&home, &[app(&home, "shop", &script)]);
    let texts = wait_until("the lines around it", LONG, || {
        let texts: Vec<String> = lines_of(&taken).into_iter().map(|line| line.text).collect();
        if texts.iter().any(|text| text == "three") {
            Ok(texts)
        } else {
            Err(texts.join(" "))
        }
    });
    assert_eq!(texts, ["one", "three"]);
    let refused = wait_told(&home, "otlp_refused")["why"].to_string();
    assert!(
        refused.contains("1 of the log lines") && refused.contains("too old"),
        "{refused}"
    );
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let home = Home::new();
    let open = private(&home, "open", "authorization: x\n", 0o644);
    for (otlp, wanted) in [
        (json!({"endpoint": "ftp://127.0.0.1"}), "is not a URL such as"),
        (
            json!({"endpoint": "http://127.0.0.1:x"}),
            "is no host with a port",
        ),
        (
            json!({"endpoint": "http://a:b@127.0.0.1"}),
            "no user and no password",
        ),
        (json!({"endpoint": "http://127.0.0.1/?a=b"}), "without `?`"),
        (
            json!({"endpoint": "http://127.0.0.1", "interval": "10ms"}),
            "expected a span from 1s to 1h",
        ),
        (
            json!({"endpoint": "http://127.0.0.1", "headers_file": open}),
            "others than its owner may read",
        ),
        (
            json!({"endpoint": "http://127.0.0.1", "ca_file": "/no/such/file"}),
            "No such file",
        ),
        (json!({"logs": true}), "endpoint"),
    ] {
        let file = home.write("settings.json", &json!({"otlp": otlp}).to_string());
        let output = home.cmd(["settings", "set", &file.display().to_string()]);
        let said = &output.stderr;
        assert!(output.code != 0 && said.contains(wanted), "{otlp}: {said}");
    }
}
