//! Figures as columns: which has which number on disk, and how it is written as a whole number.

use upkeep_api::metrics::{METRICS, Metric, Of};

/// Columns of a row. Those beyond the lists below are for figures to come.
pub(crate) const WIDTH: usize = 20;

/// One value for each column; `None`: not known.
pub(crate) type Values = [Option<f64>; WIDTH];

/// Columns of instances. Numbers are on disk: append, never insert.
pub(crate) mod instance {
    pub(crate) const CPU: usize = 0;
    pub(crate) const MEMORY: usize = 1;
    pub(crate) const PSS: usize = 2;
    pub(crate) const FDS: usize = 3;
    pub(crate) const THREADS: usize = 4;
    pub(crate) const PROCESSES: usize = 5;
    pub(crate) const SOCKETS: usize = 6;
    pub(crate) const IO_READ: usize = 7;
    pub(crate) const IO_WRITE: usize = 8;
    pub(crate) const SWITCHES: usize = 9;
    pub(crate) const RESTARTS: usize = 10;
    pub(crate) const LOG_LINES: usize = 11;
    pub(crate) const EVENT_LOOP_DELAY: usize = 12;
    pub(crate) const HEAP_USED: usize = 13;
    pub(crate) const HEAP_TOTAL: usize = 14;
}

/// Columns of the machine.
pub(crate) mod host {
    pub(crate) const CPU: usize = 0;
    pub(crate) const MEMORY: usize = 1;
    pub(crate) const MEMORY_TOTAL: usize = 2;
    pub(crate) const SWAP: usize = 3;
    pub(crate) const LOAD: usize = 4;
    pub(crate) const DISK_FREE: usize = 5;
    pub(crate) const IO_READ: usize = 6;
    pub(crate) const IO_WRITE: usize = 7;
    pub(crate) const NET_IN: usize = 8;
    pub(crate) const NET_OUT: usize = 9;
}

/// Names by column; held against [`METRICS`] by a test.
const INSTANCE: &[&str] = &[
    "cpu",
    "memory",
    "pss",
    "fds",
    "threads",
    "processes",
    "sockets",
    "io_read",
    "io_write",
    "switches",
    "restarts",
    "log_lines",
    "event_loop_delay",
    "heap_used",
    "heap_total",
];
const HOST: &[&str] = &[
    "cpu",
    "memory",
    "memory_total",
    "swap",
    "load",
    "disk_free",
    "io_read",
    "io_write",
    "net_in",
    "net_out",
];

/// The column of a figure.
pub(crate) fn column(metric: &Metric) -> Option<usize> {
    let names = match metric.of {
        Of::Instance => INSTANCE,
        Of::Host => HOST,
    };
    names.iter().position(|name| *name == metric.name)
}

/// How many steps of a figure's whole numbers are one of its unit.
pub(crate) fn scale(of: Of, column: usize) -> f64 {
    let names = match of {
        Of::Instance => INSTANCE,
        Of::Host => HOST,
    };
    let name = names.get(column);
    let metric = METRICS
        .iter()
        .find(|metric| metric.of == of && Some(&metric.name) == name);
    match metric.map_or("", |metric| metric.unit) {
        "cores" => 10_000.0,
        // Pages are no smaller.
        "bytes" => 1.0 / 1024.0,
        "bytes/s" => 1.0,
        "seconds" => 1_000_000.0,
        _ => 100.0,
    }
}

/// The scales of all columns.
pub(crate) fn scales(of: Of) -> [f64; WIDTH] {
    std::array::from_fn(|column| scale(of, column))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_has_a_column() {
        for metric in METRICS {
            assert!(column(metric).is_some_and(|column| column < WIDTH), "{metric:?}");
        }
        assert_eq!(INSTANCE.get(instance::HEAP_TOTAL), Some(&"heap_total"));
        assert_eq!(HOST.get(host::NET_OUT), Some(&"net_out"));
        assert!((scale(Of::Instance, instance::MEMORY) - 1.0 / 1024.0).abs() < 1e-12);
    }
}
