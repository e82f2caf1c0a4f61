//! How the cluster is: members, alarms, room.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;
use upkeep_store::kv::{Alarm, AlarmKind, Kv as _, KvError, Member, MemberHealth, Reason, Status};

use crate::{
    Etcd,
    client::{self, Client, Kind},
    failure::Failure,
    proto,
};

/// How long one member may take to say how it is.
const LOOK: Duration = Duration::from_secs(2);
/// Defragmenting blocks a member; a large one for long.
const DEFRAGMENT: Duration = Duration::from_mins(10);

/// Who answered, and what.
struct Look {
    member: u64,
    health: MemberHealth,
}

impl Etcd {
    pub(crate) async fn whole_status(&self) -> Result<Status, KvError> {
        let attempt = "ask the store how it is";
        let all = async {
            match self.range(Self::all(false)).await {
                // Who may not count them knows how far the store is, from its members.
                Err(error) if matches!(error.reason, Reason::Denied(_)) => Ok(None),
                // Without a majority, what one member has is better than nothing.
                Err(_) => self.range(Self::all(true)).await.map(Some),
                Ok(all) => Ok(Some(all)),
            }
        };
        let (all, members) = futures_util::future::join(all, self.members()).await;
        let (all, mut members) = (all?, members?);
        let looks = members.iter().map(|member| self.look(&member.client_urls));
        let looks = join_all(looks).await;
        for (member, look) in members.iter_mut().zip(looks) {
            member.health = look.map(|look| look.health);
        }
        self.look_at_endpoints(&mut members).await;
        let alarms = match self.alarms().await {
            Ok(alarms) => alarms,
            // Who may not ask is told by the members themselves.
            Err(_) => members.iter().flat_map(told_alarms).collect(),
        };
        let healthy: Vec<&MemberHealth> = members
            .iter()
            .filter_map(|member| member.health.as_ref().ok())
            .collect();
        if healthy.is_empty() {
            let why = members.iter().find_map(|member| member.health.as_ref().err());
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            return Err(KvError::new(
                attempt,
                Reason::Unavailable(format!("no member says how it is{why}")),
            ));
        }
        let most = |of: fn(&MemberHealth) -> u64| healthy.iter().map(|health| of(health)).max().unwrap_or(0);
        // Whom most take for it; one that is cut off may still believe in itself.
        let leader = healthy
            .iter()
            .map(|health| health.leader)
            .filter(|leader| *leader != 0)
            .max_by_key(|leader| healthy.iter().filter(|health| health.leader == *leader).count());
        Ok(Status {
            backend: "etcd",
            version: healthy[0].version.clone(),
            revision: match &all {
                Some(all) => all.revision,
                None => most(|health| health.revision),
            },
            oldest: self.oldest().await,
            keys: all.and_then(|all| all.count).unwrap_or(0),
            bytes_on_disk: most(|health| health.bytes_on_disk),
            bytes_in_use: most(|health| health.bytes_in_use),
            quota: Some(most(|health| health.quota.unwrap_or(0))).filter(|quota| *quota > 0),
            alarms,
            leader,
            members,
        })
    }

    /// Members as the cluster knows them; nobody has been asked how it is yet.
    async fn members(&self) -> Result<Vec<Member>, KvError> {
        let attempt = "list the members";
        let answer: proto::MemberListResponse = self
            .client
            .call(
                attempt,
                "/etcdserverpb.Cluster/MemberList",
                Kind::Stale,
                proto::Empty {},
            )
            .await
            .map_err(|told| told.plain(attempt))?;
        let member = |member: proto::Member| Member {
            id: member.id,
            name: member.name,
            client_urls: member.client_urls,
            peer_urls: member.peer_urls,
            learner: member.learner,
            health: Err("it has not been asked".to_owned()),
        };
        Ok(answer.members.into_iter().map(member).collect())
    }

