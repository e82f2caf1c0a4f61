//! A folder of pages: which files are pages, in which order, what they are called in links.
//!
//! A folder with `_posts` is a site of Jekyll, as Carte's are: its pages are the posts, the newest first, and groups stand in
//! the order in which Jekyll lists categories (that of their oldest posts). In any other folder every `*.md` is a page,
//! ordered by `order`, then `category`, then path. Names that start with `_` or `.` are no pages.
//!
//! The folder is read once ([`Site::read`]); everything after that is pure ([`Site::of`], [`Site::render`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use upkeep_model::file::{
    Position,
    tree::{self, Node},
};

use crate::{
    page::{
        Page, fences,
        front::{self, START},
        liquid,
        markdown::{self, Body},
        slug,
    },
    trouble::Trouble,
};

mod links;

/// Larger files are no pages.
const MAX_BYTES: u64 = 4 << 20;
/// Deeper folders are not looked into.
const MAX_DEPTH: usize = 16;
/// The file with the site's own keys.
const CONFIG: &str = "_config.yml";
/// Extensions of Markdown.
const MARKDOWN: &[&str] = &["md", "markdown"];

/// What `_config.yml` says; every key may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The name of the site.
    pub title: String,
    /// Where the calls of code samples go to.
    pub api_url: String,
    /// A sentence below the title.
    pub description: Option<String>,
    /// Words that `import` puts into samples, by the name of what they stand for.
    pub examples: BTreeMap<String, String>,
    /// Every key with a scalar, for `{{ site.KEY }}`.
    scalars: BTreeMap<String, String>,
}

/// A file that may be a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// From the folder of the site, with `/`.
    pub inside: String,
    /// As it is called from where the command was started.
    pub file: String,
    /// What is in it.
    pub text: String,
}

/// Pages in the order in which they are shown.
#[derive(Clone, Debug)]
pub struct Site {
    /// The site's own keys.
    pub config: Config,
    /// The pages: those without a group first, then group by group.
    pub pages: Vec<Page>,
    /// Those with `published: false`: nobody is shown them, and they are somebody's all the same.
    pub hidden: Vec<Page>,
    /// Where pictures are.
    pictures: Option<PathBuf>,
}

impl Site {
    /// Reads a folder. None if it cannot be read or a page of it is broken; `troubles` says why.
    pub fn read(folder: &Path, troubles: &mut Vec<Trouble>) -> Option<Self> {
        let shown = folder.display().to_string();
        let mut files = Vec::new();
        let posts = folder.join("_posts");
        let root = if posts.is_dir() { &posts } else { folder };
        let before = troubles.len();
        list(root, 0, &mut files, &mut |path, error| {
            troubles.push(Trouble::error(
                &path.display().to_string(),
                None,
                format!("cannot be read: {error}"),
            ));
        });
        if troubles.len() > before {
            return None;
        }
        files.sort();
        let mut sources = Vec::new();
        let config = folder.join(CONFIG);
        if config.is_file() {
            files.push(config);
        }
        for path in files {
            let file = path.display().to_string();
            let inside = path
                .strip_prefix(folder)
                .unwrap_or(&path)
                .to_string_lossy()
                .replace('\\', "/");
            match text_of(&path) {
                Ok(text) => sources.push(Source { inside, file, text }),
                Err(why) => troubles.push(Trouble::error(&file, None, why)),
            }
        }
        if sources.iter().all(|source| source.inside == CONFIG) && troubles.is_empty() {
            troubles.push(
                Trouble::error(&shown, None, "there is no page in this folder")
                    .hint("`upkeep docs new TITLE` writes one"),
            );
        }
        let mut site = Self::of(sources, troubles)?;
        site.pictures = Some(folder.to_owned());
        (!crate::trouble::any_error(&troubles[before..])).then_some(site)
    }

