//! Hostile and damaged input against real processes: what comes in is refused with an error that says why,
//! the process goes on, and nothing partial stays behind.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use groundswell_common::Digest;
use groundswell_common::api::{ErrorAnswer, PhaseName, Profile};
use groundswell_common::codec::to_frame;
use groundswell_common::manifest::{
    BlobEntry, BlobKind, FileEntry, LinkEntry, Manifest, Mode, RawManifest, Source, Switch,
    tree_digest,
};
use groundswell_common::selector::Selector;
use groundswell_common::token::Token;
use groundswell_common::trust::{Document, Envelope, RawRoot, Root};
use groundswell_common::wire::{Hello, ToCoordinator, frame};
use groundswell_net::{TlsClient, connect, tls};
use groundswell_tests::bins::bin;
use groundswell_tests::fleet::{Agent, Fleet, ROLLOUT_BOUND, describe, sleeper_tree};
use groundswell_tests::private::{Private, inside};
use groundswell_tests::wait::until;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const HOST: &str = "127.0.0.1";
const SOON: Duration = Duration::from_secs(20);
/// sysexits.h: the configuration is wrong, trying again cannot help.
const EX_CONFIG: i32 = 78;

/// Every rollout is started by hand, so that a test can act between publishing and fetching.
const POLICY: &str = r#"
service = "shop"
targets = "role=web"
auto = false
bake_secs = 0
host_bake_secs = 0
probe_deadline_secs = 20
"#;

fn async_run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work)
}

/// The wire's authorities, as the coordinator's first root names them.
fn authorities(fleet: &Fleet) -> Vec<Vec<u8>> {
    let bytes = fs::read(fleet.state().join("root/1.json")).unwrap();
    let payload = Envelope::from_json(&bytes, Root::MAX_BYTES).unwrap().payload;
    let raw: RawRoot = serde_json::from_slice(&payload).unwrap();
    Root::check(raw).unwrap().tls_ca().to_vec()
}

async fn dial(fleet: &Fleet, port: u16, identity: (&str, &str)) -> TlsClient {
    let config = tls::client_config(&authorities(fleet), Some(identity)).unwrap();
    connect(&format!("{}:{port}", fleet.host()), config, SOON).await.unwrap()
}

/// Every file below `dir`.
fn files(dir: &Path) -> BTreeSet<PathBuf> {
    let Ok(list) = fs::read_dir(dir) else { return BTreeSet::new() };
    let paths = list.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| if path.is_dir() { files(&path) } else { BTreeSet::from([path]) })
        .collect()
}

/// What a command that must fail with `code` printed to standard error.
#[track_caller]
fn fails(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}", describe(output));
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
fn contains(text: &str, wanted: &[&str]) {
    for want in wanted {
        assert!(text.contains(want), "no {want:?} in: {text}");
    }
}

