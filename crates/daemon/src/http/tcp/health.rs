//! The JSON that PM2 tells on port 9615, for those who watch it there.
//!
//! `GET /` has what the first PM2 had (2013: `system_info`, `monit`, `processes` with `opts` and `monit`) and what the
//! later ones have beside it (`name`, `pm2_env`). Any other path is 404 with `{"err": "404"}`; the first PM2 said so with
//! status 200. No environment and no arguments are told: they may be secrets.
//!
//! On loopback nobody is asked who they are. Elsewhere it takes what `GET /v1/apps` and `GET /v1/daemon` take.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use axum::{
    body::Body,
    http::{HeaderValue, Method, Request, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use upkeep_api::body::InstanceView;
use upkeep_model::{
    access::Verb,
    app::AppSpec,
    state::{Actual, Desired},
};
use upkeep_sys::{clock, interfaces};

use crate::{
    apps::view,
    http::{
        Shared,
        error::ApiError,
        gate::{self, Peer},
    },
};

fn json_answer(status: StatusCode, value: &Value) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, value.to_string()).into_response()
}

pub(super) async fn answer(shared: &Arc<Shared>, peer: &Peer, request: Request<Body>) -> Response {
    // A body is of no use here.
    let (request, _) = request.into_parts();
    let is_near = matches!(peer, Peer::Remote { address, .. } if address.to_canonical().is_loopback());
    if !is_near {
        let allowed = gate::who(shared, peer, &request.headers).and_then(|known| {
            known.permit(Verb::MachineRead)?;
            known.permit(Verb::AppsRead)?.require_everywhere()
        });
        if let Err(refusal) = allowed {
            return ApiError(refusal).into_response();
        }
    }
    if !matches!(request.method, Method::GET | Method::HEAD) {
        let mut response = json_answer(StatusCode::METHOD_NOT_ALLOWED, &json!({"err": "405"}));
        let headers = response.headers_mut();
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    if request.uri.path() != "/" {
        return json_answer(StatusCode::NOT_FOUND, &json!({"err": "404"}));
    }
    let shared = Arc::clone(shared);
    // It reads a few files of `/proc`.
    let page = tokio::task::spawn_blocking(move || page(&shared)).await;
    match page {
        Ok(page) => json_answer(StatusCode::OK, &page),
        Err(_) => json_answer(StatusCode::SERVICE_UNAVAILABLE, &json!({"err": "503"})),
    }
}

fn page(shared: &Shared) -> Value {
    let mut processes: Vec<(u32, Value)> = Vec::new();
    for (name, entry) in shared.directory.read().iter() {
        let view = view::app(name, entry, &shared.usage);
        for instance in &view.instances {
            processes.push((instance.id, process(&entry.record.spec, instance)));
        }
    }
    processes.sort_by_key(|(id, _)| *id);
    let processes: Vec<Value> = processes.into_iter().map(|(_, process)| process).collect();
    let proc = |name: &str| std::fs::read_to_string(format!("/proc/{name}")).unwrap_or_default();
    let (memory, load, uptime) = (proc("meminfo"), proc("loadavg"), proc("uptime"));
    json!({
        "system_info": {
            "hostname": rustix::system::uname().nodename().to_string_lossy(),
            "uptime": numbers(&uptime, 1).first().copied().unwrap_or(0.0),
        },
        "monit": {
            "loadavg": numbers(&load, 3),
            "total_mem": kibibytes(&memory, "MemTotal:"),
            "free_mem": kibibytes(&memory, "MemAvailable:"),
            "cpu": processors(&proc("cpuinfo"), &proc("stat")),
            "interfaces": network(),
        },
        "processes": processes,
    })
}

/// The word that PM2 has for a state.
fn status(instance: &InstanceView) -> &'static str {
    match instance.actual {
        Actual::Running => "online",
        Actual::Starting | Actual::Waiting => "launching",
        Actual::Stopping | Actual::Killing => "stopping",
        Actual::BackingOff => "waiting restart",
        Actual::Failed | Actual::GaveUp => "errored",
        Actual::Completed => "stopped",
        // A schedule that waits for its time is stopped too.
        Actual::Stopped if instance.desired == Desired::Down => "stopped",
        Actual::Stopped => "stopped",
    }
}

