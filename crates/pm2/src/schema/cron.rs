//! Patterns of times: five fields, or six with seconds first.

/// The names that may stand for numbers.
const MONTHS: [&str; 12] = [
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// Is this a pattern? The error is what stands behind `Cron pattern error: `.
pub fn check(pattern: &str) -> Result<(), String> {
    if matches!(
        pattern.trim(),
        "@yearly" | "@annually" | "@monthly" | "@weekly" | "@daily" | "@midnight" | "@hourly"
    ) {
        return Ok(());
    }
    let fields: Vec<&str> = pattern.split_whitespace().collect();
    if !(5..=6).contains(&fields.len()) {
        return Err(format!(
            "CronPattern: invalid configuration format ('{pattern}'), exacly five or six space separated parts required."
        ));
    }
    let limits = [
        ("second", 0, 59),
        ("minute", 0, 59),
        ("hour", 0, 23),
        ("day", 1, 31),
        ("month", 1, 12),
        ("dayOfWeek", 0, 7),
    ];
    for (field, (name, least, most)) in fields.iter().zip(&limits[6 - fields.len()..]) {
        if !field.split(',').all(|part| is_part(part, *least, *most)) {
            return Err(format!("CronPattern: Invalid value for {name}: {field}"));
        }
    }
    Ok(())
}

fn is_part(part: &str, least: u32, most: u32) -> bool {
    let (range, step) = part
        .split_once('/')
        .map_or((part, None), |(range, step)| (range, Some(step)));
    if let Some(step) = step
        && !step.parse::<u32>().is_ok_and(|step| (1..=most).contains(&step))
    {
        return false;
    }
    if matches!(range, "*" | "?") || range == "L" && matches!(most, 31 | 7) {
        return true;
    }
    let number = |word: &str| number(word, most).filter(|number| (least..=most).contains(number));
    match range.split_once('-') {
        Some((from, to)) => matches!((number(from), number(to)), (Some(from), Some(to)) if from <= to),
        None => {
            let day = range.split_once('#').map_or(range, |(day, _)| day);
            number(day.strip_suffix('L').filter(|day| !day.is_empty()).unwrap_or(day)).is_some()
        }
    }
}

fn number(word: &str, most: u32) -> Option<u32> {
    let names: &[&str] = match most {
        12 => &MONTHS,
        7 => &DAYS,
        _ => &[],
    };
    let name = names.iter().position(|name| name.eq_ignore_ascii_case(word));
    let first = u32::from(most == 12);
    name.and_then(|at| u32::try_from(at).ok())
        .map(|at| at + first)
        .or_else(|| word.parse().ok())
}
