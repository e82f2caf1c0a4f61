//! The program behind an app `static-page-server-PORT`: one folder over HTTP, as its variables say.
//!
//! Unlike PM2's it answers ranges and conditional requests, and a folder without a slash leads to its `index.html`
//! instead of a 500.

use std::{
    ffi::OsString,
    fmt::Write as _,
    io::{self, Write as _},
    net::SocketAddr,
    path::{Component, Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::UNIX_EPOCH,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use tower_http::services::{ServeDir, ServeFile};

/// What the server is told by its environment.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Settings {
    address: String,
    root: PathBuf,
    spa: bool,
    listing: bool,
    /// Of `/`, and of unknown paths with `spa`.
    homepage: PathBuf,
    /// The header that lets in; `None`: everybody.
    credentials: Option<String>,
    monitor: bool,
}

impl Settings {
    fn from(variable: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let text = |name: &str| {
            variable(name)
                .map(|value| value.to_string_lossy().into_owned())
                .filter(|value| !value.is_empty())
        };
        let yes = |name: &str| text(name).as_deref() == Some("true");
        let root = text("PM2_SERVE_PATH").map_or_else(|| PathBuf::from("."), PathBuf::from);
        let homepage = text("PM2_SERVE_HOMEPAGE").unwrap_or_else(|| "/index.html".to_owned());
        let host = text("PM2_SERVE_HOST").unwrap_or_else(|| "0.0.0.0".to_owned());
        let port = text("PM2_SERVE_PORT")
            .or_else(|| text("PORT"))
            .unwrap_or_else(|| "8080".to_owned());
        let user = text("PM2_SERVE_BASIC_AUTH_USERNAME");
        let password = text("PM2_SERVE_BASIC_AUTH_PASSWORD");
        Self {
            address: if host.contains(':') && !host.starts_with('[') {
                format!("[{host}]:{port}")
            } else {
                format!("{host}:{port}")
            },
            spa: yes("PM2_SERVE_SPA"),
            listing: yes("PM2_SERVE_FTP"),
            homepage: root.join(homepage.trim_start_matches('/')),
            root: std::path::absolute(&root).unwrap_or(root),
            credentials: match (yes("PM2_SERVE_BASIC_AUTH"), user, password) {
                (true, Some(user), Some(password)) => Some(format!(
                    "Basic {}",
                    base64(format!("{user}:{password}").as_bytes())
                )),
                // Asked for without a name or a password: nobody gets in, rather than everybody.
                (true, _, _) => Some(String::new()),
                (false, _, _) => None,
            },
            monitor: variable("PM2_SERVE_MONITOR").is_some(),
        }
    }
}

/// Serves until a signal ends the process.
pub(crate) fn run() -> ExitCode {
    let settings = Settings::from(&|name| std::env::var_os(name));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(serve(settings))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The exit code tells if nobody reads this.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(settings: Settings) -> io::Result<()> {
    let say = |text: &str| {
        // A log that is gone must not end the server.
        let _ = writeln!(io::stdout(), "{text}");
    };
    if settings.monitor {
        say("Monitoring of pages belongs to a hosted service and is not part of this server");
    }
    let address: Vec<SocketAddr> = tokio::net::lookup_host(&settings.address).await?.collect();
    let listener = tokio::net::TcpListener::bind(address.as_slice())
        .await
        .map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("failed to listen on {}: {error}", settings.address),
            )
        })?;
    let bound = listener.local_addr()?;
    say(&format!(
        "Exposing {} directory on {bound}",
        settings.root.display()
    ));
    axum::serve(listener, router(settings)).await
}

fn router(settings: Settings) -> Router {
    Router::new().fallback(answer).with_state(Arc::new(settings))
}

