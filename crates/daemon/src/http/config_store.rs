//! Handlers of what is about the store of the shared configuration: how it is, machines that share it, moving it.

use std::time::Duration;

use axum::{
    body::Bytes,
    extract::Path as InPath,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use upkeep_api::{
    access::Change,
    config::ConfigUser,
    config_store::{
        AuthEnabled, AuthPost, ConfigStatus, MachineAccess, MachineList, MachinePost, MachineView,
        MigratePost, StoreEndpoint, StoreKind, StoreMember,
    },
    error::Code,
};
use upkeep_config::{
    ConfigError, Place,
    rights::{Rights, Verb},
    seal::fingerprint,
};
use upkeep_model::settings::{EtcdStore, MachineName, SharedConfig};
use upkeep_store::kv::{AlarmKind, Status};

use super::{
    config::{recipient, require_grant, told_places},
    gate::Caller,
    routes::{Answer, json, parse, parse_required},
};
use crate::{
    command::Refusal,
    config::{CallerRights, Opened, Told, lasting, machines, refusal, told_place},
};

/// How long the store may take to say how it is.
const LOOK: Duration = Duration::from_secs(6);

fn alarm(kind: AlarmKind) -> String {
    match kind {
        AlarmKind::NoSpace => "there is no room: writing is refused".to_owned(),
        AlarmKind::Corrupt => "data are damaged".to_owned(),
        AlarmKind::Other(kind) => format!("alarm {kind}"),
    }
}

fn members(status: &Status) -> Vec<StoreMember> {
    let member = |member: &upkeep_store::kv::Member| {
        let health = member.health.as_ref();
        StoreMember {
            name: member.name.clone(),
            endpoints: member.client_urls.clone(),
            trouble: health.err().cloned(),
            version: health.ok().map(|health| health.version.clone()),
            leader: status.leader == Some(member.id),
            disk_bytes: health.ok().map(|health| health.bytes_on_disk),
            used_bytes: health.ok().map(|health| health.bytes_in_use),
        }
    };
    status.members.iter().map(member).collect()
}

/// What a store says of itself.
fn fill(view: &mut ConfigStatus, status: &Status, opened: &Opened) {
    let config = &opened.config;
    view.version = Some(status.version.clone());
    view.revision = Some(status.revision + config.offset());
    view.oldest = status.oldest.map(|oldest| oldest + config.offset());
    let is_all = config.scope().iter().any(|place| *place == Place::all());
    view.keys = is_all.then_some(status.keys);
    view.disk_bytes = Some(status.bytes_on_disk);
    view.used_bytes = Some(status.bytes_in_use);
    view.quota_bytes = status
        .quota
        .or_else(|| opened.at.etcd.as_ref().map(EtcdStore::quota));
    view.alarms
        .extend(status.alarms.iter().map(|one| alarm(one.kind)));
    view.members = members(status);
    if !is_all {
        view.places = config.scope().to_vec();
    }
}

/// Apps that get values, as far as the caller may see them.
fn users(caller: &Caller) -> Vec<ConfigUser> {
    let Ok(permit) = caller.known.permit(upkeep_model::access::Verb::AppsRead) else {
        return Vec::new();
    };
    let visible = permit.visible(&caller.shared.directory.read());
    let all = caller.shared.supply.views().into_iter();
    all.filter(|(app, _)| visible.contains_key(app))
        .map(|(app, config)| ConfigUser { app, config })
        .collect()
}

pub(super) async fn status(caller: Caller) -> Answer {
    let store = &caller.shared.config;
    let wanted = store.wanted();
    let opened = store.open().await;
    let machine = store.machine().await?;
    let mut view = ConfigStatus {
        backend: if wanted.etcd.is_some() { "etcd" } else { "embedded" }.to_owned(),
        place: told_place(&wanted),
        trouble: None,
        version: None,
        revision: None,
        oldest: None,
        keys: None,
        disk_bytes: None,
        used_bytes: None,
        quota_bytes: None,
        alarms: store.unannounced().into_iter().collect(),
        endpoints: Vec::new(),
        members: Vec::new(),
        user: wanted.etcd.as_ref().and_then(|etcd| etcd.user.clone()),
        places: Vec::new(),
        care: None,
        watches: store.watchers().state(),
        fingerprint: fingerprint(&machine.key),
        machine: recipient(machine),
        apps: users(&caller),
    };
    let etcd = match &opened {
        Ok(opened) => opened.etcd.clone(),
        Err(_) => wanted
            .etcd
            .as_ref()
            .and_then(|at| crate::config::cluster(at).ok()),
    };
    let endpoints = async {
        match &etcd {
            Some(etcd) => etcd.endpoints().await,
            None => Vec::new(),
        }
    };
    let look = async {
        let opened = opened.as_ref().map_err(|refusal| refusal.message.clone())?;
        let status = opened.config.backend().status();
        match tokio::time::timeout(LOOK, status).await {
            Ok(Ok(status)) => Ok((opened, status)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the store does not say in time how it is".to_owned()),
        }
    };
    let (endpoints, look) = tokio::join!(endpoints, look);
    view.endpoints = endpoints
        .into_iter()
        .map(|(url, health)| StoreEndpoint {
            url,
            trouble: health.as_ref().err().cloned(),
            version: health.ok().map(|health| health.version),
        })
        .collect();
    match look {
        Ok((opened, status)) => {
            fill(&mut view, &status, opened);
            view.care = Some(store.care(opened).await);
        }
        Err(why) => view.trouble = Some(why),
    }
    json(StatusCode::OK, &view)
}

/// Machines, and of those that are held to some places, which; that is for who may read all of these.
pub(super) async fn machines(caller: Caller) -> Answer {
    let rights = CallerRights::of(&caller.known);
    let opened = caller.shared.config.open().await?;
    let own = &opened.machine;
    let (known, damaged) = opened.config.announced().await.map_err(refusal)?;
    let grants = match opened.config.machine_grants().await {
        Ok(grants) => grants,
        // A machine that is held to some places knows of its own.
        Err(ConfigError::Store(_)) => {
            let grant = opened.config.machine_grant(&own.name).await.map_err(refusal)?;
            let name = own.name.trim_start_matches("machine:").to_owned();
            grant.map(|grant| (name, grant)).into_iter().collect()
        }
        Err(error) => return Err(refusal(error).into()),
    };
    let mut machines: Vec<MachineView> = known
        .into_iter()
        .map(|machine| MachineView {
            own: machine.key == own.key,
            fingerprint: Some(fingerprint(&machine.key)),
            name: machine.name,
            key: Some(machine.key),
            at: Some(machine.at),
            trouble: None,
            access: None,
        })
        .collect();
    machines.extend(damaged.into_iter().map(|damaged| MachineView {
        own: damaged.name == own.name,
        name: damaged.name,
        key: None,
        fingerprint: None,
        at: None,
        trouble: Some(format!("what it has announced is damaged: {}", damaged.why)),
        access: None,
    }));
    if !machines.iter().any(|machine| machine.own) {
        machines.push(MachineView {
            name: own.name.clone(),
            key: Some(own.key.clone()),
            fingerprint: Some(fingerprint(&own.key)),
            at: None,
            trouble: None,
            own: true,
            access: None,
        });
    }
    for (name, grant) in grants {
        if !grant.places.iter().all(|place| rights.may_all(Verb::Read, place)) {
            continue;
        }
        let access = MachineAccess {
            places: grant.places,
            write: grant.write,
            user: grant.user,
            who: grant.who,
            at: grant.at,
        };
        let name = format!("machine:{name}");
        match machines.iter_mut().find(|machine| machine.name == name) {
            Some(machine) => machine.access = Some(access),
            None => machines.push(MachineView {
                own: false,
                name,
                key: None,
                fingerprint: None,
                at: None,
                trouble: None,
                access: Some(access),
            }),
        }
    }
    machines.sort_by(|a, b| a.name.cmp(&b.name));
    let asks = match &opened.etcd {
        Some(etcd) => etcd.asks().await.ok(),
        None => None,
    };
    json(StatusCode::OK, &MachineList { machines, asks })
}

pub(super) async fn add_machine(caller: Caller, body: Bytes) -> Answer {
    let post: MachinePost = parse_required(&body)?;
    let rights = CallerRights::of(&caller.known);
    if post.places.is_empty() || post.places.len() > 32 {
        return Err(Refusal::new(
            Code::Invalid,
            "failed to add the machine: it needs 1 to 32 places",
        )
        .into());
    }
    for place in &post.places {
        require_grant(&rights, place)?;
    }
    let shared = caller.shared;
    let added = lasting(async move {
        let opened = shared.config.open().await?;
        let mut added = machines::add(&opened, &post, rights.who()).await?;
        if !post.dry_run {
            let told = Told {
                what: "config.machine_added",
                places: post.places,
                revision: None,
                why: Some(why(&format!("machine:{}", post.name), post.reason.as_deref())),
            };
            added.event = shared.config.tell(rights.who(), told).await;
        }
        Ok(added)
    })
    .await?;
    let mut response: Response = json(StatusCode::OK, &added)?;
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn why(what: &str, reason: Option<&str>) -> String {
    reason.map_or_else(|| what.to_owned(), |reason| format!("{what}: {reason}"))
}

pub(super) async fn remove_machine(caller: Caller, InPath(name): InPath<String>, body: Bytes) -> Answer {
    let asked: Change = parse(&body)?;
    let name: MachineName = name
        .parse()
        .map_err(|error: String| Refusal::new(Code::Invalid, error))?;
    let rights = CallerRights::of(&caller.known);
    let shared = caller.shared;
    let changed = lasting(async move {
        let opened = shared.config.open().await?;
        machines::cluster(&opened)?;
        let places = machines::places(&opened, &name).await?;
        for place in &places {
            require_grant(&rights, place)?;
        }
        if !asked.dry_run {
            machines::remove(&opened, &name).await?;
        }
        let how = (
            Some(why(&format!("machine:{name}"), asked.reason.as_deref())),
            asked.dry_run,
        );
        Ok(told_places(&shared, &rights, "config.machine_removed", places, how).await)
    })
    .await?;
    json(StatusCode::OK, &changed)
}

pub(super) async fn enable_auth(caller: Caller, body: Bytes) -> Answer {
    let asked: AuthPost = parse_required(&body)?;
    let rights = CallerRights::of(&caller.known);
    require_grant(&rights, &Place::all())?;
    let shared = caller.shared;
    let enabled = lasting(async move {
        let opened = shared.config.open().await?;
        let changes = machines::enable_auth(&opened, &asked.root, asked.dry_run).await?;
        if asked.dry_run {
            return Ok(AuthEnabled { changes, event: None });
        }
        let told = Told {
            what: "config.auth_enabled",
            places: vec![Place::all()],
            revision: None,
            why: asked.reason,
        };
        let event = shared.config.tell(rights.who(), told).await;
        Ok(AuthEnabled { changes, event })
    })
    .await?;
    json(StatusCode::OK, &enabled)
}

pub(super) async fn migrate(caller: Caller, body: Bytes) -> Answer {
    let asked: MigratePost = parse_required(&body)?;
    let rights = CallerRights::of(&caller.known);
    require_grant(&rights, &Place::all())?;
    let etcd = match (asked.to, asked.etcd) {
        (StoreKind::Embedded, None) => None,
        (StoreKind::Etcd, Some(etcd)) => Some(etcd),
        (StoreKind::Etcd, None) => {
            return Err(
                Refusal::new(Code::Invalid, "failed to move the configuration: where is etcd?")
                    .hint("`etcd` says it, with what `config.etcd` of the settings has")
                    .into(),
            );
        }
        (StoreKind::Embedded, Some(_)) => {
            return Err(Refusal::new(
                Code::Invalid,
                "failed to move the configuration: a file has no `etcd`",
            )
            .into());
        }
    };
    let shared = caller.shared;
    let who = caller.permit.who().clone();
    let moved = lasting(async move {
        let to = SharedConfig {
            etcd,
            ..shared.config.wanted()
        };
        if asked.dry_run {
            return shared.config.look_at_move(&who, to).await;
        }
        shared.config.migrate(&who, to, asked.reason).await
    })
    .await?;
    json(StatusCode::OK, &moved)
}
