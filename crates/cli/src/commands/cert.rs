//! `cert`: the machine's own authority, the certificate of its listener, and those of callers.

use std::{
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use upkeep_api::{
    access::{Change, Changed},
    certificate::{AuthorityChanged, CertificateIssued, CertificateList, CertificatePost},
    pem,
};

use crate::{
    args::CertVerb,
    connect::connect_or_start,
    exit::{Advised, Exit},
    output::{Output, time},
    settings::Settings,
};

pub(crate) async fn run(verb: CertVerb, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    match verb {
        CertVerb::Show => show(settings, output).await,
        CertVerb::Init => init(settings, output).await,
        CertVerb::Issue {
            name,
            role,
            days,
            output: file,
        } => issue(name, role, days, file, settings, output).await,
        CertVerb::Renew => renew(settings, output).await,
        CertVerb::Revoke { which } => revoke(&which, settings, output).await,
        CertVerb::ExportCa { output: file } => export(file.as_deref(), settings, output).await,
    }
}

fn change(settings: &Settings) -> Change {
    Change {
        reason: settings.reason.clone(),
        dry_run: settings.dry_run,
    }
}

/// Tells what a look found that would be done.
fn say_would(changes: &[String], output: Output) {
    if changes.is_empty() {
        output.say("nothing would change");
    }
    for change in changes {
        output.say(&format!("would be done: {change}"));
    }
}

fn listed(list: &CertificateList) -> String {
    let mut text = String::new();
    match &list.authority {
        Some(authority) => text.push_str(&format!(
            "authority  {}\n           {}\n           until {}\n",
            authority.name,
            authority.fingerprint,
            time::date(authority.not_after),
        )),
        None => {
            text.push_str(
                "authority  none yet; `upkeep cert init` makes it, and so does whatever needs it\n",
            );
        }
    }
    match &list.server {
        Some(server) => {
            let renewed = server.renewed_at.map_or_else(
                || format!("of {}, renewed by whoever writes it", server.source),
                |at| format!("renewed by itself on {}", time::date(at)),
            );
            text.push_str(&format!(
                "listener   {}\n           until {}, {renewed}\n",
                server.names.join(", "),
                time::date(server.not_after),
            ));
        }
        None => text.push_str("listener   none: no address speaks TLS\n"),
    }
    for one in &list.issued {
        let state = match one.revoked_at {
            Some(at) => format!("revoked on {}", time::date(at)),
            None if one.expired => format!("ended on {}", time::date(one.not_after)),
            None => format!("until {}", time::date(one.not_after)),
        };
        text.push_str(&format!(
            "issued     cert:{}  {}  {state}\n",
            one.name, one.serial
        ));
    }
    text
}

async fn show(settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    let list: CertificateList = client.get("/v1/certificates").await?;
    if output.json {
        output.document(&list)?;
        return Ok(Exit::Done);
    }
    output.text(&listed(&list))?;
    if let Some(trouble) = &list.trouble {
        output.warn(trouble);
    }
    Ok(Exit::Done)
}

async fn init(settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    let path = "/v1/certificates/authority";
    let changed: AuthorityChanged = client.call("PUT", path, Some(&change(settings))).await?;
    if output.json {
        output.document(&changed)?;
        return Ok(Exit::Done);
    }
    if let Some(authority) = &changed.authority {
        output.text(&format!("{}\n{}", authority.name, authority.fingerprint))?;
    }
    if settings.dry_run {
        say_would(&changed.changes, output);
    }
    Ok(Exit::Done)
}

async fn renew(settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    let path = "/v1/certificates/renew";
    let list: CertificateList = client.call("POST", path, Some(&change(settings))).await?;
    if output.json {
        output.document(&list)?;
    } else {
        output.text(&listed(&list))?;
    }
    Ok(Exit::Done)
}

async fn revoke(which: &str, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    // Names and numbers have no letters that a path could not have; what has is refused here.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if which.is_empty() || !which.bytes().all(is_plain) {
        let text = format!("there is no certificate `{}`", which.escape_debug());
        return Err(Advised::new(Exit::NotFound, text).into());
    }
    let path = format!("/v1/certificates/{which}");
    let changed: Changed = client.call("DELETE", &path, Some(&change(settings))).await?;
    if output.json {
        output.document(&changed)?;
    } else if changed.changes.is_empty() {
        output.say("nothing changes: it was revoked before");
    } else {
        let done = if settings.dry_run {
            "would be revoked"
        } else {
            "revoked"
        };
        for one in &changed.changes {
            output.say(&format!("{done}: {one}"));
        }
    }
    Ok(Exit::Done)
}

/// Writes a new file that only its owner can read.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let fail = |error: std::io::Error| {
        let exit = match error.kind() {
            std::io::ErrorKind::AlreadyExists => Exit::Conflict,
            _ => Exit::Failed,
        };
        Advised::new(exit, format!("failed to write `{}`: {error}", path.display()))
    };
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(fail)?;
    file.write_all(text.as_bytes()).map_err(fail)?;
    file.sync_all().map_err(fail)?;
    Ok(())
}

async fn issue(
    name: String,
    role: Option<String>,
    days: Option<u32>,
    file: Option<PathBuf>,
    settings: &Settings,
    output: Output,
) -> anyhow::Result<Exit> {
    let file = file.unwrap_or_else(|| PathBuf::from(format!("{name}.pem")));
    if file.exists() && !settings.dry_run {
        let text = format!("`{}` is there already", file.display());
        return Err(Advised::new(Exit::Conflict, text)
            .hint("`-o FILE` names another")
            .into());
    }
    let unmade = |_| Advised::new(Exit::Failed, "failed to make a key");
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).map_err(unmade)?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.as_ref(), &random)
        .map_err(|error| Advised::new(Exit::Failed, format!("failed to make a key: {error}")))?;
    let post = CertificatePost {
        name: name.clone(),
        public_key: pem::public_key(pair.public_key().as_ref()),
        days,
        role,
        reason: settings.reason.clone(),
        dry_run: settings.dry_run,
    };
    let mut client = connect_or_start(settings).await?;
    let issued: CertificateIssued = client.call("POST", "/v1/certificates", Some(&post)).await?;
    if let (Some(certificate), Some(authority)) = (&issued.pem, &issued.authority) {
        let key = pem::encode("PRIVATE KEY", key.as_ref());
        write_private(&file, &format!("{key}{certificate}{authority}"))?;
    }
    if output.json {
        output.document(&issued)?;
        return Ok(Exit::Done);
    }
    if settings.dry_run {
        say_would(&issued.changes, output);
    } else {
        output.say(&format!(
            "cert:{name} ({}), until {}: key and certificate are in `{}`, and nowhere else",
            issued.certificate.serial,
            time::date(issued.certificate.not_after),
            file.display()
        ));
    }
    Ok(Exit::Done)
}

async fn export(file: Option<&Path>, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    let list: CertificateList = client.get("/v1/certificates").await?;
    let Some(authority) = list.authority else {
        return Err(Advised::new(Exit::NotFound, "there is no authority yet")
            .hint("`upkeep cert init` makes it")
            .into());
    };
    match file {
        None => output.text(&authority.certificate)?,
        Some(file) => {
            std::fs::write(file, &authority.certificate).map_err(|error| {
                Advised::new(
                    Exit::Failed,
                    format!("failed to write `{}`: {error}", file.display()),
                )
            })?;
            output.say(&format!("{} ({})", file.display(), authority.fingerprint));
        }
    }
    Ok(Exit::Done)
}
