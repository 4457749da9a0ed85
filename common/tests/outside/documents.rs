//! Owns the tables over all kinds of signed documents: damage anywhere, another kind, other fields, other
//! numbers. Whatever is not exactly what was signed, in exactly its form, is refused.

use std::collections::BTreeSet;

use groundswell_common::directive::{Directive, DirectiveError, Permit};
use groundswell_common::limits::JSON_INTEGER_MAX;
use groundswell_common::manifest::{Manifest, ManifestError};
use groundswell_common::trust::{
    Approval, Document, Envelope, EnvelopeError, RoleKeys, Root, RootError, TrustError, verify,
};
use serde_json::Value;

use crate::samples::{self, key};

fn signer() -> RoleKeys {
    RoleKeys { keys: BTreeSet::from([key(1).public()]), threshold: 1 }
}

/// A kind of document: its good payload, and what verifying an envelope as this kind says.
struct Kind {
    tag: &'static str,
    payload: Vec<u8>,
    verify: fn(&Envelope) -> Result<(), TrustError>,
}

impl Kind {
    fn new<D: Document>(value: &impl serde::Serialize) -> Self {
        let verify = |envelope: &Envelope| verify::<D>(envelope, &signer()).map(|_| ());
        Self { tag: D::TYPE, payload: serde_json::to_vec(value).unwrap(), verify }
    }

    fn signed(&self, payload: Vec<u8>) -> Envelope {
        let unsigned = Envelope { kind: self.tag.to_owned(), payload, signatures: Vec::new() };
        unsigned.signed_by(&key(1))
    }

    /// What a good signature over `payload` leads to.
    fn says(&self, payload: &[u8]) -> Result<(), TrustError> {
        (self.verify)(&self.signed(payload.to_vec()))
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap()
    }
}

fn kinds() -> [Kind; 5] {
    [
        Kind::new::<Root>(&samples::root()),
        Kind::new::<Manifest>(&samples::manifest()),
        Kind::new::<Approval>(&samples::approval()),
        Kind::new::<Directive>(&samples::directive()),
        Kind::new::<Permit>(&samples::permit()),
    ]
}

fn refused(got: &Result<(), TrustError>) -> bool {
    matches!(got, Err(TrustError::Signatures { good: 0, threshold: 1, .. }))
}

#[test]
fn every_flipped_byte_of_payload_signature_and_key_is_refused() {
    for kind in kinds() {
        let good = kind.signed(kind.payload.clone());
        (kind.verify)(&good).unwrap();
        for at in 0..good.payload.len() {
            let mut bad = good.clone();
            bad.payload[at] ^= 1;
            assert!(refused(&(kind.verify)(&bad)), "{} payload byte {at}", kind.tag);
        }
        for at in 0..64 {
            let mut bad = good.clone();
            bad.signatures[0].sig[at] ^= 1;
            assert!(refused(&(kind.verify)(&bad)), "{} signature byte {at}", kind.tag);
        }
        let mut other = good.clone();
        other.signatures[0].key = key(2).public();
        assert!(refused(&(kind.verify)(&other)), "{} under another key", kind.tag);
        let mut cut = good.clone();
        cut.payload.pop();
        assert!(refused(&(kind.verify)(&cut)), "{} cut", kind.tag);
        let mut longer = good;
        longer.payload.push(b' ');
        assert!(refused(&(kind.verify)(&longer)), "{} with a space more", kind.tag);
    }
}

#[test]
fn every_flipped_byte_of_the_json_form_is_refused() {
    for kind in kinds() {
        let good = kind.signed(kind.payload.clone()).to_json();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let read = Envelope::from_json(&bad, 64 * 1024);
            let trusted = read.ok().map(|envelope| (kind.verify)(&envelope));
            assert!(!matches!(trusted, Some(Ok(()))), "{} JSON byte {at}", kind.tag);
        }
    }
}

#[test]
fn a_good_signature_over_another_kind_is_refused() {
    for (a, kind) in kinds().iter().enumerate() {
        for (b, other) in kinds().iter().enumerate().filter(|(b, _)| *b != a) {
            let envelope = other.signed(other.payload.clone());
            match (kind.verify)(&envelope) {
                Err(TrustError::Kind { want, got }) => {
                    assert_eq!((want, got.as_str()), (kind.tag, other.tag));
                }
                result => panic!("{a} as {b}: {result:?}"),
            }
            // The tag is under the signature: it cannot be exchanged.
            let relabelled = Envelope { kind: kind.tag.to_owned(), ..envelope };
            assert!(refused(&(kind.verify)(&relabelled)), "{} as {}", other.tag, kind.tag);
        }
    }
}

