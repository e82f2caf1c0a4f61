//! `bench supervise`: upkeep beside the real peers, in one run on one machine.
//!
//! Every peer gets the same programs (`upkeep-child`), the same questions ([`rows`]) and a private directory
//! ([`lab`]). How each is configured is said in [`peers`], one file each; what is measured in [`measure`]. A peer
//! that cannot be had is reported as such, and the others go on.

pub(crate) mod api;
pub(crate) mod cluster;
mod lab;
pub(crate) mod logs;
mod measure;
pub(crate) mod metrics;
mod peers;
pub(crate) mod pm2;
mod report;
mod rows;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, bail};

use crate::shell;

/// What was asked for.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Fewer repetitions, shorter windows.
    pub(crate) quick: bool,
    /// Names of peers; empty: all.
    pub(crate) only: Vec<String>,
    /// Groups of measurements; empty: all.
    pub(crate) groups: Vec<String>,
    /// Where the figures go as JSON.
    pub(crate) json: Option<PathBuf>,
}

impl Options {
    fn parse(words: &[&str], groups: &[&str]) -> anyhow::Result<Self> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} wants a value"));
            match *word {
                "--quick" => options.quick = true,
                "--only" => options.only = list(value()?),
                "--rows" => options.groups = list(value()?),
                "--json" => options.json = Some(value()?.into()),
                other => bail!("unknown option `{other}`"),
            }
        }
        for group in &options.groups {
            if !groups.contains(&group.as_str()) {
                bail!("no rows `{group}`; there are: {}", groups.join(", "));
            }
        }
        Ok(options)
    }

    /// `full` repetitions, or `quick` ones.
    pub(crate) fn times(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }

    /// Those that are wanted.
    fn check_peers(&self, mut all: Vec<Box<dyn peers::Peer>>) -> anyhow::Result<Vec<Box<dyn peers::Peer>>> {
        for name in &self.only {
            if !all.iter().any(|peer| peer.name() == name) {
                let names: Vec<_> = all.iter().map(|peer| peer.name()).collect();
                bail!("no peer `{name}`; there are: {}", names.join(", "));
            }
        }
        all.retain(|peer| self.only.is_empty() || self.only.iter().any(|name| name == peer.name()));
        Ok(all)
    }

    /// Whether this group of measurements is wanted.
    pub(crate) fn wants(&self, group: &str) -> bool {
        self.groups.is_empty() || self.groups.iter().any(|wanted| wanted == group)
    }
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    let options = Options::parse(words, measure::GROUPS)?;
    let all = options.check_peers(peers::all())?;
    // The programs that are kept alive are the same for all, and built as released.
    let child = shell::build_static(&["upkeep-testkit"])?.join("upkeep-child");
    let mut report = report::Report::new(options.quick);
    for mut peer in all {
        eprintln!("\n== {}", peer.name());
        let mut column = report::Column::new(peer.name(), peer.configured());
        match peer.install() {
            Ok(version) => {
                eprintln!("{version}");
                column.version = version;
                measure::all(peer.as_ref(), &child, &options, &mut column);
            }
            Err(error) => {
                eprintln!("not available: {error:#}");
                column.missing = Some(format!("{error:#}"));
            }
        }
        report.columns.push(column);
    }
    tell(report, &options)
}

/// Prints the table, and writes the figures if that was asked for.
fn tell(mut report: report::Report, options: &Options) -> anyhow::Result<()> {
    report.finish();
    println!("{report}");
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report.json())? + "\n";
        fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(())
}