    /// Every endpoint of the settings, and what answers there.
    pub async fn endpoints(&self) -> Vec<(String, Result<MemberHealth, String>)> {
        let urls = &self.client.config.endpoints;
        let looks = urls.iter().map(|url| self.look(std::slice::from_ref(url)));
        let told = |(url, look): (&String, Result<Look, String>)| {
            // Where it is stands beside it.
            let plain = |why: String| {
                let rest = why
                    .strip_prefix(url.as_str())
                    .map(|rest| rest.trim_start_matches([':', ' ']));
                rest.map_or_else(|| why.clone(), str::to_owned)
            };
            (url.clone(), look.map(|look| look.health).map_err(plain))
        };
        urls.iter().zip(join_all(looks).await).map(told).collect()
    }

    /// What a member advertises may be of use to others only. Which member answers at an endpoint of the settings, it says.
    async fn look_at_endpoints(&self, members: &mut [Member]) {
        if members.iter().all(|member| member.health.is_ok()) {
            return;
        }
        let urls = &self.client.config.endpoints;
        let looks = urls.iter().map(|url| self.look(std::slice::from_ref(url)));
        for look in join_all(looks).await.into_iter().flatten() {
            let silent = members
                .iter_mut()
                .find(|member| member.id == look.member && member.health.is_err());
            if let Some(member) = silent {
                member.health = Ok(look.health);
            }
        }
    }

    async fn look(&self, urls: &[String]) -> Result<Look, String> {
        let mut why = "it has not started yet".to_owned();
        for url in urls {
            match timeout(LOOK, self.ask_one(url)).await {
                Ok(Ok(look)) => return Ok(look),
                Ok(Err(failure)) => why = at(url, &failure),
                Err(_) => why = format!("{url} did not answer in time"),
            }
        }
        Err(why)
    }

    async fn ask_one(&self, url: &str) -> Result<Look, Failure> {
        let path = "/etcdserverpb.Maintenance/Status";
        let status: proto::StatusResponse = self.one(url, path, proto::Empty {}).await?;
        let member = status.header.as_ref().map_or(0, |header| header.member);
        let health = MemberHealth {
            version: status.version,
            bytes_on_disk: status.db_size.cast_unsigned(),
            bytes_in_use: status.db_size_in_use.cast_unsigned(),
            quota: u64::try_from(status.db_size_quota)
                .ok()
                .filter(|quota| *quota > 0),
            leader: status.leader,
            index: status.raft_index,
            revision: crate::revision(status.header.as_ref()),
            errors: status.errors,
        };
        Ok(Look { member, health })
    }

    /// A call to this member and no other.
    async fn one<Q, A>(&self, url: &str, path: &'static str, question: Q) -> Result<A, Failure>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let token = self.client.token(url).await?;
        let channel = self.client.channel(url, false).await?;
        client::unary(channel, path, Client::request(question, token.as_ref(), false)).await
    }

    async fn alarms(&self) -> Result<Vec<Alarm>, KvError> {
        let attempt = "list the alarms";
        let question = proto::AlarmRequest {
            action: 0,
            member: 0,
            alarm: 0,
        };
        let answer: proto::AlarmResponse = self
            .client
            .call(
                attempt,
                "/etcdserverpb.Maintenance/Alarm",
                Kind::Reading,
                question,
            )
            .await
            .map_err(|told| told.plain(attempt))?;
        let alarm = |alarm: proto::AlarmMember| Alarm {
            member: alarm.member,
            kind: kind(alarm.alarm),
        };
        Ok(answer.alarms.into_iter().map(alarm).collect())
    }

    /// Clears the alarms of members that had no room. If there is still none, etcd raises them again.
    pub async fn clear_no_space(&self) -> Result<(), KvError> {
        let attempt = "clear the alarm";
        for alarm in self.alarms().await? {
            if alarm.kind != AlarmKind::NoSpace {
                continue;
            }
            let question = proto::AlarmRequest {
                action: 2,
                member: alarm.member,
                alarm: 1,
            };
            let _: proto::AlarmResponse = self
                .client
                .call(
                    attempt,
                    "/etcdserverpb.Maintenance/Alarm",
                    Kind::Writing,
                    question,
                )
                .await
                .map_err(|told| told.plain(attempt))?;
        }
        Ok(())
    }

