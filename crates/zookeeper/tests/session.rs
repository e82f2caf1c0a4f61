//! What a server says of the session, and not of the request.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use upkeep_zookeeper::{Address, Client, Op, Refused, ZooKeeperError};

const LONG: Duration = Duration::from_secs(10);

fn request(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("a length");
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame).expect("a frame");
    frame
}

fn answer(stream: &mut TcpStream, parts: &[&[u8]]) {
    let frame = parts.concat();
    let length = u32::try_from(frame.len()).expect("it is short");
    stream.write_all(&length.to_be_bytes()).expect("written");
    stream.write_all(&frame).expect("written");
}

/// What becomes of a change that is answered with this code, for the whole of it.
fn told(code: i32) -> ZooKeeperError {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("an address");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody comes");
        request(&mut stream);
        let (version, timeout, session) =
            (0_i32.to_be_bytes(), 10_000_i32.to_be_bytes(), 7_i64.to_be_bytes());
        let password = [16_i32.to_be_bytes().as_slice(), &[0; 16]].concat();
        answer(&mut stream, &[&version, &timeout, &session, &password, &[0]]);
        let asked = request(&mut stream);
        answer(
            &mut stream,
            &[&asked[..4], &1_i64.to_be_bytes(), &code.to_be_bytes()],
        );
    });
    let address: Address = format!("zookeeper://{at}").parse().expect("an address");
    let mut client = Client::connect(&address, None, LONG).expect("a session");
    let error = client
        .change(&[Op::Delete("/x".to_owned())])
        .expect_err("refused");
    server.join().expect("it answers");
    error
}

#[test]
fn codes_of_the_session_are_a_lost_connection() {
    for code in [-4, -112, -118] {
        let error = told(code);
        assert!(matches!(error, ZooKeeperError::Lost { .. }), "{code}: {error}");
    }
    let error = told(-101);
    assert!(
        matches!(&error, ZooKeeperError::Refused { why: Refused::NoNode, path, .. } if path == "/x"),
        "{error}"
    );
}
