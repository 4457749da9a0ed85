//! Owns the tests of keys, thresholds, the root walk, and each refusal of a host by its exact variant and code.

use std::collections::BTreeSet;

use groundswell_common::directive::{Action, Directive, Permit, RawDirective, RawPermit};
use groundswell_common::manifest::{Manifest, RawManifest};
use groundswell_common::trust::{
    Approval, DirectiveFloor, Envelope, HostPin, KeyError, PermitAsk, PublicKey, Purpose,
    RawApproval, RawRoot, RawTold, Refusal, Role, RoleEntry, RoleKeys, Root, RootError, SecretKey,
    Told, TrustError, Verified, check_approvals, check_directive, check_permit, check_release,
    check_step, check_told, first_root, next_root, pae, verify, verify_payload,
};
use groundswell_common::{Digest, HostId, ReleaseId, Timestamp};

use crate::samples::{self, EXPIRES, entry, key, signed};

fn root_of(raw: &RawRoot) -> Verified<Root> {
    let envelope = signed::<Root>(raw, &[1, 2]);
    first_root(&envelope, &envelope.digest()).unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_secs(1_790_000_100)
}

#[test]
fn the_bytes_that_are_signed_are_those_of_dsse() {
    // The vector of the DSSE specification, version 1.
    assert_eq!(
        pae("http://example.com/HelloWorld", b"hello world"),
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    );
    assert_eq!(pae("", b""), b"DSSEv1 0  0 ");
    // Lengths are bytes, and no shift of the border between type and payload gives equal bytes.
    assert_eq!(pae("\u{e9}", b""), "DSSEv1 2 \u{e9} 0 ".as_bytes());
    assert_ne!(pae("a b", b"c"), pae("a", b"b c"));
    assert_ne!(pae("a 1 b", b""), pae("a", b"b 0 "));
}

#[test]
fn weak_and_doubly_spelled_keys_are_no_keys() {
    let bytes = |text: &str| -> [u8; 32] {
        groundswell_common::digest::unhex(text).unwrap().try_into().unwrap()
    };
    // The eight points of small order, then their second spellings (RFC 8032 allows none of them).
    for weak in [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    ] {
        assert_eq!(PublicKey::from_bytes(bytes(weak)), Err(KeyError::Weak), "{weak}");
        assert_eq!(weak.parse::<PublicKey>(), Err(KeyError::Weak), "{weak}");
    }
    // y = 3 as p + 3: a point of large order in a second spelling would be one key counted twice.
    let first = "0300000000000000000000000000000000000000000000000000000000000000";
    let second = "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f";
    assert!(first.parse::<PublicKey>().is_ok());
    assert_eq!(second.parse::<PublicKey>(), Err(KeyError::Weak));
    // y = 2 is not on the curve.
    let no_point = "0200000000000000000000000000000000000000000000000000000000000000";
    assert_eq!(no_point.parse::<PublicKey>(), Err(KeyError::Weak));
    for bad in ["", "00", &key(1).public().to_string().to_uppercase()] {
        assert_eq!(bad.parse::<PublicKey>(), Err(KeyError::Form), "{bad:?}");
    }
    let json = format!("\"{}\"", "01".to_owned() + &"0".repeat(62));
    assert!(serde_json::from_str::<PublicKey>(&json).is_err(), "JSON cannot make a weak key");
}

#[test]
fn a_signature_in_its_second_form_is_refused() {
    // s + L verifies in lax libraries: the same signature in other bytes.
    const L: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let role = RoleKeys { keys: BTreeSet::from([key(1).public()]), threshold: 1 };
    let mut envelope = signed::<Root>(&samples::root(), &[1]);
    verify::<Root>(&envelope, &role).unwrap();
    let mut carry = 0_u16;
    for (at, add) in L.iter().enumerate() {
        let sum = u16::from(envelope.signatures[0].sig[32 + at]) + u16::from(*add) + carry;
        [envelope.signatures[0].sig[32 + at], _] = sum.to_le_bytes();
        carry = sum >> 8;
    }
    let got = verify::<Root>(&envelope, &role);
    assert!(matches!(got, Err(TrustError::Signatures { good: 0, threshold: 1, .. })), "{got:?}");
}

