//! The files themselves. What they do is what PM2's do; the words of the longer ones are ours.

use super::platform::Plan;

/// What PM2 adds to the unit's `PATH`.
const PATHS: &str = "/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin";

pub(super) fn systemd(plan: &Plan) -> String {
    let (home, program) = (plan.pm2_home.display(), plan.program.display());
    let (after, wanted_by) = if plan.wait_for_network {
        ("network-online.target", "network-online.target")
    } else {
        ("network.target", "multi-user.target")
    };
    format!(
        "[Unit]
Description=PM2 process manager
After={after}

[Service]
Type=forking
User={user}
LimitNOFILE=infinity
LimitNPROC=infinity
LimitCORE=infinity
Environment=PATH={path}:{PATHS}
Environment=PM2_HOME={home}
PIDFile={home}/pm2.pid
Restart=on-failure

ExecStart={program} resurrect
ExecReload={program} reload all
ExecStop={program} kill

[Install]
WantedBy={wanted_by}
",
        user = plan.user,
        path = plan.path,
    )
}

pub(super) fn systemv(plan: &Plan) -> String {
    format!(
        r#"#!/bin/sh
### BEGIN INIT INFO
# Provides:          {name}
# Required-Start:    $local_fs $remote_fs $network
# Required-Stop:     $local_fs $remote_fs $network
# Default-Start:     2 3 4 5
# Default-Stop:      0 1 6
# Short-Description: apps of {user} under pm2
### END INIT INFO

# /etc/default/{name} may set other values, and MAX_OPEN_FILES.
PM2="{program}"
USER="{user}"
PATH="{path}:$PATH"
PM2_HOME="{home}"
MAX_OPEN_FILES=""
[ -f "/etc/default/{name}" ] && . "/etc/default/{name}"
[ -n "$MAX_OPEN_FILES" ] && ulimit -n "$MAX_OPEN_FILES"

# A login shell that lets nobody in would let us in neither.
as_user() {{
    su - "$USER" -s /bin/sh -c "PATH='$PATH' PM2_HOME='$PM2_HOME' '$PM2' $*"
}}

case "$1" in
    start) as_user resurrect ;;
    stop) as_user kill ;;
    restart) as_user kill && as_user resurrect ;;
    reload|force-reload) as_user reload all ;;
    status) as_user list ;;
    *) echo "Usage: $0 {{start|stop|restart|reload|force-reload|status}}" >&2; exit 2 ;;
esac
"#,
        name = plan.name(),
        user = plan.user,
        program = plan.program.display(),
        path = plan.path,
        home = plan.pm2_home.display(),
    )
}

pub(super) fn openrc(plan: &Plan) -> String {
    format!(
        r#"#!/sbin/openrc-run

description="Apps under pm2"
extra_started_commands="reload"

: "${{PM2_USER:={user}}}"
export PM2_HOME="${{PM2_HOME:-{home}}}"
export PATH="{path}:$PATH"
command="{program}"
command_args="resurrect"
command_user="$PM2_USER"
pidfile="$PM2_HOME/pm2.pid"

depend() {{
    need net localmount
    after bootmisc
}}

as_user() {{
    su "$PM2_USER" -s /bin/sh -c "PATH='$PATH' PM2_HOME='$PM2_HOME' '$command' $*"
}}

stop() {{
    ebegin "Stopping the apps of $PM2_USER"
    as_user save
    as_user kill
    eend $?
}}

reload() {{
    ebegin "Reloading the apps of $PM2_USER"
    as_user reload all
    eend $?
}}
"#,
        user = plan.user,
        home = plan.pm2_home.display(),
        path = plan.path,
        program = plan.program.display(),
    )
}

pub(super) fn launchd(plan: &Plan) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>Label</key>
  <string>{name}</string>
  <key>UserName</key>
  <string>{user}</string>
  <key>ProgramArguments</key>
  <array>
    <string>/bin/sh</string>
    <string>-c</string>
    <string>{program} resurrect</string>
  </array>
  <key>RunAtLoad</key>
  <true/>
  <key>LaunchOnlyOnce</key>
  <true/>
  <key>EnvironmentVariables</key>
  <dict>
    <key>PATH</key>
    <string>{path}</string>
    <key>PM2_HOME</key>
    <string>{home}</string>
  </dict>
  <key>StandardErrorPath</key>
  <string>/tmp/{name}.err</string>
  <key>StandardOutPath</key>
  <string>/tmp/{name}.out</string>
