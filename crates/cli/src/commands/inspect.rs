//! Heap snapshots and profiles of Node apps, written to files.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde_json::json;
use upkeep_api::{
    body::AppView,
    client::Client,
    inspect::{HeapRequest, ProfileRequest},
};

use super::look::{app_path, find};
use crate::{
    args::{Heap, Profile},
    connect::connect_or_start,
    exit::{Advised, Exit},
    output::{Output, progress, time},
    settings::Settings,
};

/// A snapshot of the heap, or what is allocated.
pub(crate) async fn heap(heap: Heap, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    let (app, index) = instance(&mut client, &heap.app).await?;
    let request = HeapRequest {
        index,
        sampling_ms: heap.sampling.map(upkeep_model::size::Span::as_millis),
        force: heap.force,
        reason: settings.reason.clone(),
    };
    let path = format!("{}/heap", app_path(&app.name));
    let what = format!("recording the heap of {}", heap.app);
    save(client, &path, &request, heap.output, &what, output).await
}

/// Where processor time goes.
pub(crate) async fn profile(profile: Profile, settings: &Settings, output: Output) -> anyhow::Result<Exit> {
    let mut client = connect_or_start(settings).await?;
    let (app, index) = instance(&mut client, &profile.app).await?;
    let request = ProfileRequest {
        index,
        duration_ms: Some(profile.span.as_millis()),
        interval_us: Some(profile.interval),
        reason: settings.reason.clone(),
    };
    let path = format!("{}/profile", app_path(&app.name));
    let what = format!(
        "profiling {} for {}",
        profile.app,
        time::span(profile.span.as_millis())
    );
    save(client, &path, &request, profile.output, &what, output).await
}

/// The app that a word means, and which of its instances.
async fn instance(client: &mut Client, word: &str) -> anyhow::Result<(AppView, Option<u32>)> {
    let app = find(client, word).await?;
    if let Ok(id) = word.parse::<u32>() {
        let found = app.instances.iter().find(|instance| instance.id == id);
        let index = found.map(|instance| instance.index);
        return Ok((app, index));
    }
    let index = match word.split_once(':') {
        Some((_, index)) => Some(index.parse().map_err(|_| {
            Advised::new(Exit::Usage, format!("`{word}` names no instance"))
                .hint("write the number of an instance, as in `shop:1`")
        })?),
        None => None,
    };
    Ok((app, index))
}

/// Fetches the file; it appears under its name only when it is whole.
async fn save(
    mut client: Client,
    path: &str,
    request: &(impl serde::Serialize + Sync),
    place: Option<PathBuf>,
    what: &str,
    output: Output,
) -> anyhow::Result<Exit> {
    let fetch = async {
        let mut download = client.download("POST", path, Some(request)).await?;
        if place.as_deref() == Some(Path::new("-")) {
            let mut out = std::io::stdout().lock();
            while let Some(piece) = download.next().await? {
                out.write_all(&piece)?;
            }
            out.flush()?;
            return Ok::<_, anyhow::Error>(None);
        }
        let place = match (place, &download.name) {
            (Some(place), _) => place,
            (None, Some(name)) => PathBuf::from(name),
            (None, None) => anyhow::bail!("the answer names no file: say where to write with `-o FILE`"),
        };
        let mut partial = place.clone().into_os_string();
        partial.push(".part");
        let partial = PathBuf::from(partial);
        let written = write(&mut download, &partial).await;
        let bytes = match written {
            Ok(bytes) => bytes,
            Err(error) => {
                // Half a file is of no use to anybody.
                let _ = fs::remove_file(&partial);
                return Err(error);
            }
        };
        fs::rename(&partial, &place).with_context(|| format!("failed to write `{}`", place.display()))?;
        Ok(Some((place, bytes)))
    };
    let Some((place, bytes)) = progress::during(what, fetch).await? else {
        return Ok(Exit::Done);
    };
    if output.json {
        output.document(&json!({ "file": place, "bytes": bytes }))?;
    } else {
        output.text(&format!("{} ({})", place.display(), time::bytes(bytes)))?;
        output.say("open it in the developer tools of Chrome: Memory, or Performance, then Load");
    }
    Ok(Exit::Done)
}

async fn write(download: &mut upkeep_api::client::Download, path: &Path) -> anyhow::Result<u64> {
    use std::os::unix::fs::OpenOptionsExt;
    let fail = || format!("failed to write `{}`", path.display());
    // What a program has in memory is nobody else's business.
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path).with_context(fail)?;
    let mut bytes = 0;
    while let Some(piece) = download.next().await? {
        file.write_all(&piece).with_context(fail)?;
        bytes += piece.len() as u64;
    }
    anyhow::ensure!(
        bytes > 0,
        "the program ended before it was done; `upkeep events` says more"
    );
    file.sync_all().with_context(fail)?;
    Ok(bytes)
}