#[test]
fn an_agent_refuses_a_bad_configuration_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (file, state) = (dir.path().join("agent.toml"), dir.path().join("state"));
    let run = |verb: &[&str]| {
        let mut command = std::process::Command::new(bin("groundswell-agent"));
        command.args(verb).arg("--config").arg(&file).output().unwrap()
    };
    let missing = fails(&run(&["run"]), EX_CONFIG);
    contains(&missing, &["agent.toml does not exist; write it or pass --config FILE"]);
    let good = format!("state_dir = {state:?}\nname = \"web-1\"\nsupervisor = \"process\"\n");
    for (text, wanted) in [
        ("colour = 1", &["unknown field `colour`, expected one of `state_dir`"][..]),
        ("name = \"Web 1\"", &["name", "want 1 to 63 of a-z, 0-9, '-' and '.'"]),
        ("supervisor = \"init\"", &["unknown variant `init`, expected `systemd` or `process`"]),
        ("keep_free_bytes = -1", &["keep_free_bytes", "invalid value: integer `-1`"]),
        ("state_dir = \"relative\"", &["state_dir must be an absolute path"]),
        ("bandwidth_bytes_per_sec = 1", &["bandwidth_bytes_per_sec must be at least 1024"]),
        (
            "[services.shop]\nunits = [\"../a.service\"]",
            &["units of [services.shop]: \"../a.service\" is no NAME.service"],
        ),
        ("name = ", &["agent.toml, line 1 (name =): "]),
    ] {
        fs::write(&file, text).unwrap();
        let error = fails(&run(&["run"]), EX_CONFIG);
        contains(&error, &[&file.display().to_string()]);
        contains(&error, wanted);
    }
    fs::write(&file, &good).unwrap();
    let folder = dir.path().join("agent.d");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("50-extra.toml"), "colour = 1").unwrap();
    contains(&fails(&run(&["run"]), EX_CONFIG), &["50-extra.toml", "unknown field `colour`"]);
    fs::remove_file(folder.join("50-extra.toml")).unwrap();
    let error = fails(&run(&["run"]), EX_CONFIG);
    contains(&error, &["not enrolled; run 'groundswell-agent enroll TOKEN'"]);
    assert_eq!(files(&state), BTreeSet::new(), "nothing was written");
}

#[test]
fn an_agent_refuses_a_damaged_token_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (file, state) = (dir.path().join("agent.toml"), dir.path().join("state"));
    fs::write(&file, format!("state_dir = {state:?}\nsupervisor = \"process\"\n")).unwrap();
    let token = Token {
        api: "127.0.0.1:1".to_owned(),
        blobs: "http://127.0.0.1:1".to_owned(),
        root_blob: Digest::of(b"blob"),
        root: Digest::of(b"root"),
        secret: "0".repeat(32),
        expires: 1,
    };
    let line = token.to_string();
    // Cut behind whole groups of base64: good base64 of half a JSON text.
    let cut = line[..5 + (line.len() - 5) / 4 * 4 - 4].to_owned();
    for (bad, want) in [
        ("hello", "it must start with gsw1.; paste the whole line"),
        ("gsw1.!!", "it is damaged; paste the whole line again"),
        (cut.as_str(), "it is damaged or of another version; ask for a new one"),
        (&"g".repeat(2049), "over 2048 bytes; paste the one line"),
    ] {
        let mut command = std::process::Command::new(bin("groundswell-agent"));
        let output = command.args(["enroll", bad, "--config"]).arg(&file).output().unwrap();
        contains(&fails(&output, EX_CONFIG), &[want]);
    }
    assert_eq!(files(&state), BTreeSet::new(), "nothing was written");
}

#[test]
fn a_coordinator_refuses_bad_settings() {
    inside("a_coordinator_refuses_bad_settings", |private| {
        let state = private.dir().join("coordinator");
        let fleet = Fleet::init(private.dir(), &state, HOST);
        let serve = || {
            let mut command = std::process::Command::new(bin("groundswell-coordinator"));
            command.args(["serve", "--state"]).arg(fleet.state()).output().unwrap()
        };
        let before = files(&state);
        let folder = state.join("coordinator.d");
        fs::create_dir(&folder).unwrap();
        let extra = folder.join("50-extra.toml");
        for (text, wanted) in [
            ("colour = 1", &["50-extra.toml", "docs/operations.md", "unknown field `colour`"][..]),
            ("fleet = \"A B\"", &["50-extra.toml", "fleet", "want 1 to 63 of a-z"]),
            ("heartbeat_secs = 0", &["50-extra.toml", "heartbeat_secs must be 1 to 600"]),
            ("backoff_cap_ms = 1", &["50-extra.toml", "backoff_cap_ms must be 100 to 600000"]),
            ("hosts = []", &["50-extra.toml", "hosts must be at least one name or address"]),
            ("agents = 7443", &["50-extra.toml", "agents", "invalid type: integer `7443`"]),
            ("agents = ", &["50-extra.toml", "TOML parse error at line 1"]),
        ] {
            fs::write(&extra, text).unwrap();
            contains(&fails(&serve(), EX_CONFIG), wanted);
        }
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(files(&state), before, "nothing was written");
    });
}

