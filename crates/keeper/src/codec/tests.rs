use std::collections::VecDeque;

use super::*;

fn spec() -> SpawnSpec {
    SpawnSpec {
        argv: vec!["a".into(), OsString::from_vec(vec![0xff, 0xfe]), "".into()],
        env: vec![("A".into(), "=b".into())],
        cwd: "/x y".into(),
        uid: Some(1),
        gid: None,
        groups: Some(vec![2, 3]),
        umask: Some(0o22),
        rlimits: vec![(7, 1, u64::MAX)],
        descriptors: vec![(1, "out".into()), (9, "ö".into())],
        cgroup: true,
        no_new_privs: false,
        ..SpawnSpec::default()
    }
}

fn caged() -> SpawnSpec {
    let path = || std::path::PathBuf::from("/ö");
    SpawnSpec {
        limits: Limits {
            memory: Some(1),
            tasks: Some(u64::MAX),
            ..Limits::default()
        },
        cage: Some(Box::new(crate::protocol::Cage {
            user: true,
            network: true,
            mounts: crate::protocol::Mounts {
                own_devices: true,
                hidden: vec![path(), path()],
                temporary: vec![crate::protocol::Temporary {
                    path: path(),
                    size: 1,
                    mode: 0o1777,
                }],
                same: vec![(path(), path())],
                frozen: vec![path()],
                kept: vec![crate::protocol::Kept {
                    path: path(),
                    writable: true,
                }],
                ..crate::protocol::Mounts::default()
            },
            capabilities: Some(3),
            landlock: Some(crate::protocol::Landlock {
                handled: 1,
                network: 2,
                scoped: 3,
                rules: vec![(path(), 4)],
            }),
            filters: vec![vec![6, 0, 0, 0, 0, 0, 0xff, 0x7f], Vec::new()],
            ..crate::protocol::Cage::default()
        })),
        oom_score_adj: Some(-1000),
        ..spec()
    }
}

fn null() -> OwnedFd {
    upkeep_sys::descriptor::open_null().unwrap()
}

fn requests() -> Vec<Request> {
    let name = || "näme\0\n".to_owned();
    vec![
        Request::Hello {
            oldest: 1,
            newest: 2,
            program_version: "0.1".into(),
        },
        Request::Ready,
        Request::Spawn {
            id: 1,
            key: name(),
            spec: Box::new(spec()),
        },
        Request::Spawn {
            id: u64::MAX,
            key: String::new(),
            spec: Box::default(),
        },
        Request::Spawn {
            id: 1,
            key: name(),
            spec: Box::new(caged()),
        },
        Request::SetLimits {
            id: 13,
            key: name(),
            limits: caged().limits,
        },
        Request::Signal {
            id: 2,
            key: name(),
            signal: -1,
            scope: Scope::Tree,
        },
        Request::Signal {
            id: 2,
            key: name(),
            signal: 15,
            scope: Scope::Leader,
        },
        Request::AckExit { seq: 3 },
        Request::MakePipe { id: 4, name: name() },
        Request::Listen {
            id: 5,
            name: name(),
            address: ListenAddress::Tcp("[::1]:80".parse().unwrap()),
        },
        Request::Listen {
            id: 5,
            name: name(),
            address: ListenAddress::Udp("1.2.3.4:0".parse().unwrap()),
        },
        Request::Listen {
            id: 5,
            name: name(),
            address: ListenAddress::Unix("/a".into(), 0o600),
        },
        Request::PutDescriptor {
            id: 6,
            name: name(),
            descriptor: null(),
        },
        Request::GetDescriptor { id: 7, name: name() },
        Request::CloseDescriptor { id: 8, name: name() },
        Request::SetNote {
            key: name(),
            bytes: vec![0, 255],
        },
        Request::List { id: 9 },
        Request::UpgradeDaemon {
            id: 10,
            program: "/b".into(),
        },
        Request::UpgradeKeeper {
            id: 11,
            program: "/c".into(),
        },
        Request::Leave { id: 12 },
    ]
}

fn record(how: Ended) -> ExitRecord {
    ExitRecord {
        seq: 1,
        key: "k".into(),
        pid: 2,
        how,
        started_unix_ms: 3,
        exited_unix_ms: 4,
        started_mono_ms: 5,
        exited_mono_ms: 6,
        usage: Usage {
            user_us: 7,
            system_us: 8,
            max_rss_kib: 9,
            major_faults: 10,
        },
        leftovers: true,
        oom_kills: 0,
    }
}

fn events() -> Vec<Event> {
    let child = ChildEntry {
        key: "k".into(),
        pid: 1,
        start_ticks: 2,
        started_unix_ms: 3,
        started_mono_ms: 4,
        stray: true,
    };
    let listing = Listing {
        children: vec![child],
        descriptors: vec!["d".into()],
        notes: vec![("n".into(), vec![1])],
    };
    let mut all = vec![
        Event::Welcome {
            version: 1,
            program_version: "v".into(),
            pid: 2,
            epoch: 3,
            tracking: "t".into(),
        },
        Event::Done { id: 1, count: 2 },
        Event::Spawned {
            id: 1,
            key: "k".into(),
            pid: 2,
            start_ticks: 3,
            started_unix_ms: 4,
        },
        Event::Descriptor {
            id: 1,
            name: "d".into(),
            descriptor: null(),
        },
        Event::Exited(record(Ended::Code(255))),
        Event::Exited(ExitRecord {
            oom_kills: 2,
            ..record(Ended::Unknown)
        }),
        Event::Exited(record(Ended::Signal {
            number: 9,
            core: true,
        })),
        Event::Exited(record(Ended::Unknown)),
        Event::Listing {
            id: 1,
            listing: Box::new(listing),
        },
        Event::Listing {
            id: 1,
            listing: Box::default(),
        },
        Event::Retire,
        Event::Terminate { signal: 15 },
        Event::UpgradeOutcome {
            ok: true,
            message: "m".into(),
        },
    ];
    all.extend(REFUSALS.map(|refusal| Event::Refused {
        id: 1,
        refusal,
        errno: 2,
        message: "m".into(),
    }));
    all
}