#[test]
fn a_signature_over_a_point_of_small_order_is_refused() {
    // R is the identity and S = k * a: lax libraries take it, and with it more than one for a message.
    let text = "0100000000000000000000000000000000000000000000000000000000000000";
    let text = format!("{text}95c0fdcc54fccad1f2b8bc9b96aa6837c82f86349e6576ad29ca3ece7b7ea905");
    let sig = groundswell_common::digest::unhex(&text).unwrap().try_into().unwrap();
    assert!(!key(1).public().verifies(b"message", &sig));
}

#[test]
fn private_keys_come_back_from_pem_and_are_never_printed() {
    let pem = key(1).to_pem().unwrap();
    assert_eq!(SecretKey::from_pem(&pem).unwrap().public(), key(1).public());
    assert_eq!(format!("{:?}", key(1)), format!("SecretKey(of {})", key(1).public()));
    for bad in ["", "x", &pem.replace("PRIVATE", "PUBLIC"), &pem[..pem.len() / 2]] {
        assert!(matches!(SecretKey::from_pem(bad), Err(KeyError::Private)));
    }
}

#[test]
fn one_key_counts_once_however_often_it_signs_or_is_listed() {
    let two = RoleKeys { keys: [1, 2].map(|n| key(n).public()).into(), threshold: 2 };
    let short = |seeds: &[u8], want: u32| {
        let got = verify::<Root>(&signed::<Root>(&samples::root(), seeds), &two);
        let expected =
            matches!(got, Err(TrustError::Signatures { good, threshold: 2, .. }) if good == want);
        assert!(expected, "{seeds:?}: {got:?}");
    };
    short(&[], 0);
    short(&[1], 1);
    short(&[1, 1], 1);
    short(&[1, 1, 1, 1], 1);
    short(&[1, 3], 1);
    short(&[3, 4], 0);
    let good = verify::<Root>(&signed::<Root>(&samples::root(), &[3, 2, 1]), &two).unwrap();
    assert_eq!(*good.signers(), two.keys, "only keys of the role are signers");

    let mut twice = samples::root();
    twice.roles[0] = entry(Role::Root, 2, &[1, 1]);
    let want = RootError::Threshold { role: Role::Root, threshold: 2, keys: 1 };
    assert_eq!(broken(&twice), want);
    twice.roles[0] = entry(Role::Root, 1, &[1, 1]);
    let want = RootError::Threshold { role: Role::Root, threshold: 1, keys: 1 };
    assert_eq!(broken(&twice), want, "listed twice is refused even where one would do");
}

#[test]
fn zero_signatures_never_pass() {
    let payload = serde_json::to_vec(&samples::root()).unwrap();
    let nobody = RoleKeys { keys: BTreeSet::new(), threshold: 0 };
    for roles in [&[][..], &[&nobody], &[&nobody, &nobody]] {
        let got = verify_payload::<Root>(&payload, &[], roles);
        let expected = matches!(got, Err(TrustError::Signatures { good: 0, threshold: 1, .. }));
        assert!(expected, "{got:?}");
    }
    for role in [Role::Root, Role::Release, Role::Director] {
        let mut root = samples::root();
        root.roles.iter_mut().filter(|e| e.role == role).for_each(|e| e.threshold = 0);
        let keys = if role == Role::Root { 3 } else { 1 };
        assert_eq!(broken(&root), RootError::Threshold { role, threshold: 0, keys });
    }
}

#[test]
fn each_role_of_a_document_must_meet_its_own_threshold() {
    let role = |seed: u8| RoleKeys { keys: BTreeSet::from([key(seed).public()]), threshold: 1 };
    let payload = serde_json::to_vec(&samples::manifest()).unwrap();
    let by = |seeds: &[u8]| {
        let signatures = signed::<Manifest>(&samples::manifest(), seeds).signatures;
        verify_payload::<Manifest>(&payload, &signatures, &[&role(4), &role(6)])
    };
    assert_eq!(by(&[4, 6]).unwrap().signers().len(), 2);
    for seeds in [&[4][..], &[6], &[4, 4], &[]] {
        assert!(matches!(by(seeds), Err(TrustError::Signatures { good: 0, threshold: 1, .. })));
    }
}

/// The rule that `root` breaks.
fn broken(root: &RawRoot) -> RootError {
    let envelope = signed::<Root>(root, &[1, 2]);
    match first_root(&envelope, &envelope.digest()) {
        Err(TrustError::Invalid { source, .. }) => *source.downcast().unwrap(),
        result => panic!("{result:?}"),
    }
}

