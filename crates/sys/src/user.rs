//! Users and groups by name: `/etc/passwd` and `/etc/group`, and `getent` for what a directory service knows.
//!
//! `getent` is a process of its own; call this where starting one is fine (not in the keeper).

use std::{fs, process::Command};

/// A user as programs are started under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Number.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Home directory.
    pub home: String,
    /// Login shell.
    pub shell: String,
}

/// A name that means nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// No such user.
    #[error("there is no user `{name}`")]
    NoUser {
        /// As asked for.
        name: String,
    },
    /// No such group.
    #[error("there is no group `{name}`")]
    NoGroup {
        /// As asked for.
        name: String,
    },
}

/// The number of the user whose rights we have.
pub fn effective() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A user by name or number. A number without an entry is a user without a name: home `/`, group of the same number.
pub fn user(name: &str) -> Result<User, LookupError> {
    let number = name.parse::<u32>().ok();
    let matches = |user: &User| user.name == name || Some(user.uid) == number;
    let found = fs::read_to_string("/etc/passwd")
        .ok()
        .and_then(|text| text.lines().filter_map(parse_user).find(matches))
        .or_else(|| getent("passwd", name).as_deref().and_then(parse_user));
    if let Some(user) = found {
        return Ok(user);
    }
    let uid = number.ok_or_else(|| LookupError::NoUser {
        name: name.to_owned(),
    })?;
    Ok(User {
        name: name.to_owned(),
        uid,
        gid: uid,
        home: "/".to_owned(),
        shell: "/bin/sh".to_owned(),
    })
}

/// A group's number by name or number.
pub fn group(name: &str) -> Result<u32, LookupError> {
    let found = fs::read_to_string("/etc/group").ok().and_then(|text| {
        text.lines()
            .filter_map(parse_group)
            .find(|group| group.name == name)
            .map(|g| g.gid)
    });
    found
        .or_else(|| name.parse().ok())
        .or_else(|| {
            getent("group", name)
                .as_deref()
                .and_then(parse_group)
                .map(|group| group.gid)
        })
        .ok_or_else(|| LookupError::NoGroup {
            name: name.to_owned(),
        })
}

/// All groups of a user, its primary one first.
pub fn groups_of(user: &User) -> Vec<u32> {
    let mut found = vec![user.gid];
    let text = fs::read_to_string("/etc/group").unwrap_or_default();
    let member = |group: &Group| group.members.iter().any(|member| *member == user.name);
    found.extend(
        text.lines()
            .filter_map(parse_group)
            .filter(member)
            .map(|group| group.gid),
    );
    if let Some(line) = getent("initgroups", &user.name) {
        found.extend(
            line.split_ascii_whitespace()
                .skip(1)
                .filter_map(|gid| gid.parse::<u32>().ok()),
        );
    }
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|gid| seen.insert(*gid));
    found
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: Vec<&'a str>,
}

fn parse_user(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    let name = fields
        .next()
        .filter(|name| !name.is_empty() && !name.starts_with('#'))?
        .to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let home = fields.nth(1)?.to_owned();
    let shell = fields.next().unwrap_or("").trim().to_owned();
    Some(User {
        name,
        uid,
        gid,
        home,
        shell,
    })
}

fn parse_group(line: &str) -> Option<Group<'_>> {
    let mut fields = line.trim_end().split(':');
    let name = fields
        .next()
        .filter(|name| !name.is_empty() && !name.starts_with('#'))?;
    let gid = fields.nth(1)?.parse().ok()?;
    let members = fields
        .next()
        .unwrap_or("")
        .split(',')
        .filter(|member| !member.is_empty())
        .collect();
    Some(Group { name, gid, members })
}

fn getent(database: &str, key: &str) -> Option<String> {
    if key.starts_with('-') {
        return None;
    }
    let output = Command::new("getent").args([database, key]).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_by_name_and_by_number() {
        let root = user("root").unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(user("0").unwrap(), root);
        assert_eq!(group("root"), Ok(0));
        assert!(groups_of(&root).contains(&0));
    }

    #[test]
    fn unknown_names_are_errors_and_unknown_numbers_are_not() {
        assert_eq!(
            user("no-such-user"),
            Err(LookupError::NoUser {
                name: "no-such-user".into()
            })
        );
        assert_eq!(user("987654").unwrap().uid, 987_654);
        assert_eq!(group("987654"), Ok(987_654));
        assert!(group("no-such-group").is_err());
    }
}