    /// Makes a site of files. None if a page is broken; `troubles` says why.
    pub fn of(sources: Vec<Source>, troubles: &mut Vec<Trouble>) -> Option<Self> {
        let before = troubles.len();
        let (config, sources): (Vec<_>, Vec<_>) =
            sources.into_iter().partition(|source| source.inside == CONFIG);
        let config = read_config(config.first(), troubles);
        let jekyll = sources.iter().any(|source| source.inside.starts_with("_posts/"));
        let mut pages = Vec::new();
        let mut hidden = Vec::new();
        for source in &sources {
            if let Some((page, published)) = read_page(source, jekyll, &config, troubles) {
                let kind = if published { &mut pages } else { &mut hidden };
                kind.push(page);
            }
        }
        let mut anchors: BTreeMap<String, String> = BTreeMap::new();
        for page in &pages {
            if let Some(other) = anchors.insert(page.anchor.clone(), page.file.clone()) {
                troubles.push(
                    Trouble::error(
                        &page.file,
                        None,
                        format!("`#{}` is the anchor of `{other}` too", page.anchor),
                    )
                    .hint("anchors come from the names of files: rename one"),
                );
            }
        }
        let site = Self {
            config,
            pages: arrange(pages, jekyll),
            hidden,
            pictures: None,
        };
        (!crate::trouble::any_error(&troubles[before..])).then_some(site)
    }

    /// Renders every page. Dead links are warnings.
    pub fn render(&self, troubles: &mut Vec<Trouble>) -> Vec<Body> {
        let anchors = self.anchors();
        self.pages
            .iter()
            .map(|page| {
                let links = links::OfPage {
                    site: self,
                    page,
                    anchors: &anchors,
                    pictures: self.pictures.as_deref(),
                };
                // A title of a page stands below that of its group.
                let below = if page.category.is_some() { 3 } else { 2 };
                markdown::render(&page.file, &page.body, &page.anchor, below, &links, troubles)
            })
            .collect()
    }

    /// The anchors of the headings of each page.
    fn anchors(&self) -> BTreeMap<String, BTreeSet<String>> {
        self.pages
            .iter()
            .map(|page| {
                let (headings, _) = markdown::outline(&page.body);
                (page.anchor.clone(), headings.into_iter().collect())
            })
            .collect()
    }
}

/// Every file below a folder that could be a page. Links to folders are not followed: they may lead in circles.
fn list(folder: &Path, depth: usize, files: &mut Vec<PathBuf>, broken: &mut dyn FnMut(&Path, io::Error)) {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return broken(folder, error),
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let path = entry.path();
        if name.starts_with(['.', '_']) || name == "node_modules" {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth < MAX_DEPTH => list(&path, depth + 1, files, broken),
            Ok(_) if is_markdown(&path) && path.is_file() => files.push(path),
            _ => {}
        }
    }
}

fn is_markdown(path: &Path) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| MARKDOWN.contains(&extension.to_ascii_lowercase().as_str()))
}

fn text_of(path: &Path) -> Result<String, String> {
    let length = fs::metadata(path)
        .map_err(|error| format!("cannot be read: {error}"))?
        .len();
    if length > MAX_BYTES {
        return Err(format!("is larger than {} MiB", MAX_BYTES >> 20));
    }
    let bytes = fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())
}

fn read_config(source: Option<&Source>, troubles: &mut Vec<Trouble>) -> Config {
    let mut scalars = BTreeMap::new();
    if let Some(source) = source {
        match tree::read_yaml(&source.text) {
            Ok(node) => {
                for entry in node.entries() {
                    if let Some(text) = entry.node.as_text() {
                        scalars.insert(entry.key.clone(), text.to_owned());
                    }
                }
            }
            Err(fault) => troubles.push(
                Trouble::error(
                    &source.file,
                    fault.position,
                    format!("cannot be read: {}", fault.message),
                )
                .maybe(fault.hint),
            ),
        }
    }
    let get = |key: &str| {
        scalars
            .get(key)
            .map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty())
    };
    Config {
        title: get("title").unwrap_or_else(|| "API".to_owned()),
        api_url: get("api_url").map_or_else(
            || "https://api.example.com".to_owned(),
            |url| url.trim_end_matches('/').to_owned(),
        ),
        description: get("description"),
        examples: source.map(|source| examples(&source.text)).unwrap_or_default(),
        scalars,
    }
}

/// `examples` of a `_config.yml`: scalars by name.
pub(crate) fn examples(config: &str) -> BTreeMap<String, String> {
    let Ok(node) = tree::read_yaml(config) else {
        return BTreeMap::new();
    };
    let entries = node.get("examples").map(Node::entries).unwrap_or_default();
    entries
        .iter()
        .filter_map(|entry| Some((entry.key.clone(), entry.node.as_text()?.to_owned())))
        .collect()
}

