//! The gate: who calls, and whether that is allowed.
//!
//! Every request passes [`authenticate`], which tells who calls ([`Known`]) or answers 401. Every route of the table is
//! served with the table's own row beside it, and a handler gets what it works with only as a [`Caller`], whose making
//! asks for the verb of that row: a handler that forgot to ask has nothing to act on.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    extract::{ConnectInfo, FromRequestParts, Request, State},
    http::{HeaderMap, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use upkeep_api::{error::Code, routes::Route};
use upkeep_model::id::AppName;
use upkeep_sys::clock;

use super::{
    Shared,
    error::ApiError,
    stream::{Stalled, Tap},
};
use crate::{
    access::{FAILURES_MOST, Failures, Known, Permit, Sum, Sums},
    apps::{
        director::{log_machine_event, machine_event},
        directory::AppEntry,
    },
    certs::Holder,
    command::{Principal, Refusal},
    events::Events,
};

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(super) enum Peer {
    /// On the unix socket: the user, as the kernel says; `None`: it cannot say.
    Local { uid: Option<u32> },
    /// On a TCP socket.
    Remote {
        address: IpAddr,
        /// Whose client certificate it is that our own authority has made.
        certificate: Option<Holder>,
    },
}

/// What the router holds: closed to all but a [`Caller`].
#[derive(Clone, Debug)]
pub(super) struct Locked(Arc<Shared>);

impl Locked {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }
}

/// Whoever calls, with the proof that it may do what the route does, and with what the route works with.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) shared: Arc<Shared>,
    pub(super) permit: Permit,
    /// For questions about other verbs.
    pub(super) known: Known,
}

impl FromRequestParts<Locked> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, locked: &Locked) -> Result<Self, Self::Rejection> {
        // Both are put there by this module; without them nothing is allowed.
        let closed = || Refusal::new(Code::Forbidden, "refused: this call is not open to anybody");
        let route = *parts.extensions.get::<&'static Route>().ok_or_else(closed)?;
        let known = parts.extensions.get::<Known>().ok_or_else(closed)?.clone();
        let permit = known.permit(route.verb)?;
        Ok(Self {
            shared: Arc::clone(&locked.0),
            permit,
            known,
        })
    }
}

impl Caller {
    /// An app that the caller reaches. Of one that it cannot even see it is told that there is none.
    pub(super) fn app(&self, name: &str) -> Result<(AppName, AppEntry), ApiError> {
        let unknown = || {
            ApiError(Refusal::new(
                Code::NotFound,
                format!("there is no app `{}`", name.escape_debug()),
            ))
        };
        let name = AppName::parse(name).map_err(|_| unknown())?;
        let entry = self.shared.directory.get(&name).ok_or_else(unknown)?;
        let namespace = &entry.record.spec.namespace;
        if !self.permit.covers(&name, namespace) {
            let sees = self.known.permit(upkeep_model::access::Verb::AppsRead);
            if !sees.is_ok_and(|permit| permit.covers(&name, namespace)) {
                return Err(unknown());
            }
            self.permit.require(&name, namespace)?;
        }
        Ok((name, entry))
    }
}

/// Failures that are counted.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    sign_ins: Failures<IpAddr>,
    denials: Failures<String>,
    /// Of those whom nobody knows.
    many_sign_ins: Sums,
    /// Of those who may not do what they ask for.
    many_denials: Sums,
}

impl Guard {
    /// Tells in sums what strangers did too often to be told one by one. Never ends.
    pub(super) async fn tell_sums(&self, events: &Events) {
        let tell = |what: &'static str, why: &'static str| {
            move |sum: Sum| {
                let Sum { count, places, from } = sum;
                let principal = Principal {
                    name: "upkeep".to_owned(),
                };
                let result = format!("refused {count} more from {from}");
                let mut event = machine_event(&principal, what, Some(why), &result);
                event.details.insert("count".to_owned(), count.into());
                event.details.insert("places".to_owned(), places.into());
                log_machine_event(events, event);
            }
        };
        let sign_ins = tell("sign_in_failed", "tokens that are not valid");
        let denials = tell("denied", "calls that were not permitted");
        tokio::join!(self.many_sign_ins.tell(sign_ins), self.many_denials.tell(denials));
    }
}

/// The token of `Authorization: Bearer …`; `Err`: the header is there and is none.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, ()> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Ok(None);
    };
    let text = value.to_str().map_err(|_| ())?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim())),
        _ => Err(()),
    }
}

pub(super) fn place(address: IpAddr) -> IpAddr {
    // Callers with IPv6 own a /64: that is one place.
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// Whether an address is this machine's own loopback. Of a place it cannot be told: `::1` lies in the network `::`.
pub(super) fn is_here(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Who calls, as far as the rights of today know; or why nobody does.
fn look_up(shared: &Shared, peer: &Peer, headers: &HeaderMap) -> Result<Known, &'static str> {
    let access = &shared.access;
    match (bearer(headers), peer) {
        (Ok(Some(token)), _) => access
            .of_token(token)
            .ok_or("the token is not known, or has ended, or was revoked"),
        (Err(()), _) => Err("the header `Authorization` is not `Bearer` with a token"),
        (Ok(None), Peer::Local { uid: Some(uid) }) => Ok(access.of_uid(*uid)),
        (
            Ok(None),
            Peer::Remote {
                certificate: Some(holder),
                ..
            },
        ) => Ok(access.of_certificate(&holder.name, holder.not_after as f64)),
        (Ok(None), _) => Err("no token was sent"),
    }
}

/// Between two looks whether a token of an open stream has ended.
const LOOK: Duration = Duration::from_secs(5);

/// Ends with the rights that a stream was opened with: a token was revoked or has ended, a role was taken or changed.
/// Whoever still may comes back, and gets what holds then.
async fn until_changed(shared: Arc<Shared>, peer: Peer, headers: HeaderMap, known: Known) {
    let mut changes = shared.access.subscribe();
    loop {
        let now = look_up(&shared, &peer, &headers);
        if !now.is_ok_and(|now| now.holds_the_same(&known)) {
            return;
        }
        tokio::select! {
            // Cancel-safe: both only wait.
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK), if known.ends() => {}
        }
    }
}

