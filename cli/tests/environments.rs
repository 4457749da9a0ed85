//! `swell` as a process against a scripted coordinator: a release that is waited for through its environments, and
//! a policy that leaves hosts.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod server;

use std::fs;
use std::process::Output;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use groundswell_common::manifest::{Manifest, Source};
use groundswell_common::trust::{Document as _, Envelope};
use serde_json::{Value, json};
use server::{Asked, Server};

const SOAKS: &str = "production: 1.0.0 soaks in staging until 2026-12-01T10:00:00.000Z";

fn told(output: &Output) -> (i32, String) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap_or(-1), text)
}

fn summary(id: &str, environment: &str, release: &str) -> Value {
    let counts = json!({"hosts": 1, "pending": 0, "staging": 0, "in_flight": 0, "committed": 1,
        "failed": 0, "reverted": 0, "reverting": 0, "held": 0, "absent": 0, "excluded": 0});
    json!({"rollout": id, "service": "shop", "release": release, "version": "1.0.0",
        "environment": environment, "phase": "done", "outcome": "completed", "why": null,
        "plan": "00".repeat(32), "started": 0, "changed": 0, "wave": 0, "counts": counts})
}

/// A coordinator by which a release goes from staging to production once it was asked for `asks` times; where
/// `replaced`, another one takes its place in staging first.
fn onward(asks: u64, replaced: bool) -> impl Fn(&Asked) -> (u16, String) + Send + Sync {
    let (release, asked_for) = (Mutex::new("00".repeat(32)), AtomicU64::new(0));
    move |asked: &Asked| {
        let id = release.lock().unwrap().clone();
        let route: Vec<&str> = asked.route.split(' ').collect();
        let page =
            |rollout| json!({"rollout": rollout, "waves": [], "why": [], "ask": null, "hosts": []});
        let events = |page: Value| (200, format!("data: {page}\n\n: beat\n\n"));
        match route.as_slice() {
            ["GET", "/v1/services/shop"] => {
                let proven = if replaced { "11".repeat(32) } else { id };
                let lane =
                    |name, proven| json!({"environment": name, "proven": proven, "rollout": null});
                let service = json!({"service": "shop", "has_policy": true, "newest": null, "proven": null,
                    "rollout": null, "waits": [SOAKS],
                    "environments": [lane("staging", json!(proven)), lane("production", json!(null))]});
                let page = json!({"service": service, "policy": null, "next_seq": 1, "releases": [],
                    "running": [], "rollout": null});
                (200, page.to_string())
            }
            ["HEAD", _] => (200, String::new()),
            ["POST", "/v1/releases"] => {
                let envelope = Envelope::from_json(&asked.body, Manifest::MAX_BYTES).unwrap();
                *release.lock().unwrap() = envelope.digest().to_string();
                let answer = json!({"release": envelope.digest(), "service": "shop", "version": "1.0.0",
                    "seq": 1, "existing": false, "rollout": "shop-2", "waiting": null});
                (201, answer.to_string())
            }
            ["GET", "/v1/rollouts/shop-2/watch"] => events(page(summary("shop-2", "staging", &id))),
            ["GET", "/v1/rollouts/shop-3/watch"] => {
                events(page(summary("shop-3", "production", &id)))
            }
            ["GET", path] if *path == format!("/v1/releases/{id}") => {
                let gone_on = asked_for.fetch_add(1, Ordering::Relaxed) >= asks;
                let mut rollouts = vec![summary("shop-2", "staging", &id)];
                rollouts.splice(0..0, gone_on.then(|| summary("shop-3", "production", &id)));
                let lane = |name| json!({"environment": name, "state": "available", "why": null});
                let found = json!({"release": id, "service": "shop", "version": "1.0.0", "seq": 1,
                    "tree": "00".repeat(32), "bytes": 1, "files": 1, "one_way": false, "published": 0,
                    "by": null, "state": "proven", "why": null,
                    "environments": [lane("staging"), lane("production")]});
                let page = json!({"release": found, "source": Source::default(), "signers": [], "rollouts": rollouts});
                (200, page.to_string())
            }
            other => panic!("{other:?} is not expected"),
        }
    }
}

