//! Owns one good value of everything that crosses a trust boundary: the start of each test and fuzz seed.
//! Everything is made from fixed seeds, so that equal code gives equal bytes.

use groundswell_common::condition::{
    Condition, Fetched, Held, Lack, ServiceCondition, UnitCondition, UnitLoad,
};
use groundswell_common::directive::{Action, RawDirective, RawPermit, ServiceWish};
use groundswell_common::manifest::{
    BlobEntry, BlobKind, FileEntry, Hook, HookPoint, LinkEntry, Mode, Probe, RawManifest, Source,
    Switch, tree_digest,
};
use groundswell_common::report::{
    FailedStep, Failure, HostState, RefusalNote, Report, Standing, SwitchTimes, Verdict,
};
use groundswell_common::selector::Selector;
use groundswell_common::trust::{
    Document, Envelope, Purpose, RawApproval, RawRoot, RawTold, Role, RoleEntry, SecretKey, Told,
    UnitsEntry,
};
use groundswell_common::wire::{
    Backoff, Deny, DirectiveMessage, Farewell, Hello, PermitAnswer, PermitRequest, ReleaseProof,
    ToAgent, ToCoordinator, Welcome,
};
use groundswell_common::{Digest, HostId, ReleaseId, Timestamp};
use serde::Serialize;

/// The root's end; approvals and clocks of the tests lie before it.
pub(crate) const EXPIRES: u64 = 1_800_000_000;

/// The key of a seed byte.
pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32].into())
}

/// A document of kind `D` with `value` as its JSON, signed by the keys of `seeds`.
pub(crate) fn signed<D: Document>(value: &impl Serialize, seeds: &[u8]) -> Envelope {
    let unsigned = Envelope::new::<D>(serde_json::to_vec(value).unwrap());
    seeds.iter().fold(unsigned, |envelope, seed| envelope.signed_by(&key(*seed)))
}

/// This host.
pub(crate) fn host() -> HostId {
    HostId::of_key(key(9).public().as_bytes())
}

/// An entry of the role table for every service and environment.
pub(crate) fn entry(role: Role, threshold: u32, seeds: &[u8]) -> RoleEntry {
    let keys = seeds.iter().map(|seed| key(*seed).public()).collect();
    RoleEntry { role, service: None, environment: None, threshold, keys }
}

/// Root 1: two of the keys 1, 2, 3; releases by 4, directives by 5.
pub(crate) fn root() -> RawRoot {
    RawRoot {
        version: 1,
        fleet: "test".parse().unwrap(),
        expires: EXPIRES,
        tls_ca: vec!["AAEC".to_owned()],
        roles: vec![
            entry(Role::Root, 2, &[1, 2, 3]),
            entry(Role::Release, 1, &[4]),
            entry(Role::Director, 1, &[5]),
        ],
        units: vec![UnitsEntry {
            service: "shop".parse().unwrap(),
            units: vec!["shop.service".to_owned()],
        }],
        revoked_hosts: vec![HostId::from_bytes([7; 16])],
    }
}

