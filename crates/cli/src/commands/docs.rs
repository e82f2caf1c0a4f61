//! `docs`: documentation of HTTP APIs. Needs no daemon.

use std::path::Path;

use serde_json::json;
use upkeep_docs::{
    api::document::Document,
    check,
    html::{self, Use},
    import, own,
    page::Method,
    serve::Server,
    site::Site,
    skeleton,
    trouble::{Level, Trouble, any_error},
    write,
};

use crate::{
    args::{DocsBuild, DocsCheck, DocsImport, DocsNew, DocsServe, DocsVerb},
    exit::{Advised, Exit},
    output::{Output, Paint},
};

/// Runs a verb of `docs`.
pub(crate) fn run(verb: &DocsVerb, dry: bool, output: Output) -> anyhow::Result<Exit> {
    match verb {
        DocsVerb::New(new) => create(new, dry, output),
        DocsVerb::Build(build) => self::build(build, dry, output),
        DocsVerb::Serve(serve) => self::serve(serve, output),
        DocsVerb::Check(check) => self::check(check, output),
        DocsVerb::Import(import) => self::import(import, dry, output),
    }
}

fn create(new: &DocsNew, dry: bool, output: Output) -> anyhow::Result<Exit> {
    let method = match &new.method {
        Some(written) => Some(Method::parse(written).ok_or_else(|| {
            Advised::new(Exit::Usage, format!("`{}` is no method", written.escape_debug()))
                .hint("GET, PUT, POST, PATCH or DELETE")
        })?),
        None => None,
    };
    if let Some(path) = new.path.as_ref().filter(|path| !path.starts_with('/')) {
        return Err(
            Advised::new(Exit::Usage, format!("`{}` is no path", path.escape_debug()))
                .hint("paths start with `/`")
                .into(),
        );
    }
    let posts = new.dir.join("_posts");
    let jekyll = posts.is_dir();
    let day = jekyll.then(|| jiff::Zoned::now().strftime("%Y-%m-%d").to_string());
    let wanted = skeleton::Wanted {
        title: new.title.clone(),
        method,
        path: new.path.clone(),
        category: new.category.clone(),
    };
    let name = skeleton::file_name(&wanted, day.as_deref()).ok_or_else(|| {
        Advised::new(
            Exit::Usage,
            format!("`{}` has no letter and no digit", new.title.escape_debug()),
        )
        .hint("the file is named after the title")
    })?;
    let place = if jekyll { posts } else { new.dir.clone() }.join(name);
    if place.exists() {
        return Err(
            Advised::new(Exit::Conflict, format!("`{}` is there already", place.display()))
                .hint("give another title, or change that page")
                .into(),
        );
    }
    if !dry {
        write::write(&place, &skeleton::page(&wanted)).map_err(|error| unwritten(&place, &error))?;
    }
    told(output, "wrote", &place, dry)
}

fn told(output: Output, done: &str, place: &Path, dry: bool) -> anyhow::Result<Exit> {
    if output.json {
        output.document(&json!({ "file": place }))?;
    } else {
        let done = if dry {
            format!("would have {done}")
        } else {
            done.to_owned()
        };
        output.say(&format!("{done} {}", place.display()));
    }
    Ok(Exit::Done)
}

fn unwritten(place: &Path, error: &std::io::Error) -> Advised {
    Advised::new(
        Exit::Failed,
        format!("failed to write `{}`: {error}", place.display()),
    )
    .hint("nothing has changed")
}

fn build(build: &DocsBuild, dry: bool, output: Output) -> anyhow::Result<Exit> {
    let mut troubles = Vec::new();
    let html = match Site::read(&build.dir, &mut troubles) {
        Some(site) => {
            let bodies = if build.check {
                check::links(&site, &mut troubles)
            } else {
                site.render(&mut troubles)
            };
            Some(html::assemble(&site, &bodies, Use::Kept))
        }
        None => None,
    };
    say(&troubles, output);
    let Some(html) = html.filter(|_| !any_error(&troubles)) else {
        return failed(&troubles, output);
    };
    let place = write::place(&build.output);
    if !dry {
        write::write(&place, &html).map_err(|error| unwritten(&place, &error))?;
    }
    told(output, "wrote", &place, dry)
}

