//! `swell approve`: shows what would be approved, asks, and signs it with the operator's own key.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use groundswell_common::api::{ApprovalAsk, ApproveAnswer, ReleasePage, RolloutPage};
use groundswell_common::manifest::Source;
use groundswell_common::trust::{Approval, Envelope, Purpose, RawApproval, SecretKey};
use groundswell_common::{Environment, name_of};

use super::which::on_rollout;
use crate::args::ApproveArgs;
use crate::client::{Client, part};
use crate::context::Context;
use crate::exit::Exit;
use crate::follow::wave_line;
use crate::output::{clean, confirm};

/// Seconds by which the coordinator's clock may be behind this machine's.
const CLOCK_SLACK_SECS: u64 = 300;

/// Commits that the question shows.
const COMMITS_SHOWN: usize = 10;

/// Runs `swell approve`.
pub(crate) async fn approve(context: &Context, args: &ApproveArgs) -> anyhow::Result<Exit> {
    let profile = context.profile()?;
    let client = Client::new(&profile)?;
    let page: RolloutPage = on_rollout(&client, &args.rollout, async |id| {
        Ok(client.get(&format!("/v1/rollouts/{}", part(id.as_str()))).await?)
    })
    .await?;
    let id = &page.rollout.rollout;
    let path = format!("/v1/rollouts/{}", part(id.as_str()));
    let Some(ask) = &page.ask else {
        bail!("approve {id}: it waits for no approval; swell rollout show says where it stands");
    };
    let release = part(&ask.release.to_string());
    let release: ReleasePage = client.get(&format!("/v1/releases/{release}")).await?;
    for line in question(&page, ask).into_iter().chain(changes(&release.source)) {
        context.out.note(line)?;
    }
    let what = format!("approve wave {} of {id}", ask.wave + 1);
    if !confirm(context.out, &what, args.yes)? {
        return Ok(Exit::Failed);
    }
    let key = SecretKey::from_pem(&profile.key_pem).context("sign the approval")?;
    let mut answer = None;
    for environment in &ask.environments {
        let envelope = sign(ask, environment, args.hours, &key)?;
        let path = format!("{path}/approve");
        answer = Some(client.post::<ApproveAnswer>(&path, &envelope).await?);
    }
    let answer = answer.context("approve: the plan names no environment; plan it again")?;
    context.out.answer(&answer, |answer| match &answer.ask {
        None => format!("approved; wave {} of {id} is open", ask.wave + 1),
        Some(left) => format!("approved; {} of {} approvals", left.have.len(), left.needed),
    })?;
    Ok(Exit::Done)
}

/// What the person decides on.
fn question(page: &RolloutPage, ask: &ApprovalAsk) -> Vec<String> {
    let mut lines = vec![
        format!("release {} {} ({})", ask.service, page.rollout.version, ask.release),
        format!("plan    {}", ask.plan),
    ];
    let environments: Vec<&str> = ask.environments.iter().map(Environment::as_str).collect();
    lines.push(format!("to      {}", environments.join(", ")));
    let have: Vec<&str> = ask.have.iter().map(|name| name.as_str()).collect();
    let have = if have.is_empty() { "nobody yet".to_owned() } else { have.join(", ") };
    let role = ask.role.map(|role| format!(" by {}s", name_of(&role))).unwrap_or_default();
    lines.push(format!("needs   {} approvals{role}; given by {have}", ask.needed));
    for (at, wave) in page.waves.iter().enumerate() {
        let mark = if u32::try_from(at) == Ok(ask.wave) { "  <- this one" } else { "" };
        lines.push(format!("{}{mark}", wave_line(wave, false)));
    }
    lines.extend(page.why.iter().map(|why| format!("  {}", clean(why))));
    lines
}

/// What changes: the commits since the release before, the newest first, and who wrote them.
fn changes(source: &Source) -> Vec<String> {
    let mut lines = Vec::new();
    if !source.authors.is_empty() {
        lines.push(clean(&format!("by      {}", source.authors.join(", "))));
    }
    if let Some(notes) = &source.notes {
        lines.push(clean(&format!("notes   {notes}")));
    }
    lines.push(match source.commits.len() {
        0 => "changes nobody told: it was published without a work tree".to_owned(),
        1 => "changes 1 commit".to_owned(),
        count => format!("changes {count} commits"),
    });
    let shown = source.commits.iter().take(COMMITS_SHOWN);
    lines.extend(shown.map(|commit| format!("  {}", clean(commit))));
    if source.commits.len() > COMMITS_SHOWN {
        lines.push("  …; all of them: swell release show".to_owned());
    }
    lines
}

fn sign(
    ask: &ApprovalAsk,
    environment: &Environment,
    hours: u64,
    key: &SecretKey,
) -> anyhow::Result<Envelope> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("read the clock")?.as_secs();
    let raw = RawApproval {
        release: ask.release,
        service: ask.service.clone(),
        environment: environment.clone(),
        plan: ask.plan,
        wave: Some(ask.wave),
        purpose: Purpose::Deploy,
        not_before: now.saturating_sub(CLOCK_SLACK_SECS),
        not_after: now.saturating_add(hours.saturating_mul(3600)).saturating_sub(CLOCK_SLACK_SECS),
    };
    let payload = serde_json::to_vec(&raw).context("sign the approval")?;
    Ok(Envelope::new::<Approval>(payload).signed_by(key))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use groundswell_common::Digest;
    use groundswell_common::api::OperatorRole;
    use groundswell_common::trust::{RoleKeys, verify};

    use super::*;
    use crate::follow::tests::page;

    #[test]
    fn what_is_signed_is_what_was_asked_and_verifies() {
        let ask = ApprovalAsk {
            release: page().rollout.release,
            service: "shop".parse().expect("service"),
            plan: Digest::of(b"plan"),
            wave: 1,
            environments: vec!["production".parse().expect("environment")],
            have: Vec::new(),
            needed: 1,
            role: Some(OperatorRole::Admin),
        };
        let seed = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("key");
        let key = SecretKey::from_pem(&seed.serialize_pem()).expect("pem");
        let envelope = sign(&ask, &ask.environments[0], 168, &key).expect("sign");
        let keys = RoleKeys { keys: BTreeSet::from([key.public()]), threshold: 1 };
        let approval = verify::<Approval>(&envelope, &keys).expect("verify");
        assert_eq!((approval.plan, approval.wave), (ask.plan, Some(1)));
        assert_eq!(approval.purpose, Purpose::Deploy);
        let text = question(&page(), &ask).join("\n");
        assert!(text.contains(&ask.plan.to_string()) && text.contains("this one"), "{text}");
        assert!(text.contains("needs   1 approvals by admins"), "{text}");
    }

    #[test]
    fn the_question_shows_what_changes_and_who_wrote_it() {
        assert_eq!(changes(&Source::default()).len(), 1, "nothing is known, and that is said");
        let commits = (1..=12).map(|number| format!("{number} fix the till\u{1b}[2J")).collect();
        let authors = vec!["Ann".to_owned(), "Ben".to_owned()];
        let lines = changes(&Source { authors, commits, ..Source::default() });
        assert_eq!(lines[0], "by      Ann, Ben");
        assert_eq!(lines[1], "changes 12 commits");
        assert_eq!(lines.len(), 2 + COMMITS_SHOWN + 1);
        assert!(lines[2].contains("1 fix the till") && !lines[2].contains('\u{1b}'), "{lines:?}");
        assert!(lines.last().is_some_and(|last| last.contains("swell release show")));
    }
}