/// A release of two files and a link, with one probe of each kind.
pub(crate) fn manifest() -> RawManifest {
    let file = |path: &str, mode, content: &[u8]| FileEntry {
        path: path.parse().unwrap(),
        mode,
        size: content.len() as u64,
        sha256: Digest::of(content),
    };
    let files = vec![
        file("bin/shop", Mode::Executable, b"#!/bin/sh\n"),
        file("etc/shop", Mode::Plain, b"a=1\n"),
    ];
    let links =
        vec![LinkEntry { path: "lib/shop".parse().unwrap(), target: "../bin/shop".to_owned() }];
    RawManifest {
        service: "shop".parse().unwrap(),
        version: "1.2.3".parse().unwrap(),
        seq: 7,
        floor: 3,
        platform: "any".to_owned(),
        one_way: false,
        requires: Selector::default(),
        barrier: false,
        hotfix: false,
        tree: tree_digest(&files, &links),
        files,
        links,
        // Fixed, because a bundle's bytes may change with the packer while a message's must not.
        blobs: vec![BlobEntry { kind: BlobKind::Full, sha256: Digest::of(b"bundle"), size: 100 }],
        units: vec!["shop.service".to_owned()],
        switch: Switch::Reload,
        command: vec!["bin/shop".to_owned(), "--serve".to_owned()],
        probes: vec![
            Probe::Http {
                url: "https://127.0.0.1:443/".to_owned(),
                timeout_secs: 5,
                status: 204,
                ca: "etc/ca.pem".to_owned(),
            },
            Probe::Tcp { address: "127.0.0.1:80".to_owned(), timeout_secs: 5 },
            Probe::Exec { argv: vec!["bin/check".to_owned()], timeout_secs: 5 },
            Probe::Unit { unit: "shop.service".to_owned() },
        ],
        hooks: vec![Hook {
            at: HookPoint::PostSwitch,
            argv: vec!["bin/warm".to_owned(), "--all".to_owned()],
            timeout_secs: 20,
        }],
        source: Source {
            commit: Some("c0ffee".to_owned()),
            commit_time: Some(1_700_000_000),
            authors: vec!["Ann".to_owned()],
            commits: vec!["fix the till".to_owned()],
            build_url: None,
            notes: Some("none".to_owned()),
        },
    }
}

/// The identity of a release; fixed, since bytes of older builds hold it.
pub(crate) fn release() -> ReleaseId {
    "0062659e50339c5606b2fe8133274648aff2ae749ae4400a4a7d406b85febc84".parse().unwrap()
}

fn wish(service: &str, action: Action) -> ServiceWish {
    ServiceWish {
        service: service.parse().unwrap(),
        action,
        probe_deadline_secs: 60,
        bake_secs: 10,
        probe_interval_secs: 1,
        confirm_by_contact: false,
        rollout: Some("shop-1".parse().unwrap()),
    }
}

/// A directive with every action.
pub(crate) fn directive() -> RawDirective {
    let release = release();
    RawDirective {
        host: host(),
        environment: "prod".parse().unwrap(),
        generation: 12,
        issued: 1_790_000_000,
        root_version: 1,
        services: vec![
            wish("blog", Action::Hold {}),
            wish("mail", Action::Stage { release }),
            wish("pay", Action::Revert { from: release, to: None }),
            wish("shop", Action::Switch { release }),
        ],
    }
}

/// What the host of the samples is told.
pub(crate) fn told() -> RawTold {
    RawTold {
        host: host(),
        name: "web-1".parse().unwrap(),
        number: 12,
        agents: vec!["deploy.example:7443".to_owned(), "[fd00::1]:7443".to_owned()],
        api: vec!["deploy.example:7444".to_owned()],
    }
}

/// A permit that answers the nonce 16 x 3.
pub(crate) fn permit() -> RawPermit {
    RawPermit {
        host: host(),
        service: "shop".parse().unwrap(),
        release: release(),
        generation: 12,
        nonce: Digest::of(&[3; 16]),
        valid_ms: 2_000,
    }
}

/// An approval of the release for production.
pub(crate) fn approval() -> RawApproval {
    RawApproval {
        release: release(),
        service: "shop".parse().unwrap(),
        environment: "prod".parse().unwrap(),
        plan: Digest::of(b"plan"),
        wave: None,
        purpose: Purpose::Deploy,
        not_before: 1_790_000_000,
        not_after: 1_790_003_600,
    }
}

/// A report with everything that a report can carry.
pub(crate) fn report() -> Report {
    let standing = Standing {
        service: "shop".parse().unwrap(),
        state: HostState::Committed,
        running: Some(release()),
        previous: Some(ReleaseId::from_digest(Digest::of(b"old"))),
        target: None,
        rollout: Some("shop-1".parse().unwrap()),
        health: Verdict::Pass,
        failure: Some(Failure {
            release: release(),
            step: FailedStep::Bake,
            why: "exit code 1".to_owned(),
            reverted: true,
        }),
        switched: Some(SwitchTimes {
            started: Timestamp::from_millis(1_790_000_000_123),
            passed: Some(Timestamp::from_secs(1_790_000_001)),
        }),
    };
    Report {
        seq: 300,
        generation: 12,
        services: vec![standing],
        free_bytes: 1 << 40,
        refusal: Some(RefusalNote { generation: 13, code: "wrong_host".to_owned() }),
    }
}

