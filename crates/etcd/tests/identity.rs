//! Who we are at etcd, and to whom we say it: advertised addresses, and certificates while roles are changed.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures_util::StreamExt as _;
use upkeep_etcd::{Access, Config, Etcd, Login, Password, Pem, Tls};
use upkeep_store::kv::{Kv, Op, Range, Span, Txn, Watch, WatchEvent, conformance::pass};
use upkeep_testkit::{etcd::Etcd as Servers, free_port};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

/// By a certificate of this common name.
fn config(servers: &Servers, name: &str) -> Config {
    let (certificate, key) = servers.client_certificate(name);
    Config {
        endpoints: servers.endpoints(),
        tls: Some(Tls {
            authority: Pem::File(servers.authority()),
            identity: Some((Pem::File(certificate), Pem::File(key))),
            server_name: None,
        }),
        timeout: Duration::from_secs(10),
        heartbeat: Duration::from_millis(300),
        ..Config::default()
    }
}

/// A root who is known by its certificate and by a password.
async fn with_root(servers: &Servers) -> Etcd {
    let root = Etcd::new(config(servers, "root")).expect("a backend");
    root.add_user("root", Some("root's")).await.expect("a user");
    root.add_role("root").await.expect("a role");
    root.grant_role("root", "root").await.expect("a grant");
    root
}

#[test]
fn nothing_is_asked_without_tls_where_the_settings_want_it() {
    let plain = TcpListener::bind("127.0.0.1:0").expect("a listener");
    plain.set_nonblocking(true).expect("it does not wait");
    let plain_url = format!("http://{}", plain.local_addr().expect("an address"));
    let nobody = format!("https://127.0.0.1:{}", free_port());
    let servers = Servers::single_with(
        true,
        &["--advertise-client-urls", &format!("{plain_url},{nobody}")],
    );
    block_on(async {
        let root = with_root(&servers).await;
        root.enable_auth().await.expect("authentication is on");
        // By password alone: the certificate is of a user that etcd does not know.
        let etcd = Etcd::new(Config {
            login: Some(Login {
                user: "root".to_owned(),
                password: Password::Text("root's".to_owned()),
            }),
            ..config(&servers, "nobody")
        })
        .expect("a backend");
        for i in 0..20 {
            let txn = Txn::always(vec![Op::put(format!("k/{}", i % 2), vec![7; 1000])]);
            etcd.txn(txn).await.expect("written");
        }
        let status = etcd.status().await.expect("the endpoint of the settings answers");
        assert_eq!(status.members.len(), 1);
        assert_eq!(status.members[0].client_urls.len(), 2, "as it advertises them");
        let health = status.members[0].health.as_ref().expect("it is well");
        assert_eq!(health.revision, status.revision);
        assert_eq!(status.leader, Some(status.members[0].id));
        // What care does of it.
        etcd.compact(status.revision).await.expect("compacted");
        etcd.defragment_one(&status.members[0])
            .await
            .expect("defragmented");
        etcd.defragment().await.expect("all of them");
        assert_eq!(etcd.status().await.expect("status").oldest, Some(status.revision));
    });
    let came = plain.accept().map(|(_, from)| from);
    assert!(came.is_err(), "somebody asked at {plain_url}: {came:?}");
}

#[test]
fn roles_may_change_while_certificates_say_who_we_are() {
    let servers = Servers::single_with(true, &[]);
    let done = AtomicBool::new(false);
    block_on(async {
        let root = with_root(&servers).await;
        root.add_user("shop", Some("shop's")).await.expect("a user");
        root.add_role("shop").await.expect("a role");
        root.grant_role("shop", "shop").await.expect("a grant");
        let span = Span::Prefix("/shop/".to_owned());
        root.permit("shop", Access::ReadWrite, &span)
            .await
            .expect("a permission");
        root.add_role("other").await.expect("a role");
        root.enable_auth().await.expect("authentication is on");
        let config = config(&servers, "shop");
        let change_roles = async {
            let mut changes = 0_u32;
            while !done.load(Ordering::Relaxed) {
                let other = Span::Prefix(format!("/other{}/", changes % 50));
                root.permit("other", Access::Read, &other)
                    .await
                    .expect("roles change");
                changes += 1;
            }
            changes
        };
        let use_it = async {
            let shop = Etcd::new(config).expect("a backend");
            for i in 0..40_u32 {
                let key = format!("/shop/{}", i % 10);
                let txn = Txn::always(vec![Op::put(key.clone(), i.to_string())]);
                let written = shop.txn(txn).await.expect("written").revision;
                let found = shop.range(Range::one(&key)).await.expect("read");
                assert_eq!(found.entries[0].value, i.to_string().as_bytes());
                // Each opens anew.
                let mut watch = shop.watch(Watch::new(Span::One(key.clone())).from(written));
                let event = watch.next().await.expect("an event").expect("the watch lives");
                assert!(matches!(event, WatchEvent::Progress { .. }), "{event:?}");
                pass(Duration::from_millis(1)).await;
            }
            done.store(true, Ordering::Relaxed);
        };
        let (changes, ()) = futures_util::future::join(change_roles, use_it).await;
        assert!(changes > 20, "roles were changed {changes} times only");
    });
}