/// A fleet of one agent, `web-1`, with the policy above.
fn fleet(private: &Private) -> (Fleet, Agent) {
    let fleet = Fleet::start(private.dir(), HOST);
    fleet.apply(POLICY);
    let agent = fleet.agent("web-1", "role=web");
    (fleet, agent)
}

/// A connection as the agent, which is ended first.
async fn as_agent(fleet: &Fleet, agent: &Agent) -> TlsClient {
    let identity = agent.state().join("identity");
    let text = |name: &str| fs::read_to_string(identity.join(name)).unwrap();
    dial(fleet, 7443, (&text("host.crt"), &text("host.key"))).await
}

fn hello() -> Vec<u8> {
    let hello = ToCoordinator::Hello(Hello {
        agent_version: "0.1.0".to_owned(),
        host_name: "web-1".parse().unwrap(),
        root_version: 1,
        wire_version: 1,
    });
    frame(&to_frame(&hello).unwrap()).unwrap()
}

/// Sends `bytes` after a good greeting or in its place, and reads until the coordinator closes.
async fn closed_after(mut stream: TlsClient, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
    let mut sink = Vec::new();
    // However it closes, with or without a farewell, it must close; data may still come before.
    let ended = tokio::time::timeout(SOON, stream.read_to_end(&mut sink)).await;
    assert!(ended.is_ok(), "the connection stays open after {bytes:02x?}");
}

fn framed(body: &[u8]) -> Vec<u8> {
    frame(body).unwrap()
}