/// A condition with everything that a condition can carry.
pub(crate) fn condition() -> Condition {
    let unit = |unit: &str, load| UnitCondition { unit: unit.to_owned(), load };
    let shop = ServiceCondition {
        service: "shop".parse().unwrap(),
        paused: Some("replacing memory".to_owned()),
        units: vec![
            unit("shop.service", UnitLoad::Loaded),
            unit("shop@.service", UnitLoad::NotFound),
        ],
        held: Some(Held {
            release: release(),
            lack: Lack::Twin,
            why: "two machines; enrol one again".to_owned(),
        }),
        fetched: Some(Fetched { bytes: 7, of: 1 << 33 }),
        notes: vec!["shop.service was changed on disk".to_owned()],
    };
    Condition {
        instance: [5; 16],
        free_bytes: 1 << 40,
        free_inodes: u64::MAX,
        platform: "linux-x86_64".to_owned(),
        settings: Some("line 3: unknown field".to_owned()),
        services: vec![shop],
    }
}

/// One message of each kind, with its name.
pub(crate) fn to_coordinator() -> Vec<(&'static str, ToCoordinator)> {
    let (service, release) = ("shop".parse().unwrap(), release());
    vec![
        (
            "hello",
            ToCoordinator::Hello(Hello {
                agent_version: "0.1.0".to_owned(),
                host_name: "web-1.eu".parse().unwrap(),
                root_version: 1,
                wire_version: 1,
            }),
        ),
        ("report", ToCoordinator::Report(report())),
        (
            "permit-request",
            ToCoordinator::PermitRequest(PermitRequest {
                generation: 12,
                service,
                release,
                nonce: [3; 16],
            }),
        ),
        ("permit-done", ToCoordinator::PermitDone { nonce: [3; 16], used: true }),
        ("beat", ToCoordinator::Beat),
        ("condition", ToCoordinator::Condition(condition())),
    ]
}

/// One message of each kind, with its name.
pub(crate) fn to_agent() -> Vec<(&'static str, ToAgent)> {
    use groundswell_common::directive::{Directive, Permit};
    use groundswell_common::manifest::Manifest;
    use groundswell_common::trust::{Approval, Root};
    let welcome = Welcome {
        heartbeat_secs: 20,
        backoff: Backoff { base_ms: 500, cap_ms: 30_000 },
        blobs: "http://10.0.0.1:7480".to_owned(),
        roots: vec![signed::<Root>(&root(), &[1, 2])],
    };
    let proof = ReleaseProof {
        release: release(),
        signatures: signed::<Manifest>(&manifest(), &[4]).signatures,
        approvals: vec![signed::<Approval>(&approval(), &[6])],
    };
    let envelope = signed::<Directive>(&directive(), &[5]);
    let granted =
        PermitAnswer::Granted { nonce: [3; 16], envelope: signed::<Permit>(&permit(), &[5]) };
    let denied = |deny| ToAgent::Permit(PermitAnswer::Denied { nonce: [3; 16], deny });
    let farewell = Farewell { why: "restart".to_owned(), retry_after_ms: 1_500 };
    vec![
        ("welcome", ToAgent::Welcome(welcome)),
        ("directive", ToAgent::Directive(DirectiveMessage { envelope, proofs: vec![proof] })),
        ("report-ack", ToAgent::ReportAck { seq: 300 }),
        ("permit-granted", ToAgent::Permit(granted)),
        ("permit-stale", denied(Deny::Stale)),
        ("permit-starting", denied(Deny::Starting)),
        ("permit-stopped", denied(Deny::Stopped)),
        ("beat", ToAgent::Beat),
        ("farewell", ToAgent::Farewell(farewell)),
        ("told", ToAgent::Told(signed::<Told>(&told(), &[5]))),
        ("twin", ToAgent::Twin { there: true }),
    ]
}
