//! Init systems: how each is recognised, where its file is, and what switches that on and off.

use std::path::PathBuf;

use super::template;

/// An init system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Init {
    Systemd,
    Upstart,
    Systemv,
    Openrc,
    Launchd,
    Rcd,
    RcdOpenbsd,
    Smf,
    /// Not one of PM2's.
    Runit,
}

/// The program that gives it away, in the order in which they are looked for.
const SIGNS: &[(&str, Init)] = &[
    ("systemctl", Init::Systemd),
    ("update-rc.d", Init::Upstart),
    ("chkconfig", Init::Systemv),
    ("rc-update", Init::Openrc),
    ("launchctl", Init::Launchd),
    ("sysrc", Init::Rcd),
    ("rcctl", Init::RcdOpenbsd),
    ("svcadm", Init::Smf),
    ("runsvdir", Init::Runit),
];

/// What this machine has.
pub(super) fn detect() -> Option<Init> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    SIGNS
        .iter()
        .find(|(program, _)| folders.iter().any(|folder| folder.join(program).is_file()))
        .map(|(_, init)| *init)
}

impl Init {
    /// What PM2 calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Upstart => "upstart",
            Self::Systemv => "systemv",
            Self::Openrc => "openrc",
            Self::Launchd => "launchd",
            Self::Rcd => "rcd",
            Self::RcdOpenbsd => "rcd-openbsd",
            Self::Smf => "smf",
            Self::Runit => "runit",
        }
    }

    /// By its name, or by that of a system that has it.
    pub(super) fn parse(word: &str) -> Option<Self> {
        match word {
            "systemd" | "ubuntu" | "centos" | "arch" | "oracle" => Some(Self::Systemd),
            "upstart" | "ubuntu12" | "ubuntu14" => Some(Self::Upstart),
            "systemv" | "amazon" | "centos6" => Some(Self::Systemv),
            "openrc" => Some(Self::Openrc),
            "launchd" | "macos" | "darwin" => Some(Self::Launchd),
            "rcd" | "freebsd" => Some(Self::Rcd),
            "rcd-openbsd" | "openbsd" => Some(Self::RcdOpenbsd),
            "smf" | "sunos" | "solaris" => Some(Self::Smf),
            "runit" => Some(Self::Runit),
            _ => None,
        }
    }
}

/// Everything a file and its commands are made from.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) init: Init,
    /// Another name than the usual one.
    pub(super) service: Option<String>,
    pub(super) user: String,
    pub(super) pm2_home: PathBuf,
    pub(super) program: PathBuf,
    pub(super) path: String,
    pub(super) user_home: String,
    pub(super) wait_for_network: bool,
}

impl Plan {
    /// What the init system calls it.
    pub(super) fn name(&self) -> String {
        let user = &self.user;
        self.service.clone().unwrap_or_else(|| match self.init {
            Init::Openrc => "pm2".to_owned(),
            Init::Launchd => format!("pm2.{user}"),
            Init::Rcd | Init::RcdOpenbsd | Init::Smf => format!("pm2_{user}"),
            Init::Systemd | Init::Upstart | Init::Systemv | Init::Runit => format!("pm2-{user}"),
        })
    }

    /// The file.
    pub(super) fn target(&self) -> String {
        let name = self.name();
        match self.init {
            Init::Systemd => format!("/etc/systemd/system/{name}.service"),
            Init::Upstart | Init::Systemv | Init::Openrc => format!("/etc/init.d/{name}"),
            Init::Launchd => format!("{}/Library/LaunchAgents/{name}.plist", self.user_home),
            Init::Rcd => format!("/usr/local/etc/rc.d/{name}"),
            Init::RcdOpenbsd => format!("/etc/rc.d/{name}"),
            Init::Smf => std::env::temp_dir()
                .join(format!("{name}.xml"))
                .display()
                .to_string(),
            Init::Runit => format!("/etc/sv/{name}/run"),
        }
    }

    /// Its text.
    pub(super) fn template(&self) -> String {
        match self.init {
            Init::Systemd => template::systemd(self),
            Init::Upstart | Init::Systemv => template::systemv(self),
            Init::Openrc => template::openrc(self),
            Init::Launchd => template::launchd(self),
            Init::Rcd => template::rcd(self),
            Init::RcdOpenbsd => template::rcd_openbsd(self),
            Init::Smf => template::smf(self),
            Init::Runit => template::runit(self),
        }
    }

