//! `host`: the machines that `--host` names; and `connect`, what ssh starts at the other end.

use std::{
    io::{IsTerminal as _, Read as _, Write as _},
    os::unix::net::UnixStream,
};

use serde_json::json;
use upkeep_api::{
    access::WhoAmI,
    client::transport::{self, GREETING},
};
use upkeep_model::{
    file::hosts::{Host, Hosts},
    settings::Name,
};

use super::machine::keeper_of;
use crate::{
    args::{HostAdd, HostVerb},
    connect::{connect_or_start, wait_for},
    exit::{Advised, Exit},
    hosts::{self, Remote},
    output::{Output, progress},
    settings::Settings,
};

pub(crate) async fn run(verb: HostVerb, output: Output) -> anyhow::Result<Exit> {
    match verb {
        HostVerb::Ls { quiet } => list(quiet, output),
        HostVerb::Add(add) => self::add(*add, output).await,
        HostVerb::Rm { name } => remove(&name, output),
        HostVerb::Test { name } => test(&Remote::find(&name)?, output).await,
    }
}

fn list(quiet: bool, output: Output) -> anyhow::Result<Exit> {
    let Hosts { hosts } = hosts::load()?;
    if output.json {
        output.document(&json!({ "hosts": hosts }))?;
        return Ok(Exit::Done);
    }
    if quiet {
        let names: Vec<&str> = hosts.keys().map(|name| name.as_str()).collect();
        output.text(&names.join("\n"))?;
        return Ok(Exit::Done);
    }
    if hosts.is_empty() {
        output.say("no hosts; `upkeep host add NAME --ssh user@host` adds one");
        return Ok(Exit::Done);
    }
    let width = hosts.keys().map(|name| name.as_str().len()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for (name, host) in hosts {
        let remote = Remote::new(name.as_str(), host)?;
        lines.push(format!("{:width$}  {}", remote.name, remote.way()));
    }
    output.text(&lines.join("\n"))?;
    Ok(Exit::Done)
}

/// Paths are written whole: the file of hosts lies elsewhere.
fn whole(path: Option<std::path::PathBuf>) -> anyhow::Result<Option<String>> {
    let Some(path) = path else {
        return Ok(None);
    };
    let path = std::path::absolute(path)?;
    match path.to_str() {
        Some(text) => Ok(Some(text.to_owned())),
        None => Err(Advised::new(Exit::Usage, format!("`{}` is no path of UTF-8", path.display())).into()),
    }
}

async fn add(add: HostAdd, output: Output) -> anyhow::Result<Exit> {
    let usage = |why: String| Advised::new(Exit::Usage, why);
    let name: Name = add
        .name
        .parse()
        .map_err(|error| usage(format!("`{}` cannot be the name of a host: {error}", add.name)))?;
    let mut hosts = hosts::load()?;
    if hosts.hosts.contains_key(&name) && !add.force {
        let text = format!("there is a host `{name}` already");
        let refused = Advised::new(Exit::Conflict, text);
        return Err(refused.hint("`--force` replaces it").into());
    }
    let ca = match &add.ca {
        None => None,
        Some(text) => Some(
            upkeep_api::pem::parse_fingerprint(text)
                .ok_or_else(|| usage(format!("`{text}` is no hash `sha256:…`")))?,
        ),
    };
    let mut host = Host {
        url: add.url.map(|url| url.parse().map_err(usage)).transpose()?,
        ca,
        ca_file: whole(add.ca_file)?,
        token_file: whole(add.token_file)?,
        cert_file: whole(add.cert)?,
        ssh: add.ssh,
        ssh_args: add.ssh_arg,
        program: add.program,
        socket: whole(add.socket)?,
    };
    host.check().map_err(usage)?;
    if add.trust {
        host.ca = Some(first_use(&host, add.yes, output).await?);
    }
    hosts.hosts.insert(name.clone(), host.clone());
    hosts::store(&hosts)?;
    output.say(&format!(
        "`upkeep --host {name} ls` asks {}; `upkeep host test {name}` tells whether it answers",
        Remote::new(name.as_str(), host)?.way()
    ));
    Ok(Exit::Done)
}

/// What a machine shows is shown to the user, who says whether that is it.
async fn first_use(host: &Host, yes: bool, output: Output) -> anyhow::Result<String> {
    let Some(url) = host.url.as_ref().filter(|url| url.parts().0 == "https") else {
        return Err(Advised::new(Exit::Usage, "`--trust` is for `https`").into());
    };
    let shown = transport::show_authority(hosts::address(url).await?).await?;
    output.say(&format!(
        "{url} shows the authority\n  {shown}\n`upkeep cert show` on that machine must tell the same."
    ));
    if yes {
        return Ok(shown);
    }
    if !std::io::stdin().is_terminal() {
        return Err(
            Advised::new(Exit::Refused, "nobody has said that this is the right one")
                .hint(format!("compare, then: `--ca {shown}`, or `--trust --yes`"))
                .into(),
        );
    }
    // Not with what is said: the answer comes on the same line.
    write!(std::io::stderr(), "Is it the same? [y/N] ")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(shown)
    } else {
        Err(Advised::new(Exit::Refused, "nothing was added").into())
    }
}

fn remove(name: &str, output: Output) -> anyhow::Result<Exit> {
    // Says so if there is none.
    let remote = Remote::find(name)?;
    let mut hosts = hosts::load()?;
    hosts.hosts.retain(|key, _| key.as_str() != name);
    hosts::store(&hosts)?;
    output.say(&format!("{} is forgotten", remote.name));
    Ok(Exit::Done)
}

async fn test(remote: &Remote, output: Output) -> anyhow::Result<Exit> {
    let asked = async {
        let mut client = remote.connect(false).await?;
        client.get::<WhoAmI>("/v1/whoami").await
    };
    let who = progress::during(&format!("asking {}", remote.name), asked).await?;
    if output.json {
        output.document(&json!({"host": remote.name, "way": remote.way(), "whoami": who}))?;
    } else {
        output.text(&format!(
            "{} answers by {}: there we are `{}` with the roles {}",
            remote.name,
            remote.way(),
            who.principal,
            if who.roles.is_empty() {
                "(none)".to_owned()
            } else {
                who.roles.join(", ")
            },
        ))?;
    }
    Ok(Exit::Done)
}

/// How long a daemon that was killed may take to come back.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(12);

/// Joins standard input and output with the socket of the daemon.
pub(crate) async fn connect(start: bool, settings: &Settings) -> anyhow::Result<Exit> {
    // One client says who is there, and knows how to wait and to start.
    drop(if start {
        connect_or_start(settings).await?
    } else if keeper_of(settings).is_some() {
        wait_for(settings, PATIENCE).await?
    } else {
        crate::connect::connect(settings).await?
    });
    let socket = transport::unix(&settings.home.socket()).await?.into_std()?;
    socket.set_nonblocking(false)?;
    // Nothing else runs here: two threads that wait are all it takes.
    join(socket)?;
    Ok(Exit::Done)
}

fn join(mut socket: UnixStream) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{GREETING}")?;
    output.flush()?;
    let mut into = socket.try_clone()?;
    // It ends with the process: standard input cannot be told that nobody listens any more.
    std::thread::spawn(move || {
        // Whichever way it ends, the client has left.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut into);
        let _ = into.shutdown(std::net::Shutdown::Both);
    });
    let mut buffer = vec![0; 64 << 10];
    loop {
        match socket.read(&mut buffer)? {
            0 => return Ok(()),
            length => {
                output.write_all(&buffer[..length])?;
                // What follows may be long in coming.
                output.flush()?;
            }
        }
    }
}
