//! Arguments of `docs`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Verbs of `docs`.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DocsVerb {
    /// Write a page to start from
    #[command(after_help = "\
Examples:
  upkeep docs new \"Errors\"
  upkeep docs new \"Create a thing\" --type POST --path /v1/things --category Things --dir api")]
    New(DocsNew),
    /// Make one page of a folder: a file that needs no server and no network
    #[command(after_help = "\
Examples:
  upkeep docs build api -o public            writes public/index.html
  upkeep docs build api -o api.html --check  and refuses links that lead nowhere")]
    Build(DocsBuild),
    /// Show a folder in a browser on this machine, anew on every change
    Serve(DocsServe),
    /// Compare pages with an OpenAPI file: calls, samples, links
    #[command(after_help = "\
Examples:
  upkeep docs check api --openapi openapi.yaml
  upkeep docs check docs/reference/api         against the API of this program")]
    Check(DocsCheck),
    /// Write a page for each call of an OpenAPI file
    #[command(after_help = "\
Examples:
  upkeep docs import openapi.yaml api        pages that a person has changed stay as they are
  upkeep --dry-run docs import openapi.yaml api")]
    Import(DocsImport),
}

/// Arguments of `docs new`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DocsNew {
    /// What the page is called; its file is named after it
    #[arg(value_name = "TITLE")]
    pub(crate) title: String,
    /// GET, PUT, POST, PATCH or DELETE; without it, the page is prose
    #[arg(long = "type", value_name = "METHOD", requires = "path")]
    pub(crate) method: Option<String>,
    /// The path of the call, with `{parameters}`
    #[arg(long, value_name = "PATH", requires = "method")]
    pub(crate) path: Option<String>,
    /// The group that it stands in
    #[arg(long, value_name = "NAME")]
    pub(crate) category: Option<String>,
    /// The folder of the site
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
}

/// Arguments of `docs build`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DocsBuild {
    /// The folder with the pages
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Where to: a folder, which gets an `index.html`, or a name that ends with `.html`
    #[arg(long, short = 'o', value_name = "OUT")]
    pub(crate) output: PathBuf,
    /// Refuse links that lead nowhere
    #[arg(long)]
    pub(crate) check: bool,
}

/// Arguments of `docs serve`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DocsServe {
    /// The folder with the pages
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The port on loopback; 0 is any that is free
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub(crate) port: u16,
}

/// Arguments of `docs check`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DocsCheck {
    /// The folder with the pages
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// An OpenAPI file, 3.0 or 3.1, YAML or JSON [default: the API of this program]
    #[arg(long, value_name = "FILE")]
    pub(crate) openapi: Option<PathBuf>,
}

/// Arguments of `docs import`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DocsImport {
    /// An OpenAPI file, 3.0 or 3.1, YAML or JSON
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The folder for the pages
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
}
