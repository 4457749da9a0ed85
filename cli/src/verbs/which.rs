//! Which rollout a person means by a word: a rollout's id, or a service's name for its newest.

use groundswell_common::RolloutId;
use groundswell_common::api::{PhaseName, RolloutSummary, RolloutsAnswer};

use crate::client::{Client, ClientError, part};
use crate::exit::Misuse;
use crate::output::place;

/// The API's code for a rollout that was never planned.
const UNKNOWN_ROLLOUT: &str = "unknown_rollout";

/// Does `call` to the rollout that a person means: the one with this id, or else the newest of the service of
/// this name. An id costs no question before it.
pub(super) async fn on_rollout<T>(
    client: &Client,
    text: &RolloutId,
    call: impl AsyncFn(&RolloutId) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    if may_be_id(text) {
        match call(text).await {
            Err(error) if is_unknown(&error) => {}
            other => return other,
        }
    }
    call(&newest_of(client, text).await?).await
}

fn is_unknown(error: &anyhow::Error) -> bool {
    let client = error.downcast_ref::<ClientError>();
    client.and_then(ClientError::code) == Some(UNKNOWN_ROLLOUT)
}

async fn newest_of(client: &Client, text: &RolloutId) -> anyhow::Result<RolloutId> {
    let path = format!("/v1/rollouts?service={}", part(text.as_str()));
    let answer: RolloutsAnswer = client.get(&path).await?;
    let goes = |rollout: &&RolloutSummary| rollout.phase != PhaseName::Done;
    let under_way: Vec<&RolloutSummary> = answer.rollouts.iter().filter(goes).collect();
    if under_way.len() > 1 {
        let name = |rollout: &&RolloutSummary| {
            format!("{}{}", rollout.rollout, place(rollout.environment.as_ref()))
        };
        let names: Vec<String> = under_way.iter().map(name).collect();
        return Err(Misuse::WhichRollout(text.to_string(), names.join(", ")).into());
    }
    let newest = under_way.first().copied().or(answer.rollouts.first());
    let newest = newest.map(|rollout| rollout.rollout.clone());
    newest.ok_or_else(|| Misuse::NoRollout(text.to_string()).into())
}

/// Whether it ends as ids do: in `-` and a number.
fn may_be_id(text: &RolloutId) -> bool {
    let number = text.as_str().rsplit_once('-').map(|(_, number)| number);
    number.is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
}
