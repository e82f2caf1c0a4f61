//! A connection to one server of an ensemble.

use std::{
    io::Write as _,
    net::{TcpStream, ToSocketAddrs as _},
    time::Duration,
};

use crate::{
    address::Address,
    error::{Refused, ZooKeeperError, session},
    wire::{Reader, Writer, read_frame},
};

/// How long connecting to one server may take.
const CONNECT: Duration = Duration::from_secs(3);

// `ZooDefs.OpCode`.
const CREATE: i32 = 1;
const DELETE: i32 = 2;
const GET_DATA: i32 = 4;
const SET_DATA: i32 = 5;
const PING: i32 = 11;
const GET_CHILDREN: i32 = 12;
const CHECK: i32 = 13;
const MULTI: i32 = 14;
const AUTH: i32 = 100;
const CLOSE: i32 = -11;
const ERROR: i32 = -1;

/// Any version of a node.
const ANY: i32 = -1;

/// `Perms.ALL`.
const ALL: i32 = 31;

/// `CreateMode.PERSISTENT`.
const PERSISTENT: i32 = 0;

/// A user of the scheme `digest`.
#[derive(Clone)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// What ZooKeeper knows of a node besides its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The transaction that wrote its data last.
    pub modified: i64,
    /// Writes of its data since it was made, from 0.
    pub version: i32,
    /// The session that it goes with; 0: none.
    pub owner: i64,
    /// Nodes below it.
    pub children: i32,
}

/// A step of a change that happens whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Makes a node. With a login it is that user's alone; else everybody's.
    Create(String, Vec<u8>),
    /// Writes data, whatever was there.
    Set(String, Vec<u8>),
    /// Takes a node away, which has none below it.
    Delete(String),
    /// The node must be there, at this version of its data.
    Check(String, i32),
}

impl Op {
    fn path(&self) -> &str {
        match self {
            Self::Create(path, _) | Self::Set(path, _) | Self::Delete(path) | Self::Check(path, _) => path,
        }
    }
}

/// A session.
#[derive(Debug)]
pub struct Client {
    address: Address,
    server: String,
    stream: TcpStream,
    xid: i32,
    timeout: Duration,
    own: bool,
    /// The newest transaction that the server has told of.
    seen: i64,
}

impl Client {
    /// Connects to one of the servers. `timeout` is the session's, and the time that an answer may take.
    pub fn connect(
        address: &Address,
        login: Option<&Login>,
        timeout: Duration,
    ) -> Result<Self, ZooKeeperError> {
        let mut failed = Vec::new();
        for server in &address.servers {
            match Self::open(address, server, login, timeout) {
                Ok(client) => return Ok(client),
                // It would be no better elsewhere.
                Err(error @ ZooKeeperError::Refused { .. }) => return Err(error),
                Err(ZooKeeperError::Lost { why, .. } | ZooKeeperError::Protocol { why, .. }) => {
                    failed.push(format!("{server}: {why}"));
                }
                Err(error) => failed.push(format!("{server}: {error}")),
            }
        }
        Err(ZooKeeperError::Unreachable(failed.join(", ")))
    }

    fn open(
        address: &Address,
        server: &str,
        login: Option<&Login>,
        timeout: Duration,
    ) -> Result<Self, ZooKeeperError> {
        let lost = |error: std::io::Error| ZooKeeperError::Lost {
            at: server.to_owned(),
            why: error.to_string(),
        };
        let mut last = std::io::Error::other("its name has no address");
        let mut stream = None;
        for at in server.to_socket_addrs().map_err(lost)? {
            match TcpStream::connect_timeout(&at, CONNECT.min(timeout)) {
                Ok(opened) => {
                    stream = Some(opened);
                    break;
                }
                Err(error) => last = error,
            }
        }
        let stream = stream.ok_or(last).map_err(lost)?;
        stream.set_nodelay(true).map_err(lost)?;
        stream.set_read_timeout(Some(timeout)).map_err(lost)?;
        stream.set_write_timeout(Some(timeout)).map_err(lost)?;
        let mut client = Self {
            address: address.clone(),
            server: server.to_owned(),
            stream,
            xid: 0,
            timeout,
            own: login.is_some(),
            seen: 0,
        };
        let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        let hello = Writer::new()
            .int(0)
            .long(0)
            .int(millis)
            .long(0)
            .buffer(&[0; 16])
            .flag(false);
        client.send(&hello.frame())?;
        let answer = client.receive()?;
        let mut reader = Reader(&answer);
        let given = reader.int().and_then(|_| reader.int());
        match given.and_then(|given| u64::try_from(given).ok()) {
            Some(given) if given > 0 => client.timeout = Duration::from_millis(given),
            _ => return Err(client.protocol("no session")),
        }
        if let Some(login) = login {
            let words = format!("{}:{}", login.user, login.password);
            let auth = Writer::new().int(-4).int(AUTH).int(0).text("digest").text(&words);
            client.send(&auth.frame())?;
            client.answer(-4, "sign in at", "/")?;
        }
        Ok(client)
    }

