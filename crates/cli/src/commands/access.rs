//! Who may do what: tokens, roles, and who one is.

use std::fmt::Write;

use upkeep_api::access::{
    Change, Changed, RoleList, RolePut, RoleView, TokenCreated, TokenList, TokenPost, TokenView, WhoAmI,
};
use upkeep_model::{
    access::{Grant, Pattern, Verbs, Within},
    place::Place,
};

use super::look::percent_encode;
use crate::{
    args::{Bounds, RoleVerb, TokenVerb},
    connect::connect_or_start,
    exit::Exit,
    output::{Output, Paint, clean::clean, time},
    settings::Settings,
};

/// `token …`.
pub(crate) async fn token(verb: TokenVerb, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    match verb {
        TokenVerb::Create {
            name,
            roles,
            bounds,
            expires,
        } => {
            let post = TokenPost {
                name,
                roles,
                bound: bounds.within(),
                // A day is 86,400 seconds here: clocks that are set do not matter.
                expires_at: expires.map(|span| time::now() + span.as_millis() as f64 / 1000.0),
                reason: settings.reason.clone(),
                dry_run: settings.dry_run,
            };
            create(&post, settings, output).await
        }
        TokenVerb::Ls => tokens(settings, output).await,
        TokenVerb::Revoke { token } => {
            let path = format!("/v1/tokens/{}", percent_encode(&token));
            change("DELETE", &path, settings, output).await
        }
    }
}

async fn create(post: &TokenPost, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    let created: TokenCreated = client.call("POST", "/v1/tokens", Some(post)).await?;
    if output.json {
        output.document(&created)?;
        return Ok(Exit::Done);
    }
    let Some(secret) = &created.secret else {
        output.say(&format!("`{}` could be made", created.token.name));
        return Ok(Exit::Done);
    };
    output.text(secret)?;
    output.say("this is shown now and never again: keep it where only its user can read it");
    Ok(Exit::Done)
}

async fn tokens(settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    let list: TokenList = client.get("/v1/tokens").await?;
    if output.json {
        output.document(&list)?;
        return Ok(Exit::Done);
    }
    if list.tokens.is_empty() {
        output.say("there is no token: `upkeep token create NAME --role viewer` makes one");
        return Ok(Exit::Done);
    }
    let clock = time::Clock::local();
    let lines: Vec<String> = list
        .tokens
        .iter()
        .map(|token| token_line(token, &clock, output))
        .collect();
    output.text(&lines.join("\n"))?;
    Ok(Exit::Done)
}

fn token_line(token: &TokenView, clock: &time::Clock, output: Output) -> String {
    let end = match token.expires_at {
        Some(at) if token.expired => output.paint(Paint::Bad, &format!("ended {}", clock.text(at))),
        Some(at) => format!("until {}", clock.text(at)),
        None => "until it is revoked".to_owned(),
    };
    let used = match token.last_used_at {
        Some(at) => format!("last used {}", clock.text(at)),
        None => "never used".to_owned(),
    };
    let bound = token.bound.as_ref().map(place).unwrap_or_default();
    format!(
        "{}  {}  {}{bound}; {end}; {used}; made by {}",
        output.paint(Paint::Strong, &token.name),
        token.id,
        token.roles.join(", "),
        clean(&token.created_by),
    )
}

