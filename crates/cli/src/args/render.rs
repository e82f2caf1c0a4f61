//! Arguments of `config render`.

use std::path::PathBuf;

use clap::Args;
use upkeep_model::{exit::signal_number, place::Place, size::Span};

use super::config::places;

fn mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text.trim_start_matches("0o"), 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| "write it as octal digits, such as 0640".to_owned())
}

fn signal(text: &str) -> Result<i32, String> {
    signal_number(text).ok_or_else(|| "write a signal such as HUP, SIGUSR1 or 10".to_owned())
}

fn span(text: &str) -> Result<Span, String> {
    text.parse::<Span>().map_err(|error| error.to_string())
}

/// How long to wait for more changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    /// So long nothing more has changed.
    pub(crate) min: Span,
    /// But no longer than this.
    pub(crate) max: Span,
}

fn waits(text: &str) -> Result<Waits, String> {
    let (min, max) = text.split_once('/').unwrap_or((text, text));
    let (min, max) = (span(min)?, span(max)?);
    if max < min {
        return Err("write MIN/MAX, such as 1s/10s".to_owned());
    }
    Ok(Waits { min, max })
}

/// Arguments of `config render`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "\
Exit codes: 0 the file is as it is to be (written, or the same already); 1 it could not be written; 3 there is no template; 4 \
refused: a value is missing or sealed, the file would be blank, the check said no, or the program did not do well and the old file is \
back; 5 not permitted; 8 no daemon answers. With --watch: 0 after SIGTERM, 130 after SIGINT, 5 when rights end.")]
pub(crate) struct ConfigRender {
    /// The template, or `-` for standard input
    #[arg(value_name = "TEMPLATE")]
    pub(crate) template: PathBuf,
    /// The file that is made. Without it the text goes to standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
    /// Where values stand: `/shop/prod/`. Can be repeated: later ones win
    #[arg(long, value_name = "PLACE", default_value = "/", value_parser = places)]
    pub(crate) place: Vec<Place>,
    /// Mode of the file [default: that of the file that is there, else 0600]
    #[arg(long, value_name = "MODE", value_parser = mode, requires = "to")]
    pub(crate) mode: Option<u32>,
    /// User that owns the file
    #[arg(long, value_name = "USER", requires = "to")]
    pub(crate) owner: Option<String>,
    /// Group of the file
    #[arg(long, value_name = "GROUP", requires = "to")]
    pub(crate) group: Option<String>,
    /// Line for the shell that has to succeed on the new file (`{}`) before it takes the place of the old
    #[arg(long, value_name = "LINE", requires = "to")]
    pub(crate) check: Option<String>,
    /// Line for the shell that is run once the file has changed
    #[arg(long, value_name = "LINE", requires = "to", conflicts_with = "signal")]
    pub(crate) run: Option<String>,
    /// Signal that is sent once the file has changed
    #[arg(long, value_name = "SIGNAL", value_parser = signal, requires = "pid_file")]
    pub(crate) signal: Option<i32>,
    /// To the process whose number stands in this file
    #[arg(long, value_name = "FILE", requires_all = ["signal", "to"])]
    pub(crate) pid_file: Option<PathBuf>,
    /// Line for the shell that has to succeed after that; else the old file comes back
    #[arg(long, value_name = "LINE", requires = "to")]
    pub(crate) health: Option<String>,
    /// How long that may take
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = span, requires = "health")]
    pub(crate) health_within: Span,
    /// How long each of these lines may run
    #[arg(long, value_name = "SPAN", default_value = "1m", value_parser = span)]
    pub(crate) timeout: Span,
    /// Keep it so: render again whenever values or the template change
    #[arg(long)]
    pub(crate) watch: bool,
    /// Render once and end, which is what is done without --watch
    #[arg(long, conflicts_with = "watch")]
    pub(crate) once: bool,
    /// How long nothing more must have changed, and how long that is waited for at most
    #[arg(long, value_name = "MIN/MAX", default_value = "1s/10s", value_parser = waits)]
    pub(crate) debounce: Waits,
    /// The file may be blank
    #[arg(long)]
    pub(crate) allow_blank: bool,
    /// If the file is a symbolic link, write what it leads to
    #[arg(long, requires = "to")]
    pub(crate) follow_links: bool,
}