    /// The session's time limit, as the server has set it. It wants to hear something within.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The newest transaction that an answer has told of.
    pub fn seen(&self) -> i64 {
        self.seen
    }

    /// Data of a node; `None` if it is not there.
    pub fn get(&mut self, path: &str) -> Result<Option<(Vec<u8>, Stat)>, ZooKeeperError> {
        let request = Writer::new().int(self.next()).int(GET_DATA);
        let request = request.text(&self.address.whole(path)).flag(false);
        let Some(answer) = self.found(request, path)? else {
            return Ok(None);
        };
        let mut reader = Reader(&answer);
        let data = reader.buffer().map(<[u8]>::to_vec);
        match (data, stat(&mut reader)) {
            (Some(data), Some(stat)) => Ok(Some((data, stat))),
            _ => Err(self.protocol("no data")),
        }
    }

    /// Names of the nodes below one, in order; `None` if it is not there.
    pub fn children(&mut self, path: &str) -> Result<Option<Vec<String>>, ZooKeeperError> {
        let request = Writer::new().int(self.next()).int(GET_CHILDREN);
        let request = request.text(&self.address.whole(path)).flag(false);
        let Some(answer) = self.found(request, path)? else {
            return Ok(None);
        };
        let mut reader = Reader(&answer);
        let count = reader.int().unwrap_or(-1);
        let names: Option<Vec<String>> = (0..count).map(|_| reader.text().map(str::to_owned)).collect();
        let mut names = names
            .filter(|_| count >= 0)
            .ok_or_else(|| self.protocol("no list"))?;
        names.sort_unstable();
        Ok(Some(names))
    }

    /// Carries steps out, all or none.
    pub fn change(&mut self, steps: &[Op]) -> Result<(), ZooKeeperError> {
        let mut request = Writer::new().int(self.next()).int(MULTI);
        for step in steps {
            request = self.step(request, step);
        }
        request = request.int(ERROR).flag(true).int(ERROR);
        let xid = self.xid;
        self.send(&request.frame())?;
        let first = steps.first().map_or("/", Op::path).to_owned();
        let answer = self.answer(xid, "change", &first)?;
        self.judge(steps, &answer)
    }

    /// A step with its `MultiHeader`.
    fn step(&self, writer: Writer, step: &Op) -> Writer {
        let path = self.address.whole(step.path());
        let begin = |kind| writer.int(kind).flag(false).int(ERROR).text(&path);
        match step {
            Op::Create(_, data) => {
                // All rights for whoever is signed in, or for everybody.
                let (scheme, id) = if self.own {
                    ("auth", "")
                } else {
                    ("world", "anyone")
                };
                let acl = begin(CREATE).buffer(data).int(1).int(ALL).text(scheme).text(id);
                acl.int(PERSISTENT)
            }
            Op::Set(_, data) => begin(SET_DATA).buffer(data).int(ANY),
            Op::Delete(_) => begin(DELETE).int(ANY),
            Op::Check(_, version) => begin(CHECK).int(*version),
        }
    }

