//! Leaks: does memory, or do open files or threads, grow without end?
//!
//! # Theory of operation
//!
//! What a program holds goes up and down: a garbage collector lets it grow and takes it back, a cache fills, requests
//! come and go. What leaks is the floor. So time is cut into windows and only the **lowest** value of each is kept.
//! When there are [`Spans::windows`] of them, neighbours are merged and windows become twice as long: the detector
//! takes constant room, and a slow leak is judged over days, a fast one within minutes.
//!
//! After warm-up there is a leak while all of this holds:
//!
//! 1. **The floor rises**: the Mann-Kendall test over all windows says so beyond [`CONFIDENCE`].
//! 2. **It still does**: the newest half by itself rises, too, and its slope (Theil-Sen: the median of all slopes
//!    between two windows, which outliers do not move) is at least a third of the whole one's. A cache that is full and
//!    growth that has come to rest fail here.
//! 3. **It is not one step, nor a swing**: each sixth of the windows has a higher median than the one before; a wave or
//!    a random walk within bounds turns round at some point.
//! 4. **It matters**: over what was seen the floor rose by at least [`Spans::least`] of its value, and by at least the
//!    least amount given for the figure.
//!
//! It is told once this has held at every window of a quarter of them, and taken back once it has not for as long: no
//! chance rise makes an alarm, and it does not flicker.
//!
//! Teeth that are longer than a third of what was seen look like a leak until they end: with the default spans that
//! concerns collectors that run less often than every twenty minutes, and caches that fill for more than an hour.
//! So does the rise of a daily wave, in the first day of a process.
//! The floor of a random walk does rise for long times by chance; what is told then is what is seen. The tests state
//! the seeds over which nothing false is said.

/// Confidence that the floor rises from which on there is a leak; the share of trendless series that stay below it.
pub const CONFIDENCE: f64 = 0.999;

/// A time or a step as a whole number; not below zero, and cut at what fits.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of floats saturates"
)]
fn whole(value: f64) -> usize {
    value as usize
}

/// Spans and thresholds, so that tests can run on another scale of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spans {
    /// Seconds after the start of a process that are not looked at.
    pub warm_up: f64,
    /// Seconds of the first windows.
    pub window: f64,
    /// Windows that are kept: an even number. Judged is from half of them on.
    pub windows: usize,
    /// The least growth that counts, as a share of the floor.
    pub least: f64,
}

impl Default for Spans {
    /// Ten minutes of warm-up, windows of two minutes; the first verdict after an hour and a quarter.
    fn default() -> Self {
        Self {
            warm_up: 600.0,
            window: 120.0,
            windows: 48,
            least: 0.05,
        }
    }
}

impl Spans {
    /// From `WARM_UP,WINDOW,WINDOWS` (seconds, seconds, a number): for tests on another scale of time.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(',').map(str::trim);
        let warm_up: f64 = words.next()?.parse().ok()?;
        let window: f64 = words.next()?.parse().ok()?;
        let windows: usize = words.next()?.parse().ok()?;
        let fits =
            (0.0..1e6).contains(&warm_up) && (1.0..1e6).contains(&window) && (8..=1024).contains(&windows);
        (fits && windows.is_multiple_of(2) && words.next().is_none()).then_some(Self {
            warm_up,
            window,
            windows,
            ..Self::default()
        })
    }
}

/// A floor that rises.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finding {
    /// How much a second, in the figure's unit.
    pub per_second: f64,
    /// How sure it is that the floor rises: 0 to 1.
    pub confidence: f64,
    /// The floor now.
    pub floor: f64,
    /// When what was judged begins, on the clock of the values.
    pub since: f64,
}

impl Finding {
    /// Seconds until a limit is reached at this rate; 0 if it is reached.
    pub fn seconds_to(&self, limit: f64) -> f64 {
        ((limit - self.floor) / self.per_second).max(0.0)
    }
}

/// What a value has led to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// A leak has begun to show.
    Began(Finding),
    /// The leak that was told is none any more.
    Ended,
}

/// Judges one figure of one process.
#[derive(Clone, Debug)]
pub struct Detector {
    spans: Spans,
    least_amount: f64,
    /// Seconds of a window now.
    length: f64,
    /// When the first window begins: not before the first value.
    begin: f64,
    /// There was a value.
    begun: bool,
    floors: Vec<f64>,
    /// Lowest of the window that runs, and its number.
    running: Option<(usize, f64)>,
    finding: Option<Finding>,
    /// Windows in a row that spoke against what was told last.
    against: usize,
}

