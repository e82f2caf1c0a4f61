//! Rules over several settings at once; those over one value are in its type.

use std::collections::BTreeSet;

use super::{
    Settings,
    alerts::{Channel, Email, Figure, MailTls, Rule, RuleKind, Threshold},
    config::{EtcdStore, TXN_OPS},
    web::Web,
};
use crate::size::Span;

/// A setting that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}`: {message}", path.join("."))]
pub struct Invalid {
    /// The way to it: `alerts`, `rules`, `0`, `channels`.
    pub path: Vec<String>,
    /// What is wrong.
    pub message: String,
}

fn invalid(path: &[&str], message: impl Into<String>) -> Result<(), Invalid> {
    Err(Invalid {
        path: path.iter().map(|step| (*step).to_owned()).collect(),
        message: message.into(),
    })
}

/// More of them nobody means.
const CHANNELS_MAX: usize = 50;
const RULES_MAX: usize = 200;
/// Figures are looked at once a second; who wants them more rarely than once an hour wants no figures.
const OTLP_MIN: Span = Span::from_secs(1);
const OTLP_MAX: Span = Span::from_secs(3600);

impl Settings {
    /// Whether all parts fit together.
    pub fn check(&self) -> Result<(), Invalid> {
        if let Some(otlp) = &self.otlp {
            if otlp.endpoint.as_str().contains('?') {
                return invalid(
                    &["otlp", "endpoint"],
                    "expected the URL that `/v1/metrics` and `/v1/logs` are below, without `?`",
                );
            }
            let bounds = OTLP_MIN.as_millis()..=OTLP_MAX.as_millis();
            if let Some(interval) = otlp.interval
                && !bounds.contains(&interval.as_millis())
            {
                return invalid(
                    &["otlp", "interval"],
                    format!("expected a span from {OTLP_MIN} to {OTLP_MAX}"),
                );
            }
        }
        check_web(&self.web)?;
        if let Some(etcd) = &self.config.etcd {
            check_etcd(etcd)?;
        }
        let file = self.config.file;
        check_kept(&["config", "file"], file.keep_for, file.keep_revisions)?;
        let alerts = &self.alerts;
        if alerts.channels.len() > CHANNELS_MAX {
            return invalid(
                &["alerts", "channels"],
                format!("expected at most {CHANNELS_MAX} of them"),
            );
        }
        if alerts.rules.len() > RULES_MAX {
            return invalid(
                &["alerts", "rules"],
                format!("expected at most {RULES_MAX} of them"),
            );
        }
        for (name, channel) in &alerts.channels {
            check_channel(name.as_str(), channel)?;
        }
        let mut names = BTreeSet::new();
        for (at, rule) in alerts.rules.iter().enumerate() {
            let at = at.to_string();
            if let Some(name) = &rule.name
                && !names.insert(name)
            {
                return invalid(
                    &["alerts", "rules", &at, "name"],
                    format!("there are two rules `{name}`"),
                );
            }
            for channel in &rule.channels {
                if !alerts.channels.contains_key(channel) {
                    let known: Vec<&str> = alerts.channels.keys().map(|name| name.as_str()).collect();
                    return invalid(
                        &["alerts", "rules", &at, "channels"],
                        format!("there is no channel `{channel}`, only: {}", known.join(", ")),
                    );
                }
            }
            check_rule(&at, rule)?;
        }
        Ok(())
    }
}

/// So many addresses, names and origins.
const WEB_MAX: usize = 32;

fn check_web(web: &Web) -> Result<(), Invalid> {
    if web.cert_file.is_some() != web.key_file.is_some() {
        return invalid(&["web", "cert_file"], "`cert_file` and `key_file` go together");
    }
    for (key, count) in [
        ("listen", web.listen.len()),
        ("names", web.names.len()),
        ("origins", web.origins.len()),
    ] {
        if count > WEB_MAX {
            return invalid(&["web", key], format!("expected at most {WEB_MAX} of them"));
        }
    }
    for (at, listen) in web.listen.iter().enumerate() {
        // Port 0 stands for any, each time another.
        let taken = |other: &super::web::Listen| other == listen && listen.0.port() != 0;
        if web.listen[..at].iter().chain(&web.pm2_health).any(taken) {
            return invalid(
                &["web", "listen", &at.to_string()],
                format!("`{listen}` is there twice"),
            );
        }
    }
    if web.tls == Some(false)
        && let Some(open) = web
            .listen
            .iter()
            .chain(&web.pm2_health)
            .find(|listen| !listen.is_loopback())
    {
        return invalid(
            &["web", "tls"],
            format!("`{open}` can be reached from elsewhere: tokens are not sent in the open"),
        );
    }
    Ok(())
}

