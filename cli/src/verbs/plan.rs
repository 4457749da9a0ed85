//! `swell plan`: how a release would roll out.

use std::fmt::Write as _;
use std::fs;

use anyhow::Context as _;
use groundswell_common::HostName;
use groundswell_common::api::{PlanPreview, PlanRequest};

use crate::args::PlanArgs;
use crate::client::part;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Table, clean, count, cut, place};

/// Longest list of hosts in a table, in characters.
const HOSTS_MAX_CHARS: usize = 60;

/// Runs `swell plan`.
pub(crate) async fn plan(context: &Context, args: &PlanArgs) -> anyhow::Result<Exit> {
    let policy = match &args.policy {
        None => None,
        Some(file) => {
            let text = fs::read_to_string(file);
            Some(text.with_context(|| format!("read the policy {}", file.display()))?)
        }
    };
    let request = PlanRequest {
        release: args.release.clone(),
        policy,
        environment: args.environment.clone(),
    };
    let path = format!("/v1/services/{}/plan", part(args.service.as_str()));
    let plan: PlanPreview = context.client()?.post(&path, &request).await?;
    context.out.answer(&plan, plan_text)?;
    Ok(Exit::Done)
}

/// A plan for people.
pub(crate) fn plan_text(plan: &PlanPreview) -> String {
    let (hash, hosts) = (plan.hash.short(), plan.hosts);
    let back = plan.back_to.as_ref().map(|to| format!(", back to {to}")).unwrap_or_default();
    let (service, version, hosts) = (&plan.service, &plan.version, count(hosts, "host"));
    let place = place(plan.environment.as_ref());
    let mut text = format!("plan {hash} of {service} {version}{place}{back}: {hosts}\n");
    let mut table =
        Table::new(&["WAVE", "HOSTS", "AT ONCE", "BUDGET", "BAKE", "APPROVALS", "WHICH"]);
    for wave in &plan.waves {
        table.row([
            wave.name.clone(),
            wave.hosts.len().to_string(),
            wave.max_in_flight.to_string(),
            wave.failure_budget.to_string(),
            format!("{} s", wave.bake_secs),
            wave.approvals.to_string(),
            names(&wave.hosts),
        ]);
    }
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{table}\nit takes about {} s if nothing fails", plan.predicted_secs);
    for guard in &plan.guards {
        let (name, hosts) = (clean(&guard.name), guard.hosts);
        let _ = writeln!(text, "{name}: at most {} of {hosts} hosts down at once", guard.max_down);
    }
    for note in &plan.notes {
        let _ = writeln!(text, "warning: {}", clean(note));
    }
    for waits in &plan.waits {
        let _ = writeln!(text, "waits: {}", clean(waits));
    }
    for wave in &plan.empty_waves {
        let wave = clean(wave);
        let _ = writeln!(
            text,
            "wave {wave} of the policy has no host and is left out, its gate with it"
        );
    }
    for held in &plan.held {
        let _ = writeln!(text, "held: {}, {}", held.host, clean(&held.why));
    }
    for skipped in &plan.skipped {
        let _ = writeln!(text, "left out: {}, {}", skipped.host, clean(&skipped.why));
    }
    text
}

fn names(hosts: &[HostName]) -> String {
    let names: Vec<&str> = hosts.iter().take(10).map(HostName::as_str).collect();
    cut(&names.join(" "), HOSTS_MAX_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_says_how_long_it_takes_and_whom_it_leaves_out() {
        let hash = "0".repeat(64);
        let json = format!(
            r#"{{"service":"shop","release":"{hash}","version":"2.0","hash":"{hash}","hosts":0,
                "waves":[],"predicted_secs":190,
                "held":[{{"host":"web-4","why":"paused on the host: replacing RAM"}}],
                "empty_waves":["canary"],"back_to":"1.0",
                "skipped":[{{"host":"web-3","why":"it must run 1.5 first"}}],
                "guards":[{{"name":"failure domain r1","hosts":4,"max_down":2}}]}}"#
        );
        let plan: PlanPreview = serde_json::from_str(&json).expect("a preview");
        let text = plan_text(&plan);
        assert!(text.contains("\nit takes about 190 s if nothing fails\n"), "{text}");
        assert!(text.contains("failure domain r1: at most 2 of 4 hosts down at once\n"), "{text}");
        assert!(text.contains(" of shop 2.0, back to 1.0: 0 hosts\n"), "{text}");
        assert!(text.contains("\nwave canary of the policy has no host and is left out"), "{text}");
        assert!(text.contains("\nheld: web-4, paused on the host: replacing RAM\n"), "{text}");
        assert!(text.ends_with("left out: web-3, it must run 1.5 first\n"), "{text}");
    }
}