/// ` for shop-* in live; /shop/`, or nothing where that is everywhere.
fn place(within: &Within) -> String {
    if within.is_everywhere() {
        return String::new();
    }
    let names = |patterns: &[Pattern]| {
        patterns
            .iter()
            .map(Pattern::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let apps = (!within.has_no_app()).then(|| {
        format!(
            "{} in {}",
            clean(&names(&within.apps)),
            clean(&names(&within.namespaces))
        )
    });
    let paths: Vec<&str> = within.paths.iter().map(Place::as_str).collect();
    let paths = (!paths.is_empty()).then(|| clean(&paths.join(", ")));
    let all: Vec<String> = apps.into_iter().chain(paths).collect();
    if all.is_empty() {
        return " for nothing".to_owned();
    }
    format!(" for {}", all.join("; "))
}

/// `role …`.
pub(crate) async fn role(verb: RoleVerb, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let role_path = |role: &str| format!("/v1/roles/{}", percent_encode(role));
    let member_path =
        |role: &str, member: &str| format!("{}/members/{}", role_path(role), percent_encode(member));
    match verb {
        RoleVerb::Ls => roles(settings, output).await,
        RoleVerb::Set { role, verbs, bounds } => {
            let within = bounds.within().unwrap_or_default();
            let put = RolePut {
                grants: vec![Grant { verbs, within }],
                if_revision: None,
                reason: settings.reason.clone(),
                dry_run: settings.dry_run,
            };
            let mut client = connect_or_start(settings).await?;
            let changed: Changed = client.call("PUT", &role_path(&role), Some(&put)).await?;
            told(&changed, settings, output)
        }
        RoleVerb::Rm { role } => change("DELETE", &role_path(&role), settings, output).await,
        RoleVerb::Grant { role, member } => {
            change("PUT", &member_path(&role, &member), settings, output).await
        }
        RoleVerb::Revoke { role, member } => {
            change("DELETE", &member_path(&role, &member), settings, output).await
        }
    }
}

async fn roles(settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    let list: RoleList = client.get("/v1/roles").await?;
    if output.json {
        output.document(&list)?;
        return Ok(Exit::Done);
    }
    let blocks: Vec<String> = list.roles.iter().map(|role| role_block(role, output)).collect();
    output.text(blocks.join("\n").trim_end())?;
    Ok(Exit::Done)
}

fn role_block(role: &RoleView, output: Output) -> String {
    let built_in = if role.built_in { " (built in)" } else { "" };
    let mut text = format!("{}{built_in}\n", output.paint(Paint::Strong, &role.name));
    text.push_str(&grant_lines(&role.grants));
    if !role.members.is_empty() {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "  held by {}", clean(&role.members.join(", ")));
    }
    text
}

fn grant_lines(grants: &[Grant]) -> String {
    grants.iter().fold(String::new(), |mut text, grant| {
        let verbs: Vec<String> = grant.verbs.iter().cloned().map(String::from).collect();
        // Writing into a string cannot fail.
        let _ = writeln!(text, "  {}{}", verbs.join(" "), place(&grant.within));
        text
    })
}

async fn change(method: &str, path: &str, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let body = Change {
        reason: settings.reason.clone(),
        dry_run: settings.dry_run,
    };
    let mut client = connect_or_start(settings).await?;
    let changed: Changed = client.call(method, path, Some(&body)).await?;
    told(&changed, settings, output)
}

pub(super) fn told(changed: &Changed, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    if output.json {
        output.document(changed)?;
        return Ok(Exit::Done);
    }
    if changed.changes.is_empty() {
        output.say("nothing changes");
        return Ok(Exit::Done);
    }
    let would = if settings.dry_run { "would be " } else { "" };
    let lines: Vec<String> = changed
        .changes
        .iter()
        .map(|change| format!("{would}{}", clean(change)))
        .collect();
    output.text(&lines.join("\n"))?;
    Ok(Exit::Done)
}

/// `whoami`.
pub(crate) async fn whoami(settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    let me: WhoAmI = client.get("/v1/whoami").await?;
    if output.json {
        output.document(&me)?;
        return Ok(Exit::Done);
    }
    let roles = if me.roles.is_empty() {
        "no role".to_owned()
    } else {
        me.roles.join(", ")
    };
    let bound = me.bound.as_ref().map(place).unwrap_or_default();
    let mut text = format!(
        "{}: {roles}{bound}\n",
        output.paint(Paint::Strong, &clean(&me.principal))
    );
    text.push_str(&grant_lines(&me.grants));
    if let Some(at) = me.expires_at {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "  until {}", time::Clock::local().text(at));
    }
    output.text(text.trim_end())?;
    Ok(Exit::Done)
}

impl Bounds {
    /// `None`: they were not given.
    fn within(&self) -> Option<Within> {
        if self.apps.is_empty() && self.namespaces.is_empty() && self.paths.is_empty() {
            return None;
        }
        let given = |patterns: &[Pattern]| (!patterns.is_empty()).then(|| patterns.to_vec());
        let paths = (!self.paths.is_empty()).then(|| self.paths.clone());
        Some(Within::of(given(&self.apps), given(&self.namespaces), paths))
    }
}

/// For clap.
pub(crate) fn verbs(text: &str) -> Result<Verbs, String> {
    text.parse::<Verbs>().map_err(|error| error.to_string())
}

/// For clap.
pub(crate) fn pattern(text: &str) -> Result<Pattern, String> {
    text.parse::<Pattern>().map_err(|error| error.to_string())
}

/// For clap.
pub(crate) fn place_of(text: &str) -> Result<Place, String> {
    text.parse::<Place>().map_err(|error| error.to_string())
}
