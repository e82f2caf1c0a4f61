//! Clusters of three while something goes wrong: what clients saw has to be linearizable, and watches tell everything once.

use std::{
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::{join, join_all};
use upkeep_etcd::{Config, Etcd};
use upkeep_store::kv::{
    Kv, Op, Range, Status, Txn,
    conformance::{
        linear::{PREFIX, Recorder, check_told, client, follow, newest},
        pass,
        walk::seed,
    },
};
use upkeep_testkit::{
    etcd::{Etcd as Servers, in_own_network},
    wait_until,
};

const CLIENTS: u64 = 5;
const SOON: Duration = Duration::from_secs(40);

fn config(endpoints: Vec<String>) -> Config {
    Config {
        endpoints,
        timeout: Duration::from_secs(3),
        connect_timeout: Duration::from_millis(700),
        heartbeat: Duration::from_millis(500),
        ..Config::default()
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

/// A drill's eyes: how much the clients have done, and what the cluster says.
struct Eyes<'a> {
    recorder: &'a Recorder,
    endpoints: Vec<String>,
}

impl Eyes<'_> {
    /// Waits until the clients have done so much more.
    fn some_more(&self, answers: u64) {
        let enough = self.recorder.answered() + answers;
        wait_until("clients to be answered", SOON, || {
            let answered = self.recorder.answered();
            if answered >= enough {
                Ok(())
            } else {
                Err(format!("{answered} of {enough}"))
            }
        });
    }

    fn status(&self) -> Status {
        let etcd = Etcd::new(config(self.endpoints.clone())).expect("a backend");
        wait_until("a status", SOON, || {
            block_on(etcd.status()).map_err(|error| error.to_string())
        })
    }

    /// The leader's place among the members.
    fn leader(&self, servers: &Servers) -> usize {
        wait_until("a leader", SOON, || {
            let status = self.status();
            let leader = status
                .members
                .iter()
                .find(|member| Some(member.id) == status.leader);
            let name = leader.map(|leader| leader.name.clone()).ok_or("none")?;
            servers
                .members()
                .iter()
                .position(|member| member.name == name)
                .ok_or(name)
        })
    }
}

/// Clients and two watches, one of which is slow to begin, while `drill` runs. Then everything is checked.
fn under(mut servers: Servers, drill: impl FnOnce(&mut Servers, &Eyes<'_>) + Send) {
    let recorder = Recorder::default();
    let eyes = Eyes {
        recorder: &recorder,
        endpoints: servers.endpoints(),
    };
    let stop = AtomicBool::new(false);
    let last = AtomicU64::new(u64::MAX);
    let seed = seed();
    let endpoints = servers.endpoints();
    std::thread::scope(|scope| {
        let clients = scope.spawn(|| {
            block_on(async {
                // Each its own connections, beginning with another member.
                let stores = (0..CLIENTS).map(|number| {
                    let mut endpoints = endpoints.clone();
                    endpoints.rotate_left(usize::try_from(number).expect("small") % 3);
                    let store: Arc<dyn Kv> = Arc::new(Etcd::new(config(endpoints)).expect("a backend"));
                    store
                });
                let stores: Vec<_> = stores.collect();
                let pause = Duration::from_millis(8);
                let clients = stores
                    .iter()
                    .zip(1..)
                    .map(|(store, number)| client(Arc::clone(store), &recorder, number, seed, pause, &stop));
                let clients = async {
                    join_all(clients).await;
                    last.store(newest(&stores[0]).await, Ordering::Relaxed);
                };
                let watches = [&stores[1], &stores[2]].map(|store| follow(Arc::clone(store), 1, &last));
                let ((), told) = join(clients, join_all(watches)).await;
                for told in &told {
                    check_told(&stores[0], told).await;
                }
                assert_eq!(told[0], told[1], "both watches told the same");
            });
        });
        // If something fails in here, the clients have to end all the same.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eyes.some_more(100);
            drill(&mut servers, &eyes);
            eyes.some_more(100);
        }));
        stop.store(true, Ordering::Relaxed);
        let seen = clients.join();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
        if let Err(panic) = seen {
            std::panic::resume_unwind(panic);
        }
    });
    recorder.check();
    #[expect(clippy::print_stderr, reason = "figures of a drill, for who reads them")]
    let () = eprintln!(
        "{} answers, {} open writes",
        recorder.answered(),
        recorder.unknown()
    );
}

#[test]
fn heavy_the_leader_is_killed_and_comes_back() {
    under(Servers::three(false, &[]), |servers, eyes| {
        for _ in 0..3 {
            let leader = eyes.leader(servers);
            servers.kill(leader);
            // The others go on without it.
            eyes.some_more(60);
            servers.start(leader);
            eyes.some_more(30);
        }
    });
}

#[test]
fn heavy_a_member_stands_still() {
    under(Servers::three(false, &[]), |servers, eyes| {
        // So shortly that nobody turns away: what was asked meanwhile must not be answered with what it remembers.
        for round in 0..12 {
            servers.pause(round % 3);
            block_on(pass(Duration::from_millis(400)));
            servers.resume(round % 3);
            eyes.some_more(15);
        }
        for place in 0..3 {
            servers.pause(place);
            eyes.some_more(60);
            servers.resume(place);
            eyes.some_more(30);
        }
    });
}

