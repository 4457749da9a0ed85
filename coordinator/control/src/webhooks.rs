//! Which webhooks are to be asked, and what their answers do.

use groundswell_common::report::Verdict;
use groundswell_common::{Digest, Environment, ReleaseId, RolloutId, ServiceName, Version};
use groundswell_rollout::{Input, Rollout, asks_webhook};
use serde::Serialize;

use crate::control::Control;
use crate::entry::By;
use crate::refused::Refused;

/// One question to a webhook: its JSON form is what is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WebhookAsk {
    /// Where to ask.
    #[serde(skip)]
    pub url: String,
    /// The service.
    pub service: ServiceName,
    /// The environment, where the policy has sections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// The release.
    pub release: ReleaseId,
    /// Its version.
    pub version: Version,
    /// The rollout.
    pub rollout: RolloutId,
    /// The hash of its plan.
    pub plan: Digest,
    /// The wave that waits, counted from 0.
    pub wave: u32,
    /// Its name.
    pub wave_name: String,
    /// Its hosts.
    pub hosts: usize,
}

impl Control {
    /// The questions whose answers rollouts wait for.
    #[must_use]
    pub fn webhooks(&self) -> Vec<WebhookAsk> {
        self.view.live_rollouts().filter_map(question).collect()
    }

    /// Tells a rollout what its webhook said.
    ///
    /// # Errors
    /// [`Refused::Step`] where nobody waits for it, or it was said before.
    pub fn webhook_answered(
        &mut self,
        rollout: &RolloutId,
        wave: u32,
        (verdict, why): (Verdict, String),
    ) -> Result<(), Refused> {
        let input = Input::Answer { wave, verdict, why };
        self.rollout_input(By::Coordinator, rollout, input).map(drop)
    }
}

fn question(rollout: &Rollout) -> Option<WebhookAsk> {
    let wave = asks_webhook(rollout)?;
    let plan = rollout.plan();
    let planned = plan.waves.get(usize::try_from(wave).ok()?)?;
    Some(WebhookAsk {
        url: plan.webhook.clone()?,
        service: plan.service.clone(),
        environment: plan.environment.clone(),
        release: plan.release.id,
        version: plan.release.version.clone(),
        rollout: rollout.id().clone(),
        plan: rollout.plan_hash(),
        wave,
        wave_name: planned.name.to_string(),
        hosts: planned.hosts.len(),
    })
}