/// No cluster has more members.
const ENDPOINTS_MAX: usize = 16;

/// What is kept for less is gone before a watch is resumed.
const KEEP_MIN: Span = Span::from_secs(600);
const KEEP_MAX: Span = Span::from_secs(365 * 24 * 3600);
const REVISIONS_MIN: u64 = 100;
const TXN_OPS_MAX: u32 = 100_000;

fn check_etcd(etcd: &EtcdStore) -> Result<(), Invalid> {
    let path = |key: &'static str| ["config", "etcd", key];
    if etcd.endpoints.is_empty() || etcd.endpoints.len() > ENDPOINTS_MAX {
        return invalid(
            &path("endpoints"),
            format!("expected 1 to {ENDPOINTS_MAX} members, such as `https://10.0.0.1:2379`"),
        );
    }
    let mut secure = 0;
    for (at, url) in etcd.endpoints.iter().enumerate() {
        let path = ["config", "etcd", "endpoints", &at.to_string()];
        let (scheme, _, rest) = url.parts();
        if !matches!(rest, "" | "/") {
            return invalid(
                &path,
                format!("`{rest}` has no place in it: a host and a port are expected"),
            );
        }
        if let Err(why) = url.address() {
            return invalid(&path, why);
        }
        if etcd.endpoints[..at].contains(url) {
            return invalid(&path, format!("`{}` is there twice", url.as_str()));
        }
        if scheme == "https" {
            secure += 1;
        } else if etcd.password_file.is_some() && !is_here(url) {
            return invalid(
                &path,
                "a password is not sent in the open to another machine: use `https`",
            );
        }
    }
    if secure > 0 && etcd.ca_file.is_none() {
        return invalid(
            &path("ca_file"),
            "`https` needs to know who vouches for the members",
        );
    }
    if secure == 0 && (etcd.ca_file.is_some() || etcd.cert_file.is_some()) {
        return invalid(&path("endpoints"), "certificates are of no use without `https`");
    }
    if etcd.cert_file.is_some() != etcd.key_file.is_some() {
        return invalid(&path("cert_file"), "`cert_file` and `key_file` go together");
    }
    if etcd.user.is_some() != etcd.password_file.is_some() {
        return invalid(&path("user"), "`user` and `password_file` go together");
    }
    check_kept(&["config", "etcd"], etcd.keep_for, etcd.keep_revisions)?;
    if !(TXN_OPS..=TXN_OPS_MAX).contains(&etcd.max_txn_ops()) {
        return invalid(
            &path("max_txn_ops"),
            format!("expected {TXN_OPS} to {TXN_OPS_MAX}"),
        );
    }
    let is_name = |user: &String| (1..=100).contains(&user.len()) && !user.chars().any(char::is_control);
    if etcd.user.as_ref().is_some_and(|user| !is_name(user)) {
        return invalid(&path("user"), "expected 1 to 100 characters");
    }
    Ok(())
}

/// How long a store keeps what was superseded.
fn check_kept(at: &[&str], keep_for: Option<Span>, keep_revisions: Option<u64>) -> Result<(), Invalid> {
    let path = |key: &'static str| [at, &[key]].concat();
    let bounds = KEEP_MIN.as_millis()..=KEEP_MAX.as_millis();
    if keep_for.is_some_and(|span| !bounds.contains(&span.as_millis())) {
        return invalid(
            &path("keep_for"),
            format!("expected a span from {KEEP_MIN} to {KEEP_MAX}"),
        );
    }
    if keep_revisions.is_some_and(|count| count < REVISIONS_MIN) {
        return invalid(
            &path("keep_revisions"),
            format!("expected {REVISIONS_MIN} or more: watches that are resumed need some"),
        );
    }
    Ok(())
}

