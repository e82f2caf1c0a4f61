//! What the crates may not do, held by tests: see ARCHITECTURE.md for why.
//!
//! 1. Arrows between our crates point down, along [`ARROWS`] only.
//! 2. tokio is below [`TOKIO`] only, by any path.
//! 3. [`BANNED`] crates are nowhere in the tree.
//! 4. `unsafe` is in `crates/sys` (and in the scripted child of the testkit) only.
//! 5. Every crate takes the workspace's lints, and every workspace dependency says why it is there.
//! 6. Links between pages of the repository lead somewhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, ensure};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

use crate::shell;

/// Package → what it may know of ours. (Tests may use the testkit as well.)
const ARROWS: &[(&str, &[&str])] = &[
    (
        "upkeep",
        &[
            "upkeep-cli",
            "upkeep-pm2-cli",
            "upkeep-pm2",
            "upkeep-daemon",
            "upkeep-door",
            "upkeep-keeper",
            "upkeep-host",
        ],
    ),
    (
        "upkeep-daemon",
        &[
            "upkeep-api",
            "upkeep-assets",
            "upkeep-config",
            "upkeep-docs",
            "upkeep-door",
            "upkeep-pm2",
            "upkeep-render",
            "upkeep-store",
            "upkeep-etcd",
            "upkeep-playbook",
            "upkeep-supervise",
            "upkeep-keeper",
            "upkeep-host",
            "upkeep-sys",
            "upkeep-model",
        ],
    ),
    (
        "upkeep-cli",
        &[
            "upkeep-api",
            "upkeep-config",
            "upkeep-docs",
            "upkeep-pm2",
            "upkeep-render",
            "upkeep-playbook",
            "upkeep-host",
            "upkeep-model",
            "upkeep-zookeeper",
        ],
    ),
    (
        "upkeep-pm2-cli",
        &["upkeep-pm2", "upkeep-host", "upkeep-model", "upkeep-sys"],
    ),
    ("upkeep-pm2", &["upkeep-model"]),
    ("upkeep-playbook", &["upkeep-host", "upkeep-model"]),
    ("upkeep-host", &["upkeep-model", "upkeep-sys"]),
    ("upkeep-store", &["upkeep-model"]),
    (
        "upkeep-config",
        &["upkeep-model", "upkeep-schema", "upkeep-store"],
    ),
    ("upkeep-etcd", &["upkeep-store"]),
    ("upkeep-render", &["upkeep-config", "upkeep-sys"]),
    ("upkeep-schema", &[]),
    ("upkeep-zookeeper", &[]),
    ("upkeep-api", &["upkeep-model"]),
    ("upkeep-docs", &["upkeep-model", "upkeep-schema"]),
    ("upkeep-supervise", &["upkeep-model"]),
    ("upkeep-door", &["upkeep-model", "upkeep-sys"]),
    ("upkeep-keeper", &["upkeep-sys"]),
    ("upkeep-model", &[]),
    ("upkeep-sys", &[]),
    ("upkeep-assets", &[]),
    ("upkeep-testkit", &[]),
    (
        "upkeep-e2e",
        &["upkeep-testkit", "upkeep-pm2", "upkeep-zookeeper"],
    ),
    (
        "xtask",
        &["upkeep-api", "upkeep-docs", "upkeep-model", "upkeep-testkit"],
    ),
];

/// Package → what its tests and benches may know besides: what it runs on, to try it there.
const TRIED_ON: &[(&str, &[&str])] = &[
    ("upkeep-config", &["upkeep-etcd", "upkeep-zookeeper"]),
    ("upkeep-render", &["upkeep-etcd", "upkeep-store"]),
];

/// Packages that may have tokio below them.
const TOKIO: &[&str] = &[
    // Tools: the load of the tests is asynchronous.
    "upkeep-testkit",
    "upkeep-e2e",
    "xtask",
    "upkeep-door",
    "upkeep-store",
    "upkeep-etcd",
    "upkeep-playbook",
    "upkeep-api",
    "upkeep-daemon",
    "upkeep-cli",
    "upkeep-pm2-cli",
    "upkeep",
];

