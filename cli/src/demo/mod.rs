//! stub
use crate::{args::DemoArgs, context::Context, exit::Exit};
pub(crate) async fn demo(_: &Context, _: &DemoArgs) -> anyhow::Result<Exit> {
    Ok(Exit::Failed)
}
