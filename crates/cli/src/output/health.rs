//! What the checks of an instance say, a line each.

use std::fmt::Write;

use upkeep_api::body::{CheckView, InstanceView};

use super::time;

/// Indented lines: every check with its last answer, and what the program says of itself.
pub(crate) fn lines(instance: &InstanceView) -> String {
    let mut text = String::new();
    let Some(health) = &instance.health else {
        return text;
    };
    for check in &health.checks {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "  {:<9} {}: {}", check.role, check.what, answer(check));
    }
    if health.starting {
        text.push_str("  the other checks wait for the startup check\n");
    }
    if let Some(status) = &health.status {
        let _ = writeln!(text, "  says      {status}");
    }
    if let Some(pid) = health.main_pid {
        let _ = writeln!(text, "  main pid  {pid}");
    }
    if let Some(errno) = health.errno {
        let _ = writeln!(text, "  errno     {errno}");
    }
    if health.strangers > 0 {
        let _ = writeln!(
            text,
            "  ignored   {} messages of processes outside of its tree",
            health.strangers
        );
    }
    text
}

fn answer(check: &CheckView) -> String {
    let Some(at) = check.last_at else {
        return if check.bad > 0 {
            "no word in time".to_owned()
        } else {
            "no answer yet".to_owned()
        };
    };
    let result = match &check.failure {
        // The reason begins with what was tried, which stands before it.
        Some(why) => {
            let why = why.strip_prefix(check.what.as_str()).unwrap_or(why);
            format!(
                "FAILED, {} in a row: {}",
                check.bad,
                why.trim_start_matches([':', ' '])
            )
        }
        None => format!("ok, {} in a row", check.good),
    };
    let took = match check.took_ms {
        Some(took) if took > 0 => format!(", took {}", time::span(took)),
        _ => String::new(),
    };
    format!("{result} ({} ago{took})", time::ago(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_when_how_long_and_how_often() {
        let check = CheckView {
            role: "liveness".to_owned(),
            what: "GET http://127.0.0.1:1/".to_owned(),
            good: 0,
            bad: 2,
            last_at: Some(0.0),
            took_ms: Some(7),
            failure: Some("GET http://127.0.0.1:1/: status 503".to_owned()),
        };
        let text = answer(&check);
        assert!(text.starts_with("FAILED, 2 in a row: status 503 ("), "{text}");
        assert!(text.contains(", took 7ms"), "{text}");
        assert_eq!(answer(&CheckView::default()), "no answer yet");
    }
}
