//! `swell operator`: a key made here, a certificate from the coordinator, both in a profile for its owner.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use groundswell_common::api::{OperatorAnswer, OperatorRequest, Profile};
use groundswell_common::trust::SecretKey;
use serde_json::json;
use zeroize::Zeroizing;

use crate::args::OperatorVerb;
use crate::client::Client;
use crate::context::Context;
use crate::exit::Exit;

/// Runs `swell operator …`.
pub(crate) async fn operator(context: &Context, verb: &OperatorVerb) -> anyhow::Result<Exit> {
    let OperatorVerb::Add { name, role, output } = verb;
    let own = context.profile()?;
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice()).context("make a key: no randomness")?;
    let key = SecretKey::from_seed(&seed);
    let path = output.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.profile")));
    let at = || format!("write the profile {}; give another with --output", path.display());
    // Before anything is asked for: a certificate whose key cannot be kept is of no use.
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).with_context(at)?;
    let request = OperatorRequest { name: name.clone(), role: (*role).into(), key: key.public() };
    let answer = Client::new(&own)?.post::<OperatorAnswer>("/v1/operators", &request).await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            std::fs::remove_file(&path).with_context(at)?;
            return Err(error.into());
        }
    };
    let profile = Profile {
        name: name.clone(),
        certificate_pem: answer.certificate_pem,
        key_pem: key.to_pem().context("write the key")?.to_string(),
        ..own
    };
    let text = Zeroizing::new(serde_json::to_string_pretty(&profile)?);
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(at)?;
    let made = json!({ "operator": name, "profile": path });
    context.out.answer(&made, |_| {
        format!("{} is the profile of {name}: hand it over safely, it holds a key", path.display())
    })?;
    Ok(Exit::Done)
}