#[test]
fn hostile_frames_close_their_session_and_nothing_else() {
    inside("hostile_frames_close_their_session_and_nothing_else", |private| {
        let (mut fleet, mut agent) = fleet(private);
        agent.kill();
        // Nine bytes that say "a text of 2^63 - 1 bytes follows", behind version and variant.
        let mut huge = vec![1, 0, 253];
        huge.extend_from_slice(&(u64::MAX / 2).to_le_bytes());
        let hello = hello();
        let with = |bytes: &[u8]| [hello.as_slice(), bytes].concat();
        let cases: [(Vec<u8>, &str); 9] = [
            (framed(&huge), "malformed payload"),
            (with(&framed(&huge)), "malformed payload"),
            (with(&[0xff; 4]), "length 4294967295 exceeds 262144 bytes"),
            (with(&[0, 4, 0, 1]), "length 262145 exceeds 262144 bytes"),
            (with(&[0; 4]), "length 0; the peer speaks another protocol"),
            (with(&framed(&[9, 4])), "version 9: this build reads version 1"),
            (with(&framed(&[1, 200])), "malformed payload"),
            (with(&framed(&[1, 4, 0])), "1 bytes left over after its end"),
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "exceeds 262144 bytes"),
        ];
        for (bytes, want) in &cases {
            let before = log_lines(private, want);
            async_run(async { closed_after(as_agent(&fleet, &agent).await, bytes).await });
            until(want, SOON, || (log_lines(private, want) > before).then_some(()));
            assert!(!fleet.coordinator_ended(), "the coordinator ended; {}", fleet.log());
        }
        // Cut in the middle of a frame: an end, not a message.
        async_run(async {
            let mut stream = as_agent(&fleet, &agent).await;
            stream.write_all(&with(&[0, 0, 1, 0, 1])).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        // The host itself is none the worse: its agent comes back and is served.
        agent.run();
        wait_connected(&fleet);
        assert!(!fleet.coordinator_ended(), "the coordinator ended; {}", fleet.log());
    });
}

fn log_lines(private: &Private, want: &str) -> usize {
    let text = fs::read_to_string(private.dir().join("coordinator.log")).unwrap_or_default();
    text.lines().filter(|line| line.contains(want)).count()
}

fn wait_connected(fleet: &Fleet) {
    use groundswell_common::api::HostsAnswer;
    until("the agent connected", ROLLOUT_BOUND, || {
        let output = fleet.swell(&["--json", "host", "ls"]).output().ok()?;
        let answer: HostsAnswer = serde_json::from_slice(&output.stdout).ok()?;
        (!answer.hosts.is_empty() && answer.hosts.iter().all(|host| host.connected)).then_some(())
    });
}

/// One request as the admin; the status and the body.
async fn ask(fleet: &Fleet, head: &str, length: usize, body: &[u8]) -> (u16, String) {
    let profile: Profile = serde_json::from_slice(&fs::read(fleet.profile()).unwrap()).unwrap();
    let mut stream = dial(fleet, 7444, (&profile.certificate_pem, &profile.key_pem)).await;
    let head = format!(
        "{head} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n",
        profile.api
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    if body.len() < length {
        // Fewer bytes than announced: the end comes too early.
        stream.shutdown().await.unwrap();
    }
    let mut answer = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap();
    assert!(read.is_ok() || !answer.is_empty() || body.len() < length, "{read:?}");
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or(0);
    (status, text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// The error of a request that must be refused with `status`.
#[track_caller]
fn refused(fleet: &Fleet, head: &str, body: &[u8], status: u16) -> String {
    let (got, text) = async_run(ask(fleet, head, body.len(), body));
    assert_eq!(got, status, "{head}: {text}");
    let json = text.get(text.find('{').unwrap_or(0)..=text.rfind('}').unwrap_or(0)).unwrap_or("");
    let answer: ErrorAnswer = serde_json::from_str(json).unwrap_or_else(|error| {
        panic!("{head}: no typed error but {text:?}: {error}");
    });
    format!("{}: {}; {}", answer.error.code, answer.error.message, answer.error.hint)
}

/// A manifest of one file and the bundle that carries it.
fn release(content: &[u8]) -> (RawManifest, Vec<u8>) {
    let mut writer =
        groundswell_common::bundle::BundleWriter::new(std::io::Cursor::new(Vec::new()));
    writer.append(content).unwrap();
    let mut bundle = Vec::new();
    writer.finish(&mut bundle).unwrap();
    let files = vec![FileEntry {
        path: "bin/run".parse().unwrap(),
        mode: Mode::Executable,
        size: content.len() as u64,
        sha256: Digest::of(content),
    }];
    let full =
        BlobEntry { kind: BlobKind::Full, sha256: Digest::of(&bundle), size: bundle.len() as u64 };
    let manifest = RawManifest {
        service: "shop".parse().unwrap(),
        version: "9.9.9".parse().unwrap(),
        seq: 1,
        floor: 0,
        platform: "any".to_owned(),
        one_way: false,
        requires: Selector::default(),
        barrier: false,
        hotfix: false,
        tree: tree_digest(&files, &[]),
        files,
        links: Vec::new(),
        blobs: vec![full],
        units: Vec::new(),
        switch: Switch::default(),
        command: vec!["bin/run".to_owned()],
        probes: Vec::new(),
        hooks: Vec::new(),
        source: Source::default(),
    };
    (manifest, bundle)
}

/// Makes a good manifest bad.
type Edit = fn(&mut RawManifest);

fn envelope(manifest: &RawManifest) -> Vec<u8> {
    Envelope::new::<Manifest>(serde_json::to_vec(manifest).unwrap()).to_json()
}

fn upload(fleet: &Fleet, bytes: &[u8]) {
    let head = format!("PUT /v1/blobs/{}", Digest::of(bytes));
    let (status, text) = async_run(ask(fleet, &head, bytes.len(), bytes));
    assert!([200, 201].contains(&status), "{status} {text}");
}

#[test]
fn forged_manifests_and_blobs_are_refused_and_leave_nothing() {
    inside("forged_manifests_and_blobs_are_refused_and_leave_nothing", |private| {
        let fleet = Fleet::start(private.dir(), HOST);
        fleet.apply(POLICY);
        let depot = fleet.state().join("depot");
        let before = files(&depot);
        let (good, bundle) = release(b"#!/bin/sh\nexec sleep 1000\n");

        // Blobs: under a false name, cut short, without a length that holds, under no name at all.
        let name = format!("PUT /v1/blobs/{}", Digest::of(&bundle));
        let mut forged = bundle.clone();
        *forged.last_mut().unwrap() ^= 1;
        contains(
            &refused(&fleet, &name, &forged, 422),
            &["wrong_digest: receive the blob: its bytes are", "hash the file again"],
        );
        let (status, _) = async_run(ask(&fleet, &name, bundle.len(), &bundle[..bundle.len() - 5]));
        assert!(
            status == 0 || (400..500).contains(&status),
            "a cut upload is never taken: {status}"
        );
        contains(&refused(&fleet, "PUT /v1/blobs/../../etc", &bundle, 404), &["no_route"]);
        until("the depot as it was", SOON, || (files(&depot) == before).then_some(()));

        // Manifests: each against one rule.
        let edits: [(&str, Edit); 6] = [
            ("tree digest does not fit its files", |raw| raw.tree = Digest::of(b"x")),
            ("floor 2 is above its own seq 1", |raw| raw.floor = 2),
            ("0 blobs of kind full, want exactly 1", |raw| raw.blobs.clear()),
            ("leaves the tree; link inside it", |raw| {
                let target = "../../etc".to_owned();
                raw.links = vec![LinkEntry { path: "etc/x".parse().unwrap(), target }];
            }),
            ("a unit name must be NAME.service", |raw| raw.units = vec!["../x.service".to_owned()]),
            ("file size is", |raw| raw.files[0].size = u64::MAX / 2),
        ];
        for (want, edit) in edits {
            let mut raw = good.clone();
            edit(&mut raw);
            let error = refused(&fleet, "POST /v1/releases", &envelope(&raw), 422);
            contains(&error, &["manifest: check a manifest: ", want]);
        }
        let text = String::from_utf8(serde_json::to_vec(&good).unwrap()).unwrap();
        for (from, to, want) in [
            ("bin/run", "../run", "'.' and '..' are refused"),
            ("\"0755\"", "\"4755\"", "unknown variant `4755`"),
            ("\"seq\":1", "\"seq\":1,\"seq\":2", "duplicate field `seq`"),
            ("\"seq\":1", "\"seq\":1,\"zz\":2", "unknown field `zz`"),
        ] {
            let payload = text.replacen(from, to, 1).into_bytes();
            let body = Envelope::new::<Manifest>(payload).to_json();
            contains(&refused(&fleet, "POST /v1/releases", &body, 422), &["manifest: ", want]);
        }
        contains(
            &refused(&fleet, "POST /v1/releases", b"{", 400),
            &["invalid: read the release", "read a signed document"],
        );

        // A good manifest whose bundle is not there.
        let error = refused(&fleet, "POST /v1/releases", &envelope(&good), 409);
        contains(&error, &["unknown_blob: ", &Digest::of(&bundle).to_string(), "upload it first"]);
        assert_eq!(files(&depot), before, "nothing was kept");
        assert!(!fleet.swell_ok(&["release", "ls"]).contains("9.9.9"));

        // And the same, whole and true, is taken.
        upload(&fleet, &bundle);
        let (status, text) =
            async_run(ask(&fleet, "POST /v1/releases", envelope(&good).len(), &envelope(&good)));
        assert!([200, 201].contains(&status), "{status} {text}");
        assert!(fleet.swell_ok(&["release", "ls"]).contains("9.9.9"));
    });
}

#[test]
fn a_bundle_that_is_not_what_its_manifest_says_is_refused() {
    inside("a_bundle_that_is_not_what_its_manifest_says_is_refused", |private| {
        let fleet = Fleet::start(private.dir(), HOST);
        fleet.apply(POLICY);
        let (good, bundle) = release(b"#!/bin/sh\nexec sleep 1000\n");
        let (_, other) = release(b"#!/bin/sh\nexec reboot\n");
        let cut = bundle[..bundle.len() - 3].to_vec();
        let longer = [&bundle[..], b"x"].concat();
        for bytes in [other, cut, longer, b"GSBUNDLE".to_vec(), b"#!/bin/sh\n".to_vec()] {
            upload(&fleet, &bytes);
            let mut raw = good.clone();
            raw.blobs[0].sha256 = Digest::of(&bytes);
            raw.blobs[0].size = bytes.len() as u64;
            let error = refused(&fleet, "POST /v1/releases", &envelope(&raw), 422);
            contains(&error, &["bundle: check the bundle against its manifest"]);
        }
        // A true bundle with a false size.
        upload(&fleet, &bundle);
        let mut raw = good.clone();
        raw.blobs[0].size += 1;
        contains(&refused(&fleet, "POST /v1/releases", &envelope(&raw), 409), &["unknown_blob: "]);
        assert!(!fleet.swell_ok(&["release", "ls"]).contains("9.9.9"));
    });
}

#[test]
fn a_token_enrols_one_host_once() {
    inside("a_token_enrols_one_host_once", |private| {
        let fleet = Fleet::start(private.dir(), HOST);
        let enroll = |name: &str, line: &str| {
            let dir = private.dir().join(name);
            fs::create_dir_all(&dir).unwrap();
            let file = dir.join("agent.toml");
            let state = dir.join("state");
            let text =
                format!("state_dir = {state:?}\nname = {name:?}\nsupervisor = \"process\"\n");
            fs::write(&file, text).unwrap();
            let mut command = std::process::Command::new(bin("groundswell-agent"));
            let output = command.args(["enroll", line, "--config"]).arg(&file).output().unwrap();
            (output, state)
        };
        let line = fleet.token("role=web");
        let (first, _) = enroll("web-1", &line);
        assert!(first.status.success(), "{}", describe(&first));
        let not_enrolled = |output: &Output, state: &Path, want: &str| {
            contains(&fails(output, EX_CONFIG), &[want]);
            for name in ["identity.json", "identity/host.crt", "root.json"] {
                assert!(!state.join(name).exists(), "{name} was kept");
            }
        };
        let unknown = "the enrolment token is not known, used by another host, or expired";
        let (again, state) = enroll("web-2", &line);
        not_enrolled(&again, &state, unknown);

        let with = |edit: fn(&mut Token)| {
            let mut token: Token = fleet.token("role=web").parse().unwrap();
            edit(&mut token);
            token.to_string()
        };
        let (guessed, state) = enroll("web-3", &with(|token| token.secret = "0".repeat(32)));
        not_enrolled(&guessed, &state, unknown);
        // Past its end by this host's clock, a token that the coordinator takes says that the clock is ahead.
        let (ahead, _) = enroll("web-4", &with(|token| token.expires = 1));
        let said = String::from_utf8_lossy(&ahead.stdout).into_owned();
        assert!(ahead.status.success() && said.contains("the clock of this host is"), "{said}");
        let old = |token: &mut Token| (token.expires, token.secret) = (1, "0".repeat(32));
        let (old, state) = enroll("web-6", &with(old));
        not_enrolled(&old, &state, "if that clock is right, ask for a new one with 'swell host");
        // Another root than the coordinator's: whoever serves it is not believed.
        let (pinned, state) = enroll("web-5", &with(|token| token.root = Digest::of(b"other")));
        not_enrolled(&pinned, &state, "is not the");
        let hosts = fleet.swell_ok(&["host", "ls"]);
        assert!(hosts.contains("web-1") && !hosts.contains("web-2"), "{hosts}");
    });
}

#[test]
fn bad_policies_are_refused_with_line_and_hint() {
    inside("bad_policies_are_refused_with_line_and_hint", |private| {
        let fleet = Fleet::start(private.dir(), HOST);
        let path = private.dir().join("bad.toml");
        for (text, wanted) in [
            (
                "service = \"shop\"\ntargets = \"\"",
                &["line 2", "write targets = \"*\" for every"][..],
            ),
            ("service = \"shop\"\n\ntargets = \"a b\"", &["line 3", "want key=value"]),
            (
                "service = \"shop\"\ntargets = \"*\"\ncolour = 1",
                &["line 3", "unknown field `colour`"],
            ),
            (
                "service = \"shop\"\ntargets = \"*\"\nmax_in_flight = 0",
                &["line 3", "max_in_flight is 0; write at least 1"],
            ),
            (
                "service = \"shop\"\ntargets = \"*\"\n[[wave]]\nname = \"a\"\ncount = 1",
                &["the last wave must take everyone left; give it rest = true or percent = 100"],
            ),
            ("service = \"shop\"\ntargets = ", &["line 2"]),
        ] {
            fs::write(&path, text).unwrap();
            let output = fleet.swell(&["service", "apply"]).arg(&path).output().unwrap();
            contains(&fails(&output, 1), wanted);
        }
        assert!(!fleet.swell_ok(&["service", "ls"]).contains("shop"), "nothing was kept");
    });
}

#[test]
fn a_damaged_blob_is_refused_by_the_agent_and_the_live_release_stays() {
    inside("a_damaged_blob_is_refused_by_the_agent_and_the_live_release_stays", |private| {
        let (mut fleet, agent) = fleet(private);
        wait_connected(&fleet);
        let publish = |version: &str| {
            let tree = sleeper_tree(private.dir(), version, true);
            let tree = tree.to_string_lossy();
            fleet.swell_ok(&["publish", "--service", "shop", "--version", version, &tree]);
        };
        publish("1.0.0");
        fleet.swell_ok(&["rollout", "start", "shop", "1.0.0"]);
        fleet.wait_for_version("shop", "1.0.0", &["web-1"]);
        let before = files(&fleet.state().join("depot"));
        publish("2.0.0");
        let new: Vec<PathBuf> =
            files(&fleet.state().join("depot")).difference(&before).cloned().collect();
        assert_eq!(new.len(), 2, "manifest and bundle: {new:?}");
        let bundle = new.iter().find(|path| fs::read(path).unwrap().starts_with(b"GSBUNDLE"));
        let bundle = bundle.expect("the bundle");
        let good = fs::read(bundle).unwrap();
        let mut bytes = good.clone();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(bundle, &bytes).unwrap();

        fleet.swell_ok(&["rollout", "start", "shop", "2.0.0"]);
        // Bytes that cannot be had say nothing about the release: the host is held, and nothing ends for it.
        let held = until("the host is held", ROLLOUT_BOUND, || {
            let page = fleet.newest_rollout("shop");
            let held = page.hosts.first().filter(|host| host.progress == "held")?;
            held.why.clone()
        });
        contains(&held, &["other bytes came; a cache or the depot is damaged"]);
        assert_eq!(fleet.newest_rollout("shop").rollout.phase, PhaseName::Running);
        assert_eq!(agent.live_version("shop").as_deref(), Some("1.0.0"));
        let kept = fs::read_dir(agent.state().join("services/shop/releases")).unwrap().count();
        assert_eq!(kept, 1, "nothing partial of 2.0.0");
        // Once the bytes are there the host goes on by itself.
        fs::write(bundle, &good).unwrap();
        fleet.wait_for_version("shop", "2.0.0", &["web-1"]);
        assert!(!fleet.coordinator_ended());
    });
}