fn serve(serve: &DocsServe, output: Output) -> anyhow::Result<Exit> {
    if !serve.dir.is_dir() {
        return Err(no_folder(&serve.dir).into());
    }
    let server = Server::start(&serve.dir, serve.port).map_err(|error| {
        Advised::new(
            Exit::Failed,
            format!("failed to listen on port {}: {error}", serve.port),
        )
        .hint("`--port 0` takes any that is free")
    })?;
    let url = format!("http://{}/", server.address());
    if output.json {
        output.document(&json!({ "url": url }))?;
    } else {
        output.text(&url)?;
    }
    server.watch(&mut |troubles| say(troubles, output))?;
    Ok(Exit::Done)
}

fn no_folder(dir: &Path) -> Advised {
    Advised::new(Exit::NotFound, format!("there is no folder `{}`", dir.display()))
}

fn check(asked: &DocsCheck, output: Output) -> anyhow::Result<Exit> {
    let mut troubles = Vec::new();
    let document = match &asked.openapi {
        Some(file) => Document::read(file),
        None => own::document(),
    };
    let site = Site::read(&asked.dir, &mut troubles);
    let document = document.map_err(|trouble| troubles.push(trouble)).ok();
    let mut calls = 0;
    let mut pages = 0;
    if let Some(site) = &site {
        let bodies = check::links(site, &mut troubles);
        pages = site.pages.len();
        if let Some(document) = &document {
            calls = document.operations.len();
            check::api(site, &bodies, document, &mut troubles);
        }
    }
    if output.json {
        output.document(&json!({ "pages": pages, "calls": calls, "troubles": troubles }))?;
    } else {
        say(&troubles, output);
    }
    if any_error(&troubles) {
        return Ok(Exit::Failed);
    }
    if !output.json {
        output.say(&format!("{pages} pages tell of {calls} calls as they are"));
    }
    Ok(Exit::Done)
}

fn import(asked: &DocsImport, dry: bool, output: Output) -> anyhow::Result<Exit> {
    let imported = Document::read(&asked.file)
        .map_err(|trouble| vec![trouble])
        .and_then(|document| import::import(&document, &asked.dir, dry));
    let imported = match imported {
        Ok(imported) => imported,
        Err(troubles) => {
            say(&troubles, output);
            return failed(&troubles, output);
        }
    };
    if output.json {
        output.document(&imported)?;
        return Ok(Exit::Done);
    }
    let lists = [
        (if dry { "would write" } else { "wrote" }, &imported.written),
        ("kept, as a person changed it:", &imported.kept),
        ("its call is gone:", &imported.gone),
    ];
    for (done, paths) in lists {
        for path in paths {
            output.say(&format!("{done} {}", path.display()));
        }
    }
    output.say(&format!(
        "{} written, {} as they were, {} kept, {} of calls that are gone",
        imported.written.len(),
        imported.same.len(),
        imported.kept.len(),
        imported.gone.len()
    ));
    Ok(Exit::Done)
}

fn failed(troubles: &[Trouble], output: Output) -> anyhow::Result<Exit> {
    if output.json {
        output.document(&json!({ "troubles": troubles }))?;
    }
    Ok(Exit::Failed)
}

/// Every trouble with its hint, as compilers write them.
fn say(troubles: &[Trouble], output: Output) {
    if output.json {
        return;
    }
    for trouble in troubles {
        match trouble.level {
            Level::Error => output.error(&trouble.to_string(), trouble.hint.as_deref()),
            Level::Warning => {
                output.warn(&trouble.to_string());
                if let Some(hint) = &trouble.hint {
                    output.say(&format!("{}: {hint}", output.paint(Paint::Strong, "hint")));
                }
            }
        }
    }
}
