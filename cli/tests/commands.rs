//! `swell` as a process against a scripted coordinator: exit codes, errors with their hints, JSON as the
//! API gave it, publishing, following, and the check of the ledger.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod server;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;
use std::sync::atomic::{AtomicU64, Ordering};

use groundswell_common::Digest;
use groundswell_common::manifest::{Manifest, Source};
use groundswell_common::trust::{Document as _, Envelope};
use serde_json::{Value, json};
use server::{Asked, Server, swell};

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn refusal(status: u16, code: &str) -> (u16, String) {
    let error = json!({"error": {"code": code, "message": "no", "hint": "ask the admin"}});
    (status, error.to_string())
}

/// A rollout's page in a phase, as the API gives it.
fn page(phase: &str, outcome: Option<&str>) -> Value {
    let counts = json!({"hosts": 4, "pending": 0, "staging": 0, "in_flight": 1, "committed": 3,
        "failed": 0, "reverted": 0, "reverting": 0, "held": 0, "absent": 0, "excluded": 0});
    json!({
        "rollout": {"rollout": "shop-2", "service": "shop", "release": "00".repeat(32),
            "version": "1.1.0", "phase": phase, "outcome": outcome, "why": null,
            "plan": "00".repeat(32), "started": 0, "changed": 0, "wave": 0, "counts": counts},
        "waves": [{"name": "canary", "counts": counts, "failure_budget": 0, "approvals": 0}],
        "why": [], "ask": null, "hosts": []
    })
}

fn events(pages: &[Value]) -> String {
    pages.iter().map(|page| format!("data: {page}\n\n")).collect::<String>() + ": beat\n\n"
}

#[test]
fn a_wrong_command_line_is_2_and_no_profile_is_1() {
    assert_eq!(code(&swell(&["rollout", "frob"])), 2);
    let output = swell(&["status"]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).starts_with("swell: failed to find a profile: give --profile FILE"));
    let output = swell(&["--profile", "/nowhere", "status"]);
    assert!(err(&output).contains("failed to read the profile /nowhere"), "{}", err(&output));
    let help = out(&swell(&["--help"]));
    assert!(help.contains("Exit codes: 0 done, 1 failed"), "{help}");
}

#[test]
fn a_coordinator_that_does_not_listen_is_4() {
    let server = Server::start(|_| (200, String::new()));
    let text = fs::read_to_string(server.profile()).unwrap();
    let mut profile: Value = serde_json::from_str(&text).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    profile["api"] = json!(listener.local_addr().unwrap().to_string());
    drop(listener);
    fs::write(server.profile(), profile.to_string()).unwrap();
    let output = server.swell(&["status"]);
    assert_eq!(code(&output), 4, "{}", err(&output));
    assert!(err(&output).contains("failed to connect to the coordinator at 127.0.0.1:"));
}

#[test]
fn refusals_have_their_codes_and_hints() {
    for (status, want) in [(401, 5), (403, 5), (404, 1), (409, 1), (422, 1), (503, 1)] {
        let server = Server::start(move |_| refusal(status, "the_code"));
        let output = server.swell(&["host", "ls"]);
        assert_eq!(code(&output), want, "{status}");
        assert_eq!(err(&output), "swell: no [the_code]\n  hint: ask the admin\n");
        assert_eq!(out(&output), "");
    }
    let server = Server::start(|_| (502, "<html>".into()));
    let output = server.swell(&["status"]);
    assert!(err(&output).contains("answers 502"), "{}", err(&output));
    let server = Server::start(|_| (200, "<html>".into()));
    assert_eq!(code(&server.swell(&["status"])), 1);
}

