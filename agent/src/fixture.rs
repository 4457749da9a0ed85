//! A fleet's keys, releases made with them, and a depot in memory: what tests of several files share.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::sync::Mutex;

use groundswell_common::bundle::BundleWriter;
use groundswell_common::directive::{Action, RawDirective, RawPermit, ServiceWish};
use groundswell_common::directive::{Directive, Permit};
use groundswell_common::manifest::{
    BlobEntry, BlobKind, FileEntry, LinkEntry, Manifest, Mode, RawManifest, Source, Switch,
    contents, tree_digest,
};
use groundswell_common::selector::Selector;
use groundswell_common::trust::{
    Envelope, HostPin, RawRoot, RawTold, Role, RoleEntry, Root, SecretKey, Told,
};
use groundswell_common::wire::{Backoff, DirectiveMessage, PermitRequest, ReleaseProof, Welcome};
use groundswell_common::{Digest, HostId, ReleaseId, ServiceName};
use zeroize::Zeroizing;

use crate::cancel::Cancel;
use crate::config::Settings;
use crate::durable::Fault;
use crate::fetch::FetchError;
use crate::identity::{Identity, Loaded};
use crate::ports::{Depot, Work};
use crate::told::Places;
use crate::trustee::{Trustee, stored_root};

/// Base64, as an envelope's payload is written.
fn encode(bytes: &[u8]) -> String {
    let json = Envelope::new::<Root>(bytes.to_vec()).to_json();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    json["payload"].as_str().unwrap().to_owned()
}

/// A key that is the same in every test.
pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&Zeroizing::new([seed; 32]))
}

/// Settings that hold nothing back.
pub(crate) fn settings() -> Settings {
    Settings { keep_free_bytes: 0, ..Settings::defaults().unwrap() }
}

/// The seed of the release role's key.
const RELEASE: u8 = 2;
/// The seed of the director's key.
const DIRECTOR: u8 = 3;

/// A root in which one key has each role.
pub(crate) fn root(version: u64, change: impl FnOnce(&mut RawRoot)) -> Envelope {
    let role = |role, seed| RoleEntry {
        role,
        service: None,
        environment: None,
        threshold: 1,
        keys: vec![key(seed).public()],
    };
    let pair = rcgen::KeyPair::from_pem(&key(9).to_pem().unwrap()).unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let mut raw = RawRoot {
        version,
        fleet: "demo".parse().unwrap(),
        expires: 4_000_000_000,
        tls_ca: vec![encode(params.self_signed(&pair).unwrap().der())],
        roles: vec![
            role(Role::Root, 1),
            role(Role::Release, RELEASE),
            role(Role::Director, DIRECTOR),
        ],
        units: Vec::new(),
        revoked_hosts: Vec::new(),
    };
    change(&mut raw);
    Envelope::new::<Root>(serde_json::to_vec(&raw).unwrap()).signed_by(&key(1))
}

/// Who trusts it: the host of key 7 in environment `dev`.
pub(crate) fn trustee(root: &Envelope) -> Trustee {
    let host = HostId::of_key(key(7).public().as_bytes());
    let pin = HostPin { host, environment: "dev".parse().unwrap() };
    Trustee { pin, root: stored_root(root).unwrap() }
}

/// A release with its blobs.
pub(crate) struct Made {
    pub(crate) id: ReleaseId,
    pub(crate) payload: Vec<u8>,
    pub(crate) proof: ReleaseProof,
    pub(crate) bundle: Vec<u8>,
}

impl Made {
    /// What the depot holds of it.
    pub(crate) fn blobs(&self) -> [Vec<u8>; 2] {
        [self.payload.clone(), self.bundle.clone()]
    }
}

/// Packs contents one after the other.
pub(crate) fn pack(contents: &[&[u8]]) -> Vec<u8> {
    let mut writer = BundleWriter::new(std::io::Cursor::new(Vec::new()));
    for content in contents {
        writer.append(content).unwrap();
    }
    let mut bundle = Vec::new();
    writer.finish(&mut bundle).unwrap();
    bundle
}

/// Makes a release of `files` (sorted by path; executable below `bin/`) and `links`.
pub(crate) fn release(
    seq: u64,
    files: &[(&str, &[u8])],
    links: &[(&str, &str)],
    change: impl FnOnce(&mut RawManifest),
) -> Made {
    let entry = |(path, content): &(&str, &[u8])| FileEntry {
        path: path.parse().unwrap(),
        mode: if path.starts_with("bin/") { Mode::Executable } else { Mode::Plain },
        size: content.len() as u64,
        sha256: Digest::of(content),
    };
    let entries: Vec<FileEntry> = files.iter().map(entry).collect();
    let links: Vec<LinkEntry> = links
        .iter()
        .map(|(path, target)| LinkEntry {
            path: path.parse().unwrap(),
            target: (*target).to_owned(),
        })
        .collect();
    let by_digest: BTreeMap<Digest, &[u8]> =
        files.iter().map(|(_, content)| (Digest::of(content), *content)).collect();
    let ordered: Vec<&[u8]> =
        contents(&entries).iter().map(|(digest, _)| by_digest[digest]).collect();
    let bundle = pack(&ordered);
    let mut raw = RawManifest {
        service: "shop".parse().unwrap(),
        version: format!("{seq}.0").parse().unwrap(),
        seq,
        floor: 0,
        platform: "any".to_owned(),
        one_way: false,
        requires: Selector::default(),
        barrier: false,
        hotfix: false,
        tree: tree_digest(&entries, &links),
        files: entries,
        links,
        blobs: vec![BlobEntry {
            kind: BlobKind::Full,
            sha256: Digest::of(&bundle),
            size: bundle.len() as u64,
        }],
        units: Vec::new(),
        switch: Switch::default(),
        command: vec!["bin/shop".to_owned()],
        probes: Vec::new(),
        hooks: Vec::new(),
        source: Source::default(),
    };
    change(&mut raw);
    let payload = serde_json::to_vec(&raw).unwrap();
    let envelope = Envelope::new::<Manifest>(payload.clone()).signed_by(&key(RELEASE));
    let id = ReleaseId::from_digest(envelope.digest());
    let proof =
        ReleaseProof { release: id, signatures: envelope.signatures, approvals: Vec::new() };
    Made { id, payload, proof, bundle }
}

