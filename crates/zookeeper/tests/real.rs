//! Beside a real ZooKeeper 3.8: Debian's.

use std::time::Duration;

use upkeep_testkit::zookeeper::ZooKeeper;
use upkeep_zookeeper::{Address, Client, Login, Op, Refused, ZooKeeperError};

const TIMEOUT: Duration = Duration::from_secs(10);

fn connect(url: &str, login: Option<&Login>) -> Client {
    let address: Address = url.parse().expect("an address");
    Client::connect(&address, login, TIMEOUT).expect("it is there")
}

fn create(path: &str, data: &str) -> Op {
    Op::Create(path.to_owned(), data.as_bytes().to_vec())
}

fn why(done: Result<(), ZooKeeperError>) -> Refused {
    match done {
        Err(ZooKeeperError::Refused { why, .. }) => why,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn what_is_written_is_read_and_a_change_is_whole_or_nothing() {
    let server = ZooKeeper::single();
    let mut client = connect(&server.url(), None);
    client
        .change(&[
            create("/shop", ""),
            create("/shop/url", "postgres://"),
            create("/shop/ü", "\0"),
            create("/shop/url/deep", "below a value"),
        ])
        .expect("it is written");
    let (data, stat) = client.get("/shop/url").expect("read").expect("there");
    assert_eq!(
        (data.as_slice(), stat.version, stat.children),
        (b"postgres://".as_slice(), 0, 1)
    );
    assert_eq!(
        client.children("/shop").expect("read"),
        Some(vec!["url".to_owned(), "ü".to_owned()])
    );
    assert_eq!(client.get("/none").expect("read"), None);
    assert_eq!(client.children("/none").expect("read"), None);

    // The second step cannot be: the first is not done either, and it is told which.
    let set = |path: &str| Op::Set(path.to_owned(), b"new".to_vec());
    let error = client
        .change(&[set("/shop/url"), create("/shop", "")])
        .expect_err("it is there already");
    assert!(error.to_string().contains("`/shop`"), "{error}");
    assert_eq!(why(Err(error)), Refused::Exists);
    assert_eq!(
        client.get("/shop/url").expect("read").expect("there").0,
        b"postgres://"
    );
    assert_eq!(why(client.change(&[set("/none")])), Refused::NoNode);
    assert_eq!(
        why(client.change(&[Op::Delete("/shop".to_owned())])),
        Refused::NotEmpty
    );
    let check = Op::Check("/shop/url".to_owned(), 7);
    assert_eq!(why(client.change(&[check, set("/shop/url")])), Refused::Version);
    client
        .change(&[
            Op::Check("/shop/url".to_owned(), 0),
            set("/shop/url"),
            Op::Delete("/shop/ü".to_owned()),
        ])
        .expect("it is written");
    client.ping().expect("it is there");

    let tree = client.tree("/shop").expect("read");
    assert!(tree.is_of_one_moment);
    let seen: Vec<(&str, &[u8], bool)> = tree
        .nodes
        .iter()
        .map(|(path, node)| (path.as_str(), node.data.as_slice(), node.has_children))
        .collect();
    assert_eq!(
        seen,
        [
            ("/shop", b"".as_slice(), true),
            ("/shop/url", b"new", true),
            ("/shop/url/deep", b"below a value", false),
        ]
    );
    // By another root, which is what paths begin at.
    let mut inner = connect(&format!("{}/shop", server.url()), None);
    assert_eq!(inner.get("/url").expect("read").expect("there").0, b"new");
    let whole = inner.tree("/").expect("read");
    assert_eq!(
        whole.nodes.keys().map(String::as_str).collect::<Vec<_>>(),
        ["/", "/url", "/url/deep"]
    );
    // ZooKeeper's own nodes are nobody's configuration.
    assert!(
        client
            .tree("/")
            .expect("read")
            .nodes
            .keys()
            .all(|path| !path.starts_with("/zookeeper"))
    );
}

#[test]
fn nodes_of_a_user_are_that_users() {
    let server = ZooKeeper::single();
    let login = |password: &str| Login {
        user: "ann".to_owned(),
        password: password.to_owned(),
    };
    let mut ann = connect(&server.url(), Some(&login("right")));
    ann.change(&[create("/mine", "private")]).expect("it is written");
    let mut other = connect(&server.url(), Some(&login("wrong")));
    match other.get("/mine") {
        Err(ZooKeeperError::Refused {
            why: Refused::Denied,
            path,
            ..
        }) => assert_eq!(path, "/mine"),
        answer => panic!("{answer:?}"),
    }
    assert_eq!(
        why(other.change(&[Op::Set("/mine".to_owned(), Vec::new())])),
        Refused::Denied
    );
    assert_eq!(ann.get("/mine").expect("read").expect("there").0, b"private");
}

#[test]
fn a_server_that_goes_is_told_and_another_is_found() {
    let mut servers = ZooKeeper::three();
    let mut client = connect(&servers.url(), None);
    client.change(&[create("/a", "1")]).expect("it is written");
    // The first of the list is the one that it has.
    servers.kill(0);
    assert!(matches!(client.get("/a"), Err(ZooKeeperError::Lost { .. })));
    let mut client = upkeep_testkit::wait_until("an ensemble of two to serve", TIMEOUT * 3, || {
        let address: Address = servers.url().parse().expect("an address");
        let mut client = Client::connect(&address, None, TIMEOUT).map_err(|error| error.to_string())?;
        let found = client.get("/a").map_err(|error| error.to_string())?;
        assert_eq!(found.expect("it was acknowledged").0, b"1");
        Ok(client)
    });
    client.change(&[create("/b", "2")]).expect("it is written");
    drop(servers);
    assert!(matches!(client.get("/b"), Err(ZooKeeperError::Lost { .. })));
}

#[test]
fn who_is_not_there_is_named() {
    let at = upkeep_testkit::free_address();
    let address: Address = format!("zookeeper://{at}").parse().expect("an address");
    let error = Client::connect(&address, None, TIMEOUT).expect_err("nobody is there");
    assert!(error.to_string().contains(&at.to_string()), "{error}");
}

#[test]
fn a_server_that_is_none_is_no_danger() {
    use std::io::{Read as _, Write as _};
    let garbage: [&[u8]; 5] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[255; 64],
        &[0, 0, 0, 0],
        &[0, 0, 0, 3, 1, 2, 3],
        &[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0],
    ];
    for said in garbage {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address: Address = listener
            .local_addr()
            .expect("an address")
            .to_string()
            .parse()
            .expect("an address");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().expect("a client");
                stream.write_all(said).expect("sent");
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = stream.read_to_end(&mut Vec::new());
            });
            let answer = Client::connect(&address, None, Duration::from_secs(2));
            assert!(
                matches!(answer, Err(ZooKeeperError::Unreachable(_))),
                "{said:?}: {answer:?}"
            );
        });
    }
}