impl Detector {
    /// Of a process that was started at `started`, in seconds of any clock that does not jump; judged is from the end of
    /// its warm-up on, or from the first value if that comes later. `least_amount`: growth below it is nobody's
    /// concern, in the figure's unit.
    pub fn new(spans: Spans, least_amount: f64, started: f64) -> Self {
        Self {
            spans,
            least_amount,
            length: spans.window,
            begin: started + spans.warm_up,
            begun: false,
            floors: Vec::new(),
            running: None,
            finding: None,
            against: 0,
        }
    }

    /// The leak, while there is one.
    pub fn finding(&self) -> Option<Finding> {
        self.finding
    }

    /// Takes a value. Times go up; values that are no numbers are left out.
    pub fn push(&mut self, at: f64, value: f64) -> Option<Change> {
        if !value.is_finite() || at < self.begin {
            return None;
        }
        // A process may be older than whoever looks at it: of the time before nothing is known.
        if !std::mem::replace(&mut self.begun, true) {
            self.begin = at;
        }
        let number = whole((at - self.begin) / self.length);
        match &mut self.running {
            Some((running, lowest)) if *running >= number => {
                *lowest = lowest.min(value);
                None
            }
            running => {
                let ended = running.replace((number, value));
                let (_, lowest) = ended?;
                self.floors.push(lowest);
                // After a gap without values the floor is taken to have stayed.
                while self.floors.len() < number && self.floors.len() < 4 * self.spans.windows {
                    self.floors.push(lowest);
                }
                while self.floors.len() >= self.spans.windows.max(8) {
                    self.merge();
                }
                self.judge_window()
            }
        }
    }

    /// Windows become twice as long.
    fn merge(&mut self) {
        let pairs = self.floors.chunks_exact(2);
        self.floors = pairs
            .map(|pair| pair.iter().copied().fold(f64::MAX, f64::min))
            .collect();
        self.length *= 2.0;
        if let Some((number, _)) = &mut self.running {
            *number /= 2;
        }
        // An odd one at the end belongs to the window that runs.
        self.floors
            .truncate(self.running.map_or(usize::MAX, |(number, _)| number));
    }

    fn judge_window(&mut self) -> Option<Change> {
        // Judged is over enough windows only, and a finding is renewed by each.
        let found = if self.floors.len() < self.spans.windows.max(8) / 2 {
            None
        } else {
            self.judge()
        };
        if found.is_some() == self.finding.is_some() {
            self.against = 0;
            self.finding = found;
            return None;
        }
        self.against += 1;
        if self.against <= self.spans.windows / 4 {
            return None;
        }
        self.against = 0;
        self.finding = found;
        Some(found.map_or(Change::Ended, Change::Began))
    }

    fn judge(&self) -> Option<Finding> {
        let floors = &self.floors;
        let confidence = mann_kendall(floors);
        if confidence < CONFIDENCE {
            return None;
        }
        let whole = theil_sen(floors);
        let half = floors.get(floors.len() / 2..)?;
        let newest = theil_sen(half);
        if newest < whole / 3.0 || mann_kendall(half) < 0.99 {
            return None;
        }
        if !rises_throughout(floors) {
            return None;
        }
        let growth = whole * floors.len() as f64;
        let floor = *floors.last()?;
        if growth < self.least_amount || growth < self.spans.least * floor.abs() {
            return None;
        }
        Some(Finding {
            per_second: newest / self.length,
            confidence,
            floor,
            since: self.begin,
        })
    }
}

/// Confidence that a series rises: the normal approximation of Kendall's test, corrected for ties.
fn mann_kendall(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mut score = 0.0;
    for (at, early) in values.iter().enumerate() {
        for late in values.iter().skip(at + 1) {
            score += match late.total_cmp(early) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Equal => 0.0,
                std::cmp::Ordering::Less => -1.0,
            };
        }
    }
    let spread = |count: f64| count * (count - 1.0) * (2.0 * count + 5.0);
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let ties: f64 = sorted
        .chunk_by(|one, next| one.total_cmp(next).is_eq())
        .map(|group| spread(group.len() as f64))
        .sum();
    let variance = (spread(count) - ties) / 18.0;
    if variance <= 0.0 || score <= 0.0 {
        return 0.0;
    }
    normal((score - 1.0) / variance.sqrt())
}

/// The distribution of the normal law, to seven digits (Abramowitz and Stegun 26.2.17), for z ≥ 0.
fn normal(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z);
    let terms = [
        0.319_381_530,
        -0.356_563_782,
        1.781_477_937,
        -1.821_255_978,
        1.330_274_429,
    ];
    let sum = terms.iter().rev().fold(0.0, |sum, term| (sum + term) * t);
    1.0 - (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt() * sum
}