/// Tells who calls, and counts who fails to.
pub(super) fn who(shared: &Shared, peer: &Peer, headers: &HeaderMap) -> Result<Known, Refusal> {
    let address = match peer {
        Peer::Remote { address, .. } => Some(place(*address)),
        Peer::Local { .. } => None,
    };
    let now_ms = clock::monotonic_ms();
    let why = match look_up(shared, peer, headers) {
        Ok(known) => return Ok(known),
        Err(why) => why,
    };
    // Whoever is somebody got in above: nobody is locked out by what others try from the same address.
    if let Some(wait_ms) = address.and_then(|address| shared.guard.sign_ins.wait(&address, now_ms)) {
        let mut refusal = Refusal::new(
            Code::TooMany,
            "refused: too many calls from this address had no valid token",
        )
        .hint("wait, then use a token that is valid: `upkeep token ls` lists them");
        refusal.retry_after_s = Some(wait_ms.div_ceil(1000));
        return Err(refusal);
    }
    // Who sends nothing has tried nothing.
    if let (Some(address), true) = (address, headers.contains_key(header::AUTHORIZATION)) {
        let result = match shared.guard.sign_ins.count(&address, now_ms) {
            1 => Some("refused"),
            FAILURES_MOST => Some("refused, and nobody there is listened to for a minute"),
            _ => None,
        };
        let name = address.to_string();
        let is_told = shared.guard.many_sign_ins.count(&name, result.is_some());
        if let Some(result) = result.filter(|_| is_told) {
            let principal = Principal { name };
            log_machine_event(
                &shared.events,
                machine_event(&principal, "sign_in_failed", Some(why), result),
            );
        }
    }
    Err(Refusal::new(Code::Unauthenticated, format!("refused: {why}"))
        .hint("send `Authorization: Bearer TOKEN`; `upkeep token create NAME --role viewer` makes one"))
}

/// Who calls, for what lies behind; what is refused there is logged.
pub(super) async fn authenticate(
    State(Locked(shared)): State<Locked>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = request
        .extensions()
        .get::<ConnectInfo<Peer>>()
        .map_or(Peer::Local { uid: None }, |info| info.0.clone());
    let known = match who(&shared, &peer, request.headers()) {
        Ok(known) => known,
        Err(refusal) => return ApiError(refusal).into_response(),
    };
    let principal = known.who().clone();
    let mut proof = HeaderMap::new();
    if let Some(value) = request.headers().get(header::AUTHORIZATION) {
        proof.insert(header::AUTHORIZATION, value.clone());
    }
    let held = known.clone();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let connection = request.extensions().get::<Stalled>().cloned();
    request.extensions_mut().insert(known);
    let mut response = next.run(request).await;
    if let Some(tap) = response.extensions_mut().remove::<Tap>() {
        let watch = tap.watch(until_changed(shared, peer, proof, held), connection);
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with its stream, on the HTTP runtime, which owns nothing else"
        )]
        drop(tokio::spawn(watch));
        return response;
    }
    if response.status() == StatusCode::FORBIDDEN {
        let count = shared.guard.denials.count(&principal.name, clock::monotonic_ms());
        // A script that tries all day does not fill the log, whatever it may.
        let is_worth = count <= FAILURES_MOST;
        if shared.guard.many_denials.count(&principal.name, is_worth) {
            log_machine_event(
                &shared.events,
                machine_event(
                    &principal,
                    "denied",
                    Some(&format!(
                        "{method} {}",
                        path.chars().take(200).collect::<String>()
                    )),
                    "refused",
                ),
            );
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, header::HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn the_scheme_is_bearer_in_any_case() {
        assert_eq!(bearer(&HeaderMap::new()), Ok(None));
        assert_eq!(bearer(&with("Bearer upk_1_2")), Ok(Some("upk_1_2")));
        assert_eq!(bearer(&with("bearer  upk_1_2 ")), Ok(Some("upk_1_2")));
        for wrong in ["upk_1_2", "Basic dXNlcjpwYXNz", ""] {
            assert_eq!(bearer(&with(wrong)), Err(()), "{wrong}");
        }
    }

    #[test]
    fn one_network_of_ipv6_is_one_place() {
        let of = |text: &str| place(text.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }

    #[test]
    fn this_machine_is_known_by_all_its_addresses() {
        let here = |text: &str| is_here(text.parse().expect("an address"));
        assert!(here("::1") && here("127.0.0.1") && here("127.9.9.9") && here("::ffff:127.0.0.1"));
        assert!(!here("::2") && !here("192.0.2.1"));
    }
}