/// Without what differs between two descriptors of one file.
fn shown(message: &impl std::fmt::Debug) -> String {
    let text = format!("{message:?}");
    match text.find("OwnedFd") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

#[test]
fn every_request_comes_back_as_it_was() {
    for request in requests() {
        let mut passed = VecDeque::from([Some(null())]);
        match decode_request(&encode_request(&request), &mut passed) {
            Ok(Received::Request(read)) => assert_eq!(shown(&read), shown(&request)),
            other => panic!("{request:?}: {other:?}"),
        }
        assert_eq!(
            passed.is_empty(),
            matches!(request, Request::PutDescriptor { .. })
        );
    }
}

#[test]
fn every_event_comes_back_as_it_was() {
    for event in events() {
        let mut passed = VecDeque::from([Some(null())]);
        let read = decode_event(&encode_event(&event), &mut passed).unwrap();
        assert_eq!(shown(&read), shown(&event));
        assert_eq!(passed.is_empty(), matches!(event, Event::Descriptor { .. }));
    }
}

#[test]
fn a_descriptor_that_did_not_come_is_malformed_and_a_lost_one_is_not() {
    let put = encode_request(&Request::PutDescriptor {
        id: 6,
        name: "d".into(),
        descriptor: null(),
    });
    assert!(decode_request(&put, &mut VecDeque::new()).is_err());
    let lost = decode_request(&put, &mut VecDeque::from([None]));
    assert!(matches!(lost, Ok(Received::DescriptorLost { id: 6 })));
    let got = encode_event(&Event::Descriptor {
        id: 7,
        name: "d".into(),
        descriptor: null(),
    });
    assert!(decode_event(&got, &mut VecDeque::new()).is_err());
    let lost = decode_event(&got, &mut VecDeque::from([None])).unwrap();
    assert!(matches!(
        lost,
        Event::Refused {
            id: 7,
            refusal: Refusal::Kernel,
            errno: 24,
            ..
        }
    ));
}

/// All that decoding may do with bytes.
fn decode_both(bytes: &[u8]) -> (bool, bool) {
    let request = decode_request(bytes, &mut VecDeque::from([Some(null())])).is_ok();
    let event = decode_event(bytes, &mut VecDeque::from([Some(null())])).is_ok();
    (request, event)
}

#[test]
fn what_is_cut_short_or_too_long_is_malformed() {
    let encoded = requests()
        .iter()
        .map(encode_request)
        .chain(events().iter().map(encode_event))
        .collect::<Vec<_>>();
    for mut bytes in encoded {
        for end in 0..bytes.len() {
            assert_eq!(
                decode_both(&bytes[..end]),
                (false, false),
                "{bytes:?} cut at {end}"
            );
        }
        bytes.push(0);
        assert_eq!(decode_both(&bytes), (false, false), "{bytes:?}");
    }
}

#[test]
fn random_bytes_never_panic() {
    // xorshift: the same bytes in every run.
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let encoded = requests()
        .iter()
        .map(encode_request)
        .chain(events().iter().map(encode_event))
        .collect::<Vec<_>>();
    for round in 0..20_000 {
        let mut bytes: Vec<u8> = match round % 2 {
            0 => (0..random() % 64).map(|_| (random() & 0xff) as u8).collect(),
            _ => encoded[usize::try_from(random()).unwrap() % encoded.len()].clone(),
        };
        for _ in 0..random() % 4 {
            if !bytes.is_empty() {
                let at = usize::try_from(random()).unwrap() % bytes.len();
                bytes[at] = (random() & 0xff) as u8;
            }
        }
        decode_both(&bytes);
    }
}

#[test]
fn a_list_that_claims_too_much_asks_for_no_memory() {
    let mut bytes = encode_event(&Event::Listing {
        id: 1,
        listing: Box::default(),
    });
    bytes[9..13].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(
        decode_event(&bytes, &mut VecDeque::new()).unwrap_err(),
        Malformed {
            at: 13,
            what: "a list longer than the message"
        }
    );
}

#[test]
fn what_version_1_knows_is_said_in_its_words() {
    let kind = |request: &Request| encode_request(request)[0];
    let spawn = |spec| Request::Spawn {
        id: 1,
        key: "k".into(),
        spec: Box::new(spec),
    };
    assert_eq!(kind(&spawn(spec())), request::SPAWN);
    assert_eq!(kind(&spawn(caged())), request::SPAWN_CAGED);
    assert_eq!(
        encode_event(&Event::Exited(record(Ended::Unknown)))[0],
        event::EXITED
    );
}