    /// One member after the other, the leader last, then the alarm of no room is cleared: the way back from a full
    /// quota, after compaction.
    pub(crate) async fn defragment_all(&self) -> Result<(), KvError> {
        let status = self.whole_status().await?;
        let mut members: Vec<&Member> = status.members.iter().collect();
        members.sort_by_key(|member| Some(member.id) == status.leader);
        let mut failed = Vec::new();
        for member in members {
            if let Err(why) = self.defragment_one(member).await {
                failed.push(format!("`{}`: {why}", member.name));
            }
        }
        if !failed.is_empty() {
            return Err(KvError::new("defragment", Reason::Unavailable(failed.join("; "))));
        }
        self.clear_no_space().await
    }

    /// Has one member give room back to its disk. It answers nobody meanwhile.
    pub async fn defragment_one(&self, member: &Member) -> Result<(), String> {
        if let Err(why) = &member.health {
            return Err(why.clone());
        }
        let mut why = "it has no address".to_owned();
        let mut urls = member.client_urls.clone();
        if self.look(&urls).await.is_err() {
            urls.clear();
            for url in &self.client.config.endpoints {
                let look = self.look(std::slice::from_ref(url)).await;
                if look.is_ok_and(|look| look.member == member.id) {
                    urls.push(url.clone());
                }
            }
        }
        for url in &urls {
            let path = "/etcdserverpb.Maintenance/Defragment";
            let asked = self.one::<_, proto::HeaderResponse>(url, path, proto::Empty {});
            match timeout(DEFRAGMENT, asked).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(failure)) => why = at(url, &failure),
                Err(_) => why = format!("{url} did not answer in time"),
            }
        }
        Err(why)
    }

    /// Has the cluster expect another member; it is started after this. Its id.
    pub async fn add_member(&self, peer_urls: Vec<String>, learner: bool) -> Result<u64, KvError> {
        let attempt = format!("add the member {}", peer_urls.join(", "));
        let question = proto::MemberAddRequest { peer_urls, learner };
        let answer: proto::MemberAddResponse = self
            .client
            .call(
                &attempt,
                "/etcdserverpb.Cluster/MemberAdd",
                Kind::Writing,
                question,
            )
            .await
            .map_err(|told| told.plain(&attempt))?;
        Ok(answer.member.map_or(0, |member| member.id))
    }

    /// Has the cluster forget a member.
    pub async fn remove_member(&self, id: u64) -> Result<(), KvError> {
        let attempt = format!("remove the member {id:x}");
        let question = proto::MemberRequest { id };
        let _: proto::HeaderResponse = self
            .client
            .call(
                &attempt,
                "/etcdserverpb.Cluster/MemberRemove",
                Kind::Writing,
                question,
            )
            .await
            .map_err(|told| told.plain(&attempt))?;
        Ok(())
    }
}

fn kind(alarm: i32) -> AlarmKind {
    match alarm {
        1 => AlarmKind::NoSpace,
        2 => AlarmKind::Corrupt,
        other => AlarmKind::Other(other),
    }
}

/// `memberID:123 alarm:NOSPACE `, as a member's status has it.
fn told_alarms(member: &Member) -> Vec<Alarm> {
    let health = member.health.iter();
    let errors = health.flat_map(|health| &health.errors);
    errors
        .filter_map(|error| {
            let (_, alarm) = error.split_once("alarm:")?;
            Some(Alarm {
                member: member.id,
                kind: match alarm.trim() {
                    "NOSPACE" => AlarmKind::NoSpace,
                    "CORRUPT" => AlarmKind::Corrupt,
                    _ => AlarmKind::Other(0),
                },
            })
        })
        .collect()
}

/// What went wrong at a member: failures to connect name it themselves.
fn at(url: &str, failure: &Failure) -> String {
    let said = failure.to_string();
    if said.starts_with(url) {
        said
    } else {
        format!("{url}: {said}")
    }
}
