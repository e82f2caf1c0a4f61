//! `docs/pictures`: the terminal screen as a terminal drew it, and the web client as a browser did.
//!
//! A real `upkeep monit` runs in tmux over a real daemon with a few apps; what tmux has on its screen, colours and all,
//! is written down as SVG. It is done by hand when the screen has changed, and not compared in CI: figures move.

use std::{fs, time::Duration};

use anyhow::Context as _;
use upkeep_testkit::{Home, Screen, pass};

use crate::shell;

/// A small shop: something that is busy, something that leaks, something that breaks.
const APPS: &str = r#"
apps:
  - name: shop
    command: sh -c 'i=0; while :; do i=$((i+1)); echo "GET /cart/$i 200 $((i % 17))ms"; sleep 0.2; done'
    instances: 3
  - name: worker
    command: |
      python3 -c 'import itertools, time
      kept = []
      for n in itertools.count():
          kept.append(bytes(1 << 18))
          sum(range(30000 * (n % 25)))
          print("resized picture", n, flush=True)
          time.sleep(0.2)'
  - name: mailer
    command: sh -c 'echo "connecting to smtp"; sleep 2; echo "connection refused" >&2; exit 3'
    restart: {on: failure, backoff: {min: 2s, max: 20s}}
  - name: search
    command: sleep 100000
    limits: {memory: 512M}
  - name: report
    command: date
    schedule: {cron: "0 3 * * *"}
"#;

/// So long figures gather.
const GATHER: Duration = Duration::from_secs(90);

pub(crate) fn run() -> anyhow::Result<()> {
    let mut build = shell::cargo();
    shell::run(build.args(["build", "--package", "upkeep"]))?;
    let home = Home::new();
    home.write("upkeep.yaml", APPS);
    home.ok(["apply", "upkeep.yaml"]);
    let screen = Screen::start(&home, &["monit"], (100, 28), &[("LANG", "C.UTF-8")]);
    screen.wait_for("worker");
    pass(GATHER);
    let folder = shell::root().join("docs/pictures");
    fs::create_dir_all(&folder)?;
    let take = |name: &str| -> anyhow::Result<()> {
        // A picture or two after the key.
        pass(Duration::from_secs(3));
        let path = folder.join(format!("{name}.svg"));
        let svg = anstyle_svg::Term::new().render_svg(&screen.styled());
        fs::write(&path, svg).with_context(|| format!("failed to write `{}`", path.display()))?;
        println!("docs/pictures/{name}.svg");
        Ok(())
    };
    screen.type_text("/worker");
    screen.keys(&["Enter"]);
    take("monit")?;
    screen.keys(&["d"]);
    screen.keys(&["-"]);
    take("monit-detail")?;
    drop(screen);
    drop(home);
    // The test that looks at every view draws them as it goes.
    let mut views = shell::cargo();
    views
        .args([
            "nextest",
            "run",
            "--package",
            "upkeep-e2e",
            "--test",
            "web",
            "every_view",
        ])
        .env("UPKEEP_PICTURES", &folder);
    shell::run(&mut views)
}