    /// Switches it on.
    pub(super) fn enable(&self) -> Vec<String> {
        let (name, target) = (self.name(), self.target());
        match self.init {
            Init::Systemd => vec![format!("systemctl enable {name}")],
            Init::Upstart | Init::Systemv => {
                let mut commands = vec![
                    format!("chmod +x {target}"),
                    "mkdir -p /var/lock/subsys".to_owned(),
                    format!("touch /var/lock/subsys/{name}"),
                ];
                if self.init == Init::Upstart {
                    commands.push(format!("update-rc.d {name} defaults"));
                } else {
                    commands.extend([
                        format!("chkconfig --add {name}"),
                        format!("chkconfig {name} on"),
                        "initctl list".to_owned(),
                    ]);
                }
                commands
            }
            Init::Openrc => vec![
                format!("chmod +x {target}"),
                format!("rc-update add {name} default"),
            ],
            Init::Launchd => vec![
                format!("mkdir -p {}/Library/LaunchAgents", self.user_home),
                format!("launchctl load -w {target}"),
            ],
            Init::Rcd => vec![format!("chmod 755 {target}"), format!("sysrc {name}_enable=YES")],
            Init::RcdOpenbsd => vec![
                format!("chmod 755 {target}"),
                format!("rcctl enable {name}"),
                format!("rcctl start {name}"),
            ],
            Init::Smf => vec![format!("svccfg import {target}"), format!("svcadm enable {name}")],
            Init::Runit => vec![
                format!("chmod +x {target}"),
                format!("ln -sfn /etc/sv/{name} /etc/service/{name}"),
            ],
        }
    }

    /// Stops it, switches it off and removes the file.
    pub(super) fn disable(&self) -> Vec<String> {
        let (name, target) = (self.name(), self.target());
        let mut commands = match self.init {
            Init::Systemd => vec![
                format!("systemctl stop {name}"),
                format!("systemctl disable {name}"),
            ],
            Init::Upstart => vec![
                format!("update-rc.d {name} disable"),
                format!("update-rc.d -f {name} remove"),
            ],
            Init::Systemv => vec![format!("chkconfig {name} off")],
            Init::Openrc => vec![
                format!("{target} stop"),
                format!("rc-update delete {name} default"),
            ],
            Init::Launchd => vec![format!("launchctl remove {name}")],
            Init::Rcd => vec![format!("{target} stop"), format!("sysrc -x {name}_enable")],
            Init::RcdOpenbsd => vec![format!("rcctl stop {name}"), format!("rcctl disable {name}")],
            Init::Smf => {
                return vec![
                    format!("svcadm disable {name}"),
                    format!("svccfg delete -f {name}"),
                ];
            }
            Init::Runit => {
                return vec![
                    format!("sv stop {name}"),
                    format!("rm /etc/service/{name}"),
                    format!("rm -r /etc/sv/{name}"),
                ];
            }
        };
        commands.push(format!("rm {target}"));
        commands
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(init: Init) -> Plan {
        Plan {
            init,
            service: None,
            user: "joe".to_owned(),
            pm2_home: "/home/joe/.pm2".into(),
            program: "/usr/local/bin/pm2".into(),
            path: "/bin".to_owned(),
            user_home: "/home/joe".to_owned(),
            wait_for_network: false,
        }
    }

    const ALL: &[Init] = &[
        Init::Systemd,
        Init::Upstart,
        Init::Systemv,
        Init::Openrc,
        Init::Launchd,
        Init::Rcd,
        Init::RcdOpenbsd,
        Init::Smf,
        Init::Runit,
    ];

    #[test]
    fn every_name_is_understood() {
        for init in ALL {
            assert_eq!(Init::parse(init.name()), Some(*init));
        }
        assert_eq!(Init::parse("bogus"), None);
    }

    #[test]
    fn every_file_brings_the_saved_list_back() {
        for init in ALL {
            let plan = plan(*init);
            let text = plan.template();
            assert!(text.contains("/usr/local/bin/pm2"), "{init:?}: {text}");
            assert!(text.contains("resurrect"), "{init:?}: {text}");
            assert!(text.contains("/home/joe/.pm2"), "{init:?}: {text}");
            assert!(plan.target().contains("pm2"), "{init:?}");
        }
    }

    #[test]
    fn the_unit_is_the_one_that_people_know() {
        let unit = plan(Init::Systemd).template();
        for line in [
            "Type=forking",
            "User=joe",
            "LimitNOFILE=infinity",
            "LimitNPROC=infinity",
            "LimitCORE=infinity",
            "Environment=PATH=/bin:/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
            "Environment=PM2_HOME=/home/joe/.pm2",
            "PIDFile=/home/joe/.pm2/pm2.pid",
            "Restart=on-failure",
            "After=network.target",
            "ExecStart=/usr/local/bin/pm2 resurrect",
            "ExecReload=/usr/local/bin/pm2 reload all",
            "ExecStop=/usr/local/bin/pm2 kill",
            "WantedBy=multi-user.target",
        ] {
            assert!(
                unit.lines().any(|have| have == line),
                "{line} is missing in\n{unit}"
            );
        }
    }

    #[test]
    fn another_name_and_the_network() {
        let mut plan = plan(Init::Systemd);
        plan.service = Some("foo".to_owned());
        plan.wait_for_network = true;
        assert_eq!(plan.target(), "/etc/systemd/system/foo.service");
        assert_eq!(plan.enable(), ["systemctl enable foo"]);
        assert!(plan.template().contains("WantedBy=network-online.target"));
    }

    #[test]
    fn what_is_removed_is_what_was_written() {
        for init in ALL.iter().filter(|init| !matches!(init, Init::Smf | Init::Runit)) {
            let plan = plan(*init);
            assert_eq!(plan.disable().last(), Some(&format!("rm {}", plan.target())));
        }
    }
}
