//! What goes wrong with real etcds: tokens that expire, a full quota, members that are gone, wrong certificates.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use upkeep_etcd::{Access, Config, Etcd, Login, Password, Pem, Tls};
use upkeep_store::kv::{
    AlarmKind, Kv, KvError, Op, Outcome, Range, Reason, Span, Txn, Watch, WatchEvent,
    conformance::{SOON, changes, next, pass, within},
};
use upkeep_testkit::etcd::Etcd as Servers;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

fn config(servers: &Servers) -> Config {
    Config {
        endpoints: servers.endpoints(),
        timeout: Duration::from_secs(10),
        heartbeat: Duration::from_millis(300),
        ..Config::default()
    }
}

fn login(servers: &Servers, user: &str) -> Etcd {
    let login = Login {
        user: user.to_owned(),
        password: Password::Text(format!("{user}'s")),
    };
    Etcd::new(Config {
        login: Some(login),
        ..config(servers)
    })
    .expect("a backend")
}

async fn put(store: &dyn Kv, key: &str, value: impl Into<Vec<u8>>) -> Result<u64, KvError> {
    let answered = store.txn(Txn::always(vec![Op::put(key, value)])).await?;
    Ok(answered.revision)
}

/// A root, and a user `shop` that may read and write `/shop/` and read `/shared/`.
async fn people(etcd: &Etcd) {
    etcd.add_user("root", Some("root's")).await.expect("a user");
    etcd.add_role("root").await.expect("a role");
    etcd.grant_role("root", "root").await.expect("a grant");
    etcd.add_user("shop", Some("shop's")).await.expect("a user");
    etcd.add_role("shop").await.expect("a role");
    etcd.grant_role("shop", "shop").await.expect("a grant");
    let span = |prefix: &str| Span::Prefix(prefix.to_owned());
    etcd.permit("shop", Access::ReadWrite, &span("/shop/"))
        .await
        .expect("a permission");
    etcd.permit("shop", Access::Read, &span("/shared/"))
        .await
        .expect("a permission");
    etcd.permit("shop", Access::Read, &span("/away/"))
        .await
        .expect("a permission");
    etcd.forbid("shop", &span("/away/")).await.expect("taken back");
    etcd.enable_auth().await.expect("authentication is on");
}

#[test]
fn a_user_opens_its_own_part_only() {
    let servers = Servers::single(&[]);
    block_on(async {
        people(&Etcd::new(config(&servers)).expect("a backend")).await;
        let (root, shop) = (login(&servers, "root"), login(&servers, "shop"));
        put(&root, "/shared/a", "1").await.expect("root writes");
        put(&root, "/away/a", "1").await.expect("root writes");
        put(&shop, "/shop/a", "1").await.expect("its own");
        assert_eq!(
            shop.range(Range::one("/shared/a"))
                .await
                .expect("it reads")
                .entries
                .len(),
            1
        );
        let denied = |error: KvError| {
            assert!(matches!(error.reason, Reason::Denied(_)), "{error}");
            assert_eq!(error.outcome(), Outcome::Refused);
        };
        denied(put(&shop, "/shared/a", "2").await.expect_err("only reading"));
        denied(shop.range(Range::one("/away/a")).await.expect_err("taken back"));
        denied(
            shop.range(Range::prefix("/sh"))
                .await
                .expect_err("more than its own"),
        );
        denied(shop.range(Range::new(Span::All)).await.expect_err("everything"));
        let mut watch = shop.watch(Watch::new(Span::Prefix("/away/".to_owned())));
        denied(
            within(SOON, watch.next())
                .await
                .expect("an answer")
                .expect("one")
                .expect_err("not its own"),
        );
        assert!(watch.next().await.is_none(), "the watch has ended");
        // What is set up can be read back.
        let mut users = root.users().await.expect("users");
        users.sort_unstable();
        assert_eq!(users, ["root", "shop"]);
        assert_eq!(root.roles_of("shop").await.expect("roles"), ["shop"]);
        let mut spans: Vec<_> = root.permissions("shop").await.expect("permissions");
        spans.sort_by_key(|permission| permission.access);
        let spans: Vec<_> = spans
            .into_iter()
            .map(|permission| (permission.access, permission.span))
            .collect();
        let span = |prefix: &str| Some(Span::Prefix(prefix.to_owned()));
        assert_eq!(
            spans,
            [
                (Access::Read, span("/shared/")),
                (Access::ReadWrite, span("/shop/"))
            ]
        );
        // Nobody, and somebody with a wrong password.
        let nobody = Etcd::new(config(&servers)).expect("a backend");
        let refused = put(&nobody, "/shop/a", "2").await.expect_err("who is this");
        assert!(matches!(refused.reason, Reason::Unauthenticated(_)), "{refused}");
        root.set_password("shop", "another").await.expect("changed");
        let wrong = put(&login(&servers, "shop"), "/shop/a", "2")
            .await
            .expect_err("the old password");
        assert!(matches!(wrong.reason, Reason::Unauthenticated(_)), "{wrong}");
        assert!(!wrong.to_string().contains("shop's"), "no password in an error");
    });
}