/// The median slope between any two values, a step.
fn theil_sen(values: &[f64]) -> f64 {
    let mut slopes = Vec::with_capacity(values.len() * values.len() / 2);
    for (at, early) in values.iter().enumerate() {
        for (ahead, late) in values.iter().enumerate().skip(at + 1) {
            slopes.push((late - early) / (ahead - at) as f64);
        }
    }
    slopes.sort_by(f64::total_cmp);
    slopes.get(slopes.len() / 2).copied().unwrap_or(0.0)
}

/// Whether every sixth of the series has a higher median than the one before: neither a step nor a swing has.
fn rises_throughout(values: &[f64]) -> bool {
    let size = values.len() / 6;
    let mut medians = values.chunks_exact(size.max(1)).map(|part| {
        let mut part = part.to_vec();
        part.sort_by(f64::total_cmp);
        part.get(part.len() / 2).copied().unwrap_or(0.0)
    });
    let Some(mut before) = medians.next() else {
        return false;
    };
    medians.all(|median| {
        let rises = median > before;
        before = median;
        rises
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seeds over which nothing false is said.
    const SEEDS: std::ops::Range<u64> = 1..201;
    /// Seconds of a run: two days.
    const RUN: usize = 2 * 86_400;
    const STEP: usize = 10;
    const MB: f64 = 1_000_000.0;

    /// Marsaglia's xorshift, as a number from 0 to 1.
    struct Noise(u64);

    impl Noise {
        fn next(&mut self) -> f64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as f64 / (1_u64 << 53) as f64
        }
    }

    /// Whether a leak is told at any time, and when first.
    fn first(mut value: impl FnMut(f64, &mut Noise) -> f64, seed: u64) -> Option<f64> {
        let mut noise = Noise(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut detector = Detector::new(Spans::default(), 4.0 * MB, 0.0);
        for at in (0..RUN).step_by(STEP) {
            let at = at as f64;
            if let Some(Change::Began(_)) = detector.push(at, value(at, &mut noise)) {
                return Some(at);
            }
        }
        None
    }

    fn found(name: &str, value: impl Fn(f64, &mut Noise) -> f64) {
        let missed: Vec<u64> = SEEDS.filter(|seed| first(&value, *seed).is_none()).collect();
        assert!(missed.is_empty(), "{name}: missed with seeds {missed:?}");
    }

    fn not_found(name: &str, make: impl Fn(u64) -> Box<dyn FnMut(f64, &mut Noise) -> f64>) {
        let alarms: Vec<(u64, f64)> = SEEDS
            .filter_map(|seed| Some((seed, first(make(seed), seed)?)))
            .collect();
        assert!(alarms.is_empty(), "{name}: false alarms (seed, at): {alarms:?}");
    }

    /// A garbage collector that lets it grow for a while, the longer the more there is to spare.
    fn sawtooth(at: f64, period: f64, height: f64) -> f64 {
        at % period / period * height
    }

    #[test]
    fn leaks_are_found() {
        found("steady", |at, noise| 50.0 * MB + at * 2000.0 + noise.next() * MB);
        found("stepwise", |at, _| 50.0 * MB + (at / 900.0).floor() * 3.0 * MB);
        found("slow under noise", |at, noise| {
            80.0 * MB + at * 150.0 + noise.next() * 10.0 * MB
        });
        found("sawtooth with a rising floor", |at, noise| {
            60.0 * MB + at * 400.0 + sawtooth(at, 47.0, 40.0 * MB) + noise.next() * 2.0 * MB
        });
        found("slow sawtooth with a rising floor", |at, noise| {
            60.0 * MB + at * 400.0 + sawtooth(at, 700.0, 40.0 * MB) + noise.next() * 2.0 * MB
        });
    }

    #[test]
    fn what_does_not_leak_is_not_accused() {
        not_found("sawtooth", |_| {
            Box::new(|at, noise: &mut Noise| {
                60.0 * MB + sawtooth(at, 53.0, 80.0 * MB) + noise.next() * 2.0 * MB
            })
        });
        not_found("slow sawtooth", |seed| {
            let period = 300.0 + seed as f64 * 5.0;
            Box::new(move |at, noise: &mut Noise| {
                60.0 * MB + sawtooth(at, period, 80.0 * MB) + noise.next() * MB
            })
        });
        not_found("growth within the warm-up, then rest", |_| {
            Box::new(|at, noise: &mut Noise| 50.0 * MB + at.min(500.0) * 0.2 * MB + noise.next() * 3.0 * MB)
        });
        not_found("noise", |_| {
            Box::new(|_, noise: &mut Noise| 50.0 * MB + noise.next() * 30.0 * MB)
        });
        not_found("a random walk within bounds", |_| {
            let mut level = 0.5_f64;
            Box::new(move |_, noise: &mut Noise| {
                level = (level + (noise.next() - 0.5) * 0.2).clamp(0.0, 1.0);
                (50.0 + level * 40.0) * MB
            })
        });
        not_found("a cache that fills to a cap within half an hour", |_| {
            Box::new(|at, noise: &mut Noise| 50.0 * MB + at.min(1800.0) * 0.05 * MB + noise.next() * 2.0 * MB)
        });
    }

    /// What grows for half a day is told if that is all that was ever seen of the process; from the second day on the
    /// wave is known.
    #[test]
    fn a_daily_wave_is_no_leak_once_it_has_been_seen() {
        for seed in SEEDS {
            let mut noise = Noise(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
            let mut detector = Detector::new(Spans::default(), 4.0 * MB, 0.0);
            let phase = seed as f64 / 200.0;
            let mut late = Vec::new();
            for at in (0..5 * 86_400).step_by(30) {
                let at = f64::from(at);
                let wave = ((at / 86_400.0 + phase) * std::f64::consts::TAU).sin();
                let change = detector.push(at, (100.0 + wave * 30.0) * MB + noise.next() * 5.0 * MB);
                if at > 86_400.0 && matches!(change, Some(Change::Began(_))) {
                    late.push(at);
                }
            }
            assert!(
                late.is_empty() && detector.finding().is_none(),
                "seed {seed}: told at {late:?}"
            );
        }
    }

    #[test]
    fn a_leak_that_stops_is_taken_back() {
        let mut detector = Detector::new(Spans::default(), MB, 0.0);
        let mut changes = Vec::new();
        for at in (0..10 * 86_400).step_by(60) {
            let at = f64::from(at);
            changes.extend(detector.push(at, 50.0 * MB + at.min(20_000.0) * 3000.0));
        }
        assert!(
            matches!(changes.as_slice(), [Change::Began(_), Change::Ended]),
            "{changes:?}"
        );
        assert_eq!(detector.finding(), None);
    }

    #[test]
    fn a_finding_tells_how_fast_and_how_long() {
        let mut detector = Detector::new(Spans::default(), MB, 0.0);
        for at in (0..9000).step_by(10) {
            let at = f64::from(at);
            detector.push(at, 100.0 * MB + at * 1000.0);
        }
        let finding = detector.finding().expect("a leak");
        assert!((finding.per_second - 1000.0).abs() < 1.0, "{finding:?}");
        assert!(finding.confidence > 0.999);
        let left = finding.seconds_to(200.0 * MB);
        assert!((90_000.0..93_000.0).contains(&left), "{left}");
        assert!(finding.seconds_to(1.0) <= 0.0);
    }

    #[test]
    fn the_law_is_the_tabulated_one() {
        for (z, share) in [(0.0, 0.5), (1.0, 0.841_345), (1.96, 0.975_002), (3.0, 0.998_650)] {
            assert!((normal(z) - share).abs() < 1e-5, "{z}");
        }
    }

    #[test]
    fn spans_are_read() {
        let spans = Spans::parse("8, 1,16").expect("spans");
        assert_eq!((spans.warm_up, spans.window, spans.windows), (8.0, 1.0, 16));
        for text in [
            "", "1,2", "1,2,3", "1,2,9", "1,0,8", "nan,1,8", "1,1,8,1", "-1,1,8",
        ] {
            assert_eq!(Spans::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_old_process_is_judged_from_the_first_value_on() {
        // A daemon that begins when the process is a month old.
        let month = 30.0 * 86_400.0;
        let first = |from: f64| {
            let mut detector = Detector::new(Spans::default(), 4.0 * MB, 0.0);
            (0..RUN).step_by(STEP).map(|at| from + at as f64).find(|at| {
                let change = detector.push(*at, 50.0 * MB + (*at - from) * 2000.0);
                matches!(change, Some(Change::Began(_)))
            })
        };
        let young = first(0.0).expect("it is found in a young process");
        let old = first(month).expect("it is found in an old one");
        assert!(old - month <= young, "after {} s, {young} s", old - month);
    }

    #[test]
    fn values_that_are_no_numbers_and_gaps_do_no_harm() {
        let mut detector = Detector::new(Spans::default(), MB, 0.0);
        for at in [0.0, 700.0, 800.0, 1e9, 1e9 + 5000.0, f64::MAX] {
            detector.push(at, f64::NAN);
            detector.push(at, 5.0);
        }
        assert_eq!(detector.finding(), None);
    }
}