/// Of these, the one that gets it from others only.
const NO_TOKIO_OF_ITS_OWN: &[&str] = &["upkeep"];

/// Crates that need cmake, a C++ compiler or the system's libraries, where `ring` does the same work.
const BANNED: &[&str] = &["aws-lc-sys", "aws-lc-rs", "openssl-sys", "native-tls"];

pub(crate) fn run() -> anyhow::Result<()> {
    let metadata = metadata()?;
    let graph = Graph::of(&metadata);
    let mut complaints = graph.complaints();
    complaints.extend(sources(&metadata)?);
    complaints.extend(manifests(&metadata)?);
    complaints.extend(links()?);
    ensure!(
        complaints.is_empty(),
        "{} broken:\n  {}",
        complaints.len(),
        complaints.join("\n  ")
    );
    println!(
        "fences hold: {} crates of ours, {} in all",
        graph.direct.len(),
        graph.all.len()
    );
    Ok(())
}

fn metadata() -> anyhow::Result<Metadata> {
    let manifest = shell::root().join("Cargo.toml");
    // Only what is built here: a crate for another system is no part of the binary.
    let options = ["--filter-platform".to_owned(), shell::STATIC_TARGET.to_owned()];
    MetadataCommand::new()
        .manifest_path(manifest)
        .other_options(options)
        .exec()
        .context("cargo metadata")
}

/// Who depends on whom, in a form that a test can write down.
#[derive(Debug, Default)]
struct Graph {
    /// Our packages with the names of what their manifests ask for (for tests: with `true`).
    direct: BTreeMap<String, BTreeSet<(String, bool)>>,
    /// All that is built into each of ours (build and normal dependencies, by any path).
    below: BTreeMap<String, BTreeSet<String>>,
    /// Every crate of the tree, those of tests too.
    all: BTreeSet<String>,
}

impl Graph {
    fn of(metadata: &Metadata) -> Self {
        let mut graph = Self::default();
        let names: BTreeMap<_, _> = metadata
            .packages
            .iter()
            .map(|package| (package.id.clone(), package.name.to_string()))
            .collect();
        graph.all = names.values().cloned().collect();
        let mut edges: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for node in metadata.resolve.iter().flat_map(|resolve| &resolve.nodes) {
            let built = node.deps.iter().filter(|dependency| {
                dependency
                    .dep_kinds
                    .iter()
                    .any(|kind| kind.kind != DependencyKind::Development)
            });
            edges.insert(
                node.id.clone(),
                built.map(|dependency| dependency.pkg.clone()).collect(),
            );
        }
        for package in metadata.workspace_packages() {
            let asked = package.dependencies.iter();
            let asked = asked.map(|wanted| (wanted.name.clone(), wanted.kind == DependencyKind::Development));
            graph.direct.insert(package.name.to_string(), asked.collect());
            let mut seen = BTreeSet::new();
            let mut next = vec![package.id.clone()];
            while let Some(id) = next.pop() {
                for below in edges.get(&id).into_iter().flatten() {
                    if seen.insert(below.clone()) {
                        next.push(below.clone());
                    }
                }
            }
            let below = seen.iter().filter_map(|id| names.get(id).cloned()).collect();
            graph.below.insert(package.name.to_string(), below);
        }
        graph
    }

    fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        for (package, wanted) in &self.direct {
            let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| name == package) else {
                complaints.push(format!(
                    "`{package}` is not in the table of arrows (xtask/src/fences.rs)"
                ));
                continue;
            };
            for (name, for_tests) in wanted {
                let ours = self.direct.contains_key(name);
                let tried_on = || {
                    let mut tried = TRIED_ON.iter().filter(|(tried, _)| tried == package);
                    name == "upkeep-testkit" || tried.any(|(_, on)| on.contains(&name.as_str()))
                };
                let fine = allowed.contains(&name.as_str()) || (*for_tests && tried_on());
                if ours && !fine {
                    complaints.push(format!("`{package}` must not know `{name}`"));
                }
            }
            let own_tokio = wanted
                .iter()
                .any(|(name, for_tests)| name == "tokio" && !for_tests);
            if own_tokio && NO_TOKIO_OF_ITS_OWN.contains(&package.as_str()) {
                complaints.push(format!("`{package}` must not ask for tokio itself"));
            }
            let has_tokio = self
                .below
                .get(package)
                .is_some_and(|below| below.contains("tokio"));
            if has_tokio && !TOKIO.contains(&package.as_str()) {
                complaints.push(format!(
                    "`{package}` has tokio below it (cargo tree -p {package} -i tokio)"
                ));
            }
        }
        for banned in BANNED.iter().filter(|banned| self.all.contains(**banned)) {
            complaints.push(format!("`{banned}` is in the tree (cargo tree -i {banned})"));
        }
        complaints
    }
}

/// `#![forbid(unsafe_code)]` at the root of all that is built into the product, but of `sys`.
fn sources(metadata: &Metadata) -> anyhow::Result<Vec<String>> {
    let mut complaints = Vec::new();
    for package in metadata.workspace_packages() {
        if ["upkeep-sys", "upkeep-testkit"].contains(&package.name.as_str()) {
            continue;
        }
        let roots = package
            .targets
            .iter()
            .filter(|target| target.is_lib() || target.is_bin());
        for root in roots {
            // The tests of e2e may need raw calls to be nasty.
            let text = fs::read_to_string(&root.src_path).with_context(|| root.src_path.to_string())?;
            if !text.contains("#![forbid(unsafe_code)]") {
                complaints.push(format!(
                    "{} lacks #![forbid(unsafe_code)]",
                    short(root.src_path.as_std_path())
                ));
            }
        }
    }
    Ok(complaints)
}

fn manifests(metadata: &Metadata) -> anyhow::Result<Vec<String>> {
    let mut complaints = Vec::new();
    for package in metadata.workspace_packages() {
        complaints.extend(lints(package)?);
    }
    let path = shell::root().join("Cargo.toml");
    let text = fs::read_to_string(&path).context("the workspace's Cargo.toml")?;
    complaints.extend(unexplained(&text));
    Ok(complaints)
}

fn lints(package: &Package) -> anyhow::Result<Option<String>> {
    let path = package.manifest_path.as_std_path();
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let taken = text.lines().skip_while(|line| *line != "[lints]").nth(1) == Some("workspace = true");
    Ok((!taken).then(|| format!("{} does not take the workspace's lints", short(path))))
}

/// Outside crates in `[workspace.dependencies]` without a comment above them.
fn unexplained(manifest: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut inside = false;
    let mut before = "";
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == "[workspace.dependencies]";
        } else if inside
            && let Some((name, rest)) = line.split_once(" = ")
            && !rest.contains("path =")
            && !before.starts_with('#')
        {
            complaints.push(format!("Cargo.toml does not say why `{name}` is there"));
        }
        before = line;
    }
    complaints
}

/// Links from pages to files that do not exist.
fn links() -> anyhow::Result<Vec<String>> {
    // git knows which pages are ours; a page that is not added yet counts.
    let mut git = std::process::Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard", "*.md"])
        .current_dir(shell::root());
    let mut complaints = Vec::new();
    for page in shell::read(&mut git)?.lines() {
        let path = shell::root().join(page);
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        }; // deleted, not committed
        let dir = path.parent().context("a page has a directory")?;
        complaints.extend(
            targets(&text)
                .into_iter()
                .filter(|target| !dir.join(target).exists())
                .map(|target| format!("{page} links to {target}, which is not there")),
        );
    }
    Ok(complaints)
}

/// Files that `[text](file)` names in a page; not addresses, not anchors, not code.
fn targets(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
        }
        for part in line.split("](").skip(1).filter(|_| !code) {
            let target = part.split(')').next().unwrap_or_default();
            let file = target.split('#').next().unwrap_or_default();
            if !file.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                found.push(file);
            }
        }
    }
    found
}