fn process(spec: &AppSpec, instance: &InstanceView) -> Value {
    let status = status(instance);
    let script = spec.command.first().map(String::as_str).unwrap_or_default();
    let since = instance.uptime_ms.map(|up| clock::unix_ms().saturating_sub(up));
    let monit = json!({
        "memory": instance.memory_bytes.unwrap_or(0),
        "cpu": instance.cpu_percent.unwrap_or(0.0),
    });
    json!({
        "pid": instance.pid.unwrap_or(0),
        "name": spec.name,
        "pm_id": instance.id,
        "status": status,
        "opts": {
            "name": spec.name,
            "script": script,
            "cwd": spec.cwd,
            "instances": spec.instances,
            "pm_exec_path": script,
        },
        "pm2_env": {
            "name": spec.name,
            "namespace": spec.namespace,
            "status": status,
            "pm_id": instance.id,
            "NODE_APP_INSTANCE": instance.index,
            "pm_exec_path": script,
            "pm_cwd": spec.cwd,
            "exec_mode": "fork_mode",
            "instances": spec.instances,
            "pm_uptime": since,
            "restart_time": instance.restarts,
            "unstable_restarts": instance.unstable,
        },
        "monit": monit,
    })
}

/// The first numbers of a text.
fn numbers(text: &str, count: usize) -> Vec<f64> {
    let words = text.split_ascii_whitespace().take(count);
    words.filter_map(|word| word.parse().ok()).collect()
}

/// A line of `/proc/meminfo`, in bytes.
fn kibibytes(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let words = line.and_then(|rest| rest.split_ascii_whitespace().next());
    words.and_then(|word| word.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// As Node's `os.cpus()`: times in milliseconds, of `/proc/stat` in hundredths of a second.
fn processors(info: &str, stat: &str) -> Vec<Value> {
    let values = |key: &str| -> Vec<&str> {
        info.lines()
            .filter_map(|line| line.split_once(':'))
            .filter(|(name, _)| name.trim() == key)
            .map(|(_, value)| value.trim())
            .collect()
    };
    let (models, speeds) = (values("model name"), values("cpu MHz"));
    stat.lines()
        .filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "))
        .enumerate()
        .map(|(at, line)| {
            let ticks: Vec<u64> = line
                .split_ascii_whitespace()
                .skip(1)
                .filter_map(|word| word.parse().ok())
                .collect();
            let time = |field: usize| ticks.get(field).copied().unwrap_or(0) * 10;
            let speed = speeds.get(at).and_then(|text| text.parse::<f64>().ok());
            json!({
                "model": models.get(at).copied().unwrap_or("unknown"),
                "speed": speed.unwrap_or(0.0).trunc(),
                "times": {"user": time(0), "nice": time(1), "sys": time(2), "idle": time(3), "irq": time(5)},
            })
        })
        .collect()
}

/// As Node's `os.networkInterfaces()`.
fn network() -> Value {
    let mut all: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for interface in interfaces::list().unwrap_or_default() {
        let mac: Vec<String> = interface.mac.iter().map(|byte| format!("{byte:02x}")).collect();
        let (family, mask) = match interface.address {
            IpAddr::V4(_) => {
                let mask = u32::MAX.checked_shl(32 - interface.prefix.min(32)).unwrap_or(0);
                ("IPv4", IpAddr::V4(mask.into()))
            }
            IpAddr::V6(_) => {
                let mask = u128::MAX
                    .checked_shl(128 - interface.prefix.min(128))
                    .unwrap_or(0);
                ("IPv6", IpAddr::V6(mask.into()))
            }
        };
        all.entry(interface.name).or_default().push(json!({
            "address": interface.address,
            "netmask": mask,
            "family": family,
            "mac": mac.join(":"),
            "internal": interface.internal,
            "cidr": format!("{}/{}", interface.address, interface.prefix),
        }));
    }
    json!(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read_as_node_reads_them() {
        let info =
            "processor\t: 0\nmodel name\t: A B\ncpu MHz\t\t: 2000.5\n\nprocessor : 1\nmodel name : C\n";
        let stat = "cpu  9 9 9 9 9 9\ncpu0 1 2 3 4 5 6 7\ncpu1 1 1\nintr 5\n";
        let found = processors(info, stat);
        assert_eq!(
            found,
            [
                json!({"model": "A B", "speed": 2000.0,
                    "times": {"user": 10, "nice": 20, "sys": 30, "idle": 40, "irq": 60}}),
                json!({"model": "C", "speed": 0.0,
                    "times": {"user": 10, "nice": 10, "sys": 0, "idle": 0, "irq": 0}}),
            ]
        );
        assert_eq!(
            kibibytes("MemTotal:   16 kB\nMemAvailable: 4 kB\n", "MemAvailable:"),
            4096
        );
        assert_eq!(numbers("0.5 1.25 2 3/4 5", 3), [0.5, 1.25, 2.0]);
        let network = network();
        let lo = network["lo"].as_array().expect("loopback is there");
        assert!(lo.iter().any(|entry| {
            entry["address"] == "127.0.0.1"
                && entry["netmask"] == "255.0.0.0"
                && entry["cidr"] == "127.0.0.1/8"
                && entry["internal"] == true
        }));
    }
}
