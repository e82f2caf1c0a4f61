//! Users and roles of etcd: what the layer above turns its grants into, so that a stolen credential opens its own part
//! only.

use prost::Message;
use upkeep_store::kv::{KvError, Span};

use crate::{Etcd, client::Kind, failure::Failure, proto};

/// What a role may do somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Read and watch.
    Read,
    /// Write and delete.
    Write,
    /// Both.
    ReadWrite,
}

/// Where a role may do what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// What.
    pub access: Access,
    /// Which of our keys; `None` is somewhere outside of the root.
    pub span: Option<Span>,
}

impl Etcd {
    async fn auth<Q, A>(
        &self,
        attempt: &str,
        path: &'static str,
        kind: Kind,
        question: Q,
    ) -> Result<A, KvError>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let answer = self.client.call(attempt, path, kind, question).await;
        answer.map_err(|told| told.plain(attempt))
    }

    async fn change<Q: Message + Clone + 'static>(
        &self,
        attempt: String,
        path: &'static str,
        question: Q,
    ) -> Result<(), KvError> {
        let _: proto::HeaderResponse = self.auth(&attempt, path, Kind::Writing, question).await?;
        Ok(())
    }

    /// Has etcd ask everybody who they are. It wants a user `root` with the role `root` first.
    pub async fn enable_auth(&self) -> Result<(), KvError> {
        let path = "/etcdserverpb.Auth/AuthEnable";
        self.change("turn authentication on".to_owned(), path, proto::Empty {})
            .await
    }

    /// Whether etcd asks everybody who they are.
    pub async fn asks(&self) -> Result<bool, KvError> {
        // There is a call for it since 3.5 only; who logs in is told by every version.
        let question = proto::PairRequest {
            name: String::new(),
            second: String::new(),
        };
        let deadline = self.client.deadline();
        let attempt = "ask whether etcd knows users";
        self.client
            .with_members_unknown(attempt, deadline, |url| {
                let (client, question) = (std::sync::Arc::clone(&self.client), question.clone());
                async move {
                    let channel = client.channel(&url, false).await?;
                    let request = crate::client::Client::request(question, None, true);
                    let path = "/etcdserverpb.Auth/Authenticate";
                    let answer: Result<proto::AuthenticateResponse, Failure> =
                        crate::client::unary(channel, path, request).await;
                    match answer {
                        Err(Failure::NoLogins) => Ok(false),
                        // Nobody has this name, and that is what it says.
                        Ok(_) | Err(Failure::Refused(_) | Failure::Token(_) | Failure::Meanwhile(_)) => {
                            Ok(true)
                        }
                        Err(failure) => Err(failure),
                    }
                }
            })
            .await
            .map_err(|told| told.plain(attempt))
    }

    /// Has etcd let everybody in.
    pub async fn disable_auth(&self) -> Result<(), KvError> {
        let path = "/etcdserverpb.Auth/AuthDisable";
        self.change("turn authentication off".to_owned(), path, proto::Empty {})
            .await
    }

    /// Adds a user; without a password it is known by its client certificate alone.
    pub async fn add_user(&self, name: &str, password: Option<&str>) -> Result<(), KvError> {
        let question = proto::UserAddRequest {
            name: name.to_owned(),
            password: password.unwrap_or_default().to_owned(),
            options: Some(proto::UserAddOptions {
                no_password: password.is_none(),
            }),
        };
        self.change(
            format!("add the user `{name}`"),
            "/etcdserverpb.Auth/UserAdd",
            question,
        )
        .await
    }

    /// Gives a user another password.
    pub async fn set_password(&self, name: &str, password: &str) -> Result<(), KvError> {
        let question = proto::PairRequest {
            name: name.to_owned(),
            second: password.to_owned(),
        };
        let path = "/etcdserverpb.Auth/UserChangePassword";
        self.change(format!("change the password of `{name}`"), path, question)
            .await
    }

    /// Deletes a user.
    pub async fn delete_user(&self, name: &str) -> Result<(), KvError> {
        let question = proto::NameRequest {
            name: name.to_owned(),
        };
        self.change(
            format!("delete the user `{name}`"),
            "/etcdserverpb.Auth/UserDelete",
            question,
        )
        .await
    }

    /// The users.
    pub async fn users(&self) -> Result<Vec<String>, KvError> {
        let path = "/etcdserverpb.Auth/UserList";
        let answer: proto::NamesResponse = self
            .auth("list users", path, Kind::Reading, proto::Empty {})
            .await?;
        Ok(answer.names)
    }

    /// The roles of a user.
    pub async fn roles_of(&self, user: &str) -> Result<Vec<String>, KvError> {
        let question = proto::NameRequest {
            name: user.to_owned(),
        };
        let attempt = format!("look at the user `{user}`");
        let path = "/etcdserverpb.Auth/UserGet";
        let answer: proto::NamesResponse = self.auth(&attempt, path, Kind::Reading, question).await?;
        Ok(answer.names)
    }

    /// Gives a user a role.
    pub async fn grant_role(&self, user: &str, role: &str) -> Result<(), KvError> {
        let path = "/etcdserverpb.Auth/UserGrantRole";
        self.change(format!("give `{user}` the role `{role}`"), path, pair(user, role))
            .await
    }

    /// Takes a role from a user.
    pub async fn revoke_role(&self, user: &str, role: &str) -> Result<(), KvError> {
        let path = "/etcdserverpb.Auth/UserRevokeRole";
        self.change(
            format!("take the role `{role}` from `{user}`"),
            path,
            pair(user, role),
        )
        .await
    }

    /// Adds a role, which may do nothing yet.
    pub async fn add_role(&self, role: &str) -> Result<(), KvError> {
        let question = proto::NameRequest {
            name: role.to_owned(),
        };
        self.change(
            format!("add the role `{role}`"),
            "/etcdserverpb.Auth/RoleAdd",
            question,
        )
        .await
    }

    /// Deletes a role.
    pub async fn delete_role(&self, role: &str) -> Result<(), KvError> {
        let question = proto::NameRequest {
            name: role.to_owned(),
        };
        self.change(
            format!("delete the role `{role}`"),
            "/etcdserverpb.Auth/RoleDelete",
            question,
        )
        .await
    }

    /// The roles.
    pub async fn roles(&self) -> Result<Vec<String>, KvError> {
        let path = "/etcdserverpb.Auth/RoleList";
        let answer: proto::NamesResponse = self
            .auth("list roles", path, Kind::Reading, proto::Empty {})
            .await?;
        Ok(answer.names)
    }

    /// What a role may do.
    pub async fn permissions(&self, role: &str) -> Result<Vec<Permission>, KvError> {
        let question = proto::NameRequest {
            name: role.to_owned(),
        };
        let attempt = format!("look at the role `{role}`");
        let path = "/etcdserverpb.Auth/RoleGet";
        let answer: proto::RoleGetResponse = self.auth(&attempt, path, Kind::Reading, question).await?;
        let permission = |permission: proto::Permission| Permission {
            access: match permission.kind {
                0 => Access::Read,
                1 => Access::Write,
                _ => Access::ReadWrite,
            },
            span: self.root.span(&permission.key, &permission.range_end),
        };
        Ok(answer.permissions.into_iter().map(permission).collect())
    }

    /// Lets a role do something with some of our keys. Over the same keys it takes the place of what was there.
    pub async fn permit(&self, role: &str, access: Access, span: &Span) -> Result<(), KvError> {
        let interval = self.root.interval(span);
        let question = proto::RoleGrantRequest {
            name: role.to_owned(),
            permission: Some(proto::Permission {
                kind: match access {
                    Access::Read => 0,
                    Access::Write => 1,
                    Access::ReadWrite => 2,
                },
                key: interval.key,
                range_end: interval.end,
            }),
        };
        let path = "/etcdserverpb.Auth/RoleGrantPermission";
        self.change(format!("let the role `{role}` use {span}"), path, question)
            .await
    }

    /// Takes that back, for exactly these keys.
    pub async fn forbid(&self, role: &str, span: &Span) -> Result<(), KvError> {
        let interval = self.root.interval(span);
        let question = proto::RoleRevokeRequest {
            role: role.to_owned(),
            key: interval.key,
            range_end: interval.end,
        };
        let path = "/etcdserverpb.Auth/RoleRevokePermission";
        self.change(
            format!("no longer let the role `{role}` use {span}"),
            path,
            question,
        )
        .await
    }
}

fn pair(name: &str, second: &str) -> proto::PairRequest {
    proto::PairRequest {
        name: name.to_owned(),
        second: second.to_owned(),
    }
}