#[test]
fn roots_against_the_rules_are_refused() {
    let with = |edit: fn(&mut RawRoot)| {
        let mut root = samples::root();
        edit(&mut root);
        broken(&root)
    };
    assert_eq!(with(|r| r.version = 0), RootError::Version);
    assert_eq!(with(|r| r.expires = 1 << 53), RootError::Version);
    assert_eq!(with(|r| r.tls_ca.clear()), RootError::Ca);
    assert_eq!(with(|r| r.tls_ca = vec!["AAEC".to_owned(); 9]), RootError::Ca);
    assert_eq!(with(|r| r.tls_ca = vec!["-".to_owned()]), RootError::Ca);
    for (at, role) in [(0, Role::Root), (1, Role::Release), (2, Role::Director)] {
        let mut root = samples::root();
        root.roles.remove(at);
        assert_eq!(broken(&root), RootError::Missing(role));
        let mut root = samples::root();
        root.roles[at].environment = Some("dev".parse().unwrap());
        assert_eq!(broken(&root), RootError::Missing(role), "for one environment is not for all");
        let mut root = samples::root();
        root.roles.push(root.roles[at].clone());
        assert_eq!(broken(&root), RootError::Twice(role));
    }
    let over = RootError::Threshold { role: Role::Release, threshold: 2, keys: 1 };
    assert_eq!(with(|r| r.roles[1].threshold = 2), over);
    let mut many = samples::root();
    let seeds: Vec<u8> = (100..160).collect();
    many.roles.push(entry(Role::Approver, 1, &seeds));
    assert_eq!(broken(&many), RootError::Keys(65));
}

#[test]
fn the_first_root_is_the_one_that_the_token_names() {
    let envelope = signed::<Root>(&samples::root(), &[1, 2]);
    let other = Digest::of(b"other");
    match first_root(&envelope, &other) {
        Err(TrustError::Pin { got, want }) => {
            assert_eq!((got, want), (envelope.digest(), other));
        }
        result => panic!("{result:?}"),
    }
    let alone = signed::<Root>(&samples::root(), &[1]);
    let got = first_root(&alone, &alone.digest());
    assert!(matches!(got, Err(TrustError::Signatures { good: 1, threshold: 2, .. })), "{got:?}");
    let outsiders = signed::<Root>(&samples::root(), &[4, 5]);
    let got = first_root(&outsiders, &outsiders.digest());
    assert!(matches!(got, Err(TrustError::Signatures { good: 0, threshold: 2, .. })), "{got:?}");
    let relabelled = Envelope { kind: "groundswell.root.v2".to_owned(), ..envelope.clone() };
    let got = first_root(&relabelled, &envelope.digest());
    assert!(matches!(got, Err(TrustError::Kind { .. })), "{got:?}");
}

/// Root 2 with keys 11, 12, 13 in place of 1, 2, 3.
fn rotated() -> RawRoot {
    let mut next = samples::root();
    next.version = 2;
    next.roles[0] = entry(Role::Root, 2, &[11, 12, 13]);
    next
}

#[test]
fn a_next_root_needs_the_thresholds_of_old_and_new() {
    let have = root_of(&samples::root());
    let walk = |seeds: &[u8]| next_root(&have, &signed::<Root>(&rotated(), seeds));
    assert_eq!(walk(&[1, 2, 11, 12]).unwrap().version, 2);
    for seeds in [&[11, 12, 13][..], &[1, 11, 12, 13], &[1, 1, 11, 12], &[1, 2], &[1, 2, 11], &[]] {
        let got = walk(seeds);
        assert!(
            matches!(got, Err(TrustError::Signatures { threshold: 2, .. })),
            "{seeds:?} {got:?}"
        );
    }
}

