//! This program as a daemon without a mind: it hands its link to the test, and waits to be killed or to be told with
//! which code to exit.

use std::{path::PathBuf, process::ExitCode};

use upkeep_keeper::client::DESCRIPTOR_VARIABLE;
use upkeep_sys::{Pid, descriptor, fd_pass, listener};

pub(crate) fn main() -> ExitCode {
    let world = PathBuf::from(std::env::var_os("WORLD").expect("WORLD"));
    let number = std::env::var(DESCRIPTOR_VARIABLE)
        .expect("a link")
        .parse()
        .expect("a number");
    let link = descriptor::adopt(number).expect("a link");
    let Ok(control) = listener::unix_connect(&world.join("control")) else {
        return ExitCode::FAILURE;
    };
    let name = std::env::args().next().unwrap_or_default();
    let name = PathBuf::from(name)
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let text = format!("{} {}", Pid::own(), name.unwrap_or_default());
    fd_pass::send(&control, text.as_bytes(), &[std::os::fd::AsFd::as_fd(&link)]).expect("the test listens");
    drop(link);
    let mut code = [0];
    match descriptor::read(&control, &mut code) {
        Ok(1) => ExitCode::from(code[0]),
        _ => ExitCode::FAILURE,
    }
}
