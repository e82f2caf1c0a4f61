//! What the arguments mean here.

use upkeep_host::home::{self, Home};

use crate::{Program, args::Global};

/// Everything that commands need to know besides their own arguments.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) home: Home,
    pub(crate) program: Program,
    pub(crate) reason: Option<String>,
    pub(crate) wait_ms: Option<u64>,
    pub(crate) dry_run: bool,
}

impl Settings {
    pub(crate) fn resolve(global: Global, program: Program) -> anyhow::Result<Self> {
        let home = Home::find(&|name| std::env::var_os(name), home::uid())?;
        Ok(Self {
            home,
            program,
            reason: global.reason,
            wait_ms: global.wait.map(upkeep_model::size::Span::as_millis),
            dry_run: global.dry_run,
        })
    }

    /// What every action takes.
    /// The same, but nothing is done.
    pub(crate) fn dry(&self) -> Self {
        Self {
            dry_run: true,
            ..self.clone()
        }
    }

    pub(crate) fn options(&self) -> upkeep_api::body::ActionOptions {
        upkeep_api::body::ActionOptions {
            reason: self.reason.clone(),
            dry_run: self.dry_run,
            wait_ms: self.wait_ms,
            if_revision: None,
        }
    }
}