</dict>
</plist>
"#,
        name = plan.name(),
        user = plan.user,
        program = plan.program.display(),
        path = plan.path,
        home = plan.pm2_home.display(),
    )
}

/// What the two scripts for `rc.d` have in common.
fn as_user(plan: &Plan) -> String {
    format!(
        r#"su -m "{user}" -c "env PATH='{path}' PM2_HOME='{home}' '{program}'"#,
        user = plan.user,
        path = plan.path,
        home = plan.pm2_home.display(),
        program = plan.program.display(),
    )
}

pub(super) fn rcd(plan: &Plan) -> String {
    let (name, call) = (plan.name(), as_user(plan));
    format!(
        r#"#!/bin/sh

# PROVIDE: {name}
# REQUIRE: LOGIN NETWORKING
# KEYWORD: shutdown

. /etc/rc.subr

name="{name}"
rcvar="{name}_enable"
extra_commands="reload status"
start_cmd="{name}_call resurrect"
stop_cmd="{name}_call kill"
reload_cmd="{name}_call reload all"
status_cmd="{name}_call list"

{name}_call()
{{
    {call} $*"
}}

load_rc_config "$name"
run_rc_command "$1"
"#
    )
}

pub(super) fn rcd_openbsd(plan: &Plan) -> String {
    let call = as_user(plan);
    format!(
        r#"#!/bin/ksh

daemon="{program}"
daemon_user="{user}"

. /etc/rc.d/rc.subr

pexp="PM2 v.*: God Daemon.*"

call()
{{
    {call} $*"
}}

rc_start() {{
    call resurrect
}}

rc_stop() {{
    call kill
}}

rc_reload() {{
    call reload all
}}

rc_cmd $1
"#,
        program = plan.program.display(),
        user = plan.user,
    )
}

pub(super) fn smf(plan: &Plan) -> String {
    let (name, program) = (plan.name(), plan.program.display());
    format!(
        r#"<?xml version="1.0"?>
<!DOCTYPE service_bundle SYSTEM "/usr/share/lib/xml/dtd/service_bundle.dtd.1">
<service_bundle type="manifest" name="{name}">
  <service name="application/{name}" type="service" version="1">
    <create_default_instance enabled="false"/>
    <single_instance/>
    <dependency name="network" grouping="require_all" restart_on="error" type="service">
      <service_fmri value="svc:/milestone/network:default"/>
    </dependency>
    <dependency name="filesystem" grouping="require_all" restart_on="error" type="service">
      <service_fmri value="svc:/system/filesystem/local"/>
    </dependency>
    <method_context>
      <method_credential user="{user}"/>
      <method_environment>
        <envvar name="PATH" value="{path}"/>
        <envvar name="PM2_HOME" value="{home}"/>
      </method_environment>
    </method_context>
    <exec_method type="method" name="start" exec="{program} resurrect" timeout_seconds="60"/>
    <exec_method type="method" name="refresh" exec="{program} reload all" timeout_seconds="60"/>
    <exec_method type="method" name="stop" exec="{program} kill" timeout_seconds="60"/>
    <property_group name="startd" type="framework">
      <propval name="duration" type="astring" value="contract"/>
      <propval name="ignore_error" type="astring" value="core,signal"/>
    </property_group>
    <stability value="Evolving"/>
    <template>
      <common_name><loctext xml:lang="C">Apps of {user} under pm2</loctext></common_name>
    </template>
  </service>
</service_bundle>
"#,
        user = plan.user,
        path = plan.path,
        home = plan.pm2_home.display(),
    )
}

/// runit keeps a program in the foreground, so the script stays as long as the daemon does.
pub(super) fn runit(plan: &Plan) -> String {
    format!(
        r#"#!/bin/sh
exec 2>&1
if [ "$(id -un)" != "{user}" ]; then
    exec chpst -u "{user}" "$0"
fi
export PATH="{path}:$PATH"
export PM2_HOME="{home}"
trap '"{program}" kill; exit 0' TERM INT
"{program}" resurrect
pid=$(cat "$PM2_HOME/pm2.pid") || exit 1
while kill -0 "$pid" 2>/dev/null; do
    sleep 1 &
    wait $!
done
exit 1
"#,
        user = plan.user,
        path = plan.path,
        home = plan.pm2_home.display(),
        program = plan.program.display(),
    )
}