async fn answer(State(settings): State<Arc<Settings>>, mut request: Request) -> Response {
    if !may_enter(&settings, &request) {
        return (
            StatusCode::UNAUTHORIZED,
            [
                (header::CONTENT_TYPE, "text/html"),
                (
                    header::WWW_AUTHENTICATE,
                    r#"Basic realm="Authentication service""#,
                ),
            ],
            "401 Unauthorized",
        )
            .into_response();
    }
    let Some(path) = place(&settings.root, request.uri().path()) else {
        // Outside of the folder nothing is to be found.
        return missing(&settings, request).await;
    };
    // Whatever the method is, the page is the answer.
    if request.method() != Method::HEAD {
        *request.method_mut() = Method::GET;
    }
    let address = request.uri().path().to_owned();
    let again = copy(&request);
    if address == "/" && settings.homepage.is_file() {
        return open(file(&settings.homepage, request).await);
    }
    if settings.listing && path.is_dir() && !path.join("index.html").is_file() {
        return match listing(&path, &address) {
            Ok(page) => open(([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()),
            Err(error) => trouble(&settings, &path, &error),
        };
    }
    let response = directory(&settings.root, request).await;
    if response.status() != StatusCode::NOT_FOUND {
        return open(response);
    }
    if settings.spa {
        let sibling = path.file_name().map(|name| settings.root.join(name));
        let page = sibling.filter(|page| page.is_file());
        return open(file(page.as_ref().unwrap_or(&settings.homepage), again).await);
    }
    missing(&settings, again).await
}

async fn missing(settings: &Settings, request: Request) -> Response {
    let mut page = file(&settings.root.join("404.html"), request).await;
    if !page.status().is_success() {
        page = ([(header::CONTENT_TYPE, "text/html")], "404 Not Found").into_response();
    }
    *page.status_mut() = StatusCode::NOT_FOUND;
    page
}

fn may_enter(settings: &Settings, request: &Request) -> bool {
    let Some(wanted) = &settings.credentials else {
        return true;
    };
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .map_or(&b""[..], HeaderValue::as_bytes);
    // As many steps for a wrong one as for the right one, so that the time tells nothing.
    let differences = wanted
        .bytes()
        .zip(given.iter().copied().chain(std::iter::repeat(0)))
        .fold(0, |all, (left, right)| all | (left ^ right));
    !wanted.is_empty() && given.len() == wanted.len() && differences == 0
}

/// The file that an address means; `None` if that is outside of the root.
fn place(root: &Path, address: &str) -> Option<PathBuf> {
    let address = decode(address);
    let mut path = root.to_path_buf();
    let mut depth = 0_u32;
    for part in Path::new(address.trim_start_matches('/')).components() {
        match part {
            Component::Normal(name) => {
                path.push(name);
                depth += 1;
            }
            Component::ParentDir => {
                depth = depth.checked_sub(1)?;
                path.pop();
            }
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    (!address.contains('\0')).then_some(path)
}

fn decode(address: &str) -> String {
    let mut bytes = Vec::with_capacity(address.len());
    let mut rest = address.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = (*first == b'%')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(hex.unwrap_or(*first));
        rest = if hex.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The same question once more, for a second service. Bodies are of no interest.
fn copy(request: &Request) -> Request {
    let mut copy = Request::new(Body::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

async fn directory(root: &Path, request: Request) -> Response {
    use tower_http::services::fs::ServeFileSystemResponseBody;
    let answer: Result<axum::http::Response<ServeFileSystemResponseBody>, _> =
        ServeDir::new(root).try_call(request).await;
    answer.map_or_else(|error| broken(&error), |response| response.map(Body::new))
}

async fn file(path: &Path, request: Request) -> Response {
    ServeFile::new(path)
        .try_call(request)
        .await
        .map_or_else(|error| broken(&error), |response| response.map(Body::new))
}

fn broken(error: &io::Error) -> Response {
    let text = format!(
        "Sorry, check with the site admin for error: {:?} ..\n",
        error.kind()
    );
    (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
}

fn trouble(settings: &Settings, path: &Path, error: &io::Error) -> Response {
    // A log that is gone must not end the server.
    let _ = writeln!(
        io::stderr(),
        "Error while serving {} of {}: {error}",
        path.display(),
        settings.root.display()
    );
    broken(error)
}

/// Pages may be read from other sites.
fn open(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET"),
    );
    response
}

fn listing(folder: &Path, address: &str) -> io::Result<String> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // A link that leads nowhere has no size.
        let about = std::fs::metadata(entry.path()).ok();
        let is_folder = about.as_ref().is_some_and(std::fs::Metadata::is_dir);
        entries.push((!is_folder, name, about));
    }
    entries.sort_by(|left, right| (left.0, &left.1).cmp(&(right.0, &right.1)));
    let title = escape(&format!("{}/", decode(address).trim_end_matches('/')));
    let base = address.trim_end_matches('/');
    let mut rows = String::new();
    if title != "/" {
        rows.push_str("<tr><td><a href=\"../\">../</a></td><td>-</td><td>-</td></tr>\n");
    }
    for (is_file, name, about) in entries {
        let slash = if is_file { "" } else { "/" };
        let size = about
            .as_ref()
            .filter(|_| is_file)
            .map_or_else(|| "-".to_owned(), |about| about.len().to_string());
        let changed = about
            .and_then(|about| about.modified().ok())
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .and_then(|since| i64::try_from(since.as_millis()).ok())
            .map_or_else(
                || "-".to_owned(),
                |ms| upkeep_pm2::date::format("YYYY-MM-DD HH:mm:ss", ms),
            );
        // Writing to a string cannot fail.
        let _ = writeln!(
            rows,
            "<tr><td><a href=\"{base}/{}{slash}\">{}{slash}</a></td><td>{size}</td><td>{changed}</td></tr>",
            encode(&name),
            escape(&name)
        );
    }
    Ok(format!(
        "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>Index of {title}</title></head>\n\
         <body><h1>Index of {title}</h1>\n<table><thead><tr><th>Name</th><th>Size</th><th>Last Modified</th></tr></thead>\n\
         <tbody>\n{rows}</tbody></table></body></html>\n"
    ))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn encode(name: &str) -> String {
    name.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .chain(&[0, 0])
            .take(3)
            .fold(0_usize, |word, byte| word << 8 | usize::from(*byte));
        for place in 0..4 {
            if place <= chunk.len() {
                text.push(char::from(LETTERS[word >> (18 - 6 * place) & 63]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &'static [(&'static str, &'static str)]) -> Settings {
        Settings::from(&|name| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn base64_pads() {
        assert_eq!(base64(b"u:p"), "dTpw");
        assert_eq!(base64(b"ab"), "YWI=");
        assert_eq!(base64(b"a"), "YQ==");
        assert_eq!(base64(b""), "");
    }

    #[test]
    fn no_address_leads_out_of_the_root() {
        let root = Path::new("/srv/site");
        assert_eq!(place(root, "/a/b.html"), Some("/srv/site/a/b.html".into()));
        assert_eq!(place(root, "/a/../b"), Some("/srv/site/b".into()));
        assert_eq!(place(root, "/%2e%2e/x"), None);
        assert_eq!(place(root, "/..%2f..%2fetc/passwd"), None);
        assert_eq!(place(root, "/a%00b"), None);
        assert_eq!(place(root, "/%zz%4"), Some("/srv/site/%zz%4".into()));
    }

    #[test]
    fn authentication_without_a_password_lets_nobody_in() {
        let settings = variables(&[("PM2_SERVE_BASIC_AUTH", "true")]);
        assert!(!may_enter(&settings, &Request::new(Body::empty())));
        let open = variables(&[]);
        assert!(may_enter(&open, &Request::new(Body::empty())));
    }

    #[test]
    fn the_right_password_lets_in() {
        let settings = variables(&[
            ("PM2_SERVE_BASIC_AUTH", "true"),
            ("PM2_SERVE_BASIC_AUTH_USERNAME", "u"),
            ("PM2_SERVE_BASIC_AUTH_PASSWORD", "p"),
        ]);
        let with = |value: &'static str| {
            let mut request = Request::new(Body::empty());
            request
                .headers_mut()
                .insert(header::AUTHORIZATION, HeaderValue::from_static(value));
            may_enter(&settings, &request)
        };
        assert!(with("Basic dTpw"));
        assert!(!with("Basic dTpx"));
        assert!(!with("Basic dTp"));
        assert!(!with(""));
    }

    #[test]
    fn an_address_of_version_6_gets_brackets() {
        let settings = variables(&[("PM2_SERVE_HOST", "::1"), ("PM2_SERVE_PORT", "81")]);
        assert_eq!(settings.address, "[::1]:81");
        assert_eq!(variables(&[]).address, "0.0.0.0:8080");
    }
}