#[test]
fn a_next_root_has_exactly_the_next_version_of_the_same_fleet() {
    let have = root_of(&samples::root());
    for version in [1, 3, 4, 1 << 40] {
        let mut next = samples::root();
        next.version = version;
        match next_root(&have, &signed::<Root>(&next, &[1, 2])) {
            Err(TrustError::RootVersion { got, have }) => assert_eq!((got, have), (version, 1)),
            result => panic!("version {version}: {result:?}"),
        }
    }
    let mut stranger = samples::root();
    stranger.version = 2;
    stranger.fleet = "other".parse().unwrap();
    let got = next_root(&have, &signed::<Root>(&stranger, &[1, 2]));
    assert!(matches!(got, Err(TrustError::RootFleet)), "{got:?}");
    let mut last = samples::root();
    last.version = (1 << 53) - 1;
    let mut wrapped = samples::root();
    wrapped.version = 1;
    let got = next_root(&root_of(&last), &signed::<Root>(&wrapped, &[1, 2]));
    assert!(matches!(got, Err(TrustError::RootVersion { got: 1, .. })), "{got:?}");
}

#[test]
fn a_root_lasts_to_its_last_second() {
    let root = root_of(&samples::root());
    root.unexpired(Timestamp::from_secs(EXPIRES)).unwrap();
    root.unexpired(Timestamp::from_millis(EXPIRES * 1000 + 999)).unwrap();
    let got = root.unexpired(Timestamp::from_secs(EXPIRES + 1));
    assert!(matches!(got, Err(TrustError::RootExpired(EXPIRES))), "{got:?}");
}

#[test]
fn the_most_specific_entry_decides() {
    let special = |service: Option<&str>, environment: Option<&str>, seed: u8| RoleEntry {
        service: service.map(|name| name.parse().unwrap()),
        environment: environment.map(|name| name.parse().unwrap()),
        ..entry(Role::Release, 1, &[seed])
    };
    let mut raw = samples::root();
    raw.roles.push(special(None, Some("prod"), 21));
    raw.roles.push(special(Some("shop"), None, 22));
    raw.roles.push(special(Some("shop"), Some("prod"), 23));
    let root = root_of(&raw);
    for (service, environment, seed) in
        [("shop", "prod", 23), ("shop", "dev", 22), ("blog", "prod", 21), ("blog", "dev", 4)]
    {
        let (service, environment) = (service.parse().unwrap(), environment.parse().unwrap());
        let keys = root.role(Role::Release, Some(&service), Some(&environment)).unwrap().keys;
        assert_eq!(keys, BTreeSet::from([key(seed).public()]), "{service} {environment}");
    }
    assert_eq!(root.role(Role::Approver, None, None), None);
    raw.roles.pop();
    let (service, environment) = ("shop".parse().unwrap(), "prod".parse().unwrap());
    let keys = root_of(&raw).role(Role::Release, Some(&service), Some(&environment)).unwrap().keys;
    assert_eq!(keys, BTreeSet::from([key(22).public()]), "service before environment");
}

fn pin() -> HostPin {
    HostPin { host: samples::host(), environment: "prod".parse().unwrap() }
}

fn directive_under(
    raw: &RawDirective,
    floor: &DirectiveFloor,
    root: &RawRoot,
) -> Result<Verified<Directive>, Refusal> {
    let envelope = signed::<Directive>(raw, &[5]);
    check_directive(&envelope, &root_of(root), &pin(), floor)
}

fn directive(edit: fn(&mut RawDirective)) -> Result<Verified<Directive>, Refusal> {
    let mut raw = samples::directive();
    edit(&mut raw);
    directive_under(&raw, &DirectiveFloor::default(), &samples::root())
}

/// Takes the refusal out of a result and looks at its code.
#[track_caller]
fn refused<T: std::fmt::Debug>(got: Result<T, Refusal>, code: &str) -> Refusal {
    let refusal = got.expect_err(code);
    assert_eq!(refusal.code(), code);
    refusal
}

#[test]
fn directive_untrusted() {
    let root = root_of(&samples::root());
    for seeds in [&[][..], &[4], &[1, 2, 3], &[9]] {
        let envelope = signed::<Directive>(&samples::directive(), seeds);
        let got = check_directive(&envelope, &root, &pin(), &DirectiveFloor::default());
        let refusal = refused(got, "untrusted");
        let expected =
            matches!(refusal, Refusal::Trust(TrustError::Signatures { good: 0, threshold: 1, .. }));
        assert!(expected, "{seeds:?}: {refusal:?}");
    }
}

#[test]
fn directive_wrong_host() {
    let refusal = refused(directive(|raw| raw.host = HostId::from_bytes([1; 16])), "wrong_host");
    assert!(matches!(refusal, Refusal::WrongHost(host) if host == HostId::from_bytes([1; 16])));
}

