//! `web`: the listener over TCP, for browsers and for other machines.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;
use upkeep_api::{
    access::{TokenCreated, TokenPost},
    body::{DaemonView, ListenerView},
    client::Client,
    settings::{SettingsPut, SettingsResult, SettingsView},
};
use upkeep_model::settings::{Web as WebSettings, web::Listen};

use crate::{
    args::Web,
    connect::connect_or_start,
    exit::{Advised, Exit},
    output::{Output, progress, time},
    settings::Settings,
};

/// Where it listens if nobody has said where.
const DEFAULT: &str = "127.0.0.1:9616";
/// How long an address may take to be listened on.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a token holds that is made for signing in.
const TOKEN_DAYS: f64 = 30.0;

fn parsed<T: std::str::FromStr<Err = String>>(texts: &[String]) -> anyhow::Result<Vec<T>> {
    let all: Result<Vec<T>, String> = texts.iter().map(|text| text.parse()).collect();
    Ok(all.map_err(|why| Advised::new(Exit::Usage, why))?)
}

/// `9615` stands for that port on loopback.
fn health(text: &str) -> anyhow::Result<Listen> {
    let text = match text.parse::<u16>() {
        Ok(port) => format!("127.0.0.1:{port}"),
        Err(_) => text.to_owned(),
    };
    Ok(text.parse().map_err(|why| Advised::new(Exit::Usage, why))?)
}

/// What is to hold, from what holds.
fn wanted(web: &Web, mut now: WebSettings) -> anyhow::Result<WebSettings> {
    if web.off {
        now.listen.clear();
        now.pm2_health = None;
        return Ok(now);
    }
    if !web.listen.is_empty() {
        now.listen = parsed(&web.listen)?;
    } else if now.listen.is_empty() && web.health_port.is_none() {
        now.listen = parsed(&[DEFAULT.to_owned()])?;
    }
    if !web.name.is_empty() {
        now.names = parsed(&web.name)?;
    }
    if !web.origin.is_empty() {
        now.origins = parsed(&web.origin)?;
    }
    if let Some(text) = &web.health_port {
        now.pm2_health = Some(health(text)?);
    }
    Ok(now)
}

/// What a browser calls the machine that listens: as the user reaches it, or as it calls itself.
fn called(settings: &Settings, view: &DaemonView) -> String {
    let url = settings.host.as_ref().and_then(|remote| remote.host.url.as_ref());
    match url.and_then(|url| url.address().ok()) {
        Some((host, _)) if host.contains(':') => format!("[{host}]"),
        Some((host, _)) => host.to_owned(),
        None => view.hostname.clone(),
    }
}

/// Where a browser finds it: an address of all is none of a browser.
fn url(listener: &ListenerView, machine: &str) -> String {
    listener
        .url
        .replace("//0.0.0.0:", &format!("//{machine}:"))
        .replace("//[::]:", &format!("//{machine}:"))
}

/// Whether only the machine that listens reaches it.
fn is_loopback(listener: &ListenerView) -> bool {
    let address = listener.url.split_once("://").map_or("", |(_, address)| address);
    address.parse::<Listen>().is_ok_and(Listen::is_loopback)
}