#[test]
fn json_is_the_api_s_own_on_one_line() {
    let hosts = json!({"hosts": [{"id": "0".repeat(32), "name": "web-1", "labels": {"role": "web"},
        "environment": "production", "connected": true, "last_seen": 7, "agent_version": null, "notes": [],
        "services": []}]});
    let answer = hosts.to_string();
    let server = Server::start(move |_| (200, answer.clone()));
    let output = server.swell(&["--json", "host", "ls", "--selector", "role in (web, db)"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(out(&output).lines().count(), 1);
    assert_eq!(serde_json::from_str::<Value>(&out(&output)).unwrap(), hosts);
    assert_eq!(server.routes(), ["GET /v1/hosts?selector=role%20in%20%28web%2C%20db%29"]);
    let table = out(&server.swell(&["host", "ls"]));
    assert!(table.starts_with("HOST   LINK  SERVICE"), "{table}");
    assert!(table.contains("web-1  up    -"), "{table}");
}

#[test]
fn destructive_verbs_without_a_terminal_want_yes_and_do_nothing() {
    let server = Server::start(|_| refusal(404, "not_found"));
    for args in [
        ["revert", "shop"].as_slice(),
        &["rollback", "shop"],
        &["rollout", "revert", "shop-1"],
        &["rollout", "abort", "shop-1"],
        &["host", "remove", "web-1"],
    ] {
        let output = server.swell(args);
        assert_eq!(code(&output), 2, "{args:?}: {}", err(&output));
        assert!(err(&output).contains("add --yes"), "{args:?}: {}", err(&output));
    }
    assert_eq!(server.routes(), [""; 0], "nothing was asked of the coordinator");
    server.swell(&["revert", "shop", "--yes", "--why", "too slow"]);
    server.swell(&["halt", "shop"]);
    server.swell(&["revert", "shop", "--to", "1.0.0", "--yes"]);
    server.swell(&["revert", "shop", "--stop", "--yes"]);
    let revert = "POST /v1/services/shop/revert";
    let halts = ["POST /v1/services/shop/halt", "POST /v1/rollouts/shop/halt"];
    // Before each the coordinator is asked what it would do, for the person who reads along.
    let asks = "GET /v1/services/shop/revert";
    let to = "GET /v1/services/shop/revert?to=1.0.0";
    assert_eq!(server.routes(), [asks, revert, halts[0], halts[1], to, revert, asks, revert]);
    let body = |at: usize| serde_json::from_slice::<Value>(&server.asked()[at].body).unwrap();
    assert_eq!(body(1), json!({"why": "too slow"}));
    assert_eq!(body(5), json!({"why": "swell revert", "to": "1.0.0"}));
    assert_eq!(body(7), json!({"why": "swell revert", "stop": true}));
}

#[test]
fn watching_ends_as_the_rollout_ends() {
    for (outcome, want) in [("completed", 0), ("reverted", 3), ("aborted", 3), ("superseded", 3)] {
        let stream =
            events(&[page("running", None), page("baking", None), page("done", Some(outcome))]);
        let server = Server::start(move |_| (200, stream.clone()));
        let output = server.swell(&["--json", "rollout", "watch", "shop-2"]);
        assert_eq!(code(&output), want, "{outcome}: {}", err(&output));
        let lines: Vec<Value> =
            out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3, "one object a change");
        assert_eq!(lines[2], page("done", Some(outcome)));
    }
}

#[test]
fn watching_is_6_when_the_time_is_over_and_a_broken_stream_is_opened_again() {
    let stream = events(&[page("running", None)]);
    let server = Server::start(move |_| (200, stream.clone()));
    let output = server.swell(&["rollout", "watch", "shop-2", "--timeout", "2"]);
    assert_eq!(code(&output), 6, "{}", err(&output));
    let text = err(&output);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "the same state again is not told again: {text}");
    let (moment, line) = lines[0].split_once(' ').unwrap();
    assert!(moment.ends_with('Z') && moment.contains('T'), "a log has moments: {text}");
    assert_eq!(
        line,
        "shop 1.1.0 (shop-2) running, wave 1 of 1 (canary): 3 of 4 committed, 1 in flight"
    );
    assert_eq!(lines[1], "shop-2 is not over after 2 s; it goes on");
    assert!(server.routes().len() > 1, "{:?}", server.routes());
    let server = Server::start(|_| refusal(403, "role"));
    assert_eq!(code(&server.swell(&["rollout", "watch", "shop-2"])), 5);
}