/// Whether it is this machine itself.
fn is_here(url: &super::Url) -> bool {
    let Ok((host, _)) = url.address() else {
        return false;
    };
    let is_loopback = |address: std::net::IpAddr| address.to_canonical().is_loopback();
    host == "localhost" || host.parse().is_ok_and(is_loopback)
}

fn check_channel(name: &str, channel: &Channel) -> Result<(), Invalid> {
    let path = ["alerts", "channels", name];
    let ways = usize::from(channel.email.is_some())
        + usize::from(channel.webhook.is_some())
        + usize::from(channel.command.is_some());
    if ways != 1 {
        return invalid(&path, "expected one of `email`, `webhook` and `command`");
    }
    if let Some(email) = &channel.email {
        check_email(name, email)?;
    }
    if let Some(webhook) = &channel.webhook
        && webhook.url.is_some() == webhook.url_file.is_some()
    {
        return invalid(
            &[path[0], path[1], name, "webhook"],
            "expected one of `url` and `url_file`",
        );
    }
    if let Some(command) = &channel.command {
        let program = command.run.first().map(String::as_str).unwrap_or_default();
        if program.is_empty() || command.run.iter().any(|word| word.contains('\0')) {
            return invalid(&[path[0], path[1], name, "command", "run"], "expected a program");
        }
    }
    Ok(())
}

fn check_email(name: &str, email: &Email) -> Result<(), Invalid> {
    let path = |key: &'static str| ["alerts", "channels", name, "email", key];
    if email.host.is_empty() || email.host.contains(['/', ' ', ':']) {
        return invalid(
            &path("host"),
            "expected the name of a host, such as `smtp.example.org`",
        );
    }
    if email.to.is_empty() {
        return invalid(&path("to"), "expected at least one address");
    }
    if email.user.is_some() != email.password_file.is_some() {
        return invalid(&path("user"), "`user` and `password_file` go together");
    }
    let local = email.host == "localhost"
        || email
            .host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    if email.user.is_some() && email.tls == Some(MailTls::Never) && !local {
        return invalid(
            &path("tls"),
            "a password is not sent in the open to another machine",
        );
    }
    Ok(())
}

fn check_rule(at: &str, rule: &Rule) -> Result<(), Invalid> {
    let path = |key: &'static str| ["alerts", "rules", at, key];
    let is_over = rule.on == RuleKind::OverLimit;
    if is_over && rule.metric.is_none() {
        return invalid(&path("metric"), "`over_limit` needs a `metric`, such as `memory`");
    }
    if !is_over && rule.metric.is_some() {
        return invalid(&path("metric"), "only `over_limit` has a `metric`");
    }
    if is_over && rule.threshold.is_none() {
        return invalid(
            &path("threshold"),
            "`over_limit` needs a `threshold`, such as `90%`",
        );
    }
    if !matches!(rule.on, RuleKind::OverLimit | RuleKind::DiskFloor)
        && (rule.threshold.is_some() || rule.resolve_at.is_some())
    {
        return invalid(
            &path("threshold"),
            "only `over_limit` and `disk_floor` have a `threshold`",
        );
    }
    let no_whole = [Figure::Fds, Figure::Threads, Figure::HostLoad];
    if matches!(rule.threshold, Some(Threshold::Percent(_)))
        && rule.metric.is_some_and(|metric| no_whole.contains(&metric))
    {
        return invalid(
            &path("threshold"),
            "there is nothing that this could be a share of",
        );
    }
    let wrong_way = match (rule.threshold, rule.resolve_at) {
        (Some(Threshold::Absolute(on)), Some(Threshold::Absolute(off)))
        | (Some(Threshold::Percent(on)), Some(Threshold::Percent(off))) => {
            if rule.on == RuleKind::DiskFloor {
                off < on
            } else {
                off > on
            }
        }
        (_, None) => false,
        _ => {
            return invalid(
                &path("resolve_at"),
                "expected the same unit as that of `threshold`",
            );
        }
    };
    if wrong_way {
        return invalid(&path("resolve_at"), "lies on the wrong side of `threshold`");
    }
    Ok(())
}