#[test]
fn directive_wrong_environment() {
    let got = directive(|raw| raw.environment = "dev".parse().unwrap());
    let refusal = refused(got, "wrong_environment");
    let expected = matches!(&refusal, Refusal::WrongEnvironment { got, pinned }
        if got.as_str() == "dev" && pinned.as_str() == "prod");
    assert!(expected, "{refusal:?}");
}

#[test]
fn what_a_host_is_told_is_signed_by_the_director_for_it_and_not_older() {
    let root = root_of(&samples::root());
    let told = |raw: &RawTold, seeds: &[u8], have| {
        check_told(&signed::<Told>(raw, seeds), &root, &pin(), have)
    };
    let raw = samples::told();
    for have in [0, 12] {
        assert_eq!(told(&raw, &[5], have).unwrap().number, 12);
    }
    refused(told(&raw, &[5], 13), "old_generation");
    refused(told(&raw, &[4], 0), "untrusted");
    let other = RawTold { host: HostId::from_bytes([1; 16]), ..raw.clone() };
    refused(told(&other, &[5], 0), "wrong_host");
    // A directive is no such document, whoever signed it.
    let directive = signed::<Directive>(&samples::directive(), &[5]);
    refused(check_told(&directive, &root, &pin(), 0), "untrusted");
}

#[test]
fn directive_old_generation() {
    let floor =
        DirectiveFloor { generation: 13, digest: Some(Digest::of(b"newer")), root_version: 1 };
    let got = directive_under(&samples::directive(), &floor, &samples::root());
    let refusal = refused(got, "old_generation");
    assert!(matches!(refusal, Refusal::OldGeneration { got: 12, have: 13 }), "{refusal:?}");
}

#[test]
fn directive_equivocation() {
    let first = directive(|_| {}).unwrap();
    let floor = DirectiveFloor {
        generation: 12,
        digest: Some(first.digest()),
        root_version: first.root_version,
    };
    directive_under(&samples::directive(), &floor, &samples::root()).unwrap();
    let mut other = samples::directive();
    other.services.pop();
    let refusal = refused(directive_under(&other, &floor, &samples::root()), "equivocation");
    assert!(matches!(refusal, Refusal::Equivocation(12)), "{refusal:?}");
    // A coordinator that starts with the next root says the same under the same number in other bytes.
    other.root_version += 1;
    directive_under(&other, &floor, &samples::root()).unwrap();
}

#[test]
fn directive_old_root() {
    let mut root = samples::root();
    root.version = 2;
    let got = directive_under(&samples::directive(), &DirectiveFloor::default(), &root);
    let refusal = refused(got, "old_root");
    assert!(matches!(refusal, Refusal::OldRoot { got: 1, have: 2 }), "{refusal:?}");
    directive(|raw| raw.root_version = 9).unwrap();
}

fn release_of(
    raw: &RawManifest,
    seeds: &[u8],
    root: &RawRoot,
) -> Result<Verified<Manifest>, Refusal> {
    let envelope = signed::<Manifest>(raw, seeds);
    let want = ReleaseId::from_digest(envelope.digest());
    let here = ("shop".parse().unwrap(), "prod".parse().unwrap());
    let place = (&here.0, &here.1);
    check_release(&envelope.payload, &envelope.signatures, &want, place, &root_of(root))
}

fn release(edit: fn(&mut RawManifest)) -> Result<Verified<Manifest>, Refusal> {
    let mut raw = samples::manifest();
    edit(&mut raw);
    release_of(&raw, &[4], &samples::root())
}

#[test]
fn release_wrong_release() {
    let envelope = signed::<Manifest>(&samples::manifest(), &[4]);
    let want = ReleaseId::from_digest(Digest::of(b"another"));
    let here = ("shop".parse().unwrap(), "prod".parse().unwrap());
    let root = root_of(&samples::root());
    let got =
        check_release(&envelope.payload, &envelope.signatures, &want, (&here.0, &here.1), &root);
    let refusal = refused(got, "wrong_release");
    assert!(matches!(refusal, Refusal::WrongRelease(id) if id == want), "{refusal:?}");
}

#[test]
fn release_untrusted() {
    for seeds in [&[][..], &[5], &[1, 2]] {
        let got = release_of(&samples::manifest(), seeds, &samples::root());
        let refusal = refused(got, "untrusted");
        let expected =
            matches!(refusal, Refusal::Trust(TrustError::Signatures { good: 0, threshold: 1, .. }));
        assert!(expected, "{refusal:?}");
    }
}