fn tree(server: &Server) -> String {
    let tree = server.dir().join("dist");
    fs::create_dir_all(tree.join("bin")).unwrap();
    fs::write(tree.join("bin/shop"), "shop").unwrap();
    fs::set_permissions(tree.join("bin/shop"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(tree.join("groundswell.toml"), DESCRIPTION).unwrap();
    tree.to_string_lossy().into_owned()
}

const DESCRIPTION: &str = "[release]\nservice = \"shop\"\ncommand = [\"bin/shop\"]\n";

/// Numbers that other publishers are faster to take.
const TAKEN: u64 = 7;

/// What a coordinator answers to a publisher.
fn publishing(has_blob: bool, end: Value) -> impl Fn(&Asked) -> (u16, String) + Send + Sync {
    let tries = AtomicU64::new(0);
    move |asked| match asked.route.split(' ').collect::<Vec<_>>().as_slice() {
        ["GET", "/v1/services/shop"] => {
            let seq = 1 + tries.fetch_add(1, Ordering::Relaxed);
            let service = json!({"service": "shop", "has_policy": true, "newest": null,
                "proven": null, "rollout": null});
            let page = json!({"service": service, "policy": null, "next_seq": seq, "releases": [],
                "running": [], "rollout": null});
            (200, page.to_string())
        }
        ["HEAD", _] => (if has_blob { 200 } else { 404 }, String::new()),
        ["PUT", _] => (201, String::new()),
        ["POST", "/v1/releases"] => {
            let envelope = Envelope::from_json(&asked.body, Manifest::MAX_BYTES).unwrap();
            let manifest: Value = serde_json::from_slice(&envelope.payload).unwrap();
            if manifest["seq"].as_u64().unwrap() <= TAKEN {
                return refusal(409, "seq_taken");
            }
            let answer = json!({"release": envelope.digest(), "service": "shop",
                "version": "1.0.0", "seq": TAKEN + 1, "existing": false, "rollout": "shop-2",
                "waiting": null});
            (201, answer.to_string())
        }
        ["GET", "/v1/rollouts/shop-2/watch"] => (200, events(std::slice::from_ref(&end))),
        ["GET", "/v1/rollouts/shop-2"] => {
            let why = "probe tcp: refused; its last output:\nparse error on line 5\n";
            let mut page = end.clone();
            page["hosts"] = json!([
                {"name": "web-1", "wave": 0, "progress": "committed", "why": null},
                {"name": "web-2", "wave": 0, "progress": "reverted", "why": why},
            ]);
            (200, page.to_string())
        }
        other => panic!("{other:?} is not expected"),
    }
}

#[test]
fn publishing_uploads_what_is_missing_and_signs_the_manifest() {
    let server = Server::start(publishing(false, page("done", Some("completed"))));
    let tree = tree(&server);
    let output = server.swell(&["publish", "--version", "1.0.0", "--wait", &tree]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).contains("shop 1.0.0 is published"), "{}", out(&output));
    let asked = server.asked();
    let put = asked.iter().find(|asked| asked.route.starts_with("PUT ")).unwrap();
    assert_eq!(put.route, format!("PUT /v1/blobs/{}", Digest::of(&put.body)));
    let posts: Vec<&Asked> = asked.iter().filter(|a| a.route == "POST /v1/releases").collect();
    assert_eq!(posts.len() as u64, TAKEN + 1, "a number that was taken is asked for again");
    let envelope = Envelope::from_json(&posts.last().unwrap().body, Manifest::MAX_BYTES).unwrap();
    assert_eq!(envelope.signatures.len(), 1);
    let manifest = Manifest::check(serde_json::from_slice(&envelope.payload).unwrap()).unwrap();
    assert_eq!((manifest.seq, manifest.files.len()), (TAKEN + 1, 1));
    assert_eq!(manifest.full_blob().sha256, Digest::of(&put.body));
}

#[test]
fn a_blob_that_is_there_is_not_sent_and_a_revert_is_3() {
    let server = Server::start(publishing(true, page("done", Some("reverted"))));
    let tree = tree(&server);
    let output = server.swell(&["publish", "--version", "1.0.0", "--wait", &tree]);
    assert_eq!(code(&output), 3, "{}", err(&output));
    assert!(!server.routes().iter().any(|route| route.starts_with("PUT ")));
    let want = "\n  web-2 reverted: probe tcp: refused; it said last: parse error on line 5\n";
    assert!(err(&output).ends_with(want), "the job's log names host and cause: {}", err(&output));
    assert!(!err(&output).contains("web-1"), "{}", err(&output));
}

#[test]
fn a_halt_that_no_revert_follows_ends_a_job_and_a_gate_is_waited_for() {
    let server = Server::start(publishing(true, page("halted", None)));
    let tree_path = tree(&server);
    let output = server.swell(&["publish", "--version", "1.0.0", "--wait", &tree_path]);
    assert_eq!(code(&output), 3, "{}", err(&output));
    let server = Server::start(publishing(true, page("gated", None)));
    let tree_path = tree(&server);
    let args = ["publish", "--version", "1.0.0", "--wait", "--timeout", "2", &tree_path];
    assert_eq!(code(&server.swell(&args)), 6);
}

#[test]
fn a_release_behind_another_rollout_is_waited_for_and_then_followed() {
    let base = publishing(true, page("done", Some("completed")));
    let asks = AtomicU64::new(0);
    let server = Server::start(move |asked| {
        let (status, body) = match asked.route.split_once(" /v1/releases/") {
            None => base(asked),
            Some(_) => {
                let turn = asks.fetch_add(1, Ordering::Relaxed) > 0;
                let its = page("done", None)["rollout"].clone();
                let release = json!({"release": "00".repeat(32), "service": "shop", "version": "1.0.0",
                    "seq": TAKEN + 1, "tree": "00".repeat(32), "bytes": 1, "files": 1, "one_way": false,
                    "published": 0, "by": null, "state": "available", "why": null});
                let rollouts: Vec<Value> = turn.then_some(its).into_iter().collect();
                let page = json!({"release": release, "source": Source::default(), "signers": [],
                    "rollouts": rollouts});
                (200, page.to_string())
            }
        };
        if asked.route != "POST /v1/releases" || status != 201 {
            return (status, body);
        }
        let mut answer: Value = serde_json::from_str(&body).unwrap();
        (answer["rollout"], answer["behind"]) = (Value::Null, json!("shop-1"));
        (status, answer.to_string())
    });
    let tree = tree(&server);
    let output = server.swell(&["publish", "--version", "1.0.0", "--wait", &tree]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(err(&output).contains("waits: rollout shop-1 comes first"), "{}", err(&output));
    assert!(server.routes().iter().any(|route| route == "GET /v1/rollouts/shop-2/watch"));
}

#[test]
fn a_dry_run_talks_to_nobody_and_a_bad_tree_is_named() {
    let server = Server::start(|_| refusal(500, "never"));
    let tree = tree(&server);
    let dry = ["--json", "publish", "--version", "1", "--dry-run", &tree];
    let output = server.swell(&dry);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let value: Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!((&value["files"], &value["bytes"]), (&json!(1), &json!(4)));
    assert_eq!((&value["service"], &value["version"]), (&json!("shop"), &json!("1")));
    let text = out(&server.swell(&["publish", "--version", "1", "--dry-run", &tree]));
    for want in ["shop 1\n", "runs bin/shop\n", "no probe", "1 files, 0 links", "nothing was pub"] {
        assert!(text.contains(want), "{want}: {text}");
    }
    std::os::unix::fs::symlink("/etc/passwd", format!("{tree}/bin/leak")).unwrap();
    let output = server.swell(&dry[1..]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("bin/leak: a link to \"/etc/passwd\""), "{}", err(&output));
    let bare = server.dir().to_string_lossy().into_owned();
    let output = server.swell(&["publish", "--version", "1", &bare]);
    assert_eq!(code(&output), 2, "no service is named anywhere");
    assert_eq!(server.routes(), [""; 0]);
}

#[test]
fn what_no_host_could_run_is_refused_before_anything_is_sent() {
    let server = Server::start(|_| refusal(500, "never"));
    let tree = tree(&server);
    let root = std::path::Path::new(&tree);
    let describe = |text: &str| fs::write(root.join("groundswell.toml"), text).unwrap();
    for dry in [true, false] {
        let refused = || {
            let args = ["publish", "--version", "1", tree.as_str(), "--dry-run"];
            let output = server.swell(&args[..if dry { 5 } else { 4 }]);
            assert_eq!(code(&output), 1, "{}", out(&output));
            err(&output)
        };
        describe("[release]\nservice = \"shop\"\n");
        assert!(refused().contains("it names neither units nor a command"), "{}", refused());
        describe(&DESCRIPTION.replace("bin/shop", "bin/shpo"));
        assert!(refused().contains("command \"bin/shpo\": it is no file of the tree"));
        describe(&format!("{DESCRIPTION}units = [\"x\"]\n"));
        assert!(refused().contains("a unit name must be NAME.service"), "{}", refused());
        describe(DESCRIPTION);
        fs::write(root.join("README"), "").unwrap();
        fs::write(root.join("readme"), "").unwrap();
        assert!(refused().contains("differ only in case or form"), "{}", refused());
        fs::remove_file(root.join("readme")).unwrap();
        fs::write(root.join("u\u{308}"), "").unwrap();
        assert!(
            refused().contains("is not in Unicode normal form C; rename the file"),
            "{}",
            refused()
        );
        fs::remove_file(root.join("u\u{308}")).unwrap();
    }
    assert_eq!(server.routes(), [""; 0]);
    describe("[release]\nservice = \"shop\"\nfiles_only = true\n");
    let output = server.swell(&["publish", "--version", "1", "--dry-run", &tree]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).contains("files only: nothing is started"), "{}", out(&output));
}

/// A coordinator that has the version already: its release page, and what runs.
fn again(
    state: &'static str,
    outcome: Option<&'static str>,
    runs: &'static str,
) -> impl Fn(&Asked) -> (u16, String) {
    let release = |version: &str, seq: u64| {
        let id = Digest::of(version.as_bytes());
        json!({"release": id, "service": "shop", "version": version, "seq": seq, "tree": id,
            "bytes": 1, "files": 1, "one_way": false, "published": 0, "by": null,
            "state": if version == "1.0.0" { state } else { "proven" },
            "why": (state == "poisoned").then_some("1 host of wave 1 failed")})
    };
    let old = release("1.0.0", 1);
    let running = json!([{"release": Digest::of(runs.as_bytes()), "version": runs, "hosts": 2}]);
    let service = json!({"service": "shop", "has_policy": true, "newest": null, "proven": null,
        "rollout": "shop-2"});
    let service = json!({"service": service, "policy": null, "next_seq": 3, "running": running,
        "releases": [release("1.1.0", 2), old], "rollout": null});
    move |asked| match asked.route.split(' ').collect::<Vec<_>>().as_slice() {
        ["HEAD", _] => (200, String::new()),
        ["POST", "/v1/releases"] => {
            let rollout = outcome.map(|_| "shop-2");
            let answer = json!({"release": old["release"], "service": "shop", "version": "1.0.0",
                "seq": 1, "existing": true, "rollout": rollout, "waiting": null});
            (200, answer.to_string())
        }
        ["GET", "/v1/services/shop"] => (200, service.to_string()),
        ["GET", route] if route.starts_with("/v1/releases/") => {
            let rollouts: Vec<Value> =
                outcome.map(|o| page("done", Some(o))["rollout"].clone()).into_iter().collect();
            let source = json!({"commit": null, "commit_time": null, "authors": [], "commits": [],
                "build_url": null, "notes": null});
            let page =
                json!({"release": old, "source": source, "signers": [], "rollouts": rollouts});
            (200, page.to_string())
        }
        other => panic!("{other:?} is not expected"),
    }
}

#[test]
fn a_version_that_is_published_again_says_what_became_of_it() {
    let cases = [
        ("poisoned", Some("reverted"), 3, "swell release clear shop@1.0.0 --why"),
        ("available", Some("reverted"), 3, "rollout shop-2 of shop 1.0.0 went back"),
        ("proven", None, 3, "to go back: swell revert shop --to 1.0.0"),
        ("proven", Some("completed"), 0, ""),
    ];
    for (state, outcome, want, text) in cases {
        let server = Server::start(again(state, outcome, "1.1.0"));
        let tree = tree(&server);
        let output = server.swell(&["publish", "--version", "1.0.0", &tree]);
        assert_eq!(code(&output), want, "{state}: {}", err(&output));
        assert!(err(&output).contains(text), "{state}: {}", err(&output));
        assert!(out(&output).starts_with("shop 1.0.0 was published before"), "{}", out(&output));
    }
    // A job that runs again is done where its release runs.
    let server = Server::start(again("available", None, "1.0.0"));
    let tree = tree(&server);
    let output = server.swell(&["publish", "--version", "1.0.0", "--wait", &tree]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(err(&output).contains("shop 1.0.0 runs on 2 hosts already"), "{}", err(&output));
}

#[test]
fn a_slip_in_what_is_published_is_named() {
    let server = Server::start(|_| refusal(404, "not_found"));
    let tree = tree(&server);
    for (args, want) in [
        (["--service", "shopp", &tree], "--service says shopp, the release's description shop"),
        (["--service", "shop", "./nodir"], "publish ./nodir: there is no such directory"),
    ] {
        let output = server.swell(&[&["publish", "--version", "1.0.0"], &args[..]].concat());
        assert_eq!(code(&output), 2, "{}", err(&output));
        assert!(err(&output).contains(want), "{}", err(&output));
    }
    assert_eq!(server.routes(), [""; 0]);
}

#[test]
fn a_coordinator_that_restarts_ends_no_job() {
    let asked = AtomicU64::new(0);
    let server = Server::start(move |request| {
        if request.route == "GET /v1/rollouts/shop-2" {
            return (200, page("done", None).to_string());
        }
        match asked.fetch_add(1, Ordering::Relaxed) {
            0 => (200, events(&[page("running", None)])),
            1..=3 => refusal(503, "stopping"),
            _ => (200, events(&[page("done", Some("completed"))])),
        }
    });
    let output = server.swell(&["watch", "shop-2"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let text = err(&output);
    assert_eq!(text.matches("the coordinator is away").count(), 1, "said once: {text}");
    assert_eq!(text.matches("the coordinator is back").count(), 1, "{text}");
}

#[test]
fn a_service_s_name_stands_for_its_newest_rollout() {
    let server = Server::start(|asked| match asked.route.as_str() {
        "GET /v1/rollouts?service=shop" => {
            (200, json!({"rollouts": [page("running", None)["rollout"]]}).to_string())
        }
        "GET /v1/rollouts?service=web-2" => (200, json!({"rollouts": []}).to_string()),
        "GET /v1/rollouts/shop-2" => (200, page("running", None).to_string()),
        "POST /v1/rollouts/shop-2/pause" | "POST /v1/rollouts/shop-2/steer" => {
            let answer = json!({"rollout": page("paused", None)["rollout"], "halt_ms": 1,
                "in_flight": 1, "hosts": ["web-1"]});
            (200, answer.to_string())
        }
        _ => refusal(404, "unknown_rollout"),
    });
    let output = server.swell(&["pause", "shop"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).contains("1 host had begun to switch before and will end it: web-1"));
    for args in [["show", "shop"], ["promote", "shop-2"], ["pause", "shop-2"]] {
        assert_eq!(code(&server.swell(&args)), 0, "{args:?}");
    }
    let output = server.swell(&["pause", "web-2"]);
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("no service of this name has a rollout"), "{}", err(&output));
}

/// The page's rollout under another name and in an environment.
fn rollout_in(id: &str, environment: &str, phase: &str) -> Value {
    let mut rollout = page(phase, None)["rollout"].clone();
    rollout["rollout"] = json!(id);
    rollout["environment"] = json!(environment);
    rollout
}

#[test]
fn with_two_environments_nothing_is_guessed_and_each_line_names_its_own() {
    let both =
        [rollout_in("shop-3", "staging", "running"), rollout_in("shop-2", "production", "baking")];
    let server = Server::start(move |asked| match asked.route.as_str() {
        "GET /v1/rollouts?service=shop" | "GET /v1/rollouts" => {
            (200, json!({"rollouts": both}).to_string())
        }
        "POST /v1/services/shop/halt" => {
            let answer = json!({"rollout": both[1], "halt_ms": 1, "in_flight": 0, "hosts": [],
                "others": [both[0]]});
            (200, answer.to_string())
        }
        "GET /v1/services/shop/revert?to=1.0&environment=production" => {
            let preview = json!({"service": "shop", "environment": "production", "from": "1.1",
                "to": "1.0", "hosts": 2, "stops": 0});
            (200, preview.to_string())
        }
        "POST /v1/services/shop/revert" => {
            let body: Value = serde_json::from_slice(&asked.body).unwrap();
            assert_eq!((&body["environment"], &body["to"]), (&json!("production"), &json!("1.0")));
            (200, json!({"rollout": both[1], "answered_ms": 3}).to_string())
        }
        _ => refusal(404, "unknown_rollout"),
    });
    let output = server.swell(&["pause", "shop"]);
    assert_eq!(code(&output), 2);
    let text = err(&output);
    assert!(
        text.contains("under way: shop-3 in staging, shop-2 in production; name one"),
        "{text}"
    );
    let output = server.swell(&["halt", "shop"]);
    let text = out(&output);
    assert!(text.starts_with("halt: shop-2 (shop 1.1.0 in production) is baking, "), "{text}");
    assert!(text.contains("; so is shop-3 (shop 1.1.0 in staging)\n"), "{text}");
    let text = out(&server.swell(&["rollout", "ls"]));
    assert!(text.starts_with("ROLLOUT  RELEASE     ENVIRONMENT  PHASE"), "{text}");
    assert!(text.contains("shop-2   shop@1.1.0  production   baking"), "{text}");
    let text = out(&server.swell(&["rollout", "ls", "--environment", "staging"]));
    assert!(text.contains("shop-3") && !text.contains("shop-2"), "{text}");
    let revert = ["revert", "shop", "--environment", "production", "--to", "1.0", "--yes"];
    let text = out(&server.swell(&revert));
    assert!(text.starts_with("revert of shop in production in force after 3 ms\n"), "{text}");
}

#[test]
fn a_start_skips_with_a_reason_or_waits_for_its_time_and_is_taken_back() {
    let server = Server::start(|asked| match asked.route.as_str() {
        "POST /v1/services/shop/rollout" => {
            let rollout = rollout_in("shop-4", "production", "running");
            (200, json!({"rollout": rollout}).to_string())
        }
        "POST /v1/services/shop/hold" => (200, json!({"waits": ["2.0 is held"]}).to_string()),
        "GET /v1/releases/shop@2.0" => {
            let release = json!({"release": "00".repeat(32), "service": "shop", "version": "2.0",
                "seq": 2, "tree": "00".repeat(32), "bytes": 1, "files": 1, "one_way": false,
                "published": 0, "by": null, "state": "available", "why": null});
            let page = json!({"release": release, "source": Source::default(), "signers": [], "rollouts": []});
            (200, page.to_string())
        }
        _ => refusal(404, "no_route"),
    });
    let start = ["rollout", "start", "shop", "2.0", "--environment", "production"];
    let skip = [&start[..], &["--skip", "--why", "orders fail"]].concat();
    let output = server.swell(&skip);
    let text = out(&output);
    assert_eq!(text.trim_end(), "rollout shop-4 of shop 1.1.0 in production; swell watch shop-4");
    assert_eq!(code(&server.swell(&[&start[..], &["--skip"]].concat())), 2, "without a reason");
    let at = [&start[..], &["--at", "2026-12-01T22:00+01:00"]].concat();
    assert_eq!(out(&server.swell(&at)).trim_end(), "shop waits: 2.0 is held");
    let cancel = ["release", "cancel", "shop@2.0", "--why", "not tonight"];
    let output = server.swell(&cancel);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let bodies: Vec<Value> = server
        .asked()
        .iter()
        .filter(|asked| asked.route.starts_with("POST"))
        .map(|asked| serde_json::from_slice(&asked.body).unwrap())
        .collect();
    assert_eq!(bodies[0]["skip"], "orders fail");
    assert_eq!((&bodies[1]["until"], &bodies[1]["skip"]), (&json!(1_796_158_800), &Value::Null));
    assert_eq!((&bodies[2]["until"], &bodies[2]["why"]), (&Value::Null, &json!("not tonight")));
    let hotfix = ["publish", "--version", "2.0", "--skip-to", "production", "--why", "it burns"];
    assert_eq!(code(&server.swell(&hotfix)), 2, "hotfixes alone may skip");
}

#[test]
fn errors_are_objects_where_programs_read() {
    let server = Server::start(|_| refusal(409, "the_code"));
    let told = |args: &[&str]| {
        let output = server.swell(args);
        let value: Value = serde_json::from_str(err(&output).trim()).unwrap();
        (code(&output), value["error"]["code"].as_str().unwrap().to_owned())
    };
    assert_eq!(told(&["--json", "status"]), (1, "the_code".into()));
    assert_eq!(told(&["--json", "host", "remove", "web-1"]), (2, "usage".into()));
    assert_eq!(told(&["--json", "frob"]), (2, "usage".into()));
    let output = server.swell(&["--verbose", "host", "ls"]);
    assert!(err(&output).starts_with("swell: failed to call /v1/hosts: no [the_code]"));
    let output = server.swell(&["logs", "shop"]);
    assert_eq!(code(&output), 2);
    let output = server.swell(&["retry", "shop-1", "--host", "web-1"]);
    assert!(err(&output).contains("tip: 'swell rollout retry'"), "{}", err(&output));
}

fn ledger(changed: Option<usize>) -> impl Fn(&Asked) -> (u16, String) + Send + Sync {
    let mut chain = Digest::from_bytes([0; 32]);
    let mut entries = Vec::new();
    for seq in 1..=5 {
        let payload = json!({"seq": seq, "at": 0, "by": "x", "what": "y"}).to_string();
        chain = Digest::of(&[chain.as_bytes(), payload.as_bytes()].concat());
        entries.push(json!({"seq": seq, "chain": chain, "payload": payload}));
    }
    if let Some(at) = changed {
        let payload = entries[at]["payload"].as_str().unwrap().replace('y', "z");
        entries[at]["payload"] = json!(payload);
    }
    let head = json!({"seq": 5, "chain": chain});
    move |asked| {
        if asked.route == "GET /v1/audit/head" {
            return (200, head.to_string());
        }
        // Two entries a page, so that several are asked for.
        let after = asked.route.split("after=").nth(1).unwrap().split('&').next().unwrap();
        let after: usize = after.parse().unwrap();
        let part: Vec<&Value> = entries.iter().skip(after).take(2).collect();
        (200, json!({"entries": part, "head": head}).to_string())
    }
}

#[test]
fn the_ledger_is_verified_page_by_page_and_the_first_bad_entry_named() {
    let server = Server::start(ledger(None));
    let output = server.swell(&["--json", "audit", "verify"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let proof: Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(proof["entries"], 5);
    let server = Server::start(ledger(Some(3)));
    let output = server.swell(&["audit", "verify"]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("entry 4 does not fit the chain"), "{}", err(&output));
}

#[test]
fn an_operator_gets_a_key_made_here_and_nothing_is_left_when_it_is_refused() {
    let server = Server::start(|asked| {
        let request: Value = serde_json::from_slice(&asked.body).unwrap();
        if request["name"] == "eve" {
            return refusal(403, "role");
        }
        (200, json!({"certificate_pem": "CERTIFICATE"}).to_string())
    });
    let path = server.dir().join("ci.profile");
    let add = |name: &str| {
        let output = path.to_string_lossy().into_owned();
        server.swell(&["operator", "add", name, "--role", "publisher", "--output", &output])
    };
    assert_eq!(code(&add("eve")), 5);
    assert!(!path.exists(), "no profile without a certificate");
    assert_eq!(code(&add("ci")), 0);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let profile: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(
        (&profile["name"], &profile["certificate_pem"]),
        (&json!("ci"), &json!("CERTIFICATE"))
    );
    let body: Value = serde_json::from_slice(&server.asked()[1].body).unwrap();
    assert_eq!(body["role"], "publisher");
    let pem = profile["key_pem"].as_str().unwrap();
    let key = groundswell_common::trust::SecretKey::from_pem(pem).unwrap();
    assert_eq!(body["key"], key.public().to_string(), "the public half was sent, the private kept");
    assert_eq!(code(&add("ci")), 1, "a profile that is there is not overwritten");
}

#[test]
fn a_new_service_has_a_policy_that_is_never_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shop.toml");
    let at = file.to_str().unwrap();
    let flags = ["--name", "shop", "--targets", "role=web", "--hosts", "400", "--approval", "yes"];
    let flags = [&["service", "new"], flags.as_slice(), &["--windows", "one"]].concat();
    let output = swell(&flags);
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("nobody answers; give --zone"), "{}", err(&output));
    let flags = [flags.as_slice(), &["--zone", "Europe/Berlin"]].concat();
    let printed = swell(&flags);
    assert_eq!(code(&printed), 0, "{}", err(&printed));
    let policy = groundswell_rollout::Policy::from_toml(&out(&printed)).unwrap();
    assert_eq!((policy.service.as_str(), policy.windows.len()), ("shop", 1));
    let written = [flags.as_slice(), &["--out", at]].concat();
    assert_eq!(code(&swell(&written)), 0);
    assert_eq!(fs::read_to_string(&file).unwrap(), out(&printed));
    fs::write(&file, "mine").unwrap();
    let refused = swell(&written);
    assert_eq!(code(&refused), 1);
    assert!(err(&refused).contains("give another file with --out"), "{}", err(&refused));
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}

const POLICY: &str = "service = \"shop\"\ntargets = \"role=web\"\non_breach = \"halt\"\n\
    [[wave]]\nname = \"canary\"\ncount = 1\n[[wave]]\nname = \"rest\"\nrest = true\n\
    gate = \"approval\"\n";

/// `swell simulate` with a policy of this text, from a moment that is given.
fn simulate(policy: &str, more: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shop.toml");
    fs::write(&file, policy).unwrap();
    let start = ["--start", "2026-11-23T10:00Z"];
    let args = ["simulate", "--policy", file.to_str().unwrap()];
    swell(&[&args, start.as_slice(), more].concat())
}

#[test]
fn a_rehearsal_shows_both_cases_and_needs_no_coordinator() {
    let dir = tempfile::tempdir().unwrap();
    let svg = dir.path().join("shop.svg");
    let more = ["--hosts", "400", "--approval-mins", "30", "--svg", svg.to_str().unwrap()];
    let output = simulate(POLICY, &more);
    assert_eq!((code(&output), err(&output)), (0, String::new()));
    let text = out(&output);
    assert!(
        text.starts_with("shop: 400 hosts in 2 waves, from 2026-11-23T10:00:00.000Z, seed 1\n")
    );
    let row = |name: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
        line.trim_start()[name.len()..].split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row("ended"), "finished halted");
    assert_eq!(row("hosts reached"), "400 1");
    assert_eq!(row("since the first switch"), "- 1 min");
    assert_eq!(row("left on the release"), "400 0");
    assert!(text.contains("\n! 1 host of wave 1 failed, its budget is 0\n"), "{text}");
    assert!(text.contains("for approvals: 1; opened after 30 min more\n"), "{text}");
    assert!(text.contains("\nassumed:\n- the fleet is made up; hosts: 400\n"), "{text}");
    let picture = fs::read_to_string(&svg).unwrap();
    assert!(picture.contains("2 rest</text>") && picture.ends_with("</svg>\n"));
    assert_eq!(picture.matches("<polyline").count(), 2, "one curve a case");
    assert_eq!(out(&simulate(POLICY, &more)), text, "the same question, the same answer");
}

#[test]
fn a_rehearsal_for_programs_is_one_object() {
    let more = ["--json", "--hosts", "300", "--failure-rate", "1%", "--bad-release"];
    let output = simulate(POLICY, &more);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(out(&output).lines().count(), 1);
    let answer: Value = serde_json::from_str(&out(&output)).unwrap();
    let cases = answer["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 1);
    let bad = &cases[0];
    assert_eq!((&bad["case"], &bad["end"]), (&json!("bad"), &json!("halted")));
    assert_eq!((&bad["reached"], &bad["stop"]["failures"]), (&json!(1), &json!(1)));
    assert_eq!(bad["waves"][1]["opened_secs"], Value::Null);
    let both = simulate(POLICY, &more[..5]);
    let both: Value = serde_json::from_str(&out(&both)).unwrap();
    assert_eq!(both["cases"][0]["failing"], json!(3));
    assert_eq!(both["cases"][1], *bad, "the bad case does not depend on the good one");
}

#[test]
fn a_rehearsal_takes_the_fleet_of_a_file() {
    let host = |number: u32, connected: bool| {
        json!({"id": format!("{number:032x}"), "name": format!("web-{number}"),
            "labels": {"role": "web"}, "environment": "production", "connected": connected,
            "last_seen": null, "agent_version": null, "services": []})
    };
    let hosts: Vec<Value> = (1..=8).map(|number| host(number, number != 5)).collect();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hosts.json");
    fs::write(&file, json!({"hosts": hosts}).to_string()).unwrap();
    let file = file.to_str().unwrap();
    let output = simulate(POLICY, &["--json", "--hosts-file", file]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let answer: Value = serde_json::from_str(&out(&output)).unwrap();
    let good = &answer["cases"][0];
    assert_eq!((&good["hosts"], &good["reached"]), (&json!(8), &json!(7)), "one is away");
    assert_eq!(err(&output), "");
    let typo = POLICY.replace("count = 1", "selector = \"role=wbe\"");
    let output = simulate(&typo, &["--hosts-file", file]);
    let want = "warning: wave canary: no host has role=wbe; did you mean role=web?\n";
    assert!(err(&output).starts_with(want), "{}", err(&output));
    let output = simulate(POLICY, &["--hosts-file", file, "--hosts", "3"]);
    assert_eq!(code(&output), 2, "one fleet or the other");
    fs::write(file, "[]").unwrap();
    let output = simulate(POLICY, &["--hosts-file", file]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("want what 'swell host ls --json' prints"), "{}", err(&output));
}

#[test]
fn a_typed_policy_is_compared_with_the_labels_of_the_fleet_that_is_reached() {
    let server = Server::start(|asked| match asked.route.as_str() {
        "GET /v1/hosts" => {
            let host = json!({"id": "0".repeat(32), "name": "web-1", "labels": {"role": "web"},
                "environment": "production", "connected": true, "last_seen": null,
                "agent_version": null, "services": []});
            (200, json!({"hosts": [host]}).to_string())
        }
        _ => refusal(409, "the_code"),
    });
    let file = server.dir().join("shop.toml");
    fs::write(&file, POLICY.replace("role=web", "role=wbe")).unwrap();
    let file = file.to_str().unwrap();
    let want = "warning: targets: no host has role=wbe; did you mean role=web?\n";
    let output = server.swell(&["simulate", "--policy", file, "--hosts", "4"]);
    assert_eq!((code(&output), err(&output).as_str()), (0, want));
    let output = server.swell(&["service", "apply", file]);
    assert!(err(&output).starts_with(want), "{}", err(&output));
}

#[test]
fn a_chart_of_few_hosts_has_a_line_for_each() {
    for (hosts, lines) in [("1", 2), ("3", 4), ("400", 9)] {
        let output = simulate(POLICY, &["--hosts", hosts]);
        let text = out(&output);
        let good = text.split("a bad release").next().unwrap();
        assert_eq!(good.matches('│').count() + good.matches('└').count(), lines, "{text}");
    }
}

#[test]
fn a_rehearsal_refuses_what_the_coordinator_refuses() {
    let refused = |policy: &str, more: &[&str]| {
        let output = simulate(policy, &[&["--hosts", "10"], more].concat());
        assert_eq!((code(&output), out(&output)), (1, String::new()));
        err(&output)
    };
    let text = refused("service = \"shop\"\ntargets = \"\"\n", &[]);
    assert!(text.starts_with("swell: failed to rehearse "), "{text}");
    assert!(text.contains("read the policy, line 2: targets is empty; write targets = "), "{text}");
    assert_eq!(text.matches("targets is empty").count(), 1, "{text}");
    let text = refused("service = \"shop\"\ntargets = \"*\"\nbake = 5\n", &[]);
    assert!(text.contains("line 3") && text.contains("unknown field `bake`"), "{text}");
    let hook = "service = \"shop\"\ntargets = \"*\"\n[[wave]]\nrest = true\ngate = \"webhook\"\n";
    let text = refused(hook, &[]);
    assert!(text.contains("line 3") && text.contains("needs webhook = "), "{text}");
    let text = refused(POLICY, &["--label", "role=db"]);
    assert!(text.contains("none of 10 hosts matches targets = \"role=web\""), "{text}");
    let text = refused(POLICY, &["--label", "site=a*11"]);
    assert!(text.contains("11 hosts are to have site=a, and 10 have no site yet"), "{text}");
}

#[test]
fn a_rehearsal_wants_numbers_that_can_be() {
    for more in [
        [].as_slice(),
        &["--hosts", "0"],
        &["--hosts", "100001"],
        &["--hosts", "9", "--failure-rate", "101%"],
        &["--hosts", "9", "--start", "tomorrow"],
        &["--hosts", "9", "--label", "role"],
        &["--hosts", "9", "--switch-secs", "0"],
    ] {
        assert_eq!(code(&simulate(POLICY, more)), 2, "{more:?}");
    }
}
