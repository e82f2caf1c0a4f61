//! What comes with the clock: the worker that looks at memory and back-off, and cron.

use std::{rc::Rc, time::Duration};

use croner::Cron;
use serde_json::Value;
use upkeep_pm2::record;
use upkeep_sys::{clock, pid::Pid, process as figures};

use super::{
    cluster,
    god::God,
    process::{Process, State},
};
use crate::tasks::Task;

/// The worker: every `PM2_WORKER_INTERVAL`.
pub(super) fn start(god: &Rc<God>) -> Task {
    let god = Rc::clone(god);
    let interval = Duration::from_millis(god.variables.worker_interval_ms);
    Task::spawn("pm2 worker", async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        loop {
            tokio::time::sleep(interval).await;
            for process in god.all() {
                look(&god, &process);
            }
        }
    })
}

fn look(god: &Rc<God>, process: &Rc<Process>) {
    let (over, settled, name) = {
        let state = process.state.borrow();
        if state.status() != "online" {
            return;
        }
        let uptime =
            clock::monotonic_ms().saturating_sub(state.machine.view().started_ms.unwrap_or(u64::MAX));
        (
            over_limit(&state),
            state.counters.last_delay_ms > 0 && uptime > god.variables.backoff_reset_ms,
            state.name(),
        )
    };
    if settled {
        let mut state = process.state.borrow_mut();
        state.counters.last_delay_ms = 0;
        state.set("prev_restart_delay", 0);
        drop(state);
        god.log(&format!(
            "[PM2][WORKER] Reset the restart delay, as app {name} has been up for more than {}ms",
            god.variables.backoff_reset_ms
        ));
        god.refresh(process);
    }
    if let Some((used, limit)) = over {
        god.log(&format!(
            "[PM2][WORKER] Process {} restarted because it exceeds --max-memory-restart value (current_memory={used} max_memory_limit={limit} [octets])",
            process.id
        ));
        let (god, process) = (Rc::clone(god), Rc::clone(process));
        Task::spawn_short("pm2 memory", async move {
            let beside = {
                let state = process.state.borrow();
                state.is_cluster() && state.is_node()
            };
            if beside {
                if let Err(why) = cluster::replace(&god, &process).await {
                    god.log(&why);
                }
            } else {
                god.restart(&process).await;
            }
        });
    }
}

/// Resident memory and limit in bytes, if the first is over the second.
fn over_limit(state: &State) -> Option<(u64, u64)> {
    let limit = record::count(&state.record, "max_memory_restart").filter(|limit| *limit > 0)?;
    let stat = figures::stat(Pid::from_unsigned(state.machine.pid()?)?).ok()?;
    let used = stat.resident_pages * figures::page_size() as u64;
    (used > limit).then_some((used, limit))
}

/// Starts, changes or ends the clock of a process, as its record says.
pub(super) fn arm_cron(god: &Rc<God>, process: &Rc<Process>) {
    let pattern = match process.state.borrow().record.get("cron_restart") {
        Some(Value::String(pattern)) if pattern != "0" && !pattern.is_empty() => Some(pattern.clone()),
        _ => None,
    };
    let cron = pattern.as_deref().and_then(parse);
    let Some(cron) = cron else {
        let ended = process.state.borrow_mut().cron.take();
        // It may be what calls: then it ends at its next wait.
        drop(ended);
        return;
    };
    let (god, of) = (Rc::downgrade(god), Rc::downgrade(process));
    let task = Task::spawn("pm2 cron", async move {
        loop {
            let now = chrono::Local::now();
            let Ok(next) = cron.find_next_occurrence(&now, false) else {
                return;
            };
            tokio::time::sleep((next - now).to_std().unwrap_or_default()).await;
            let (Some(god), Some(process)) = (god.upgrade(), of.upgrade()) else {
                return;
            };
            let name = process.state.borrow().name();
            god.log(&format!("[PM2] Cron restarting app {name} id {}", process.id));
            // In a task of its own: a restart arms the clock anew and so ends this one.
            Task::spawn_short("pm2 cron restart", async move {
                god.restart(&process).await;
                god.publish_process("restart", false, &process, None);
            });
        }
    });
    process.state.borrow_mut().cron = Some(task);
}

/// Five fields, or six with seconds first.
fn parse(pattern: &str) -> Option<Cron> {
    croner::parser::CronParser::builder()
        .seconds(croner::parser::Seconds::Optional)
        .build()
        .parse(pattern)
        .ok()
}