/// The day and the rest of `YYYY-MM-DD-rest`.
fn dated(stem: &str) -> Option<(&str, &str)> {
    let mut parts = stem.splitn(4, '-');
    let numbers = [parts.next()?, parts.next()?, parts.next()?];
    let digits = |part: &str, lengths: &[usize]| {
        lengths.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    let rest = parts.next().filter(|rest| !rest.is_empty())?;
    (digits(numbers[0], &[4]) && digits(numbers[1], &[1, 2]) && digits(numbers[2], &[1, 2]))
        .then(|| (&stem[..stem.len() - rest.len() - 1], rest))
}

/// A page, and whether it is published.
fn read_page(
    source: &Source,
    jekyll: bool,
    config: &Config,
    troubles: &mut Vec<Trouble>,
) -> Option<(Page, bool)> {
    let text = source
        .text
        .strip_prefix('\u{feff}')
        .unwrap_or(&source.text)
        .replace("\r\n", "\n");
    let name = source.inside.rsplit('/').next().unwrap_or(&source.inside);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let mut date = None;
    let named = if jekyll {
        let Some((day, rest)) = dated(stem) else {
            troubles.push(
                Trouble::warning(
                    &source.file,
                    None,
                    "is left out: Jekyll takes no post without a day in its name",
                )
                .hint("call it YYYY-MM-DD-title.md"),
            );
            return None;
        };
        date = Some(day.to_owned());
        rest.to_owned()
    } else {
        source
            .inside
            .rsplit_once('.')
            .map_or_else(|| source.inside.clone(), |(path, _)| path.to_owned())
    };
    let Some((yaml, body, first_line)) = front::split(&text) else {
        // A folder's own word to whoever looks into it.
        if stem.eq_ignore_ascii_case("readme") {
            return None;
        }
        let (message, hint) = if text.starts_with("---") {
            ("the front matter does not end", "end it with a line of `---`")
        } else {
            (
                "the file has no front matter",
                "start it with a line of `---`, `title: …` and another line of `---`",
            )
        };
        troubles.push(Trouble::error(&source.file, START, message).hint(hint));
        return None;
    };
    let front = front::read(&source.file, yaml, troubles)?;
    if let Some(given) = front.scalars.get("date").filter(|_| jekyll) {
        date = Some(given.clone());
    }
    let anchor = slug(&named);
    if anchor.is_empty() && front.published {
        troubles.push(
            Trouble::error(&source.file, None, "its name has no letter and no digit")
                .hint("the name makes the page's anchor"),
        );
        return None;
    }
    let body = if !front.published {
        // What is written there need not be right yet.
        String::new()
    } else if jekyll {
        let scope = liquid::Scope {
            page: &front.scalars,
            site: &config.scalars,
        };
        liquid::render(&source.file, body, first_line, &scope, troubles)
    } else {
        body.to_owned()
    };
    let page = Page {
        file: source.file.clone(),
        inside: source.inside.clone(),
        anchor,
        title: front.title,
        method: front.method,
        path: front.path,
        category: front.category,
        order: front.order,
        date,
        at: Position { ..front.at },
        body: fences::prepare(&body, first_line),
    };
    Some((page, front.published))
}

/// Pages without a group first, then group by group.
fn arrange(mut pages: Vec<Page>, jekyll: bool) -> Vec<Page> {
    let mut groups: Vec<String> = Vec::new();
    let mut note = |page: &Page| {
        if let Some(category) = &page.category
            && !groups.contains(category)
        {
            groups.push(category.clone());
        }
    };
    if jekyll {
        pages.sort_by_cached_key(|page| (day(page.date.as_deref()), page.inside.clone()));
        pages.iter().for_each(&mut note);
        pages.reverse();
    } else {
        pages.sort_by_cached_key(|page| {
            (
                page.order.unwrap_or(i64::MAX),
                page.category.clone(),
                page.inside.clone(),
            )
        });
        pages.iter().for_each(&mut note);
    }
    pages.sort_by_key(|page| {
        page.category
            .as_ref()
            .and_then(|category| groups.iter().position(|group| group == category))
            .map_or(0, |index| index + 1)
    });
    pages
}

/// `2013-1-2 …` as something that sorts.
fn day(date: Option<&str>) -> (Vec<u32>, String) {
    let date = date.unwrap_or_default();
    let end = date.find([' ', 'T']).unwrap_or(date.len());
    let numbers = date[..end]
        .split('-')
        .map(|part| part.parse().unwrap_or(0))
        .collect();
    (numbers, date[end..].to_owned())
}

#[cfg(test)]
mod tests;