/// A directive for the fixture's host that says one thing of `shop`.
pub(crate) fn directive(generation: u64, action: Action, of: &[&Made]) -> DirectiveMessage {
    directive_with(generation, action, of, |_| {})
}

/// As [`directive`], changed before it is signed.
pub(crate) fn directive_with(
    generation: u64,
    action: Action,
    of: &[&Made],
    change: impl FnOnce(&mut RawDirective),
) -> DirectiveMessage {
    let wish = ServiceWish {
        service: shop(),
        action,
        probe_deadline_secs: 3,
        bake_secs: 1,
        probe_interval_secs: 1,
        confirm_by_contact: false,
        rollout: None,
    };
    let mut raw = RawDirective {
        host: HostId::of_key(key(7).public().as_bytes()),
        environment: "dev".parse().unwrap(),
        generation,
        issued: 1,
        root_version: 1,
        services: vec![wish],
    };
    change(&mut raw);
    let envelope = Envelope::new::<Directive>(serde_json::to_vec(&raw).unwrap());
    let proofs = of.iter().map(|made| made.proof.clone()).collect();
    DirectiveMessage { envelope: envelope.signed_by(&key(DIRECTOR)), proofs }
}

/// What the coordinator tells this host.
pub(crate) fn told(number: u64, name: &str, agents: &[&str]) -> Envelope {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let raw = RawTold {
        host: HostId::of_key(key(7).public().as_bytes()),
        name: name.parse().unwrap(),
        number,
        agents: texts(agents),
        api: texts(&["api:1"]),
    };
    Envelope::new::<Told>(serde_json::to_vec(&raw).unwrap()).signed_by(&key(DIRECTOR))
}

/// The permit that answers a question of the fixture's host.
pub(crate) fn permit(request: &PermitRequest, valid_ms: u64) -> Envelope {
    let raw = RawPermit {
        host: HostId::of_key(key(7).public().as_bytes()),
        service: request.service.clone(),
        release: request.release,
        generation: request.generation,
        nonce: request.nonce_digest(),
        valid_ms,
    };
    Envelope::new::<Permit>(serde_json::to_vec(&raw).unwrap()).signed_by(&key(DIRECTOR))
}

/// The service of every fixture.
pub(crate) fn shop() -> ServiceName {
    "shop".parse().unwrap()
}

/// A depot in memory.
#[derive(Debug, Default)]
pub(crate) struct MemoryDepot {
    blobs: Mutex<BTreeMap<Digest, Vec<u8>>>,
}

impl MemoryDepot {
    pub(crate) fn put(&self, made: &Made) {
        for blob in made.blobs() {
            self.blobs.lock().unwrap().insert(Digest::of(&blob), blob);
        }
    }

    pub(crate) fn clear(&self) {
        self.blobs.lock().unwrap().clear();
    }
}

/// An open file with these bytes, read from its start.
pub(crate) fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

impl Depot for MemoryDepot {
    fn fetch<'a>(
        &'a self,
        digest: &'a Digest,
        _limit_bytes: u64,
        _cancel: &'a Cancel,
    ) -> Work<'a, Result<File, FetchError>> {
        let found = self.blobs.lock().unwrap().get(digest).map(|bytes| file(bytes));
        Box::pin(std::future::ready(found.ok_or(FetchError::Mismatch(*digest))))
    }

    fn discard(&self, _digest: &Digest) {}

    fn clear(&self) -> Result<(), Fault> {
        Ok(())
    }

    fn set_base(&self, _base: &str) {}
}

/// What enrolment left, as it is read at a start.
pub(crate) fn loaded() -> Loaded {
    let root = root(1, |_| {});
    let trustee = trustee(&root);
    let identity = Identity {
        fleet: "demo".parse().unwrap(),
        host: trustee.pin.host,
        name: "web-1".parse().unwrap(),
        environment: trustee.pin.environment.clone(),
        labels: "".parse().unwrap_or_default(),
        agents: "127.0.0.1:1".to_owned(),
        api: "127.0.0.1:1".to_owned(),
        blobs: "no address".to_owned(),
    };
    let places = Places {
        name: identity.name.clone(),
        agents: vec![identity.agents.clone()],
        api: vec![identity.api.clone()],
        number: 0,
    };
    Loaded { identity, trustee, root, places }
}

/// What the coordinator says first.
pub(crate) fn welcome() -> Welcome {
    Welcome {
        heartbeat_secs: 20,
        backoff: Backoff { base_ms: 1, cap_ms: 1 },
        blobs: "http://127.0.0.1:1".to_owned(),
        roots: Vec::new(),
    }
}