#[test]
fn heavy_the_clock_of_a_member_jumps() {
    under(Servers::three(false, &[]), |servers, eyes| {
        let etcd = Etcd::new(config(servers.endpoints())).expect("a backend");
        let lease = block_on(etcd.grant(Duration::from_hours(1))).expect("a lease");
        let kept = Op::Put {
            key: "/kept".to_owned(),
            value: b"1".to_vec(),
            lease: Some(lease.id),
        };
        block_on(etcd.txn(Txn::always(vec![kept]))).expect("written");
        // A day ahead, and back; whoever leads is among them.
        for member in 0..3 {
            for ahead in [86_400, 0] {
                servers.kill(member);
                eyes.some_more(20);
                servers.set_clock(member, ahead);
                servers.start(member);
                eyes.some_more(20);
            }
        }
        // One that is a day ahead leads: what is to live for an hour lives on.
        servers.kill(0);
        servers.set_clock(0, 86_400);
        servers.start(0);
        wait_until("the one that is ahead to lead", SOON, || {
            let leader = eyes.leader(servers);
            if leader == 0 {
                return Ok(());
            }
            servers.kill(leader);
            servers.start(leader);
            Err(format!("{leader} leads"))
        });
        eyes.some_more(60);
        let found = block_on(etcd.range(Range::one("/kept"))).expect("read");
        assert_eq!(found.entries.len(), 1, "the lease has an hour");
    });
}

#[test]
fn heavy_a_member_is_replaced() {
    under(Servers::three(false, &[]), |servers, eyes| {
        let leader = eyes.leader(servers);
        let name = servers.members()[leader].name.clone();
        let status = eyes.status();
        let gone = status
            .members
            .iter()
            .find(|member| member.name == name)
            .expect("a member")
            .id;
        let etcd = Etcd::new(config(servers.endpoints())).expect("a backend");
        wait_until("the member to be removed", SOON, || {
            let outcome = block_on(etcd.remove_member(gone));
            let left = eyes.status().members.len();
            if left == 2 {
                Ok(())
            } else {
                Err(format!("{outcome:?}"))
            }
        });
        let url = servers.replace(leader, "four").peer_url.clone();
        wait_until("a member to be added", SOON, || {
            let outcome = block_on(etcd.add_member(vec![url.clone()], false));
            let members = eyes.status().members.len();
            if members == 3 {
                Ok(())
            } else {
                Err(format!("{outcome:?}"))
            }
        });
        servers.start(leader);
        let status = eyes.status();
        assert!(
            status
                .members
                .iter()
                .any(|member| member.name == "four" && member.health.is_ok()),
            "{status:?}"
        );
        // One of the old ones may go now.
        let other = (leader + 1) % 3;
        servers.kill(other);
        eyes.some_more(60);
        servers.start(other);
    });
}

#[test]
fn heavy_the_leader_is_cut_off_from_the_others() {
    if !in_own_network("heavy_the_leader_is_cut_off_from_the_others") {
        return;
    }
    under(Servers::apart(&[]), |servers, eyes| {
        for _ in 0..2 {
            // Clients still reach it, and it still believes in itself.
            let leader = eyes.leader(servers);
            servers.cut_off(leader);
            eyes.some_more(80);
            assert_ne!(eyes.leader(servers), leader, "the others have another");
            let alone =
                Etcd::new(config(vec![servers.members()[leader].client_url.clone()])).expect("a backend");
            let stale = Range {
                stale: true,
                ..Range::one(format!("{PREFIX}0"))
            };
            block_on(async {
                alone.range(stale).await.expect("what it has, it tells");
                let refused = alone.range(Range::one(format!("{PREFIX}0"))).await;
                assert!(refused.is_err(), "it cannot know what is new: {refused:?}");
            });
            servers.heal(leader);
            eyes.some_more(30);
        }
        // Two of three: nobody can go on.
        servers.cut_off(0);
        servers.cut_off(1);
        let answered = eyes.recorder.answered();
        wait_until("writes to stop", SOON, || {
            let begins = eyes.recorder.unknown();
            block_on(pass(Duration::from_secs(1)));
            let unknown = eyes.recorder.unknown();
            if unknown > begins {
                Ok(())
            } else {
                Err(format!("{unknown} open, {answered} answered"))
            }
        });
        servers.heal(0);
        servers.heal(1);
    });
}

#[test]
fn heavy_the_disk_of_a_member_is_full() {
    if !in_own_network("heavy_the_disk_of_a_member_is_full") {
        return;
    }
    let disk = tempfile::tempdir().expect("a directory");
    let mount = |arguments: &[&str]| {
        let status = Command::new(arguments[0])
            .args(&arguments[1..])
            .arg(disk.path())
            .status();
        assert!(status.expect("mount runs").success(), "{arguments:?}");
    };
    mount(&["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs"]);
    let servers = Servers::three_with(&[], |servers| servers.move_data(1, &disk.path().join("data")));
    let filler = disk.path().join("filler");
    under(servers, |servers, eyes| {
        fill(&filler);
        // It has to notice; the others do not mind.
        let etcd = Etcd::new(config(servers.endpoints())).expect("a backend");
        let mut number = 0;
        wait_until("the member to notice", SOON, || {
            number += 1;
            let large = Op::put(format!("/large/{number}"), vec![7; 500_000]);
            let written = block_on(etcd.txn(Txn::always(vec![large])));
            if servers.log(1).contains("no space left on device") {
                return Ok(());
            }
            Err(format!("{number} large values, the last one: {written:?}"))
        });
        eyes.some_more(60);
        std::fs::remove_file(&filler).expect("there is room again");
        servers.kill(1);
        servers.start(1);
        eyes.some_more(30);
        // It has everything that it missed: the cluster lives on it and one other.
        servers.kill(0);
        eyes.some_more(60);
        servers.start(0);
    });
    mount(&["umount", "-l"]);
}

/// Writes until there is no more room.
fn fill(path: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).expect("a file");
    let block = vec![0; 64 << 10];
    while file.write_all(&block).is_ok() {}
    // The last of it byte by byte; a file system may have a little more than it says.
    while file.write_all(&[0]).is_ok() {}
}
