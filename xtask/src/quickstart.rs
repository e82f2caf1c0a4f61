//! The first command of the README: build, start three real programs, show them.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context as _;
use upkeep_testkit::try_wait_until;

use crate::shell;

/// The port that the example's files name.
const PORT: &str = "8081";

pub(crate) fn run() -> anyhow::Result<()> {
    shell::run(shell::cargo().args(["build", "--release", "--package", "upkeep"]))?;
    let binary = shell::target_dir().join("release/upkeep");
    let home = shell::target_dir().join("quickstart");
    fs::create_dir_all(&home).with_context(|| format!("failed to make {}", home.display()))?;
    let port = std::env::var("PORT").unwrap_or_else(|_| PORT.to_owned());
    let dir = example(&port, &home)?;
    let verb = |words: &[&str]| {
        let mut command = Command::new(&binary);
        command
            .args(words)
            .env("UPKEEP_HOME", &home)
            .env("PORT", &port)
            .current_dir(&dir);
        command
    };
    let url = format!("http://127.0.0.1:{port}/");
    shell::run(&mut verb(&["start", "upkeep.yaml"]))?;
    let answer = try_wait_until(&url, Duration::from_secs(30), || {
        let answer = get(&port).map_err(|error| error.to_string())?;
        // Somebody else may have the port.
        if answer.contains("Upkeep") {
            Ok(answer)
        } else {
            Err(format!("a stranger answers: {answer}"))
        }
    })
    .with_context(|| {
        format!(
            "no answer; `upkeep why web` may know more; PORT=8099 in front takes another port than {port}"
        )
    })?;
    shell::run(&mut verb(&["ls"]))?;
    println!("\n{url} answers: {answer}");
    println!(
        "
Try next (or open {url} in a browser):

  export UPKEEP_HOME={home} PATH={bin}:$PATH
  upkeep ls --watch            # the worker crashes now and then: watch its restarts
  upkeep logs -f               # all three, merged
  upkeep why worker            # why it is as it is
  kill -9 $(upkeep ping --json | sed 's/.*\"daemon_pid\": *\\([0-9]*\\).*/\\1/')
  upkeep ls                    # the daemon is a new one; no program was restarted

End it:

  upkeep kill",
        home = home.display(),
        bin = binary.parent().unwrap_or(&binary).display(),
    );
    Ok(())
}

/// Where the example is: as it stands, or a copy that names another port.
fn example(port: &str, home: &Path) -> anyhow::Result<PathBuf> {
    let original = shell::root().join("examples/quickstart");
    if port == PORT {
        return Ok(original);
    }
    let copy = home.join("example");
    fs::create_dir_all(&copy)?;
    for entry in fs::read_dir(&original)? {
        let from = entry?.path();
        let to = copy.join(from.file_name().context("a file has a name")?);
        fs::copy(&from, &to).with_context(|| format!("failed to copy {}", from.display()))?;
        let text = fs::read_to_string(&from)?;
        fs::write(&to, text.replace(PORT, port))?;
    }
    Ok(copy)
}

/// The body of the answer to `GET /`.
fn get(port: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    Ok(body.trim().to_owned())
}
