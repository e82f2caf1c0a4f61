//! What an app gets of the shared configuration: variables, files, and what happens when it changes.
//!
//! Values are no part of this: it says where they are, and nothing of what they are.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{place::Place, size::Span};

/// Places of the shared configuration that an app gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigUse {
    /// In their order: of two values with one name the later place's wins.
    pub places: Vec<Place>,
    /// Whether they are variables of its environment; if not, only its files see them.
    pub env: bool,
    /// Variables that say what programs load or run, and that a value may be all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
}

/// Variables that say what a shell, an interpreter or the C library loads or runs. Whoever may write one of these runs code as the
/// app's user: so a value is one only if the app allows it.
const HOOKS: &[&str] = &[
    // Shells, and where programs are looked for.
    "BASHOPTS",
    "BASH_ENV",
    "CDPATH",
    "ENV",
    "HOME",
    "IFS",
    "PATH",
    "PROMPT_COMMAND",
    "PS4",
    "SHELL",
    "SHELLOPTS",
    "ZDOTDIR",
    // Programs that others start.
    "EDITOR",
    "PAGER",
    "SSH_ASKPASS",
    "SUDO_ASKPASS",
    "VISUAL",
    // The C library, and what is loaded into programs.
    "GCONV_PATH",
    "GETCONF_DIR",
    "GLIBC_TUNABLES",
    "HOSTALIASES",
    "LOCALDOMAIN",
    "LOCPATH",
    "MALLOC_TRACE",
    "NLSPATH",
    "OPENSSL_CONF",
    "OPENSSL_ENGINES",
    "OPENSSL_MODULES",
    "RESOLV_HOST_CONF",
    "RES_OPTIONS",
    // Interpreters.
    "BUNDLE_GEMFILE",
    "BUN_OPTIONS",
    "CATALINA_OPTS",
    "CLASSPATH",
    "DOTNET_ADDITIONAL_DEPS",
    "DOTNET_STARTUP_HOOKS",
    "ELIXIR_ERL_OPTIONS",
    "ERL_AFLAGS",
    "ERL_FLAGS",
    "ERL_LIBS",
    "ERL_ZFLAGS",
    "GEM_HOME",
    "GEM_PATH",
    "JAVA_OPTS",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "NODE_OPTIONS",
    "NODE_PATH",
    "PERL5DB",
    "PERL5LIB",
    "PERL5OPT",
    "PERLLIB",
    "PHPRC",
    "PHP_INI_SCAN_DIR",
    "PYTHONBREAKPOINT",
    "PYTHONEXECUTABLE",
    "PYTHONHOME",
    "PYTHONINSPECT",
    "PYTHONPATH",
    "PYTHONPLATLIBDIR",
    "PYTHONPYCACHEPREFIX",
    "PYTHONSTARTUP",
    "PYTHONUSERBASE",
    "PYTHONWARNINGS",
    "RUBYLIB",
    "RUBYOPT",
    "R_PROFILE",
    "R_PROFILE_USER",
    "TCLLIBPATH",
    "_JAVA_OPTIONS",
];

/// Beginnings of others.
const HOOK_STARTS: &[&str] = &["BASH_FUNC_", "CORECLR_", "COR_", "GIT_", "LUA_", "NPM_CONFIG_"];

/// Whether a variable says what programs load or run.
pub fn is_hook(name: &str) -> bool {
    HOOKS.contains(&name) || HOOK_STARTS.iter().any(|start| name.starts_with(start))
}

/// Why a list of variables that an app allows cannot be one.
pub fn refuse_allowed(allow: &[String]) -> Result<(), String> {
    if allow.len() > HOOKS.len() {
        return Err(format!(
            "`allow` of `config` has {} names; it can have {}",
            allow.len(),
            HOOKS.len()
        ));
    }
    match allow.iter().find(|name| !is_hook(name)) {
        Some(name) => Err(format!(
            "`allow` of `config`: `{}` is no variable that has to be allowed, or none that can be",
            name.escape_debug()
        )),
        None => Ok(()),
    }
}

/// A file that is rendered for an app before it starts, and when values change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileUse {
    /// Where the template was read, for errors.
    pub template: String,
    /// The template.
    pub text: String,
    /// The file, absolute.
    pub to: PathBuf,
    /// User that owns it: a name or a number; the daemon's own unless given.
    pub owner: Option<String>,
    /// Its group: a name or a number; the owner's own unless given.
    pub group: Option<String>,
    /// Its mode.
    pub mode: u32,
    /// Command that has to succeed on the new file (`{}`) before it takes the place of the old.
    pub check: Option<Vec<String>>,
    /// Whether it may be blank.
    pub allow_blank: bool,
}

/// What is done to an app whose values have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeAction {
    /// Its copies are replaced, one after another.
    #[default]
    Reload,
    /// All of its copies are ended, then started.
    Restart,
    /// Its processes get this signal.
    Signal(i32),
    /// Nothing: what is started from then on has the new values.
    None,
}

/// What is done when values change, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OnChange {
    /// What is done.
    #[serde(rename = "do")]
    pub action: ChangeAction,
    /// So long nothing more must have changed.
    pub wait: Span,
    /// But no longer than this after the first change.
    pub max: Span,
}

impl Default for OnChange {
    fn default() -> Self {
        Self {
            action: ChangeAction::Reload,
            wait: Span::from_secs(1),
            max: Span::from_secs(10),
        }
    }
}

/// The mode of a file that says none.
pub const FILE_MODE: u32 = 0o600;

/// The largest template, bytes.
pub const TEMPLATE_MAX: usize = 256 << 10;

/// How many places an app may name, and how many files it may have.
pub const USES_MAX: usize = 32;
