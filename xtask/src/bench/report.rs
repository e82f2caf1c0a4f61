//! Figures, as a table and as JSON.

use std::{collections::BTreeMap, fmt, fs};

use serde_json::{Value, json};

use super::rows::{ROWS, Row};

/// What stands where a peer and a question meet.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    /// One value for each repetition.
    Values(Vec<f64>),
    /// Why there is none.
    Failed(String),
}

/// One peer.
#[derive(Debug)]
pub(crate) struct Column {
    name: &'static str,
    configured: &'static str,
    /// Its own words for its version.
    pub(crate) version: String,
    /// Why it is not there.
    pub(crate) missing: Option<String>,
    cells: BTreeMap<&'static str, Cell>,
}

impl Column {
    pub(crate) fn new(name: &'static str, configured: &'static str) -> Self {
        Self {
            name,
            configured,
            version: String::new(),
            missing: None,
            cells: BTreeMap::new(),
        }
    }

    /// Adds one repetition.
    pub(crate) fn add(&mut self, row: &'static str, value: f64) {
        debug_assert!(ROWS.iter().any(|known| known.id == row), "{row}");
        match self.cells.entry(row).or_insert_with(|| Cell::Values(Vec::new())) {
            Cell::Values(values) => values.push(value),
            Cell::Failed(_) => {}
        }
    }

    /// Says that a group of rows could not be measured.
    pub(crate) fn fail(&mut self, rows: &[&'static str], why: &str) {
        for row in rows {
            self.cells.insert(row, Cell::Failed(why.to_owned()));
        }
    }

    fn median(&self, row: &Row) -> Option<f64> {
        match self.cells.get(row.id) {
            Some(Cell::Values(values)) => median(values),
            _ => None,
        }
    }

    fn cell(&self, row: &Row, own: Option<f64>) -> String {
        let values = match self.cells.get(row.id) {
            None => return "-".to_owned(),
            Some(Cell::Failed(_)) => return "failed".to_owned(),
            Some(Cell::Values(values)) => values,
        };
        let Some(median) = median(values) else {
            return "-".to_owned();
        };
        let digits = row.digits;
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut text = format!("{median:.digits$}");
        let (low, high) = (format!("{low:.digits$}"), format!("{high:.digits$}"));
        if low != high {
            text.push_str(&format!(" [{low} {high}]"));
        }
        if let Some(own) = own
            && own > 0.0
            && !row.unit.is_empty()
        {
            text.push_str(&format!(" {:.1}x", median / own));
        }
        text
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], upper)
    } else {
        upper
    })
}

/// The whole run.
#[derive(Debug)]
pub(crate) struct Report {
    quick: bool,
    load: (String, String),
    /// One for each peer.
    pub(crate) columns: Vec<Column>,
}

impl Report {
    pub(crate) fn new(quick: bool) -> Self {
        Self {
            quick,
            load: (load(), String::new()),
            columns: Vec::new(),
        }
    }

    /// Takes the load at the end.
    pub(crate) fn finish(&mut self) {
        self.load.1 = load();
    }

    fn own(&self, row: &Row) -> Option<f64> {
        self.columns
            .iter()
            .find(|column| column.name == "upkeep")?
            .median(row)
    }

    fn machine(&self) -> Vec<(&'static str, String)> {
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory = memory
            .lines()
            .next()
            .and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
        vec![
            ("cores", cores.to_string()),
            (
                "memory",
                format!("{:.1} GiB", memory.unwrap_or(0.0) / 1024.0 / 1024.0),
            ),
            ("kernel", kernel.trim().to_owned()),
            ("load before", self.load.0.clone()),
            ("load after", self.load.1.clone()),
            ("run", if self.quick { "quick" } else { "full" }.to_owned()),
        ]
    }

    pub(crate) fn json(&self) -> Value {
        let machine: BTreeMap<_, _> = self.machine().into_iter().collect();
        let columns = self.columns.iter().map(|column| {
            let rows: BTreeMap<_, _> = column
                .cells
                .iter()
                .map(|(row, cell)| {
                    let value = match cell {
                        Cell::Values(values) => json!({ "median": median(values), "values": values }),
                        Cell::Failed(why) => json!({ "failed": why }),
                    };
                    (*row, value)
                })
                .collect();
            json!({
                "name": column.name,
                "version": column.version,
                "configured": column.configured,
                "not_available": column.missing,
                "rows": rows,
            })
        });
        let rows = ROWS
            .iter()
            .map(|row| json!({ "id": row.id, "title": row.title, "unit": row.unit }));
        json!({
            "machine": machine,
            "rows": rows.collect::<Vec<_>>(),
            "peers": columns.collect::<Vec<_>>(),
        })
    }
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<&Column> = self
            .columns
            .iter()
            .filter(|column| column.missing.is_none())
            .collect();
        let mut lines: Vec<Vec<String>> = Vec::new();
        let heads = shown.iter().map(|column| column.name.to_owned());
        lines.push(
            std::iter::once("median [low high] ratio to upkeep".to_owned())
                .chain(heads)
                .collect(),
        );
        for row in ROWS {
            if shown.iter().all(|column| !column.cells.contains_key(row.id)) {
                continue;
            }
            let own = self.own(row);
            let title = if row.unit.is_empty() {
                row.title.to_owned()
            } else {
                format!("{}, {}", row.title, row.unit)
            };
            let cells = shown
                .iter()
                .map(|column| column.cell(row, own.filter(|_| column.name != "upkeep")));
            lines.push(std::iter::once(title).chain(cells).collect());
        }
        let columns = lines.first().map_or(0, Vec::len);
        let width = |index: usize| {
            lines
                .iter()
                .map(|line| line[index].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for line in &lines {
            let cells = line
                .iter()
                .zip(&widths)
                .map(|(cell, &width)| format!("{cell:width$}"));
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        writeln!(f)?;
        for column in &self.columns {
            match &column.missing {
                Some(why) => writeln!(f, "{}: not available: {why}", column.name)?,
                None => writeln!(f, "{}: {}; {}", column.name, column.version, column.configured)?,
            }
            let mut failures: Vec<&String> = Vec::new();
            for cell in column.cells.values() {
                if let Cell::Failed(why) = cell
                    && !failures.contains(&why)
                {
                    failures.push(why);
                    writeln!(f, "{}: failed: {why}", column.name)?;
                }
            }
        }
        let machine = self
            .machine()
            .into_iter()
            .map(|(name, value)| format!("{name} {value}"));
        write!(f, "machine: {}", machine.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
    }

    #[test]
    fn a_table_is_aligned_and_has_ratios() {
        let mut report = Report::new(true);
        for (name, values) in [("upkeep", [2.0, 2.0]), ("pm2", [50.0, 70.0])] {
            let mut column = Column::new(name, "as it comes");
            for value in values {
                column.add("idle_rss", value);
            }
            report.columns.push(column);
        }
        let mut absent = Column::new("s6", "as it comes");
        absent.missing = Some("no such package".to_owned());
        report.columns.push(absent);
        let text = report.to_string();
        let row = text.lines().nth(1).expect("a first row");
        assert!(row.ends_with("2.0     60.0 [50.0 70.0] 30.0x"), "{text}");
        assert!(text.contains("s6: not available: no such package"), "{text}");
    }
}