#[test]
fn release_without_the_builder_that_the_root_asks_for() {
    let mut root = samples::root();
    root.roles.push(entry(Role::Builder, 1, &[6]));
    refused(release_of(&samples::manifest(), &[4], &root), "untrusted");
    refused(release_of(&samples::manifest(), &[6], &root), "untrusted");
    release_of(&samples::manifest(), &[4, 6], &root).unwrap();
}

#[test]
fn release_wrong_service() {
    let refusal = refused(release(|raw| raw.service = "blog".parse().unwrap()), "wrong_service");
    assert!(matches!(&refusal, Refusal::WrongService(s) if s.as_str() == "blog"), "{refusal:?}");
}

#[test]
fn release_wrong_platform() {
    let refusal = refused(release(|raw| raw.platform = "plan9-mips".to_owned()), "wrong_platform");
    assert!(matches!(&refusal, Refusal::WrongPlatform(p) if p == "plan9-mips"), "{refusal:?}");
    let mut here = samples::manifest();
    here.platform = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
    release_of(&here, &[4], &samples::root()).unwrap();
}

/// A root that asks for two approvers of production out of the keys 31, 32, 33.
fn approving() -> RawRoot {
    let mut root = samples::root();
    let environment = Some("prod".parse().unwrap());
    root.roles.push(RoleEntry { environment, ..entry(Role::Approver, 2, &[31, 32, 33]) });
    root
}

fn approved(approvals: &[Envelope], environment: &str, at: Timestamp) -> Result<(), Refusal> {
    let here = ("shop".parse().unwrap(), environment.parse().unwrap());
    let root = root_of(&approving());
    check_approvals(approvals, &samples::release(), (&here.0, &here.1), &root, at)
}

fn approval(seed: u8, edit: fn(&mut RawApproval)) -> Envelope {
    let mut raw = samples::approval();
    edit(&mut raw);
    signed::<Approval>(&raw, &[seed])
}

#[test]
fn release_approvals() {
    let good = |seed| approval(seed, |_| {});
    approved(&[good(31), good(32)], "prod", now()).unwrap();
    approved(&[signed::<Approval>(&samples::approval(), &[31, 32])], "prod", now()).unwrap();
    approved(&[], "dev", now()).unwrap();
    let one_short = |second: Envelope, at: Timestamp, have: u32| {
        let refusal = refused(approved(&[good(31), second], "prod", at), "approvals");
        let expected = matches!(refusal, Refusal::Approvals { good, needed: 2 } if good == have);
        assert!(expected, "{refusal:?}");
    };
    one_short(good(31), now(), 1);
    one_short(good(4), now(), 1);
    one_short(approval(32, |a| a.release = ReleaseId::from_digest(Digest::of(b"x"))), now(), 1);
    one_short(approval(32, |a| a.service = "blog".parse().unwrap()), now(), 1);
    one_short(approval(32, |a| a.environment = "dev".parse().unwrap()), now(), 1);
    one_short(approval(32, |a| a.purpose = Purpose::Revert), now(), 1);
    one_short(approval(32, |a| a.not_before += 3_000), now(), 1);
    one_short(approval(32, |a| a.not_after = a.not_before + 1), now(), 1);
    one_short(good(32), Timestamp::from_secs(1_789_999_999), 0);
    one_short(good(32), Timestamp::from_secs(1_790_003_601), 0);
    let mut damaged = good(32);
    damaged.payload[10] ^= 1;
    one_short(damaged, now(), 1);
    one_short(signed::<Permit>(&samples::permit(), &[32]), now(), 1);
}

#[test]
fn a_wide_rule_adds_nobody_to_a_narrow_one() {
    let mut root = approving();
    root.roles.push(entry(Role::Approver, 1, &[41]));
    let root = root_of(&root);
    let judged = |seeds: &[u8], environment: &str| {
        let here = ("shop".parse().unwrap(), environment.parse().unwrap());
        let approvals: Vec<Envelope> = seeds
            .iter()
            .map(|seed| {
                let mut raw = samples::approval();
                raw.environment = environment.parse().unwrap();
                signed::<Approval>(&raw, &[*seed])
            })
            .collect();
        check_approvals(&approvals, &samples::release(), (&here.0, &here.1), &root, now())
    };
    for lax in [&[41][..], &[31, 41]] {
        let refusal = refused(judged(lax, "prod"), "approvals");
        let good = u32::from(lax.contains(&31));
        assert!(matches!(refusal, Refusal::Approvals { good: g, needed: 2 } if g == good));
    }
    judged(&[31, 32], "prod").unwrap();
    judged(&[41], "dev").unwrap();
    refused(judged(&[31, 32], "dev"), "approvals");
}

