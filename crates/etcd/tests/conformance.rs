//! The conformance suite on real etcds: one without TLS, and three with TLS that ask for certificates.

use std::{sync::Arc, time::Duration};

use upkeep_etcd::{Config, Etcd, Pem, Tls};
use upkeep_store::kv::conformance;
use upkeep_testkit::etcd::Etcd as Servers;

fn run(name: &str, servers: &Servers, tls: Option<Tls>) {
    let config = Config {
        endpoints: servers.endpoints(),
        tls,
        timeout: Duration::from_secs(20),
        heartbeat: Duration::from_millis(300),
        ..Config::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let etcd = Etcd::new(config).expect("a backend");
        conformance::run(name, Arc::new(etcd)).await;
    });
}

fn single(name: &str) {
    run(name, &Servers::single(&[]), None);
}

fn three_with_tls(name: &str) {
    let servers = Servers::three(true, &[]);
    let (certificate, key) = servers.client_certificate("upkeep");
    let tls = Tls {
        authority: Pem::File(servers.authority()),
        identity: Some((Pem::File(certificate), Pem::File(key))),
        server_name: None,
    };
    run(name, &servers, Some(tls));
}

mod one_member {
    upkeep_store::kv_conformance!(super::single);
}

mod three_members_with_tls {
    upkeep_store::kv_conformance!(super::three_with_tls);
}
