use upkeep_model::restart::GiveUp;

use super::*;

const FIRST: History<'_> = History {
    starts: &[0],
    ordered_ms: 0,
    unstable: 0,
    pause_ms: None,
};

fn exited(code: u8, uptime_ms: u64) -> End<'static> {
    End::Exited {
        exit: Exit::Code(code),
        uptime_ms,
    }
}

#[test]
fn the_reason_says_what_when_and_which_try() {
    let verdict = verdict(&RestartPolicy::default(), 12_000, FIRST, exited(3, 12_000));
    assert_eq!(
        verdict.why,
        "exit code 3 after 12s; starting again in 100ms (try 2 of 15 within 5m)"
    );
}

#[test]
fn pauses_grow_as_pm2s_do() {
    let pm2 = Backoff::Exponential {
        min: Span::from_millis(100),
        max: Span::from_secs(15),
        factor_milli: 1500,
        reset_after: Span::from_secs(30),
    };
    let mut last = None;
    let mut pauses = Vec::new();
    for _ in 0..16 {
        let (pause, remembered) = pause(pm2, last, exited(1, 5));
        last = remembered;
        pauses.push(pause.as_millis());
    }
    assert_eq!(pauses[..7], [100, 150, 225, 337, 505, 757, 1135]);
    assert_eq!(pauses[14..], [15_000, 15_000]);
    assert_eq!(pause(pm2, last, exited(1, 30_000)).0.as_millis(), 100);
}

#[test]
fn pm2_gives_up_after_sixteen_unstable_exits() {
    let unstable = Some(Unstable {
        min_uptime: Span::from_secs(1),
        max_restarts: 16,
    });
    let policy = RestartPolicy {
        backoff: Backoff::None,
        give_up: GiveUp {
            starts_within: None,
            unstable,
        },
        ..RestartPolicy::default()
    };
    let mut count = 0;
    let mut restarts = 0;
    loop {
        let history = History {
            unstable: count,
            ..FIRST
        };
        let verdict = verdict(&policy, 10, history, exited(1, 10));
        count = verdict.unstable;
        match verdict.next {
            Next::Start => restarts += 1,
            Next::GiveUp => break,
            Next::Complete | Next::Fail => panic!("{verdict:?}"),
        }
    }
    assert_eq!((count, restarts), (16, 15));
}

#[test]
fn pm2_never_gives_up_on_an_app_that_is_old_enough() {
    let unstable = Some(Unstable {
        min_uptime: Span::from_secs(1),
        max_restarts: 16,
    });
    let policy = RestartPolicy {
        give_up: GiveUp {
            starts_within: None,
            unstable,
        },
        ..RestartPolicy::default()
    };
    let history = History {
        unstable: 15,
        ..FIRST
    };
    assert_eq!(verdict(&policy, 16_000, history, exited(1, 10)).next, Next::Start);
    assert_eq!(
        verdict(&policy, 15_999, history, exited(1, 10)).next,
        Next::GiveUp
    );
}

#[test]
fn a_failed_start_pauses_for_a_second_at_least() {
    let policy = RestartPolicy {
        backoff: Backoff::None,
        ..RestartPolicy::default()
    };
    let verdict = verdict(&policy, 0, FIRST, End::NotSpawned("no such file"));
    assert_eq!((verdict.next, verdict.after), (Next::Start, SPAWN_FAILURE_PAUSE));
}

#[test]
fn what_ends_an_app_by_rule() {
    let rule = |on, code| {
        let policy = RestartPolicy {
            on,
            stop_codes: vec![7],
            ..RestartPolicy::default()
        };
        verdict(&policy, 0, FIRST, exited(code, 0)).next
    };
    assert_eq!(rule(RestartOn::Always, 0), Next::Start);
    assert_eq!(rule(RestartOn::Always, 7), Next::Complete);
    assert_eq!(rule(RestartOn::Failure, 0), Next::Complete);
    assert_eq!(rule(RestartOn::Failure, 1), Next::Start);
    assert_eq!(rule(RestartOn::Never, 0), Next::Complete);
    assert_eq!(rule(RestartOn::Never, 1), Next::Fail);
    assert_eq!(rule(RestartOn::UnlessStopped, 0), Next::Start);
}

#[test]
fn absurd_policies_do_not_overflow() {
    let policy = RestartPolicy {
        backoff: Backoff::Exponential {
            min: Span::from_millis(u64::MAX),
            max: Span::from_millis(u64::MAX),
            factor_milli: u32::MAX,
            reset_after: Span::from_millis(u64::MAX),
        },
        give_up: GiveUp {
            starts_within: Some(StartsWithin {
                starts: u32::MAX,
                within: Span::from_millis(u64::MAX),
            }),
            unstable: Some(Unstable {
                min_uptime: Span::from_millis(u64::MAX),
                max_restarts: u32::MAX,
            }),
        },
        ..RestartPolicy::default()
    };
    let history = History {
        pause_ms: Some(u64::MAX),
        unstable: 3,
        ..FIRST
    };
    assert_eq!(
        verdict(&policy, u64::MAX, history, exited(1, u64::MAX - 1)).next,
        Next::Start
    );
}