#[test]
fn tokens_that_expire_end_neither_calls_nor_watches() {
    let servers = Servers::single(&["--auth-token-ttl", "1"]);
    block_on(async {
        people(&Etcd::new(config(&servers)).expect("a backend")).await;
        let shop = login(&servers, "shop");
        let mut early = shop.watch(Watch::new(Span::Prefix("/shop/".to_owned())));
        assert!(matches!(next(&mut early).await, WatchEvent::Progress { .. }));
        let mut from = 0;
        for round in 0..3 {
            // The token is forgotten by etcd meanwhile.
            pass(Duration::from_millis(2500)).await;
            let revision = put(&shop, "/shop/a", round.to_string()).await.expect("a put");
            assert_eq!(changes(&mut early).await.0, revision, "round {round}");
            from = if from == 0 { revision } else { from };
        }
        // A watch that is made with an expired token: etcd calls that "permission denied".
        pass(Duration::from_millis(2500)).await;
        let mut late = shop.watch(Watch::new(Span::Prefix("/shop/".to_owned())).from(from));
        for _ in 0..3 {
            changes(&mut late).await;
        }
    });
}

#[test]
fn a_full_quota_is_told_and_there_is_a_way_back() {
    let quota = (16 << 20).to_string();
    let servers = Servers::single(&["--quota-backend-bytes", &quota]);
    block_on(async {
        let etcd = Etcd::new(config(&servers)).expect("a backend");
        let mut full = None;
        for _ in 0..100 {
            if let Err(error) = put(&etcd, "/large", vec![7; 900_000]).await {
                full = Some(error);
                break;
            }
        }
        let full = full.expect("the quota is reached");
        assert!(
            matches!(&full.reason, Reason::NoSpace { hint, .. } if hint.contains("compact")),
            "{full}"
        );
        assert_eq!((full.outcome(), full.retryable()), (Outcome::Unknown, false));
        let status = etcd.status().await.expect("a status");
        assert_eq!(status.alarms.len(), 1);
        assert_eq!(status.alarms[0].kind, AlarmKind::NoSpace);
        etcd.compact(status.revision).await.expect("compacted");
        etcd.defragment().await.expect("defragmented");
        let status = etcd.status().await.expect("a status");
        assert_eq!(status.alarms, []);
        assert!(status.bytes_on_disk < 8 << 20, "{status:?}");
        put(&etcd, "/small", "works again").await.expect("a put");
    });
}

fn tls(servers: &Servers, name: &str) -> Tls {
    let (certificate, key) = servers.client_certificate(name);
    Tls {
        authority: Pem::File(servers.authority()),
        identity: Some((Pem::File(certificate), Pem::File(key))),
        server_name: None,
    }
}

