//! Machines that share an etcd: announcing this one, and users and roles there that hold a machine to its places.

use std::path::Path;

use ring::rand::{SecureRandom as _, SystemRandom};
use upkeep_api::{
    config_store::{MachineAdded, MachinePost},
    error::Code,
};
use upkeep_config::{
    ConfigError, Place,
    machines::{MachineGrant, spans},
};
use upkeep_etcd::{Access, Etcd};
use upkeep_model::{hex::hex, settings::MachineName};
use upkeep_store::kv::KvError;

use super::{Opened, refusal};
use crate::{command::Refusal, events, settings::read_secret};

/// The role at etcd that may do everything.
const ROOT: &str = "root";

/// What a machine's user and role are called at etcd.
pub(crate) fn user_of(name: &MachineName) -> String {
    format!("upkeep-{name}")
}

pub(super) fn told(error: KvError) -> Refusal {
    refusal(ConfigError::from(error))
}

/// The cluster; a refusal where the configuration is in a file.
pub(crate) fn cluster(opened: &Opened) -> Result<&Etcd, Refusal> {
    opened.etcd.as_ref().ok_or_else(|| {
        Refusal::new(
            Code::Conflict,
            "the shared configuration is in a file of this machine, which no other machine uses",
        )
        .hint("`upkeep config migrate --to etcd` moves it to where machines can share it")
    })
}

fn password() -> Result<String, Refusal> {
    let mut bytes = [0; 24];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Refusal::new(Code::Internal, "the system gave no random numbers"))?;
    Ok(hex(&bytes))
}

/// Makes a user that may use these places and no others, or holds the one that there is to these.
pub(crate) async fn add(opened: &Opened, post: &MachinePost, who: &str) -> Result<MachineAdded, Refusal> {
    let etcd = cluster(opened)?;
    let user = user_of(&post.name);
    let asks = etcd.asks().await.map_err(told)?;
    let added = MachineAdded {
        user: user.clone(),
        password: None,
        asks,
        changes: post.places.clone(),
        event: None,
    };
    let users = etcd.users().await.map_err(told)?;
    let roles = etcd.roles().await.map_err(told)?;
    if post.dry_run {
        return Ok(added);
    }
    if roles.contains(&user) {
        for old in etcd.permissions(&user).await.map_err(told)? {
            if let Some(span) = old.span {
                etcd.forbid(&user, &span).await.map_err(told)?;
            }
        }
    } else {
        etcd.add_role(&user).await.map_err(told)?;
    }
    for (span, write) in spans(&post.name, &post.places, post.write) {
        let access = if write { Access::ReadWrite } else { Access::Read };
        etcd.permit(&user, access, &span).await.map_err(told)?;
    }
    let password = if post.certificate { None } else { Some(password()?) };
    match (users.contains(&user), &password) {
        (true, Some(password)) => etcd.set_password(&user, password).await.map_err(told)?,
        (true, None) => {}
        (false, password) => etcd.add_user(&user, password.as_deref()).await.map_err(told)?,
    }
    etcd.grant_role(&user, &user).await.map_err(told)?;
    let grant = MachineGrant {
        places: post.places.clone(),
        write: post.write,
        user,
        who: who.to_owned(),
        at: events::now(),
    };
    opened
        .config
        .set_machine_grant(&post.name, &grant)
        .await
        .map_err(refusal)?;
    Ok(MachineAdded { password, ..added })
}

/// Takes a machine's user, its role and its announced key away; the places that it could use.
pub(crate) async fn remove(opened: &Opened, name: &MachineName) -> Result<(), Refusal> {
    let etcd = cluster(opened)?;
    let user = user_of(name);
    if etcd.users().await.map_err(told)?.contains(&user) {
        etcd.delete_user(&user).await.map_err(told)?;
    }
    if etcd.roles().await.map_err(told)?.contains(&user) {
        etcd.delete_role(&user).await.map_err(told)?;
    }
    opened.config.forget_machine(name).await.map_err(refusal)
}

/// What a machine may use, and whether it is known at all.
pub(crate) async fn places(opened: &Opened, name: &MachineName) -> Result<Vec<Place>, Refusal> {
    let grant = opened
        .config
        .machine_grant(name.as_str())
        .await
        .map_err(refusal)?;
    if let Some(grant) = grant {
        return Ok(grant.places);
    }
    let (known, damaged) = opened.config.announced().await.map_err(refusal)?;
    let mut names = known
        .iter()
        .map(|known| &known.name)
        .chain(damaged.iter().map(|damaged| &damaged.name));
    if names.any(|known| *known == format!("machine:{name}")) {
        return Ok(vec![Place::all()]);
    }
    Err(
        Refusal::new(Code::NotFound, format!("there is no machine `{name}`"))
            .hint("`upkeep config machine ls` lists those that there are"),
    )
}

/// Has etcd ask everybody who they are, after making sure that the user of our own settings may do everything. What was made,
/// or would be.
pub(crate) async fn enable_auth(opened: &Opened, root: &str, dry_run: bool) -> Result<Vec<String>, Refusal> {
    let etcd = cluster(opened)?;
    let at = opened.at.etcd.as_ref();
    let login = at.and_then(|at| at.user.as_deref().zip(at.password_file.as_deref()));
    let Some((user, file)) = login.filter(|(user, _)| *user == root) else {
        return Err(Refusal::new(
            Code::Conflict,
            format!("refused: `{root}` is not the user of this machine's settings, and it would be locked out"),
        )
        .hint("set `config.etcd.user` and `config.etcd.password_file` first: etcd takes them when it begins to ask"));
    };
    if etcd.asks().await.map_err(told)? {
        return Err(Refusal::new(
            Code::Conflict,
            "etcd asks everybody who they are already",
        ));
    }
    let password = read_secret(Path::new(file))?;
    let mut made = Vec::new();
    if !etcd.roles().await.map_err(told)?.iter().any(|role| role == ROOT) {
        if !dry_run {
            etcd.add_role(ROOT).await.map_err(told)?;
        }
        made.push(format!("role {ROOT}"));
    }
    let users = etcd.users().await.map_err(told)?;
    // Etcd wants one of this name; nobody can log in as a user without a password.
    for (name, password) in [(user, Some(password.as_str())), (ROOT, None)] {
        let is_new = !users.iter().any(|known| known == name) && !made.contains(&format!("user {name}"));
        if is_new {
            made.push(format!("user {name}"));
        }
        if dry_run {
            continue;
        }
        if is_new {
            etcd.add_user(name, password).await.map_err(told)?;
        } else if let Some(password) = password {
            etcd.set_password(name, password).await.map_err(told)?;
        }
        etcd.grant_role(name, ROOT).await.map_err(told)?;
    }
    if !dry_run {
        etcd.enable_auth().await.map_err(told)?;
    }
    made.push("authentication".to_owned());
    Ok(made)
}
