//! Which rollout a person means by a word: a rollout's id, or a service's name for its newest.

use groundswell_common::RolloutId;
use groundswell_common::api::RolloutsAnswer;

use crate::client::{Client, ClientError, part};
use crate::exit::Misuse;

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
    let newest = answer.rollouts.into_iter().next().map(|rollout| rollout.rollout);
    newest.ok_or_else(|| Misuse::NoRollout(text.to_string()).into())
}

/// Whether it ends as ids do: in `-` and a number.
fn may_be_id(text: &RolloutId) -> bool {
    let number = text.as_str().rsplit_once('-').map(|(_, number)| number);
    number.is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
}