/// Every object in `value`, by JSON pointer.
fn objects(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.push(at.to_owned());
            fields.iter().for_each(|(name, inner)| objects(inner, &format!("{at}/{name}"), found));
        }
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(n, inner)| objects(inner, &format!("{at}/{n}"), found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn json_refused(kind: &Kind, payload: &[u8], want: &str) -> bool {
    match kind.says(payload) {
        Err(TrustError::Json { source, .. }) => source.to_string().contains(want),
        Ok(()) | Err(_) => false,
    }
}

#[test]
fn a_missing_field_is_refused_wherever_it_stood() {
    let mut seen = 0;
    for kind in kinds() {
        let whole = kind.json();
        let mut places = Vec::new();
        objects(&whole, "", &mut places);
        for place in places {
            let names: Vec<String> =
                whole.pointer(&place).unwrap().as_object().unwrap().keys().cloned().collect();
            for name in names {
                let mut less = whole.clone();
                less.pointer_mut(&place).unwrap().as_object_mut().unwrap().remove(&name);
                let payload = serde_json::to_vec(&less).unwrap();
                let want = format!("missing field `{name}`");
                assert!(
                    json_refused(&kind, &payload, &want),
                    "{} without {place}/{name}",
                    kind.tag
                );
                seen += 1;
            }
        }
    }
    assert!(seen > 80, "only {seen} fields were taken away");
}

#[test]
fn an_unknown_field_is_refused_wherever_it_stands() {
    for kind in kinds() {
        let whole = kind.json();
        let mut places = Vec::new();
        objects(&whole, "", &mut places);
        for place in places {
            let mut more = whole.clone();
            let object = more.pointer_mut(&place).unwrap().as_object_mut().unwrap();
            object.insert("zz".to_owned(), Value::Null);
            let payload = serde_json::to_vec(&more).unwrap();
            assert!(json_refused(&kind, &payload, "unknown field `zz`"), "{} {place}", kind.tag);
        }
    }
}

#[test]
fn a_duplicate_field_is_refused_wherever_it_stands() {
    for kind in kinds() {
        let text = String::from_utf8(kind.payload.clone()).unwrap();
        let whole = kind.json();
        let mut places = Vec::new();
        objects(&whole, "", &mut places);
        for place in places {
            for (name, value) in whole.pointer(&place).unwrap().as_object().unwrap() {
                // Marks the object, prints the document, then turns the mark into the second field.
                let mut marked = whole.clone();
                let object = marked.pointer_mut(&place).unwrap().as_object_mut().unwrap();
                object.insert("\u{1}mark".to_owned(), value.clone());
                let payload = marked.to_string().replace("\"\\u0001mark\"", &format!("\"{name}\""));
                assert_ne!(payload.len(), text.len());
                let want = format!("duplicate field `{name}`");
                assert!(
                    json_refused(&kind, payload.as_bytes(), &want),
                    "{} {place}/{name} twice: {:?}",
                    kind.tag,
                    kind.says(payload.as_bytes())
                );
            }
        }
    }
}

#[test]
fn what_is_no_json_object_is_refused() {
    for kind in kinds() {
        let mut trailing = kind.payload.clone();
        trailing.extend_from_slice(b"{}");
        let deep = "[".repeat(60_000);
        for bad in [&b""[..], b"null", b"[]", b"{}", b"1", b"\xff", &trailing, deep.as_bytes()] {
            // An approval may not even be as long as the deep one.
            let got = kind.says(bad);
            let expected =
                matches!(got, Err(TrustError::Json { .. } | TrustError::TooLarge { .. }));
            assert!(expected, "{} {:.20?}: {got:?}", kind.tag, String::from_utf8_lossy(bad));
        }
        assert!(kind.says(&[&kind.payload[..], b" \n"].concat()).is_ok(), "space is no field");
    }
}

#[test]
fn every_number_beyond_two_to_the_53_is_refused() {
    let over = JSON_INTEGER_MAX + 1;
    for kind in kinds() {
        let whole = kind.json();
        let mut places = Vec::new();
        objects(&whole, "", &mut places);
        for place in places {
            for (name, value) in whole.pointer(&place).unwrap().as_object().unwrap() {
                if !value.is_number() {
                    continue;
                }
                for bad in [serde_json::json!(over), serde_json::json!(u64::MAX)] {
                    let mut large = whole.clone();
                    *large.pointer_mut(&format!("{place}/{name}")).unwrap() = bad;
                    let got = kind.says(&serde_json::to_vec(&large).unwrap());
                    let expected =
                        matches!(got, Err(TrustError::Invalid { .. } | TrustError::Json { .. }));
                    assert!(expected, "{} {place}/{name}: {got:?}", kind.tag);
                }
            }
        }
    }
}

/// The rule that a good signature over `value` breaks.
fn rule<D: Document>(value: &impl serde::Serialize) -> D::Invalid {
    match verify::<D>(&samples::signed::<D>(value, &[1]), &signer()) {
        Err(TrustError::Invalid { source, .. }) => *source.downcast::<D::Invalid>().unwrap(),
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("accepted"),
    }
}

#[test]
fn numbers_name_their_rule() {
    let over = JSON_INTEGER_MAX + 1;
    let mut root = samples::root();
    root.version = over;
    assert_eq!(rule::<Root>(&root), RootError::Version);
    let mut manifest = samples::manifest();
    manifest.seq = over;
    assert_eq!(
        rule::<Manifest>(&manifest),
        ManifestError::TooLarge { field: "seq", value: over, limit: JSON_INTEGER_MAX }
    );
    let edits: [fn(&mut groundswell_common::directive::RawDirective); 3] = [
        |raw| raw.generation = JSON_INTEGER_MAX + 1,
        |raw| raw.issued = JSON_INTEGER_MAX + 1,
        |raw| raw.root_version = JSON_INTEGER_MAX + 1,
    ];
    for edit in edits {
        let mut directive = samples::directive();
        edit(&mut directive);
        assert_eq!(rule::<Directive>(&directive), DirectiveError::Number);
    }
    let mut permit = samples::permit();
    permit.generation = over;
    assert_eq!(rule::<Permit>(&permit), DirectiveError::Number);
    let mut permit = samples::permit();
    permit.valid_ms = over;
    assert_eq!(rule::<Permit>(&permit), DirectiveError::Number);
}

#[test]
fn directives_out_of_order_or_bounds_are_refused() {
    let with = |edit: fn(&mut groundswell_common::directive::RawDirective)| {
        let mut directive = samples::directive();
        edit(&mut directive);
        rule::<Directive>(&directive)
    };
    assert_eq!(with(|raw| raw.services.reverse()), DirectiveError::Services);
    assert_eq!(with(|raw| raw.services.push(raw.services[3].clone())), DirectiveError::Services);
    assert_eq!(with(|raw| raw.services[0].probe_deadline_secs = 0), DirectiveError::Times);
    assert_eq!(with(|raw| raw.services[0].probe_deadline_secs = 86_401), DirectiveError::Times);
    assert_eq!(with(|raw| raw.services[0].probe_interval_secs = 0), DirectiveError::Times);
    assert_eq!(with(|raw| raw.services[0].bake_secs = 604_801), DirectiveError::Times);
}

#[test]
fn approvals_count_for_seven_days_at_most() {
    let with = |not_before, not_after| {
        let mut approval = samples::approval();
        (approval.not_before, approval.not_after) = (not_before, not_after);
        verify::<Approval>(&samples::signed::<Approval>(&approval, &[1]), &signer()).is_ok()
    };
    assert!(with(1, 1 + 7 * 86_400));
    for (from, to) in
        [(1, 2 + 7 * 86_400), (2, 1), (1, 1), (JSON_INTEGER_MAX, JSON_INTEGER_MAX + 1)]
    {
        assert!(!with(from, to), "{from} to {to}");
    }
}

#[test]
fn sizes_are_judged_before_anything_else() {
    let limits = [64 * 1024, 8 * 1024 * 1024, 4 * 1024, 64 * 1024, 64 * 1024];
    for (kind, limit) in kinds().iter().zip(limits) {
        let padded = |bytes| {
            let mut payload = kind.payload.clone();
            payload.resize(bytes, b' ');
            kind.says(&payload)
        };
        padded(limit).unwrap();
        match padded(limit + 1) {
            Err(TrustError::TooLarge { bytes, limit_bytes, .. }) => {
                assert_eq!((bytes, limit_bytes), (limit + 1, limit));
            }
            result => panic!("{}: {result:?}", kind.tag),
        }
    }
}

#[test]
fn envelopes_out_of_form_are_refused() {
    let good = samples::signed::<Root>(&samples::root(), &[1]);
    let text = String::from_utf8(good.to_json()).unwrap();
    assert_eq!(Envelope::from_json(text.as_bytes(), 64 * 1024).unwrap(), good);
    let sig = good.signatures[0].key.to_string();
    for (from, to) in [
        ("\"type\"", "\"kind\""),
        ("\"type\":", "\"type\":\"x\",\"type\":"),
        ("\"type\":", "\"zz\":1,\"type\":"),
        ("\"payload\":\"", "\"payload\":\"="),
        ("\"payload\":\"", "\"payload\":\"\\n"),
        ("\"sig\":\"", "\"sig\":\"00"),
        ("\"sig\":\"", "\"sig\":\"g"),
        (sig.as_str(), &sig.to_uppercase()),
    ] {
        let bad = text.replacen(from, to, 1);
        assert_ne!(bad, text, "{from}");
        let got = Envelope::from_json(bad.as_bytes(), 64 * 1024);
        assert!(matches!(got, Err(EnvelopeError::Json(_))), "{from} -> {to}: {got:?}");
    }
    let mut many = good.clone();
    many.signatures = vec![many.signatures[0].clone(); 65];
    let read = Envelope::from_json(&many.to_json(), 64 * 1024);
    assert!(matches!(read, Err(EnvelopeError::Signatures(65))));
    let verdict = verify::<Root>(&many, &signer());
    assert!(matches!(verdict, Err(TrustError::TooLarge { .. })), "{verdict:?}");
    let large = vec![b' '; 200 * 1024];
    let read = Envelope::from_json(&large, 64 * 1024);
    assert!(matches!(read, Err(EnvelopeError::TooLarge { bytes: 204_800, .. })));
}