/// Publishes and waits.
fn publish(server: &Server, more: &[&str]) -> (i32, String) {
    let tree = server.dir().join("dist");
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("shop"), "shop").unwrap();
    let description = "[release]\nservice = \"shop\"\nfiles_only = true\n";
    fs::write(tree.join("groundswell.toml"), description).unwrap();
    let tree = tree.to_string_lossy();
    let first = ["publish", "--version", "1.0.0", "--wait", "--commit", "abc", tree.as_ref()];
    told(&server.swell(&[&first, more].concat()))
}

#[test]
fn a_wait_ends_with_the_first_environment_and_says_what_comes_next() {
    let server = Server::start(onward(9, false));
    let (code, text) = publish(&server, &[]);
    assert_eq!(code, 0, "{text}");
    assert!(text.ends_with(&format!("next: {SOAKS}\n")), "{text}");
    let server = Server::start(onward(0, false));
    let (code, text) = publish(&server, &[]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("next: rollout shop-3 in production; swell watch shop-3\n"), "{text}");
    assert!(!server.routes().iter().any(|route| route.ends_with("shop-3/watch")));
}

#[test]
fn a_wait_for_an_environment_goes_through_those_before() {
    let server = Server::start(onward(1, false));
    let (code, text) = publish(&server, &["--wait-for", "production"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(&format!("waits: {SOAKS}\n")), "{text}");
    assert!(text.contains("shop 1.0.0 in production (shop-3) completed"), "{text}");
    // One that never comes is waited for until the time is over.
    let server = Server::start(onward(99, false));
    let (code, text) = publish(&server, &["--wait-for", "production", "--timeout", "3"]);
    assert_eq!(code, 6, "{text}");
    assert_eq!(text.matches("waits: ").count(), 1, "said once: {text}");
    assert!(text.ends_with("has not reached production in time; it goes on\n"), "{text}");
}

#[test]
fn a_wait_for_an_environment_ends_where_the_release_goes_no_further() {
    let server = Server::start(onward(9, true));
    let (code, text) = publish(&server, &["--wait-for", "production"]);
    assert_eq!(code, 3, "{text}");
    let want = "shop 1.0.0 goes no further: it is not what new hosts get in staging any more\n";
    assert!(text.ends_with(want), "{text}");
    let server = Server::start(onward(9, false));
    let (code, text) = publish(&server, &["--wait-for", "prodcution"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("its policy names staging, production; nothing was published"), "{text}");
    assert!(!server.routes().iter().any(|route| route.starts_with("POST")));
}

#[test]
fn a_policy_that_leaves_hosts_is_applied_only_where_somebody_says_yes() {
    let left = "2 hosts in environment staging, which the policy does not name, run shop: s1, s2";
    let server = Server::start(move |asked| match asked.route.as_str() {
        "PUT /v1/services/shop/policy" => {
            let error =
                json!({"error": {"code": "leaves_hosts", "message": left, "hint": "add --yes"}});
            (409, error.to_string())
        }
        "PUT /v1/services/shop/policy?leave=true" => {
            let answer = json!({"service": "shop", "changed": true, "plan": null, "rollout": null});
            (200, answer.to_string())
        }
        _ => (404, String::new()),
    });
    let file = server.dir().join("shop.toml");
    fs::write(&file, "service = \"shop\"\ntargets = \"*\"\n[[wave]]\nrest = true\n").unwrap();
    let file = file.to_str().unwrap();
    let (code, text) = told(&server.swell(&["service", "apply", file]));
    assert_eq!(code, 2, "{text}");
    assert!(text.contains(left) && text.contains("add --yes"), "{text}");
    assert!(!server.routes().iter().any(|route| route.ends_with("leave=true")));
    let (code, text) = told(&server.swell(&["service", "apply", "--yes", file]));
    assert_eq!(code, 0, "{text}");
}