#[test]
fn only_the_right_certificates_connect_and_renewed_ones_are_taken() {
    let servers = Servers::three(true, &[]);
    let others = Servers::three(true, &[]);
    block_on(async {
        let with = |tls: Option<Tls>| {
            Etcd::new(Config {
                tls,
                timeout: Duration::from_secs(3),
                ..config(&servers)
            })
        };
        let good = tls(&servers, "upkeep");
        let plain = with(None).expect_err("https needs an authority");
        assert!(matches!(plain.reason, Reason::Invalid(_)), "{plain}");
        let strangers = [
            // Nobody has signed us.
            Tls {
                identity: None,
                ..good.clone()
            },
            // Somebody else has.
            Tls {
                identity: tls(&others, "upkeep").identity,
                ..good.clone()
            },
            // The members are signed by somebody whom we do not trust.
            Tls {
                authority: Pem::File(others.authority()),
                ..good.clone()
            },
        ];
        for stranger in strangers {
            let etcd = with(Some(stranger.clone())).expect("a backend");
            let refused = etcd.range(Range::one("/a")).await.expect_err("a stranger");
            assert!(
                matches!(refused.reason, Reason::Unavailable(_)),
                "{stranger:?}: {refused}"
            );
        }
        // Certificates are read anew: a wrong one becomes the right one without a restart.
        let (certificate, key) = others.client_certificate("renewed");
        let renewed = Tls {
            identity: Some((Pem::File(certificate.clone()), Pem::File(key.clone()))),
            ..good.clone()
        };
        let etcd = with(Some(renewed)).expect("a backend");
        etcd.range(Range::one("/a")).await.expect_err("not yet");
        let (right, right_key) = servers.client_certificate("renewed");
        std::fs::copy(right, certificate).expect("a copy");
        std::fs::copy(right_key, key).expect("a copy");
        etcd.range(Range::one("/a")).await.expect("now");
    });
}

#[test]
fn the_status_names_every_member_and_a_dead_one() {
    let mut servers = Servers::three(false, &[]);
    servers.kill(2);
    block_on(async {
        let etcd = Etcd::new(config(&servers)).expect("a backend");
        // If it was the leader that died, what is asked at this moment is lost, and nobody knows.
        let mut tries = 0;
        while let Err(error) = put(&etcd, "/a", "1").await {
            tries += 1;
            assert!(error.outcome() == Outcome::Unknown && tries < 5, "{error}");
        }
        let status = etcd.status().await.expect("a status");
        assert_eq!((status.members.len(), status.keys), (3, 1));
        assert!(status.revision >= 2, "{status:?}");
        let dead: Vec<_> = status
            .members
            .iter()
            .filter(|member| member.health.is_err())
            .collect();
        assert_eq!(dead.len(), 1);
        assert_eq!(dead[0].name, "three");
        assert!(status.leader.is_some());
        let failed = etcd.defragment().await.expect_err("one is not there");
        assert!(failed.to_string().contains("`three`"), "{failed}");
    });
    servers.kill(1);
    block_on(async {
        // Without a majority: no reading that has to be new, no writing, but what is there can be looked at.
        let etcd = Etcd::new(Config {
            timeout: Duration::from_secs(4),
            ..config(&servers)
        });
        let etcd = etcd.expect("a backend");
        let stale = Range {
            stale: true,
            ..Range::one("/a")
        };
        assert_eq!(etcd.range(stale).await.expect("a stale reading").entries.len(), 1);
        let refused = etcd.range(Range::one("/a")).await.expect_err("no majority");
        assert!(matches!(refused.reason, Reason::Unavailable(_)), "{refused}");
        let refused = put(&etcd, "/a", "2").await.expect_err("no majority");
        assert!(refused.retryable(), "{refused}");
        let status = etcd.status().await.expect("a status");
        assert_eq!(
            status
                .members
                .iter()
                .filter(|member| member.health.is_err())
                .count(),
            2
        );
    });
}

#[test]
fn keys_of_others_are_left_alone() {
    let servers = Servers::single(&[]);
    block_on(async {
        let with_root = |root: &str| {
            let config = Config {
                root: root.to_owned(),
                ..config(&servers)
            };
            Etcd::new(config).expect("a backend")
        };
        let (ours, theirs, all) = (with_root("/upkeep/"), with_root("/other/"), with_root(""));
        let ours: Arc<dyn Kv> = Arc::new(ours);
        put(&*ours, "/a", "1").await.expect("a put");
        put(&theirs, "/a", "2").await.expect("a put");
        let mut watch = ours.watch(Watch::new(Span::All));
        next(&mut watch).await;
        put(&theirs, "/b", "3").await.expect("a put");
        ours.txn(Txn::always(vec![Op::Delete(Span::All)]))
            .await
            .expect("a deletion");
        assert_eq!(changes(&mut watch).await.1.len(), 1);
        let left = all.range(Range::new(Span::All)).await.expect("a reading").entries;
        let keys: Vec<_> = left.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["/other//a", "/other//b"]);
        assert_eq!(ours.status().await.expect("a status").keys, 0);
    });
}
