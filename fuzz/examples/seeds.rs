//! Writes the seed corpus, one folder a target, from real values: `cargo run --example seeds` in this folder.
//! The values are those of the tests; run it again when their form changes, and commit what it wrote.
#![expect(clippy::unwrap_used, reason = "fixed values that parse")]

#[path = "../../common/tests/outside/samples.rs"]
mod samples;

use std::fs;
use std::io::Cursor;
use std::path::Path;

use groundswell_common::Digest;
use groundswell_common::bundle::BundleWriter;
use groundswell_common::codec::to_frame;
use groundswell_common::directive::Directive;
use groundswell_common::manifest::Manifest;
use groundswell_common::token::Token;
use groundswell_common::trust::{Approval, Root};
use serde::Serialize;

fn seed(target: &str, name: &str, bytes: impl AsRef<[u8]>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), bytes).unwrap();
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

/// A message without its version byte, which the targets put in front.
fn body(value: &impl Serialize) -> Vec<u8> {
    to_frame(value).unwrap().split_off(1)
}

fn messages() {
    let mut stream = vec![3];
    for (name, message) in samples::to_coordinator() {
        seed("to_coordinator", name, body(&message));
        let framed = groundswell_common::wire::frame(&to_frame(&message).unwrap()).unwrap();
        stream.extend(framed);
    }
    seed("frame", "stream", &stream);
    seed("frame", "cut", &stream[..40]);
    seed("frame", "huge", [0, 0xff, 0xff, 0xff, 0xff]);
    for (name, message) in samples::to_agent() {
        seed("to_agent", name, body(&message));
    }
    // A length of 2^63 - 1 where a text begins.
    let mut huge = vec![0, 253];
    huge.extend_from_slice(&(u64::MAX / 2).to_le_bytes());
    seed("to_coordinator", "huge", &huge);
    seed("to_agent", "huge", &huge);
    seed("ledger", "two", groundswell_fuzz::ledger_segment());
    seed("report", "good", body(&samples::report()));
    let labels: groundswell_common::Labels = "role=web,rack=1".parse().unwrap();
    let selector: groundswell_common::selector::Selector = "role=web,!old".parse().unwrap();
    let at = Some(groundswell_common::Timestamp::from_secs(1));
    seed("record", "good", body(&(labels, selector, vec![samples::report()], at)));
    let mut writer = BundleWriter::new(Cursor::new(Vec::new()));
    writer.append(b"#!/bin/sh\n").unwrap();
    writer.append(b"a=1\n").unwrap();
    let mut bundle = vec![10, 0];
    writer.finish(&mut bundle).unwrap();
    seed("bundle", "good", &bundle);
    seed("bundle", "cut", &bundle[..bundle.len() - 3]);
}

fn documents() {
    seed("root", "good", json(&samples::root()));
    seed("manifest", "good", json(&samples::manifest()));
    let mut climbing = samples::manifest();
    climbing.links[0].target = "../bin/../etc/shop".to_owned();
    seed("manifest", "climbing", json(&climbing));
    seed("directive", "good", json(&samples::directive()));
    seed("approval", "good", json(&samples::approval()));
    seed("permit", "good", json(&samples::permit()));
    seed("envelope", "root", samples::signed::<Root>(&samples::root(), &[1, 2]).to_json());
    let directive = samples::signed::<Directive>(&samples::directive(), &[5]);
    seed("envelope", "directive", directive.to_json());
    let approval = samples::signed::<Approval>(&samples::approval(), &[6, 7]);
    seed("envelope", "approval", approval.to_json());
    let release = samples::signed::<Manifest>(&samples::manifest(), &[4]);
    seed("envelope", "release", release.to_json());
}

fn texts() {
    let token = Token {
        api: "10.0.0.1:7444".to_owned(),
        blobs: "http://10.0.0.1:7480".to_owned(),
        root_blob: Digest::of(b"blob"),
        root: Digest::of(b"root"),
        secret: "00112233445566778899aabbccddeeff".to_owned(),
        expires: samples::EXPIRES,
    };
    seed("token", "line", token.to_string());
    seed("token", "json", json(&token));
    for (number, text) in [
        "role=web,region in (eu, us),env!=dev,canary,!legacy\nrole=web,region=eu",
        "rack notin (1,2),role==db\nrack=3,role=db",
        "x in(a,b)",
        "",
    ]
    .iter()
    .enumerate()
    {
        seed("selector", &format!("{number}"), text);
    }
    // As long as a selector may be, in a form that is shorter than the printed one.
    let values: Vec<String> = (1000..1818).map(|value| value.to_string()).collect();
    seed("selector", "longest", format!("xy in({})", values.join(",")));
    seed("tree", "plain", "bin/shop\netc/shop\nlib/shop>../bin/shop\n");
    seed("tree", "deep", "a/b/c/d\nA\na/b/l>../../x\nl>a/b/c\nup>.\n");
    seed("tree", "chain", "p/q/up>../..\nz>p/q/up/../secret\n");
    seed("tree", "forms", "stra\u{df}e\ne\u{301}\n\u{3c3}/x\n\u{17f}\n");
    seed("labels", "good", "role=web,rack=1,region=eu/west-1");
    seed("policy", "short", "service = \"shop\"\ntargets = \"*\"\n");
    seed("policy", "long", LONG_POLICY);
}

const LONG_POLICY: &str = "service = \"shop\"
targets = \"role=web\"
auto = true
max_in_flight = \"25%\"
failure_budget = 1
on_breach = \"halt\"
bake_secs = 60
host_bake_secs = 10
probe_deadline_secs = 60
probe_interval_secs = 1
confirm_by_contact = true
progress_deadline_secs = 600
absent_after_secs = 30
when_newer = \"queue\"

[[wave]]
name = \"canary\"
count = 1

[[wave]]
name = \"rack\"
selector = \"rack in (1,2)\"
gate = \"approval\"
approvals = 2
max_in_flight = 2

[[wave]]
name = \"all\"
rest = true
bake_secs = 0
";

fn main() {
    messages();
    documents();
    texts();
}