    /// What became of the steps.
    fn judge(&self, steps: &[Op], answer: &[u8]) -> Result<(), ZooKeeperError> {
        let mut reader = Reader(answer);
        let mut index = 0;
        loop {
            let header = (reader.int(), reader.flag(), reader.int());
            let (Some(kind), Some(done), Some(_)) = header else {
                return Err(self.protocol("no end of a change"));
            };
            if done {
                return if index == steps.len() {
                    Ok(())
                } else {
                    Err(self.protocol("another number of steps"))
                };
            }
            let is_read = match kind {
                CREATE => reader.text().is_some(),
                SET_DATA => stat(&mut reader).is_some(),
                DELETE | CHECK => true,
                ERROR => match reader.int() {
                    // Of those before the one that failed, and -2 of those behind it.
                    Some(0 | -2) => true,
                    Some(code) => {
                        let path = steps.get(index).map_or("/", Op::path);
                        return Err(self.refused("change", path, code));
                    }
                    None => false,
                },
                _ => false,
            };
            if !is_read {
                return Err(self.protocol("no result of a step"));
            }
            index += 1;
        }
    }

    /// Tells the server that somebody is there.
    pub fn ping(&mut self) -> Result<(), ZooKeeperError> {
        self.send(&Writer::new().int(-2).int(PING).frame())?;
        self.answer(-2, "ping", "/").map(drop)
    }

    fn next(&mut self) -> i32 {
        self.xid = self.xid.checked_add(1).unwrap_or(1);
        self.xid
    }

    /// Sends a request, and reads its answer; `None`: there is no such node.
    fn found(&mut self, request: Writer, path: &str) -> Result<Option<Vec<u8>>, ZooKeeperError> {
        let xid = self.xid;
        self.send(&request.frame())?;
        match self.answer(xid, "read", path) {
            Err(ZooKeeperError::Refused {
                why: Refused::NoNode, ..
            }) => Ok(None),
            other => other.map(Some),
        }
    }

    fn send(&mut self, frame: &[u8]) -> Result<(), ZooKeeperError> {
        self.stream.write_all(frame).map_err(|error| self.lost(&error))
    }

    fn receive(&mut self) -> Result<Vec<u8>, ZooKeeperError> {
        read_frame(&mut self.stream).map_err(|error| self.lost(&error))
    }

    /// The answer to a request, without its header.
    fn answer(&mut self, xid: i32, what: &'static str, path: &str) -> Result<Vec<u8>, ZooKeeperError> {
        let frame = self.receive()?;
        let mut reader = Reader(&frame);
        let header = (reader.int(), reader.long(), reader.int());
        let (Some(answered), Some(zxid), Some(error)) = header else {
            return Err(self.protocol("no header"));
        };
        if answered != xid {
            return Err(self.protocol("the answer to something else"));
        }
        self.seen = self.seen.max(zxid);
        if error != 0 {
            return Err(self.refused(what, path, error));
        }
        Ok(reader.0.to_vec())
    }

    /// Of a code of `KeeperException`.
    fn refused(&self, what: &'static str, path: &str, code: i32) -> ZooKeeperError {
        match session(code) {
            Some(why) => ZooKeeperError::Lost {
                at: self.server.clone(),
                why: why.to_owned(),
            },
            None => ZooKeeperError::Refused {
                what,
                path: path.to_owned(),
                why: Refused::of(code),
            },
        }
    }

    fn lost(&self, error: &std::io::Error) -> ZooKeeperError {
        let why = match error.kind() {
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
                "it does not answer in time".to_owned()
            }
            std::io::ErrorKind::UnexpectedEof => "it ended the connection".to_owned(),
            _ => error.to_string(),
        };
        ZooKeeperError::Lost {
            at: self.server.clone(),
            why,
        }
    }

    fn protocol(&self, why: &str) -> ZooKeeperError {
        ZooKeeperError::Protocol {
            at: self.server.clone(),
            why: why.to_owned(),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // A courtesy: the session need not wait for its time limit.
        let xid = self.next();
        let _ = self.send(&Writer::new().int(xid).int(CLOSE).frame());
    }
}

fn stat(reader: &mut Reader<'_>) -> Option<Stat> {
    let _created = reader.long()?;
    let modified = reader.long()?;
    let _times = (reader.long()?, reader.long()?);
    let version = reader.int()?;
    let _versions = (reader.int()?, reader.int()?);
    let owner = reader.long()?;
    let _length = reader.int()?;
    let children = reader.int()?;
    let _children_modified = reader.long()?;
    Some(Stat {
        modified,
        version,
        owner,
        children,
    })
}
