//! One function a verb. Each asks the API, prints what it answers and returns the exit code.

mod again;
mod approve;
mod audit;
mod host;
mod new;
mod onward;
mod operator;
mod plan;
mod publish;
mod release;
mod remove;
mod revert;
mod rollout;
mod service;
mod simulate;
mod status;
mod watch;
mod which;

pub(crate) use approve::approve;
pub(crate) use audit::audit;
pub(crate) use host::host;
pub(crate) use operator::operator;
pub(crate) use plan::plan;
pub(crate) use publish::publish;
pub(crate) use release::release;
pub(crate) use revert::revert;
pub(crate) use rollout::{halt, pause, promote, resume, rollout, show, watch};
pub(crate) use service::service;
pub(crate) use simulate::simulate;
pub(crate) use status::status;