/// Waits until every address is listened on, or something is wrong with one.
async fn settled(client: &mut Client, count: usize) -> anyhow::Result<DaemonView> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let view: DaemonView = client.get("/v1/daemon").await?;
        let is_done = |one: &ListenerView| one.listening || one.trouble.is_some();
        let all = view.listeners.len() == count && view.listeners.iter().all(is_done);
        if all || Instant::now() >= deadline {
            return Ok(view);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A token for signing in, with the role that was asked for.
async fn token(client: &mut Client, role: &str, settings: &Settings) -> anyhow::Result<Option<String>> {
    let now = time::now();
    let post = TokenPost {
        name: format!("web-{role}-{now:.0}"),
        roles: vec![role.to_owned()],
        bound: None,
        expires_at: Some(now + TOKEN_DAYS * 24.0 * 3600.0),
        reason: settings
            .reason
            .clone()
            .or_else(|| Some("for signing in".to_owned())),
        dry_run: settings.dry_run,
    };
    let made: TokenCreated = client.call("POST", "/v1/tokens", Some(&post)).await?;
    Ok(made.secret)
}

pub(crate) async fn run(web: Web, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    let before: SettingsView = client.get("/v1/settings").await?;
    let mut machine = before.settings.clone();
    machine.web = wanted(&web, machine.web)?;
    let count = machine.web.listen.len() + usize::from(machine.web.pm2_health.is_some());
    let is_changed = machine != before.settings;
    if is_changed {
        let put = SettingsPut {
            settings: machine,
            revision: Some(before.revision),
            reason: settings.reason.clone(),
            dry_run: settings.dry_run,
        };
        let _: SettingsResult = client.call("PUT", "/v1/settings", Some(&put)).await?;
    }
    if settings.dry_run {
        output.say(if is_changed {
            "the settings would change"
        } else {
            "nothing changes"
        });
        return Ok(Exit::Done);
    }
    let view = progress::during("waiting for the listener", settled(&mut client, count)).await?;
    let (machine, listeners) = (called(settings, &view), view.listeners);
    let token = match &web.token {
        Some(role) => token(&mut client, role, settings).await?,
        None => None,
    };
    if output.json {
        output.document(&json!({"listeners": listeners, "token": token}))?;
    } else {
        tell(&listeners, &machine, token.as_deref(), output)?;
        far(&listeners, settings, output);
    }
    if listeners.len() < count
        || listeners
            .iter()
            .any(|one| !one.listening || one.trouble.is_some())
    {
        return Ok(Exit::Failed);
    }
    if web.open
        && let Some(first) = listeners.iter().find(|one| one.serves == "api")
    {
        if settings.host.is_some() && is_loopback(first) {
            output.warn("no browser was started: the listener is reached by that machine alone");
        } else {
            open(&url(first, &machine), output);
        }
    }
    Ok(Exit::Done)
}

/// Of another machine: how a browser of this one comes to a listener of that one's loopback.
fn far(listeners: &[ListenerView], settings: &Settings, output: Output) {
    // By a `url` the user has a way of their own, and a socket is of this machine.
    let Some((remote, ssh)) = settings
        .host
        .as_ref()
        .and_then(|remote| Some((remote, remote.host.ssh.as_ref()?)))
    else {
        return;
    };
    for one in listeners.iter().filter(|one| one.listening && is_loopback(one)) {
        let Some((address, (_, port))) = one
            .url
            .split_once("://")
            .and_then(|(_, address)| Some((address, address.rsplit_once(':')?)))
        else {
            continue;
        };
        let words = ["ssh", "-N", "-L", &format!("{port}:{address}")];
        let words = words
            .into_iter()
            .chain(remote.host.ssh_args.iter().map(String::as_str))
            .chain([ssh.as_str()]);
        output.say(&format!(
            "{address} is loopback of {}: `{}` leads there from here",
            remote.name,
            words.map(in_a_shell).collect::<Vec<_>>().join(" ")
        ));
    }
}

/// A word as a shell takes it.
fn in_a_shell(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@,%+[]".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn tell(
    listeners: &[ListenerView],
    machine: &str,
    token: Option<&str>,
    output: Output,
) -> anyhow::Result<()> {
    if listeners.is_empty() {
        output.say("nothing listens over TCP");
    }
    for one in listeners {
        match &one.trouble {
            Some(trouble) => output.warn(&format!("{}: {trouble}", one.url)),
            None if !one.listening => output.warn(&format!("{}: not yet", one.url)),
            None => output.text(&url(one, machine))?,
        }
    }
    if let Some(token) = token {
        output.say(&format!("for signing in, shown once, for {TOKEN_DAYS} days:"));
        output.text(token)?;
    }
    Ok(())
}

/// Shows a page in the user's browser.
fn open(url: &str, output: Output) {
    let started = Command::new("xdg-open")
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Err(error) = started {
        output.warn(&format!(
            "no browser could be started (`xdg-open`: {error}): open {url}"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web(change: impl FnOnce(&mut Web)) -> Web {
        let mut web = Web::default();
        change(&mut web);
        web
    }

    #[test]
    fn what_is_not_named_stays() {
        let now = wanted(&Web::default(), WebSettings::default()).expect("the default");
        assert_eq!(now.listen, [DEFAULT.parse().expect("an address")]);
        let more = web(|web| web.name = vec!["web1".to_owned()]);
        let now = wanted(&more, now).expect("a name");
        assert_eq!((now.listen.len(), now.names.len()), (1, 1));
        let health = web(|web| web.health_port = Some("9615".to_owned()));
        let now = wanted(&health, now).expect("a port");
        assert_eq!(
            now.pm2_health,
            Some("127.0.0.1:9615".parse().expect("an address"))
        );
        let only = wanted(&health, WebSettings::default()).expect("a port");
        assert!(only.listen.is_empty());
        let off = wanted(&web(|web| web.off = true), now).expect("nothing");
        assert!(off.listen.is_empty() && off.pm2_health.is_none());
        assert_eq!(off.names.len(), 1, "names are kept for the next time");
        assert!(wanted(&web(|web| web.listen = vec!["9616".to_owned()]), off).is_err());
    }
}
