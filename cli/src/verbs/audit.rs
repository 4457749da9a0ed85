//! `swell audit`: prints the ledger, and computes its chain again on this machine.

use anyhow::bail;
use groundswell_common::api::{
    AuditEntry, AuditHead, AuditPage, LiftAnswer, StatusAnswer, WhyRequest,
};
use groundswell_common::{Digest, Hasher};
use serde::Serialize;
use serde_json::Value;

use crate::args::AuditVerb;
use crate::client::Client;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Table, clean, confirm, count, cut, may_ask};

/// Entries asked for at once.
const PAGE_ENTRIES: u64 = 1_000;
/// Longest description of an entry in a table, in characters.
const WHAT_MAX_CHARS: usize = 100;

/// Runs `swell audit …`.
pub(crate) async fn audit(context: &Context, verb: &AuditVerb) -> anyhow::Result<Exit> {
    let client = context.client()?;
    match verb {
        AuditVerb::Log { after, tail, limit } => {
            let (after, limit) = match tail {
                None => (*after, *limit),
                Some(count) => {
                    let head: AuditHead = client.get("/v1/audit/head").await?;
                    (head.seq.saturating_sub(*count), (*count).clamp(1, PAGE_ENTRIES))
                }
            };
            let page = page(&client, after, limit).await?;
            context.out.answer(&page, |page| log_table(&page.entries).to_string())?;
            Ok(Exit::Done)
        }
        AuditVerb::Verify => verify(context, &client).await,
        AuditVerb::Lift { why, yes } => lift(context, &client, (why, *yes)).await,
    }
}

async fn page(client: &Client, after: u64, limit: u64) -> anyhow::Result<AuditPage> {
    Ok(client.get(&format!("/v1/audit?after={after}&limit={limit}")).await?)
}

async fn lift(
    context: &Context,
    client: &Client,
    (why, yes): (&str, bool),
) -> anyhow::Result<Exit> {
    may_ask("lift the ledger", yes)?;
    if !yes {
        let status: StatusAnswer = client.get("/v1/status").await?;
        let hosts = status.put_back.map_or(0, |put_back| put_back.hosts);
        let what = format!(
            "number what hosts are told above what {} accepted; right only where this ledger was put back from a \
             backup, by you",
            count(hosts, "host")
        );
        if !confirm(context.out, &what, false)? {
            return Ok(Exit::Failed);
        }
    }
    let answer: LiftAnswer =
        client.post("/v1/ledger/lift", &WhyRequest { why: why.to_owned() }).await?;
    context.out.answer(&answer, |answer| {
        format!("what hosts are told is numbered above {} from now on", answer.past)
    })?;
    Ok(Exit::Done)
}

/// What `audit verify` found good.
#[derive(Serialize)]
struct Proof {
    entries: u64,
    head: AuditHead,
}

async fn verify(context: &Context, client: &Client) -> anyhow::Result<Exit> {
    let head: AuditHead = client.get("/v1/audit/head").await?;
    let mut chain = Chain::new();
    while chain.seq < head.seq {
        let page = page(client, chain.seq, PAGE_ENTRIES).await?;
        if page.entries.is_empty() {
            bail!("verify the ledger: it ends at entry {}, its head says {}", chain.seq, head.seq);
        }
        for entry in &page.entries {
            chain.take(entry)?;
            if entry.seq == head.seq && entry.chain != head.chain {
                bail!("verify the ledger: entry {} is not the one that its head names", entry.seq);
            }
        }
    }
    let proof =
        Proof { entries: chain.seq, head: AuditHead { seq: chain.seq, chain: chain.value } };
    context.out.answer(&proof, |proof| {
        format!("the ledger holds: {} entries, chain {}", proof.entries, proof.head.chain)
    })?;
    Ok(Exit::Done)
}

/// Why a ledger does not hold.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
enum ChainError {
    #[error("verify the ledger: entry {got} comes where {want} is due")]
    Gap { got: u64, want: u64 },
    #[error("verify the ledger: entry {0} does not fit the chain: it or one before it was changed")]
    Broken(u64),
    #[error("verify the ledger: entry {0} says of itself that it is another")]
    Number(u64),
}

/// The chain, computed entry by entry: SHA-256 over the value before and the payload's bytes.
struct Chain {
    seq: u64,
    value: Digest,
}

