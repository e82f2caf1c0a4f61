//! Schemathesis, made for this: it reads the description of the API, sends what it allows and what it does not, and
//! holds every answer to it.

use std::process::Command;

use upkeep_e2e::{app, apply};
use upkeep_testkit::{Home, python};

use crate::{listening, token};

#[test]
fn schemathesis_finds_nothing() {
    let tool = python::schemathesis().expect("schemathesis from the Python registry");
    let home = Home::new();
    apply(&home, &[app(&home, "shop", &["wait"])]);
    let url = listening(&home);
    let admin = token(&home, "admin", &["--role", "admin"]);
    // Streams do not end, answers with a choice of fields are not whole, and names at random are the names of nothing.
    home.write(
        "hooks.py",
        "import schemathesis\n\n\
         @schemathesis.hook\n\
         def filter_case(context, case):\n    \
         return not {'follow', 'fields'} & set(case.query or {})\n\n\
         @schemathesis.hook\n\
         def map_path_parameters(context, path_parameters):\n    \
         return {**path_parameters, 'name': 'shop'} if 'name' in (path_parameters or {}) else path_parameters\n",
    );
    let mut command = Command::new("python3");
    command
        .args(["-m", "schemathesis.cli", "run"])
        .arg(format!("{url}/v1/openapi.json"))
        .args(["--header", &format!("Authorization: Bearer {admin}")])
        .args(["--phases", "coverage,fuzzing", "--mode", "all"])
        .args(["--max-examples", "8", "--seed", "7", "--request-timeout", "20"])
        .args(["--generation-deterministic", "--suppress-health-check", "all"])
        // What ends the daemon, replaces its program, listens or goes elsewhere would end the run; streams do not end.
        .args(["--exclude-path-regex", "^/v1/config/watch$|^/v1/config/migrate$|^/v1/daemon/|^/v1/settings$|^/metrics$"])
        .args([
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,unsupported_method",
        ])
        .env("PYTHONPATH", tool)
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("NO_COLOR", "1")
        .current_dir(home.work())
        .stdin(std::process::Stdio::null());
    let output = home.finish(command, std::time::Duration::from_secs(100));
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
}