#[test]
fn only_sixteen_approvals_are_looked_at() {
    let good = |seed| approval(seed, |_| {});
    let mut many = vec![good(31); 16];
    many.push(good(32));
    let refusal = refused(approved(&many, "prod", now()), "approvals");
    assert!(matches!(refusal, Refusal::Approvals { good: 1, needed: 2 }), "{refusal:?}");
}

#[test]
fn step_below_floor() {
    for reverting in [false, true] {
        let refusal = refused(check_step(4, 5, Some(9), reverting), "below_floor");
        assert!(matches!(refusal, Refusal::BelowFloor { seq: 4, floor: 5 }), "{refusal:?}");
    }
    check_step(5, 5, None, false).unwrap();
}

#[test]
fn step_down() {
    let refusal = refused(check_step(6, 5, Some(7), false), "step_down");
    assert!(matches!(refusal, Refusal::StepDown { seq: 6, running: 7 }), "{refusal:?}");
    check_step(6, 5, Some(7), true).unwrap();
    check_step(7, 5, Some(7), false).unwrap();
    check_step(0, 0, None, false).unwrap();
}

fn ask() -> PermitAsk {
    let permit = samples::permit();
    PermitAsk {
        host: permit.host,
        service: permit.service,
        release: permit.release,
        generation: permit.generation,
        nonce: permit.nonce,
    }
}

fn permit(
    seeds: &[u8],
    edit: fn(&mut RawPermit),
    at: Timestamp,
) -> Result<Verified<Permit>, Refusal> {
    let mut raw = samples::permit();
    edit(&mut raw);
    let envelope = signed::<Permit>(&raw, seeds);
    check_permit(&envelope, &ask(), &pin().environment, &root_of(&samples::root()), at)
}

#[test]
fn permit_untrusted() {
    let refusal = refused(permit(&[4], |_| {}, now()), "untrusted");
    assert!(matches!(refusal, Refusal::Trust(TrustError::Signatures { good: 0, .. })));
    let directive = signed::<Directive>(&samples::directive(), &[5]);
    let root = root_of(&samples::root());
    let got = check_permit(&directive, &ask(), &pin().environment, &root, now());
    assert!(matches!(refused(got, "untrusted"), Refusal::Trust(TrustError::Kind { .. })));
}

#[test]
fn permit_wrong_permit() {
    permit(&[5], |_| {}, now()).unwrap();
    let edits: [fn(&mut RawPermit); 6] = [
        |p| p.host = HostId::from_bytes([1; 16]),
        |p| p.service = "blog".parse().unwrap(),
        |p| p.release = ReleaseId::from_digest(Digest::of(b"x")),
        |p| p.generation -= 1,
        |p| p.generation += 1,
        |p| p.nonce = Digest::of(&[4; 16]),
    ];
    for edit in edits {
        let refusal = refused(permit(&[5], edit, now()), "wrong_permit");
        assert!(matches!(refusal, Refusal::WrongPermit), "{refusal:?}");
    }
}

#[test]
fn permit_root_expired() {
    let late = Timestamp::from_secs(EXPIRES + 1);
    let refusal = refused(permit(&[5], |_| {}, late), "root_expired");
    let expected = matches!(refusal, Refusal::RootExpired(TrustError::RootExpired(EXPIRES)));
    assert!(expected, "{refusal:?}");
}

#[test]
fn an_action_is_exactly_one_of_four() {
    for (json, good) in [
        (r#"{"do":"hold"}"#, true),
        (r#"{"do":"hold","release":1}"#, false),
        (r#"{"do":"run"}"#, false),
        (r#"{"do":"switch"}"#, false),
        (r"{}", false),
    ] {
        assert_eq!(serde_json::from_str::<Action>(json).is_ok(), good, "{json}");
    }
}