fn short(path: &Path) -> String {
    path.strip_prefix(shell::root())
        .unwrap_or(path)
        .display()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn real() -> Graph {
        Graph::of(&metadata().expect("cargo metadata answers"))
    }

    fn graph(edges: &[(&str, &[(&str, bool)])]) -> Graph {
        let mut graph = Graph::default();
        for (package, wanted) in edges {
            let wanted: BTreeSet<_> = wanted
                .iter()
                .map(|(name, test)| ((*name).to_owned(), *test))
                .collect();
            graph.below.insert(
                (*package).to_owned(),
                wanted.iter().map(|(name, _)| name.clone()).collect(),
            );
            graph.all.extend(wanted.iter().map(|(name, _)| name.clone()));
            graph.direct.insert((*package).to_owned(), wanted);
        }
        graph
    }

    #[test]
    fn arrows_point_down_and_tokio_stays_where_it_may_be() {
        assert_eq!(real().complaints(), Vec::<String>::new());
    }

    #[test]
    fn unsafe_is_in_sys_only() {
        let metadata = metadata().expect("cargo metadata answers");
        assert_eq!(
            sources(&metadata).expect("sources are readable"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn manifests_take_the_lints_and_give_reasons() {
        let metadata = metadata().expect("cargo metadata answers");
        assert_eq!(
            manifests(&metadata).expect("manifests are readable"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn links_lead_somewhere() {
        assert_eq!(links().expect("pages are readable"), Vec::<String>::new());
    }

    #[test]
    fn links_are_found_in_text_and_not_in_code() {
        let text = "[a](x.md) and [b](y/z.md#part) [c](https://e.org) [d](#here)\n```\n[e](no.md)\n```\n";
        assert_eq!(targets(text), ["x.md", "y/z.md"]);
    }

    #[test]
    fn the_table_names_what_exists() {
        let real = real();
        for (package, allowed) in ARROWS {
            assert!(real.direct.contains_key(*package), "{package} is gone");
            assert!(
                allowed.iter().all(|name| real.direct.contains_key(*name)),
                "{package}: {allowed:?}"
            );
        }
    }

    #[test]
    fn an_arrow_that_points_up_is_refused() {
        let complaints =
            graph(&[("upkeep-model", &[("upkeep-cli", false)]), ("upkeep-cli", &[])]).complaints();
        assert_eq!(complaints, ["`upkeep-model` must not know `upkeep-cli`"]);
    }

    #[test]
    fn tests_may_use_the_testkit_and_the_product_may_not() {
        let kit: (&str, &[(&str, bool)]) = ("upkeep-testkit", &[]);
        assert_eq!(
            graph(&[("upkeep-sys", &[("upkeep-testkit", true)]), kit]).complaints(),
            Vec::<String>::new()
        );
        assert_eq!(
            graph(&[("upkeep-sys", &[("upkeep-testkit", false)]), kit])
                .complaints()
                .len(),
            1
        );
    }

    #[test]
    fn tokio_in_the_keeper_is_refused() {
        assert_eq!(
            graph(&[("upkeep-keeper", &[("tokio", false)])])
                .complaints()
                .len(),
            1
        );
        assert_eq!(
            graph(&[("upkeep-daemon", &[("tokio", false)])]).complaints(),
            Vec::<String>::new()
        );
    }

    #[test]
    fn banned_crates_are_refused() {
        assert_eq!(
            graph(&[("upkeep-daemon", &[("openssl-sys", false)])])
                .complaints()
                .len(),
            1
        );
    }

    #[test]
    fn a_dependency_without_a_reason_is_refused() {
        let text =
            "[workspace.dependencies]\n# Why.\na = \"1\"\nb = \"1\"\nc = { path = \"c\" }\n[x]\nd = \"1\"\n";
        assert_eq!(unexplained(text), ["Cargo.toml does not say why `b` is there"]);
    }
}
