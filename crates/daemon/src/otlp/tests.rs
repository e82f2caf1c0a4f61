//! What is written, taken apart again.

use opentelemetry_proto::tonic::{
    collector::metrics::v1::{
        ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
    },
    metrics::v1::metric::Data,
};

use super::*;

fn otlp(endpoint: &str) -> Otlp {
    Otlp {
        endpoint: endpoint.parse().expect("a URL"),
        headers_file: None,
        ca_file: None,
        interval: None,
        logs: None,
    }
}

#[test]
fn figures_are_told_once_for_each_look_and_say_whose_they_are() {
    let metrics = Metrics::open(None);
    let directory = Directory::default();
    let mut figures = Figures::new("box".to_owned(), "1.2".to_owned(), 5, 2);
    assert!(
        figures.requests(&metrics, &directory, (100, 1000)).is_empty(),
        "nobody has looked"
    );
    metrics.set_latest(|all| {
        all.at_ms = 90;
        all.host[crate::metrics::host::LOAD] = Some(0.5);
        all.counters.busy_ticks = 7;
        all.counters.received_bytes = 11;
    });
    let requests = figures.requests(&metrics, &directory, (100, 1000));
    assert_eq!(requests.len(), 1);
    let bytes = requests[0].encode_to_vec();
    let request = ExportMetricsServiceRequest::decode(&*bytes).expect("protobuf");
    let [host] = &request.resource_metrics[..] else {
        panic!("{request:?}");
    };
    assert_eq!(host.resource, Some(resource("box", "upkeep", None)));
    let scope_metrics = &host.scope_metrics[0];
    assert_eq!(scope_metrics.scope, Some(scope("1.2")));
    let of = |name: &str| {
        let found = scope_metrics.metrics.iter().find(|metric| metric.name == name);
        found.unwrap_or_else(|| panic!("no {name}"))
    };
    let Some(Data::Gauge(load)) = &of("upkeep.host.load1").data else {
        panic!("no gauge");
    };
    // The look was 10 ms before now.
    assert_eq!(load.data_points[0].time_unix_nano, 990 * 1_000_000);
    let Some(Data::Sum(network)) = &of("upkeep.host.network.io").data else {
        panic!("no sum");
    };
    let [received, sent] = &network.data_points[..] else {
        panic!("{network:?}");
    };
    assert_eq!(
        received.attributes,
        [attribute("network.io.direction", "receive")]
    );
    assert_eq!(sent.attributes, [attribute("network.io.direction", "transmit")]);
    // Since boot.
    assert_eq!(received.start_time_unix_nano, 2 * 1_000_000);
    assert!(
        figures.requests(&metrics, &directory, (101, 1001)).is_empty(),
        "told already"
    );
}

/// A receiver that gives one answer after the other.
async fn receiver(answers: Vec<Vec<u8>>) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback");
    let address = listener.local_addr().expect("bound");
    Task::spawn_short("receiver", async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut seen = Vec::new();
            while !seen.ends_with(b"the message") {
                let mut bytes = [0; 4096];
                let count = stream.read(&mut bytes).await.expect("a request");
                assert!(count > 0, "{}", String::from_utf8_lossy(&seen));
                seen.extend_from_slice(&bytes[..count]);
            }
            stream.write_all(&answer).await.expect("an answer");
        }
    });
    format!("http://{address}")
}

fn answer(status: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[tokio::test]
async fn a_sender_waits_as_long_as_it_is_asked_and_tells_what_lasts() {
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let partial = ExportMetricsServiceResponse {
                partial_success: Some(ExportMetricsPartialSuccess {
                    rejected_data_points: 3,
                    error_message: "too many".to_owned(),
                }),
            };
            let endpoint = receiver(vec![
                answer("429 Slow down\r\nretry-after: 60", b""),
                answer("400 Bad Request", b""),
                answer("200 OK", b""),
                answer("200 OK", &partial.encode_to_vec()),
                answer("302 Found\r\nlocation: /", b""),
            ])
            .await;
            let otlp = otlp(&endpoint);
            let mut sender = Sender::new(Signal::Figures);
            let message = || b"the message".to_vec();
            assert_eq!(sender.send(&otlp, message()).await, Outcome::Later);
            let left = sender.retry_at().expect("a pause") - Instant::now();
            assert!(
                left > Duration::from_secs(55) && left <= Duration::from_mins(1),
                "{left:?}"
            );
            assert!(!sender.ready());
            // So long a pause is worth telling.
            assert!(
                matches!(&sender.tells[..], [Tell::Trouble { why, .. }] if why.contains("429")),
                "{:?}",
                sender.tells
            );
            assert_eq!(sender.send(&otlp, message()).await, Outcome::Unfit);
            assert_eq!(sender.send(&otlp, message()).await, Outcome::Taken);
            assert!(sender.ready());
            assert_eq!(sender.tells.len(), 2);
            assert_eq!(sender.tells[1], Tell::Recovered);
            assert_eq!(sender.send(&otlp, message()).await, Outcome::Taken);
            assert_eq!(
                sender.tells.pop(),
                Some(Tell::Refused(
                    "3 of the figures in a message: too many".to_owned()
                ))
            );
            assert_eq!(sender.send(&otlp, message()).await, Outcome::Later);
            // Nobody listens any more.
            assert_eq!(sender.send(&otlp, message()).await, Outcome::Later);
            let left = sender.retry_at().expect("a pause") - Instant::now();
            assert!(
                left > Duration::from_millis(900) && left <= Duration::from_secs(2),
                "{left:?}"
            );
        })
        .await;
}