impl Chain {
    fn new() -> Self {
        Self { seq: 0, value: Digest::from_bytes([0; 32]) }
    }

    fn take(&mut self, entry: &AuditEntry) -> Result<(), ChainError> {
        let want = self.seq + 1;
        if entry.seq != want {
            return Err(ChainError::Gap { got: entry.seq, want });
        }
        let mut hasher = Hasher::new();
        hasher.update(self.value.as_bytes());
        hasher.update(entry.payload.as_bytes());
        let value = hasher.finish();
        if value != entry.chain {
            return Err(ChainError::Broken(want));
        }
        let inner = serde_json::from_str::<Value>(&entry.payload).ok();
        if inner.and_then(|json| json.get("seq")?.as_u64()) != Some(want) {
            return Err(ChainError::Number(want));
        }
        *self = Self { seq: want, value };
        Ok(())
    }
}

fn log_table(entries: &[AuditEntry]) -> Table {
    let mut table = Table::new(&["SEQ", "AT", "BY", "WHAT"]);
    for entry in entries {
        let json: Value = serde_json::from_str(&entry.payload).unwrap_or_default();
        let at = json.get("at").and_then(Value::as_u64);
        let at = at.map(|at| groundswell_common::Timestamp::from_millis(at).to_string());
        table.row([
            entry.seq.to_string(),
            at.unwrap_or_default(),
            short(json.get("by")),
            cut(&clean(&short(json.get("what"))), WHAT_MAX_CHARS),
        ]);
    }
    table
}

/// Most characters of one value in a table: enough of a digest to tell it from others.
const VALUE_MAX_CHARS: usize = 40;

/// A value without the braces and quotes that people need not see, long digests cut short.
fn short(value: Option<&Value>) -> String {
    let pair = |(key, value): (&String, &Value)| match value {
        Value::Object(_) => format!("{key} {}", short(Some(value))),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            format!("{key}={}", short(Some(value)))
        }
    };
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) if is_digest(text) => text.chars().take(12).collect(),
        Some(Value::String(text)) => cut(text, VALUE_MAX_CHARS),
        Some(Value::Object(map)) => map.iter().map(pair).collect::<Vec<_>>().join(" "),
        Some(other) => cut(&other.to_string(), VALUE_MAX_CHARS),
    }
}

fn is_digest(text: &str) -> bool {
    text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<AuditEntry> {
        let mut before = Digest::from_bytes([0; 32]);
        (1..=3)
            .map(|seq| {
                let payload =
                    format!(r#"{{"seq":{seq},"at":0,"by":{{"operator":"ann"}},"what":"x"}}"#);
                let chain = Digest::of(&[before.as_bytes(), payload.as_bytes()].concat());
                before = chain;
                AuditEntry { seq, chain, payload }
            })
            .collect()
    }

    fn check(entries: &[AuditEntry]) -> Result<(), ChainError> {
        let mut chain = Chain::new();
        entries.iter().try_for_each(|entry| chain.take(entry))
    }

    #[test]
    fn the_first_bad_entry_is_named() {
        assert_eq!(check(&entries()), Ok(()));
        let mut changed = entries();
        changed[1].payload = changed[1].payload.replace("ann", "eve");
        assert_eq!(check(&changed), Err(ChainError::Broken(2)));
        let mut missing = entries();
        missing.remove(1);
        assert_eq!(check(&missing), Err(ChainError::Gap { got: 3, want: 2 }));
        let mut swapped = entries();
        swapped[2].payload = r#"{"seq":9}"#.into();
        let chain =
            [swapped[1].chain.as_bytes().as_slice(), swapped[2].payload.as_bytes()].concat();
        swapped[2].chain = Digest::of(&chain);
        assert_eq!(check(&swapped), Err(ChainError::Number(3)));
    }

    #[test]
    fn entries_are_told_without_braces() {
        let text = log_table(&entries()).to_string();
        assert!(text.contains("1    1970-01-01T00:00:00.000Z  operator=ann  x"), "{text}");
    }

    #[test]
    fn nested_entries_are_flat_and_digests_short() {
        let json = serde_json::json!({"rollout-input": {"rollout": "shop-1",
            "host": {"fact": "staged", "id": "0123456789abcdef0123456789abcdef"}}});
        assert_eq!(
            short(Some(&json)),
            "rollout-input host fact=staged id=0123456789ab rollout=shop-1"
        );
    }
}
